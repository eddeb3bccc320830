//! Which server of an upstream is asked.
//!
//! Decides: the choice among servers, and how long one that cannot be connected to is avoided. Never
//! touches: sockets, clocks, randomness (`now` and the draw are arguments), or a request.
//!
//! Being avoided is a preference, never a refusal: with one server, or with every server in back-off,
//! the one whose back-off ends first is asked all the same. Refusing would only stretch an outage by
//! the back-off; what protects a failing origin from visitors is the cache above.

use std::time::{Duration, Instant};

/// The first back-off after a failed connect; each further failure doubles it.
pub const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
/// The longest back-off.
pub const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);

/// What is known of one server when a choice is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Requests in flight to it, those that queue for it included.
    pub outstanding: usize,
    /// Whether connects work.
    pub standing: Standing,
}

/// Whether a server can be connected to, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The last connect worked, or there was none.
    Up,
    /// A back-off is over: one request may find out.
    Probe,
    /// Avoided until then.
    Down {
        /// When the back-off ends.
        until: Instant,
    },
}

/// Connect failures of one server.
#[derive(Clone, Copy, Debug, Default)]
pub struct Health {
    failures: u32,
    retry_at: Option<Instant>,
}

impl Health {
    /// Where the server stands at `now`.
    #[must_use]
    pub fn standing(&self, now: Instant) -> Standing {
        match self.retry_at {
            None => Standing::Up,
            Some(until) if until <= now => Standing::Probe,
            Some(until) => Standing::Down { until },
        }
    }

    /// A connect failed: it is avoided for 1 s, doubling to 30 s. Whether it is the first to fail.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(now + self.back_off());
        self.failures == 1
    }

    /// A connect worked. Whether it is the first since one failed.
    pub const fn succeeded(&mut self) -> bool {
        let was_down = self.failures > 0;
        *self = Self { failures: 0, retry_at: None };
        was_down
    }

    /// A request sets out to find out: everyone else keeps avoiding the server for one more back-off,
    /// which is also what happens when that request is cancelled and never reports.
    pub fn probe_begins(&mut self, now: Instant) {
        self.retry_at = Some(now + self.back_off());
    }

    fn back_off(&self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        FIRST_BACK_OFF.saturating_mul(1 << doublings).min(LONGEST_BACK_OFF)
    }
}

