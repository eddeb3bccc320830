//! The fleet lock's token and outcomes.
//!
//! Decides: what a lock's value is, and that only its owner changes it. Never touches: when a lock
//! is wanted and for how long. A lock that is lost costs a second fetch, nothing more: stamps keep
//! stale writes out.

use bytes::Bytes;
use fred::types::Value;

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
    /// Redis was not asked, or refused; there is no lock.
    Unavailable,
    /// Redis did not say: it may be ours, and nobody is to rely on it.
    Doubtful,
}
