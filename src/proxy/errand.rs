//! An errand: one fetch on behalf of a key, in a task of its own.
//!
//! Whoever asked may go away; the errand goes on for those who wait, and for the store. The order
//! matters and is the whole point: look again (somebody may just have landed), take the fleet's
//! lock, look again, send, judge the response head, tell the waiters, fill, store, and only then
//! let go of the flight and the lock, so that nobody ever falls into a gap between them. How the body
//! arrives is [`filling`]'s, how parts become a whole [`completing`]'s, what both tiers keep [`keeping`]'s, what
//! is let go of [`permits`]'s.
//!
//! Decides nothing about HTTP: each verdict comes from `caching`. Cancellation: none; its client's
//! end of the reply channel may be dropped at any time.

mod completing;
mod filling;
mod keeping;
mod permits;

use std::sync::Arc;
use std::time::Duration;

use http::header::{ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::oneshot;

use self::completing::Rest;
use self::permits::{Permits, Reply};
use super::Proxy;
use super::asked::Asked;
use super::error::Failure;
use super::lease::{Fleet, Held};
use super::lookup::{Candidate, Found, Selecting};
use crate::boxed::in_place;
use crate::caching::admission::RequestFacts;
use crate::caching::invalidation::TargetUri;
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::Reason;
use crate::caching::partial::Completion;
use crate::caching::reuse::{self, Reuse};
use crate::caching::stamp::Stamp;
use crate::caching::storability::{self, Exchange, Storability};
use crate::caching::stored::{InStore, StoredBody, StoredHead, StoredResponse};
use crate::caching::url;
use crate::caching::validation::{self, Answer as Kind, Asked as Conditions, Freshened, HeadUpdate};
use crate::caching::vary::{VariantHash, variant_hash};
use crate::clock;
use crate::collapse::fill::{Fill, FillReader};
use crate::collapse::flight::{FlightKey, Landing, Lead};
use crate::observe::metrics::Cause;
use crate::rules::route::Route;
use crate::semantics::UnixMillis;
use crate::store::redis::Written;
use crate::store::{StoreKey, Tier};
use crate::upstream::request::RequestHead;
use crate::upstream::{Answer, AnswerBody, Renewal, RequestBody, SendOptions, Upstream};

/// What a flight leads to when it may be shared.
#[derive(Debug)]
pub struct Landed {
    /// The stored head, as every reader is answered from it.
    pub head: StoredHead,
    /// The content.
    pub content: Content,
    /// The variant that the leader's request selects: others must select the same.
    pub variant: VariantHash,
    /// How it was come by.
    pub how: How,
    /// Whether it is being stored.
    pub stored: bool,
    /// The fields for the client that caused the fetch, where they differ from the stored ones
    /// (qualified `private`, the origin's own `Age`).
    pub own_fields: Option<HeaderMap>,
    /// From sending the request to the response head.
    pub took: Option<Duration>,
}

/// Where the content of a landed response is.
#[derive(Debug)]
pub enum Content {
    /// In the process, or on its way.
    Fill(Arc<Fill>),
    /// In Redis, under this key: whoever wants it reads it there.
    InStore(StoreKey, InStore),
}

impl Content {
    /// Content that is stored under a place's key, and a reader of it where it is at hand.
    fn stored(place: StoreKey, body: &StoredBody) -> (Self, Option<FillReader>) {
        match body {
            StoredBody::Here(body) => {
                let fill = Fill::ready(body.clone());
                let reader = fill.read();
                (Self::Fill(fill), reader)
            }
            StoredBody::InStore(body) => (Self::InStore(place, *body), None),
        }
    }
}

/// How a landed response was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The origin sent it.
    Fetched,
    /// The origin sent what a stored part lacked.
    Completed,
    /// The origin confirmed a stored one.
    Revalidated,
    /// It was there when looked for again.
    Found(Tier),
}

/// What the client that caused an errand gets.
#[derive(Debug)]
pub enum Obtained {
    /// A response that others share, and a reader of its fill that was there from the first byte.
    Landed(Arc<Landed>, Option<FillReader>),
    /// A response for this client alone.
    Passed(Box<Passed>),
    /// None.
    Failed(Failure),
}

