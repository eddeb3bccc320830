//! The look-up: what the tiers hold for a request, and which of it selects.
//!
//! Decides: the place of a record (primary or variant), and between two tiers the more recent
//! response. Never touches: freshness (that is `caching::reuse`) or the origin.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::Proxy;
use super::asked::Asked;
use crate::caching::admission::{MethodClass, RequestFacts};
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::Reason;
use crate::caching::partial::{self, Completion};
use crate::caching::policy::Policy;
use crate::caching::reuse::{self, Reuse, Withdrawn};
use crate::caching::stamp::Stamp;
use crate::caching::stored::StoredResponse;
use crate::caching::vary::{VariantHash, VaryIndex, variant_hash};
use crate::collapse::flight::{FlightKey, Joined, Landing};
use crate::observe::metrics::Cause;
use crate::semantics::UnixMillis;
use crate::store::purges::Validity;
use crate::store::redis::RedisStore;
use crate::store::{Record, StoreKey, Tier};
use crate::upstream::request;

/// Whose fields select among variants: `Vary` speaks of what the origin is sent (RFC 9111 4.1).
#[derive(Clone, Copy, Debug)]
pub(super) enum Selecting<'a> {
    /// A request as it came: its own fields, which but for few names are what the origin is sent.
    Asked(&'a Asked),
    /// A request as it is sent.
    Sent(&'a HeaderMap),
}

/// Whether a reading of Redis may be one that others began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// It may: what they find, this one would find.
    Shared,
    /// It may not: what was written since they began is what this one is after.
    Own,
}

/// What is held for a request.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Something that a purge has since forbidden.
    Purged,
    /// Variants, none of which this request selects.
    NoVariant(Arc<VaryIndex>),
    /// The answers to this key may not be shared: do not queue.
    HitForMiss,
    /// A response this request selects.
    Response(Candidate),
    /// One that it selects, and whose content turned out not to be there: it counts as absent.
    Unreadable(Candidate),
}

/// A stored response that a request selects.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// Where it came from.
    pub tier: Tier,
    /// What made it stale before its time, if anything did.
    pub withdrawn: Option<Withdrawn>,
    /// Its variant, when the key varies.
    pub variant: Option<VariantHash>,
    /// The index that led to it.
    pub index: Option<Arc<VaryIndex>>,
}

impl Found {
    /// The response, if that is what was found.
    #[must_use]
    pub const fn candidate(&self) -> Option<&Candidate> {
        match self {
            Self::Response(candidate) => Some(candidate),
            Self::Nothing | Self::Purged | Self::NoVariant(_) | Self::HitForMiss | Self::Unreadable(_) => {
                None
            }
        }
    }

    /// The response that was seen, whether it is of use or not: what is looked for again is a newer one.
    #[must_use]
    pub const fn seen(&self) -> Option<&Candidate> {
        match self {
            Self::Response(candidate) | Self::Unreadable(candidate) => Some(candidate),
            Self::Nothing | Self::Purged | Self::NoVariant(_) | Self::HitForMiss => None,
        }
    }

    /// The index of variants, if one was seen on the way.
    #[must_use]
    pub fn index(&self) -> Option<&Arc<VaryIndex>> {
        match self {
            Self::NoVariant(index) => Some(index),
            Self::Response(candidate) | Self::Unreadable(candidate) => candidate.index.as_ref(),
            Self::Nothing | Self::Purged | Self::HitForMiss => None,
        }
    }

    /// The flight that a fetch for this request belongs to: that of its variant as far as known.
    #[must_use]
    pub(super) fn flight_key(&self, key: &PrimaryKey, proxy: &Proxy, by: Selecting<'_>) -> FlightKey {
        let variant = match self {
            Self::Response(candidate) | Self::Unreadable(candidate) => candidate.variant,
            Self::NoVariant(index) => likely(index, proxy.fields(by, index)),
            Self::Nothing | Self::Purged | Self::HitForMiss => None,
        };
        (key.hash, variant.map_or(0, |hash| hash.0))
    }

