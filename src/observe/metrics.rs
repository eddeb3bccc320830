//! The Prometheus series of the contract.
//!
//! Label values come from closed sets: configured names, enums, status codes, method classes.
//! Series a request touches are resolved once and kept beside the route ([`RouteMetrics`]), so that
//! counting is an add to a cell of this worker's own, and never a look-up by string.

mod figures;
mod per_worker;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::core::{Atomic, GenericCounter, GenericCounterVec};
use prometheus::proto::MetricType;
use prometheus::{
    Encoder, Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

pub use self::figures::{ByLabel, Figures, RouteFigures};
use self::per_worker::{Buckets, Count, Counts, Durations, DurationsVec};
use crate::caching::outcome::{CacheResult, Reason};

/// The label of requests that no route matched.
pub const NO_ROUTE: &str = "none";

/// All series of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    requests: Counts,
    request_duration: DurationsVec,
    lookups: [GenericCounter<Count>; 4],
    not_stored: IntCounterVec,
    cache_bytes: IntGaugeVec,
    cache_entries: IntGaugeVec,
    evictions: Mirror,
    collapsed: IntCounterVec,
    lock_wait: DurationsVec,
    origin_fetches: Counts,
    origin_duration: DurationsVec,
    upstream_connections: IntGaugeVec,
    /// Upstreams that have series there.
    upstreams_shown: Mutex<BTreeSet<String>>,
    redis_duration: DurationsVec,
    redis_errors: MirrorVec,
    redis_breaker: IntGauge,
    redis_write_breaker: IntGauge,
    journal_lag: Gauge,
    compression: MirrorVec,
    purges: IntCounterVec,
    last_reload: IntGauge,
    /// Connections of clients that are open now.
    pub connections: IntGauge,
    access_log_dropped: Mirror,
    /// Why answers were no plain hits: for `/status`.
    pub reasons: Reasons,
}

