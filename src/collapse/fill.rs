//! A fill: one body that grows while many readers stream from it.
//!
//! The writer runs in a task of its own, so that a client that goes away cancels nothing others wait
//! for. Up to its retention limit a fill keeps every byte: readers may join at any time and read
//! from the start, and the complete body can be stored. Past the limit it keeps a window only: no
//! reader may join any more, the writer waits for the slowest reader it has, and nothing is stored.
//! One reader may take as long as it likes. Of several, whoever keeps others waiting has to read at a
//! pace (`WINDOW` in `PATIENCE`); one that does not loses the rest of the body, and not they.
//! Dropping the writer before [`FillWriter::complete`] breaks the body for every reader: what was
//! cut short never looks complete. Nor does what is not kept yet: [`FillWriter::close`] knows the end before any
//! reader does.
//!
//! Never touches: what the bytes mean, or where they are stored. No lock is held across an await.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::clock;

/// Frames at least this long are kept as they came; shorter ones are gathered, so that a body sent
/// byte by byte costs no more memory than its length.
const KEEP_WHOLE: usize = 4 * 1024;
/// Gathered bytes are sealed into a segment of this size.
const SEGMENT: usize = 16 * 1024;
/// What a fill past its retention limit may be ahead of its only reader; of the slowest of several, what
/// it may retain, if that is more: that much was there when the limit was passed.
const WINDOW: u64 = 512 * 1024;
/// How long others may wait, in all, while a slow reader takes one [`WINDOW`]: it has to read 256 KiB/s.
const PATIENCE: Duration = Duration::from_secs(2);
/// At least so much time passes from one look at who waits to the next.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a reader cannot have the rest of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyBroken;

impl std::fmt::Display for BodyBroken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body was cut short before its end")
    }
}

impl std::error::Error for BodyBroken {}

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Every byte so far is retained: the body may still be stored.
    Retained,
    /// The body outgrew its limit: it streams through a window and cannot be stored.
    Windowed,
}

/// A body that grows: the shared side.
#[derive(Debug)]
pub struct Fill {
    state: Mutex<State>,
    /// Length stated by the origin, if it stated one.
    length: Option<u64>,
    limit: u64,
}

#[derive(Debug)]
struct State {
    /// Sealed segments still retained; the first has index `dropped`.
    segments: std::collections::VecDeque<Bytes>,
    dropped: usize,
    /// Gathered short frames: the segment after the last sealed one.
    tail: BytesMut,
    retained: u64,
    /// Bytes pushed so far.
    poured: u64,
    /// How many bytes may be retained for several readers that are not equally fast.
    shared_window: u64,
    /// The same for a single reader.
    window: u64,
    windowed: bool,
    end: End,
    trailers: Option<HeaderMap>,
    /// The live readers by slot; freed slots are `None` and listed in `free`.
    readers: Vec<Option<Place>>,
    free: Vec<usize>,
    writer: Option<Waker>,
}

/// Where a reader stands.
#[derive(Debug, Default)]
struct Place {
    /// Index of the segment it reads next.
    segment: usize,
    /// Bytes of the segments it has taken.
    taken: u64,
    /// How many that were when the time began in which it has to take a window.
    marked: u64,
    /// Set while it waits for more.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Open,
    Complete,
    Broken,
}

impl Fill {
    /// A new fill, its writer, and its first reader. `limit` is how many bytes may be retained; the
    /// first reader exists from the start so that a body past the limit has somebody to flow to.
    #[must_use]
    pub fn start(length: Option<u64>, limit: u64) -> (FillWriter, Arc<Self>) {
        let fill = Arc::new(Self::with(State::new(End::Open, limit), length, limit));
        let writer = FillWriter {
            fill: Arc::clone(&fill),
            finished: false,
            patience: PATIENCE,
            held_up: Duration::ZERO,
        };
        (writer, fill)
    }

    /// A fill for one reader, which keeps nothing that it has read, and at most about `window` bytes that it
    /// has not: past them the writer waits ([`FillWriter::room`]).
    #[must_use]
    pub fn through(length: Option<u64>, window: u64) -> (FillWriter, FillReader) {
        let (writer, fill) = Self::start(length, 0);
        let reader = fill.place(length, &mut fill.lock());
        let mut state = fill.lock();
        (state.windowed, state.window) = (true, window);
        drop(state);
        (writer, reader)
    }

