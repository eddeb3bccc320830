//! THE LIFE OF A REQUEST, top to bottom: [`Proxy::handle`].
//!
//! receive → select route → admit → look up → judge reuse → collapse → forward → judge storability →
//! store → deliver → record. Each step takes one verdict from the pure core (`caching`) or has one
//! effect through a collaborator, never both in one expression. The last steps of a miss happen in
//! an [`errand`] of its own, because a fetch outlives the client that began it.
//!
//! Interim responses (RFC 9110 15.2) pass through `interim`: to the one client whose request went to the
//! origin, and into no store.
//!
//! Never touches: parsing of fields (`semantics`), the rules (`caching`), bytes on disk or wire.

mod answer;
mod apart;
pub mod asked;
mod backoff;
mod continuation;
mod counted;
pub mod deliver;
pub mod errand;
pub mod error;
mod forward;
pub mod inspect;
mod instance;
mod interim;
mod lease;
pub mod long;
pub mod lookup;
pub mod purge;
pub mod purge_method;
mod record;
mod site;
mod tunnel;

use std::sync::Arc;

use http::Method;
use http::header::{IF_RANGE, RANGE};
use http::request::Parts;
use http_body::Body as _;

pub use instance::{Instance, SetupError};
pub use site::{Proxy, Shared, Site};

use self::answer::{Given, Reused, Source, part_suffices};
use self::asked::{Asked, Outcome};
use self::deliver::Reply;
use self::errand::{Errand, How, Landed, Obtained, Wanted};
use self::error::Failure;
use self::forward::{Forwarding, request_body};
use self::long::Unopened;
use self::lookup::{Candidate, Found, Reading, Selecting};
use crate::boxed::in_place;
use crate::caching::admission::{self, Admission, MethodClass, RequestFacts};
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::{CacheResult, Reason};
use crate::caching::policy::Policy;
use crate::caching::reuse::{self, Reuse};
use crate::caching::stamp::PurgeId;
use crate::caching::stored::{StoredHead, Traits};
use crate::clock;
use crate::collapse::flight::{FlightKey, Joined, Landing, Wait};
use crate::observe::metrics::{Cause, Scope};
use crate::rules::route::{OnCollapseTimeout, Route};
use crate::store::purges::Validity;
use crate::upstream::SendOptions;
use crate::wire::{self, Connection, Refusal};

