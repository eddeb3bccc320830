//! `forebay run`: brings up tiers, listeners and workers, and takes them down again.
//!
//! Decides: the order of starting and stopping. Never touches: requests. Starts with Redis or an
//! origin down; says in one log line each which tiers and listeners are live.

use std::io::IsTerminal;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpListener;

use crate::admin::{Admin, Workers};
use crate::config;
use crate::observe::access_log::{AccessLog, Format};
use crate::observe::metrics::Metrics;
use crate::proxy::{Proxy, Shared, Site};
use crate::rules::Rules;
use crate::server;
use crate::store::memory::MemoryTier;
use crate::store::purges::PurgeTable;
use crate::store::redis::RedisStore;

/// What went wrong while starting.
#[derive(Debug)]
pub enum StartError {
    /// A thread, a socket or a listener could not be had: what, and why.
    Io(String, std::io::Error),
    /// The metrics could not be registered.
    Metrics(prometheus::Error),
    /// An upstream or the Redis settings cannot be used.
    Setup(String),
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(what, error) => write!(f, "{what}: {error}"),
            Self::Metrics(error) => write!(f, "metrics: {error}"),
            Self::Setup(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for StartError {}