    /// How to fetch the rest of a stored part, where a request for the whole could be answered with both
    /// (RFC 9111 3.4): the part is fresh, and reuse failed for nothing but what it lacks.
    #[must_use]
    pub fn to_complete(
        &self,
        facts: &RequestFacts,
        policy: &Policy,
        cause: Cause,
        now: UnixMillis,
    ) -> Option<Completion> {
        let candidate = self.candidate().filter(|held| held.withdrawn.is_none() && cause == Cause::Miss)?;
        let head = &candidate.stored.head;
        // The verdict on it as on a request that it could answer.
        let ranged = RequestFacts { range: true, ..facts.clone() };
        let plain = !facts.range && facts.method == MethodClass::Get;
        let fresh = plain && reuse::judge(head, &ranged, policy, now) == Reuse::Fresh;
        if fresh { partial::completion(head) } else { None }
    }

    /// The better of two look-ups for one request: a response before none, the more recent first.
    #[must_use]
    pub fn or_better(self, other: Self) -> Self {
        match (&self, &other) {
            (Self::Response(mine), Self::Response(theirs)) => {
                let newer = theirs.stored.head.received > mine.stored.head.received;
                if newer || (mine.withdrawn.is_some() && theirs.withdrawn.is_none()) { other } else { self }
            }
            (Self::Response(_), _) | (_, Self::Nothing) => self,
            _ => other,
        }
    }
}

impl Candidate {
    /// Where it is stored.
    pub(super) fn place(&self, key: &PrimaryKey) -> StoreKey {
        StoreKey { primary: key.hash, variant: self.variant, text: key.text.clone() }
    }
}

