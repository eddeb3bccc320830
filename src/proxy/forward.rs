//! Forwarding a request that the cache has nothing to do with: streamed both ways, never stored but
//! for an answer to POST that is what a GET would be given.
//!
//! Decides nothing: what a successful unsafe method invalidates is the verdict of
//! `caching::invalidation`. The client's own preconditions, ranges and body cross as they are; a
//! client that breaks off breaks the upstream message off.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LOCATION;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

use super::answer::{Given, Reused, Source};
use super::asked::{Asked, Outcome};
use super::deliver::Reply;
use super::errand::{Arrival, Errand};
use super::error::Failure;
use super::long::Unopened;
use super::lookup::{Candidate, Found, Selecting};
use super::{Got, Proxy, own};
use crate::boxed::in_place;
use crate::caching::admission::RequestFacts;
use crate::caching::invalidation::{self, Invalidation, TargetUri};
use crate::caching::outcome::{CacheResult, Reason};
use crate::caching::stamp::{Mode, Purge, PurgeId, Stamp};
use crate::caching::stored::StoredHead;
use crate::caching::{reuse, storability, tags, url, validation};
use crate::clock;
use crate::observe::metrics::Cause;
use crate::rules::route::Route;
use crate::store::StoreKey;
use crate::store::redis::Told;
use crate::upstream::request::{self, Hop, RequestHead, Unforwardable};
use crate::upstream::{Answer, RequestBody, UpstreamError};
use crate::wire::{Connection, Content};

/// What is forwarded, and what for.
pub(super) struct Forwarding<'a> {
    /// The route it belongs to.
    pub route: &'a Arc<Route>,
    /// Why it is not the cache's.
    pub reason: Reason,
    /// What it asks, where its answer may be the cache's all the same.
    pub facts: Option<&'a RequestFacts>,
    /// The content that follows the head.
    pub body: RequestBody,
    /// The client's connection, for a tunnel.
    pub connection: &'a Connection,
}

impl Proxy {
    /// Forwards, and streams the answer back.
    pub(super) async fn forward(self: &Arc<Self>, asked: Asked, forwarding: Forwarding<'_>) -> Reply {
        let Forwarding { route, reason, facts, body, connection } = forwarding;
        let mut outcome = Outcome::forwarded(CacheResult::Bypass, reason);
        let Ok(head) = self.upstream_head(&asked, asked.method().clone()) else {
            return self.fail(&asked, Some(route.index), Failure::UNFORWARDABLE, outcome);
        };
        let upstream = self.upstream(route);
        self.shared.metrics.origin_fetch(self.site.route_metrics(route), Cause::Bypass);
        let stamp = self.shared.purges.stamp();
        let options = self.relaying(&asked, route, connection);
        let begun = clock::monotonic();
        let failed = |error: &UpstreamError| self.unanswered_or_refused(route, error, connection);
        let answer = match upstream.send(&head, body, &options).await {
            Ok(answer) => answer,
            Err(error) => return self.fail(&asked, Some(route.index), failed(&error), outcome),
        };
        let took = clock::monotonic().saturating_duration_since(begun);
        self.shared.metrics.origin_answered(self.site.route_metrics(route), upstream.name(), took);
        outcome.origin = Some(took);
        outcome.told.status = Some(answer.head.status);
        let switches = answer.head.status == StatusCode::SWITCHING_PROTOCOLS;
        if !switches && invalidation::is_safe(asked.method()) {
            // Nothing has changed, and nothing is decided by what the answer says: it goes on as it came.
            return self.pass_on(&asked, route.index, answer, outcome);
        }
        let answer = match answer.cleaned(&self.site.via) {
            Ok(answer) => answer,
            Err(error) => return self.fail(&asked, Some(route.index), failed(&error), outcome),
        };
        if switches {
            return self.switch(&asked, route, answer, connection, outcome);
        }
        let conditions = validation::Asked::Nothing;
        let (sent, received) = (asked.wall_at(begun), asked.wall_at(begun + took));
        let arrival = Arrival { stamp, sent, received, begun, took, conditions };
        in_place(|| self.changed(asked, route, facts, answer, arrival, outcome)).await
    }

