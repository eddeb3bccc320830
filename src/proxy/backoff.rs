//! Back-off while the origin fails: a stale response in hand is served without asking again.
//!
//! After a failed validation of a key the next attempt waits 1 s, doubling to 30 s, so that an
//! origin in trouble is probed, not hammered; after one for which there was no room, no longer than before.
//! Bounded: the table forgets the least useful keys.

use quick_cache::sync::Cache;

use crate::collapse::flight::FlightKey;
use crate::semantics::UnixMillis;

const KEYS: usize = 16 * 1024;
const FIRST: u64 = 1_000;
const LONGEST: u64 = 30_000;

/// Which keys are not to be asked for again yet.
#[derive(Debug)]
pub struct Backoff {
    failing: Cache<FlightKey, Failing>,
}

#[derive(Clone, Copy, Debug)]
struct Failing {
    until: UnixMillis,
    delay: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { failing: Cache::new(KEYS) }
    }
}

impl Backoff {
    /// Whether `key` failed lately and must not be asked for yet.
    #[must_use]
    pub fn holds(&self, key: FlightKey, now: UnixMillis) -> bool {
        // Most processes have no failing key at all: one length check, no hash.
        !self.failing.is_empty() && self.failing.get(&key).is_some_and(|failing| now < failing.until)
    }

    /// Notes a failure of the origin at `now`.
    pub fn failed(&self, key: FlightKey, now: UnixMillis) {
        let delay = match self.failing.get(&key) {
            Some(earlier) if now < earlier.until => return,
            Some(earlier) => (earlier.delay * 2).min(LONGEST),
            None => FIRST,
        };
        self.failing.insert(key, Failing { until: now.plus(delay), delay });
    }

    /// Notes that there was no room to ask the origin at `now`: nothing is known of how it does, so the wait
    /// does not grow.
    pub fn crowded(&self, key: FlightKey, now: UnixMillis) {
        if !self.holds(key, now) {
            let delay = self.failing.get(&key).map_or(FIRST, |earlier| earlier.delay);
            self.failing.insert(key, Failing { until: now.plus(delay), delay });
        }
    }

    /// Notes that the origin answered.
    pub fn recovered(&self, key: FlightKey) {
        if !self.failing.is_empty() {
            self.failing.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_key_is_asked_less_and_less_until_it_recovers() {
        let backoff = Backoff::default();
        let key = (1, 0);
        let mut now = UnixMillis(1_000_000);
        let mut waits = Vec::new();
        for _ in 0..7 {
            backoff.failed(key, now);
            let start = now;
            while backoff.holds(key, now) {
                now = now.plus(1_000);
            }
            waits.push(now.since(start) / 1_000);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        backoff.crowded(key, now);
        assert!(
            backoff.holds(key, now.plus(29_999)) && !backoff.holds(key, now.plus(30_000)),
            "it does not grow"
        );
        assert!(!backoff.holds((2, 0), UnixMillis(1_000_000)));
        for _ in 0..3 {
            backoff.crowded((2, 0), now);
            assert!(backoff.holds((2, 0), now.plus(999)));
            now = now.plus(1_000);
            assert!(!backoff.holds((2, 0), now));
        }
        backoff.failed(key, now);
        backoff.recovered(key);
        assert!(!backoff.holds(key, now));
    }
}
