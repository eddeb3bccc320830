//! Reading a long body: chunk after chunk, each proven before a byte of it is handed out.
//!
//! Decides: how far it reads ahead, and whether a chunk that was not had is lost or was only not answered.
//! Never touches: what is done with the bytes, or when the next ones are wanted: nothing is read that was
//! not asked for, but for one chunk ahead.
//!
//! Whoever stops asking, or drops the reader, ends the reading. Each command has the budget of one read, and
//! the breaker counts it.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fred::types::Value;
use tokio::sync::OwnedSemaphorePermit;

use super::chunks;
use super::counters::Failure;
use super::script::UNLOCK;
use super::spans::Spans;
use super::{LONGEST_VALUE, RedisStore, read_value, unlink};
use crate::caching::stored::InStore;
use crate::store::{StoreKey, record};

/// Bytes that a reader which reads ahead is taken to hold, with what its caller keeps for a slow client.
const IN_HAND: u64 = 4 * record::CHUNK as u64;
/// A reader that takes its time says so this often: chunks outlive their record by twice as much.
pub const PROLONG: Duration = Duration::from_secs(60);
/// Counted where a chunk is not there.
const MISSING: &str = "chunk_missing";

/// Why the content of a stored response cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// A part of it is missing or was refused: nobody can read it.
    Lost,
    /// Redis did not say: somebody else may have more luck.
    Unanswered,
}

/// Reads ranges of one long body, in order.
pub struct LongReader {
    store: Arc<RedisStore>,
    key: StoreKey,
    body: InStore,
    spans: Spans,
    /// The chunk of the last span, where the next one is of the same.
    held: Option<(u32, Bytes)>,
    /// A chunk that was read with the one before.
    ahead: Option<(u32, Result<Bytes, Unreadable>)>,
    /// Room to read ahead; without it, one chunk is read at a time.
    room: Option<OwnedSemaphorePermit>,
}

impl std::fmt::Debug for LongReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LongReader").field("body", &self.body).finish_non_exhaustive()
    }
}

impl LongReader {
    /// A reader of `ranges` (first and last offset each, inclusive); nothing is read yet. `None` when the
    /// body is longer than configured, or a range does not lie within it.
    #[must_use]
    pub fn of(store: &Arc<RedisStore>, key: StoreKey, body: InStore, ranges: &[(u64, u64)]) -> Option<Self> {
        let context = &store.context;
        if body.length > context.settings.max_object_size {
            context.counters.rejected(record::Rejected::Limit.label());
            return None;
        }
        let spans = Spans::of(ranges, body.length)?;
        let room = context.counters.streaming.take_owned(IN_HAND);
        Some(Self { store: Arc::clone(store), key, body, spans, held: None, ahead: None, room })
    }

    /// Whether it reads ahead. Where it does not, whoever uses it is to keep as little.
    #[must_use]
    pub const fn reads_ahead(&self) -> bool {
        self.room.is_some()
    }

    /// The next bytes, at most a chunk; `None` at the end. After an error there is nothing more to ask for.
    ///
    /// # Errors
    /// Why the rest cannot be read.
    pub async fn next(&mut self) -> Option<Result<Bytes, Unreadable>> {
        let span = self.spans.next()?;
        let content = match self.chunk(span.chunk).await {
            Ok(content) => content,
            Err(unreadable) => return Some(Err(unreadable)),
        };
        // A chunk that was proven has the length that its place in the body gives it.
        let end = span.from.saturating_add(span.length);
        if content.len() < end {
            return Some(Err(Unreadable::Lost));
        }
        if self.spans.peek() == Some(span.chunk) {
            self.held = Some((span.chunk, content.clone()));
        }
        Some(Ok(content.slice(span.from..end)))
    }

    /// What is already known of the bytes after those that were handed out.
    #[must_use]
    pub fn known_to_fail(&self) -> Option<Unreadable> {
        self.ahead.as_ref().and_then(|(_, read)| read.as_ref().err()).copied()
    }

    /// Lets what is still to be read live for another while: it may be wanted longer than its record is.
    /// To be called every [`PROLONG`] while the next bytes are not asked for.
    pub async fn prolong(&self) {
        for chunks in self.spans.chunks_left() {
            // Where Redis does not say, or has lost one, the reading shows it.
            let _ = chunks::keep_alive(&self.store, &self.key, &self.body.id, chunks).await;
        }
    }

    async fn chunk(&mut self, number: u32) -> Result<Bytes, Unreadable> {
        if let Some((_, content)) = self.held.take().filter(|(held, _)| *held == number) {
            return Ok(content);
        }
        if let Some((_, read)) = self.ahead.take().filter(|(ahead, _)| *ahead == number) {
            return read;
        }
        let following = self.spans.peek().filter(|next| *next != number && self.room.is_some());
        let (store, key, body) = (&*self.store, &self.key, &self.body);
        let (read, ahead) = tokio::join!(read_one(store, key, body, number), async {
            match following {
                Some(next) => Some((next, read_one(store, key, body, next).await)),
                None => None,
            }
        });
        self.ahead = ahead;
        read
    }
}

/// The whole of a body, in one allocation; `None` when it cannot be read, or there is no room for it now.
pub(super) async fn read_whole(store: &Arc<RedisStore>, key: &StoreKey, body: InStore) -> Option<Bytes> {
    let last = body.length.checked_sub(1)?;
    let mut reader = LongReader::of(store, key.clone(), body, &[(0, last)])?;
    let counters = &store.context.counters;
    let Some(_held) = counters.reading.take(body.length) else {
        counters.failed(Failure::Saturated);
        return None;
    };
    let mut whole = BytesMut::new();
    while let Some(bytes) = reader.next().await {
        let bytes = bytes.ok()?;
        if whole.is_empty() {
            // At its final size, and not before a chunk proves that there is such a body.
            whole.reserve(usize::try_from(body.length).ok()?);
        }
        whole.extend_from_slice(&bytes);
    }
    (whole.len() as u64 == body.length).then(|| whole.freeze())
}

async fn read_one(
    store: &RedisStore,
    key: &StoreKey,
    body: &InStore,
    number: u32,
) -> Result<Bytes, Unreadable> {
    let (line, counters) = (store.bulk(), &store.context.counters);
    let name = store.context.names.chunk(key, &body.id, number);
    let turn = store.chunks_in_flight.acquire().await;
    let read = read_value(line, chunks::GET, |out| out.extend_from_slice(name.as_bytes())).await;
    drop(turn);
    let refused = match read {
        Ok(None) => {
            counters.rejected(MISSING);
            Some(Bytes::new())
        }
        Ok(Some(value)) => match record::decode_chunk(body, number, value.clone()) {
            Ok(content) => return Ok(content),
            Err(rejected) => {
                counters.rejected(rejected.label());
                line.doubt(name.clone());
                Some(value).filter(|value| value.len() < LONGEST_VALUE)
            }
        },
        Err(Failure::WrongType) => None,
        Err(_) => return Err(Unreadable::Unanswered),
    };
    // Chunks that are there are not written again: what is none, an empty value too, must not stay in
    // the place of one; and what somebody has put there since is not to go with it.
    let removed = match refused {
        Some(value) => {
            store.script("discard", &UNLOCK, name.clone(), vec![Value::Bytes(value)]).await.is_ok()
        }
        None => false,
    };
    if !removed {
        unlink(line, name).await;
    }
    Err(Unreadable::Lost)
}
