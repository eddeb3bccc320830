//! forebay: a caching reverse proxy.

pub mod caching;
pub mod clock;
pub mod semantics;
pub mod store;
pub mod upstream;
