//! The Redis tier: records that a whole fleet shares, and the fleet's locks.
//!
//! Decides: where records lie in Redis, how long they may lie there, and when Redis is not asked.
//! Never touches: freshness, requests, what a record means. Nothing here fails towards its caller:
//! whatever goes wrong is counted and is a miss, a write that did not happen, or a lock not had.
//!
//! | concept | file |
//! |---|---|
//! | one supervised connection | `client`, `pulse` |
//! | the connection that records are read by | `pipe` |
//! | all settings of the client library | `dial` |
//! | what TLS trusts | `authorities` |
//! | whether Redis is asked at all | `breaker` |
//! | how much memory calls may hold | `budget` |
//! | bodies that do not fit one value | `chunks`, `reader`, `spans` |
//! | names of keys | `keys` |
//! | lock tokens, and what a holder leaves | `lock` |
//! | scripts | `script` |
//! | the fleet's purges | `journal` |
//! | what went wrong, in numbers and in words | `counters`, `trouble` |
//!
//! Every command names one key or keys of one slot, and no reply is an array: the library reads the
//! content of arrays as protocol, so a stored value could take another command's place. The first
//! byte of all we write is never valid UTF-8, for the same reason.
//!
//! Cancelling a call is safe: its command may still take effect. Chunks are written before the record
//! that names them, so a write given up half-way leaves nothing that can be read.

mod authorities;
mod breaker;
mod budget;
mod chunks;
mod client;
mod counters;
mod dial;
mod journal;
mod keys;
mod lock;
mod pipe;
mod pulse;
mod reader;
mod script;
mod settings;
mod spans;
mod trouble;

#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::{Expiration, Key, SetOptions, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

pub use self::authorities::Authorities;
use self::breaker::Breaker;
pub use self::breaker::BreakerState;
use self::client::{Context, Line, Link, Role};
use self::counters::Failure;
pub use self::counters::{CommandObserver, Counters};
pub use self::journal::{Journal, JournalStatus, Told};
use self::keys::Names;
pub use self::lock::{LastWord, LockAttempt, LockToken, Said};
use self::lock::{WORD_LASTS, WORD_LENGTH};
pub use self::reader::{LongReader, PROLONG, Unreadable};
use self::script::{DISCARD, FORGET, RENEW, Script, UNLOCK};
pub use self::settings::{Node, Server, Settings};
use super::record::{self, Compress};
use super::{Record, StoreKey};
use crate::caching::stored::{InStore, StoredBody};
use crate::clock;
use crate::semantics::UnixMillis;

/// Records of one store that may be on their way to Redis at once, so that writes leave room for reads
/// on their connection; more wait for their turn. What bounds their memory is `budget`.
const WRITES_IN_FLIGHT: usize = 64;

/// Chunks of one store that may be on their way from Redis at once: more only wait behind each other on
/// their connection, and waiting there is what the budget of a read is short for. Those that follow wait
/// here.
const CHUNKS_IN_FLIGHT: usize = 4;

/// Longest value that is read or written: the longest head, and a body that is not chunked.
const LONGEST_VALUE: usize = (1 << 20) + record::CHUNK;
/// What a record is taken to be beside its body.
const HEAD: u64 = 2 << 10;
/// Bodies up to this many bytes are encoded on the event loop.
const LIGHT: u64 = 64 << 10;

/// The Redis tier of one worker: one connection for records and locks, with another beside it for reading
/// records where one server is all there is, and from the first long body on one for chunks. They end with the
/// value.
pub struct RedisStore {
    context: Arc<Context>,
    hot: Line,
    bulk: OnceLock<Line>,
    writes_in_flight: Semaphore,
    chunks_in_flight: Semaphore,
    unanswered: AtomicU64,
}

/// What an operator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether there is a connection.
    pub connected: bool,
    /// Whether Redis is asked.
    pub breaker: BreakerState,
    /// Whether Redis is written to: it may refuse writes and still answer reads.
    pub write_breaker: BreakerState,
    /// How long the last answered command took.
    pub last_latency: Option<Duration>,
    /// Where Redis is, without credentials.
    pub address: String,
}

