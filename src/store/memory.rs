//! The memory tier: records in this process, within a bound of bytes.
//!
//! Decides: what stays when there is no room, and what a record weighs. Never touches: freshness (a
//! stale record is as welcome as a fresh one until nothing could reuse it), Redis, tokio.
//!
//! # The hit path
//!
//! One look-up in one shard, which clones one `Arc`; a comparison of the key's text (the hash is not
//! collision resistant, RFC 9111 7.1); one load of the purge table's [`PurgeTable::changes`]. While that is
//! what it was when the entry was last found valid, nothing more is asked of it (I3 of [`super::purges`]);
//! and whether the fleet was heard lately. No allocation, and no lock that workers share: each thread has a
//! read lock of its own for every shard (of eight; more threads than that share them), and whoever writes
//! takes all of them. A panic under such a lock would end its shard: of ours, only the few lines of `Weigh`,
//! `Fold`, `Evictions` and the comparisons of `remove_if` run there.
//!
//! # Memory
//!
//! An entry weighs the bytes it really keeps: the tier copies bodies and field values into allocations
//! of their own, since they usually arrive as slices of read buffers many times their size. What the
//! fields of many responses have in common is kept once (`templates`). What is evicted is dropped after
//! the shard's lock is released.

mod templates;
mod weight;

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::HeaderValue;
use quick_cache::sync::Cache;
use quick_cache::{Lifecycle, OptionsBuilder, Weighter};

use self::templates::{Found, Templates};
use self::weight::{entry_weight, template_weight};
use super::purges::{PurgeTable, Validity};
use super::{Record, StoreKey, exact};
use crate::caching::stamp::{Purge, begins};
use crate::caching::stored::{Fields, StoredBody, StoredHead, StoredResponse, Template};
use crate::caching::vary::VariantHash;
use crate::semantics::UnixMillis;

/// The most bytes of templates.
const MOST_TEMPLATES: u64 = 1 << 20;

/// What the tier holds for a key.
#[derive(Clone, Debug)]
pub struct Held {
    /// The record.
    pub record: Record,
    /// What purges say of it. A [`Validity::Hard`] record has just been removed by [`MemoryTier::get`].
    pub validity: Validity,
}

/// The memory tier of the process; shared by all workers.
pub struct MemoryTier {
    /// `None` when the tier is turned off.
    cache: Option<Cache<Place, Arc<Entry>, Weigh, Spread, Evictions>>,
    templates: Templates,
    /// The heaviest entry that a shard keeps.
    max_weight: u64,
    /// The largest body kept.
    max_object_size: u64,
    purges: Arc<PurgeTable>,
    evicted: AtomicU64,
}

impl MemoryTier {
    /// A tier of at most `max_size` bytes (0 turns it off), with bodies of at most `max_object_size`.
    #[must_use]
    pub fn new(max_size: u64, max_object_size: u64, purges: Arc<PurgeTable>) -> Self {
        let room = (max_size / 64).min(MOST_TEMPLATES);
        let cache = cache(max_size - room, max_object_size);
        let max_weight = cache.as_ref().map_or(0, |cache| heaviest(cache.shard_capacity()));
        let templates = Templates::new(room);
        Self { cache, templates, max_weight, max_object_size, purges, evicted: AtomicU64::new(0) }
    }

    /// What is held for a key: its primary record, or one variant.
    ///
    /// `text` is the primary key's: another key under the same hash is not found.
    #[must_use]
    pub fn get(
        &self,
        primary: u128,
        variant: Option<VariantHash>,
        text: &[u8],
        now: UnixMillis,
    ) -> Option<Held> {
        let cache = self.cache.as_ref()?;
        let place = Place::new(primary, variant);
        let entry = cache.get(&place)?;
        let held = self.held(&entry, text, now)?;
        if held.validity == Validity::Hard {
            // Only this entry: what was fetched since the purge may stand in its place already.
            drop(cache.remove_if(&place, |held| Arc::ptr_eq(held, &entry)));
        }
        Some(held)
    }

    /// As [`Self::get`], for who only looks: nothing is removed, and nothing stays longer for it.
    #[must_use]
    pub fn peek(
        &self,
        primary: u128,
        variant: Option<VariantHash>,
        text: &[u8],
        now: UnixMillis,
    ) -> Option<Held> {
        let entry = self.cache.as_ref()?.peek(&Place::new(primary, variant))?;
        self.held(&entry, text, now)
    }

