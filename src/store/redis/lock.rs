//! The fleet lock's token, its outcomes, and the last word of who held it.
//!
//! Decides: what the values of a lock and of a last word are, and that only its owner changes a lock. Never touches: when a lock
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

    /// Its holder's last word.
    #[cfg(test)]
    pub(crate) const fn said(self, word: LastWord) -> Said {
        Said { by: self, word }
    }

    /// The value of its holder's last word.
    pub(super) fn saying(self, word: LastWord) -> Value {
        let mut value = [MAGIC; WORD_LENGTH];
        value[1..17].copy_from_slice(&self.0);
        value[17] = match word {
            LastWord::Alone => ALONE,
            LastWord::Failed => FAILED,
        };
        Value::Bytes(Bytes::copy_from_slice(&value))
    }
}

/// What is left beside a lock by a holder that has nothing to share, for those who waited for it. Without
/// it they would take the lock and ask the origin one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastWord {
    /// The answer may not be shared: each request fetches for itself.
    Alone,
    /// The origin could not answer. It may well answer another proxy, so nobody is given the failure; but
    /// nobody waits for another's attempt either.
    Failed,
}

/// A last word, and whose it is: no two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    by: LockToken,
    /// What was said.
    pub word: LastWord,
}

impl Said {
    /// Reads a value; anything but a last word is none.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        let value: &[u8; WORD_LENGTH] = value.try_into().ok()?;
        let (magic, rest) = value.split_first()?;
        let (by, word) = rest.split_first_chunk()?;
        let word = match word {
            [ALONE] => LastWord::Alone,
            [FAILED] => LastWord::Failed,
            _ => return None,
        };
        (*magic == MAGIC).then_some(Self { by: LockToken(*by), word })
    }
}

/// How long a last word is heard, in milliseconds: two looks of whoever waits, be it a renewal that looks once a
/// second.
pub(super) const WORD_LASTS: i64 = 3_000;
/// Its length.
pub(super) const WORD_LENGTH: usize = 18;
const ALONE: u8 = 1;
const FAILED: u8 = 2;

/// What became of asking for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockAttempt {
    /// It is ours until its time is over.
    Locked,
    /// It is not ours: something else lies there, or the asking got lost on its way.
    Held,
    /// Redis was not asked, or refused; there is no lock.
    Unavailable,
    /// Redis did not say: it may be ours, and nobody is to rely on it.
    Doubtful,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_word_is_read_as_it_was_said_and_nothing_else_is_one() {
        let token = LockToken::random();
        for word in [LastWord::Alone, LastWord::Failed] {
            let value = token.saying(word).into_bytes().expect("bytes");
            assert_eq!(Said::read(&value), Some(Said { by: token, word }));
            assert_eq!(Said::read(&value[1..]), None);
            for (at, byte) in [(0, 0), (17, 0), (17, 3)] {
                let mut other = value.to_vec();
                other[at] = byte;
                assert_eq!(Said::read(&other), None, "{at}");
            }
        }
        let lock = token.value().into_bytes().expect("bytes");
        assert_eq!(Said::read(&lock), None);
        assert_eq!(Said::read(b""), None);
    }
}
