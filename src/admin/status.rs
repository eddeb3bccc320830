//! What the admin listener reads from the tiers: for `/ready`, and for the counts of `/metrics`.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use serde_json::{Value, json};

use super::Admin;
use crate::observe::metrics::{RedisCounts, Snapshot, TierSize, UpstreamConnections};
use crate::proxy::Proxy;

/// The proxies of all workers, as they come up: each may be replaced when the configuration is
/// loaded again, its tiers stay.
#[derive(Debug, Default)]
pub struct Workers {
    proxies: Mutex<Vec<Arc<ArcSwap<Proxy>>>>,
}

impl Workers {
    /// Adds the proxy of a worker.
    pub fn add(&self, proxy: Arc<ArcSwap<Proxy>>) {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).push(proxy);
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ArcSwap<Proxy>>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
