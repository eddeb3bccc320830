//! The fleet lock's token, outcomes and scripts.
//!
//! Decides: what a lock's value is, and that only its owner changes it. Never touches: when a lock
//! is wanted and for how long. A lock that is lost costs a second fetch, nothing more: stamps keep
//! stale writes out.

use std::sync::LazyLock;

use bytes::Bytes;
use fred::types::Value;
use fred::util::sha1_hash;

/// First byte of everything we write: never valid UTF-8, so that no reply is read as text.
pub(super) const MAGIC: u8 = 0xFB;

/// Who holds a lock: 128 random bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockToken([u8; 16]);

impl LockToken {
    /// A token of its own.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u128(..).to_le_bytes())
    }

    /// The value of a lock that this token holds.
    pub(super) fn value(self) -> Value {
        let mut value = [MAGIC; 17];
        value[1..].copy_from_slice(&self.0);
        Value::Bytes(Bytes::copy_from_slice(&value))
    }
}

/// What became of asking for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAttempt {
    /// It is ours until its time is over.
    Locked,
    /// Something else lies there.
    Held,
    /// Redis did not say; there is no lock.
    Unavailable,
}

/// A script that answers an integer, and the hash Redis knows it by.
pub(super) struct Script {
    pub(super) text: &'static str,
    pub(super) hash: String,
}

/// Deletes `KEYS[1]` if it holds `ARGV[1]`. A value of another type is not ours.
pub(super) static UNLOCK: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GET',KEYS[1])==ARGV[1] then return redis.call('UNLINK',KEYS[1]) else return 0 end",
    )
});

/// Lets `KEYS[1]` live for another `ARGV[2]` milliseconds if it holds `ARGV[1]`.
pub(super) static RENEW: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "if redis.pcall('GET',KEYS[1])==ARGV[1] then return redis.call('PEXPIRE',KEYS[1],ARGV[2]) else return 0 end",
    )
});

impl Script {
    fn new(text: &'static str) -> Self {
        Self { text, hash: sha1_hash(text) }
    }
}
