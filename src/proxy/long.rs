//! Long bodies that lie in Redis: what of one an answer needs is read while it is sent.
//!
//! Decides: which bytes are read, that the first of them are there before the answer's head is sent, who
//! reads for whom, and what becomes of a record whose content is not there. Never touches: whether the
//! response may be reused (that verdict has fallen), or what a chunk's bytes are (the store proves each
//! before it hands it out).
//!
//! | when the content | then |
//! |---|---|
//! | fails before the head is sent | the record counts as absent: it is fetched, and stored anew |
//! | fails later | the record is forgotten, and the origin is asked for the rest (`continuation`) |
//! | and there is no such rest | the answer breaks off visibly; the next request fetches |
//! | may lie in memory | one reads it for all who want it meanwhile, and puts it there |
//! | may not | each client has a window of its own: a slow one holds that, never the body |
//!
//! A reading is a task of its own. It ends when nobody reads what it reads: a client that leaves stops it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior};

use super::answer::{Needs, Opened, Source, needs};
use super::asked::{Asked, Outcome};
use super::continuation::Continuation;
use super::deliver::PIECE;
use super::errand::{Content, Errand};
use super::error::Failure;
use super::lookup::{Candidate, Found};
use super::{Got, Proxy, own};
use crate::caching::admission::RequestFacts;
use crate::caching::continuation::Missing;
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::{CacheResult, Reason};
use crate::caching::stamp::Stamp;
use crate::caching::stored::{InStore, StoredBody, StoredHead, StoredResponse};
use crate::clock;
use crate::collapse::fill::{Fill, FillReader, FillWriter, Pushed};
use crate::collapse::flight::{FlightKey, Joined, Landing, Lead};
use crate::observe::metrics::Cause;
use crate::rules::route::Route;
use crate::semantics::range::Multipart;
use crate::store::redis::{LongReader, PROLONG, RedisStore, Unreadable};
use crate::store::{Record, StoreKey};

/// What a reading may be ahead of its client.
const WINDOW: u64 = 512 << 10;
/// The same where there is no room to read ahead: nothing is read before the last of it was taken.
const NARROW: u64 = 1;

/// Content that is still to be opened, or is at hand.
#[derive(Debug)]
pub(super) enum Unopened {
    /// At hand, or in the process.
    Here(Source),
    /// In Redis, under this place's key.
    InStore(StoreKey, InStore),
}

impl Unopened {
    /// The content of what another's fetch came to; `None` when it cannot be read from its first byte on.
    pub(super) fn of(content: &Content) -> Option<Self> {
        match content {
            Content::Fill(fill) => Self::owned(content, fill.read()),
            Content::InStore(..) => Self::owned(content, None),
        }
    }

    /// The content of what one's own fetch came to, with the reader that was there from the first byte.
    pub(super) fn owned(content: &Content, reader: Option<FillReader>) -> Option<Self> {
        match content {
            Content::Fill(fill) => reader.map(|reader| Self::Here(Source::Growing(reader, fill.length()))),
            Content::InStore(place, body) => Some(Self::InStore(place.clone(), *body)),
        }
    }
}

/// A body that is being read for everybody who wants it.
#[derive(Clone, Debug)]
pub struct Assembly {
    body: InStore,
    fill: Arc<Fill>,
}

impl Proxy {
    /// The content of a stored response as this request needs it. `None`: it cannot be read.
    pub(super) async fn open(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        key: &PrimaryKey,
        candidate: &Candidate,
    ) -> Option<Source> {
        match &candidate.stored.body {
            StoredBody::Here(body) => Some(Source::Whole(body.clone())),
            StoredBody::InStore(body) => {
                let head = &candidate.stored.head;
                self.open_in_store(asked, facts, route, head, candidate.place(key), *body).await
            }
        }
    }

