//! forebay: a caching reverse proxy.

pub mod caching;
pub mod clock;
pub mod collapse;
pub mod semantics;
pub mod store;