impl Proxy {
    /// Answers one request.
    pub fn handle(
        self: Arc<Self>,
        head: Box<Parts>,
        body: wire::Content,
        connection: Connection,
        refused: Option<Refusal>,
    ) -> impl Future<Output = Reply> + Send {
        // Receive: one reading of the message; what is ambiguous was refused at the wire. At once, so that
        // a client which left before anything else could be done is written down as well.
        let mut asked = Asked::receive(&self, head, connection.peer(), !body.is_end_stream());
        // A block, not a function: what it captures is not kept twice, and every open connection has one.
        async move {
            if let Some(refusal) = refused {
                asked.refused(connection.refused_line());
                return self.fail(
                    &asked,
                    None,
                    Failure::from(refusal),
                    Outcome::new(CacheResult::Error, None),
                );
            }

            // A PURGE is for the cache itself, and only from who may send it.
            if purge_method::is_purge(asked.method()) {
                return in_place(|| self.purge_method(&asked)).await;
            }

            // Select the route: the most specific host, then the most specific path.
            let Some(selected) = self.site.rules.select(asked.authority(), asked.path()) else {
                let outcome = Outcome::new(CacheResult::Error, None);
                return self.fail(&asked, None, Failure::NO_ROUTE, outcome);
            };
            let route = selected.route;
            asked.route = Some(route.index);

            // Admit: is this request the cache's business at all?
            let policy = &route.policy;
            let facts = match admission::admit(
                asked.method(),
                asked.path(),
                asked.headers(),
                asked.has_body,
                asked.upgrades(),
                policy,
            ) {
                Admission::Lookup(facts) => facts,
                Admission::Forward(reason, facts) => {
                    let facts = policy.cache.then_some(&facts);
                    let body = request_body(body);
                    let forwarding = Forwarding { route, reason, facts, body, connection: &connection };
                    return in_place(|| self.forward(asked, forwarding)).await;
                }
            };
            // What leaves the hit path is boxed: a hit does not carry the room that a miss needs.
            let forward_as_it_is = |asked: Asked, reason: Reason| {
                let body = crate::upstream::RequestBody::Empty;
                in_place(|| {
                    self.forward(
                        asked,
                        Forwarding { route, reason, facts: None, body, connection: &connection },
                    )
                })
            };
            let in_key = self.fields_named(Selecting::Asked(&asked), &policy.key.headers);
            let Ok(key) = policy.key.key(Asked::SCHEME, asked.authority(), asked.target(), in_key) else {
                return forward_as_it_is(asked, Reason::KeyTooLong).await;
            };

            // Look up and judge reuse: memory first, and Redis only when memory does not answer.
            let mut found = self.look_in_memory(&key, Selecting::Asked(&asked), asked.now);
            let mut verdict = judge(&found, &facts, route, &asked);
            if verdict.wants_more() {
                let remote = in_place(|| {
                    self.look_in_redis(&key, Selecting::Asked(&asked), Reading::Shared, asked.now)
                })
                .await;
                found = found.or_better(remote);
                verdict = judge(&found, &facts, route, &asked);
            }
            // A long body begins to be read before the head is sent: one that is not there counts as absent.
            let mut source = None;
            if let Some(candidate) = verdict.candidate() {
                source = match candidate.stored.body.here() {
                    Some(body) => Some(Source::Whole(body.clone())),
                    None => in_place(|| self.open(&asked, &facts, route, &key, candidate)).await,
                };
                if source.is_none() {
                    found = Found::Unreadable(candidate.clone());
                    verdict = judge(&found, &facts, route, &asked);
                }
            }
            let (cause, reason) = match (verdict, source) {
                (Verdict::Fresh(candidate), Some(source)) => {
                    let early =
                        reuse::refresh_early(&candidate.stored.head, policy, asked.now, fastrand::f64())
                            && self.refresh(&asked, &facts, route, &key, &found);
                    let reason = if early { Reason::EarlyRefresh } else { Reason::Fresh };
                    return self.reuse(&asked, &facts, route, candidate, source, reason);
                }
                (Verdict::StaleWhileRevalidate(candidate), Some(source)) => {
                    self.refresh(&asked, &facts, route, &key, &found);
                    let reason = Reason::StaleWhileRevalidate;
                    return self.reuse(&asked, &facts, route, candidate, source, reason);
                }
                (Verdict::Validate(reason), _) => (Cause::Validate, reason),
                (Verdict::Fetch(reason), _) => (Cause::Miss, reason),
                (Verdict::Fresh(_) | Verdict::StaleWhileRevalidate(_), None) => {
                    (Cause::Miss, Reason::ContentUnreadable)
                }
            };
            if facts.only_if_cached() {
                let outcome = Outcome::new(CacheResult::Error, Some(Reason::OnlyIfCached));
                return self.fail(&asked, Some(route.index), Failure::ONLY_IF_CACHED, outcome);
            }
            let flight = found.flight_key(&key, &self, Selecting::Asked(&asked));
            // What is not for this request, confirmed or not, does not stand in for its answer either.
            let selected = found.candidate().filter(|_| cause == Cause::Validate);
            let stand_in = selected
                .filter(|candidate| reuse::stale_if_error(&candidate.stored.head, &facts, policy, asked.now));
            if let Some(candidate) = stand_in
                && self.shared.backoff.holds(flight, asked.now)
                && let Some(source) = in_place(|| self.open(&asked, &facts, route, &key, candidate)).await
            {
                let reason = Reason::OriginBackOff;
                return self.reuse(&asked, &facts, route, candidate, source, reason);
            }
            // Nor would a HEAD be worth a whole response that is not going to be stored.
            let alone = facts.conditional || facts.range || facts.method == MethodClass::Head;
            let passes_by = matches!(found, Found::HitForMiss) && alone;
            if passes_by {
                return forward_as_it_is(asked, Reason::HitForMiss).await;
            }

            if facts.method == MethodClass::Head
                && let Some(candidate) = found.candidate()
            {
                // What is stored is asked about with HEAD itself (RFC 9111 4.3.5): no content moves.
                let errand = self.errand(&asked, &facts, route, &key, &found, Cause::Validate);
                return in_place(|| self.ask_with_head(asked, route, reason, candidate, errand, &connection))
                    .await;
            }

            // Collapse and forward: one fetch, shared by all who may share it.
            let mut outcome = Outcome::forwarded(CacheResult::Miss, reason);
            let obtaining = {
                let Some(mut errand) = self.errand(&asked, &facts, route, &key, &found, cause) else {
                    return self.fail(&asked, Some(route.index), Failure::UNFORWARDABLE, outcome);
                };
                errand.options = self.relaying(&asked, route, &connection);
                in_place(|| self.obtain_opened(&asked, route, errand, flight, &mut outcome))
            };
            let got = obtaining.await;

            // Deliver (and record, when the last byte is out).
            match got {
                Got::Landed(landed, Unopened::Here(source)) => {
                    self.deliver_landed(&asked, &facts, route, &landed, source, outcome)
                }
                Got::Passed(passed) => {
                    outcome.result = CacheResult::Miss;
                    outcome.reason = Some(passed.reason);
                    outcome.told.status = Some(passed.status);
                    outcome.origin = Some(passed.took);
                    self.pass(&asked, route.index, passed.status, passed.headers, passed.body, outcome)
                }
                Got::Failed(failure) => {
                    if let Some(candidate) = stand_in
                        && !self.is_purged(&candidate.stored.head, &key)
                        && let Some(source) =
                            in_place(|| self.open(&asked, &facts, route, &key, candidate)).await
                    {
                        let reason = Reason::StaleIfError;
                        return self.reuse(&asked, &facts, route, candidate, source, reason);
                    }
                    let failure = failure.where_stored(found.candidate().map(|stored| &stored.stored.head));
                    self.fail(&asked, Some(route.index), failure, outcome)
                }
                Got::Impatient => {
                    if route.on_collapse_timeout == OnCollapseTimeout::Stale
                        && let Some(candidate) = selected
                        && reuse::stale_on_timeout(&candidate.stored.head, &facts, policy, asked.now)
                        && !self.is_purged(&candidate.stored.head, &key)
                        && let Some(source) =
                            in_place(|| self.open(&asked, &facts, route, &key, candidate)).await
                    {
                        let reason = Reason::StaleOnTimeout;
                        return self.reuse(&asked, &facts, route, candidate, source, reason);
                    }
                    self.fail(&asked, Some(route.index), Failure::COLLAPSE_TIMEOUT, outcome)
                }
                // Whatever is in a store was opened, or counts as absent.
                Got::Landed(_, Unopened::InStore(..)) => {
                    self.fail(&asked, Some(route.index), Failure::INTERNAL, outcome)
                }
            }
        }
    }