    /// Gets the response, with its content as this request needs it. Where that was there when it was looked
    /// for again, and is not any more, the origin is asked.
    pub(super) async fn obtain_opened(
        self: &Arc<Self>,
        asked: &Asked,
        route: &Arc<Route>,
        errand: Errand,
        flight: FlightKey,
        outcome: &mut Outcome,
    ) -> Got {
        let (facts, key) = (errand.facts.clone(), errand.key.clone());
        let got = self.obtain(asked, route, errand, flight, outcome).await;
        let Got::Landed(landed, Unopened::InStore(place, body)) = got else { return got };
        if let Some(source) = self.open_in_store(asked, &facts, route, &landed.head, place, body).await {
            return Got::Landed(landed, Unopened::Here(source));
        }
        *outcome = Outcome::forwarded(CacheResult::Miss, Reason::ContentUnreadable);
        match self.errand(asked, &facts, route, &key, &Found::Nothing, Cause::Miss) {
            Some(errand) => own(errand.start(None)).await,
            None => Got::Failed(Failure::UNFORWARDABLE),
        }
    }

    async fn open_in_store(
        self: &Arc<Self>,
        asked: &Asked,
        facts: &RequestFacts,
        route: &Arc<Route>,
        head: &StoredHead,
        place: StoreKey,
        body: InStore,
    ) -> Option<Source> {
        let InStore { length, .. } = body;
        let last = length.checked_sub(1)?;
        let continuation = |range| {
            let missing = Missing::of(head, length, range);
            self.continuation(asked, facts, route, &place, missing)
        };
        let (ranges, multipart) = match needs(asked, facts, head, length) {
            Needs::Nothing => {
                return Some(Source::Opened(Box::new(Opened { length, reader: None, multipart: None })));
            }
            Needs::Whole => {
                if self.shared.memory.admits(length)
                    && let Some(reader) =
                        self.read_along(head, &place, body, || continuation((0, last))).await
                {
                    let reader = Some(reader);
                    return Some(Source::Opened(Box::new(Opened { length, reader, multipart: None })));
                }
                (vec![(0, last)], None)
            }
            Needs::Range(range) => (vec![(range.first, range.last)], None),
            Needs::Ranges(multipart, ranges) => {
                (ranges.iter().map(|range| (range.first, range.last)).collect(), Some(multipart))
            }
        };
        let redis = self.redis.as_ref()?;
        let mut content = LongReader::of(redis, place.clone(), body, &ranges)?;
        let first = self.first_of(&mut content, &place, body).await?;
        let window = if content.reads_ahead() { WINDOW } else { NARROW };
        let frame = multipart.as_ref().map(Frame::of).unwrap_or_default();
        let sum = ranges.iter().fold(0, |sum: u64, (first, last)| sum.saturating_add(last - first + 1));
        let stated = multipart.as_ref().map_or(sum, Multipart::content_length);
        let (writer, reader) = Fill::through(Some(stated), window);
        // What is lost of several ranges, each with a head before it, is not asked for.
        let continuation = match ranges[..] {
            [range] if multipart.is_none() => continuation(range),
            _ => None,
        };
        let (redis, prolong) = (Arc::clone(redis), prolonging().await);
        let pouring = Pouring { redis, place, body, content, writer, prolong, continuation, sent: 0 };
        tokio::spawn(pouring.through(first, frame));
        Some(Source::Opened(Box::new(Opened { length, reader: Some(reader), multipart })))
    }