/// A response for one client alone.
#[derive(Debug)]
pub struct Passed {
    /// Final status.
    pub status: StatusCode,
    /// Fields for the client.
    pub headers: HeaderMap,
    /// Content, as it streams.
    pub body: AnswerBody,
    /// Why it is not shared.
    pub reason: Reason,
    /// From sending the request to the response head.
    pub took: Duration,
}

/// The fetch to be made.
#[derive(Debug)]
pub struct Errand {
    /// The worker that runs it.
    pub proxy: Arc<Proxy>,
    /// The route it belongs to.
    pub route: Arc<Route>,
    /// The request that caused it, as it goes upstream.
    pub request: http::request::Parts,
    /// What it asks.
    pub facts: RequestFacts,
    /// Its key.
    pub key: PrimaryKey,
    /// What stands for its URL, however the key spells it.
    pub url: u128,
    /// The authority it is for.
    pub authority: String,
    /// Tags of the route, expanded.
    pub tags: Vec<String>,
    /// What was found for it.
    pub found: Found,
    /// How much of it.
    pub wanted: Wanted,
    /// Why the origin is asked.
    pub cause: Cause,
    /// What is told to the client that caused it, and to nobody else, before the answer.
    pub options: SendOptions,
    /// What a renewal that nobody waits for holds until it is done.
    pub room: Option<Renewal>,
}

/// How much of a representation an errand is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All of it.
    Whole,
    /// What the client's `Range` asks: where nothing stored could answer it, the part is fetched and
    /// stored as a part (RFC 9111 3.3), and joined with others (3.4).
    Range,
    /// What a stored part lacks of the whole (RFC 9111 3.4), or an answer of what it promised.
    Rest(Completion),
}

/// Permit to lead a flight.
pub type Leader = Lead<Arc<Landed>, Failure>;

impl Errand {
    /// Runs the errand in a task; `lead` is absent when it is nobody's business but the client's.
    pub fn start(self, lead: Option<Leader>) -> oneshot::Receiver<Obtained> {
        let (reply, obtained) = oneshot::channel();
        let under_way = Arc::clone(&self.proxy.shared.errands);
        // Boxed before it is a task: on its way to one it is moved a dozen times.
        let running = in_place(|| self.run(lead, Reply(Some(reply))));
        tokio::spawn(async move {
            running.await;
            drop(under_way);
        });
        obtained
    }

    async fn run(self, mut lead: Option<Leader>, mut reply: Reply) {
        let mut held = Held::None;
        if lead.is_some() {
            if let Some(found) = self.look_again() {
                return self.land_found(found, &mut lead, &mut reply);
            }
            // A class of requests has a lock of its own, as it has a flight: it holds up nobody else.
            let (_, flight) = self.of_class(self.flight());
            let lock = self.place((flight != 0).then_some(VariantHash(flight)));
            match self.await_fleet(&lock).await {
                Fleet::Ours(lock) => held = lock,
                Fleet::Theirs(found) => return self.land_found(found, &mut lead, &mut reply),
                Fleet::Alone => {
                    // Another proxy learnt that nobody may share this: nobody waits for it here.
                    if let Some(lead) = &mut lead {
                        lead.land(Landing::Alone);
                    }
                    lead = None;
                }
            }
        }
        in_place(|| self.fetch(Permits::new(lead, held, reply))).await;
    }