    /// Answers with a stored response as it is.
    fn reuse(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        candidate: &Candidate,
        source: Source,
        reason: Reason,
    ) -> Reply {
        let head = &candidate.stored.head;
        let result = match reason {
            Reason::Fresh | Reason::EarlyRefresh => CacheResult::Hit,
            _ => CacheResult::Stale,
        };
        let mut outcome = Outcome::reused(result, candidate.tier, reason);
        outcome.ttl = Some(head.remaining(asked.now));
        let reused = Reused { head, fields: Given::again(head, asked.now), source };
        self.answer(asked, facts, route.index, reused, outcome)
    }

    /// Answers with what a fetch came to.
    fn deliver_landed(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        landed: &Arc<Landed>,
        source: Source,
        mut outcome: Outcome,
    ) -> Reply {
        let head = &landed.head;
        let now = clock::wall();
        outcome.origin = landed.took;
        outcome.told.stored = landed.stored;
        match landed.how {
            How::Fetched => outcome.told.status = Some(head.status),
            How::Completed => outcome.told.status = Some(http::StatusCode::PARTIAL_CONTENT),
            How::Revalidated => {
                outcome.result = CacheResult::Revalidated;
                outcome.told.status = Some(http::StatusCode::NOT_MODIFIED);
            }
            How::Found(tier) => outcome = Outcome::reused(CacheResult::Hit, tier, Reason::Fresh),
        }
        outcome.ttl = Some(head.remaining(now));
        let fields = Given::landed(landed, !outcome.told.collapsed, now);
        self.answer(asked, facts, route.index, Reused { head, fields, source }, outcome)
    }

    /// Renews a response in the background; whoever asked is answered already. One per flight: whether
    /// this request began it.
    fn refresh(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        key: &PrimaryKey,
        found: &Found,
    ) -> bool {
        let flight = found.flight_key(key, self, Selecting::Asked(asked));
        if self.shared.backoff.holds(flight, asked.now) {
            return false;
        }
        // However much is stale at once: what finds no room is renewed behind a later answer.
        let Some(room) = self.upstream(route).room_to_renew() else { return false };
        if let Some(mut errand) = self.errand(asked, facts, route, key, found, Cause::Refresh)
            && let Joined::Leader(lead) = self.join(flight, &errand)
        {
            errand.room = Some(room);
            drop(errand.start(Some(lead)));
            return true;
        }
        false
    }