    /// Acts on the answer to an unsafe method before it is streamed back: what it has changed is invalidated, and
    /// where it is what a GET would be given, it is stored.
    async fn changed(
        self: &Arc<Self>,
        asked: Asked,
        route: &Arc<Route>,
        facts: Option<&RequestFacts>,
        answer: Answer,
        arrival: Arrival,
        mut outcome: Outcome,
    ) -> Reply {
        let described = facts.and_then(|facts| self.described(&asked, facts, route, &answer, arrival));
        let (status, fields) = (answer.head.status, &answer.head.headers);
        let purged = self.invalidate(&asked, route, status, fields, described.is_some()).await;
        if let Some((errand, mut head)) = described {
            // It is what this very request has left behind: only its own purge does not concern it.
            head.stamp = purged.unwrap_or(arrival.stamp);
            outcome.told.stored = true;
            if let Got::Landed(landed, Unopened::Here(source)) =
                own(errand.take_in(head, answer, arrival)).await
            {
                let reused = Reused {
                    head: &landed.head,
                    fields: Given::landed(&landed, true, arrival.received),
                    source,
                };
                return self.answer(&asked, &RequestFacts::default(), route.index, reused, outcome);
            }
            return self.fail(&asked, Some(route.index), Failure::INTERNAL, outcome);
        }
        let mut headers = answer.head.headers;
        storability::client_fields(&mut headers, false, &route.policy);
        self.pass(&asked, route.index, answer.head.status, headers, answer.body, outcome)
    }

    /// The answer to POST that is stored, and as what (RFC 9110 9.3.3): one that nothing it bears was
    /// purged for since the request was sent.
    fn described(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        answer: &Answer,
        arrival: Arrival,
    ) -> Option<(Errand, Box<StoredHead>)> {
        let describes = *asked.method() == Method::POST && answer.head.headers.contains_key(CONTENT_LOCATION);
        // Nobody would look for it.
        if !describes || url::has_dot_segments(asked.path()) {
            return None;
        }
        let in_key = self.fields_named(Selecting::Asked(asked), &route.policy.key.headers);
        let key = route.policy.key.key(Asked::SCHEME, asked.authority(), asked.target(), in_key);
        let mut errand = self.errand(asked, facts, route, &key.ok()?, &Found::Nothing, Cause::Bypass)?;
        errand.request.method = Method::POST;
        let head = errand.described(answer, arrival)?;
        self.shared
            .purges
            .validity(arrival.stamp, &head.ids, &errand.key.text)
            .is_valid()
            .then_some((errand, head))
    }

    /// Forwards a HEAD about a stored response that could not answer it, and learns from the answer.
    pub(super) async fn ask_with_head(
        self: &Arc<Self>,
        asked: Asked,
        route: &Arc<Route>,
        reason: Reason,
        candidate: &Candidate,
        errand: Option<Errand>,
        connection: &Connection,
    ) -> Reply {
        let mut outcome = Outcome::forwarded(CacheResult::Miss, reason);
        let (Some(errand), Ok(head)) = (errand, self.upstream_head(&asked, Method::HEAD)) else {
            return self.fail(&asked, Some(route.index), Failure::UNFORWARDABLE, outcome);
        };
        let stamp = self.shared.purges.stamp();
        let options = self.relaying(&asked, route, connection);
        let begun = clock::monotonic();
        let upstream = self.upstream(route);
        self.shared.metrics.origin_fetch(self.site.route_metrics(route), Cause::Validate);
        let stands_in = || {
            let head = &candidate.stored.head;
            reuse::stale_if_error(head, &errand.facts, &route.policy, asked.now)
                && !self.is_purged(head, &errand.key)
        };
        let stale = |proxy: &Arc<Self>, failure| {
            errand.back_off(failure);
            let reason = Reason::StaleIfError;
            let source = Source::of_head(&candidate.stored.body);
            proxy.reuse(&asked, &errand.facts, route, candidate, source, reason)
        };
        let answered = upstream.send(&head, RequestBody::Empty, &options).await;
        let answer = match answered.and_then(|answer| answer.cleaned(&self.site.via)) {
            Ok(answer) if answer.head.status.is_server_error() && stands_in() => {
                errand.stood_in_for(answer.head.status);
                return stale(self, Failure::ORIGIN_ERROR);
            }
            Ok(answer) => answer,
            Err(error) if stands_in() => return stale(self, Failure::from(&error)),
            Err(error) => {
                let failure = self.unanswered_or_refused(route, &error, connection);
                let failure = failure.where_stored(Some(&candidate.stored.head));
                errand.back_off(failure);
                return self.fail(&asked, Some(route.index), failure, outcome);
            }
        };
        let took = clock::monotonic().saturating_duration_since(begun);
        self.shared.metrics.origin_answered(self.site.route_metrics(route), upstream.name(), took);
        outcome.origin = Some(took);
        outcome.told.status = Some(answer.head.status);
        let conditions = validation::Asked::Nothing;
        let (sent, received) = (asked.wall_at(begun), asked.wall_at(begun + took));
        let arrival = Arrival { stamp, sent, received, begun, took, conditions };
        if !answer.head.status.is_server_error() {
            self.shared.backoff.recovered(errand.flight());
        }
        errand.told_by_head(&answer.head, arrival).await;
        let mut headers = answer.head.headers;
        storability::client_fields(&mut headers, false, &route.policy);
        self.pass(&asked, route.index, answer.head.status, headers, answer.body, outcome)
    }