    fn held(&self, entry: &Entry, text: &[u8], now: UnixMillis) -> Option<Held> {
        (*entry.text == *text)
            .then(|| Held { record: entry.record.clone(), validity: self.validity(entry, now) })
    }

    /// Puts a record under its key, in the place of what was there.
    ///
    /// A record that no rule can reuse, that a purge has forbidden, that is too large or whose body is not at
    /// hand is not kept; what it would have replaced is forgotten all the same, since it is out of date.
    pub fn insert(&self, key: &StoreKey, record: Record, now: UnixMillis) {
        let Some(cache) = &self.cache else { return };
        let place = Place::new(key.primary, key.variant);
        let Some(entry) = self.entry(key, record, now) else {
            drop(cache.remove(&place));
            return;
        };
        let mut gone = Vec::new();
        cache.insert_with_lifecycle(place, Arc::new(entry), &mut gone);
        // What the new entry replaces is handed out as well, but had to make room for nobody.
        let evicted = gone.iter().filter(|(left, _)| *left != place).count();
        self.evicted.fetch_add(evicted as u64, Ordering::Relaxed);
    }

    /// Whether a body of this length could be kept, as far as its length goes.
    #[must_use]
    pub fn admits(&self, length: u64) -> bool {
        self.cache.is_some() && length <= self.max_object_size && length <= self.max_weight
    }

    /// Forgets what is under a key, and says whether there was anything. For memory's sake: what may not
    /// be served any more is purged.
    pub fn remove(&self, key: &StoreKey) -> bool {
        self.cache.as_ref().is_some_and(|cache| {
            let place = Place::new(key.primary, key.variant);
            cache.remove_if(&place, |held| *held.text == *key.text).is_some()
        })
    }

    /// How many responses a purge concerns, of those that could still be used. Looks at every entry: for
    /// people who purge.
    #[must_use]
    pub fn concerned(&self, purge: &Purge) -> u64 {
        let Some(cache) = &self.cache else { return 0 };
        let concerned = |entry: &Entry| {
            entry.head().is_some_and(|head| {
                let named = head.ids.iter().any(|id| purge.ids.contains(id))
                    || purge.prefixes.iter().any(|prefix| begins(&entry.text, prefix));
                named && self.purges.validity(head.stamp, &head.ids, &entry.text).is_valid()
            })
        };
        cache.iter().filter(|(_, entry)| concerned(entry)).count() as u64
    }

    /// Bytes held. Locks every shard in turn: for metrics.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.weight() + self.templates.bytes())
    }

    /// Records held. Locks every shard in turn: for metrics.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.len() as u64)
    }

    /// Records that had to make room since the process started.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    fn validity(&self, entry: &Entry, now: UnixMillis) -> Validity {
        let Some(head) = entry.head() else { return Validity::Valid };
        // Loaded before the table is asked: a purge in between is asked for next time.
        let changes = self.purges.changes();
        if changes != entry.checked.load(Ordering::Relaxed) {
            let validity = self.purges.validity(head.stamp, &head.ids, &entry.text);
            if !validity.is_valid() {
                return validity;
            }
            entry.checked.store(changes, Ordering::Relaxed);
        }
        self.purges.heard(head.asked(), now)
    }

    /// The entry to keep, with bytes of its own; `None` when it is not to be kept.
    fn entry(&self, key: &StoreKey, record: Record, now: UnixMillis) -> Option<Entry> {
        let useless_at = match &record {
            Record::Response(stored) => stored.head.useless_at(),
            Record::Index(index) => index.useless_at(),
            Record::HitForMiss { until } => *until,
        };
        if useless_at <= now {
            return None;
        }
        let mut own_template = None;
        let record = match record {
            Record::Response(stored) => {
                let validity = self.purges.validity(stored.head.stamp, &stored.head.ids, &key.text);
                let purged = validity == Validity::Hard;
                let body = stored.body.here()?;
                if purged || !self.admits(body.len() as u64) {
                    return None;
                }
                let stored = exact_response(&stored, body, &self.templates);
                own_template = stored.1;
                Record::Response(Arc::new(stored.0))
            }
            other => other,
        };
        let text = Box::from(&*key.text);
        let template = own_template.map_or(0, |template| template_weight(&template));
        let weight = entry_weight(&text, &record) + template;
        // Zero is what `changes` is while nothing was ever purged: valid, as is everything then.
        let entry = Entry { text, record, weight, checked: AtomicU64::new(0) };
        (weight <= self.max_weight).then_some(entry)
    }
}

