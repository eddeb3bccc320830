//! Long bodies: several values, named by the record that is their commit.
//!
//! Decides the order of writing (chunks, then the record) and of reading (two at a time). Never
//! touches: what a chunk's bytes are; `store::record` makes and verifies them.
//!
//! One long reply would hold up every other on its connection, so a body travels in pieces, on a
//! connection that only pieces use. A piece that is missing or refused makes the whole record a miss.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::counters::Failure;
use super::{RedisStore, read_value};
use crate::store::record::{self, Chunked, Encoded};
use crate::store::{Record, StoreKey};

/// A chunk outlives its record by this many milliseconds: whoever has read the record can still read
/// the body.
const OUTLIVES: i64 = 120_000;
/// A body has this many times the budget of one read, however many pieces it is in.
const BUDGETS: u32 = 8;
/// Counted where a chunk is not there.
const MISSING: &str = "chunk_missing";

/// Reads the body of a record. `None`: something was missing or refused, or took too long; counted.
pub(super) async fn read(store: &RedisStore, key: &StoreKey, record: Chunked) -> Option<Record> {
    let (settings, counters) = (&store.context.settings, &store.context.counters);
    if record.body_len > settings.max_object_size {
        counters.rejected(record::Rejected::Limit.label());
        return None;
    }
    let budget: Duration = settings.read_timeout.saturating_mul(BUDGETS);
    let Ok(content) = timeout(budget, read_all(store, key, &record)).await else {
        counters.failed(Failure::Timeout);
        return None;
    };
    match record.assemble(&content?) {
        Ok(record) => Some(record),
        Err(rejected) => {
            counters.rejected(rejected.label());
            None
        }
    }
}

async fn read_all(store: &RedisStore, key: &StoreKey, record: &Chunked) -> Option<Vec<Bytes>> {
    let mut content = Vec::new();
    let mut number = 0;
    while number < record.chunks {
        let (one, two) = tokio::join!(read_one(store, key, record, number), async {
            match number + 1 {
                next if next < record.chunks => read_one(store, key, record, next).await.map(Some),
                _ => Some(None),
            }
        });
        content.push(one?);
        content.extend(two?);
        number += 2;
    }
    Some(content)
}

async fn read_one(store: &RedisStore, key: &StoreKey, record: &Chunked, number: u32) -> Option<Bytes> {
    let name = store.context.names.chunk(key, &record.content_id, number);
    let value = read_value(store.bulk(), "get_chunk", name).await.ok()?;
    let refused = match value {
        None => MISSING,
        Some(value) => match record::decode_chunk(record, number, value) {
            Ok(content) => return Some(content),
            Err(rejected) => rejected.label(),
        },
    };
    store.context.counters.rejected(refused);
    None
}

/// Writes the chunks and then the record that commits them, or gives up with nothing committed.
pub(super) async fn write(store: &RedisStore, key: &StoreKey, encoded: Encoded, ttl: i64) {
    let names = &store.context.names;
    for (at, pair) in encoded.chunks.chunks(2).enumerate() {
        let write_one = |beside: u32| {
            let number = u32::try_from(at).unwrap_or(u32::MAX).saturating_mul(2).saturating_add(beside);
            let name = names.chunk(key, &encoded.content_id, number);
            let chunk = pair.get(beside as usize).cloned();
            async move {
                let Some(chunk) = chunk else { return true };
                store.write(store.bulk(), "set_chunk", name, chunk.into(), ttl + OUTLIVES, None).await.is_ok()
            }
        };
        if tokio::join!(write_one(0), write_one(1)) != (true, true) {
            return;
        }
    }
    let name = names.record(key);
    // A record that is not written is a miss for the fleet; the failure is counted.
    let _ = store.write(&store.hot, "set", name, encoded.record.into(), ttl, None).await;
}
