//! What is kept of an answer, in both tiers: the response, the index of its variants, or that there is
//! nothing to wait for.
//!
//! Decides: the order of writing, so that there is never a gap in which neither a flight nor a store has
//! it. Never touches: whether it may be stored.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::ETAG;

use super::{Errand, Permits};
use crate::caching::outcome::Reason;
use crate::caching::stored::{StoredHead, StoredResponse};
use crate::caching::vary::{NewVariant, VariantHash, VaryIndex};
use crate::clock;
use crate::proxy::lookup::Found;
use crate::semantics::UnixMillis;
use crate::store::redis::Written;
use crate::store::{Record, StoreKey};

/// How long an answer that may not be shared keeps others from queueing for it.
const HIT_FOR_MISS: u64 = 120_000;
/// The same when the origin failed: long enough that nobody lines up, short enough to forget.
const ERROR_MARKER: u64 = 1_000;

impl Errand {
    /// Puts a complete response into both tiers; the memory tier first, so that this process has no
    /// gap between the flight and the store. What became of it in Redis; `None`: nothing was tried, since a purge
    /// has overtaken it, and it would only take the place of what was fetched since.
    pub(super) async fn keep(&self, response: StoredResponse, variant: VariantHash) -> Option<Written> {
        if self.proxy.is_purged(&response.head, &self.key) {
            return None;
        }
        let now = clock::wall();
        let memory = &self.proxy.shared.memory;
        let redis = self.proxy.redis.as_ref();
        if response.head.vary.is_empty() {
            let (place, record) = (self.place(None), Record::Response(Arc::new(response)));
            memory.insert(&place, record.clone(), now);
            return Some(match redis {
                Some(redis) => redis.put(place, record, now).await,
                None => Written::No,
            });
        }
        // Another process may have added variants to the index that lies in Redis, and so may another
        // worker that holds none in memory.
        let theirs = self.proxy.index_in_redis(&self.place(None), now).await;
        let (index, forgotten) = self.index_with(&response.head, variant, theirs.as_deref(), now);
        let index = Record::Index(Arc::new(index));
        let (place, record) = (self.place(Some(variant)), Record::Response(Arc::new(response)));
        memory.insert(&place, record.clone(), now);
        memory.insert(&self.place(None), index.clone(), now);
        let forgotten: Vec<StoreKey> = forgotten.into_iter().map(|hash| self.place(Some(hash))).collect();
        for place in &forgotten {
            memory.remove(place);
        }
        let Some(redis) = redis else { return Some(Written::No) };
        // The index is what makes a variant findable: it comes after it.
        let written = redis.put(place, record, now).await;
        redis.put(self.place(None), index, now).await;
        for place in &forgotten {
            redis.remove(place).await;
        }
        Some(written)
    }

    /// Keeps what other proxies wait for. Where Redis did not take it, they have nothing to wait for; but what a
    /// purge has overtaken is fetched anew by one of them.
    pub(super) async fn keep_for_others(
        &self,
        response: StoredResponse,
        variant: VariantHash,
        permits: &mut Permits,
    ) {
        match self.keep(response, variant).await {
            None | Some(Written::Yes) => {}
            Some(Written::No | Written::ContentLost) => permits.shares_nothing(),
        }
    }

    /// The key's index with this variant in it, and the variants it had to let go: the freshest index
    /// known, since another request may have added a variant meanwhile.
    fn index_with(
        &self,
        head: &StoredHead,
        variant: VariantHash,
        theirs: Option<&VaryIndex>,
        now: UnixMillis,
    ) -> (VaryIndex, Vec<VariantHash>) {
        let held = self.proxy.shared.memory.get(self.key.hash, None, &self.key.text, now);
        let mut index = match held.map(|held| held.record) {
            Some(Record::Index(index)) => (*index).clone(),
            _ => self.found.index().map(|index| (**index).clone()).unwrap_or_default(),
        };
        if let Some(theirs) = theirs {
            index.merge(theirs, now);
        }
        let etag = head.field(&ETAG).map(|etag| Bytes::copy_from_slice(etag.as_bytes()));
        let added =
            NewVariant { hash: variant, received: head.received, useless_at: head.useless_at(), etag };
        let before: Vec<VariantHash> = index.variants.iter().map(|variant| variant.hash).collect();
        index.insert(&head.vary, added, now);
        let gone = |hash: &VariantHash| !index.variants.iter().any(|variant| variant.hash == *hash);
        let forgotten = before.into_iter().filter(gone).collect();
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