impl fmt::Debug for MemoryTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryTier")
            .field("on", &self.cache.is_some())
            .field("max_weight", &self.max_weight)
            .field("max_object_size", &self.max_object_size)
            .finish_non_exhaustive()
    }
}

/// A record, its key, and when it was last found valid.
struct Entry {
    text: Box<[u8]>,
    record: Record,
    weight: u64,
    /// [`PurgeTable::changes`] when nothing purged since its stamp concerned it.
    checked: AtomicU64,
}

impl Entry {
    /// The head of a response: indexes and markers bear no ids and are never purged. An index alone
    /// answers nothing, and a marker only says not to wait.
    fn head(&self) -> Option<&StoredHead> {
        match &self.record {
            Record::Response(stored) => Some(&stored.head),
            Record::Index(_) | Record::HitForMiss { .. } => None,
        }
    }
}

/// Where an entry is. One primary key has a place for each variant; what two primary keys share, their
/// texts tell apart.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    high: u64,
    low: u64,
}

impl Place {
    fn new(primary: u128, variant: Option<VariantHash>) -> Self {
        let variant = variant.map_or(0, |variant| variant.0);
        Self { high: (primary >> 64) as u64, low: primary as u64 ^ variant }
    }
}

impl Hash for Place {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.low);
        state.write_u64(self.high);
    }
}

/// Places are hashes already. They are folded with a number of this process, so that nobody outside
/// can choose keys that crowd one bucket.
#[derive(Clone, Copy)]
struct Spread {
    seed: u64,
}

impl BuildHasher for Spread {
    type Hasher = Fold;

    fn build_hasher(&self) -> Fold {
        Fold(self.seed)
    }
}

struct Fold(u64);

impl Hasher for Fold {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.0 = ((product >> 64) as u64) ^ (product as u64);
    }
}

/// Keeps what leaves the cache until the shard's lock is released.
#[derive(Clone)]
struct Evictions;

impl Lifecycle<Place, Arc<Entry>> for Evictions {
    /// Allocates only when something leaves.
    type RequestState = Vec<(Place, Arc<Entry>)>;

    fn on_evict(&self, gone: &mut Self::RequestState, place: Place, entry: Arc<Entry>) {
        gone.push((place, entry));
    }
}

#[derive(Clone, Copy)]
struct Weigh;

impl Weighter<Place, Arc<Entry>> for Weigh {
    fn weight(&self, _: &Place, entry: &Arc<Entry>) -> u64 {
        entry.weight
    }
}

/// The part of a shard that the cache gives to one entry at most.
const LARGEST_PART: f64 = 0.97;

fn heaviest(shard_capacity: u64) -> u64 {
    (shard_capacity as f64 * LARGEST_PART) as u64
}

fn cache(max_size: u64, max_object_size: u64) -> Option<Cache<Place, Arc<Entry>, Weigh, Spread, Evictions>> {
    if max_size == 0 {
        return None;
    }
    // Each shard has its own part of the bytes: enough for several of the largest objects, so that one
    // does not empty it, as far as the tier's size allows.
    let shards = (max_size / max_object_size.saturating_mul(16).max(1)).clamp(1, 64);
    let shards = 1_usize << shards.ilog2();
    let items = usize::try_from(max_size / 4096).unwrap_or(usize::MAX).clamp(shards * 32, 1 << 24);
    let options = OptionsBuilder::new()
        .shards(shards)
        .estimated_items_capacity(items)
        .hot_allocation(LARGEST_PART)
        .weight_capacity(max_size)
        .build()
        .ok()?;
    let spread = Spread { seed: fastrand::u64(..) };
    Some(Cache::with_options(options, Weigh, spread, Evictions))
}

// === bytes of one's own ===