    /// Writes down that the origin could not answer; what that is to a client.
    pub(super) fn unanswered(&self, route: &Route, error: &UpstreamError) -> Failure {
        let (upstream, reason, text) = (self.upstream(route).name(), error.reason().code(), error.in_full());
        tracing::warn!(route = %route.name, %upstream, reason, error = %text, "the origin could not answer");
        Failure::from(error)
    }

    /// The same; content that was refused in its middle has broken the upstream message off.
    fn unanswered_or_refused(
        &self,
        route: &Route,
        error: &UpstreamError,
        connection: &Connection,
    ) -> Failure {
        let failure = self.unanswered(route, error);
        connection.refusal().map_or(failure, Failure::from)
    }

    /// The head that goes upstream for this request.
    fn upstream_head(&self, asked: &Asked, method: Method) -> Result<RequestHead, Unforwardable> {
        let Parts { uri, version, headers, .. } = &*asked.head;
        request::forwarded(method, uri, *version, headers, &self.hop(asked))
    }

    /// The same with its fields in a map.
    pub(super) fn upstream_fields(&self, asked: &Asked, method: Method) -> Result<Parts, Unforwardable> {
        let Parts { uri, version, headers, .. } = &*asked.head;
        request::forwarded_fields(method, uri, *version, headers, &self.hop(asked))
    }

