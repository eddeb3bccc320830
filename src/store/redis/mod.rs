//! The Redis tier.
mod breaker;
mod client;
mod counters;
mod keys;
mod lock;
mod settings;
