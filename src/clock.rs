//! The only reader of clocks. Everything else takes time as an argument.
//!
//! An event loop that answers many requests reads the clock when it wakes up ([`wake`]) and when a
//! request ends ([`monotonic`]), and takes the latest reading for the time at which the next one begins
//! ([`latest`]): one reading for each request, and one of each clock for each turn of the loop. A loop
//! that is too busy to sleep moves bytes: of so many times one reads the clock as well ([`pass`]).

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::semantics::UnixMillis;

/// Wall-clock time is carried on from a reading of it for so long: by then a clock that was set is noticed.
const CARRIED: Duration = Duration::from_millis(50);

/// Of so many times that bytes are moved without a reading of the clock, one reads it: they may be a
/// megabyte each.
const UNREAD: u32 = 32;

/// One time by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For ages and expiry.
    pub wall: UnixMillis,
    /// For durations and deadlines.
    pub monotonic: Instant,
}

thread_local! {
    /// The latest reading, while the event loop of this thread is awake.
    static LATEST: Cell<Option<Instant>> = const { Cell::new(None) };
    /// A reading of both clocks since the event loop woke up, to carry wall-clock time on from.
    static BOTH: Cell<Option<Moment>> = const { Cell::new(None) };
    /// How often bytes were moved since the latest reading.
    static PASSED: Cell<u32> = const { Cell::new(0) };
}

/// Wall-clock time, for ages and expiry that other processes must agree on.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]
pub fn wall() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Monotonic time, for durations and deadlines inside this process.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads clocks")]
pub fn monotonic() -> Instant {
    let now = Instant::now();
    if LATEST.get().is_some() {
        LATEST.set(Some(now));
        PASSED.set(0);
    }
    now
}

/// The event loop of this thread wakes up: from here to [`sleep`], [`latest`] has something to go by.
pub fn wake() {
    LATEST.set(Some(monotonic()));
}

/// The event loop of this thread goes to sleep, for as long as it may be.
pub fn sleep() {
    LATEST.set(None);
    BOTH.set(None);
}

/// Bytes are moved: the latest reading is not to grow old over it.
pub fn pass() {
    let passed = PASSED.get() + 1;
    PASSED.set(passed);
    if passed >= UNREAD {
        PASSED.set(0);
        LATEST.set(LATEST.get().map(|_| monotonic()));
    }
}

/// The latest reading on this thread since its event loop woke up; a new one where none says that it did.
#[must_use]
pub fn latest() -> Moment {
    let Some(monotonic) = LATEST.get() else { return Moment { wall: wall(), monotonic: self::monotonic() } };
    let carried = BOTH.get().and_then(|both| {
        let since = monotonic.checked_duration_since(both.monotonic)?;
        let millis = u64::try_from(since.as_millis()).ok()?;
        (since < CARRIED).then(|| Moment { wall: both.wall.plus(millis), monotonic })
    });
    carried.unwrap_or_else(|| {
        let both = Moment { wall: wall(), monotonic };
        BOTH.set(Some(both));
        both
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_is_awake_has_one_time_until_the_clock_is_read() {
        wake();
        let first = latest();
        assert_eq!(latest(), first);
        let read = monotonic();
        assert_eq!(latest().monotonic, read);
        sleep();
        let begun = monotonic();
        assert!(latest().monotonic >= begun && latest().wall >= first.wall);
        // Nothing is kept while it sleeps: time goes on.
        while latest().monotonic <= begun {}
    }

    #[test]
    fn wall_time_is_carried_on_for_a_while_and_read_again() {
        wake();
        let read = latest();
        let (later, late) = (read.monotonic + Duration::from_millis(7), read.monotonic + CARRIED * 2);
        LATEST.set(Some(later));
        assert_eq!(latest(), Moment { wall: read.wall.plus(7), monotonic: later });
        // As if the wall clock had been set since.
        BOTH.set(Some(Moment { wall: UnixMillis(7), ..read }));
        assert_eq!(latest().wall, UnixMillis(14));
        for monotonic in [late, read.monotonic] {
            BOTH.set(Some(Moment { wall: UnixMillis(7), monotonic: later }));
            LATEST.set(Some(monotonic));
            assert!(latest().wall >= read.wall && latest().monotonic == monotonic);
        }
        // Nor is it carried on over a sleep, which may be that of the whole machine.
        BOTH.set(Some(Moment { wall: UnixMillis(7), monotonic: read.monotonic }));
        sleep();
        wake();
        assert!(latest().wall >= read.wall);
        sleep();
    }

    #[test]
    fn who_moves_bytes_without_end_reads_the_clock_now_and_then() {
        wake();
        let read = latest().monotonic;
        while monotonic() <= read {}
        LATEST.set(Some(read));
        for _ in 1..UNREAD {
            pass();
            assert_eq!(latest().monotonic, read);
        }
        pass();
        assert!(latest().monotonic > read);
        sleep();
        (0..UNREAD).for_each(|_| pass());
        assert_eq!(LATEST.get(), None, "a loop that sleeps has none");
    }
}