/// What became of a record that was to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Yes,
    /// It is not, for a reason that is counted, or because it may not be.
    No,
    /// It is not: the content that should lie in Redis already does not.
    ContentLost,
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl RedisStore {
    /// Begins to connect, and returns at once, whether Redis is there or not. Must be called on the
    /// runtime of the worker whose store this is.
    #[must_use]
    pub fn connect(
        settings: Arc<Settings>,
        counters: Arc<Counters>,
        observer: Arc<dyn CommandObserver>,
    ) -> Arc<Self> {
        let names = Names::new(&settings.prefix);
        let writes = Breaker::proven(clock::monotonic());
        let context = Arc::new(Context { settings, names, counters, observer, writes });
        let hot = Line::start(Arc::clone(&context), Role::Hot);
        let writes_in_flight = Semaphore::new(WRITES_IN_FLIGHT);
        let chunks_in_flight = Semaphore::new(CHUNKS_IN_FLIGHT);
        let unanswered = AtomicU64::new(0);
        Arc::new(Self { context, hot, bulk: OnceLock::new(), writes_in_flight, chunks_in_flight, unanswered })
    }

    /// Whether Redis is asked at all. One atomic load; when it says no, every other call here says no
    /// at once too.
    #[must_use]
    pub fn usable(&self) -> bool {
        self.hot.usable()
    }

    /// How this store is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            connected: self.hot.connected(),
            breaker: self.hot.breaker().state(),
            write_breaker: self.context.writes.state(),
            last_latency: self.hot.latency(),
            address: self.context.settings.server.to_string(),
        }
    }

    /// The record under a key that is not useless by `now`; verified, its bytes its own. A long body stays
    /// where it is ([`LongReader`] reads it). `None`: there is none, it was refused, or Redis did not say.
    pub async fn get(&self, key: &StoreKey, now: UnixMillis) -> Option<Record> {
        let names = &self.context.names;
        let value = match read_value(&self.hot, "get", |out| names.put_record(key, out)).await {
            Ok(value) => value?,
            Err(failure) => {
                self.unanswered.fetch_add(1, Ordering::Relaxed);
                if failure == Failure::Protocol {
                    self.hot.doubt(names.record(key));
                }
                return None;
            }
        };
        let record = match record::decode(key, &value) {
            Ok(record) => record,
            Err(rejected) => {
                self.context.counters.rejected(rejected.label());
                self.hot.doubt(names.record(key));
                return None;
            }
        };
        (useless_at(&record) > now).then_some(record)
    }

    /// Room for a long body that is put together, as long as it is held; `None` when there is none left.
    #[must_use]
    pub fn room_to_read(&self, length: u64) -> Option<OwnedSemaphorePermit> {
        self.context.counters.reading.take_owned(length)
    }

    /// The whole of a long body, for what cannot be done with less. `None`: it cannot be read.
    pub async fn whole(self: &Arc<Self>, key: &StoreKey, body: InStore) -> Option<Bytes> {
        reader::read_whole(self, key, body).await
    }

    /// Forgets a record whose content is lost, unless it was written anew since it was read.
    pub async fn discard(&self, key: &StoreKey, body: InStore) {
        let (first, last) = record::MARK_AT;
        let offset = |at: usize| Value::Integer(i64::try_from(at).unwrap_or(i64::MAX));
        let mark = Value::Bytes(Bytes::copy_from_slice(&body.mark.to_le_bytes()));
        let arguments = vec![mark, offset(first), offset(last)];
        // Whatever goes wrong, who reads it finds the same, and asks the same.
        let _ = self.script("discard", &DISCARD, self.context.names.record(key), arguments).await;
    }

    /// Writes a record, to be forgotten when it is useless. Longer than a configured body, or useless
    /// already: not written. A long body that lies in Redis already is not sent again: its chunks live
    /// longer. Compression of long bodies leaves the event loop.
    pub async fn put(&self, key: StoreKey, record: Record, now: UnixMillis) -> Written {
        let (context, BodyLengths { here, whole }) = (&self.context, body_lengths(&record));
        if !self.usable() || !context.writes.lets_through() || whole > context.settings.max_object_size {
            return Written::No;
        }
        let Some(ttl) = time_to_live(&record, now, fastrand::f64()) else { return Written::No };
        let kept = kept_body(&record);
        let Some((_held, _turn)) = self.turn_to_write(held_by_write(here)).await else {
            context.counters.failed(Failure::Saturated);
            return Written::No;
        };
        let compress = Compress::Above(context.settings.compress_above);
        let encoded = if here > LIGHT {
            let place = key.clone();
            match tokio::task::spawn_blocking(move || record::encode(&place, &record, compress)).await {
                Ok(encoded) => encoded,
                Err(_) => return Written::No,
            }
        } else {
            record::encode(&key, &record, compress)
        };
        if encoded.record.len() > LONGEST_VALUE {
            context.counters.rejected(record::Rejected::Limit.label());
            return Written::No;
        }
        context.counters.compressed_from_to(encoded.body_len, encoded.stored_len);
        chunks::write(self, &key, encoded, kept, ttl).await
    }

    /// Memory for a write, and then its turn, for which it waits as long as a write may take: what is fetched
    /// in a burst is not to be fetched again by every other proxy.
    async fn turn_to_write(&self, bytes: u64) -> Option<(SemaphorePermit<'_>, SemaphorePermit<'_>)> {
        let held = self.context.counters.writing.take(bytes)?;
        let patience = self.context.settings.write_timeout;
        let turn = tokio::time::timeout(patience, self.writes_in_flight.acquire()).await.ok()?.ok()?;
        Some((held, turn))
    }

    /// The connection for chunks, made when first asked for; until it has worked once, the other one.
    /// After that its failures are its own: what long replies do to a connection is no cure for another.
    fn bulk(&self) -> &Line {
        let bulk = self.bulk.get_or_init(|| Line::start(Arc::clone(&self.context), Role::Bulk));
        if bulk.has_worked() { bulk } else { &self.hot }
    }

    /// Forgets a record. Its lock stays; the chunks of a long body stay until they expire.
    pub async fn remove(&self, key: &StoreKey) {
        unlink(&self.hot, self.context.names.record(key)).await;
    }

    /// Forgets a record as [`Self::remove`] does, and says whether it was there, or is being fetched under
    /// the fleet's lock; `None` where Redis did not say.
    pub async fn forget(&self, key: &StoreKey) -> Option<bool> {
        let names = &self.context.names;
        let keys = [names.record(key), names.lock(key)];
        let script = self.script_of("forget", &FORGET, &keys, &[]);
        script.await.ok().map(|found| found > 0)
    }

    /// Takes the lock of a record for `ttl` (at least a millisecond), unless something lies there. Where no
    /// answer comes in time, Redis is asked once more whose it is.
    pub async fn try_lock(&self, key: &StoreKey, token: &LockToken, ttl: Duration) -> LockAttempt {
        if !self.context.writes.lets_through() {
            return LockAttempt::Unavailable;
        }
        let name = self.context.names.lock(key);
        let (expiry, nx) = (Some(Expiration::PX(millis(ttl))), Some(SetOptions::NX));
        // A client waits for this one: it has the time of a read.
        let asked = self
            .hot
            .run("lock", |link| async move { link.read.set(name, token.value(), expiry, nx, false).await });
        match asked.await {
            Ok(Value::Null) => LockAttempt::Held,
            Ok(_) => LockAttempt::Locked,
            // Redis may have answered, and this event loop been too busy to see it in time.
            Err(Failure::Timeout | Failure::Io) => match self.renew(key, token, ttl).await {
                Some(true) => LockAttempt::Locked,
                Some(false) => LockAttempt::Held,
                None => LockAttempt::Doubtful,
            },
            Err(_) => LockAttempt::Unavailable,
        }
    }

    /// Lets a lock live for another `ttl`, where it is held by `token`, and says whether it is; `None` where
    /// Redis did not say.
    pub async fn renew(&self, key: &StoreKey, token: &LockToken, ttl: Duration) -> Option<bool> {
        let arguments = vec![token.value(), Value::Integer(millis(ttl))];
        let renewed = self.script("renew", &RENEW, self.context.names.lock(key), arguments).await;
        renewed.ok().map(|renewed| renewed == 1)
    }

    /// Gives a lock back, with a word for those who wait where there is one; nothing happens when it is not
    /// held by `token`. False when Redis did not say: the lock then stays until it expires.
    pub async fn unlock(&self, key: &StoreKey, token: &LockToken, word: Option<LastWord>) -> bool {
        let names = &self.context.names;
        let keys = [names.lock(key), names.last_word(key)];
        let said = word.map(|word| [token.saying(word), Value::Integer(WORD_LASTS)]);
        let arguments: Vec<Value> = [token.value()].into_iter().chain(said.into_iter().flatten()).collect();
        self.script_of("unlock", &UNLOCK, &keys, &arguments).await.is_ok()
    }

    /// What the last holder of a lock left for those who wait, a moment ago: `Some(None)` where there is
    /// nothing, `None` where Redis did not say.
    pub async fn last_word(&self, key: &StoreKey) -> Option<Option<Said>> {
        let name = self.context.names.last_word(key);
        // One byte more than there may be: what is longer is not taken for a word.
        let read =
            |link: Arc<Link>| async move { link.read.getrange::<Bytes, _>(name, 0, WORD_LENGTH).await };
        Some(Said::read(&self.hot.run("last_word", read).await.ok()?))
    }

    /// How long a lock lives unless it is renewed.
    #[must_use]
    pub fn lock_ttl(&self) -> Duration {
        self.context.settings.lock_ttl
    }

    /// How many readings of records came to nothing because Redis did not say what there is. Grows only.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.unanswered.load(Ordering::Relaxed)
    }

    /// `SET … PX`, unless Redis is known to take no writes. Values are written in no other way, but for
    /// locks and probes.
    async fn write(
        &self,
        line: &Line,
        command: &'static str,
        name: Key,
        value: Value,
        ttl: i64,
    ) -> Result<Value, Failure> {
        if !self.context.writes.lets_through() {
            return Err(Failure::NotAsked);
        }
        let expiry = Some(Expiration::PX(ttl));
        line.run(command, |link| async move { link.write.set(name, value, expiry, None, false).await }).await
    }

    /// Runs a script on one key.
    async fn script(
        &self,
        command: &'static str,
        script: &'static Script,
        name: Key,
        arguments: Vec<Value>,
    ) -> Result<i64, Failure> {
        self.script_of(command, script, &[name], &arguments).await
    }

    /// The same of several keys, all of one slot.
    async fn script_of(
        &self,
        command: &'static str,
        script: &'static Script,
        keys: &[Key],
        arguments: &[Value],
    ) -> Result<i64, Failure> {
        script
            .run(keys, arguments, |verb, all| {
                self.hot.run(command, |link| async move { link.write.custom::<i64, Value>(verb, all).await })
            })
            .await
    }
}