    /// A fill that is complete from the start: the body of a stored response.
    #[must_use]
    pub fn ready(body: Bytes) -> Arc<Self> {
        let length = body.len() as u64;
        let mut state = State::new(End::Complete, u64::MAX);
        state.retained = length;
        if !body.is_empty() {
            state.segments.push_back(body);
        }
        Arc::new(Self::with(state, Some(length), u64::MAX))
    }

    fn with(state: State, length: Option<u64>, limit: u64) -> Self {
        Self { state: Mutex::new(state), length, limit }
    }

    /// A reader from the first byte on; `None` once bytes were let go of, or the body broke.
    #[must_use]
    pub fn read(self: &Arc<Self>) -> Option<FillReader> {
        let mut state = self.lock();
        if state.windowed || state.end == End::Broken {
            return None;
        }
        let length = match state.end {
            End::Complete => Some(state.retained),
            End::Open | End::Broken => self.length,
        };
        Some(self.place(length, &mut state))
    }

    fn place(self: &Arc<Self>, length: Option<u64>, state: &mut State) -> FillReader {
        let slot = state.free.pop().unwrap_or(state.readers.len());
        match state.readers.get_mut(slot) {
            Some(place) => *place = Some(Place::default()),
            None => state.readers.push(Some(Place::default())),
        }
        FillReader { fill: Arc::clone(self), length, slot, segment: 0, offset: 0, sent: 0, done: false }
    }

    /// From now on the fill stands on `whole`, the same bytes as those poured, which somebody else keeps
    /// anyway: no second copy lives as long as the slowest reader does.
    pub fn rest_on(&self, whole: &Bytes) {
        let mut state = self.lock();
        if state.end != End::Complete || state.windowed || state.retained != whole.len() as u64 {
            return;
        }
        let mut rest = whole.clone();
        for segment in &mut state.segments {
            *segment = rest.split_to(segment.len().min(rest.len()));
        }
    }

    /// The stated length, or the real one once the body is complete.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        if self.length.is_some() {
            return self.length;
        }
        let state = self.lock();
        (state.end == End::Complete && !state.windowed).then_some(state.retained)
    }

    /// A panic elsewhere never leaves this state half-changed (no user code runs under the lock).
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(end: End, limit: u64) -> Self {
        Self {
            segments: std::collections::VecDeque::new(),
            dropped: 0,
            tail: BytesMut::new(),
            retained: 0,
            poured: 0,
            shared_window: limit.max(WINDOW),
            window: WINDOW,
            windowed: false,
            end,
            trailers: None,
            readers: Vec::new(),
            free: Vec::new(),
            writer: None,
        }
    }

    fn push(&mut self, data: Bytes) {
        self.retained += data.len() as u64;
        self.poured += data.len() as u64;
        if data.len() >= KEEP_WHOLE {
            self.seal();
            self.segments.push_back(data);
            return;
        }
        if self.tail.capacity() - self.tail.len() < data.len() {
            self.seal();
            self.tail.reserve(SEGMENT);
        }
        self.tail.extend_from_slice(&data);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.segments.push_back(self.tail.split().freeze());
        }
    }

    /// Lets go of what every reader has passed.
    fn trim(&mut self) {
        let slowest = self.readers.iter().flatten().map(|place| place.segment).min().unwrap_or(usize::MAX);
        while self.dropped < slowest {
            let Some(segment) = self.segments.pop_front() else { break };
            self.retained -= segment.len() as u64;
            self.dropped += 1;
        }
        if self.has_room()
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
    }

    /// Whether more may be pushed.
    fn has_room(&self) -> bool {
        let several = self.readers.iter().flatten().nth(1).is_some();
        !self.windowed || self.retained < if several { self.shared_window } else { self.window }
    }

    /// Whether a reader has nothing left to read.
    fn keeps_waiting(&self) -> bool {
        self.readers.iter().flatten().any(|place| place.waker.is_some())
    }

    /// Begins the time in which every reader that lags has to take a window.
    fn mark(&mut self) {
        self.readers.iter_mut().flatten().for_each(|place| place.marked = place.taken);
    }

    /// Takes the rest of the body from the readers that lag and have not taken a window since the mark;
    /// those that lag by less than half of what may be retained do not hold others up yet.
    fn cut_off(&mut self) -> Vec<Waker> {
        let (poured, most) = (self.poured, self.shared_window / 2);
        let mut cut = Vec::new();
        for reader in &mut self.readers {
            let lags = |place: &mut Place| {
                poured.saturating_sub(place.taken) >= most
                    && place.taken.saturating_sub(place.marked) < WINDOW
            };
            if let Some(place) = reader.take_if(lags) {
                cut.extend(place.waker);
            }
        }
        self.trim();
        cut
    }

    fn wake_readers(&mut self) -> Vec<Waker> {
        self.readers.iter_mut().flatten().filter_map(|place| place.waker.take()).collect()
    }
}