impl Metrics {
    /// Registers every series, those without labels at zero.
    ///
    /// # Errors
    /// When a series cannot be registered (a duplicate name: a bug here).
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let made = Self {
            requests: counters(
                &registry,
                "requests_total",
                "Requests answered.",
                &["route", "method", "code", "result"],
            )?,
            request_duration: histograms(
                &registry,
                "request_duration_seconds",
                "From a request's head to the last byte of its answer.",
                &["route", "result"],
            )?,
            lookups: {
                let by: Counts =
                    counters(&registry, "cache_lookups_total", "Look-ups by tier.", &["tier", "result"])?;
                [["memory", "hit"], ["memory", "miss"], ["redis", "hit"], ["redis", "miss"]]
                    .map(|labels| by.with_label_values(&labels))
            },
            not_stored: counters(
                &registry,
                "not_stored_total",
                "Responses not stored, by reason.",
                &["route", "reason"],
            )?,
            cache_bytes: gauges(&registry, "cache_bytes", "Bytes really held.", &["tier"])?,
            cache_entries: gauges(&registry, "cache_entries", "Records held.", &["tier"])?,
            evictions: Mirror::new(&registry, "evictions_total", "Records the memory tier let go for room.")?,
            collapsed: counters(
                &registry,
                "collapsed_total",
                "Requests that shared another's fetch.",
                &["scope"],
            )?,
            lock_wait: histograms(
                &registry,
                "lock_wait_seconds",
                "Waiting for another's fetch.",
                &["scope"],
            )?,
            origin_fetches: counters(
                &registry,
                "origin_fetches_total",
                "Requests sent to the origin.",
                &["route", "cause"],
            )?,
            origin_duration: histograms(
                &registry,
                "origin_duration_seconds",
                "From sending a request to the origin to its response head.",
                &["upstream"],
            )?,
            upstream_connections: gauges(
                &registry,
                "upstream_connections",
                "Connections to origins.",
                &["upstream", "state"],
            )?,
            upstreams_shown: Mutex::default(),
            redis_duration: histograms(
                &registry,
                "redis_command_duration_seconds",
                "Redis commands, as seen from here.",
                &["command"],
            )?,
            redis_errors: MirrorVec::new(
                &registry,
                "redis_errors_total",
                "Redis failures, by kind.",
                "kind",
            )?,
            redis_breaker: gauge(
                &registry,
                "redis_breaker_state",
                "0 closed (in use), 1 half-open (probing), 2 open (not asked); the worst of all workers.",
            )?,
            redis_write_breaker: gauge(
                &registry,
                "redis_write_breaker_state",
                "The same of writing: 2 while Redis takes no writes.",
            )?,
            journal_lag: {
                let gauge = Gauge::with_opts(opts(
                    "journal_lag_seconds",
                    "Seconds since the fleet's purges were known to the last; 0 without Redis.",
                ))?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            compression: MirrorVec::new(
                &registry,
                "compression_bytes_total",
                "Bytes of bodies written to Redis: before and after LZ4.",
                "stage",
            )?,
            purges: counters(
                &registry,
                "purges_total",
                "Invalidations, by kind and source.",
                &["kind", "source"],
            )?,
            last_reload: {
                let gauge = IntGauge::with_opts(opts(
                    "config_last_reload_success",
                    "1 when the last load of the configuration succeeded.",
                ))?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            connections: {
                let gauge = IntGauge::with_opts(opts("connections", "Client connections open now."))?;
                registry.register(Box::new(gauge.clone()))?;
                gauge
            },
            access_log_dropped: Mirror::new(
                &registry,
                "access_log_dropped_total",
                "Access log lines given up because the log's reader was too slow.",
            )?,
            reasons: Reasons::default(),
            registry,
        };
        let build = GaugeVec::new(opts("build_info", "Always 1."), &["version"])?;
        made.registry.register(Box::new(build.clone()))?;
        let one: Gauge = build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?;
        one.set(1.0);
        made.last_reload.set(1);
        // What counts before anything has happened shows as zero, so that a rate has a beginning.
        for scope in [Scope::Process, Scope::Fleet] {
            made.collapsed.with_label_values(&[scope.text()]);
            made.lock_wait.with_label_values(&[scope.text()]);
        }
        made.compression.set("before", 0);
        made.compression.set("after", 0);
        Ok(made)
    }

    /// The handles of one route; `name` is the configured route name.
    #[must_use]
    pub fn route(&self, name: &str) -> RouteMetrics {
        RouteMetrics {
            name: name.to_owned(),
            durations: Default::default(),
            requests: Default::default(),
            causes: Default::default(),
            origin: OnceLock::new(),
        }
    }

    /// Counts an answered request.
    pub fn request(
        &self,
        route: &RouteMetrics,
        method: &Method,
        status: StatusCode,
        result: CacheResult,
        took: Duration,
    ) {
        let method = MethodLabel::of(method);
        match route.request_handle(self, method, status, result) {
            Some(counter) => counter.inc(),
            None => self
                .requests
                .with_label_values(&[&route.name, method.text(), status.as_str(), result.label()])
                .inc(),
        }
        if let Some(duration) = route.durations.get(result as usize) {
            duration
                .get_or_init(|| self.request_duration.with_label_values(&[&route.name, result.label()]))
                .observe(took);
        }
    }

    /// Counts a look-up in the memory tier.
    pub fn memory_lookup(&self, found: bool) {
        let [hit, miss, _, _] = &self.lookups;
        if found { hit.inc() } else { miss.inc() }
    }

    /// Counts a look-up in the Redis tier.
    pub fn redis_lookup(&self, found: bool) {
        let [_, _, hit, miss] = &self.lookups;
        if found { hit.inc() } else { miss.inc() }
    }

    /// Counts a response that was not stored.
    pub fn not_stored(&self, route: &RouteMetrics, reason: Reason) {
        self.not_stored.with_label_values(&[route.name.as_str(), reason.code()]).inc();
    }

    /// Counts a request that was answered by another's fetch.
    pub fn collapsed(&self, scope: Scope) {
        self.collapsed.with_label_values(&[scope.text()]).inc();
    }

    /// Observes how long a request waited for another's fetch, whatever came of it.
    pub fn waited(&self, scope: Scope, waited: Duration) {
        self.lock_wait.with_label_values(&[scope.text()]).observe(waited);
    }

    /// Counts a request sent to the origin.
    pub fn origin_fetch(&self, route: &RouteMetrics, cause: Cause) {
        if let Some(handle) = route.causes.get(cause as usize) {
            handle
                .get_or_init(|| self.origin_fetches.with_label_values(&[route.name.as_str(), cause.text()]))
                .inc();
        }
    }

    /// Observes how long an origin took to its response head.
    pub fn origin_answered(&self, route: &RouteMetrics, upstream: &str, took: Duration) {
        route.origin.get_or_init(|| self.origin_duration.with_label_values(&[upstream])).observe(took);
    }

    /// The durations of Redis commands, to be kept by who sends them.
    #[must_use]
    pub fn redis_commands(&self) -> RedisCommands {
        RedisCommands { series: self.redis_duration.clone(), known: Arc::default() }
    }

    /// Counts an invalidation; `kind` and `source` come from closed sets.
    pub fn purge(&self, kind: &'static str, source: &'static str) {
        self.purges.with_label_values(&[kind, source]).inc();
    }

    /// Says whether the last load of the configuration succeeded.
    pub fn reloaded(&self, success: bool) {
        self.last_reload.set(i64::from(success));
    }

    /// The text exposition, after `snapshot` has told the counts that others keep.
    ///
    /// # Errors
    /// When the series cannot be encoded.
    pub fn render(&self, snapshot: &Snapshot) -> Result<Vec<u8>, prometheus::Error> {
        for tier in &snapshot.tiers {
            self.cache_bytes.with_label_values(&[tier.name]).set(signed(tier.bytes));
            self.cache_entries.with_label_values(&[tier.name]).set(signed(tier.entries));
        }
        self.evictions.set(snapshot.evictions);
        self.access_log_dropped.set(snapshot.access_log_dropped);
        self.show_upstreams(&snapshot.upstreams);
        if let Some(redis) = &snapshot.redis {
            self.redis_breaker.set(redis.breaker);
            self.redis_write_breaker.set(redis.write_breaker);
            // Never yet is no number of seconds: infinity alerts, zero would not.
            self.journal_lag.set(redis.journal_lag.map_or(f64::INFINITY, |lag| lag as f64 / 1000.0));
            for (kind, count) in &redis.errors {
                self.redis_errors.set(kind, *count);
            }
            self.compression.set("before", redis.compressed_before);
            self.compression.set("after", redis.compressed_after);
        }
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut out)?;
        Ok(out)
    }
}

