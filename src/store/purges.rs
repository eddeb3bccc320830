//! What was purged, and after which fetch: validity decided by comparing two numbers.
//!
//! Decides: whether a record with a given stamp and ids is still valid. Never touches: the records;
//! nothing has to be deleted for a purge to hold, and a purge of a million responses costs one entry.
//!
//! Every purge gets a number out of a hybrid logical clock (milliseconds since the epoch times 1024,
//! never less than any number before it), so that the numbers of several processes compare as well as
//! their clocks do. Every fetch is stamped *before* the first byte of its request is sent. A record is
//! invalid when something it bears was purged with a number strictly greater than its stamp.
//!
//! # Invariants
//!
//! * I1: once [`PurgeTable::applied`] returns `s`, every purge numbered up to `s` is in the table: a
//!   purge is applied first and published (`Release`) after.
//! * I2: a stamp is taken before the fetch, never after it and never from the response; every purge
//!   numbered here after a stamp was handed out is greater than that stamp. What was fetched before
//!   a purge can therefore never outlive it, however late it is stored.
//! * I3: nothing is served without having been found valid at the current [`PurgeTable::applied`].
//! * I4: an id is remembered for [`RETENTION`] at least, which is the longest that a record lives, or
//!   until there is no room; what is forgotten raises a floor under which every record that could
//!   bear it is invalid. Forgetting costs needless misses and never revives a response.
//! * I5: numbers never go back: neither those of ids, nor floors, nor `applied`, whatever the clock
//!   does.
//! * I6: of several soft purges the first after a record's stamp made it stale: those that follow, of
//!   the same id or another, never give it more time.
//!
//! # Locks
//!
//! One lock orders purges; each shard has its own for its map. Readers take shard locks only, for one
//! map look-up each, and none at all while nothing was purged since their stamp. No await in here.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::caching::stamp::{PurgeId, Stamp};
use crate::semantics::UnixMillis;

/// The most ids remembered one by one (60 to 150 bytes each).
pub const MAX_IDS: usize = 1 << 20;

/// How long an id is remembered, in milliseconds: the longest that a record may live.
pub const RETENTION: u64 = 7 * 24 * 3_600_000;

/// Purge numbers in one millisecond.
const PER_MILLI: u64 = 1024;

/// Soft purges of one id that are told apart; the closest of more are taken together.
const SPANS: usize = 4;

/// A power of two: the low bits of an id choose its shard.
const SHARDS: usize = 64;

/// Whether a record may be used, as far as purges go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Nothing it bears was purged since its stamp.
    Valid,
    /// It is stale since then: to be validated, or to stand in while that happens.
    Soft(UnixMillis),
    /// It is never to be used again, not even for validation.
    Hard,
}

impl Validity {
    /// Whether it may be used as if nothing had been purged.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        matches!(self, Self::Valid)
    }
}

/// The purges of this process, by id. Shared by all workers.
#[derive(Debug)]
pub struct PurgeTable {
    shards: Vec<Mutex<Shard>>,
    /// Ids that one shard remembers.
    room: usize,
    /// The greatest number whose purge, and all before it, is in the shards.
    applied: AtomicU64,
    /// The greatest stamp handed out: the next purge is greater.
    issued: AtomicU64,
    /// Orders purges: held from numbering to publication, so that `applied` has no gaps (I1).
    order: Mutex<()>,
}

impl Default for PurgeTable {
    fn default() -> Self {
        Self::new()
    }
}