    /// Asks the origin, and judges what it answers to the validators that were sent.
    async fn fetch(self, permits: Permits) {
        let stamp = match &permits.lead {
            Some(lead) => lead.stamp(),
            None => self.proxy.shared.purges.stamp(),
        };
        let (answer, arrival) = match self.ask(stamp, true).await {
            Ok(answered) => answered,
            Err(failure) => return self.failed(failure, permits).await,
        };
        if let Wanted::Rest(_) = self.wanted {
            match self.completes(&answer, arrival) {
                Rest::Fits(join) => match self.older_content().await {
                    Some(older) => return self.complete(join, older, answer, arrival, permits).await,
                    None => {
                        drop(answer);
                        return in_place(|| self.ask_plainly(stamp, permits)).await;
                    }
                },
                Rest::Instead => {}
                Rest::Unfit => {
                    drop(answer);
                    return in_place(|| self.ask_plainly(stamp, permits)).await;
                }
            }
        }
        match Kind::of(answer.head.status) {
            Kind::Error if self.may_stand_in(arrival.received) => {
                self.stood_in_for(answer.head.status);
                drop(answer);
                self.failed(Failure::ORIGIN_ERROR, permits).await;
            }
            Kind::NotModified if arrival.conditions != Conditions::Nothing => {
                if let Some(validated) = self.validated(&answer.head.headers, arrival.conditions).await {
                    let verdict = self.freshen(&validated, &answer, arrival);
                    if verdict != Freshened::Mismatch {
                        return in_place(|| self.freshened(verdict, validated, arrival, permits)).await;
                    }
                }
                // The 304 is about nothing that is stored here: ask again, without conditions.
                drop(answer);
                in_place(|| self.ask_plainly(stamp, permits)).await;
            }
            Kind::Error | Kind::NotModified | Kind::Full => self.settle(answer, arrival, permits).await,
        }
    }

    /// Asks as if nothing were stored, for what is stored turned out to be of no use.
    async fn ask_plainly(self, stamp: Stamp, permits: Permits) {
        match self.ask(stamp, false).await {
            Ok((answer, arrival)) => self.settle(answer, arrival, permits).await,
            Err(failure) => self.failed(failure, permits).await,
        }
    }

    /// Counts a response that is not stored. Where it broke off, every one of its readers knows already.
    fn not_stored(&self, reason: Reason) {
        let route = self.proxy.site.route_metrics(&self.route);
        self.proxy.shared.metrics.not_stored(route, reason);
    }

    /// Sends the request: with the stored validators (RFC 9111 4.3.1), or as an ordinary one.
    pub(super) async fn ask(&self, stamp: Stamp, validate: bool) -> Result<(Answer, Arrival), Failure> {
        let mut request = self.request.clone();
        let rest = match &self.wanted {
            Wanted::Rest(rest) if validate => Some(rest),
            _ => None,
        };
        let conditions = if let Some(Completion { range, if_range }) = rest {
            validation::remove_preconditions(&mut request.headers);
            request.headers.insert(RANGE, range.clone());
            request.headers.insert(IF_RANGE, if_range.clone());
            Conditions::Nothing
        } else if self.wanted == Wanted::Range {
            validation::ask_for_part(&mut request.headers);
            Conditions::Nothing
        } else if validate {
            // What is stored and not for this request lends it no validators: a 304 could not be used.
            let selected = self.unpurged().filter(|_| self.cause != Cause::Miss);
            let selected = selected.map(|candidate| &candidate.stored.head);
            let others = match &self.found {
                Found::NoVariant(index) => Some(index.etags()),
                _ => None,
            };
            validation::condition(&mut request.headers, selected, others.into_iter().flatten())
        } else {
            validation::remove_preconditions(&mut request.headers);
            request.headers.remove(RANGE);
            Conditions::Nothing
        };
        let metrics = &self.proxy.shared.metrics;
        metrics.origin_fetch(self.proxy.site.route_metrics(&self.route), self.cause);
        let sent = clock::wall();
        let begun = clock::monotonic();
        let request = RequestHead::from(request);
        let answered = self.upstream().send(&request, RequestBody::Empty, &self.options).await;
        match answered.and_then(|answer| answer.cleaned(&self.proxy.site.via)) {
            Ok(answer) => {
                let took = clock::monotonic().saturating_duration_since(begun);
                metrics.origin_answered(
                    self.proxy.site.route_metrics(&self.route),
                    self.upstream().name(),
                    took,
                );
                let received = clock::wall();
                Ok((answer, Arrival { stamp, sent, received, begun, took, conditions }))
            }
            Err(error) => Err(self.proxy.unanswered(&self.route, &error)),
        }
    }

