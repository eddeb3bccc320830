//! An errand: one fetch on behalf of a key, in a task of its own.
//!
//! Whoever asked may go away; the errand goes on for those who wait, and for the store. The order
//! matters and is the whole point: look again (somebody may just have landed), take the fleet's
//! lock, look again, send, judge the response head, tell the waiters, fill, store, and only then
//! let go of the flight and the lock, so that nobody ever falls into a gap between them.
//!
//! Decides nothing about HTTP: each verdict comes from `caching`. Cancellation: none; its client's
//! end of the reply channel may be dropped at any time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, ETAG};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Proxy;
use super::error::Failure;
use super::lease::{Fleet, Held};
use super::lookup::{Candidate, Found};
use crate::caching::admission::RequestFacts;
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::Reason;
use crate::caching::reuse::{self, Reuse};
use crate::caching::stamp::Stamp;
use crate::caching::storability::{self, Exchange, Storability};
use crate::caching::stored::{StoredHead, StoredResponse};
use crate::caching::validation::{self, Freshened};
use crate::caching::vary::{NewVariant, VariantHash, VaryIndex, variant_hash};
use crate::clock;
use crate::collapse::fill::{Fill, FillReader, FillWriter, Pushed};
use crate::collapse::flight::{Landing, Lead};
use crate::observe::metrics::Cause;
use crate::rules::Route;
use crate::semantics::UnixMillis;
use crate::store::{Record, StoreKey, Tier};
use crate::upstream::{Answer, AnswerBody, RequestBody};

/// How long an answer that may not be shared keeps others from queueing for it.
const HIT_FOR_MISS: u64 = 120_000;
/// The same when the origin failed: long enough that nobody lines up, short enough to forget.
const ERROR_MARKER: u64 = 1_000;

/// What a flight leads to when it may be shared.
#[derive(Debug)]
pub struct Landed {
    /// The stored head, as every reader is answered from it.
    pub head: StoredHead,
    /// The content.
    pub fill: Arc<Fill>,
    /// The variant that the leader's request selects: others must select the same.
    pub variant: VariantHash,
    /// How it was come by.
    pub how: How,
    /// Whether it is being stored.
    pub stored: bool,
    /// `Age` as the origin sent it, for the client that caused the fetch.
    pub origin_age: Option<HeaderValue>,
    /// From sending the request to the response head.
    pub took: Option<Duration>,
}

/// How a landed response was come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The origin sent it.
    Fetched,
    /// The origin confirmed a stored one.
    Revalidated,
    /// It was there when looked for again.
    Found(Tier),
}

/// What the client that caused an errand gets.
#[derive(Debug)]
pub enum Obtained {
    /// A response that others share, and a reader that was there from its first byte.
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
    pub request: http::Request<()>,
    /// What it asks.
    pub facts: RequestFacts,
    /// Its key.
    pub key: PrimaryKey,
    /// Its host, for invalidation by host.
    pub host: String,
    /// Tags of the route, expanded.
    pub tags: Vec<Bytes>,
    /// What was found for it.
    pub found: Found,
    /// Why the origin is asked.
    pub cause: Cause,
}

/// Permit to lead a flight.
pub type Leader = Lead<Arc<Landed>, Failure>;

impl Errand {
    /// Runs the errand in a task; `lead` is absent when it is nobody's business but the client's.
    pub fn start(self, lead: Option<Leader>) -> oneshot::Receiver<Obtained> {
        let (reply, obtained) = oneshot::channel();
        tokio::spawn(self.run(lead, Reply(Some(reply))));
        obtained
    }

