//! A fill: one body that grows while many readers stream from it.
//!
//! The writer runs in a task of its own, so that a client that goes away cancels nothing others wait
//! for. Up to its retention limit a fill keeps every byte: readers may join at any time and read
//! from the start, and the complete body can be stored. Past the limit it keeps a window only: no
//! reader may join any more, the writer waits for the slowest reader it has, and nothing is stored.
//! Dropping the writer before [`FillWriter::complete`] breaks the body for every reader: what was
//! cut short never looks complete.
//!
//! Never touches: what the bytes mean, or where they are stored. No lock is held across an await.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

/// Frames at least this long are kept as they came; shorter ones are gathered, so that a body sent
/// byte by byte costs no more memory than its length.
const KEEP_WHOLE: usize = 4 * 1024;
/// Gathered bytes are sealed into a segment of this size.
const SEGMENT: usize = 16 * 1024;
/// What a fill past its retention limit may be ahead of its slowest reader.
const WINDOW: u64 = 512 * 1024;

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
        let fill = Arc::new(Self::with(State::new(End::Open), length, limit));
        (FillWriter { fill: Arc::clone(&fill), finished: false }, fill)
    }

    /// A fill that is complete from the start: the body of a stored response.
    #[must_use]
    pub fn ready(body: Bytes) -> Arc<Self> {
        let length = body.len() as u64;
        let mut state = State::new(End::Complete);
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
        let slot = state.free.pop().unwrap_or(state.readers.len());
        match state.readers.get_mut(slot) {
            Some(place) => *place = Some(Place::default()),
            None => state.readers.push(Some(Place::default())),
        }
        drop(state);
        Some(FillReader { fill: Arc::clone(self), length, slot, segment: 0, offset: 0, sent: 0, done: false })
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
    fn new(end: End) -> Self {
        Self {
            segments: std::collections::VecDeque::new(),
            dropped: 0,
            tail: BytesMut::new(),
            retained: 0,
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
        if self.retained < WINDOW
            && let Some(writer) = self.writer.take()
        {
            writer.wake();
        }
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

    /// Waits, past the retention limit, until the slowest reader has caught up; `false` when nobody
    /// reads any more, so that going on would be for nothing.
    pub async fn room(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.fill.lock();
            if !state.windowed {
                return Poll::Ready(true);
            }
            if state.readers.iter().all(Option::is_none) {
                return Poll::Ready(false);
            }
            if state.retained < WINDOW {
                return Poll::Ready(true);
            }
            state.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// The body has ended as its framing says; readers get the trailers, the caller the whole body
    /// in an allocation of its own, or `None` when it outgrew the limit.
    #[must_use]
    pub fn complete(mut self, trailers: Option<HeaderMap>) -> Option<Bytes> {
        self.finished = true;
        let mut state = self.fill.lock();
        state.seal();
        state.end = End::Complete;
        state.trailers = trailers;
        let whole = (!state.windowed).then(|| {
            let mut whole = Vec::with_capacity(usize::try_from(state.retained).unwrap_or_default());
            state.segments.iter().for_each(|segment| whole.extend_from_slice(segment));
            Bytes::from(whole)
        });
        let wake = state.wake_readers();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        whole
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
        let Some(at) = self.segment.checked_sub(state.dropped) else {
            return Poll::Ready(Some(Err(BodyBroken)));
        };
        if let Some(segment) = state.segments.get(at) {
            let data = segment.slice(self.offset.min(segment.len())..);
            self.segment += 1;
            self.offset = 0;
            if let Some(Some(place)) = state.readers.get_mut(self.slot) {
                place.segment = self.segment;
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
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
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
    async fn past_the_limit_only_a_window_is_kept() {
        const PIECE: usize = 64 * 1024;
        let (writer, fill) = Fill::start(None, 100 * 1024);
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

    #[tokio::test]
    async fn a_window_without_readers_ends_the_fill() {
        let (writer, fill) = Fill::start(None, 10);
        let reader = fill.read().expect("open");
        assert_eq!(writer.push(Bytes::from_static(&[0; 64])), Pushed::Windowed);
        drop(reader);
        assert!(!writer.room().await);
    }
}
