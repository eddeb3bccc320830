//! What is kept of an answer, in both tiers: the response, the index of its variants, or that there is
//! nothing to wait for.
//!
//! Decides: the order of writing, so that there is never a gap in which neither a flight nor a store has
//! it, and whoever has read the whole of an answer finds it in this process, if memory takes it at all. Never
//! touches: whether it may be stored.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::ETAG;

use super::{Errand, Permits};
use crate::caching::outcome::Reason;
use crate::caching::stored::{StoredHead, StoredResponse};
use crate::caching::vary::{NewVariant, VariantHash, VaryIndex};
use crate::clock;
use crate::collapse::fill::Ending;
use crate::proxy::lookup::Found;
use crate::semantics::UnixMillis;
use crate::store::redis::Written;
use crate::store::{Record, StoreKey};

/// A response that is in the memory tier, where that took it, and is to be put into Redis.
#[derive(Debug)]
pub(super) struct Kept {
    place: StoreKey,
    response: Arc<StoredResponse>,
    variant: VariantHash,
    /// Variants that had to make room for it.
    forgotten: HashSet<VariantHash>,
    now: UnixMillis,
}

/// How long an answer that may not be shared keeps others from queueing for it.
const HIT_FOR_MISS: u64 = 120_000;
/// The same when the origin failed: long enough that nobody lines up, short enough to forget.
const ERROR_MARKER: u64 = 1_000;

impl Errand {
    /// Puts a complete response into the memory tier, at once: this process has no gap between the flight
    /// and the store, nor has who read all of it. What Redis is to be given; `None` where a purge has
    /// overtaken it, since it would only take the place of what was fetched since.
    pub(super) fn keep_here(&self, response: StoredResponse, variant: VariantHash) -> Option<Kept> {
        if self.proxy.is_purged(&response.head, &self.key) {
            return None;
        }
        let (memory, now) = (&self.proxy.shared.memory, clock::wall());
        let varies = !response.head.vary.is_empty();
        let place = self.place(varies.then_some(variant));
        let response = Arc::new(response);
        memory.insert(&place, Record::Response(Arc::clone(&response)), now);
        let mut forgotten = HashSet::new();
        if varies && memory.admits(response.body.length()) {
            // The index is what makes a variant findable: it comes after it.
            (_, forgotten) = self.index_here(&response.head, variant, None, now);
        }
        Some(Kept { place, response, variant, forgotten, now })
    }

    /// Puts what was kept here into Redis as well: what became of it there.
    pub(super) async fn keep_there(&self, kept: Kept) -> Written {
        let Some(redis) = &self.proxy.redis else { return Written::No };
        let Kept { place, response, variant, mut forgotten, now } = kept;
        if response.head.vary.is_empty() {
            return redis.put(place, Record::Response(response), now).await;
        }
        // Another process may have added variants to the index that lies in Redis.
        let theirs = self.proxy.index_in_redis(&self.place(None), now).await;
        let (index, by_theirs) = self.index_here(&response.head, variant, theirs.as_deref(), now);
        forgotten.extend(by_theirs);
        forgotten.retain(|hash| !index.holds(*hash));
        let written = redis.put(place, Record::Response(response), now).await;
        redis.put(self.place(None), Record::Index(index), now).await;
        for hash in forgotten {
            redis.remove(&self.place(Some(hash))).await;
        }
        written
    }

    /// Puts a complete response into both tiers; what became of it in Redis. `None`: nothing was tried
    /// ([`Self::keep_here`]).
    pub(super) async fn keep(&self, response: StoredResponse, variant: VariantHash) -> Option<Written> {
        let kept = self.keep_here(response, variant)?;
        Some(self.keep_there(kept).await)
    }

    /// Keeps what others wait for, and shows it whole to who reads it as soon as it is found here.
    pub(super) async fn keep_and_tell(
        &self,
        response: StoredResponse,
        variant: VariantHash,
        ending: Ending,
        permits: &mut Permits,
    ) {
        let kept = self.keep_here(response, variant);
        ending.publish();
        self.keep_for_others(kept, permits).await;
    }

