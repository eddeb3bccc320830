//! One process's proxy: what its workers share, made once, and the worker proxies made from it.
//!
//! A reload makes new rules, routes and upstreams; tiers, flights and counters stay.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::site::{Proxy, Shared, Site};
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{Metrics, RedisCommands};
use crate::rules::Rules;
use crate::rules::settings::{RedisServer, RedisSettings};
use crate::store::memory::MemoryTier;
use crate::store::purges::PurgeTable;
use crate::store::redis::{self, Journal, RedisStore};
use crate::upstream::request::Via;
use crate::upstream::{Upstream, UpstreamShared, native_tls};

/// Why an instance cannot be made.
pub type SetupError = Box<dyn std::error::Error + Send + Sync>;

/// What all workers of a process share.
#[derive(Debug)]
pub struct Instance {
    /// Tiers, flights, counters.
    pub shared: Arc<Shared>,
    /// The configuration in force.
    pub site: ArcSwap<Site>,
    redis: Option<RedisParts>,
}

#[derive(Debug)]
struct RedisParts {
    settings: Arc<redis::Settings>,
    counters: Arc<redis::Counters>,
}

impl Instance {
    /// Makes tiers and counters, and resolves the rules.
    ///
    /// # Errors
    /// When an upstream cannot be used, a file of certificates cannot be read, or a metric cannot be
    /// registered.
    pub fn new(rules: Rules, log: AccessLog) -> Result<Self, SetupError> {
        let metrics = Metrics::new()?;
        let purges = Arc::new(match &rules.redis {
            Some(redis) => PurgeTable::of_fleet(redis.purge_grace),
            None => PurgeTable::alone(),
        });
        let memory =
            MemoryTier::new(rules.memory.max_size, rules.memory.max_object_size, Arc::clone(&purges));
        let redis = match &rules.redis {
            Some(settings) => {
                Some(RedisParts { settings: Arc::new(redis_settings(settings)?), counters: Arc::default() })
            }
            None => None,
        };
        let site = site(rules, &metrics)?;
        let journal = redis.as_ref().map(|redis| {
            let observer = Arc::new(Latency(metrics.redis_commands()));
            let (settings, counters) = (Arc::clone(&redis.settings), Arc::clone(&redis.counters));
            Arc::new(Journal::new(settings, Arc::clone(&purges), counters, observer))
        });
        let shared = Arc::new(Shared {
            memory,
            purges,
            journal,
            flights: Arc::default(),
            readings: Arc::default(),
            assemblies: Arc::default(),
            errands: Arc::default(),
            backoff: Default::default(),
            apart: Default::default(),
            metrics,
            log,
        });
        Ok(Self { shared, site: ArcSwap::from_pointee(site), redis })
    }

    /// The proxy of one more worker; on that worker's event loop.
    #[must_use]
    pub fn worker(&self) -> Arc<Proxy> {
        let redis = self.redis.as_ref().map(|redis| {
            let observer = Arc::new(Latency(self.shared.metrics.redis_commands()));
            RedisStore::connect(Arc::clone(&redis.settings), Arc::clone(&redis.counters), observer)
        });
        self.proxy(redis)
    }

    /// The same worker's proxy under the configuration now in force; its connection to Redis stays.
    #[must_use]
    pub fn renewed(&self, before: &Proxy) -> Arc<Proxy> {
        self.proxy(before.redis.clone())
    }

    /// Puts new rules in force; names the tables whose changes need a restart.
    ///
    /// # Errors
    /// When an upstream cannot be used: the rules in force stay.
    pub fn reload(&self, mut rules: Rules) -> Result<Vec<&'static str>, SetupError> {
        let before = self.site.load_full();
        let needs_restart = before.rules.needs_restart(&rules);
        rules.keep_process_settings(&before.rules);
        self.site.store(Arc::new(site(rules, &self.shared.metrics)?));
        self.shared.metrics.reloaded(true);
        Ok(needs_restart)
    }

    /// What the Redis tier counts, when there is one.
    #[must_use]
    pub fn redis_counters(&self) -> Option<&redis::Counters> {
        self.redis.as_ref().map(|redis| &*redis.counters)
    }

    fn proxy(&self, redis: Option<Arc<RedisStore>>) -> Arc<Proxy> {
        let site = self.site.load_full();
        let upstreams = site.upstreams.iter().map(|shared| Upstream::new(Arc::clone(shared))).collect();
        Arc::new(Proxy { shared: Arc::clone(&self.shared), site, upstreams, redis })
    }
}

/// Hands the duration of each Redis command to its histogram.
#[derive(Debug)]
struct Latency(RedisCommands);

impl redis::CommandObserver for Latency {
    fn observe(&self, command: &'static str, took: std::time::Duration) {
        self.0.observe(command, took);
    }
}

fn site(rules: Rules, metrics: &Metrics) -> Result<Site, SetupError> {
    let tls = rules.upstreams.iter().any(|upstream| upstream.servers.iter().any(|server| server.tls));
    let tls = if tls {
        let (tls, errors) = native_tls()?;
        for error in errors {
            tracing::warn!("a certificate authority of this system was passed over: {error}");
        }
        Some(tls)
    } else {
        None
    };
    let mut upstreams = Vec::with_capacity(rules.upstreams.len());
    for settings in &rules.upstreams {
        let shared = UpstreamShared::new(settings.clone(), tls.as_ref())
            .map_err(|error| format!("upstream.{}: {error}", settings.name))?;
        upstreams.push(shared);
    }
    let via = Via::new(&rules.server.name).ok_or("server.name is no token")?;
    Ok(Site::new(rules, upstreams, via, metrics))
}

fn redis_settings(from: &RedisSettings) -> Result<redis::Settings, SetupError> {
    let authorities = match &from.ca {
        Some(file) => redis::Authorities::of_file(file).map_err(|error| format!("redis.ca: {error}"))?,
        None => redis::Authorities::System,
    };
    Ok(redis::Settings {
        server: redis_server(&from.server),
        authorities,
        database: from.database,
        username: from.username.clone(),
        password: from.password.as_ref().map(|secret| secret.expose().to_owned()),
        prefix: from.prefix.clone(),
        read_timeout: from.read_timeout,
        write_timeout: from.write_timeout,
        max_object_size: from.max_object_size,
        compress_above: from.compress_above,
        lock_ttl: from.lock_ttl,
    })
}

fn redis_server(from: &RedisServer) -> redis::Server {
    // A URL has an IPv6 address in brackets, a socket has none.
    let node = |host: &str, port: u16| redis::Node {
        host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
        port,
    };
    let nodes = |from: &[(String, u16)]| from.iter().map(|(host, port)| node(host, *port)).collect();
    match from {
        RedisServer::Tcp { host, port, tls } => redis::Server::Tcp { node: node(host, *port), tls: *tls },
        RedisServer::Cluster { nodes: from, tls } => redis::Server::Cluster { nodes: nodes(from), tls: *tls },
        RedisServer::Sentinel { sentinels, service, tls, sentinel_username, sentinel_password } => {
            redis::Server::Sentinel {
                sentinels: nodes(sentinels),
                service: service.clone(),
                tls: *tls,
                username: sentinel_username.clone(),
                password: sentinel_password.as_ref().map(|secret| secret.expose().to_owned()),
            }
        }
        RedisServer::Unix(path) => redis::Server::Unix { path: path.clone() },
    }
}