    /// The fetch that this request would cause; `None` for a target that cannot be forwarded.
    fn errand(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        key: &PrimaryKey,
        found: &Found,
        cause: Cause,
    ) -> Option<Errand> {
        let params = route.path.params(asked.path());
        let tags = route.tags.iter().map(|tag| tag.expand(&params)).collect();
        let ranged = facts.range
            && facts.method == MethodClass::Get
            && cause == Cause::Miss
            && found.candidate().is_none_or(|candidate| candidate.stored.head.part.is_some());
        let wanted = if ranged {
            Wanted::Range
        } else {
            found.to_complete(facts, &route.policy, cause, asked.now).map_or(Wanted::Whole, Wanted::Rest)
        };
        // A miss of HEAD fetches the whole response: the next GET finds it.
        let mut request = self.upstream_fields(asked, Method::GET).ok()?;
        if facts.range && !ranged {
            // Judged is what is sent: a part that nobody asked for is none.
            request.headers.remove(RANGE);
            request.headers.remove(IF_RANGE);
        }
        Some(Errand {
            proxy: Arc::clone(self),
            route: Arc::clone(route),
            request,
            facts: facts.clone(),
            key: key.clone(),
            url: route.policy.key.url(Asked::SCHEME, asked.authority(), asked.target(), key),
            authority: asked.authority().to_owned(),
            tags,
            found: found.clone(),
            wanted,
            cause,
            options: SendOptions::default(),
            room: None,
        })
    }

    /// Joins the flight of this errand, or leads it. A request whose own answer could not be shared
    /// (credentials, cookies under the guard) never leads those whose answer could: it waits with
    /// them if they fetch already, and else leads its like.
    fn join(&self, flight: FlightKey, errand: &Errand) -> Joined<Arc<Landed>, Failure> {
        let (purges, flights, key) = (&self.shared.purges, &self.shared.flights, &errand.key);
        // All that is known of what the answer will bear, before there is one.
        let mut ids = purges.fetch_ids(errand.url, errand.host()).to_vec();
        ids.extend(errand.tags.iter().map(|tag| PurgeId::tag(tag.as_bytes())));
        let valid = |stamp, landed: Option<&Arc<Landed>>| {
            let landed_is_valid = |landed: &Arc<Landed>| self.is_valid(&landed.head, key);
            purges.validity(stamp, &ids, &key.text).is_valid() && landed.is_none_or(landed_is_valid)
        };
        let own = errand.of_class(flight);
        if own != flight
            && let Some(wait) = flights.find(flight, &key.text, valid)
        {
            return Joined::Waiter(wait);
        }
        flights.join(own, &key.text, purges.stamp(), valid)
    }

    /// Whether nothing that a response bears was purged since it was fetched.
    fn is_valid(&self, head: &StoredHead, key: &PrimaryKey) -> bool {
        self.shared.purges.validity(head.stamp, &head.ids, &key.text).is_valid()
    }

    /// Whether it is never to be given again: what was looked up before a wait may be, after it.
    fn is_purged(&self, head: &StoredHead, key: &PrimaryKey) -> bool {
        self.shared.purges.validity(head.stamp, &head.ids, &key.text) == Validity::Hard
    }

    /// Whether another's fetch answers this request: the same variant, and by the same rules as if it
    /// had been stored a moment ago.
    fn shares(&self, landed: &Landed, asked: &Asked, facts: &RequestFacts, policy: &Policy) -> bool {
        let reuse = reuse::judge(&landed.head, facts, policy, asked.now);
        self.variant(Selecting::Asked(asked), &landed.head.vary) == landed.variant
            && matches!(reuse, Reuse::Fresh | Reuse::StaleWhileRevalidate)
            && part_suffices(asked, facts, &landed.head)
    }

    /// Gets the response: by fetching it, or by waiting for who fetches it already.
    async fn obtain(
        self: &Arc<Self>,
        asked: &Asked,
        route: &Arc<Route>,
        errand: Errand,
        flight: FlightKey,
        outcome: &mut Outcome,
    ) -> Got {
        // What may not be shared never queues; nor does a range, which is one client's.
        let collapses = !matches!(errand.found, Found::HitForMiss)
            && errand.wanted != Wanted::Range
            && !errand
                .found
                .candidate()
                .is_some_and(|candidate| candidate.stored.head.traits.has(Traits::NO_CACHE))
            && !self.shared.apart.holds(errand.of_class(flight), asked.now);
        if !collapses {
            return own(errand.start(None)).await;
        }
        let began = clock::monotonic();
        let landing = loop {
            let mut wait = match self.join(flight, &errand) {
                Joined::Leader(lead) => return own(errand.start(Some(lead))).await,
                Joined::Collision => return own(errand.start(None)).await,
                Joined::Waiter(wait) => wait,
            };
            let waited = || clock::monotonic().saturating_duration_since(began);
            let landing = patiently(&mut wait, route.collapse_timeout.saturating_sub(waited())).await;
            match landing {
                // A purge has overtaken it while this request waited: nobody else joins it now.
                Some(Landing::Shared(landed)) if !self.is_valid(&landed.head, &errand.key) => {}
                landing => {
                    self.shared.metrics.waited(Scope::Process, waited());
                    break landing;
                }
            }
        };
        match landing {
            Some(Landing::Shared(landed)) if self.shares(&landed, asked, &errand.facts, &route.policy) => {
                match Unopened::of(&landed.content) {
                    Some(content) => {
                        self.shared.metrics.collapsed(Scope::Process);
                        outcome.told.collapsed = true;
                        Got::Landed(landed, content)
                    }
                    None => own(errand.start(None)).await,
                }
            }
            Some(Landing::Shared(_) | Landing::Alone) => own(errand.start(None)).await,
            Some(Landing::Failed(failure)) => Got::Failed(failure),
            None => match route.on_collapse_timeout {
                OnCollapseTimeout::Fetch => own(errand.start(None)).await,
                OnCollapseTimeout::Stale | OnCollapseTimeout::Unavailable503 => Got::Impatient,
            },
        }
    }
}

