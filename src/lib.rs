//! forebay: a caching reverse proxy.

pub mod caching;
pub mod cli;
pub mod clock;
pub mod config;
pub mod rules;
pub mod semantics;
pub mod store;
