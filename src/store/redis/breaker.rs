//! The circuit breaker: whether Redis is asked at all.
//!
//! Decides, from the results it is told and the time it is given, when to stop asking, when to probe
//! and when to ask again. Never touches: clocks, sockets, the client. Everything but the transitions
//! is one atomic load, because every request reads it.
//!
//! ```text
//! Closed --trip, 5 time-outs in a row, half of 20 or more in 1 s failed--> Open
//! Open --500 ms * 2^n later, or when told that the connection is back--> HalfOpen
//! HalfOpen --3 good probes--> Closed          HalfOpen --a bad probe--> Open, n + 1
//! ```

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time-outs in a row that open the breaker.
const TIMEOUTS: u32 = 5;
/// Commands a window needs before its share of failures says anything.
const SAMPLE: u32 = 20;
/// Length of a window.
const WINDOW: Duration = Duration::from_secs(1);
/// Wait before the first probe.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait before a probe.
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// Good probes in a row that close the breaker.
const GOOD_PROBES: u8 = 3;
/// Opened again this soon after it closed, it goes on waiting where it had stopped.
const RELAPSE: Duration = Duration::from_secs(10);

/// What the breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BreakerState {
    /// Everything.
    Closed = 0,
    /// One probe at a time.
    HalfOpen = 1,
    /// Nothing.
    Open = 2,
}

impl BreakerState {
    /// Its name in `/ready`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }

    /// Its number in metrics: 0 closed, 1 half-open, 2 open.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// How a command ended, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Redis answered.
    Answered,
    /// Redis answered that it cannot, or something was wrong with the answer.
    Failed,
    /// No answer in time.
    TimedOut,
}

/// A [`Circuit`] behind a lock, its state readable without one. The lock is held for a few integer
/// operations, never across an await.
#[derive(Debug)]
pub(super) struct Breaker {
    state: AtomicU8,
    circuit: Mutex<Circuit>,
}

impl Breaker {
    /// Open, with its first probe due at once: nothing is asked of a Redis never heard of.
    pub(super) fn unproven(now: Instant) -> Self {
        Self::of(Circuit { phase: Phase::Open { probe_at: now }, ..Circuit::closed(now) })
    }

    /// Closed: for what is taken to work until it fails.
    pub(super) fn proven(now: Instant) -> Self {
        Self::of(Circuit::closed(now))
    }

    fn of(circuit: Circuit) -> Self {
        Self { state: AtomicU8::new(circuit.state() as u8), circuit: Mutex::new(circuit) }
    }

    /// Whether commands go through. One atomic load.
    pub(super) fn lets_through(&self) -> bool {
        self.state.load(Ordering::Relaxed) == BreakerState::Closed as u8
    }

    /// For people to look at.
    pub(super) fn state(&self) -> BreakerState {
        self.lock().state()
    }

    /// See [`Circuit::ended`].
    pub(super) fn ended(&self, how: Ended, now: Instant) {
        self.with(|circuit| circuit.ended(how, now));
    }

    /// See [`Circuit::trip`].
    pub(super) fn trip(&self, now: Instant) {
        self.with(|circuit| circuit.trip(now));
    }

    /// See [`Circuit::hasten`].
    pub(super) fn hasten(&self, now: Instant) {
        self.with(|circuit| circuit.hasten(now));
    }

    /// See [`Circuit::begin_probe`].
    pub(super) fn begin_probe(&self, now: Instant) -> bool {
        self.with(|circuit| circuit.begin_probe(now))
    }

    /// See [`Circuit::probed`].
    pub(super) fn probed(&self, good: bool, now: Instant) {
        self.with(|circuit| circuit.probed(good, now));
    }

    /// See [`Circuit::next_probe`].
    pub(super) fn next_probe(&self, now: Instant) -> Option<Duration> {
        self.lock().next_probe(now)
    }

    fn with<T>(&self, change: impl FnOnce(&mut Circuit) -> T) -> T {
        let mut circuit = self.lock();
        let before = circuit.state();
        let result = change(&mut circuit);
        let after = circuit.state();
        self.state.store(after as u8, Ordering::Relaxed);
        drop(circuit);
        // Once per spell of trouble and worker: probes in between are no news.
        match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                tracing::warn!("Redis is in trouble and left alone but for probes");
            }
            (BreakerState::Open | BreakerState::HalfOpen, BreakerState::Closed) => {
                tracing::info!("Redis is in use");
            }
            _ => {}
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        // Plain integers: a panic elsewhere cannot have left them half written.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state machine itself.
#[derive(Debug)]
struct Circuit {
    phase: Phase,
    /// How many waits in this spell of trouble, for the length of the next.
    waits: u32,
    closed_at: Instant,
    timeouts_in_a_row: u32,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    HalfOpen { good: u8, probing: bool },
    Open { probe_at: Instant },
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    commands: u32,
    failures: u32,
}

impl Window {
    const fn new(began: Instant) -> Self {
        Self { began, commands: 0, failures: 0 }
    }
}

impl Circuit {
    const fn closed(now: Instant) -> Self {
        Self {
            phase: Phase::Closed,
            waits: 0,
            closed_at: now,
            timeouts_in_a_row: 0,
            window: Window::new(now),
        }
    }

