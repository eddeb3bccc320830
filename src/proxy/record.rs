//! The last step of a request's life: its metrics and its line in the access log.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use http::{Method, StatusCode};

use super::Proxy;
use super::asked::{Asked, Outcome};
use super::deliver::Finish;
use crate::caching::outcome::{CacheResult, Reason};
use crate::clock;
use crate::observe::access_log::Line;
use crate::store::Tier;

/// In logs and metrics alone; never sent, since there is nobody to send it to.
const CLIENT_GONE: u16 = 499;

/// Everything the record needs once the answer has ended; owned, since the request is gone by then.
#[derive(Debug)]
pub(super) struct Record {
    proxy: Arc<Proxy>,
    route: Option<usize>,
    method: Method,
    status: StatusCode,
    outcome: Outcome,
    started: std::time::Instant,
    /// Only when lines are wanted: authority and target.
    line: Option<Box<LineFacts>>,
}

#[derive(Debug)]
struct LineFacts {
    at: crate::semantics::UnixMillis,
    client: std::net::IpAddr,
    host: String,
    target: String,
}

impl Record {
    /// Takes down what the record of this answer needs.
    #[must_use]
    pub(super) fn of(
        proxy: &Arc<Proxy>,
        asked: &Asked,
        route: Option<usize>,
        status: StatusCode,
        outcome: Outcome,
    ) -> Self {
        asked.is_answered.store(true, Relaxed);
        let line = proxy.shared.log.enabled().then(|| {
            Box::new(LineFacts {
                at: asked.now,
                client: asked.visitor(),
                host: asked.authority().to_owned(),
                target: asked.shown().to_owned(),
            })
        });
        Self {
            proxy: Arc::clone(proxy),
            route,
            method: asked.method().clone(),
            status,
            outcome,
            started: asked.started,
            line,
        }
    }

    /// Counts and writes the line: `sent` bytes of content went out, all of it or broken off for a reason.
    pub(super) fn write(self, sent: u64, broken: Option<Reason>) {
        let took = clock::monotonic().saturating_duration_since(self.started);
        let site = &self.proxy.site;
        let route = self.route.and_then(|index| site.routes.get(index)).unwrap_or(&site.no_route);
        let shared = &self.proxy.shared;
        shared.metrics.request(route, &self.method, self.status, self.outcome.result, took);
        if let Some(reason) = self.outcome.reason {
            shared.metrics.reasons.count(reason);
        }
        if let Some(facts) = &self.line {
            shared.log.record(&Line {
                at: facts.at,
                client: facts.client,
                method: &self.method,
                host: &facts.host,
                target: &facts.target,
                status: self.status,
                bytes: sent,
                route: route.name(),
                result: self.outcome.result,
                reason: broken.or(self.outcome.reason),
                tier: self.outcome.tier.map(Tier::label),
                total: took,
                origin: self.outcome.origin,
                broken: broken.is_some(),
            });
        }
    }
}

impl Finish for Record {
    fn finished(self: Box<Self>, sent: u64, broken: Option<Reason>) {
        self.write(sent, broken);
    }
}

impl Drop for Asked {
    /// A client that left before the head of its answer: nobody was answered, and it is written down all
    /// the same, with the status that other servers use for it.
    fn drop(&mut self) {
        if self.is_answered.load(Relaxed) {
            return;
        }
        let outcome = Outcome::new(CacheResult::Error, Some(Reason::ClientGone));
        let status = StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST);
        Record::of(&self.proxy, self, self.route, status, outcome).write(0, None);
    }
}
