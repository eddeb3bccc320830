//! The store contract: records under keys, in the memory tier and in Redis.
//!
//! Stores know keys, bytes, stamps and expiry; never freshness, requests or configuration files.
//! A store that fails is a store that has nothing: every error is a miss, counted.

pub mod journal;
pub mod memory;
pub mod purges;
pub mod record;
pub mod redis;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::caching::stored::StoredResponse;
use crate::caching::vary::{VariantHash, VaryIndex};
use crate::semantics::UnixMillis;

/// Where a record lives: a primary key, and the variant (`None` = the primary record itself).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoreKey {
    /// xxh3-128 of the primary key's text.
    pub primary: u128,
    /// `None` for the primary record, which is a response that does not vary or a [`VaryIndex`].
    pub variant: Option<VariantHash>,
    /// The primary key's text: echoed in the record, compared at every read.
    pub text: Bytes,
}

/// What a key holds.
#[derive(Clone, Debug)]
pub enum Record {
    /// A stored response.
    Response(Arc<StoredResponse>),
    /// The variants of this primary key.
    Index(Arc<VaryIndex>),
    /// The answer to this key may not be shared: until then, nobody queues for it (hit-for-miss).
    HitForMiss {
        /// When the marker is to be forgotten.
        until: UnixMillis,
    },
}

/// Which tier answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tier {
    /// The in-process memory tier.
    Memory,
    /// The Redis tier.
    Redis,
}

impl Tier {
    /// Its name in metrics, logs and `Cache-Status` details.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Redis => "redis",
        }
    }
}

/// Whole values are put in place under these locks: what a panicking thread left is sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A copy that keeps nothing else alive: `bytes` may be a small slice of a large read buffer.
#[must_use]
pub fn exact(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}