impl Metrics {
    /// Sets the gauges of the upstreams there are, and forgets those that a reload has taken away.
    fn show_upstreams(&self, upstreams: &[UpstreamConnections]) {
        // Held to the end, so that of two scrapes at once neither takes away what the other has set.
        let mut shown = self.upstreams_shown.lock().unwrap_or_else(PoisonError::into_inner);
        shown.retain(|name| {
            let stays = upstreams.iter().any(|upstream| upstream.name == *name);
            for state in ["idle", "busy"].into_iter().filter(|_| !stays) {
                // One that has no series is gone already.
                let _ = self.upstream_connections.remove_label_values(&[name, state]);
            }
            stays
        });
        for upstream in upstreams {
            for (state, count) in [("idle", upstream.idle), ("busy", upstream.busy)] {
                self.upstream_connections.with_label_values(&[&upstream.name, state]).set(signed(count));
            }
            shown.insert(upstream.name.clone());
        }
    }
}

/// A count for each reason of the closed list.
#[derive(Debug)]
pub struct Reasons([Count; Reason::ALL.len()]);

impl Default for Reasons {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::new(0)))
    }
}

impl Reasons {
    /// Counts an answer.
    pub fn count(&self, reason: Reason) {
        if let Some(count) = self.0.get(reason as usize) {
            count.inc_by(1);
        }
    }

    /// The reasons that were counted, in the order of the list.
    fn counted(&self) -> Vec<(Reason, u64)> {
        let counts = self.0.iter().map(Count::get);
        Reason::ALL.iter().copied().zip(counts).filter(|(_, count)| *count > 0).collect()
    }
}

/// Counts that other modules keep as plain atomics, read at scrape time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Bytes and records per tier.
    pub tiers: Vec<TierSize>,
    /// Records the memory tier let go for room.
    pub evictions: u64,
    /// Access log lines given up.
    pub access_log_dropped: u64,
    /// Connections per upstream.
    pub upstreams: Vec<UpstreamConnections>,
    /// Redis, when configured.
    pub redis: Option<RedisCounts>,
}

/// What a tier holds.
#[derive(Clone, Debug)]
pub struct TierSize {
    /// Tier label.
    pub name: &'static str,
    /// Bytes really held.
    pub bytes: u64,
    /// Records held.
    pub entries: u64,
}

