//! The rules a proxy lives by: the configuration after every rejection, resolved and immutable.
//!
//! Decides: which route a request belongs to. Never touches: files, TOML, the environment (that is
//! `config`), sockets, or what caching rules mean (that is `caching`). One value of [`Rules`] is
//! built per load and shared by every worker; a reload builds another and swaps the pointer.

pub mod matcher;
pub mod route;
pub mod select;
pub mod settings;
pub mod why;

use std::sync::Arc;

use self::matcher::Params;
use self::route::Route;
use self::select::Matcher;
use self::settings::{AdminSettings, MemorySettings, RedisSettings, ServerSettings, Size, UpstreamSettings};

/// Everything one configuration says, resolved.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The public listeners and the limits on their clients.
    pub server: ServerSettings,
    /// The admin listener; `None` when it is switched off.
    pub admin: Option<AdminSettings>,
    /// The memory tier.
    pub memory: MemorySettings,
    /// The Redis tier; `None` leaves the memory tier alone.
    pub redis: Option<RedisSettings>,
    /// Origins, in the order of their names; [`Route::upstream`] is an index into this.
    pub upstreams: Vec<UpstreamSettings>,
    /// Routes in the order of the file; [`Route::index`] is an index into this.
    pub routes: Vec<Arc<Route>>,
    /// Selects among `routes`.
    pub matcher: Matcher,
    /// What is allowed and probably not meant, one line each, ready to be logged.
    pub warnings: Vec<String>,
}

/// The route of a request, and its path for whoever wants the parameters.
#[derive(Clone, Copy, Debug)]
pub struct Selected<'r, 'p> {
    /// The route.
    pub route: &'r Arc<Route>,
    path: &'p str,
}

impl<'r, 'p> Selected<'r, 'p> {
    /// What the `{name}`s of the route's path stand for. Read from the path on demand: a hit that
    /// needs no parameter pays for none.
    #[must_use]
    pub fn params(&self) -> Params<'r, 'p> {
        self.route.path.params(self.path)
    }
}

impl Rules {
    /// The route of a request: first the most specific host (exact, then the longest `*.suffix`, then
    /// any), then the most specific path (fixed before `{name}` before `{*rest}`, segment by segment).
    ///
    /// `authority` is the Host as received (a port is ignored, letter case too); `path` is the target's
    /// path as it is forwarded, without the query, compared byte for byte. Allocates nothing, and
    /// costs the same with ten routes as with ten thousand.
    #[must_use]
    pub fn select<'r, 'p>(&'r self, authority: &str, path: &'p str) -> Option<Selected<'r, 'p>> {
        let route = self.routes.get(self.matcher.find(authority, path)?)?;
        Some(Selected { route, path })
    }

    /// Which tiers this configuration asks for, for one log line. Never contains a credential.
    #[must_use]
    pub fn tiers_summary(&self) -> String {
        let memory = if self.memory.is_on() {
            format!(
                "memory {} (objects up to {})",
                Size(self.memory.max_size),
                Size(self.memory.max_object_size)
            )
        } else {
            "memory off".to_owned()
        };
        let redis = match &self.redis {
            Some(redis) => format!(
                "redis {} prefix {} (objects up to {})",
                redis.address(),
                redis.prefix,
                Size(redis.max_object_size)
            ),
            None => "redis not configured".to_owned(),
        };
        format!("{memory}; {redis}")
    }

    /// The settings in which `next` differs from `self` but that a running process cannot change:
    /// its listeners, its workers and its tiers. Routes and upstreams are never among them.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> Vec<&'static str> {
        [
            (self.server != next.server, "[server]"),
            (self.admin != next.admin, "[admin]"),
            (self.memory != next.memory, "[memory]"),
            (self.redis != next.redis, "[redis]"),
        ]
        .into_iter()
        .filter_map(|(differs, table)| differs.then_some(table))
        .collect()
    }

    /// Takes over from `running` what [`Self::needs_restart`] looks at, and what follows from it.
    pub fn keep_process_settings(&mut self, running: &Self) {
        self.server = running.server.clone();
        self.admin = running.admin.clone();
        self.memory = running.memory.clone();
        self.redis = running.redis.clone();
        let max_object_size = self.max_object_size();
        for route in &mut self.routes {
            Arc::make_mut(route).policy.max_object_size = max_object_size;
        }
    }

    /// The largest body that a tier which is on holds, in bytes; 0 without any.
    #[must_use]
    pub fn max_object_size(&self) -> u64 {
        let memory = if self.memory.is_on() { self.memory.max_object_size } else { 0 };
        memory.max(self.redis.as_ref().map_or(0, |redis| redis.max_object_size))
    }
}
