//! forebay: a caching reverse proxy.

pub mod caching;
pub mod clock;
pub mod demo;
pub mod semantics;
pub mod store;