    /// Judges whether the response may be stored, and acts on the verdict.
    async fn settle(self, answer: Answer, arrival: Arrival, mut permits: Permits) {
        let Answer { head: response, body, .. } = answer;
        let length = http_body::Body::size_hint(&body).exact();
        let verdict = storability::judge(&self.exchange(&response, length, arrival), &self.route.policy);
        let mut headers = response.headers;
        match verdict {
            Storability::Store(head) => {
                self.proxy.shared.backoff.recovered(self.flight());
                self.proxy.shared.apart.forget(self.of_class(self.flight()));
                self.store(head, headers, body, arrival, permits).await;
            }
            Storability::Pass(reason) => {
                self.not_stored(reason);
                // Here first, so that nobody new queues; then those who wait; the fleet afterwards.
                let marker = self.mark(reason, response.status, arrival.received);
                permits.land(Landing::Alone);
                if reason.concerns_one_request() {
                    permits.says_nothing();
                }
                storability::client_fields(&mut headers, false, &self.route.policy);
                let status = response.status;
                permits.reply.send(Obtained::Passed(Box::new(Passed {
                    status,
                    headers,
                    body,
                    reason,
                    took: arrival.took,
                })));
                if let (Some(redis), Some((place, record))) = (&self.proxy.redis, marker) {
                    redis.put(place, record, arrival.received).await;
                }
                permits.release().await;
            }
        }
    }

    /// What an answer to POST is stored as, where it is what a GET would be given (RFC 9110 9.3.3).
    pub(super) fn described(&self, answer: &Answer, arrival: Arrival) -> Option<Box<StoredHead>> {
        let length = http_body::Body::size_hint(&answer.body).exact();
        match storability::judge(&self.exchange(&answer.head, length, arrival), &self.route.policy) {
            Storability::Store(head) => Some(head),
            Storability::Pass(_) => None,
        }
    }

    /// Stores such an answer while its client reads it.
    pub(super) fn take_in(
        self,
        head: Box<StoredHead>,
        answer: Answer,
        arrival: Arrival,
    ) -> oneshot::Receiver<Obtained> {
        let (reply, obtained) = oneshot::channel();
        let permits = Permits::new(None, Held::None, Reply(Some(reply)));
        let under_way = Arc::clone(&self.proxy.shared.errands);
        let storing = in_place(|| self.store(head, answer.head.headers, answer.body, arrival, permits));
        tokio::spawn(async move {
            storing.await;
            drop(under_way);
        });
        obtained
    }

    /// Stores what a HEAD has told about a stored response to GET (RFC 9111 4.3.5).
    pub(super) async fn told_by_head(&self, answer: &http::response::Parts, arrival: Arrival) {
        let Some(candidate) = self.unpurged() else { return };
        let stored = &candidate.stored;
        // Equal lengths are no word against a purge: an entity tag is, or a date.
        let says = |name| stored.head.field(name).is_some() && answer.headers.contains_key(name);
        if !self.proxy.is_valid(&stored.head, &self.key) && !says(&ETAG) && !says(&LAST_MODIFIED) {
            return;
        }
        let exchange = Exchange { method: &Method::HEAD, ..self.exchange(answer, None, arrival) };
        let length = stored.body.length();
        let head = match validation::head_update(&stored.head, length, &exchange, &self.route.policy) {
            HeadUpdate::Updated(head) | HeadUpdate::Stale(head) => *head,
            HeadUpdate::Unrelated => return,
        };
        let variant = variant_hash(&head.vary, &self.request.headers);
        self.keep(StoredResponse { head, body: stored.body.clone() }, variant).await;
    }

    /// Judges a 304 about a stored response (RFC 9111 4.3.4).
    fn freshen(&self, validated: &Candidate, answer: &Answer, arrival: Arrival) -> Freshened {
        let exchange = self.exchange(&answer.head, Some(0), arrival);
        validation::freshen(&validated.stored.head, arrival.conditions, &exchange, &self.route.policy)
    }

