//! Long bodies: several values, named by the record that is their commit.
//!
//! Decides the order of writing: chunks, then the record. Never touches: what a chunk's bytes are;
//! `store::record` makes and verifies them, `reader` reads them.
//!
//! Chunks are named by their content: a record that was validated is written anew, and its chunks only
//! live longer.
//!
//! One long reply would hold up every other on its connection, so a body travels in pieces, on a
//! connection that only pieces use.

use std::future::{Future, poll_fn};
use std::ops::Range;
use std::sync::Arc;
use std::task::Poll;

use fred::interfaces::KeysInterface;
use fred::types::ExpireOptions;

use super::client::Link;
use super::{RedisStore, Written};
use crate::caching::stored::InStore;
use crate::store::StoreKey;
use crate::store::record::{self, ContentId, Encoded, LongBody};

/// A chunk outlives its record by this many milliseconds: whoever has read the record can still read
/// the body.
const OUTLIVES: i64 = 120_000;
/// Chunks whose time is extended at once.
const TOGETHER: u32 = 16;
/// The name of the command that reads one.
pub(super) const GET: &str = "get_chunk";

/// Writes the chunks and then the record that commits them, or gives up with nothing committed. `kept` is
/// a body whose chunks should be there: they only live longer.
pub(super) async fn write(
    store: &RedisStore,
    key: &StoreKey,
    encoded: Encoded,
    kept: Option<InStore>,
    ttl: i64,
) -> Written {
    if let Some(body) = encoded.long_body
        && !write_body(store, key, body, ttl + OUTLIVES).await
    {
        return Written::No;
    }
    if let Some(InStore { length, id, mark: _ }) = kept {
        match extend(store, key, &id, 0..record::chunks_of(length), ttl + OUTLIVES).await {
            Some(missing) if missing.is_empty() => {}
            Some(_) => return Written::ContentLost,
            None => return Written::No,
        }
    }
    let name = store.context.names.record(key);
    // A record that is not written is a miss for the fleet; the failure is counted.
    let written = store.write(&store.hot, "set", name, encoded.record.into(), ttl).await;
    if written.is_ok() { Written::Yes } else { Written::No }
}

/// Sees to it that all chunks are there for `ttl`; only those that are not are sent. False: given up.
async fn write_body(store: &RedisStore, key: &StoreKey, body: LongBody, ttl: i64) -> bool {
    // A body whose first chunk is not there is new: no more is asked of it.
    let (id, end) = (&body.content_id, body.chunks());
    let Some(mut missing) = extend(store, key, id, 0..1, ttl).await else { return false };
    let rest =
        if missing.is_empty() { extend(store, key, id, 1..end, ttl).await } else { Some((1..end).collect()) };
    let Some(rest) = rest else { return false };
    missing.extend(rest);
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

/// Lets the chunks of `numbers` live for as long as they outlive a record; those that live longer, as they do.
pub(super) async fn keep_alive(
    store: &RedisStore,
    key: &StoreKey,
    id: &ContentId,
    numbers: Range<u32>,
) -> Option<Vec<u32>> {
    extend_by(store, key, id, numbers, (OUTLIVES, Some(ExpireOptions::GT))).await
}

/// Lets the chunks of `numbers` that are there live for `ttl`; returns the others. `None`: Redis did not say.
async fn extend(
    store: &RedisStore,
    key: &StoreKey,
    id: &ContentId,
    numbers: Range<u32>,
    ttl: i64,
) -> Option<Vec<u32>> {
    extend_by(store, key, id, numbers, (ttl, None)).await
}

async fn extend_by(
    store: &RedisStore,
    key: &StoreKey,
    id: &ContentId,
    numbers: Range<u32>,
    (ttl, which): (i64, Option<ExpireOptions>),
) -> Option<Vec<u32>> {
    let which = &which;
    let extend_one = |number: u32| async move {
        if !store.context.writes.lets_through() {
            return None;
        }
        let name = store.context.names.chunk(key, id, number);
        let which = which.clone();
        let call = |link: Arc<Link>| async move { link.write.pexpire::<i64, _>(name, ttl, which).await };
        let extended = store.bulk().run("extend_chunk", call).await.ok()? == 1;
        Some((!extended).then_some(number))
    };
    let mut missing = Vec::new();
    let mut from = numbers.start;
    while from < numbers.end {
        let to = numbers.end.min(from.saturating_add(TOGETHER));
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
