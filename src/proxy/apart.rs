//! Requests with credentials or guarded cookies whose answers turned out to be for them alone.
//!
//! What such a request is answered says nothing about the answer to everybody else: it must not become
//! the hit-for-miss marker of the key, or one stranger with an invented token would keep all others
//! from what is stored. But its like need not line up for it again. Remembered per key and class, in
//! this process. Bounded: the table forgets the least useful keys.

use quick_cache::sync::Cache;

use crate::collapse::flight::FlightKey;
use crate::semantics::UnixMillis;

const KEYS: usize = 16 * 1024;

/// Which flights, of which class of requests, nobody waits for.
#[derive(Debug)]
pub struct Apart {
    until: Cache<FlightKey, UnixMillis>,
}

impl Default for Apart {
    fn default() -> Self {
        Self { until: Cache::new(KEYS) }
    }
}

impl Apart {
    /// Whether the last answer to this class could not be shared.
    #[must_use]
    pub fn holds(&self, flight: FlightKey, now: UnixMillis) -> bool {
        !self.until.is_empty() && self.until.get(&flight).is_some_and(|until| now < until)
    }

    /// Notes that an answer could not be shared.
    pub fn note(&self, flight: FlightKey, until: UnixMillis) {
        self.until.insert(flight, until);
    }

    /// Notes that one could.
    pub fn forget(&self, flight: FlightKey) {
        if !self.until.is_empty() {
            self.until.remove(&flight);
        }
    }
}