    const fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed => BreakerState::Closed,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
            Phase::Open { .. } => BreakerState::Open,
        }
    }

    /// A command that was let through has ended. Those that end after the breaker opened say nothing
    /// new and are ignored.
    fn ended(&mut self, how: Ended, now: Instant) {
        if self.phase != Phase::Closed {
            return;
        }
        if now.saturating_duration_since(self.window.began) >= WINDOW {
            self.window = Window::new(now);
        }
        self.window.commands = self.window.commands.saturating_add(1);
        match how {
            Ended::Answered => {
                self.timeouts_in_a_row = 0;
                return;
            }
            Ended::Failed => self.timeouts_in_a_row = 0,
            Ended::TimedOut => self.timeouts_in_a_row += 1,
        }
        self.window.failures = self.window.failures.saturating_add(1);
        let half = self.window.failures.saturating_mul(2) >= self.window.commands;
        if self.timeouts_in_a_row >= TIMEOUTS || (self.window.commands >= SAMPLE && half) {
            self.trip(now);
        }
    }

    /// Opens. While it is open already, the probe stays when it was due.
    fn trip(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Open { .. }) {
            return;
        }
        if self.phase == Phase::Closed && now.saturating_duration_since(self.closed_at) >= RELAPSE {
            self.waits = 0;
        }
        let wait = FIRST_WAIT.saturating_mul(1 << self.waits.min(8)).min(LONGEST_WAIT);
        self.waits = self.waits.saturating_add(1);
        self.phase = Phase::Open { probe_at: now + wait };
    }

    /// The connection is back: the probe is due now.
    fn hasten(&mut self, now: Instant) {
        if let Phase::Open { probe_at } = &mut self.phase {
            *probe_at = (*probe_at).min(now);
        }
    }

    /// Whether the caller is to send the one probe now, and then to report it to [`Self::probed`].
    fn begin_probe(&mut self, now: Instant) -> bool {
        let good = match self.phase {
            Phase::Open { probe_at } if probe_at <= now => 0,
            Phase::HalfOpen { good, probing: false } => good,
            _ => return false,
        };
        self.phase = Phase::HalfOpen { good, probing: true };
        true
    }

    /// How the probe ended. One that ends after a trip is ignored.
    fn probed(&mut self, good: bool, now: Instant) {
        let Phase::HalfOpen { good: before, probing: true } = self.phase else { return };
        if !good {
            self.trip(now);
        } else if before + 1 < GOOD_PROBES {
            self.phase = Phase::HalfOpen { good: before + 1, probing: false };
        } else {
            *self = Self { waits: self.waits, ..Self::closed(now) };
        }
    }

    /// How long until a probe is due; `None` when none is needed or one is under way.
    fn next_probe(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Closed | Phase::HalfOpen { probing: true, .. } => None,
            Phase::HalfOpen { probing: false, .. } => Some(Duration::ZERO),
            Phase::Open { probe_at } => Some(probe_at.saturating_duration_since(now)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    /// What happens, and how many milliseconds after the beginning.
    enum Event {
        Ends(Ended, u32),
        Trips,
        Hastens,
        /// A probe is asked for, and is (or is not) due.
        Probes(bool),
        Probed(bool),
    }

    use BreakerState::{Closed, HalfOpen, Open};
    use Ended::{Answered, Failed, TimedOut};
    use Event::{Ends, Hastens, Probed, Probes, Trips};

    fn run(title: &str, steps: &[(u64, Event, BreakerState)]) {
        let start = clock::monotonic();
        let breaker = Breaker::proven(start);
        for (at, (millis, event, expected)) in steps.iter().enumerate() {
            let now = start + Duration::from_millis(*millis);
            match event {
                Ends(how, times) => (0..*times).for_each(|_| breaker.ended(*how, now)),
                Trips => breaker.trip(now),
                Hastens => breaker.hasten(now),
                Probes(due) => assert_eq!(breaker.begin_probe(now), *due, "{title}, step {at}"),
                Probed(good) => breaker.probed(*good, now),
            }
            assert_eq!(breaker.state(), *expected, "{title}, step {at}");
            assert_eq!(breaker.lets_through(), *expected == Closed, "{title}, step {at}");
        }
    }

    #[test]
    fn it_opens() {
        run("five time-outs in a row", &[(0, Ends(TimedOut, 4), Closed), (1, Ends(TimedOut, 1), Open)]);
        run(
            "an answer between time-outs",
            &[
                (0, Ends(Answered, 20), Closed),
                (0, Ends(TimedOut, 4), Closed),
                (1, Ends(Answered, 1), Closed),
                (2, Ends(TimedOut, 4), Closed),
            ],
        );
        run("too few to judge", &[(0, Ends(Failed, 19), Closed), (1, Ends(Failed, 1), Open)]);
        run(
            "half of a window",
            &[(0, Ends(Answered, 15), Closed), (500, Ends(Failed, 14), Closed), (999, Ends(Failed, 1), Open)],
        );
        run(
            "half, but of two windows",
            &[
                (0, Ends(Answered, 15), Closed),
                (500, Ends(Failed, 14), Closed),
                (1000, Ends(Failed, 1), Closed),
            ],
        );
        run("a lost connection", &[(0, Trips, Open)]);
    }

    #[test]
    fn it_closes_after_three_good_probes() {
        run(
            "one probe at a time",
            &[
                (0, Trips, Open),
                (499, Probes(false), Open),
                (500, Probes(true), HalfOpen),
                (501, Probes(false), HalfOpen),
                (502, Probed(true), HalfOpen),
                (503, Probes(true), HalfOpen),
                (504, Probed(true), HalfOpen),
                (505, Probes(true), HalfOpen),
                (506, Probed(true), Closed),
                (507, Probes(false), Closed),
            ],
        );
        run(
            "waits double, up to five seconds",
            &[
                (0, Trips, Open),
                (500, Probes(true), HalfOpen),
                (500, Probed(false), Open),
                (1_499, Probes(false), Open),
                (1_500, Probes(true), HalfOpen),
                (1_500, Probed(false), Open),
                (3_500, Probes(true), HalfOpen),
                (3_500, Probed(false), Open),
                (7_500, Probes(true), HalfOpen),
                (7_500, Probed(false), Open),
                (12_500, Probes(true), HalfOpen),
                (12_500, Probed(false), Open),
                (17_499, Probes(false), Open),
                (17_500, Probes(true), HalfOpen),
            ],
        );
        run(
            "the connection is back before the wait is over",
            &[
                (0, Trips, Open),
                (10, Hastens, Open),
                (10, Probes(true), HalfOpen),
                (11, Hastens, HalfOpen),
                (11, Probes(false), HalfOpen),
            ],
        );
        run(
            "late news changes nothing",
            &[
                (0, Trips, Open),
                (400, Trips, Open),
                (400, Ends(Answered, 50), Open),
                (500, Probes(true), HalfOpen),
                (501, Ends(TimedOut, 50), HalfOpen),
                (502, Trips, Open),
                (503, Probed(true), Open),
                (1_501, Probes(false), Open),
                (1_502, Probes(true), HalfOpen),
            ],
        );
    }

    #[test]
    fn a_relapse_waits_longer() {
        let cured = |at: u64| {
            [
                (at, Probes(true), HalfOpen),
                (at, Probed(true), HalfOpen),
                (at, Probes(true), HalfOpen),
                (at, Probed(true), HalfOpen),
                (at, Probes(true), HalfOpen),
                (at, Probed(true), Closed),
            ]
        };
        let mut soon = vec![(0, Trips, Open)];
        soon.extend(cured(500));
        soon.extend([(600, Trips, Open), (1_599, Probes(false), Open), (1_600, Probes(true), HalfOpen)]);
        run("within ten seconds", &soon);
        let mut late = vec![(0, Trips, Open)];
        late.extend(cured(500));
        late.extend([(10_500, Trips, Open), (11_000, Probes(true), HalfOpen)]);
        run("after ten seconds", &late);
    }

    #[test]
    fn an_unproven_breaker_probes_at_once() {
        let now = clock::monotonic();
        let breaker = Breaker::unproven(now);
        assert!(!breaker.lets_through());
        assert_eq!(breaker.next_probe(now), Some(Duration::ZERO));
        assert!(breaker.begin_probe(now));
        assert_eq!(breaker.next_probe(now), None);
    }
}