    /// Reads a body that may lie in memory, along with everybody else who wants it now; it is in memory when
    /// the reading ends. `None`: each has to read for himself.
    async fn read_along(
        self: &Arc<Self>,
        head: &StoredHead,
        place: &StoreKey,
        body: InStore,
        continuation: impl FnOnce() -> Option<Box<Continuation>>,
    ) -> Option<FillReader> {
        let redis = self.redis.as_ref()?;
        let key = (place.primary, place.variant.map_or(0, |hash| hash.0));
        let same = |other: Option<&Assembly>| other.is_none_or(|other| other.body == body);
        let joined = self.shared.assemblies.join(key, &place.text, Stamp::default(), |_, other| same(other));
        let mut lead = match joined {
            Joined::Leader(lead) => lead,
            Joined::Waiter(mut wait) => match wait.landing().await {
                Landing::Shared(assembly) if assembly.body == body => return assembly.fill.read(),
                _ => return None,
            },
            Joined::Collision => return None,
        };
        let room = redis.room_to_read(body.length)?;
        let mut content = LongReader::of(redis, place.clone(), body, &[(0, body.length.checked_sub(1)?)])?;
        let first = self.first_of(&mut content, place, body).await?;
        let (writer, fill) = Fill::start(Some(body.length), body.length);
        let reader = fill.read();
        lead.land(Landing::Shared(Assembly { body, fill: Arc::clone(&fill) }));
        let (redis, place, continuation) = (Arc::clone(redis), place.clone(), continuation());
        let prolong = prolonging().await;
        let pouring = Pouring { redis, place, body, content, writer, prolong, continuation, sent: 0 };
        let proxy = Arc::clone(self);
        tokio::spawn(pouring.into_memory(first, Assembling { proxy, head: head.clone(), fill, lead, room }));
        reader
    }

    /// The first bytes of a content: whoever has them answers with it.
    async fn first_of(&self, content: &mut LongReader, place: &StoreKey, body: InStore) -> Option<Bytes> {
        let read = content.next().await?;
        let why = match (read, content.known_to_fail()) {
            (Ok(bytes), None) => return Some(bytes),
            (Ok(_), Some(why)) | (Err(why), _) => why,
        };
        if let Some(redis) = &self.redis {
            give_up(redis, place, body, why).await;
        }
        None
    }
}

/// Content that cannot be read: what is lost is forgotten, so that it is fetched and stored anew.
async fn give_up(redis: &RedisStore, place: &StoreKey, body: InStore, why: Unreadable) {
    tracing::warn!(?why, key = %String::from_utf8_lossy(&place.text), "stored content cannot be read");
    if why == Unreadable::Lost {
        redis.discard(place, body).await;
    }
}

/// A reading that goes on while its bytes are sent.
struct Pouring {
    redis: Arc<RedisStore>,
    place: StoreKey,
    body: InStore,
    content: LongReader,
    writer: FillWriter,
    /// When what is still to be read is to be kept for longer.
    prolong: Interval,
    /// Who is asked for the rest of what cannot be read.
    continuation: Option<Box<Continuation>>,
    /// Bytes of the content that were handed on.
    sent: u64,
}

/// Ticks as often as a reading that takes its time is to say so, not at once.
async fn prolonging() -> Interval {
    let mut interval = tokio::time::interval(PROLONG);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    interval
}

/// What a reading into memory holds until it is there.
struct Assembling {
    proxy: Arc<Proxy>,
    head: StoredHead,
    fill: Arc<Fill>,
    lead: Lead<Assembly, ()>,
    room: OwnedSemaphorePermit,
}

impl Pouring {
    /// For one client, through its window.
    async fn through(mut self, first: Bytes, mut frame: Frame) {
        let mut next = Some(first);
        while let Some(bytes) = next {
            let length = bytes.len() as u64;
            let head = frame.before(length);
            if !self.push(head).await || !self.push(bytes).await {
                return;
            }
            self.sent += length;
            next = match self.content.next().await {
                None => None,
                Some(Ok(bytes)) => Some(bytes),
                Some(Err(why)) => return self.failed(why).await,
            };
        }
        if self.push(frame.tail).await {
            drop(self.writer.complete(None));
        }
    }