/// Reads a value. No value of ours is empty, so an empty one is none.
async fn read_value(
    line: &Line,
    command: &'static str,
    put_name: impl Fn(&mut Vec<u8>),
) -> Result<Option<Bytes>, Failure> {
    let value = line.read(command, put_name).await?;
    Ok(Some(value).filter(|value| !value.is_empty()))
}

/// Deletes a value. What cannot be deleted expires.
async fn unlink(line: &Line, name: Key) {
    let _: Result<Value, Failure> =
        line.run("unlink", |link| async move { link.write.unlink(name).await }).await;
}

fn useless_at(record: &Record) -> UnixMillis {
    match record {
        Record::Response(stored) => stored.head.useless_at(),
        Record::Index(index) => index.useless_at(),
        Record::HitForMiss { until } => *until,
    }
}

/// How long the body of a record is, and how much of that is at hand.
struct BodyLengths {
    here: u64,
    whole: u64,
}

fn body_lengths(record: &Record) -> BodyLengths {
    match record {
        Record::Response(stored) => BodyLengths {
            here: stored.body.here().map_or(0, |body| body.len() as u64),
            whole: stored.body.length(),
        },
        Record::Index(_) | Record::HitForMiss { .. } => BodyLengths { here: 0, whole: 0 },
    }
}