    /// The origin confirmed a stored response.
    async fn freshened(
        self,
        verdict: Freshened,
        validated: Candidate,
        arrival: Arrival,
        mut permits: Permits,
    ) {
        self.proxy.shared.backoff.recovered(self.flight());
        let body = validated.stored.body.clone();
        let (content, reader) = Content::stored(validated.place(&self.key), &body);
        match verdict {
            Freshened::Store(mut head) => {
                head.cost = validated.stored.head.cost;
                let mut landed = self.landed((*head).clone(), content, How::Revalidated, true, arrival);
                let (is_here, variant) = (body.here().is_some(), landed.variant);
                let mut kept = self.keep_here(StoredResponse { head: *head, body }, variant);
                if !is_here {
                    // A body that stays where it is has to be there: seen when its time is extended, before
                    // anybody is told.
                    let written = match kept.take() {
                        Some(kept) => Some(self.keep_there(kept).await),
                        None => None,
                    };
                    if written == Some(Written::ContentLost) {
                        self.forget().await;
                        return self.ask_plainly(arrival.stamp, permits).await;
                    }
                    landed.stored = written == Some(Written::Yes);
                }
                let landed = Arc::new(landed);
                self.share(&landed, &mut permits, arrival.received);
                permits.reply.send(Obtained::Landed(landed, reader));
                if let Some(kept) = kept {
                    self.keep_there(kept).await;
                }
            }
            Freshened::Serve(head, reason) => {
                // Confirmed, but not to be kept any longer: for this client only.
                self.not_stored(reason);
                self.forget().await;
                permits.land(Landing::Alone);
                let landed = self.landed(*head, content, How::Revalidated, false, arrival);
                permits.reply.send(Obtained::Landed(Arc::new(landed), reader));
            }
            // Judged before: a mismatch never comes here, and if it did nobody would be answered wrongly.
            Freshened::Mismatch => permits.land(Landing::Alone),
        }
        permits.release().await;
    }

    fn landed(&self, head: StoredHead, content: Content, how: How, stored: bool, arrival: Arrival) -> Landed {
        Landed {
            variant: variant_hash(&head.vary, &self.request.headers),
            head,
            content,
            how,
            stored,
            own_fields: None,
            took: Some(arrival.took),
        }
    }

    /// Shares what landed with those who wait, if a later request could have reused it as it is;
    /// what must be validated each time is stored, and everybody asks for himself.
    fn share(&self, landed: &Arc<Landed>, permits: &mut Permits, now: UnixMillis) {
        let shareable = matches!(
            reuse::judge(&landed.head, &RequestFacts::default(), &self.route.policy, now),
            Reuse::Fresh | Reuse::StaleWhileRevalidate
        );
        permits.land(if shareable { Landing::Shared(Arc::clone(landed)) } else { Landing::Alone });
    }

    async fn failed(&self, failure: Failure, mut permits: Permits) {
        if self.found.candidate().is_some() {
            self.back_off(failure);
        }
        permits.land(Landing::Failed(failure));
        permits.reply.send(Obtained::Failed(failure));
        permits.release().await;
    }

    /// The origin is not asked again at once.
    pub(super) fn back_off(&self, failure: Failure) {
        let (backoff, flight, now) = (&self.proxy.shared.backoff, self.flight(), clock::wall());
        if failure.reason == Reason::OriginBusy {
            backoff.crowded(flight, now);
        } else {
            backoff.failed(flight, now);
        }
    }

    /// Whether the stored response may stand in for a failing origin (RFC 5861 4).
    fn may_stand_in(&self, now: UnixMillis) -> bool {
        let answering = self.found.candidate().filter(|_| self.cause != Cause::Miss);
        answering.is_some_and(|candidate| {
            reuse::stale_if_error(&candidate.stored.head, &self.facts, &self.route.policy, now)
        })
    }

    /// Tells of an error that nobody is shown.
    pub(super) fn stood_in_for(&self, status: StatusCode) {
        let (reason, status) = (Reason::OriginError.code(), status.as_u16());
        tracing::warn!(route = %self.route.name, reason, status, "what is stored stands in for the origin");
    }

    /// What was found, unless it was purged for good since then: that is not even validated, or the origin's
    /// word that it is unchanged would bring it back under a stamp that outlives its purge.
    fn unpurged(&self) -> Option<&Candidate> {
        let candidate = self.found.candidate()?;
        (!self.proxy.is_purged(&candidate.stored.head, &self.key)).then_some(candidate)
    }