/// `forebay_redis_command_duration_seconds`.
#[derive(Clone, Debug)]
pub struct RedisCommands {
    series: DurationsVec,
    /// Those of [`READS`], resolved when first used.
    known: Arc<[OnceLock<Durations>; READS.len()]>,
}

/// The commands that a hit from Redis sends.
const READS: [&str; 2] = ["get", "get_chunk"];

impl RedisCommands {
    /// Observes a command; its name is one of a closed list.
    pub fn observe(&self, command: &'static str, took: Duration) {
        let resolve = || self.series.with_label_values(&[command]);
        match READS.iter().position(|name| *name == command) {
            Some(known) => self.known[known].get_or_init(resolve).observe(took),
            None => resolve().observe(took),
        }
    }
}

/// Connections to one upstream.
#[derive(Clone, Debug)]
pub struct UpstreamConnections {
    /// Configured name.
    pub name: String,
    /// Waiting for use.
    pub idle: u64,
    /// In use.
    pub busy: u64,
}

/// What the Redis tier counts itself.
#[derive(Clone, Debug, Default)]
pub struct RedisCounts {
    /// Whether Redis is asked: 0 closed, 1 half-open, 2 open.
    pub breaker: i64,
    /// Whether it is written to, likewise.
    pub write_breaker: i64,
    /// Failures by kind.
    pub errors: Vec<(&'static str, u64)>,
    /// Bytes of bodies written, before LZ4.
    pub compressed_before: u64,
    /// The same after.
    pub compressed_after: u64,
    /// Milliseconds since the fleet's purges were known to the last; `None`: never yet.
    pub journal_lag: Option<u64>,
}

/// Where a fetch was shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// In this process.
    Process,
    /// In the fleet, through the lock in Redis.
    Fleet,
}

impl Scope {
    const fn text(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Fleet => "fleet",
        }
    }
}

/// Why the origin was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Nothing stored could answer.
    Miss,
    /// A stored response was validated.
    Validate,
    /// A stale or early refresh behind a served answer.
    Refresh,
    /// The request was not for the cache.
    Bypass,
    /// The rest of a stored response whose content was lost while it was being sent.
    Continue,
}

impl Cause {
    const fn text(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Validate => "validate",
            Self::Refresh => "refresh",
            Self::Bypass => "bypass",
            Self::Continue => "continue",
        }
    }
}

/// Statuses whose counters are kept ready; any other is looked up.
const COMMON: [u16; 16] = [200, 204, 206, 301, 302, 304, 400, 401, 403, 404, 412, 429, 500, 502, 503, 504];
const METHODS: usize = 8;

type ByCode = [OnceLock<GenericCounter<Count>>; COMMON.len() * METHODS];

/// The handles of one route, resolved when first used.
#[derive(Debug)]
pub struct RouteMetrics {
    name: String,
    durations: [OnceLock<Durations>; CacheResult::ALL.len()],
    requests: [OnceLock<Box<ByCode>>; CacheResult::ALL.len()],
    causes: [OnceLock<GenericCounter<Count>>; 5],
    /// Of the upstream that the route is for.
    origin: OnceLock<Durations>,
}

impl RouteMetrics {
    /// The configured name, or [`NO_ROUTE`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn request_handle(
        &self,
        metrics: &Metrics,
        method: MethodLabel,
        status: StatusCode,
        result: CacheResult,
    ) -> Option<&GenericCounter<Count>> {
        let code = COMMON.iter().position(|common| *common == status.as_u16())?;
        let table = self
            .requests
            .get(result as usize)?
            .get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        let handle = table.get(code * METHODS + method as usize)?;
        Some(handle.get_or_init(|| {
            metrics.requests.with_label_values(&[
                self.name.as_str(),
                method.text(),
                status.as_str(),
                result.label(),
            ])
        }))
    }
}

/// The closed set of method labels.
#[derive(Clone, Copy)]
enum MethodLabel {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
    Other,
}

impl MethodLabel {
    fn of(method: &Method) -> Self {
        match *method {
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::POST => Self::Post,
            Method::PUT => Self::Put,
            Method::DELETE => Self::Delete,
            Method::PATCH => Self::Patch,
            Method::OPTIONS => Self::Options,
            _ => Self::Other,
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
            Self::Other => "other",
        }
    }
}

/// A counter whose truth is kept elsewhere and copied in at scrape time; never goes back.
#[derive(Debug)]
struct Mirror {
    counter: IntCounter,
    shown: AtomicU64,
}

