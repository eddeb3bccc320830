//! The request as it was received, and the outcome that is written down while it is answered.
//!
//! Decides nothing: what a request asks is read here once, in one place.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::Proxy;
use crate::caching::outcome::{CacheResult, CacheStatus, Forwarded, Fwd, Reason};
use crate::clock;
use crate::semantics::{UnixMillis, fields, forwarded_for};
use crate::store::Tier;
use crate::upstream::request;

/// A request, received.
#[derive(Debug)]
pub struct Asked {
    /// Method, target and fields as they came.
    pub head: Box<Parts>,
    /// The fields less what `Connection` nominates, where it nominates any: nothing about caching is
    /// decided by a field that the origin does not see (RFC 9110 7.6.1).
    end_to_end: Option<Box<HeaderMap>>,
    /// The fields as the origin sees them, once a `Vary` has asked for one that differs.
    forwarded: OnceLock<Box<HeaderMap>>,
    /// The client's address.
    pub client: IpAddr,
    /// Whether a body follows the head.
    pub has_body: bool,
    /// Wall clock at receipt: the `now` of every verdict on this request.
    pub now: UnixMillis,
    /// Monotonic clock at receipt.
    pub started: Instant,
    /// Its route, once it is known.
    pub(super) route: Option<usize>,
    /// Of a request that was refused at the wire: what was read of it.
    pub(super) refused: Option<Box<str>>,
    /// Who answers it, and writes down if it is dropped before it was.
    pub(super) proxy: Arc<Proxy>,
    pub(super) is_answered: AtomicBool,
}

impl Asked {
    /// `http`: TLS towards clients ends before forebay.
    pub const SCHEME: &'static str = "http";

    /// Takes down a request that has just been received.
    #[must_use]
    pub(super) fn receive(proxy: &Arc<Proxy>, head: Box<Parts>, client: IpAddr, has_body: bool) -> Self {
        let end_to_end = nominates(&head.headers).then(|| {
            let mut headers = head.headers.clone();
            fields::remove_hop_by_hop(&mut headers);
            Box::new(headers)
        });
        let forwarded = OnceLock::new();
        let received = clock::latest();
        Self {
            head,
            end_to_end,
            forwarded,
            client,
            has_body,
            now: received.wall,
            started: received.monotonic,
            route: None,
            refused: None,
            proxy: Arc::clone(proxy),
            is_answered: AtomicBool::new(false),
        }
    }

    /// A request that nobody sent, to be looked at and not answered.
    #[must_use]
    pub fn described(proxy: &Arc<Proxy>, head: Parts) -> Self {
        let asked = Self::receive(proxy, Box::new(head), IpAddr::V4(Ipv4Addr::LOCALHOST), false);
        asked.is_answered.store(true, Ordering::Relaxed);
        asked
    }

    /// It only stands for a request that was refused at the wire: all that is known of that is its first
    /// line, as far as it was read.
    pub(super) fn refused(&mut self, line: &str) {
        self.refused = Some(line.into());
        self.head.method = Method::from_bytes(b"-").unwrap_or_default();
        self.head.headers.clear();
    }

    /// What a log shows as its target.
    pub(super) fn shown(&self) -> &str {
        self.refused.as_deref().unwrap_or_else(|| self.target())
    }

    /// Who sent it, as far as that can be believed: the client, or who trusted proxies say it was for.
    #[must_use]
    pub fn visitor(&self) -> IpAddr {
        let trusted = &self.proxy.site.rules.server.trusted_proxies;
        forwarded_for::visitor(self.client, &self.head.headers, |address| {
            request::is_trusted(address, trusted)
        })
    }

    /// Whether the client asks to leave HTTP.
    #[must_use]
    pub fn upgrades(&self) -> bool {
        request::asks_for_upgrade(self.head.version, &self.head.headers)
    }