/// The writing side of a fill; dropping it early breaks the body.
#[derive(Debug)]
pub struct FillWriter {
    fill: Arc<Fill>,
    finished: bool,
    patience: Duration,
    /// Since the mark: how long readers waited for slower ones.
    held_up: Duration,
}

impl FillWriter {
    /// Adds bytes, waking every reader.
    pub fn push(&self, data: Bytes) -> Pushed {
        if data.is_empty() {
            return Pushed::Retained;
        }
        let mut state = self.fill.lock();
        state.push(data);
        if !state.windowed && state.retained > self.fill.limit {
            state.windowed = true;
            state.seal();
        }
        let pushed = if state.windowed {
            state.seal();
            state.trim();
            Pushed::Windowed
        } else {
            Pushed::Retained
        };
        let wake = state.wake_readers();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        pushed
    }

    /// Breaks the body off where nobody reads it: whether it did. From then on nobody can join, either.
    #[must_use]
    pub fn give_up_unread(&self) -> bool {
        let mut state = self.fill.lock();
        let is_unread = state.readers.iter().all(Option::is_none);
        if is_unread {
            state.end = End::Broken;
        }
        is_unread
    }

    /// Waits until nobody reads, and breaks the body off ([`Self::give_up_unread`]). Cancel safe.
    pub async fn unread(&self) {
        std::future::poll_fn(|cx| {
            let mut state = self.fill.lock();
            if state.readers.iter().any(Option::is_some) {
                // The waker is taken by a reader that leaves, and by whoever makes room.
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.end = End::Broken;
            Poll::Ready(())
        })
        .await;
    }

    /// Waits, past the retention limit, until the slowest reader has caught up, or has kept others
    /// waiting for too long and is cut off; `false` when nobody reads any more, so that going on would
    /// be for nothing. Cancel safe.
    pub async fn room(&mut self) -> bool {
        loop {
            if let Some(is_read) = self.look() {
                return is_read;
            }
            let begun = clock::monotonic();
            let left = self.patience.saturating_sub(self.held_up).max(LOOK_AGAIN);
            // Which of the two it was shows in the next look.
            let _ = tokio::time::timeout(left, self.changed()).await;
            self.judge(clock::monotonic().saturating_duration_since(begun));
        }
    }

    /// Whether there is room (`true`), or nobody to read (`false`); else it is to be waited for.
    fn look(&self) -> Option<bool> {
        let mut state = self.fill.lock();
        if state.windowed && state.readers.iter().all(Option::is_none) {
            return Some(false);
        }
        if state.has_room() {
            return Some(true);
        }
        if self.held_up.is_zero() {
            state.mark();
        }
        None
    }

    /// After a wait: whether readers have waited for others for too long.
    fn judge(&mut self, waited: Duration) {
        let mut state = self.fill.lock();
        if !state.keeps_waiting() {
            return;
        }
        self.held_up += waited;
        if self.held_up >= self.patience {
            self.held_up = Duration::ZERO;
            let cut = state.cut_off();
            drop(state);
            cut.into_iter().for_each(Waker::wake);
        }
    }

    /// Waits until there is room, or a reader has left.
    async fn changed(&self) {
        let mut is_set = false;
        std::future::poll_fn(|cx| {
            let mut state = self.fill.lock();
            // The waker is taken by whoever makes room, and by a reader that leaves.
            if state.has_room() || (is_set && state.writer.is_none()) {
                return Poll::Ready(());
            }
            is_set = true;
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// The body has ended as its framing says; readers get the trailers, the caller the whole body
    /// in an allocation of its own, or `None` when it outgrew the limit.
    #[must_use]
    pub fn complete(self, trailers: Option<HeaderMap>) -> Option<Bytes> {
        let (whole, ending) = self.close(Bytes::new(), trailers);
        ending.publish();
        whole
    }

    /// Whether so many bytes more leave the body within its limit.
    #[must_use]
    pub fn retains(&self, more: &Bytes) -> bool {
        let state = self.fill.lock();
        !state.windowed && state.retained + more.len() as u64 <= self.fill.limit
    }

    /// The body ends with these bytes, which the fill still retains ([`Self::retains`]), and trailers: the
    /// whole of it, as [`Self::complete`] gives it, and what tells readers so.
    pub fn close(self, last: Bytes, trailers: Option<HeaderMap>) -> (Option<Bytes>, Ending) {
        let mut state = self.fill.lock();
        state.seal();
        let whole = (!state.windowed).then(|| {
            let length = state.retained + last.len() as u64;
            let mut whole = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
            state.segments.iter().chain([&last]).for_each(|segment| whole.extend_from_slice(segment));
            Bytes::from(whole)
        });
        drop(state);
        (whole, Ending { writer: self, last, trailers })
    }
}

/// The end of a body that is known to its writer alone: readers have not seen its last bytes yet, so that
/// what is to be true for who has read all of it can be made true first. Dropped, it breaks the body.
#[derive(Debug)]
#[must_use]
pub struct Ending {
    writer: FillWriter,
    last: Bytes,
    trailers: Option<HeaderMap>,
}

impl Ending {
    /// Shows readers the last bytes, the trailers and the end.
    pub fn publish(self) {
        let Self { mut writer, last, trailers } = self;
        writer.finished = true;
        let mut state = writer.fill.lock();
        if !last.is_empty() {
            state.push(last);
        }
        state.seal();
        state.end = End::Complete;
        state.trailers = trailers;
        let wake = state.wake_readers();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

impl Drop for FillWriter {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let mut state = self.fill.lock();
        state.end = End::Broken;
        let wake = state.wake_readers();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
    }
}

/// One reader of a fill: an HTTP body that ends when, and as, the fill does.
#[derive(Debug)]
pub struct FillReader {
    fill: Arc<Fill>,
    /// The body's length, where it was known when the reader joined.
    length: Option<u64>,
    slot: usize,
    segment: usize,
    offset: usize,
    sent: u64,
    done: bool,
}

impl FillReader {
    fn next(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        let mut state = self.fill.lock();
        let is_cut_off = !matches!(state.readers.get(self.slot), Some(Some(_)));
        let Some(at) = self.segment.checked_sub(state.dropped).filter(|_| !is_cut_off) else {
            self.done = true;
            return Poll::Ready(Some(Err(BodyBroken)));
        };
        if let Some(segment) = state.segments.get(at) {
            let length = segment.len() as u64;
            let data = segment.slice(self.offset.min(segment.len())..);
            self.segment += 1;
            self.offset = 0;
            if let Some(Some(place)) = state.readers.get_mut(self.slot) {
                place.segment = self.segment;
                place.taken += length;
            }
            if state.windowed {
                state.trim();
            }
            drop(state);
            if data.is_empty() {
                return self.next(cx);
            }
            self.sent += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        if let Some(fresh) = state.tail.get(self.offset..).filter(|fresh| !fresh.is_empty()) {
            let data = Bytes::copy_from_slice(fresh);
            self.offset += data.len();
            self.sent += data.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        match state.end {
            End::Open => {
                if let Some(Some(place)) = state.readers.get_mut(self.slot) {
                    place.waker = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            End::Broken => {
                self.done = true;
                Poll::Ready(Some(Err(BodyBroken)))
            }
            End::Complete => {
                self.done = true;
                Poll::Ready(state.trailers.clone().map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }
}

impl Body for FillReader {
    type Data = Bytes;
    type Error = BodyBroken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyBroken>>> {
        if self.done {
            return Poll::Ready(None);
        }
        self.next(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.done || self.length == Some(self.sent)
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, |length| SizeHint::with_exact(length.saturating_sub(self.sent)))
    }
}

impl Drop for FillReader {
    fn drop(&mut self) {
        let mut state = self.fill.lock();
        if let Some(place) = state.readers.get_mut(self.slot) {
            *place = None;
        }
        state.free.push(self.slot);
        if state.windowed {
            state.trim();
        }
        let writer = state.writer.take();
        drop(state);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn read_all(reader: FillReader) -> Result<Bytes, BodyBroken> {
        reader.collect().await.map(http_body_util::Collected::to_bytes)
    }

    #[tokio::test]
    async fn readers_that_join_early_and_late_all_get_every_byte() {
        let (writer, fill) = Fill::start(None, 1 << 20);
        let early = tokio::spawn(read_all(fill.read().expect("open")));
        let mut sent = Vec::new();
        for n in 0..2000usize {
            let piece = vec![u8::try_from(n % 251).expect("small"); n % 97];
            sent.extend_from_slice(&piece);
            writer.push(Bytes::from(piece));
            if n % 100 == 0 {
                writer.push(Bytes::from(vec![7; KEEP_WHOLE]));
                sent.extend_from_slice(&[7; KEEP_WHOLE]);
                tokio::task::yield_now().await;
            }
        }
        let late = fill.read().expect("still whole");
        let whole = writer.complete(None).expect("below the limit");
        assert_eq!(whole, sent);
        assert_eq!(early.await.expect("task"), Ok(whole.clone()));
        assert_eq!(read_all(late).await, Ok(whole.clone()));
        assert_eq!(read_all(fill.read().expect("complete")).await, Ok(whole));
    }

    #[tokio::test]
    async fn a_dropped_writer_breaks_the_body() {
        let (writer, fill) = Fill::start(None, 1 << 20);
        let reader = fill.read().expect("open");
        writer.push(Bytes::from_static(b"half"));
        drop(writer);
        assert_eq!(read_all(reader).await, Err(BodyBroken));
        assert!(fill.read().is_none());
    }

    #[tokio::test]
    async fn the_end_is_seen_when_it_is_published() {
        for is_published in [true, false] {
            let (writer, fill) = Fill::start(Some(7), 7);
            let mut reader = fill.read().expect("open");
            writer.push(Bytes::from_static(b"first"));
            assert!(reader.frame().await.is_some_and(|frame| frame.is_ok()));
            assert!(
                writer.retains(&Bytes::from_static(b"la")) && !writer.retains(&Bytes::from_static(b"las"))
            );
            let (whole, ending) = writer.close(Bytes::from_static(b"la"), None);
            assert_eq!(whole.as_deref(), Some(b"firstla".as_slice()));
            let mut next = std::pin::pin!(reader.frame());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(next.as_mut().poll(&mut cx).is_pending());
            if is_published {
                ending.publish();
                let frame = next.await.expect("a frame").expect("whole");
                assert_eq!(frame.into_data().expect("data"), "la");
                assert!(reader.is_end_stream() && reader.frame().await.is_none());
                assert_eq!(read_all(fill.read().expect("complete")).await.expect("whole"), "firstla");
            } else {
                drop(ending);
                assert!(next.await.expect("a frame").is_err(), "what nobody has ended is broken");
            }
        }
    }

    #[tokio::test]
    async fn past_the_limit_only_a_window_is_kept() {
        const PIECE: usize = 64 * 1024;
        let (mut writer, fill) = Fill::start(None, 100 * 1024);
        let mut reader = fill.read().expect("open");
        assert_eq!(writer.push(Bytes::from(vec![1; PIECE])), Pushed::Retained);
        assert_eq!(writer.push(Bytes::from(vec![1; PIECE])), Pushed::Windowed);
        assert!(fill.read().is_none(), "nobody joins a window");
        let task = tokio::spawn(async move {
            let mut most = 0;
            for _ in 0..200 {
                assert!(writer.room().await);
                writer.push(Bytes::from(vec![1; PIECE]));
                most = most.max(writer.fill.lock().retained);
            }
            assert_eq!(writer.complete(None), None);
            most
        });
        let mut total = 0;
        while let Some(frame) = reader.frame().await {
            total += frame.expect("whole").into_data().expect("data").len();
        }
        assert_eq!(total, 202 * PIECE);
        assert!(task.await.expect("task") <= WINDOW + PIECE as u64);
    }

    /// Reads `pieces` frames, then `stops` for so long before each further one; bytes, and how it ended.
    async fn trickle(mut reader: FillReader, pieces: usize, pause: Duration) -> (usize, bool) {
        let (mut total, mut count) = (0, 0);
        while let Some(frame) = reader.frame().await {
            let Ok(frame) = frame else { return (total, false) };
            total += frame.into_data().expect("data").len();
            count += 1;
            if count > pieces {
                tokio::time::sleep(pause).await;
            }
        }
        (total, true)
    }

    #[tokio::test]
    async fn who_keeps_others_waiting_loses_the_rest_and_not_they() {
        const PIECE: usize = 64 * 1024;
        const PIECES: usize = 200;
        for (title, pieces, pause) in [
            ("reads nothing", 0, Duration::from_secs(3600)),
            ("stops beyond the limit", 40, Duration::from_secs(3600)),
            ("trickles", 0, Duration::from_millis(10)),
        ] {
            let (mut writer, fill) = Fill::start(None, 1 << 20);
            writer.patience = Duration::from_millis(60);
            let slow = tokio::spawn(trickle(fill.read().expect("open"), pieces, pause));
            let other = tokio::spawn(trickle(fill.read().expect("open"), pieces + 3, pause));
            let fast = tokio::spawn(trickle(fill.read().expect("open"), PIECES, Duration::ZERO));
            let mut most = 0;
            for _ in 0..PIECES {
                assert!(writer.room().await);
                writer.push(Bytes::from(vec![1; PIECE]));
                most = most.max(fill.lock().retained);
                tokio::task::yield_now().await;
            }
            assert_eq!(writer.complete(None), None);
            assert_eq!(fast.await.expect("task"), (PIECES * PIECE, true), "{title}");
            assert!(most <= (1 << 20) + PIECE as u64, "{title}: {most} bytes at once");
            let left: Vec<_> = fill.lock().readers.iter().flatten().map(|place| place.segment).collect();
            assert!(left.is_empty(), "{title}: both were cut off, not {left:?}");
            if pause < Duration::from_secs(1) {
                assert!(!slow.await.expect("task").1 && !other.await.expect("task").1, "{title}");
            } else {
                slow.abort();
                other.abort();
            }
        }
    }

    #[tokio::test]
    async fn who_is_slow_and_keeps_the_pace_gets_everything() {
        const PIECE: usize = 64 * 1024;
        const PIECES: usize = 60;
        let (mut writer, fill) = Fill::start(None, 10);
        writer.patience = Duration::from_secs(600);
        let slow = tokio::spawn(trickle(fill.read().expect("open"), 0, Duration::from_millis(1)));
        let fast = tokio::spawn(trickle(fill.read().expect("open"), PIECES, Duration::ZERO));
        for _ in 0..PIECES {
            assert!(writer.room().await);
            writer.push(Bytes::from(vec![1; PIECE]));
        }
        assert_eq!(writer.complete(None), None);
        assert_eq!(fast.await.expect("task"), (PIECES * PIECE, true));
        assert_eq!(slow.await.expect("task"), (PIECES * PIECE, true));
    }

    #[tokio::test]
    async fn one_reader_may_take_as_long_as_it_likes() {
        const PIECE: usize = 64 * 1024;
        let (mut writer, fill) = Fill::start(None, 10);
        writer.patience = Duration::ZERO;
        let only = tokio::spawn(trickle(fill.read().expect("open"), 0, Duration::from_millis(1)));
        for _ in 0..40 {
            assert!(writer.room().await);
            writer.push(Bytes::from(vec![1; PIECE]));
        }
        assert_eq!(writer.complete(None), None);
        assert_eq!(only.await.expect("task"), (40 * PIECE, true));
    }

    #[tokio::test]
    async fn a_fill_for_one_reader_keeps_a_window_from_the_start() {
        const PIECE: usize = 64 * 1024;
        for window in [1, PIECE as u64 + 1, 4 * PIECE as u64] {
            let (mut writer, mut reader) = Fill::through(Some(40 * PIECE as u64), window);
            let fill = Arc::clone(&writer.fill);
            assert!(fill.read().is_none() && !writer.give_up_unread());
            let task = tokio::spawn(async move {
                let mut most = 0;
                for _ in 0..40 {
                    assert!(writer.room().await);
                    assert_eq!(writer.push(Bytes::from(vec![1; PIECE])), Pushed::Windowed);
                    most = most.max(writer.fill.lock().retained);
                }
                assert_eq!(writer.complete(None), None);
                most
            });
            let mut total = 0;
            while let Some(frame) = reader.frame().await {
                total += frame.expect("whole").into_data().expect("data").len();
            }
            assert_eq!(total, 40 * PIECE);
            assert!(task.await.expect("task") < window + PIECE as u64, "{window}");
        }
        let (mut writer, reader) = Fill::through(None, 1);
        drop(reader);
        assert!(!writer.room().await);
        let (writer, fill) = Fill::start(None, 10);
        assert!(fill.read().is_some());
        assert!(writer.give_up_unread() && fill.read().is_none(), "nobody joins what was given up");
    }

    /// Whether it was woken.
    #[derive(Default)]
    struct Woken(std::sync::atomic::AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_writer_learns_that_the_last_reader_has_left() {
        for limit in [1 << 20, 10] {
            let (writer, fill) = Fill::start(None, limit);
            let (one, mut two) = (fill.read().expect("open"), fill.read().expect("open"));
            writer.push(Bytes::from_static(&[0; 64]));
            let woken = Arc::new(Woken::default());
            let waker = Waker::from(Arc::clone(&woken));
            let mut cx = Context::from_waker(&waker);
            let mut unread = std::pin::pin!(writer.unread());
            assert!(unread.as_mut().poll(&mut cx).is_pending());
            drop(one);
            assert!(unread.as_mut().poll(&mut cx).is_pending(), "one still reads");
            // What makes room in between is no end.
            assert!(two.frame().await.is_some_and(|frame| frame.is_ok()));
            assert!(unread.as_mut().poll(&mut cx).is_pending());
            woken.0.store(false, std::sync::atomic::Ordering::Relaxed);
            drop(two);
            assert!(woken.0.load(std::sync::atomic::Ordering::Relaxed), "it is told of the last");
            assert!(unread.as_mut().poll(&mut cx).is_ready());
            assert!(fill.read().is_none(), "nobody joins what was given up");
        }
    }

    #[tokio::test]
    async fn a_complete_fill_stands_on_a_copy_that_is_kept_anyway() {
        let (writer, fill) = Fill::start(None, 1 << 20);
        let (mut early, late) = (fill.read().expect("open"), fill.read().expect("open"));
        for n in 0..10 {
            writer.push(Bytes::from(vec![n; KEEP_WHOLE + usize::from(n)]));
        }
        let first = early.frame().await.expect("a frame").expect("whole").into_data().expect("data");
        let whole = writer.complete(None).expect("below the limit");
        let kept = Bytes::copy_from_slice(&whole);
        fill.rest_on(&Bytes::from_static(b"of another length"));
        fill.rest_on(&kept);
        assert!(whole.is_unique() && !kept.is_unique());
        assert_eq!([first, read_all(early).await.expect("whole")].concat(), kept);
        assert_eq!(read_all(late).await, Ok(kept.clone()));
    }

    #[tokio::test]
    async fn a_window_without_readers_ends_the_fill() {
        let (mut writer, fill) = Fill::start(None, 10);
        let reader = fill.read().expect("open");
        assert_eq!(writer.push(Bytes::from_static(&[0; 64])), Pushed::Windowed);
        drop(reader);
        assert!(!writer.room().await);
    }
}