    /// Which stored response a 304 is about: the one at hand, or the variant that its tag names.
    async fn validated(&self, headers: &HeaderMap, conditions: Conditions) -> Option<Candidate> {
        if self.found.candidate().is_some() {
            let candidate = self.unpurged()?;
            return validation::selects(&candidate.stored.head, headers, conditions)
                .then(|| candidate.clone());
        }
        let Found::NoVariant(index) = &self.found else { return None };
        let variant = index.by_etag(headers.get(ETAG)?.as_bytes())?.hash;
        self.proxy.stored_variant(&self.place(Some(variant)), Arc::clone(index), clock::wall()).await
    }

    /// What was stored between the look-up and taking the lead.
    fn look_again(&self) -> Option<Candidate> {
        let now = clock::wall();
        let found = self.proxy.look_in_memory(&self.key, Selecting::Sent(&self.request.headers), now);
        self.reusable(found, now)
    }

    /// A candidate that answers this request as it is, now.
    pub(super) fn reusable(&self, found: Found, now: UnixMillis) -> Option<Candidate> {
        let Found::Response(candidate) = found else { return None };
        let newer = self
            .found
            .seen()
            .is_none_or(|before| candidate.stored.head.received > before.stored.head.received);
        let fresh = matches!(
            reuse::judge(&candidate.stored.head, &self.facts, &self.route.policy, now),
            Reuse::Fresh
        );
        (newer && fresh && candidate.withdrawn.is_none()).then_some(candidate)
    }

    fn land_found(&self, candidate: Candidate, lead: &mut Option<Leader>, reply: &mut Reply) {
        let (content, reader) = Content::stored(candidate.place(&self.key), &candidate.stored.body);
        let landed = Arc::new(Landed {
            variant: variant_hash(&candidate.stored.head.vary, &self.request.headers),
            head: candidate.stored.head.clone(),
            content,
            how: How::Found(candidate.tier),
            stored: false,
            own_fields: None,
            took: None,
        });
        if let Some(lead) = lead {
            lead.land(Landing::Shared(Arc::clone(&landed)));
        }
        reply.send(Obtained::Landed(landed, reader));
    }

    fn exchange<'a>(
        &'a self,
        response: &'a http::response::Parts,
        content_length: Option<u64>,
        arrival: Arrival,
    ) -> Exchange<'a> {
        Exchange {
            method: &self.request.method,
            facts: &self.facts,
            request: &self.request.headers,
            target: TargetUri {
                scheme: Asked::SCHEME,
                authority: &self.authority,
                path_and_query: self.request.uri.path_and_query().map_or("/", PathAndQuery::as_str),
            },
            host: self.host(),
            url: self.url,
            tags: &self.tags,
            status: response.status,
            headers: &response.headers,
            content_length,
            request_sent: arrival.sent,
            response_received: arrival.received,
            stamp: arrival.stamp,
        }
    }

    /// The host it is for.
    pub(super) fn host(&self) -> &str {
        url::host(&self.authority)
    }

    pub(super) fn flight(&self) -> FlightKey {
        self.found.flight_key(&self.key, &self.proxy, Selecting::Sent(&self.request.headers))
    }

    /// This flight as requests of this one's class lead it.
    pub(super) fn of_class(&self, (key, variant): FlightKey) -> FlightKey {
        (key, variant ^ self.facts.sharing_class(&self.route.policy))
    }

    fn variant_sought(&self) -> Option<VariantHash> {
        match self.flight().1 {
            0 => None,
            hash => Some(VariantHash(hash)),
        }
    }

    pub(super) fn place(&self, variant: Option<VariantHash>) -> StoreKey {
        StoreKey { primary: self.key.hash, variant, text: self.key.text.clone() }
    }

    fn upstream(&self) -> &Upstream {
        self.proxy.upstream(&self.route)
    }
}

/// When, and under which stamp, a response was fetched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) stamp: Stamp,
    pub(super) sent: UnixMillis,
    pub(super) received: UnixMillis,
    pub(super) begun: std::time::Instant,
    pub(super) took: Duration,
    pub(super) conditions: Conditions,
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