    /// For everybody who wants it, and then for memory.
    async fn into_memory(mut self, first: Bytes, assembling: Assembling) {
        let Assembling { proxy, head, fill, lead, room } = assembling;
        let mut next = Some(first);
        while let Some(bytes) = next {
            if self.writer.give_up_unread() {
                return;
            }
            self.sent += bytes.len() as u64;
            self.writer.push(bytes);
            next = match self.content.next().await {
                None => None,
                Some(Ok(bytes)) => Some(bytes),
                Some(Err(why)) => {
                    // Nobody is to join what is not read from here any more, nor to wait for what follows: it
                    // may be another's word, and is not kept.
                    lead.leave();
                    return self.failed(why).await;
                }
            };
        }
        if let Some(whole) = self.writer.complete(None) {
            proxy.promote(&self.place, head, whole, &fill);
        }
        // Who comes now finds it in memory.
        drop((lead, room));
    }

    /// Hands bytes on, a piece at a time; `false` when nobody takes them any more.
    async fn push(&mut self, mut bytes: Bytes) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE));
            if self.writer.push(piece) == Pushed::Windowed && !self.room().await {
                return false;
            }
        }
        true
    }

    /// Waits until the client has taken enough, however long that takes: what it has not had is kept for it.
    async fn room(&mut self) -> bool {
        loop {
            tokio::select! {
                biased;
                is_read = self.writer.room() => return is_read,
                _ = self.prolong.tick() => self.content.prolong().await,
            }
        }
    }

    /// The origin is asked for the rest at once, where there is one to be had, and the record is forgotten
    /// meanwhile. An answer is broken off once it is: whoever asks again is not given the same once more.
    async fn failed(self, why: Unreadable) {
        let Self { redis, place, body, content, writer, continuation, sent, .. } = self;
        let forgetting = give_up(&redis, &place, body, why);
        match continuation.and_then(|continuation| continuation.after(sent)) {
            Some(continuation) => {
                let under_way = continuation.under_way();
                let ((), broken_off) = tokio::join!(forgetting, continuation.pour(writer));
                // The reader kept the room that was taken for the client's window.
                drop((broken_off, content, under_way));
            }
            None => {
                forgetting.await;
                drop((writer, content));
            }
        }
    }
}

impl Proxy {
    /// Puts what was read from Redis into memory, unless something newer is there by now.
    fn promote(&self, place: &StoreKey, head: StoredHead, whole: Bytes, fill: &Fill) {
        let (memory, now) = (&self.shared.memory, clock::wall());
        let held = || match memory.get(place.primary, place.variant, &place.text, now)?.record {
            Record::Response(held) => Some(held),
            Record::Index(_) | Record::HitForMiss { .. } => None,
        };
        let received = head.received;
        if held().is_none_or(|held| held.head.received < received) {
            let stored = StoredResponse { head, body: StoredBody::Here(whole) };
            memory.insert(place, Record::Response(Arc::new(stored)), now);
        }
        if let Some(held) = held().filter(|held| held.head.received == received)
            && let StoredBody::Here(kept) = &held.body
        {
            fill.rest_on(kept);
        }
    }
}

/// What stands around several ranges: nothing, where there is one.
#[derive(Default)]
struct Frame {
    /// What stands before each range, and how long that is; the last first.
    heads: Vec<(Bytes, u64)>,
    tail: Bytes,
    /// Bytes of the current range that are still to come.
    left: u64,
}

impl Frame {
    fn of(multipart: &Multipart) -> Self {
        let parts = multipart.ranges().iter().enumerate();
        let heads = parts.filter_map(|(at, range)| Some((multipart.part_head(at)?, range.length())));
        let mut heads: Vec<_> = heads.collect();
        heads.reverse();
        Self { heads, tail: multipart.tail(), left: 0 }
    }

    /// What stands before the next `length` bytes: content is read in pieces that end where ranges do.
    fn before(&mut self, length: u64) -> Bytes {
        let mut head = Bytes::new();
        if self.left == 0
            && let Some((next, of)) = self.heads.pop()
        {
            (head, self.left) = (next, of);
        }
        self.left = self.left.saturating_sub(length);
        head
    }
}
