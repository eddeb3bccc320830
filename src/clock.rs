//! The only reader of clocks. Everything else takes time as an argument.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::semantics::UnixMillis;

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
    Instant::now()
}
