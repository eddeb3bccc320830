//! The fleet's lock, as seen by one waiter: how long to wait, and how often to look.
//!
//! Only leaders of a process wait here, so a key has at most as many waiters as the fleet has
//! proxies: looking is cheaper and sturdier than being told. Decides: the delays. Never touches:
//! Redis, timers, random numbers (they are arguments).

use std::time::Duration;

/// First delay, and the longest.
const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_millis(100);
/// The longest delay where nobody waits for the answer.
const UNHURRIED: Duration = Duration::from_secs(1);
/// Looks in a row without an answer that end the waiting.
const SILENT: u8 = 2;
/// The longest a lock is renewed for: past it the fetch goes on, but no longer alone.
pub const LONGEST_HELD: Duration = Duration::from_secs(60);

/// The waiting of one leader for another process's fetch.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    delay: Duration,
    longest: Duration,
    limit: Duration,
    silent: u8,
}

impl Patience {
    /// Waits at most `limit` in all.
    #[must_use]
    pub const fn new(limit: Duration) -> Self {
        Self { delay: FIRST, longest: LONGEST, limit, silent: 0 }
    }

    /// The waiting of a renewal behind an answer that was given already: nobody's patience runs out, and a
    /// fetch of its own would be one too many. It looks less often, since thousands may wait at once.
    #[must_use]
    pub const fn unhurried() -> Self {
        Self { delay: FIRST, longest: UNHURRIED, limit: LONGEST_HELD, silent: 0 }
    }

    /// The next delay after `waited` in all, looking included: doubling from 10 ms to 100 ms (to a second
    /// where there is no hurry), spread by a
    /// quarter either way with `random` in 0..1 so that a fleet does not look in step; `None` once patience
    /// is used up.
    pub fn next(&mut self, waited: Duration, random: f64) -> Option<Duration> {
        let left = self.limit.checked_sub(waited).filter(|left| !left.is_zero())?;
        let spread = 0.75 + 0.5 * random.clamp(0.0, 1.0);
        let delay = self.delay.mul_f64(spread).min(left);
        self.delay = (self.delay * 2).min(self.longest);
        Some(delay)
    }

    /// A look that was answered, with nothing.
    pub const fn answered(&mut self) {
        self.silent = 0;
    }

    /// A look that was not answered. Whether there is a point in another: who waits for what cannot be
    /// seen waits for nothing.
    pub const fn unanswered(&mut self) -> bool {
        self.silent += 1;
        self.silent < SILENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_end_at_the_limit() {
        let mut patience = Patience::new(Duration::from_millis(300));
        let mut waited = Duration::ZERO;
        let delays: Vec<u128> = std::iter::from_fn(|| {
            let delay = patience.next(waited, 0.5)?;
            waited += delay;
            Some(delay.as_millis())
        })
        .collect();
        assert_eq!(delays, [10, 20, 40, 80, 100, 50]);
        assert_eq!(waited, Duration::from_millis(300));
    }

    #[test]
    fn a_renewal_waits_for_as_long_as_a_lock_may_be_held() {
        let mut patience = Patience::unhurried();
        let (mut waited, mut looks) = (Duration::ZERO, 0);
        while let Some(delay) = patience.next(waited, 0.5) {
            assert!(delay <= UNHURRIED);
            waited += delay;
            looks += 1;
        }
        assert_eq!(waited, LONGEST_HELD);
        assert!(looks < 70, "{looks}");
    }

    #[test]
    fn looks_that_take_long_count() {
        let mut patience = Patience::new(Duration::from_millis(300));
        assert_eq!(patience.next(Duration::from_millis(295), 0.5), Some(Duration::from_millis(5)));
        assert_eq!(patience.next(Duration::from_millis(400), 0.5), None);
    }

    #[test]
    fn who_sees_nothing_stops_waiting() {
        let mut patience = Patience::new(Duration::from_secs(3));
        assert!(patience.unanswered());
        patience.answered();
        assert!(patience.unanswered());
        assert!(!patience.unanswered());
    }

    #[test]
    fn jitter_spreads_by_a_quarter() {
        let first =
            |random| Patience::new(Duration::from_secs(1)).next(Duration::ZERO, random).expect("patience");
        assert_eq!(first(0.0), Duration::from_micros(7_500));
        assert_eq!(first(1.0), Duration::from_micros(12_500));
    }
}
