//! What went wrong and how often, by a closed list of kinds.
//!
//! Decides which kind an error is, and what it says about Redis. Never touches: metrics libraries;
//! whoever publishes these numbers reads them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fred::error::{Error, ErrorKind};

use super::breaker::Ended;
use super::budget::Budget;
use super::trouble::Trouble;

/// Told of every command that was sent, however it ended. Called on the event loop: it must not block.
pub trait CommandObserver: Send + Sync {
    /// `command` is one of a closed list (`get`, `set`, `unlink`, `lock`, `renew`, `unlock`, `last_word`,
    /// `get_chunk`, `set_chunk`, `extend_chunk`, `forget`, `discard`, `journal_look`, `journal_page`, `journal_read`,
    /// which waits, and `journal_tell`).
    fn observe(&self, command: &'static str, took: Duration);
}

/// Why a command gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer in time.
    Timeout,
    /// The connection failed, or there is none.
    Io,
    /// The answer was not what the protocol promises.
    Protocol,
    /// Redis is loading, or runs a script.
    Busy,
    /// Redis has no memory left.
    OutOfMemory,
    /// Redis takes no writes: it is a replica, or cannot persist.
    ReadOnly,
    /// What lies under the key is not a string.
    WrongType,
    /// Too many commands or too many bytes of ours are under way.
    Saturated,
    /// The breaker is open: Redis was not asked.
    NotAsked,
    /// Redis does not know the script. Part of how scripts are called: never counted.
    NoScript,
    /// Another server of the cluster is to be asked.
    Redirected,
    /// Our user may not send this command, or touch this key: others may well be answered.
    NotPermitted,
    /// Anything else that Redis refuses (authentication, a setting of ours).
    Other,
}

impl Failure {
    /// The counted kinds; [`Self::slot`] of each is its place here.
    const LABELS: [&'static str; 11] = [
        "timeout",
        "io",
        "protocol",
        "busy",
        "oom",
        "readonly",
        "wrong_type",
        "saturated",
        "noperm",
        "redirected",
        "other",
    ];

    pub(super) fn of(error: &Error) -> Self {
        match error.kind() {
            ErrorKind::Timeout => return Self::Timeout,
            ErrorKind::IO | ErrorKind::Canceled | ErrorKind::Tls => return Self::Io,
            ErrorKind::Protocol | ErrorKind::Parse => return Self::Protocol,
            // In the library's words: a redirection that it was told not to follow.
            ErrorKind::Routing if error.details().starts_with("Too many redirections") => {
                return Self::Redirected;
            }
            _ => {}
        }
        match error.details().split(' ').next() {
            Some("OOM") => Self::OutOfMemory,
            Some("READONLY" | "MISCONF" | "NOREPLICAS") => Self::ReadOnly,
            Some("BUSY" | "LOADING" | "MASTERDOWN") => Self::Busy,
            Some("WRONGTYPE") => Self::WrongType,
            Some("NOSCRIPT") => Self::NoScript,
            Some("NOPERM") => Self::NotPermitted,
            _ => Self::Other,
        }
    }

    /// What it says about the connection; `None`: that there is none.
    pub(super) const fn ended(self) -> Option<Ended> {
        match self {
            Self::Io => None,
            Self::Timeout => Some(Ended::TimedOut),
            Self::Protocol | Self::Busy | Self::Other => Some(Ended::Failed),
            Self::OutOfMemory
            | Self::ReadOnly
            | Self::WrongType
            | Self::Saturated
            | Self::NotAsked
            | Self::NoScript
            | Self::Redirected
            | Self::NotPermitted => Some(Ended::Answered),
        }
    }

    /// Whether it says that Redis takes no writes.
    pub(super) const fn refuses_writes(self) -> bool {
        matches!(self, Self::OutOfMemory | Self::ReadOnly)
    }

    const fn slot(self) -> Option<usize> {
        Some(match self {
            Self::Timeout => 0,
            Self::Io => 1,
            Self::Protocol => 2,
            Self::Busy => 3,
            Self::OutOfMemory => 4,
            Self::ReadOnly => 5,
            Self::WrongType => 6,
            Self::Saturated => 7,
            Self::NotPermitted => 8,
            Self::Redirected => 9,
            Self::Other => 10,
            Self::NotAsked | Self::NoScript => return None,
        })
    }
}