    /// Keeps there what other proxies wait for. Where Redis did not take it, they have nothing to wait for; but
    /// what a purge has overtaken is fetched anew by one of them.
    pub(super) async fn keep_for_others(&self, kept: Option<Kept>, permits: &mut Permits) {
        let Some(kept) = kept else { return };
        if self.keep_there(kept).await != Written::Yes {
            permits.shares_nothing();
        }
    }

    /// Puts the key's index with this variant in it into the memory tier, and lets go of the variants that had to
    /// make room for it: the index, and those variants.
    fn index_here(
        &self,
        head: &StoredHead,
        variant: VariantHash,
        theirs: Option<&VaryIndex>,
        now: UnixMillis,
    ) -> (Arc<VaryIndex>, HashSet<VariantHash>) {
        let memory = &self.proxy.shared.memory;
        let (index, forgotten) = self.index_with(head, variant, theirs, now);
        let index = Arc::new(index);
        memory.insert(&self.place(None), Record::Index(Arc::clone(&index)), now);
        for hash in &forgotten {
            memory.remove(&self.place(Some(*hash)));
        }
        (index, forgotten)
    }

    /// The key's index with this variant in it, and the variants it had to let go: the freshest index
    /// known, since another request may have added a variant meanwhile.
    fn index_with(
        &self,
        head: &StoredHead,
        variant: VariantHash,
        theirs: Option<&VaryIndex>,
        now: UnixMillis,
    ) -> (VaryIndex, HashSet<VariantHash>) {
        let held = self.proxy.index_in_memory(&self.place(None), now);
        let held = held.or_else(|| self.found.index().cloned());
        let mut index = held.map(Arc::unwrap_or_clone).unwrap_or_default();
        // What is useless expires by itself.
        let known = theirs.into_iter().flat_map(|theirs| &theirs.variants).chain(&index.variants);
        let known = known.filter(|variant| variant.useless_at > now);
        let mut forgotten: HashSet<VariantHash> = known.map(|variant| variant.hash).collect();
        if let Some(theirs) = theirs {
            index.merge(theirs, now);
        }
        let etag = head.field(&ETAG).map(|etag| Bytes::copy_from_slice(etag.as_bytes()));
        let added =
            NewVariant { hash: variant, received: head.received, useless_at: head.useless_at(), etag };
        index.insert(&head.vary, added, now);
        forgotten.retain(|hash| !index.holds(*hash));
        (index, forgotten)
    }

    /// Remembers that answers to this key are not to be queued for; or, where the request is one whose
    /// answer says nothing about that of others, that its like are not to queue for it.
    ///
    /// In this process at once; what the fleet is to be told is returned.
    pub(super) fn mark(
        &self,
        reason: Reason,
        status: StatusCode,
        now: UnixMillis,
    ) -> Option<(StoreKey, Record)> {
        let lasting = if status.is_server_error() { ERROR_MARKER } else { HIT_FOR_MISS };
        let until = now.plus(lasting);
        let flight = self.flight();
        if self.of_class(flight) != flight {
            self.proxy.shared.apart.note(self.of_class(flight), until);
            return None;
        }
        let known = matches!(self.found, Found::HitForMiss);
        // An origin in trouble says nothing against what is stored: it stays, to be validated.
        let spares = status.is_server_error() && self.found.candidate().is_some();
        // A verdict about this request alone says nothing about the next one's.
        if known || spares || reason.concerns_one_request() {
            return None;
        }
        let marker = Record::HitForMiss { until };
        let place = self.place(self.variant_sought());
        self.proxy.shared.memory.insert(&place, marker.clone(), now);
        Some((place, marker))
    }

    /// Forgets the stored response that was just found to be of no more use.
    pub(super) async fn forget(&self) {
        let place = self.place(self.found.candidate().and_then(|candidate| candidate.variant));
        self.proxy.shared.memory.remove(&place);
        if let Some(redis) = &self.proxy.redis {
            redis.remove(&place).await;
        }
    }
}