impl Mirror {
    fn new(registry: &Registry, name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let counter = IntCounter::with_opts(opts(name, help))?;
        registry.register(Box::new(counter.clone()))?;
        Ok(Self { counter, shown: AtomicU64::new(0) })
    }

    fn set(&self, total: u64) {
        let shown = self.shown.fetch_max(total, Ordering::AcqRel);
        self.counter.inc_by(total.saturating_sub(shown));
    }
}

/// [`Mirror`] with one label from a closed set.
#[derive(Debug)]
struct MirrorVec {
    counters: IntCounterVec,
}

impl MirrorVec {
    fn new(registry: &Registry, name: &str, help: &str, label: &str) -> Result<Self, prometheus::Error> {
        Ok(Self { counters: counters(registry, name, help, &[label])? })
    }

    fn set(&self, label: &str, total: u64) {
        let counter = self.counters.with_label_values(&[label]);
        counter.inc_by(total.saturating_sub(counter.get()));
    }
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(format!("forebay_{name}"), help)
}

fn counters<A: Atomic + 'static>(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<GenericCounterVec<A>, prometheus::Error> {
    let series = GenericCounterVec::new(opts(name, help), labels)?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    let series = IntGauge::with_opts(opts(name, help))?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

fn gauges(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    let series = IntGaugeVec::new(opts(name, help), labels)?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

fn histograms(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<DurationsVec, prometheus::Error> {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    let series =
        DurationsVec::create(MetricType::HISTOGRAM, Buckets, opts(name, help).variable_labels(labels))?;
    registry.register(Box::new(series.clone()))?;
    Ok(series)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_request_shows_with_its_labels() {
        let metrics = Metrics::new().expect("series");
        let route = metrics.route("product");
        for _ in 0..3 {
            metrics.request(
                &route,
                &Method::GET,
                StatusCode::OK,
                CacheResult::Hit,
                Duration::from_micros(80),
            );
        }
        let teapot = StatusCode::IM_A_TEAPOT;
        metrics.request(&route, &Method::TRACE, teapot, CacheResult::Bypass, Duration::ZERO);
        let text = String::from_utf8(metrics.render(&Snapshot::default()).expect("text")).expect("utf-8");
        for line in [
            r#"forebay_requests_total{code="200",method="GET",result="hit",route="product"} 3"#,
            r#"forebay_requests_total{code="418",method="other",result="bypass",route="product"} 1"#,
            r#"forebay_request_duration_seconds_count{result="hit",route="product"} 3"#,
            r#"forebay_redis_breaker_state 0"#,
            r#"forebay_redis_write_breaker_state 0"#,
        ] {
            assert!(text.contains(line), "{line} not in\n{text}");
        }
    }

    #[test]
    fn an_upstream_that_is_gone_has_no_connections() {
        let metrics = Metrics::new().expect("series");
        let series = |names: &[&str]| {
            let upstream = |name: &&str| UpstreamConnections { name: (*name).to_owned(), idle: 1, busy: 2 };
            let upstreams = names.iter().map(upstream).collect();
            let snapshot = Snapshot { upstreams, ..Snapshot::default() };
            let text = String::from_utf8(metrics.render(&snapshot).expect("text")).expect("utf-8");
            let lines = text.lines().filter(|line| line.starts_with("forebay_upstream_connections{"));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(series(&["shop", "blog"]).len(), 4);
        assert_eq!(
            series(&["blog"]),
            [
                r#"forebay_upstream_connections{state="busy",upstream="blog"} 2"#,
                r#"forebay_upstream_connections{state="idle",upstream="blog"} 1"#,
            ]
        );
        assert_eq!(series(&["blog", "shop"]).len(), 4);
    }

    #[test]
    fn mirrored_counters_never_go_back() {
        let metrics = Metrics::new().expect("series");
        let at = |evictions| {
            let snapshot = Snapshot { evictions, ..Snapshot::default() };
            let text = String::from_utf8(metrics.render(&snapshot).expect("text")).expect("utf-8");
            text.lines().find(|line| line.starts_with("forebay_evictions_total")).map(str::to_owned)
        };
        assert_eq!(at(5).as_deref(), Some("forebay_evictions_total 5"));
        assert_eq!(at(3).as_deref(), Some("forebay_evictions_total 5"));
        assert_eq!(at(9).as_deref(), Some("forebay_evictions_total 9"));
    }
}
