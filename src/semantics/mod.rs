//! HTTP semantics (RFC 9110) that hold for every message, cached or not.
//!
//! Decides: how a field is read, what a date or validator means, which precondition holds, which
//! bytes a range names. Never touches: caching rules, sockets, clocks (time is an argument).

pub mod fields;
pub mod http_date;
pub mod preconditions;
pub mod range;
pub mod validator;

/// A point in wall-clock time: milliseconds since the Unix epoch.
///
/// The pure core never asks what time it is; whoever calls it does, once per event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` lies in the future.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// This time plus `millis`, saturating.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}
