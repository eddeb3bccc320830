//! What the admin listener reads from the tiers: for `/ready`, and for the counts of `/metrics`.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

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
    added: Condvar,
}

impl Workers {
    /// Adds the proxy of a worker.
    pub fn add(&self, proxy: Arc<ArcSwap<Proxy>>) {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).push(proxy);
        self.added.notify_all();
    }

    /// Waits until `count` workers are up, so that whoever asks afterwards is told of all of them;
    /// five seconds at most, since a worker that cannot start must not keep the others from serving.
    pub fn wait_for(&self, count: usize) {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        let missing = |proxies: &mut Vec<_>| proxies.len() < count;
        drop(self.added.wait_timeout_while(proxies, Duration::from_secs(5), missing));
    }

    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<ArcSwap<Proxy>>> {
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Admin {
    /// `/ready`: 200 as long as requests are served, with Redis or origins down too; the body says
    /// what is live.
    pub(super) fn ready(&self) -> Value {
        let shared = &self.instance.shared;
        let site = self.instance.site.load();
        let redis: Vec<Value> = self
            .workers
            .all()
            .iter()
            .filter_map(|worker| worker.load().redis.as_ref().map(|redis| redis.status()))
            .map(|status| {
                json!({
                    "connected": status.connected,
                    "breaker": status.breaker.label(),
                    "write_breaker": status.write_breaker.label(),
                    "latency_ms": status.last_latency.map(millis),
                })
            })
            .collect();
        let upstreams: Vec<Value> = site
            .upstreams
            .iter()
            .map(|upstream| {
                let gauges = upstream.gauges();
                json!({
                    "name": upstream.settings().name,
                    "idle": count(&gauges.idle),
                    "busy": count(&gauges.busy),
                    "queued": count(&gauges.queued),
                })
            })
            .collect();
        json!({
            "ready": true,
            "errands": Arc::strong_count(&shared.errands) - 1,
            "tiers": {
                "memory": {
                    "live": site.rules.memory.is_on(),
                    "bytes": shared.memory.bytes(),
                    "entries": shared.memory.entries(),
                    "max_bytes": site.rules.memory.max_size,
                },
                "redis": {
                    "configured": site.rules.redis.is_some(),
                    "live": redis.iter().any(|worker| worker["breaker"] == "closed" && worker["connected"] == true),
                    "address": site.rules.redis.as_ref().map(crate::rules::settings::RedisSettings::address),
                    "workers": redis,
                },
            },
            "upstreams": upstreams,
        })
    }

    /// What others count, for one scrape.
    pub(super) fn snapshot(&self) -> Snapshot {
        let shared = &self.instance.shared;
        let site = self.instance.site.load();
        let breakers = self.workers.all();
        let breaker = breakers
            .iter()
            .filter_map(|worker| worker.load().redis.as_ref().map(|redis| redis.status().breaker.number()))
            .max();
        Snapshot {
            tiers: vec![TierSize {
                name: "memory",
                bytes: shared.memory.bytes(),
                entries: shared.memory.entries(),
            }],
            evictions: shared.memory.evictions(),
            access_log_dropped: shared.log.dropped(),
            upstreams: site
                .upstreams
                .iter()
                .map(|upstream| UpstreamConnections {
                    name: upstream.settings().name.clone(),
                    idle: count(&upstream.gauges().idle),
                    busy: count(&upstream.gauges().busy),
                })
                .collect(),
            redis: self.instance.redis_counters().map(|counters| RedisCounts {
                breaker: breaker.unwrap_or(0),
                errors: counters.errors(),
                compressed_before: counters.compressed().0,
                compressed_after: counters.compressed().1,
                journal_lag: shared.journal.as_ref().and_then(|journal| journal.status().lag),
            }),
        }
    }
}

/// Milliseconds, to the microsecond.
fn millis(took: Duration) -> f64 {
    (took.as_secs_f64() * 1_000_000.0).round() / 1_000.0
}

/// A gauge that may for a moment be below zero, as counts of several threads are read one by one.
fn count(gauge: &std::sync::atomic::AtomicI64) -> u64 {
    u64::try_from(gauge.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(0)
}
