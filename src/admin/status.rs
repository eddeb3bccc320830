//! What the admin listener reads of the process: for `/ready`, `/status` and the counts of `/metrics`.
//!
//! Decides: what an operator is told, and in which words. Never touches: anything it tells of.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::Admin;
use crate::clock;
use crate::observe::metrics::{RedisCounts, RouteFigures, Snapshot, TierSize, UpstreamConnections};
use crate::proxy::{Proxy, Shared};
use crate::rules::settings::RedisSettings;
use crate::store::journal::Incarnation;
use crate::store::redis::Counters;

/// Routes that `/status` tells one by one, those with the most requests; totals count them all.
const ROUTES: usize = 200;

/// The proxies of all workers, as they come up: each may be replaced when the configuration is
/// loaded again, its tiers stay.
#[derive(Debug, Default)]
pub struct Workers {
    proxies: Mutex<Vec<(Handle, Arc<ArcSwap<Proxy>>)>>,
    added: Condvar,
}

impl Workers {
    /// Adds the proxy of a worker; on that worker's event loop.
    pub fn add(&self, proxy: Arc<ArcSwap<Proxy>>) {
        let worker = (Handle::current(), proxy);
        self.proxies.lock().unwrap_or_else(PoisonError::into_inner).push(worker);
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
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.iter().map(|(_, proxy)| Arc::clone(proxy)).collect()
    }

    /// One of them, and its event loop, where its connection to Redis lives.
    #[must_use]
    pub fn one(&self) -> Option<(Handle, Arc<Proxy>)> {
        let proxies = self.proxies.lock().unwrap_or_else(PoisonError::into_inner);
        proxies.first().map(|(event_loop, proxy)| (event_loop.clone(), proxy.load_full()))
    }
}

impl Admin {
    /// `/ready`: 200 as long as requests are served, with Redis or origins down too; the body says
    /// what is live.
    pub(super) fn ready(&self) -> Value {
        json!({
            "ready": true,
            "errands": Arc::strong_count(&self.instance.shared.errands) - 1,
            "tiers": self.tiers(),
            "journal": journal_status(&self.instance.shared),
            "upstreams": self.upstreams(),
        })
    }

    /// `/status`: everything the dashboard shows. Counts are since the start of the process.
    pub(super) fn status(&self) -> Value {
        let site = self.instance.site.load();
        let figures = self.instance.shared.metrics.figures();
        let mut total = RouteFigures::default();
        figures.routes.values().for_each(|route| total.add(route));
        let mut routes: Vec<_> =
            figures.routes.iter().map(|(name, figures)| (figures.requests(), name, figures)).collect();
        routes.sort_by(|(a, a_name, _), (b, b_name, _)| b.cmp(a).then(a_name.cmp(b_name)));
        let told: Vec<Value> = routes
            .iter()
            .take(ROUTES)
            .map(|(_, name, figures)| {
                let mut told = route_status(figures);
                told["name"] = name.as_str().into();
                told
            })
            .collect();
        let reasons: Vec<Value> = figures
            .reasons
            .iter()
            .map(|(reason, count)| {
                json!({
                    "reason": reason.code(),
                    "count": count,
                    "title": reason.title(),
                    "fix": reason.fix(),
                })
            })
            .collect();
        let purges: Vec<Value> = figures
            .purges
            .iter()
            .map(|(kind, source, count)| json!({ "kind": kind, "source": source, "count": count }))
            .collect();
        let errors: serde_json::Map<String, Value> = self
            .instance
            .redis_counters()
            .map(|counters| {
                counters.errors().iter().map(|(kind, count)| ((*kind).to_owned(), (*count).into())).collect()
            })
            .unwrap_or_default();
        let up = clock::monotonic().saturating_duration_since(self.started);
        json!({
            "name": site.rules.server.name,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": up.as_secs_f64(),
            "configuration": {
                "routes": site.rules.routes.len(),
                "last_reload_succeeded": figures.last_reload_succeeded,
            },
            "connections": figures.connections,
            "errands": Arc::strong_count(&self.instance.shared.errands) - 1,
            "total": route_status(&total),
            "routes": told,
            "routes_left_out": routes.len().saturating_sub(ROUTES),
            "reasons": reasons,
            "collapsed": figures.collapsed,
            "evictions": self.instance.shared.memory.evictions(),
            "tiers": self.tiers(),
            "redis_errors": errors,
            "journal": journal_status(&self.instance.shared),
            "purges": purges,
            "upstreams": self.upstreams(),
        })
    }

    /// What each tier is doing.
    fn tiers(&self) -> Value {
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
        json!({
            "memory": {
                "live": site.rules.memory.is_on(),
                "bytes": shared.memory.bytes(),
                "entries": shared.memory.entries(),
                "max_bytes": site.rules.memory.max_size,
            },
            "redis": {
                "configured": site.rules.redis.is_some(),
                "live": redis.iter().any(|worker| worker["breaker"] == "closed" && worker["connected"] == true),
                "address": site.rules.redis.as_ref().map(RedisSettings::address),
                "trouble": self.instance.redis_counters().and_then(Counters::trouble),
                "workers": redis,
            },
        })
    }

    fn upstreams(&self) -> Vec<Value> {
        let site = self.instance.site.load();
        site.upstreams
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
            .collect()
    }

    /// What others count, for one scrape.
    pub(super) fn snapshot(&self) -> Snapshot {
        let shared = &self.instance.shared;
        let site = self.instance.site.load();
        let workers = self.workers.all();
        let stores = workers.iter().filter_map(|worker| worker.load().redis.as_ref().map(|r| r.status()));
        let (breaker, write_breaker) = stores.fold((0, 0), |(read, write), status| {
            (read.max(status.breaker.number()), write.max(status.write_breaker.number()))
        });
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
                breaker,
                write_breaker,
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

/// Where this proxy stands in the fleet's journal of purges; `None` without a fleet.
fn journal_status(shared: &Shared) -> Option<Value> {
    let status = shared.journal.as_ref()?.status();
    let life = |Incarnation(life)| format!("{:032x}", u128::from_be_bytes(life));
    Some(json!({
        "in_sync": status.in_sync,
        "lag_ms": status.lag,
        "position": status.progress.position.0,
        "sequence": status.sequence.0,
        "incarnation": status.progress.incarnation.map(life),
        "loaded": status.progress.loaded,
        "ids": status.ids,
        "untold": status.untold,
        "redis_full": status.full,
        "restarts": status.restarts,
    }))
}

fn route_status(figures: &RouteFigures) -> Value {
    json!({
        "requests": figures.requests(),
        "hit_ratio": figures.hit_ratio(),
        "results": figures.results,
        "origin_fetches": figures.origin_fetches,
        "not_stored": figures.not_stored,
    })
}

/// A gauge that may for a moment be below zero, as counts of several threads are read one by one.
fn count(gauge: &std::sync::atomic::AtomicI64) -> u64 {
    u64::try_from(gauge.load(std::sync::atomic::Ordering::Relaxed)).unwrap_or(0)
}
