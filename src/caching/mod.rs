//! HTTP caching (RFC 9111 and its family): every rule, as pure functions.
//!
//! Decides: what may be stored and for how long, what may be reused and how, which variant answers
//! a request, what a validation changes, what an unsafe method invalidates, and the one closed list
//! of reasons. Never touches: tokio, sockets, clocks (time is an argument), stores, configuration
//! files. Each verdict is an enum that carries its [`outcome::Reason`].

pub mod admission;
pub mod age;
pub mod cache_control;
pub mod freshness;
pub mod invalidation;
pub mod key;
pub mod outcome;
pub mod partial;
pub mod policy;
pub mod reuse;
pub mod stamp;
pub mod storability;
pub mod stored;
pub mod tags;
pub mod targeted;
pub mod validation;
pub mod vary;

#[cfg(test)]
mod testing;
