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
use crate::caching::partial::{self, Completion};
use crate::caching::policy::Policy;
use crate::caching::reuse::{self, Reuse};
use crate::caching::stamp::Stamp;
use crate::caching::stored::StoredResponse;
use crate::caching::vary::{VariantHash, VaryIndex, variant_hash};
use crate::collapse::flight::{FlightKey, Joined, Landing};
use crate::observe::metrics::Cause;
use crate::semantics::UnixMillis;
use crate::store::purges::Validity;
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
}

/// A stored response that a request selects.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The response.
    pub stored: Arc<StoredResponse>,
    /// Where it came from.
    pub tier: Tier,
    /// When it was soft-purged, if it was: stale from then on.
    pub soft_purged: Option<UnixMillis>,
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
            Self::Nothing | Self::Purged | Self::NoVariant(_) | Self::HitForMiss => None,
        }
    }

    /// The index of variants, if one was seen on the way.
    #[must_use]
    pub fn index(&self) -> Option<&Arc<VaryIndex>> {
        match self {
            Self::NoVariant(index) => Some(index),
            Self::Response(candidate) => candidate.index.as_ref(),
            Self::Nothing | Self::Purged | Self::HitForMiss => None,
        }
    }

    /// The flight that a fetch for this request belongs to: that of its variant as far as known.
    #[must_use]
    pub(super) fn flight_key(&self, key: &PrimaryKey, proxy: &Proxy, by: Selecting<'_>) -> FlightKey {
        let variant = match self {
            Self::Response(candidate) => candidate.variant,
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
        let candidate = self.candidate().filter(|held| held.soft_purged.is_none() && cause == Cause::Miss)?;
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
                if newer || (mine.soft_purged.is_some() && theirs.soft_purged.is_none()) {
                    other
                } else {
                    self
                }
            }
            (Self::Response(_), _) | (_, Self::Nothing) => self,
            _ => other,
        }
    }
}

impl Proxy {
    /// The fields that select among the variants of `index`. The forwarded ones are made only where a
    /// name asks for it: the many requests whose `Vary` names none of them pay a few comparisons.
    fn fields<'a>(&self, by: Selecting<'a>, index: &VaryIndex) -> &'a HeaderMap {
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
                asked.forwarded(|| Some(self.upstream_head(asked, Method::GET).ok()?.headers))
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
            let held = self.shared.memory.get(key.hash, variant, &key.text)?;
            Some((held.record, held.validity))
        });
        self.shared.metrics.memory_lookup(found.candidate().is_some());
        found
    }

    /// Looks in Redis: one GET, or two when the key varies. What is found is copied into memory.
    pub(super) async fn look_in_redis(&self, key: &PrimaryKey, by: Selecting<'_>, now: UnixMillis) -> Found {
        if !self.redis.as_ref().is_some_and(|redis| redis.usable()) {
            return Found::Nothing;
        }
        let primary = StoreKey { primary: key.hash, variant: None, text: key.text.clone() };
        let found = match self.read_from_redis(&primary, now).await {
            None => Found::Nothing,
            Some(Record::Index(index)) => {
                let fields = self.fields(by, &index);
                let Some(variant) = index.select(fields, now).first().map(|variant| variant.hash) else {
                    return Found::NoVariant(index);
                };
                let place = StoreKey { variant: Some(variant), ..primary.clone() };
                let held = self.read_from_redis(&place, now).await.map(|record| self.with_validity(record));
                self.shared.memory.insert(&primary, Record::Index(Arc::clone(&index)), now);
                self.selected(by, now, |asked| match asked {
                    None => Some((Record::Index(Arc::clone(&index)), Validity::Valid)),
                    Some(_) => held.clone(),
                })
            }
            Some(record) => {
                let held = self.with_validity(record);
                self.selected(by, now, |_| Some(held.clone()))
            }
        };
        let found = found.in_tier(Tier::Redis);
        if let Found::Response(candidate) = &found {
            let place = StoreKey { primary: key.hash, variant: candidate.variant, text: key.text.clone() };
            self.shared.memory.insert(&place, Record::Response(Arc::clone(&candidate.stored)), now);
        }
        self.shared.metrics.redis_lookup(found.candidate().is_some());
        found
    }

    /// What a request selects among the records that `get` holds for its key.
    fn selected(
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

    fn with_validity(&self, record: Record) -> (Record, Validity) {
        let validity = match &record {
            Record::Response(stored) => self.shared.purges.validity(stored.head.stamp, &stored.head.ids),
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
        let held = self.shared.memory.get(place.primary, place.variant, &place.text);
        let (tier, held) = match held {
            Some(held) => (Tier::Memory, (held.record, held.validity)),
            None => (Tier::Redis, self.with_validity(self.read_from_redis(place, now).await?)),
        };
        let (Record::Response(stored), validity) = held else { return None };
        match Found::response(stored, validity, place.variant, Some(index)).in_tier(tier) {
            Found::Response(candidate) => Some(candidate),
            _ => None,
        }
    }

    /// The index of a key as it lies in Redis now.
    pub(super) async fn index_in_redis(&self, place: &StoreKey, now: UnixMillis) -> Option<Arc<VaryIndex>> {
        match self.redis.as_ref()?.get(place, now).await? {
            Record::Index(index) => Some(index),
            Record::Response(_) | Record::HitForMiss { .. } => None,
        }
    }

    /// Reads one record; requests that want the same one at the same time share the reading. Whoever
    /// reads first reads for all; if it goes away, each of the others reads for itself.
    async fn read_from_redis(&self, place: &StoreKey, now: UnixMillis) -> Option<Record> {
        let redis = self.redis.as_ref()?;
        let key = (place.primary, place.variant.map_or(0, |hash| hash.0));
        // A record is judged after it was read: no stamp says who may share the reading.
        match self.shared.readings.join(key, &place.text, Stamp::default(), |_, _| true) {
            Joined::Leader(mut lead) => {
                let record = redis.get(place, now).await;
                lead.land(Landing::Shared(record.clone()));
                record
            }
            Joined::Waiter(mut wait) => match wait.landing().await {
                Landing::Shared(record) => record,
                Landing::Alone | Landing::Failed(()) => redis.get(place, now).await,
            },
            Joined::Collision => redis.get(place, now).await,
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
        let soft_purged = match validity {
            Validity::Hard => return Self::Purged,
            Validity::Soft(purged) => Some(purged),
            Validity::Valid => None,
        };
        Self::Response(Candidate { stored, tier: Tier::Memory, soft_purged, variant, index })
    }

    fn in_tier(mut self, tier: Tier) -> Self {
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