    fn hop(&self, asked: &Asked) -> Hop<'_> {
        let trusted = request::is_trusted(asked.client, &self.site.rules.server.trusted_proxies);
        Hop { peer: asked.client, trusted, tls: false, via: &self.site.via }
    }

    /// 101 that the client asked for: from here on both sides exchange bytes that are not HTTP.
    fn switch(
        self: &Arc<Self>,
        asked: &Asked,
        route: &Arc<Route>,
        mut answer: Answer,
        connection: &Connection,
        outcome: Outcome,
    ) -> Reply {
        tags::remove(&mut answer.head.headers);
        let Some(tunnel) = answer.tunnel.filter(|_| asked.upgrades()) else {
            return self.fail(asked, Some(route.index), Failure::UNASKED_UPGRADE, outcome);
        };
        // What came behind the request already cannot be passed on: nobody knows what it was meant for.
        let Some(to_client) = connection.tunnel() else {
            return self.fail(asked, Some(route.index), Failure::UNFORWARDABLE, outcome);
        };
        let idle = self.site.rules.server.idle_timeout;
        tokio::spawn(async move {
            let Ok(client) = to_client.await else { return };
            super::tunnel::relay(client, tunnel.open(), idle).await;
        });
        self.switching(asked, route.index, answer.head.headers, outcome)
    }

    /// Carries out what a successful unsafe method invalidates (RFC 9111 4.4): all of it here before
    /// anything is waited for, so that no purge of others falls in between; then the fleet is told, where
    /// it may hold any of it, or `stores` says that this answer takes its place. The last purge's number.
    async fn invalidate(
        self: &Arc<Self>,
        asked: &Asked,
        route: &Arc<Route>,
        status: StatusCode,
        response: &HeaderMap,
        stores: bool,
    ) -> Option<Stamp> {
        let shared = &self.shared;
        let Invalidated { places, purges, others } = self.invalidated(asked, route, status, response);
        let mut cached = stores || others;
        let purges = shared.purges.purge_each(purges, clock::wall());
        let last = purges.last().map(|(_, number)| *number)?;
        // The journal tells of what was seen to be cached: not of every URL that is ever posted to.
        for place in &places {
            cached |= shared.memory.remove(place);
        }
        if self.redis.is_none() {
            return Some(last);
        }
        // What has begun ends, whether its client stays or not: the fleet is owed the news.
        let telling = tokio::spawn(Arc::clone(self).tell(places, purges, cached));
        let told = telling.await.ok().flatten();
        Some(told.map_or(last, |told| last.max(told)))
    }

    /// Forgets records in Redis, and tells the fleet of the purges that hold here: those of what is cached
    /// somewhere, for all that is known.
    async fn tell(
        self: Arc<Self>,
        places: Vec<StoreKey>,
        purges: Vec<(Purge, Stamp)>,
        mut cached: bool,
    ) -> Option<Stamp> {
        let (redis, journal) = (self.redis.as_ref()?, self.shared.journal.as_ref()?);
        for place in &places {
            cached |= redis.forget(place).await.unwrap_or(true);
        }
        if !cached {
            purges.iter().for_each(|(_, number)| self.shared.purges.settle(*number));
            return None;
        }
        let patience = self.site.rules.redis.as_ref().map_or(Duration::ZERO, |redis| redis.write_timeout);
        match journal.tell(purges, patience).await {
            Told::Fleet(sequence) => Some(Stamp::of(sequence)),
            Told::Later => None,
        }
    }

    /// What an unsafe method invalidates: a purge for each target, and one more for groups (RFC 9875 3).
    fn invalidated(
        &self,
        asked: &Asked,
        route: &Route,
        status: StatusCode,
        response: &HeaderMap,
    ) -> Invalidated {
        let mut invalidated = Invalidated::default();
        let target =
            TargetUri { scheme: Asked::SCHEME, authority: asked.authority(), path_and_query: asked.target() };
        let Invalidation { targets, groups } =
            invalidation::targets(asked.method(), status, target, response);
        for target in targets {
            // The target may belong to another route, with another recipe for its key.
            let path = target.split('?').next().unwrap_or_default();
            let policy = match self.site.rules.select(asked.authority(), path) {
                Some(selected) => &selected.route.policy,
                None => &route.policy,
            };
            if !policy.cache {
                continue;
            }
            let recipe = &policy.key;
            let in_key = self.fields_named(Selecting::Asked(asked), &recipe.headers);
            let authority = asked.authority();
            let Ok(key) = recipe.key(Asked::SCHEME, authority, &target, in_key) else { continue };
            let url = recipe.url(Asked::SCHEME, authority, &target, &key);
            invalidated.purges.push(Purge::of_ids(Mode::Hard, vec![PurgeId::url(url)]));
            // As most clients spell it, should this one not.
            let usual = recipe.key(Asked::SCHEME, &url::authority(authority), &url::target(&target), in_key);
            let usual = usual.ok().filter(|usual| usual.hash != key.hash);
            for key in [Some(key), usual].into_iter().flatten() {
                invalidated.places.push(StoreKey { primary: key.hash, variant: None, text: key.text });
            }
            invalidated.others |= !(recipe.headers.is_empty() && recipe.cookies.is_empty());
            self.shared.metrics.purge("key", "unsafe_method");
        }
        if !groups.is_empty() {
            invalidated.purges.push(Purge::of_ids(Mode::Hard, groups));
            invalidated.others = true;
            self.shared.metrics.purge("group", "unsafe_method");
        }
        invalidated
    }
}

/// What the success of an unsafe method invalidates.
#[derive(Debug, Default)]
struct Invalidated {
    /// Records that it concerns, as far as they can be named.
    places: Vec<StoreKey>,
    purges: Vec<Purge>,
    /// There may be others that nobody can name: under other values of the fields in their key, or of a
    /// group.
    others: bool,
}

/// The body of a client's request as it goes upstream.
pub(super) fn request_body(content: Content) -> RequestBody {
    if http_body::Body::is_end_stream(&content) { RequestBody::Empty } else { RequestBody::Incoming(content) }
}