impl PurgeTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::with_room(MAX_IDS)
    }

    fn with_room(ids: usize) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            room: (ids / SHARDS).max(2),
            applied: AtomicU64::new(0),
            issued: AtomicU64::new(0),
            order: Mutex::new(()),
        }
    }

    /// The stamp of a fetch whose request is sent after this call returns (I2).
    #[must_use]
    pub fn stamp(&self, now: UnixMillis) -> Stamp {
        let stamp = self.applied().0.max(numbered(now));
        self.issued.fetch_max(stamp, Ordering::SeqCst);
        Stamp(stamp)
    }

    /// Makes everything that bears one of `ids` and was fetched before now unusable. Holds for every
    /// look-up that begins after this returns. Returns the purge's number.
    pub fn purge_hard(&self, ids: &[PurgeId], now: UnixMillis) -> Stamp {
        self.purge(ids, now, |purged, number| *purged = Purged { hard: number, soft: Vec::new() })
    }

    /// Makes everything that bears one of `ids` and was fetched before now stale.
    pub fn purge_soft(&self, ids: &[PurgeId], now: UnixMillis) -> Stamp {
        self.purge(ids, now, Purged::soften)
    }

    /// What the purges applied so far say of a record: hard before soft, and of several soft ones the
    /// one that made it stale first.
    #[must_use]
    pub fn validity(&self, stamp: Stamp, ids: &[PurgeId]) -> Validity {
        if self.applied() <= stamp {
            return Validity::Valid;
        }
        let mut soft: Option<Stamp> = None;
        for id in ids {
            let shard = self.shard(*id);
            let Some(purged) = shard.purged.get(&id.0) else {
                if shard.floor > stamp {
                    return Validity::Hard;
                }
                continue;
            };
            if purged.hard > stamp {
                return Validity::Hard;
            }
            soft = soft.into_iter().chain(purged.stale_since(stamp)).min();
        }
        soft.map_or(Validity::Valid, |number| Validity::Soft(UnixMillis(number.0 / PER_MILLI)))
    }

    /// The greatest number applied: while it is unchanged, so is every validity.
    #[must_use]
    pub fn applied(&self) -> Stamp {
        Stamp(self.applied.load(Ordering::Acquire))
    }

    /// The ids that a fetch bears before anything is known of its response.
    #[must_use]
    pub const fn key_ids(&self, primary: u128) -> [PurgeId; 2] {
        [PurgeId::key(primary), PurgeId::ALL]
    }

    fn purge(&self, ids: &[PurgeId], now: UnixMillis, set: impl Fn(&mut Purged, Stamp)) -> Stamp {
        let _order = lock(&self.order);
        let last = self.applied.load(Ordering::Acquire).max(self.issued.load(Ordering::SeqCst));
        let number = Stamp(last.saturating_add(1).max(numbered(now)));
        let horizon = Stamp(numbered(UnixMillis(now.0.saturating_sub(RETENTION))));
        for id in ids {
            let mut shard = self.shard(*id);
            set(shard.entry(*id, self.room, horizon), number);
        }
        self.applied.store(number.0, Ordering::Release);
        number
    }

    fn shard(&self, id: PurgeId) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards, which is never zero.
        lock(&self.shards[id.0 as usize % SHARDS])
    }
}

const fn numbered(now: UnixMillis) -> u64 {
    now.0.saturating_mul(PER_MILLI)
}

/// Purge numbers are published one by one and maps hold whole values: what a panicking thread left is
/// sound.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The purges of one id that still say something.
#[derive(Clone, Debug, Default)]
struct Purged {
    /// The last hard one; zero = never.
    hard: Stamp,
    /// The soft ones after it, ascending; [`SPANS`] at most.
    soft: Vec<Span>,
}

/// Soft purges that are not told apart: one, or the first and the last of several.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Stamp,
    last: Stamp,
}

impl Purged {
    fn last(&self) -> Stamp {
        self.soft.last().map_or(self.hard, |span| span.last)
    }

    /// The first soft purge after a stamp. For a stamp inside a span it is not known any more: then the
    /// stamp itself, which is earlier (I6).
    fn stale_since(&self, stamp: Stamp) -> Option<Stamp> {
        let span = self.soft.iter().find(|span| span.last > stamp)?;
        Some(span.first.max(stamp))
    }

    /// Adds a soft purge, the greatest so far.
    fn soften(&mut self, number: Stamp) {
        if self.soft.len() >= SPANS {
            let width = |pair: &[Span]| match pair {
                [before, after] => after.last.0.saturating_sub(before.first.0),
                _ => u64::MAX,
            };
            let narrowest = self.soft.windows(2).enumerate().min_by_key(|(_, pair)| width(pair));
            if let Some((at, _)) = narrowest {
                let after = self.soft.remove(at + 1);
                self.soft[at].last = after.last;
            }
        }
        self.soft.reserve_exact(1);
        self.soft.push(Span { first: number, last: number });
    }
}

/// A part of the table. An id that is not in `purged` was purged at `floor` for all that is known.
#[derive(Debug, Default)]
struct Shard {
    purged: HashMap<u64, Purged, BuildHasherDefault<HashedAlready>>,
    floor: Stamp,
}

impl Shard {
    /// The entry of an id, after making room for it: first by what is older than any record, then by
    /// the older half.
    fn entry(&mut self, id: PurgeId, room: usize, horizon: Stamp) -> &mut Purged {
        if self.purged.len() >= room && !self.purged.contains_key(&id.0) {
            self.forget_until(horizon);
            if self.purged.len() >= room {
                let mut numbers: Vec<Stamp> = self.purged.values().map(Purged::last).collect();
                let middle = numbers.len() / 2;
                let (_, median, _) = numbers.select_nth_unstable(middle);
                let median = *median;
                self.forget_until(median);
            }
        }
        let hard = self.floor;
        self.purged.entry(id.0).or_insert(Purged { hard, soft: Vec::new() })
    }

