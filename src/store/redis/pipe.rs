//! A connection for reading records, and for nothing else: questions go out together, and answers come back
//! in the order of asking.
//!
//! Decides: how long an answer is waited for, and when this connection is given up. Never touches: what was
//! read, whether Redis is asked at all (the breaker knows), or the bytes of the protocol (`reply`).
//!
//! The client library takes fifteen thousand instructions for a command, half of what a hit from Redis costs;
//! here it is a thousand. So records are read here while this connection is up, and by the library where it
//! is not, or is lost before it answers: whatever goes wrong here, a reading is no worse off than without.
//! Clusters and servers that sentinels name are read by the library alone, which knows where they are.
//!
//! Whoever asks leaves the bytes of the question and a place for the answer, and wakes the task that has the
//! connection. It runs after all who were woken before it, and so sends the questions of one turn of the
//! event loop as one.

mod dial;
mod places;
mod reply;

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use fred::error::{Error, ErrorKind};
use fred::interfaces::FredResult;
use fred::types::Key;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Sleep, sleep};

use self::dial::{Dial, Stream};
use self::places::Places;
use self::reply::{Garbled, Reply};
use super::settings::Settings;
use crate::clock;
use crate::store::lock;

/// Questions without an answer, of those who gave up waiting too: beyond it the library is asked.
const MOST: usize = 2048;
/// A connection that has not answered for so long after a question was given up is given up itself.
const LONGEST_SILENCE: Duration = Duration::from_secs(1);
/// Before the first attempt to connect anew; twice that after each that came to nothing, or to little.
const AGAIN: Duration = Duration::from_millis(50);
/// Longest wait between attempts.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A connection that lasted so long came to something.
const LASTED: Duration = Duration::from_secs(5);
/// Room for answers that is made at once.
const ROOM: usize = 64 << 10;
/// With less than that, there is none.
const LEAST_ROOM: usize = 1 << 10;

/// The connection, made anew whenever it is lost; it ends with the value.
pub(super) struct Pipe {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    is_up: bool,
    /// Questions that the connection has not been given yet.
    unsent: Vec<u8>,
    /// Who is to be answered, in the order of asking, which is that of their time-outs too.
    asked: VecDeque<Asked>,
    /// How many of them, from the first on, are not waited for any more.
    given_up: usize,
    /// Where the answers come to.
    places: Places,
    lost: Option<Lost>,
    /// The task that has the connection.
    task: Option<Waker>,
}

struct Asked {
    /// When nobody waits for it any more.
    until: Instant,
    answer: Answer,
}

#[derive(Clone, Copy)]
enum Answer {
    To(usize),
    /// Whoever asked has given up.
    Nobody,
    /// Must be these bytes: answers are those to their questions.
    Proof([u8; 16]),
}

/// Why a connection was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// It was closed, or failed.
    Closed,
    /// Nothing is answered.
    Silent,
    /// What came is no answer.
    Garbled,
    /// Answers belong to other questions.
    OutOfStep,
    /// The library's connection was lost, and this one may lead to where that one led.
    Left,
}

impl Pipe {
    /// Begins to connect, and returns at once. `None` where the library alone knows whom to ask. Must be
    /// called on the runtime that is to drive it.
    pub(super) fn start(settings: &Arc<Settings>) -> Option<Self> {
        let dial = Dial::of(settings)?;
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(Arc::clone(&shared).run(dial));
        Some(Self { shared, task })
    }

    /// Asks for the value of a key, the first [`super::LONGEST_VALUE`] bytes of it; no value and an empty one are the
    /// same. What comes is the answer, or the error of a time-out by `until`; [`Gone`] says that the connection was
    /// lost. `None`: there is none now.
    ///
    /// `put_name` appends the name of the key.
    pub(super) fn ask(&self, put_name: impl FnOnce(&mut Vec<u8>), until: Instant) -> Option<Awaited<'_>> {
        let answer = |state: &mut State| Answer::To(state.places.take());
        match self.shared.ask(until, answer, |out| reply::put_read(out, put_name))? {
            Answer::To(place) => Some(Awaited { shared: &self.shared, place: Some(place) }),
            Answer::Nobody | Answer::Proof(_) => None,
        }
    }

    /// Asks what has only one right answer, by a script on the key `name`; the connection is given up should
    /// another come.
    /// It has the time of a reading, `until`.
    pub(super) fn prove(&self, name: &Key, until: Instant) {
        let proof = fastrand::u128(..).to_be_bytes();
        let put = |out: &mut Vec<u8>| reply::put_echo(out, name.as_bytes(), &proof);
        self.shared.ask(until, |_| Answer::Proof(proof), put);
    }

    /// Gives the connection up for a new one.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.shared.state);
        state.lost = state.is_up.then_some(Lost::Left);
        state.wake();
    }

    /// Whether readings come here.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        lock(&self.shared.state).is_up
    }
}