/// What a request got for an answer.
enum Got {
    Landed(Arc<Landed>, Unopened),
    Passed(Box<errand::Passed>),
    Failed(Failure),
    /// Somebody else fetches, and this request's patience ran out.
    Impatient,
}

/// What the look-up comes to.
#[derive(Clone, Copy, Debug)]
enum Verdict<'f> {
    /// It answers as it is.
    Fresh(&'f Candidate),
    /// It answers, and is renewed behind the answer.
    StaleWhileRevalidate(&'f Candidate),
    /// The origin must confirm it first.
    Validate(Reason),
    /// Nothing that is stored can answer.
    Fetch(Reason),
}

impl<'f> Verdict<'f> {
    /// What answers as it is.
    const fn candidate(self) -> Option<&'f Candidate> {
        match self {
            Self::Fresh(candidate) | Self::StaleWhileRevalidate(candidate) => Some(candidate),
            Self::Validate(_) | Self::Fetch(_) => None,
        }
    }

    /// Whether another tier might answer better.
    const fn wants_more(self) -> bool {
        matches!(self, Self::Validate(_) | Self::Fetch(_))
    }
}

fn judge<'f>(found: &'f Found, facts: &RequestFacts, route: &Route, asked: &Asked) -> Verdict<'f> {
    let candidate = match found {
        Found::Nothing => return Verdict::Fetch(Reason::NothingStored),
        Found::Purged => return Verdict::Fetch(Reason::Purged),
        Found::NoVariant(_) => return Verdict::Fetch(Reason::NoVariantMatches),
        Found::HitForMiss => return Verdict::Fetch(Reason::HitForMiss),
        Found::Unreadable(_) => return Verdict::Fetch(Reason::ContentUnreadable),
        Found::Response(candidate) => candidate,
    };
    let head = &candidate.stored.head;
    let reuse = match candidate.withdrawn {
        None => reuse::judge(head, facts, &route.policy, asked.now),
        Some(withdrawn) => reuse::judge_withdrawn(head, facts, &route.policy, withdrawn, asked.now),
    };
    match reuse {
        Reuse::Unusable(reason) => Verdict::Fetch(reason),
        // Nor does it help to have a part confirmed that does not hold what is asked for.
        _ if !part_suffices(asked, facts, head) => Verdict::Fetch(Reason::PartMissing),
        Reuse::Fresh => Verdict::Fresh(candidate),
        Reuse::StaleWhileRevalidate => Verdict::StaleWhileRevalidate(candidate),
        Reuse::Validate(reason) => Verdict::Validate(reason),
    }
}

/// The answer to this client's own errand.
async fn own(obtained: tokio::sync::oneshot::Receiver<Obtained>) -> Got {
    match obtained.await {
        Ok(Obtained::Landed(landed, reader)) => match Unopened::owned(&landed.content, reader) {
            Some(content) => Got::Landed(landed, content),
            None => Got::Failed(Failure::INTERNAL),
        },
        Ok(Obtained::Passed(passed)) => Got::Passed(passed),
        Ok(Obtained::Failed(failure)) => Got::Failed(failure),
        // The task ended without a word: a defect, and still an answer.
        Err(_) => Got::Failed(Failure::INTERNAL),
    }
}

/// A waiter's landing, or `None` when its patience ran out.
async fn patiently(
    wait: &mut Wait<Arc<Landed>, Failure>,
    patience: std::time::Duration,
) -> Option<Landing<Arc<Landed>, Failure>> {
    tokio::time::timeout(patience, wait.landing()).await.ok()
}
