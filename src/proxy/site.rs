//! What the life of a request draws on: shared by all workers, or one per worker.

use std::sync::Arc;

use super::apart::Apart;
use super::backoff::Backoff;
use super::errand::Landed;
use super::error::Failure;
use super::long::Assembly;
use crate::collapse::flight::Flights;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{Metrics, NO_ROUTE, RouteMetrics};
use crate::rules::Rules;
use crate::rules::route::Route;
use crate::store::Record;
use crate::store::memory::MemoryTier;
use crate::store::purges::PurgeTable;
use crate::store::redis::{Journal, RedisStore};
use crate::upstream::request::Via;
use crate::upstream::{Upstream, UpstreamShared};

/// Shared by all workers of the process.
#[derive(Debug)]
pub struct Shared {
    /// The memory tier.
    pub memory: MemoryTier,
    /// What was purged, and when.
    pub purges: Arc<PurgeTable>,
    /// How the fleet tells of its purges; `None` without Redis.
    pub journal: Option<Arc<Journal>>,
    /// Fetches under way.
    pub flights: Arc<Flights<Arc<Landed>, Failure>>,
    /// Readings from Redis under way: what one request reads, those beside it need not.
    pub readings: Arc<Flights<Option<Record>, ()>>,
    /// Long bodies on their way from Redis into memory: who wants one reads along.
    pub assemblies: Arc<Flights<Assembly, ()>>,
    /// One handle more than there are errands: fetches, and what becomes of them in the tiers.
    pub errands: Arc<()>,
    /// Keys whose origin fails.
    pub backoff: Backoff,
    /// Requests that are answered apart from all others.
    pub apart: Apart,
    /// Every series.
    pub metrics: Metrics,
    /// The access log.
    pub log: AccessLog,
}

/// The compiled configuration with the handles that were resolved for it.
#[derive(Debug)]
pub struct Site {
    /// Immutable rules.
    pub rules: Rules,
    /// Metric handles by route index.
    pub routes: Vec<RouteMetrics>,
    /// Metric handles of requests that no route matched.
    pub no_route: RouteMetrics,
    /// What workers share of each upstream, by upstream index.
    pub upstreams: Vec<Arc<UpstreamShared>>,
    /// Our element of `Via`.
    pub via: Via,
}

impl Site {
    /// Resolves the handles of every route.
    #[must_use]
    pub fn new(rules: Rules, upstreams: Vec<Arc<UpstreamShared>>, via: Via, metrics: &Metrics) -> Self {
        let routes = rules.routes.iter().map(|route| metrics.route(&route.name)).collect();
        Self { rules, routes, no_route: metrics.route(NO_ROUTE), upstreams, via }
    }
}

impl Site {
    /// The metric handles of a route of this site.
    #[must_use]
    pub fn route_metrics(&self, route: &Route) -> &RouteMetrics {
        self.routes.get(route.index).unwrap_or(&self.no_route)
    }
}

/// One per worker: what must live on its event loop, beside handles to what all share.
#[derive(Debug)]
pub struct Proxy {
    /// Shared by all workers.
    pub shared: Arc<Shared>,
    /// The configuration.
    pub site: Arc<Site>,
    /// This worker's connections to each upstream, by upstream index; never empty where a route is.
    pub upstreams: Vec<Upstream>,
    /// This worker's connection to Redis.
    pub redis: Option<Arc<RedisStore>>,
}

impl Proxy {
    /// The upstream of a route.
    pub(super) fn upstream(&self, route: &Route) -> &Upstream {
        // Rules are compiled with their upstreams: the index holds for the life of the site.
        &self.upstreams[route.upstream]
    }
}