    /// Forgets ids last purged at `until` or before, and raises the floor to the last of them (I4).
    fn forget_until(&mut self, until: Stamp) {
        let floor = &mut self.floor;
        self.purged.retain(|_, purged| {
            let last = purged.last();
            let kept = last > until;
            if !kept {
                *floor = last.max(*floor);
            }
            kept
        });
    }
}

/// Ids are hashes: the map takes them as they are, the shard's bits turned out of the way.
#[derive(Debug, Default)]
struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.rotate_right(SHARDS.trailing_zeros());
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const A: PurgeId = PurgeId(64);
    const B: PurgeId = PurgeId(65);
    const T: UnixMillis = UnixMillis(1_700_000_000_000);

    #[test]
    fn a_purge_ends_what_was_fetched_before_it_and_nothing_later() {
        let table = PurgeTable::new();
        let before = table.stamp(T);
        assert!(table.validity(before, &[A, B]).is_valid());
        // In the same millisecond, and even by a clock that went back.
        for now in [T, UnixMillis(T.0 - 60_000)] {
            let before = table.stamp(T);
            let number = table.purge_hard(&[A], now);
            assert_eq!(table.applied(), number);
            let after = table.stamp(now);
            assert_eq!(table.validity(before, &[B, A]), Validity::Hard);
            assert_eq!(table.validity(before, &[B]), Validity::Valid, "another id");
            assert_eq!(table.validity(after, &[A]), Validity::Valid, "fetched after the purge");
        }
        assert_eq!(table.validity(before, &[A]), Validity::Hard, "for good");
    }

    #[test]
    fn a_soft_purge_says_since_when_and_gives_way_to_a_hard_one() {
        let table = PurgeTable::new();
        let stamp = table.stamp(T);
        table.purge_soft(&[A], T.plus(5));
        table.purge_soft(&[B], T.plus(9));
        assert_eq!(table.validity(stamp, &[B, A]), Validity::Soft(T.plus(5)), "stale since the first");
        assert_eq!(table.validity(stamp, &[B]), Validity::Soft(T.plus(9)));
        assert!(!table.validity(stamp, &[B]).is_valid());
        table.purge_hard(&[A], T.plus(10));
        assert_eq!(table.validity(stamp, &[B, A]), Validity::Hard);
        table.purge_soft(&[A], T.plus(11));
        assert_eq!(table.validity(stamp, &[A]), Validity::Hard, "a soft purge does not soften a hard one");
        let between = table.stamp(T.plus(10));
        table.purge_soft(&[A], T.plus(12));
        assert_eq!(table.validity(between, &[A]), Validity::Soft(T.plus(12)));
    }

    /// A tag that is purged again and again does not hand out a new stale window each time.
    #[test]
    fn the_first_soft_purge_after_the_stamp_counts() {
        let table = PurgeTable::new();
        let stamps: Vec<Stamp> = (0..20_u64)
            .map(|n| {
                let stamp = table.stamp(T.plus(n * 1000));
                table.purge_soft(&[A], T.plus(n * 1000 + 500));
                stamp
            })
            .collect();
        let since = |stamp| match table.validity(stamp, &[A]) {
            Validity::Soft(since) => since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since(stamps[0]), T.plus(500), "the oldest record");
        assert_eq!(since(stamps[19]), T.plus(19_500), "the newest");
        for (n, stamp) in (0..20).zip(&stamps) {
            let exact = T.plus(n * 1000 + 500);
            assert!((T.plus(n * 1000)..=exact).contains(&since(*stamp)), "never later than it was");
        }
        assert_eq!(lock(&table.shards[0]).purged[&A.0].soft.len(), SPANS);
        let after = table.stamp(T.plus(20_000));
        assert!(table.validity(after, &[A]).is_valid());
        // What a hard purge ends is forgotten.
        table.purge_hard(&[A], T.plus(20_000));
        assert!(lock(&table.shards[0]).purged[&A.0].soft.is_empty());
        assert_eq!(table.validity(after, &[A]), Validity::Hard);
    }

    #[test]
    fn everything_bears_the_key_and_all() {
        let table = PurgeTable::new();
        let stamp = table.stamp(T);
        assert_eq!(table.key_ids(7), [PurgeId::key(7), PurgeId::ALL]);
        table.purge_hard(&[PurgeId::ALL], T);
        assert_eq!(table.validity(stamp, &table.key_ids(7)), Validity::Hard);
        assert_eq!(table.validity(stamp, &[]), Validity::Valid, "what bears nothing cannot be purged");
    }

    #[test]
    fn a_full_table_forgets_ids_and_revives_nothing() {
        let table = PurgeTable::with_room(SHARDS * 8);
        let first = table.stamp(T);
        for n in 0..1000_u64 {
            // All in one shard.
            table.purge_hard(&[PurgeId(n * SHARDS as u64)], T.plus(n));
            assert!(lock(&table.shards[0]).purged.len() <= 8);
        }
        for n in 0..1000_u64 {
            assert_eq!(table.validity(first, &[PurgeId(n * SHARDS as u64)]), Validity::Hard);
        }
        let last = table.stamp(T.plus(1000));
        assert!(table.validity(last, &[PurgeId(0)]).is_valid(), "the floor is not above what was forgotten");
        // A forgotten id that is purged again, softly, keeps what its shard's floor says of it.
        table.purge_soft(&[PurgeId(0)], T.plus(1001));
        assert_eq!(table.validity(first, &[PurgeId(0)]), Validity::Hard);
        assert_eq!(table.validity(last, &[PurgeId(0)]), Validity::Soft(T.plus(1001)));
    }

    #[test]
    fn what_no_record_can_predate_is_forgotten_first() {
        let table = PurgeTable::with_room(SHARDS * 8);
        let id = |n: u64| PurgeId(n * SHARDS as u64);
        for n in 0..7 {
            table.purge_hard(&[id(n)], T);
        }
        let week = T.plus(RETENTION + 1);
        let recent = table.stamp(T.plus(2));
        table.purge_hard(&[id(7)], week);
        table.purge_hard(&[id(8)], week);
        assert_eq!(lock(&table.shards[0]).purged.len(), 2);
        assert!(table.validity(recent, &[id(0)]).is_valid());
        assert_eq!(table.validity(recent, &[id(7)]), Validity::Hard);
    }

    #[test]
    fn a_purge_that_returned_holds_on_every_thread() {
        let table = PurgeTable::new();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..500 {
                        let id = PurgeId(n % 7);
                        let stamp = table.stamp(T);
                        let number = table.purge_hard(&[id], T);
                        assert!(number > stamp && table.applied() >= number);
                        assert_eq!(table.validity(stamp, &[id]), Validity::Hard, "thread {thread}");
                    }
                });
            }
        });
    }

    #[derive(Clone, Debug)]
    enum Step {
        Stamp,
        Purge { hard: bool, ids: Vec<u64> },
    }

    fn step() -> impl Strategy<Value = (u64, Step)> {
        let ids = vec(0_u64..16, 0..3);
        let step = prop_oneof![
            Just(Step::Stamp),
            (any::<bool>(), ids).prop_map(|(hard, ids)| Step::Purge { hard, ids })
        ];
        (0_u64..5, step)
    }

    proptest! {
        /// Against a list of all purges. With room for all ids the answers are equal; with little room
        /// a record may be invalid needlessly, and is never valid wrongly.
        #[test]
        fn agrees_with_a_list_of_purges(steps in vec(step(), 0..40), full in any::<bool>()) {
            let table = PurgeTable::with_room(if full { 0 } else { MAX_IDS });
            let spread = |id: &u64| PurgeId(id * SHARDS as u64 / 4);
            let mut stamps: Vec<(Stamp, usize)> = Vec::new();
            let mut purges: Vec<(bool, Vec<u64>, Stamp)> = Vec::new();
            for (at, step) in steps {
                let now = T.plus(at);
                match step {
                    Step::Stamp => stamps.push((table.stamp(now), purges.len())),
                    Step::Purge { hard, ids } => {
                        let purged: Vec<PurgeId> = ids.iter().map(spread).collect();
                        let number = match hard {
                            true => table.purge_hard(&purged, now),
                            false => table.purge_soft(&purged, now),
                        };
                        purges.push((hard, ids, number));
                    }
                }
                for (stamp, seen) in &stamps {
                    for id in 0..16 {
                        let since = || purges.iter().skip(*seen).filter(|(_, ids, _)| ids.contains(&id));
                        let hard = since().any(|(hard, ..)| *hard);
                        let soft = since().find(|(hard, ..)| !*hard).map(|(.., number)| *number);
                        let all = purges.iter().filter(|(hard, ids, _)| !*hard && ids.contains(&id)).count();
                        match table.validity(*stamp, &[spread(&id)]) {
                            Validity::Valid => prop_assert!(!hard && soft.is_none()),
                            Validity::Soft(since) => {
                                let Some(number) = soft else { panic!("never purged softly") };
                                let exact = UnixMillis(number.0 / PER_MILLI);
                                let stored = UnixMillis(stamp.0 / PER_MILLI);
                                prop_assert!(!hard && since <= exact && since >= stored);
                                prop_assert!(since == exact || all > SPANS);
                            }
                            Validity::Hard => prop_assert!(hard || full),
                        }
                    }
                }
            }
        }
    }
}