    async fn run(mut self, mut lead: Option<Leader>, mut reply: Reply) {
        let shared = Arc::clone(&self.proxy.shared);
        let mut held = Held::None;
        if lead.is_some() {
            if let Some(found) = self.look_again() {
                return Self::land_found(found, &mut lead, &mut reply);
            }
            let place = self.place(self.found.candidate().and_then(|candidate| candidate.variant));
            match self.await_fleet(&place).await {
                Fleet::Ours(lock) => held = lock,
                Fleet::Theirs(found) => return Self::land_found(found, &mut lead, &mut reply),
                Fleet::Alone => {
                    // Another proxy learnt that nobody may share this.
                    if let Some(lead) = &mut lead {
                        lead.land(Landing::Alone);
                    }
                    lead = None;
                }
            }
        }
        let stamp = match &lead {
            Some(lead) => lead.stamp(),
            None => shared.purges.stamp(clock::wall()),
        };
        let sent = clock::wall();
        let begun = clock::monotonic();
        shared.metrics.origin_fetch(&self.proxy.site.routes[self.route.index], self.cause);
        let answer = self.ask().await;
        let took = clock::monotonic().saturating_duration_since(begun);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(route = %self.route.name, error = %error, "the origin could not answer");
                return self.failed(Failure::from(&error), &mut lead, &mut reply);
            }
        };
        shared.metrics.origin_answered(&self.upstream().name, took);
        let arrival = Arrival { stamp, sent, received: clock::wall(), begun, took };
        self.settle(answer, arrival, lead, held, reply).await;
    }

    /// Sends the request: unconditional, or with the stored validators (RFC 9111 4.3.1).
    async fn ask(&mut self) -> Result<Answer, crate::upstream::UpstreamError> {
        let mut request = http::Request::new(RequestBody::Empty);
        *request.method_mut() = Method::GET;
        *request.uri_mut() = self.request.uri().clone();
        *request.headers_mut() = self.request.headers().clone();
        let stored = self.found.candidate().map(|candidate| &candidate.stored.head);
        validation::condition(stored, self.found.index().map(AsRef::as_ref), request.headers_mut());
        self.proxy.upstreams[self.route.upstream].send(request).await
    }

    /// Judges the response head, and acts on the verdict.
    async fn settle(
        self,
        answer: Answer,
        arrival: Arrival,
        mut lead: Option<Leader>,
        held: Held,
        mut reply: Reply,
    ) {
        let proxy = Arc::clone(&self.proxy);
        let flight = self.found.flight_key(&self.key, self.request.headers());
        if answer.head.status.is_server_error() {
            if self.may_stand_in(arrival.received) {
                drop(answer);
                held.release().await;
                return self.failed(Failure::ORIGIN_ERROR, &mut lead, &mut reply);
            }
        } else {
            proxy.shared.backoff.recovered(flight);
        }
        let Answer { head: response, body } = answer;
        if response.status == StatusCode::NOT_MODIFIED
            && let Some(validated) = self.validated(&response.headers)
        {
            return self.freshen(validated, &response, arrival, lead, held, reply).await;
        }
        let verdict = storability::judge(&self.exchange(&response, &body, arrival), &self.route.policy);
        match verdict {
            Storability::Store(head) => {
                self.store(head, &response.headers, body, arrival, lead, held, reply).await;
            }
            Storability::Pass(reason) => {
                proxy.shared.metrics.not_stored(&proxy.site.routes[self.route.index], reason);
                self.mark(reason, response.status, arrival.received).await;
                if let Some(lead) = &mut lead {
                    lead.land(Landing::Alone);
                }
                held.release().await;
                let headers = storability::client_fields(&response.headers, &self.route.policy);
                reply.send(Obtained::Passed(Box::new(Passed {
                    status: response.status,
                    headers,
                    body,
                    reason,
                    took: arrival.took,
                })));
            }
        }
    }

    /// A response that may be stored: share it, fill it, store it.
    #[expect(clippy::too_many_arguments, reason = "everything that ends with the fill is handed over")]
    async fn store(
        self,
        head: Box<StoredHead>,
        response: &HeaderMap,
        body: AnswerBody,
        arrival: Arrival,
        mut lead: Option<Leader>,
        held: Held,
        mut reply: Reply,
    ) {
        let length = http_body::Body::size_hint(&body).exact();
        let (writer, fill) = Fill::start(length, self.route.policy.max_object_size);
        let reader = fill.read();
        let landed = Arc::new(Landed {
            variant: variant_hash(&head.vary, self.request.headers()),
            head: *head,
            fill,
            how: How::Fetched,
            stored: true,
            origin_age: response.get(AGE).cloned(),
            took: Some(arrival.took),
        });
        self.share(&landed, &mut lead, arrival.received);
        reply.send(Obtained::Landed(Arc::clone(&landed), reader));
        let Some(body) = pour(body, writer, lead.as_ref()).await else {
            // Broken off, or too large to keep: every reader knows; nothing is stored.
            drop(lead);
            return held.release().await;
        };
        let mut head = landed.head.clone();
        head.cost = millis(clock::monotonic().saturating_duration_since(arrival.begun));
        self.keep(StoredResponse { head, body }, landed.variant).await;
        drop(lead);
        held.release().await;
    }

    /// The origin confirmed a stored response (RFC 9111 4.3.4).
    async fn freshen(
        self,
        validated: Candidate,
        response: &http::response::Parts,
        arrival: Arrival,
        mut lead: Option<Leader>,
        held: Held,
        mut reply: Reply,
    ) {
        let empty = AnswerBody::empty();
        let exchange = self.exchange(response, &empty, arrival);
        let head = match validation::freshen(&validated.stored.head, &exchange, &self.route.policy) {
            Freshened::Store(head) => *head,
            Freshened::Pass(reason, head) => {
                // Confirmed, but not to be kept any longer: good for this client only.
                self.proxy.shared.metrics.not_stored(&self.proxy.site.routes[self.route.index], reason);
                self.forget().await;
                if let Some(lead) = &mut lead {
                    lead.land(Landing::Alone);
                }
                held.release().await;
                let fill = Fill::ready(validated.stored.body.clone());
                let reader = fill.read();
                let landed = self.landed(*head, fill, How::Revalidated, false, arrival);
                return reply.send(Obtained::Landed(Arc::new(landed), reader));
            }
        };
        let fill = Fill::ready(validated.stored.body.clone());
        let reader = fill.read();
        let landed = Arc::new(self.landed(head, fill, How::Revalidated, true, arrival));
        self.share(&landed, &mut lead, arrival.received);
        reply.send(Obtained::Landed(Arc::clone(&landed), reader));
        let mut head = landed.head.clone();
        head.cost = validated.stored.head.cost;
        self.keep(StoredResponse { head, body: validated.stored.body.clone() }, landed.variant).await;
        drop(lead);
        held.release().await;
    }

    fn landed(&self, head: StoredHead, fill: Arc<Fill>, how: How, stored: bool, arrival: Arrival) -> Landed {
        Landed {
            variant: variant_hash(&head.vary, self.request.headers()),
            head,
            fill,
            how,
            stored,
            origin_age: None,
            took: Some(arrival.took),
        }
    }

    /// Shares what landed with those who wait, if a later request could have reused it as it is;
    /// what must be validated each time is stored, and everybody asks for himself.
    fn share(&self, landed: &Arc<Landed>, lead: &mut Option<Leader>, now: UnixMillis) {
        let Some(lead) = lead else { return };
        let shareable = matches!(
            reuse::judge(&landed.head, &RequestFacts::default(), &self.route.policy, now),
            Reuse::Fresh | Reuse::StaleWhileRevalidate
        );
        lead.land(if shareable { Landing::Shared(Arc::clone(landed)) } else { Landing::Alone });
    }

    /// Puts a complete response into both tiers; the memory tier first, so that this process has no
    /// gap between the flight and the store.
    async fn keep(&self, response: StoredResponse, variant: VariantHash) {
        let now = clock::wall();
        let varies = !response.head.vary.is_empty();
        let index = varies.then(|| Arc::new(self.index_with(&response.head, variant, now)));
        let place = self.place(varies.then_some(variant));
        let record = Record::Response(Arc::new(response));
        let memory = &self.proxy.shared.memory;
        memory.insert(&place, record.clone(), now);
        if let Some(index) = &index {
            memory.insert(&self.place(None), Record::Index(Arc::clone(index)), now);
        }
        if let Some(redis) = &self.proxy.redis {
            redis.put(place, record, now).await;
            if let Some(index) = index {
                redis.put(self.place(None), Record::Index(index), now).await;
            }
        }
    }

    /// The key's index with this variant in it: the freshest index known, since another request may
    /// have added a variant meanwhile.
    fn index_with(&self, head: &StoredHead, variant: VariantHash, now: UnixMillis) -> VaryIndex {
        let held = self.proxy.shared.memory.get(self.key.hash, None, &self.key.text);
        let mut index = match held.map(|held| held.record) {
            Some(Record::Index(index)) => (*index).clone(),
            _ => self.found.index().map(|index| (**index).clone()).unwrap_or_default(),
        };
        let etag = head.field(&ETAG).map(|etag| Bytes::copy_from_slice(etag.as_bytes()));
        let added =
            NewVariant { hash: variant, received: head.received, useless_at: head.useless_at(), etag };
        index.insert(&head.vary, added, now);
        index
    }

    /// Remembers that answers to this key are not to be queued for.
    async fn mark(&self, reason: Reason, status: StatusCode, now: UnixMillis) {
        // A verdict about this request alone says nothing about the next one's.
        if reason.concerns_the_request() {
            return;
        }
        let lasting = if status.is_server_error() { ERROR_MARKER } else { HIT_FOR_MISS };
        let until = now.plus(lasting);
        let variant = match self.found.flight_key(&self.key, self.request.headers()).1 {
            0 => None,
            hash => Some(VariantHash(hash)),
        };
        let place = self.place(variant);
        self.proxy.shared.memory.insert(&place, Record::HitForMiss { until }, now);
        if let Some(redis) = &self.proxy.redis {
            redis.put(place, Record::HitForMiss { until }, now).await;
        }
    }

    /// Forgets the stored response that was just found to be of no more use.
    async fn forget(&self) {
        let place = self.place(self.found.candidate().and_then(|candidate| candidate.variant));
        self.proxy.shared.memory.remove(&place);
        if let Some(redis) = &self.proxy.redis {
            redis.remove(&place).await;
        }
    }

    fn failed(&self, failure: Failure, lead: &mut Option<Leader>, reply: &mut Reply) {
        let flight = self.found.flight_key(&self.key, self.request.headers());
        if self.found.candidate().is_some() {
            self.proxy.shared.backoff.failed(flight, clock::wall());
        }
        if let Some(lead) = lead {
            lead.land(Landing::Failed(failure));
        }
        reply.send(Obtained::Failed(failure));
    }

    /// Whether the stored response may stand in for a failing origin (RFC 5861 4).
    fn may_stand_in(&self, now: UnixMillis) -> bool {
        self.found.candidate().is_some_and(|candidate| {
            reuse::stale_if_error(&candidate.stored.head, &self.facts, &self.route.policy, now)
        })
    }

    /// Which stored response a 304 confirms: the one at hand, or the variant that its validator names.
    fn validated(&self, headers: &HeaderMap) -> Option<Candidate> {
        if let Some(candidate) = self.found.candidate() {
            return validation::confirms(&candidate.stored.head, headers).then(|| candidate.clone());
        }
        let Found::NoVariant(index) = &self.found else { return None };
        let variant = index.by_etag(headers.get(ETAG)?.as_bytes())?.hash;
        let held = self.proxy.shared.memory.get(self.key.hash, Some(variant), &self.key.text)?;
        let Record::Response(stored) = held.record else { return None };
        Some(Candidate {
            stored,
            tier: Tier::Memory,
            soft_purged: false,
            variant: Some(variant),
            index: Some(Arc::clone(index)),
        })
    }

    /// What was stored between the look-up and taking the lead.
    fn look_again(&self) -> Option<Candidate> {
        let now = clock::wall();
        let found = self.proxy.look_in_memory(&self.key, self.request.headers(), now);
        self.reusable(found, now)
    }

    /// A candidate that answers this request as it is, now.
    pub(super) fn reusable(&self, found: Found, now: UnixMillis) -> Option<Candidate> {
        let Found::Response(candidate) = found else { return None };
        let newer = self
            .found
            .candidate()
            .is_none_or(|before| candidate.stored.head.received > before.stored.head.received);
        let fresh = matches!(
            reuse::judge(&candidate.stored.head, &self.facts, &self.route.policy, now),
            Reuse::Fresh
        );
        (newer && fresh && !candidate.soft_purged).then_some(candidate)
    }

    fn land_found(candidate: Candidate, lead: &mut Option<Leader>, reply: &mut Reply) {
        let fill = Fill::ready(candidate.stored.body.clone());
        let reader = fill.read();
        let landed = Arc::new(Landed {
            variant: candidate.variant.unwrap_or(VariantHash::NONE),
            head: candidate.stored.head.clone(),
            fill,
            how: How::Found(candidate.tier),
            stored: false,
            origin_age: None,
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
        body: &AnswerBody,
        arrival: Arrival,
    ) -> Exchange<'a> {
        Exchange {
            method: &Method::GET,
            facts: &self.facts,
            request: self.request.headers(),
            status: response.status,
            response: &response.headers,
            length: http_body::Body::size_hint(body).exact(),
            sent: arrival.sent,
            received: arrival.received,
            stamp: arrival.stamp,
            key: self.key.hash,
            host: &self.host,
            tags: &self.tags,
        }
    }

    pub(super) fn place(&self, variant: Option<VariantHash>) -> StoreKey {
        StoreKey { primary: self.key.hash, variant, text: self.key.text.clone() }
    }

    fn upstream(&self) -> &crate::upstream::Upstream {
        &self.proxy.upstreams[self.route.upstream]
    }
}

/// When, and under which stamp, a response was fetched.
#[derive(Clone, Copy, Debug)]
struct Arrival {
    stamp: Stamp,
    sent: UnixMillis,
    received: UnixMillis,
    begun: std::time::Instant,
    took: Duration,
}

/// The end of the channel to the client that caused the errand; it may be gone.
struct Reply(Option<oneshot::Sender<Obtained>>);

impl Reply {
    fn send(&mut self, obtained: Obtained) {
        if let Some(reply) = self.0.take() {
            // A client that went away drops what it was owed: its reader, or the connection.
            let _ = reply.send(obtained);
        }
    }
}

/// Pours an answer's body into a fill, to its end; `None` when it broke off, outgrew what may be
/// kept, or lost its last reader after that.
async fn pour(mut body: AnswerBody, writer: FillWriter, lead: Option<&Leader>) -> Option<Bytes> {
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame.ok()?.into_data() {
            Ok(data) => {
                if writer.push(data) == Pushed::Windowed {
                    // Nobody may join what is no longer kept from its first byte.
                    if let Some(lead) = lead {
                        lead.leave();
                    }
                    if !writer.room().await {
                        return None;
                    }
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    writer.complete(trailers)
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}