/// Chooses among `count` servers, leaving out those in `tried`; `None` when that leaves none.
///
/// A server whose back-off is over is asked first (whoever asks reports [`Health::probe_begins`], so
/// it is one request); else two that are up are drawn and the one with less outstanding is taken
/// (power of two choices); else the one whose back-off ends first. `draw(n)` gives a number below `n`.
pub fn choose(
    count: usize,
    candidate: impl Fn(usize) -> Candidate,
    tried: &[usize],
    mut draw: impl FnMut(usize) -> usize,
) -> Option<usize> {
    if count == 1 {
        return tried.is_empty().then_some(0);
    }
    let mut up = 0;
    let mut soonest: Option<(Instant, usize)> = None;
    let open = || (0..count).filter(|index| !tried.contains(index));
    for index in open() {
        match candidate(index).standing {
            Standing::Probe => return Some(index),
            Standing::Up => up += 1,
            Standing::Down { until } => {
                if soonest.is_none_or(|(earliest, _)| until < earliest) {
                    soonest = Some((until, index));
                }
            }
        }
    }
    let nth_up = |n: usize| open().filter(|&index| candidate(index).standing == Standing::Up).nth(n);
    match up {
        0 => soonest.map(|(_, index)| index),
        1 => nth_up(0),
        _ => {
            let first = draw(up).min(up - 1);
            let second = (first + 1 + draw(up - 1).min(up - 2)) % up;
            match (nth_up(first), nth_up(second)) {
                (Some(a), Some(b)) if candidate(b).outstanding < candidate(a).outstanding => Some(b),
                (a, _) => a,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const UP: Standing = Standing::Up;

    fn pick(servers: &[(usize, Standing)], tried: &[usize], draws: &[usize]) -> Option<usize> {
        let mut draws = draws.iter().copied();
        choose(
            servers.len(),
            |i| Candidate { outstanding: servers[i].0, standing: servers[i].1 },
            tried,
            |n| draws.next().expect("another draw than the table foresaw") % n,
        )
    }

    #[test]
    fn the_choice() {
        let soon = Standing::Down { until: clock::monotonic() };
        let later = Standing::Down { until: clock::monotonic() + Duration::from_secs(9) };
        for (title, servers, tried, draws, expected) in [
            ("one server needs no draw", &[(9, UP)][..], &[][..], &[][..], Some(0)),
            ("one server in back-off is asked all the same", &[(0, later)], &[], &[], Some(0)),
            ("one server is not asked twice", &[(0, UP)], &[0], &[], None),
            ("the less busy of two", &[(3, UP), (1, UP)], &[], &[0, 0], Some(1)),
            ("whichever was drawn first", &[(3, UP), (1, UP)], &[], &[1, 0], Some(1)),
            ("a tie stays with the first drawn", &[(1, UP), (1, UP), (1, UP)], &[], &[2, 0], Some(2)),
            ("only what was drawn is compared", &[(5, UP), (4, UP), (0, UP)], &[], &[0, 0], Some(1)),
            ("the second wraps around", &[(0, UP), (4, UP), (5, UP)], &[], &[2, 0], Some(0)),
            ("down is avoided", &[(9, UP), (0, later)], &[], &[], Some(0)),
            ("tried is left out", &[(9, UP), (0, UP)], &[1], &[], Some(0)),
            ("over is probed, however busy", &[(0, UP), (9, Standing::Probe)], &[], &[], Some(1)),
            ("all down: the soonest", &[(0, later), (9, soon)], &[], &[], Some(1)),
            ("all tried", &[(0, UP), (0, UP)], &[1, 0], &[], None),
            ("none", &[], &[], &[], None),
        ] {
            assert_eq!(pick(servers, tried, draws), expected, "{title}");
        }
    }

    #[test]
    fn draws_beyond_their_range_do_no_harm() {
        let candidate = |_| Candidate { outstanding: 0, standing: UP };
        assert!(choose(3, candidate, &[], |_| usize::MAX).is_some());
    }

    #[test]
    fn a_draw_reaches_every_server() {
        let mut seen = [false; 4];
        for a in 0..4 {
            for b in 0..3 {
                let chosen = pick(&[(0, UP), (0, UP), (0, UP), (0, UP)], &[], &[a, b]).expect("a server");
                seen[chosen] = true;
            }
        }
        assert_eq!(seen, [true; 4]);
    }

    #[test]
    fn back_off_doubles_to_thirty_seconds_and_ends_with_a_success() {
        let start = clock::monotonic();
        let mut health = Health::default();
        assert_eq!(health.standing(start), Standing::Up);
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            health.failed(start);
            let until = start + Duration::from_secs(seconds);
            assert_eq!(health.standing(start), Standing::Down { until });
            assert_eq!(health.standing(until), Standing::Probe);
        }
        health.succeeded();
        assert_eq!(health.standing(start), Standing::Up);
        health.failed(start);
        assert_eq!(health.standing(start), Standing::Down { until: start + FIRST_BACK_OFF });
    }

    #[test]
    fn one_probe_at_a_time() {
        let start = clock::monotonic();
        let mut health = Health::default();
        health.failed(start);
        let over = start + FIRST_BACK_OFF;
        assert_eq!(health.standing(over), Standing::Probe);
        health.probe_begins(over);
        // Everyone else avoids it, and a probe that never reports is followed by another.
        assert_eq!(health.standing(over), Standing::Down { until: over + FIRST_BACK_OFF });
        assert_eq!(health.standing(over + FIRST_BACK_OFF), Standing::Probe);
    }
}
