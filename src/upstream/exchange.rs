//! One request and its answer on a connection, as seen from the three tasks that share it.
//!
//! The *lease* (in the request's task) begins an exchange and judges at its end whether the connection
//! is clean; the *gate* (in the connection's task) hears the answer's bytes; the *sent body* (in the
//! connection's task too) knows how far the upload is. Decides nothing: it is what they tell each other.
//! Plain atomics on the way that every request takes, a lock on the way that only failures take.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Acquire, Ordering::Release};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::UpstreamError;
use crate::clock;
use crate::wire::Awaited;

/// How far the request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upload {
    /// All of it went to the engine, then.
    Ended(Instant),
    /// The next bytes have to come from the client: whatever time passes is not the origin's.
    WithClient,
    /// Bytes were handed over then, and no more were asked for since: the origin has to take them.
    WithOrigin(Instant),
    /// It failed: nothing more will come.
    Broken,
}

/// Shared by lease, gate and sent body; lives as long as the connection.
#[derive(Debug)]
pub(super) struct Exchange {
    epoch: Instant,
    /// Number of the exchange, shifted by two, and what is [`Awaited`]; 0 before the first.
    awaited: AtomicU64,
    /// Microseconds since `epoch`, shifted by two, and which [`Upload`].
    upload: AtomicU64,
    /// Whether a byte of this exchange's answer was read.
    heard: AtomicBool,
    /// Bytes came that belong to no answer: nothing on this connection can be trusted any more.
    poisoned: AtomicBool,
    /// The first failure that the engine cannot tell from others.
    fault: Mutex<Option<UpstreamError>>,
}

const HEAD: u64 = 1;
const UPGRADE: u64 = 2;

const ENDED: u64 = 0;
const WITH_CLIENT: u64 = 1;
const WITH_ORIGIN: u64 = 2;
const BROKEN: u64 = 3;

impl Exchange {
    pub(super) fn new() -> Self {
        Self {
            epoch: clock::monotonic(),
            awaited: AtomicU64::new(0),
            upload: AtomicU64::new(ENDED),
            heard: AtomicBool::new(false),
            poisoned: AtomicBool::new(false),
            fault: Mutex::new(None),
        }
    }

    /// The next exchange begins at `now`; to be called before its request is handed to the engine.
    pub(super) fn begin(&self, awaited: Awaited, has_body: bool, now: Instant) {
        self.heard.store(false, Release);
        self.set_upload(if has_body { Upload::WithOrigin(now) } else { Upload::Ended(now) });
        let number = (self.awaited.load(Acquire) >> 2).wrapping_add(1);
        let flags = if awaited.head { HEAD } else { 0 } | if awaited.upgrade { UPGRADE } else { 0 };
        self.awaited.store((number << 2) | flags, Release);
    }

    /// The number of the exchange that was begun last, 0 for none, and what it awaits.
    pub(super) fn current(&self) -> (u64, Awaited) {
        let packed = self.awaited.load(Acquire);
        (packed >> 2, Awaited { head: packed & HEAD != 0, upgrade: packed & UPGRADE != 0 })
    }

    pub(super) fn set_upload(&self, upload: Upload) {
        let (state, at) = match upload {
            Upload::Ended(at) => (ENDED, at),
            Upload::WithClient => (WITH_CLIENT, self.epoch),
            Upload::WithOrigin(at) => (WITH_ORIGIN, at),
            Upload::Broken => (BROKEN, self.epoch),
        };
        let micros =
            u64::try_from(at.saturating_duration_since(self.epoch).as_micros()).unwrap_or(u64::MAX >> 2);
        self.upload.store((micros << 2) | state, Release);
    }

    pub(super) fn upload(&self) -> Upload {
        let packed = self.upload.load(Acquire);
        let at = self.epoch + Duration::from_micros(packed >> 2);
        match packed & 3 {
            ENDED => Upload::Ended(at),
            WITH_CLIENT => Upload::WithClient,
            WITH_ORIGIN => Upload::WithOrigin(at),
            _ => Upload::Broken,
        }
    }

    /// Since when the origin alone has been waited for; `None` while the client's bytes are.
    pub(super) fn waiting_for_origin_since(&self) -> Option<Instant> {
        match self.upload() {
            Upload::Ended(at) | Upload::WithOrigin(at) => Some(at),
            // What broke is reported by the engine: no clock runs meanwhile.
            Upload::WithClient | Upload::Broken => None,
        }
    }

    pub(super) fn hear(&self) {
        self.heard.store(true, Release);
    }

    pub(super) fn was_heard(&self) -> bool {
        self.heard.load(Acquire)
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(true, Release);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Acquire)
    }

    /// Whose fault a failure of the engine will be; the first one counts.
    pub(super) fn blame(&self, error: UpstreamError) {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
    }

    /// The failure behind what the engine reported.
    pub(super) fn explain(&self, error: hyper::Error) -> UpstreamError {
        let known = self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.unwrap_or_else(|| UpstreamError::from_hyper(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_is_told_from_the_one_before() {
        let exchange = Exchange::new();
        assert_eq!(exchange.current(), (0, Awaited::default()));
        let awaited = Awaited { head: true, upgrade: false };
        exchange.begin(awaited, false, clock::monotonic());
        assert_eq!(exchange.current(), (1, awaited));
        exchange.hear();
        let awaited = Awaited { head: false, upgrade: true };
        exchange.begin(awaited, true, clock::monotonic());
        assert_eq!(exchange.current(), (2, awaited));
        assert!(!exchange.was_heard());
    }

    #[test]
    fn time_with_the_client_is_not_the_origins() {
        let exchange = Exchange::new();
        let at = exchange.epoch + Duration::from_millis(1500);
        exchange.begin(Awaited::default(), true, at);
        assert_eq!(exchange.upload(), Upload::WithOrigin(at));
        exchange.set_upload(Upload::WithClient);
        assert_eq!(exchange.waiting_for_origin_since(), None);
        exchange.set_upload(Upload::Ended(at));
        assert_eq!(exchange.waiting_for_origin_since(), Some(at));
    }
}