/// An answer to come. Whoever drops it does not wait for it any more.
pub(super) struct Awaited<'p> {
    shared: &'p Shared,
    /// Where it comes to, until it was fetched.
    place: Option<usize>,
}

/// The connection was lost before it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Future for Awaited<'_> {
    type Output = Result<FredResult<Bytes>, Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(place) = self.place else { return Poll::Ready(Err(Gone)) };
        let came = ready!(lock(&self.shared.state).places.poll(place, cx));
        self.place = None;
        Poll::Ready(came.ok_or(Gone))
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            lock(&self.shared.state).places.leave(place);
        }
    }
}

impl State {
    /// Tells all who wait that the connection is lost. Returns who is to be woken.
    fn end(&mut self) -> Vec<Waker> {
        let mut places = std::mem::take(&mut self.places);
        let asked = self.asked.drain(..);
        let wakers = asked.filter_map(|asked| match asked.answer {
            Answer::To(place) => places.bring(place, None),
            Answer::Nobody | Answer::Proof(_) => None,
        });
        let wakers = wakers.collect();
        // What came and was not fetched yet still is.
        *self = Self { places, ..Self::default() };
        wakers
    }

    /// When something is to be done if nothing is answered.
    fn due(&self) -> Option<Instant> {
        let waits = self.asked.get(self.given_up).map(|asked| asked.until);
        let silent = self.asked.front().map(|first| first.until + LONGEST_SILENCE);
        waits.into_iter().chain(silent).min()
    }

    /// Takes the first that is to be answered.
    fn first(&mut self) -> Option<Asked> {
        self.given_up = self.given_up.saturating_sub(1);
        self.asked.pop_front()
    }

    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }
}