impl Proxy {
    /// The fields that select among the variants of `index`. The forwarded ones are made only where a
    /// name asks for it: the many requests whose `Vary` names none of them pay a few comparisons.
    pub(super) fn fields<'a>(&self, by: Selecting<'a>, index: &VaryIndex) -> &'a HeaderMap {
        self.fields_named(by, index.sets.iter().flatten())
    }

    pub(super) fn fields_named<'a, 'n>(
        &self,
        by: Selecting<'a>,
        names: impl IntoIterator<Item = &'n HeaderName>,
    ) -> &'a HeaderMap {
        match by {
            Selecting::Sent(headers) => headers,
            Selecting::Asked(asked) if names.into_iter().any(request::is_rewritten) => {
                asked.forwarded(|| Some(self.upstream_fields(asked, Method::GET).ok()?.headers))
            }
            Selecting::Asked(asked) => asked.headers(),
        }
    }

    /// The variant that a request selects among responses that vary by `names`.
    pub(super) fn variant(&self, by: Selecting<'_>, names: &[HeaderName]) -> VariantHash {
        variant_hash(names, self.fields_named(by, names))
    }

    /// Looks in the memory tier. No await, no allocation unless the key varies.
    pub(super) fn look_in_memory(&self, key: &PrimaryKey, by: Selecting<'_>, now: UnixMillis) -> Found {
        let found = self.selected(by, now, |variant| {
            let held = self.shared.memory.get(key.hash, variant, &key.text, now)?;
            Some((held.record, held.validity))
        });
        self.shared.metrics.memory_lookup(found.candidate().is_some());
        found
    }

    /// Looks in Redis: one GET, or two when the key varies. What is found is copied into memory, but for a
    /// long body, which is not read yet.
    pub(super) async fn look_in_redis(
        &self,
        key: &PrimaryKey,
        by: Selecting<'_>,
        reading: Reading,
        now: UnixMillis,
    ) -> Found {
        if self.readable(now).is_none() {
            return Found::Nothing;
        }
        let primary = StoreKey { primary: key.hash, variant: None, text: key.text.clone() };
        let found = match self.read_from_redis(&primary, reading, now).await {
            None => Found::Nothing,
            Some(Record::Index(index)) => {
                let fields = self.fields(by, &index);
                let Some(variant) = index.select(fields, now).first().map(|variant| variant.hash) else {
                    return Found::NoVariant(index);
                };
                let place = StoreKey { variant: Some(variant), ..primary.clone() };
                let held = self
                    .read_from_redis(&place, reading, now)
                    .await
                    .map(|record| self.with_validity(record, &key.text, now));
                self.take_index_into_memory(&primary, &index, now);
                self.selected(by, now, |asked| match asked {
                    None => Some((Record::Index(Arc::clone(&index)), Validity::Valid)),
                    Some(_) => held.clone(),
                })
            }
            Some(record) => {
                let held = self.with_validity(record, &key.text, now);
                self.selected(by, now, |_| Some(held.clone()))
            }
        };
        let found = found.in_tier(Tier::Redis);
        if let Found::Response(candidate) = &found {
            self.take_into_memory(&candidate.place(key), &candidate.stored, now);
        }
        self.shared.metrics.redis_lookup(found.candidate().is_some());
        found
    }

    /// Adds what an index in Redis knows to the one in memory, which may know of what is on its way there.
    fn take_index_into_memory(&self, place: &StoreKey, index: &Arc<VaryIndex>, now: UnixMillis) {
        let mut all = Arc::clone(index);
        if let Some(held) = self.index_in_memory(place, now) {
            all = held;
            Arc::make_mut(&mut all).merge(index, now);
        }
        self.shared.memory.insert(place, Record::Index(all), now);
    }

    /// Copies what was found in Redis into memory. A long body is not at hand yet: what is older than its
    /// head makes way, so that memory does not go on answering with it.
    fn take_into_memory(&self, place: &StoreKey, stored: &Arc<StoredResponse>, now: UnixMillis) {
        let memory = &self.shared.memory;
        if stored.body.here().is_none() {
            let held = memory.get(place.primary, place.variant, &place.text, now);
            if let Some(Record::Response(held)) = held.map(|held| held.record)
                && held.head.received >= stored.head.received
            {
                return;
            }
        }
        memory.insert(place, Record::Response(Arc::clone(stored)), now);
    }

    /// What a request selects among the records that `get` holds for its key.
    pub(super) fn selected(
        &self,
        by: Selecting<'_>,
        now: UnixMillis,
        get: impl Fn(Option<VariantHash>) -> Option<(Record, Validity)>,
    ) -> Found {
        match get(None) {
            None => Found::Nothing,
            Some((Record::HitForMiss { until }, _)) => {
                if now < until {
                    Found::HitForMiss
                } else {
                    Found::Nothing
                }
            }
            Some((Record::Response(stored), validity)) => Found::response(stored, validity, None, None),
            Some((Record::Index(index), _)) => {
                let fields = self.fields(by, &index);
                let Some(variant) = index.select(fields, now).first().map(|variant| variant.hash) else {
                    return unselected(&index, fields, now, get);
                };
                match get(Some(variant)) {
                    Some((Record::Response(stored), validity)) => {
                        Found::response(stored, validity, Some(variant), Some(index))
                    }
                    _ => Found::NoVariant(index),
                }
            }
        }
    }

    pub(super) fn with_validity(&self, record: Record, key: &[u8], now: UnixMillis) -> (Record, Validity) {
        let purges = &self.shared.purges;
        let validity = match &record {
            Record::Response(stored) => {
                let head = &stored.head;
                purges.judge(head.stamp, &head.ids, key, head.asked(), now)
            }
            Record::Index(_) | Record::HitForMiss { .. } => Validity::Valid,
        };
        (record, validity)
    }

    /// A variant by its place, in either tier; nothing that a purge forbids.
    pub(super) async fn stored_variant(
        &self,
        place: &StoreKey,
        index: Arc<VaryIndex>,
        now: UnixMillis,
    ) -> Option<Candidate> {
        let held = self.shared.memory.get(place.primary, place.variant, &place.text, now);
        let (tier, held) = match held {
            Some(held) => (Tier::Memory, (held.record, held.validity)),
            None => (
                Tier::Redis,
                self.with_validity(
                    self.read_from_redis(place, Reading::Shared, now).await?,
                    &place.text,
                    now,
                ),
            ),
        };
        let (Record::Response(stored), validity) = held else { return None };
        match Found::response(stored, validity, place.variant, Some(index)).in_tier(tier) {
            Found::Response(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// The index of a key as it is in memory now.
    pub(super) fn index_in_memory(&self, place: &StoreKey, now: UnixMillis) -> Option<Arc<VaryIndex>> {
        match self.shared.memory.get(place.primary, None, &place.text, now)?.record {
            Record::Index(index) => Some(index),
            Record::Response(_) | Record::HitForMiss { .. } => None,
        }
    }

    /// The index of a key as it lies in Redis now.
    pub(super) async fn index_in_redis(&self, place: &StoreKey, now: UnixMillis) -> Option<Arc<VaryIndex>> {
        match self.redis.as_ref()?.get(place, now).await? {
            Record::Index(index) => Some(index),
            Record::Response(_) | Record::HitForMiss { .. } => None,
        }
    }

    /// Redis, where what it says may be believed: what was purged meanwhile could be anything while the
    /// fleet's purges are not known.
    pub(super) fn readable(&self, now: UnixMillis) -> Option<&Arc<RedisStore>> {
        self.redis.as_ref().filter(|redis| redis.usable() && self.shared.purges.in_sync(now))
    }

    /// The record under a key, with the stamp that is believed of it; whatever the clock of who wrote it, it
    /// was received before now.
    pub(super) async fn get(&self, redis: &RedisStore, place: &StoreKey, now: UnixMillis) -> Option<Record> {
        let mut record = redis.get(place, now).await?;
        if let Record::Response(stored) = &mut record {
            let head = &stored.head;
            let (stamp, received) = (self.shared.purges.believed(head.stamp), head.received.min(now));
            if stamp != head.stamp || received != head.received {
                // It was made a moment ago, for this reading alone: nothing is copied.
                let head = &mut Arc::make_mut(stored).head;
                (head.stamp, head.received) = (stamp, received);
            }
        }
        Some(record)
    }

    /// Reads one record; requests that want the same one at the same time share the reading. Whoever
    /// reads first reads for all; if it goes away, each of the others reads for itself.
    async fn read_from_redis(&self, place: &StoreKey, reading: Reading, now: UnixMillis) -> Option<Record> {
        let redis = self.redis.as_ref()?;
        if reading == Reading::Own {
            return self.get(redis, place, now).await;
        }
        let key = (place.primary, place.variant.map_or(0, |hash| hash.0));
        // A record is judged after it was read: no stamp says who may share the reading.
        match self.shared.readings.join(key, &place.text, Stamp::default(), |_, _| true) {
            Joined::Leader(lead) => {
                let record = self.get(redis, place, now).await;
                lead.end(|| Landing::Shared(record.clone()));
                record
            }
            Joined::Waiter(mut wait) => match wait.landing().await {
                Landing::Shared(record) => record,
                Landing::Alone | Landing::Failed(()) => self.get(redis, place, now).await,
            },
            Joined::Collision => self.get(redis, place, now).await,
        }
    }
}

impl Found {
    fn response(
        stored: Arc<StoredResponse>,
        validity: Validity,
        variant: Option<VariantHash>,
        index: Option<Arc<VaryIndex>>,
    ) -> Self {
        let withdrawn = match validity {
            Validity::Hard => return Self::Purged,
            Validity::Soft(since) => Some(Withdrawn { since, reason: Reason::Purged }),
            Validity::Unheard(since) => Some(Withdrawn { since, reason: Reason::PurgesUnknown }),
            Validity::Valid => None,
        };
        Self::Response(Candidate { stored, tier: Tier::Memory, withdrawn, variant, index })
    }

    pub(super) fn in_tier(mut self, tier: Tier) -> Self {
        if let Self::Response(candidate) = &mut self {
            candidate.tier = tier;
        }
        self
    }
}

/// No stored variant matches; but this request's own place may hold a hit-for-miss marker.
fn unselected(
    index: &Arc<VaryIndex>,
    fields: &HeaderMap,
    now: UnixMillis,
    get: impl Fn(Option<VariantHash>) -> Option<(Record, Validity)>,
) -> Found {
    match likely(index, fields).and_then(|place| get(Some(place))) {
        Some((Record::HitForMiss { until }, _)) if now < until => Found::HitForMiss,
        _ => Found::NoVariant(Arc::clone(index)),
    }
}

/// The variant that an answer to this request is likely to be: by the names of the most recent one.
fn likely(index: &VaryIndex, fields: &HeaderMap) -> Option<VariantHash> {
    let recent = index.variants.first()?;
    Some(variant_hash(index.sets.get(usize::from(recent.set))?, fields))
}