/// What the workers' stores of one process share: counts, the memory that their calls may hold, and what
/// is wrong.
#[derive(Debug, Default)]
pub struct Counters {
    commands: AtomicU64,
    failures: [AtomicU64; Failure::LABELS.len()],
    /// By label, in the order of first sight. Locked only when a record is refused, and to be read.
    rejected: Mutex<Vec<(&'static str, u64)>>,
    compressed_before: AtomicU64,
    compressed_after: AtomicU64,
    /// For records on their way to Redis.
    pub(super) writing: Budget,
    /// For long bodies that are put together.
    pub(super) reading: Budget,
    /// For those that are read ahead of their clients: a slow one keeps its part for long.
    pub(super) streaming: Budget,
    /// What is wrong, if anything.
    pub(super) trouble: Trouble,
}

impl Counters {
    /// Commands sent.
    #[must_use]
    pub fn commands(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// Failures and refused records by kind: every kind of failure, and what was refused so far.
    #[must_use]
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        let failures = self.failures.iter().map(|count| count.load(Ordering::Relaxed));
        let mut errors: Vec<_> = Failure::LABELS.into_iter().zip(failures).collect();
        errors.extend_from_slice(&self.rejected.lock().unwrap_or_else(PoisonError::into_inner));
        errors
    }

    /// Why Redis cannot be used as it should be, in words without credentials; `None`: nothing was wrong in
    /// the last minute.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.trouble.now()
    }

    /// Bytes of bodies that were compressed, before and after.
    #[must_use]
    pub fn compressed(&self) -> (u64, u64) {
        (self.compressed_before.load(Ordering::Relaxed), self.compressed_after.load(Ordering::Relaxed))
    }

    pub(super) fn sent(&self) {
        self.commands.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, failure: Failure) {
        if let Some(count) = failure.slot().and_then(|slot| self.failures.get(slot)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn rejected(&self, label: &'static str) {
        let mut rejected = self.rejected.lock().unwrap_or_else(PoisonError::into_inner);
        match rejected.iter_mut().find(|(known, _)| *known == label) {
            Some((_, count)) => *count += 1,
            None => rejected.push((label, 1)),
        }
    }

    /// Counts nothing where nothing was saved.
    pub(super) fn compressed_from_to(&self, before: u64, after: u64) {
        if after >= before {
            return;
        }
        self.compressed_before.fetch_add(before, Ordering::Relaxed);
        self.compressed_after.fetch_add(after, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_kinds() {
        for (kind, details, expected) in [
            (ErrorKind::Timeout, "Request timed out.", Failure::Timeout),
            (ErrorKind::IO, "OOM", Failure::Io),
            (ErrorKind::Canceled, "Canceled.", Failure::Io),
            (ErrorKind::Parse, "Could not convert to bytes.", Failure::Protocol),
            (
                ErrorKind::Unknown,
                "OOM command not allowed when used memory > 'maxmemory'.",
                Failure::OutOfMemory,
            ),
            (ErrorKind::Unknown, "READONLY You can't write against a read only replica.", Failure::ReadOnly),
            (ErrorKind::Unknown, "MISCONF Redis is configured to save RDB snapshots", Failure::ReadOnly),
            (ErrorKind::Unknown, "LOADING Redis is loading the dataset in memory", Failure::Busy),
            (ErrorKind::Unknown, "BUSY Redis is busy running a script.", Failure::Busy),
            (ErrorKind::InvalidArgument, "WRONGTYPE Operation against a key", Failure::WrongType),
            (ErrorKind::Unknown, "NOSCRIPT No matching script.", Failure::NoScript),
            (ErrorKind::Unknown, "NOPERM User a has no permissions to run", Failure::NotPermitted),
            (ErrorKind::Routing, "Too many redirections.", Failure::Redirected),
            (ErrorKind::Routing, "Failed to find server.", Failure::Other),
            (ErrorKind::Auth, "NOAUTH Authentication required.", Failure::Other),
            (ErrorKind::Unknown, "", Failure::Other),
            (ErrorKind::Unknown, "OOMPH", Failure::Other),
        ] {
            assert_eq!(Failure::of(&Error::new(kind, details)), expected, "{details}");
        }
    }

    #[test]
    fn counts_have_labels() {
        let counters = Counters::default();
        assert_eq!(counters.errors().len(), Failure::LABELS.len());
        for (times, failure) in [(1, Failure::Timeout), (2, Failure::OutOfMemory), (3, Failure::Other)] {
            (0..times).for_each(|_| counters.failed(failure));
        }
        counters.failed(Failure::NoScript);
        counters.failed(Failure::NotAsked);
        counters.rejected("checksum");
        counters.rejected("checksum");
        let errors: Vec<_> = counters.errors().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(errors, [("timeout", 1), ("oom", 2), ("other", 3), ("checksum", 2)]);
    }
}