/// The same response with body and values of its own, and its template if no other response shares it.
fn exact_response(
    stored: &StoredResponse,
    body: &Bytes,
    templates: &Templates,
) -> (StoredResponse, Option<Arc<Template>>) {
    let head = &stored.head;
    let trailers = || head.trailers.iter().map(|(_, value)| value);
    let values = || templates::open(&head.fields).chain(trailers());
    let mut block = BytesMut::with_capacity(values().map(HeaderValue::len).sum());
    values().for_each(|value| block.extend_from_slice(value.as_bytes()));
    let mut block = block.freeze();
    let mut exact_value = |value: &HeaderValue| {
        let bytes = block.split_to(value.len());
        let mut own = HeaderValue::from_maybe_shared(bytes).unwrap_or_else(|_| value.clone());
        own.set_sensitive(value.is_sensitive());
        own
    };
    let Found { template, shared } = templates.of(&head.fields);
    let own: Vec<_> = templates::open(&head.fields).map(&mut exact_value).collect();
    // As many as the template leaves open: both were chosen by the same rule.
    let fields = Fields::packed(Arc::clone(&template), own.into()).unwrap_or_else(|| head.fields.clone());
    let trailers = head.trailers.iter().map(|(name, value)| (name.clone(), exact_value(value))).collect();
    let head = StoredHead { fields, trailers, ids: head.ids.clone(), vary: head.vary.clone(), ..*head };
    (StoredResponse { head, body: StoredBody::Here(exact(body)) }, (!shared).then_some(template))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::header::{CONTENT_TYPE, ETAG, SERVER, VARY};
    use http::{HeaderName, StatusCode};

    use super::*;
    use crate::caching::stamp::{Mode, Purge, PurgeId, Stamp};
    use crate::caching::stored::Traits;
    use crate::caching::vary::{NewVariant, VaryIndex};

    const NOW: UnixMillis = UnixMillis(1_700_000_000_000);
    const TAG: PurgeId = PurgeId(77);

    fn key(n: u128) -> StoreKey {
        StoreKey { primary: n << 70 | n, variant: None, text: Bytes::from(format!("http://a.example/{n}")) }
    }

    fn response(body: impl Into<Bytes>, stamp: Stamp) -> Record {
        let head = StoredHead {
            status: StatusCode::OK,
            fields: vec![(CONTENT_TYPE, HeaderValue::from_static("text/plain"))].into(),
            trailers: Vec::new(),
            received: NOW,
            initial_age: 0,
            lifetime: 60_000,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            keep: 0,
            cost: 10,
            traits: Traits::default(),
            stamp,
            ids: vec![TAG, PurgeId::ALL],
            vary: Vec::new(),
            part: None,
        };
        Record::Response(Arc::new(StoredResponse { head, body: StoredBody::Here(body.into()) }))
    }

    fn tier(max_size: u64, max_object_size: u64) -> (MemoryTier, Arc<PurgeTable>) {
        let purges = Arc::new(PurgeTable::alone());
        (MemoryTier::new(max_size, max_object_size, Arc::clone(&purges)), purges)
    }

    fn get(tier: &MemoryTier, key: &StoreKey) -> Option<Held> {
        tier.get(key.primary, key.variant, &key.text, NOW)
    }

    fn body(held: Option<Held>) -> Option<Bytes> {
        match held?.record {
            Record::Response(stored) => stored.body.here().cloned(),
            Record::Index(_) | Record::HitForMiss { .. } => None,
        }
    }

    #[test]
    fn what_is_put_is_found_under_its_key_alone() {
        let (tier, purges) = tier(1 << 20, 1 << 16);
        let variant = StoreKey { variant: Some(VariantHash(9)), ..key(1) };
        tier.insert(&key(1), response("primary", purges.stamp()), NOW);
        tier.insert(&variant, response("variant", purges.stamp()), NOW);
        assert_eq!(body(get(&tier, &key(1))).unwrap(), "primary");
        assert_eq!(body(get(&tier, &variant)).unwrap(), "variant");
        assert!(get(&tier, &key(2)).is_none());
        let collision = StoreKey { text: Bytes::from("http://evil.example/"), ..key(1) };
        assert!(get(&tier, &collision).is_none(), "RFC 9111 7.1: the text decides, not the hash");
        tier.remove(&collision);
        assert!(get(&tier, &key(1)).is_some());
        tier.remove(&key(1));
        assert!(get(&tier, &key(1)).is_none() && get(&tier, &variant).is_some());
        assert_eq!(tier.entries(), 1);
        tier.remove(&variant);
        assert_eq!((tier.entries(), tier.evictions()), (0, 0));
        assert_eq!(tier.bytes(), tier.templates.bytes(), "what the next of its kind will share");
    }

    #[test]
    fn markers_and_indexes_live_beside_responses() {
        let (tier, _) = tier(1 << 20, 1 << 16);
        tier.insert(&key(1), Record::HitForMiss { until: NOW.plus(10) }, NOW);
        assert!(matches!(get(&tier, &key(1)).unwrap().record, Record::HitForMiss { .. }));
        tier.insert(&key(2), Record::HitForMiss { until: NOW }, NOW);
        assert!(get(&tier, &key(2)).is_none(), "over already");
        let mut index = VaryIndex::default();
        let etag = Some(Bytes::from_static(b"\"a\""));
        let variant = NewVariant { hash: VariantHash(3), received: NOW, useless_at: NOW.plus(10), etag };
        index.insert(&[ETAG], variant, NOW);
        tier.insert(&key(1), Record::Index(Arc::new(index)), NOW);
        assert!(matches!(get(&tier, &key(1)).unwrap().record, Record::Index(_)));
        tier.insert(&key(1), Record::Index(Arc::default()), NOW);
        assert!(get(&tier, &key(1)).is_none(), "an index of nothing, and what it replaced");
    }

    #[test]
    fn a_purge_after_the_stamp_ends_it_and_one_before_does_not() {
        let (tier, purges) = tier(1 << 20, 1 << 16);
        purges.purge(&Purge::of_ids(Mode::Hard, vec![TAG]), NOW);
        let stamp = purges.stamp();
        tier.insert(&key(1), response("a", stamp), NOW);
        for _ in 0..2 {
            assert_eq!(get(&tier, &key(1)).unwrap().validity, Validity::Valid);
        }
        purges.purge(&Purge::of_ids(Mode::Hard, vec![PurgeId(1)]), NOW);
        assert_eq!(get(&tier, &key(1)).unwrap().validity, Validity::Valid, "not one of its ids");
        purges.purge(&Purge::of_ids(Mode::Soft, vec![TAG]), NOW.plus(3));
        for _ in 0..2 {
            assert_eq!(get(&tier, &key(1)).unwrap().validity, Validity::Soft(NOW.plus(3)));
        }
        purges.purge(&Purge::of_ids(Mode::Hard, vec![PurgeId::ALL]), NOW.plus(4));
        for _ in 0..2 {
            let held = tier.peek(key(1).primary, None, &key(1).text, NOW);
            assert_eq!(held.unwrap().validity, Validity::Hard, "who only looks removes nothing");
        }
        assert_eq!(get(&tier, &key(1)).unwrap().validity, Validity::Hard);
        assert!(get(&tier, &key(1)).is_none(), "removed when found purged");
        tier.insert(&key(1), response("late", stamp), NOW);
        assert!(get(&tier, &key(1)).is_none(), "fetched before the purge, stored after it");
        tier.insert(&key(1), response("new", purges.stamp()), NOW);
        assert_eq!(get(&tier, &key(1)).unwrap().validity, Validity::Valid);
    }

    #[test]
    fn the_bound_holds_and_evictions_are_counted() {
        let (tier, purges) = tier(256 << 10, 4 << 10);
        let stamp = purges.stamp();
        for n in 0..1000 {
            tier.insert(&key(n), response(vec![1; 1 << 10], stamp), NOW);
            assert!(tier.bytes() <= 256 << 10);
        }
        assert!(tier.entries() > 100, "{} entries", tier.entries());
        assert_eq!(tier.evictions(), 1000 - tier.entries());
    }

    #[test]
    fn what_is_too_large_is_refused_and_forgets_what_it_replaces() {
        let (tier, purges) = tier(64 << 10, 4 << 10);
        let stamp = purges.stamp();
        tier.insert(&key(1), response(vec![1; 4 << 10], stamp), NOW);
        assert!(get(&tier, &key(1)).is_some());
        tier.insert(&key(1), response(vec![1; (4 << 10) + 1], stamp), NOW);
        assert!(get(&tier, &key(1)).is_none());
        assert_eq!(tier.evictions(), 0);
    }

    #[test]
    fn the_largest_object_fits_its_shard() {
        for (max_size, max_object_size) in [(256 << 20, 1 << 20), (1 << 20, 1 << 19), (1 << 20, 1 << 10)] {
            let (tier, purges) = tier(max_size, max_object_size);
            for n in 0..20 {
                let largest = vec![1; usize::try_from(max_object_size).unwrap()];
                tier.insert(&key(n), response(largest, purges.stamp()), NOW);
                assert!(get(&tier, &key(n)).is_some(), "object {n} of {max_object_size} in {max_size}");
            }
        }
    }

    #[test]
    fn a_tier_of_no_size_is_off() {
        let (tier, purges) = tier(0, 1 << 20);
        tier.insert(&key(1), response("a", purges.stamp()), NOW);
        tier.remove(&key(1));
        assert!(get(&tier, &key(1)).is_none());
        assert_eq!((tier.bytes(), tier.entries(), tier.evictions()), (0, 0, 0));
    }

    #[test]
    fn an_entry_keeps_no_read_buffer_alive() {
        let (tier, purges) = tier(1 << 20, 1 << 16);
        let buffer = Bytes::from(vec![b'x'; 64 << 10]);
        let Record::Response(stored) = response(buffer.slice(10..20), purges.stamp()) else {
            panic!("a response")
        };
        let mut stored = Arc::unwrap_or_clone(stored);
        let value = HeaderValue::from_maybe_shared(buffer.slice(30..40)).unwrap();
        stored.head.fields.push(ETAG, value);
        stored.head.fields.push(SERVER, HeaderValue::from_maybe_shared(buffer.slice(50..60)).unwrap());
        let text = buffer.slice(..5);
        let key = StoreKey { text: text.clone(), ..key(1) };
        tier.insert(&key, Record::Response(Arc::new(stored)), NOW);
        drop((key, text));
        assert!(buffer.is_unique(), "the buffer dies with its connection");
        let held = tier.get(1 << 70 | 1, None, b"xxxxx", NOW).unwrap();
        let Record::Response(stored) = held.record else { panic!("a response") };
        assert_eq!(stored.head.field(&ETAG).unwrap(), "xxxxxxxxxx");
        assert_eq!(stored.head.field(&CONTENT_TYPE).unwrap(), "text/plain");
        assert_eq!(stored.body.here().unwrap(), "xxxxxxxxxx");
    }

    #[test]
    fn what_is_replaced_is_not_evicted() {
        let (tier, purges) = tier(1 << 20, 1 << 16);
        for _ in 0..5 {
            tier.insert(&key(1), response("a", purges.stamp()), NOW);
        }
        assert_eq!((tier.entries(), tier.evictions()), (1, 0));
    }

    /// A JSON answer as an application server gives it: seven fields, a key, a host and a tag to purge by.
    fn typical(n: u64, stamp: Stamp) -> StoredResponse {
        let fields = [
            ("content-type", "application/json".to_owned()),
            ("cache-control", "public, max-age=60".to_owned()),
            ("etag", format!("\"{n:016x}\"")),
            ("last-modified", "Tue, 15 Nov 1994 12:45:26 GMT".to_owned()),
            ("date", "Tue, 15 Nov 1994 12:45:26 GMT".to_owned()),
            ("server", "uvicorn".to_owned()),
            ("vary", "accept-encoding".to_owned()),
        ];
        let line = |(name, value): (&'static str, String)| {
            (HeaderName::from_static(name), HeaderValue::try_from(value).expect("a value"))
        };
        let Record::Response(stored) = response(vec![b'x'; 1024], stamp) else { panic!("a response") };
        let mut stored = Arc::unwrap_or_clone(stored);
        stored.head.fields = fields.into_iter().map(line).collect();
        stored.head.ids = vec![PurgeId::url(u128::from(n)), PurgeId::host("a"), PurgeId::ALL, TAG];
        stored.head.vary = vec![VARY];
        stored
    }

    #[test]
    fn a_typical_response_weighs_little_beside_body_and_fields() {
        let (tier, purges) = tier(64 << 20, 1 << 20);
        let stored = typical(7, purges.stamp());
        let fields: usize =
            stored.head.fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let least = stored.body.length() + fields as u64;
        let text = Bytes::from_static(b"http://shop.example/api/products/1234567");
        tier.insert(&StoreKey { text, ..key(7) }, Record::Response(Arc::new(stored)), NOW);
        let weight = tier.bytes() - tier.templates.bytes();
        assert!(weight <= least + 600, "{} beside {least}", weight - least);
        assert!(tier.templates.bytes() < 4_000);
    }

    #[test]
    fn variants_of_one_key_are_never_mistaken_for_each_other() {
        for primary in [0, 7, u128::MAX] {
            let variants = [None, Some(1), Some(7), Some(u64::MAX)];
            let places = variants.map(|variant| Place::new(primary, variant.map(VariantHash)));
            for (n, place) in places.iter().enumerate() {
                assert_eq!(places.iter().position(|other| other == place), Some(n));
            }
        }
    }
}