    /// The authority the request is for: that of an absolute-form target, else `Host`, byte for byte.
    #[must_use]
    pub fn authority(&self) -> &str {
        match self.head.uri.authority() {
            Some(authority) => authority.as_str(),
            None => self.head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default(),
        }
    }

    /// Path and query as they came and as they are forwarded.
    #[must_use]
    pub fn target(&self) -> &str {
        self.head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str)
    }

    /// The path alone: what routes match.
    #[must_use]
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The request's end-to-end fields.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        self.end_to_end.as_deref().unwrap_or(&self.head.headers)
    }

    /// The request's fields as the origin sees them; `forward` is asked for them once.
    pub(super) fn forwarded(&self, forward: impl FnOnce() -> Option<HeaderMap>) -> &HeaderMap {
        self.forwarded.get_or_init(|| Box::new(forward().unwrap_or_else(|| self.headers().clone())))
    }

    /// What the wall clock showed at `instant`, by what has passed since receipt: no clock is read again, and one
    /// that is set meanwhile tears no request apart.
    pub(super) fn wall_at(&self, instant: Instant) -> UnixMillis {
        let since = instant.saturating_duration_since(self.started).as_millis();
        UnixMillis(self.now.0.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// The request's method.
    #[must_use]
    pub const fn method(&self) -> &Method {
        &self.head.method
    }
}

/// Whether `Connection` names anything beyond its two plain options.
fn nominates(headers: &HeaderMap) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .any(|value| !matches!(value.as_bytes(), b"keep-alive" | b"close" | b"Keep-Alive" | b"Close"))
}

/// How a request was answered: what Cache-Status, X-Cache, the log line and the metrics all read.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// In one word.
    pub result: CacheResult,
    /// Why.
    pub reason: Option<Reason>,
    /// The tier a reused response came from.
    pub tier: Option<Tier>,
    /// Why it was forwarded, when it was (RFC 9211 2.2).
    pub fwd: Option<Fwd>,
    /// What is told of a forwarded request: the origin's status, stored, collapsed.
    pub told: Forwarded,
    /// Milliseconds of freshness left; negative when stale.
    pub ttl: Option<i64>,
    /// From sending the upstream request to its response head.
    pub origin: Option<Duration>,
}

impl Outcome {
    /// An outcome in one word, with its reason.
    #[must_use]
    pub const fn new(result: CacheResult, reason: Option<Reason>) -> Self {
        Self {
            result,
            reason,
            tier: None,
            fwd: None,
            told: Forwarded { status: None, stored: false, collapsed: false },
            ttl: None,
            origin: None,
        }
    }

    /// A reused response from `tier`.
    #[must_use]
    pub const fn reused(result: CacheResult, tier: Tier, reason: Reason) -> Self {
        let mut outcome = Self::new(result, Some(reason));
        outcome.tier = Some(tier);
        outcome
    }

    /// A request that is forwarded because of `reason`.
    #[must_use]
    pub fn forwarded(result: CacheResult, reason: Reason) -> Self {
        Self { fwd: Some(reason.fwd().unwrap_or(Fwd::Miss)), ..Self::new(result, Some(reason)) }
    }

    /// This cache's member of Cache-Status (RFC 9211); `None` for what the proxy said by itself.
    #[must_use]
    pub fn cache_status<'a>(&self, name: &'a str) -> Option<CacheStatus<'a>> {
        let mut status = match self.fwd {
            Some(fwd) => CacheStatus::forwarded(name, fwd, self.told),
            None if self.tier.is_some() => CacheStatus::hit(name),
            None => return None,
        };
        if let Some(ttl) = self.ttl {
            status = status.ttl(ttl);
        }
        // That it was fresh is what a hit is; who answered says more.
        let reason = self.reason.filter(|reason| *reason != Reason::Fresh).map(Reason::code);
        match reason.or_else(|| self.tier.map(Tier::label)) {
            Some(detail) => Some(status.detail(detail)),
            None => Some(status),
        }
    }
}
