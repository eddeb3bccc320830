//! Long bodies: several values, named by the record that is their commit.
//!
//! Decides the order of writing (chunks, then the record) and of reading (two at a time). Never
//! touches: what a chunk's bytes are; `store::record` makes and verifies them.
//!
//! Chunks are named by their content: a record that was validated is written anew, and its chunks only
//! live longer.
//!
//! One long reply would hold up every other on its connection, so a body travels in pieces, on a
//! connection that only pieces use. A piece that is missing or refused makes the whole record a miss.

use std::future::{Future, poll_fn};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use fred::interfaces::KeysInterface;

use super::client::Link;
use super::counters::Failure;
use super::{RedisStore, read_value, unlink};
use crate::clock;
use crate::store::record::{self, Chunked, Encoded, LongBody};
use crate::store::{Record, StoreKey};

/// A chunk outlives its record by this many milliseconds: whoever has read the record can still read
/// the body.
const OUTLIVES: i64 = 120_000;
/// No piece is asked for when a body has taken this many times the budget of one read.
const BUDGETS: u32 = 8;
/// What is in hand beside the body that is put together.
const IN_HAND: u64 = 2 * record::CHUNK as u64;
/// Chunks whose time is extended at once.
const TOGETHER: u32 = 16;
/// Counted where a chunk is not there.
const MISSING: &str = "chunk_missing";

/// Reads the body of a record. `None`: something was missing or refused, or took too long; counted.
pub(super) async fn read(store: &RedisStore, key: &StoreKey, record: Chunked) -> Option<Record> {
    let (settings, counters) = (&store.context.settings, &store.context.counters);
    if record.body_len > settings.max_object_size {
        counters.rejected(record::Rejected::Limit.label());
        return None;
    }
    let Some(_held) = counters.reading.take(record.body_len.saturating_add(IN_HAND)) else {
        counters.failed(Failure::Saturated);
        return None;
    };
    let deadline = clock::monotonic() + settings.read_timeout.saturating_mul(BUDGETS);
    let body = read_all(store, key, &record, deadline).await?;
    match record.assemble(body) {
        Ok(record) => Some(record),
        Err(rejected) => {
            counters.rejected(rejected.label());
            None
        }
    }
}

/// The content of all chunks. `deadline` is for asking, not for answers: each command has its own budget.
/// One that were cancelled from outside would still be sent, and neither the breaker nor the bound on
/// commands would know.
pub(super) async fn read_all(
    store: &RedisStore,
    key: &StoreKey,
    record: &Chunked,
    deadline: Instant,
) -> Option<Bytes> {
    let mut body = BytesMut::new();
    let mut number = 0;
    while number < record.chunks {
        if clock::monotonic() >= deadline {
            store.context.counters.failed(Failure::Timeout);
            return None;
        }
        let (one, two) = tokio::join!(read_one(store, key, record, number), async {
            match number + 1 {
                next if next < record.chunks => read_one(store, key, record, next).await.map(Some),
                _ => Some(None),
            }
        });
        let pair = [Some(one?), two?];
        if number == 0 {
            // Once, at its final size, and not before two chunks prove that there is such a body.
            body.reserve(usize::try_from(record.body_len).ok()?);
        }
        pair.iter().flatten().for_each(|chunk| body.extend_from_slice(chunk));
        number += 2;
    }
    Some(body.freeze())
}

async fn read_one(store: &RedisStore, key: &StoreKey, record: &Chunked, number: u32) -> Option<Bytes> {
    let (line, counters) = (store.bulk(), &store.context.counters);
    let name = store.context.names.chunk(key, &record.content_id, number);
    match read_value(line, "get_chunk", name.clone()).await {
        Ok(None) => counters.rejected(MISSING),
        Ok(Some(value)) => match record::decode_chunk(record, number, value) {
            Ok(content) => return Some(content),
            Err(rejected) => counters.rejected(rejected.label()),
        },
        Err(Failure::WrongType) => {}
        Err(_) => return None,
    }
    // Chunks that are there are not written again: what is none, an empty value too, must not stay in
    // the place of one.
    unlink(line, name).await;
    None
}

/// Writes the chunks and then the record that commits them, or gives up with nothing committed.
pub(super) async fn write(store: &RedisStore, key: &StoreKey, encoded: Encoded, ttl: i64) {
    if let Some(body) = encoded.long_body
        && !write_body(store, key, body, ttl + OUTLIVES).await
    {
        return;
    }
    let name = store.context.names.record(key);
    // A record that is not written is a miss for the fleet; the failure is counted.
    let _ = store.write(&store.hot, "set", name, encoded.record.into(), ttl).await;
}

/// Sees to it that all chunks are there for `ttl`; only those that are not are sent. False: given up.
async fn write_body(store: &RedisStore, key: &StoreKey, body: LongBody, ttl: i64) -> bool {
    let Some(missing) = extend(store, key, &body, ttl).await else { return false };
    let body = Arc::new(body);
    for pair in missing.chunks(2) {
        let (pair, source): (Vec<u32>, _) = (pair.to_vec(), Arc::clone(&body));
        let encode =
            move || pair.into_iter().map(|n| Some((n, source.chunk(n)?))).collect::<Option<Vec<_>>>();
        let Ok(Some(pair)) = tokio::task::spawn_blocking(encode).await else { return false };
        let written = all(pair.into_iter().map(|(number, chunk)| {
            store.context.counters.compressed_from_to(chunk.len, chunk.stored_len);
            let name = store.context.names.chunk(key, &body.content_id, number);
            store.write(store.bulk(), "set_chunk", name, chunk.bytes.into(), ttl)
        }));
        if !written.await.iter().all(Result::is_ok) {
            return false;
        }
    }
    true
}

/// Lets the chunks that are there live for `ttl`; returns the others. `None`: Redis did not say.
///
/// A body whose first chunk is not there is new: no more is asked of it.
async fn extend(store: &RedisStore, key: &StoreKey, body: &LongBody, ttl: i64) -> Option<Vec<u32>> {
    let extend_one = |number: u32| async move {
        if !store.context.writes.lets_through() {
            return None;
        }
        let name = store.context.names.chunk(key, &body.content_id, number);
        let call = |link: Arc<Link>| async move { link.write.pexpire::<i64, _>(name, ttl, None).await };
        let extended = store.bulk().run("extend_chunk", call).await.ok()? == 1;
        Some((!extended).then_some(number))
    };
    if extend_one(0).await?.is_some() {
        return Some((0..body.chunks()).collect());
    }
    let mut missing = Vec::new();
    let mut from = 1;
    while from < body.chunks() {
        let to = body.chunks().min(from.saturating_add(TOGETHER));
        for answer in all((from..to).map(extend_one)).await {
            missing.extend(answer?);
        }
        from = to;
    }
    Some(missing)
}

/// What all of a few futures come to, in their order.
pub(super) async fn all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pending: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    poll_fn(|context| {
        let mut ready = true;
        for (future, output) in pending.iter_mut().filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => ready = false,
            }
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    pending.into_iter().filter_map(|(_, output)| output).collect()
}