impl Shared {
    fn ask(
        &self,
        until: Instant,
        answer: impl FnOnce(&mut State) -> Answer,
        put: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Answer> {
        let mut state = lock(&self.state);
        if !state.is_up || state.asked.len() >= MOST {
            return None;
        }
        put(&mut state.unsent);
        let answer = answer(&mut state);
        state.asked.push_back(Asked { until, answer });
        state.wake();
        Some(answer)
    }

    /// Connects, again and again.
    async fn run(self: Arc<Self>, mut dial: Dial) {
        let mut wait = AGAIN;
        loop {
            let begun = clock::monotonic();
            match dial.connect().await {
                Ok(mut stream) => {
                    lock(&self.state).is_up = true;
                    let lost = self.drive(&mut stream).await;
                    let wakers = lock(&self.state).end();
                    wakers.into_iter().for_each(Waker::wake);
                    tell(&dial, lost);
                }
                Err(error) => tracing::debug!(server = %dial, %error, "no connection to read records by"),
            }
            if clock::monotonic().saturating_duration_since(begun) >= LASTED {
                wait = AGAIN;
            }
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    /// Sends what is asked and hands out what is answered, until the connection is lost.
    async fn drive(&self, stream: &mut Stream) -> Lost {
        let mut sending = Sending::default();
        let mut input = BytesMut::new();
        let mut timer = Timer::default();
        std::future::poll_fn(|cx| {
            if let Err(lost) = self.poll(cx, stream, &mut sending, &mut input) {
                return Poll::Ready(lost);
            }
            self.poll_time(cx, &mut timer).map(|()| Lost::Silent)
        })
        .await
    }

    fn poll(
        &self,
        cx: &mut Context<'_>,
        stream: &mut Stream,
        sending: &mut Sending,
        input: &mut BytesMut,
    ) -> Result<(), Lost> {
        {
            let mut state = lock(&self.state);
            if let Some(lost) = state.lost {
                return Err(lost);
            }
            // From here on whoever asks wakes this task.
            state.task = Some(cx.waker().clone());
            sending.take(&mut state.unsent);
        }
        sending.poll(cx, stream).map_err(|_| Lost::Closed)?;
        loop {
            // Room that answers have left is used up first: they may still hold the rest of it.
            let missing = reply::missing(input);
            if input.capacity() - input.len() < missing.max(LEAST_ROOM) {
                input.reserve(missing.max(ROOM));
            }
            let read = pin!(stream.read_buf(input)).poll(cx);
            match read {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0) | Err(_)) => return Err(Lost::Closed),
                Poll::Ready(Ok(_)) => {
                    while let Some(reply) = Reply::take(input).map_err(|Garbled| Lost::Garbled)? {
                        self.answered(reply)?;
                    }
                }
            }
        }
    }

    /// Hands one answer to whom it belongs.
    fn answered(&self, reply: Reply) -> Result<(), Lost> {
        let mut state = lock(&self.state);
        // Nobody asked for it.
        let asked = state.first().ok_or(Lost::OutOfStep)?;
        match (asked.answer, reply) {
            (Answer::To(place), reply) => {
                let came = match reply {
                    Reply::Value(value) => Ok(value),
                    Reply::Refused(why) => Err(Error::new(ErrorKind::Unknown, why)),
                };
                let waker = state.places.bring(place, Some(came));
                drop(state);
                waker.into_iter().for_each(Waker::wake);
                Ok(())
            }
            (Answer::Proof(proof), Reply::Value(value)) if value != proof.as_slice() => Err(Lost::OutOfStep),
            // That a script may not be run says nothing about whose answer this is.
            (Answer::Proof(_) | Answer::Nobody, _) => Ok(()),
        }
    }

    /// Tells those whose time is over. Ready where nothing has been answered for too long.
    fn poll_time(&self, cx: &mut Context<'_>, timer: &mut Timer) -> Poll<()> {
        loop {
            let Some(due) = lock(&self.state).due() else { return Poll::Pending };
            ready!(timer.poll(cx, due));
            let now = clock::monotonic();
            let mut state = lock(&self.state);
            if state.asked.front().is_some_and(|first| first.until + LONGEST_SILENCE <= now) {
                return Poll::Ready(());
            }
            let State { asked, given_up, places, .. } = &mut *state;
            let mut wakers = Vec::new();
            for asked in asked.iter_mut().skip(*given_up).take_while(|asked| asked.until <= now) {
                *given_up += 1;
                // A proof is still one when it comes late.
                if let Answer::To(place) = asked.answer {
                    asked.answer = Answer::Nobody;
                    let late = Error::new(ErrorKind::Timeout, "no answer in time");
                    wakers.extend(places.bring(place, Some(Err(late))));
                }
            }
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
    }
}

fn tell(server: &Dial, lost: Lost) {
    match lost {
        // The library's connection tells of these.
        Lost::Closed | Lost::Left => {
            tracing::debug!(%server, ?lost, "the connection for records is made anew")
        }
        Lost::Silent | Lost::Garbled | Lost::OutOfStep => {
            tracing::warn!(%server, ?lost, "the connection for records is made anew");
        }
    }
}

/// Questions on their way out.
#[derive(Default)]
struct Sending {
    bytes: Vec<u8>,
    sent: usize,
}

impl Sending {
    /// What is unsent is sent next; one of the two keeps its room for more.
    fn take(&mut self, unsent: &mut Vec<u8>) {
        if self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, unsent);
        } else {
            self.bytes.append(unsent);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream) -> std::io::Result<()> {
        while let Some(left @ [_, ..]) = self.bytes.get(self.sent..) {
            match Pin::new(&mut *stream).poll_write(cx, left) {
                Poll::Pending => return Ok(()),
                Poll::Ready(written) => match written? {
                    0 => return Err(std::io::ErrorKind::WriteZero.into()),
                    length => self.sent += length,
                },
            }
        }
        self.bytes.clear();
        self.sent = 0;
        // TLS may still hold some of it; what comes of that is seen by the next reading.
        match Pin::new(stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}

/// Left running where it goes off before it has to: setting it costs more than waking for nothing.
#[derive(Default)]
struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When it goes off.
    end: Option<Instant>,
}

impl Timer {
    /// Ready once it has gone off, which is at `due` at the latest.
    fn poll(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let at = tokio::time::Instant::from_std(due);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if self.end.is_none_or(|end| due < end) {
            sleep.as_mut().reset(at);
            self.end = Some(due);
        }
        ready!(sleep.as_mut().poll(cx));
        self.end = None;
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests;