/// A body that lies in Redis already.
fn kept_body(record: &Record) -> Option<InStore> {
    match record {
        Record::Response(stored) => match stored.body {
            StoredBody::InStore(body) => Some(body),
            StoredBody::Here(_) => None,
        },
        Record::Index(_) | Record::HitForMiss { .. } => None,
    }
}

/// Bytes that writing a body holds: the body, and what is encoded of it, here and with the library.
const fn held_by_write(length: u64) -> u64 {
    let encoded = if length > record::CHUNK as u64 { 2 * record::CHUNK as u64 } else { length };
    length.saturating_add(2 * (encoded + HEAD))
}

/// Milliseconds a record may lie in Redis: until it is useless, less up to a twentieth (`chance` of it,
/// from 0 to 1), so that what was stored together is not fetched together. `None`: useless already.
fn time_to_live(record: &Record, now: UnixMillis, chance: f64) -> Option<i64> {
    let left = i64::try_from(useless_at(record).since(now)).unwrap_or(i64::MAX).min(LONGEST_TTL);
    #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "at most seven days")]
    let jitter = (left as f64 / 20.0 * chance) as i64;
    (left > 0).then(|| (left - jitter).max(1))
}

/// At least one, and never so many that Redis refuses them.
fn millis(ttl: Duration) -> i64 {
    i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX).clamp(1, LONGEST_TTL)
}

/// Nothing stays longer, in milliseconds: seven days.
const LONGEST_TTL: i64 = 7 * 24 * 3_600_000;
