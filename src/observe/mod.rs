//! What is seen from outside: metrics ([`metrics`]) and the access log ([`access_log`]).
//!
//! Decides: series, labels (closed sets, never user data), the form of a log line. Never touches:
//! requests or responses themselves; callers hand over plain facts after the fact.

pub mod access_log;
mod cells;
pub mod metrics;
