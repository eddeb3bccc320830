//! What was purged, and after which fetch: validity decided by comparing two numbers.
//!
//! Decides: whether a record with a given stamp, ids and key is still valid, and how far this process
//! may be believed when it says so. Never touches: the records; nothing has to be deleted for a purge to
//! hold, and a purge of a million responses costs one entry. Where numbers come from is the business of
//! [`super::journal`], or of the clock where there is no fleet.
//!
//! Every fetch is stamped *before* the first byte of its request is sent. A record is invalid when
//! something it bears was purged with a number strictly greater than its stamp.
//!
//! # Invariants
//!
//! * I1: once [`PurgeTable::stamp`] returns `s`, every purge numbered up to `s` is in the table: purges
//!   are applied first and published (`Release`) after.
//! * I2: a stamp is taken before the fetch, never after it and never from the response; every purge
//!   applied here after a stamp was handed out is greater than that stamp, or raises a floor above it.
//!   What was fetched before a purge can therefore never outlive it, however late it is stored.
//! * I3: nothing is served without having been found valid at the current [`PurgeTable::changes`].
//! * I4: an id is remembered for [`RETENTION`] at least, which is the longest that a record lives, or
//!   until there is no room; what is forgotten raises a floor under which every record that could
//!   bear it is invalid. Forgetting costs needless misses and never revives a response.
//! * I5: numbers never go back: neither those of ids, nor floors, nor stamps, whatever the clock
//!   does.
//! * I6: of several soft purges the first after a record's stamp made it stale: those that follow, of
//!   the same id or another, never give it more time.
//! * I7: a process that has not heard from the fleet for [`HEARING`] says so ([`Validity::Unheard`]) of
//!   everything that was fetched longer ago than its grace, and since it heard last.
//!
//! # Locks
//!
//! One lock orders purges; each shard has its own for its map. Readers take shard locks only, for one
//! map look-up each, and none at all while nothing was purged since their stamp. No await in here.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;

use super::lock;
use crate::caching::stamp::{Mode, Purge, PurgeId, Sequence, Stamp, begins};
use crate::semantics::UnixMillis;

/// The most ids remembered one by one (60 to 150 bytes each).
pub const MAX_IDS: usize = 1 << 20;

/// The most prefixes remembered.
pub const MAX_PREFIXES: usize = 1000;

/// How long an id is remembered, in milliseconds: the longest that a record may live.
pub const RETENTION: u64 = 7 * 24 * 3_600_000;

/// How long ago the fleet may have been heard for its word to be the latest, in milliseconds.
pub const HEARING: u64 = 2_500;

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
    /// Nothing is known against it, but the fleet could not be heard: stale since then.
    Unheard(UnixMillis),
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

/// The purges that this process knows of. Shared by all workers.
#[derive(Debug)]
pub struct PurgeTable {
    shards: Vec<Mutex<Shard>>,
    prefixes: RwLock<Vec<(Bytes, Purged)>>,
    /// Ids that one shard remembers.
    room: usize,
    /// The greatest number whose purge, and all before it, is in the table: the stamp of fetches.
    applied: AtomicU64,
    /// The greatest number in the table, or floor: a stamp that reaches it outlives everything.
    highest: AtomicU64,
    /// The greatest number among the prefixes.
    highest_prefix: AtomicU64,
    /// What was fetched before it is invalid, whatever it bears.
    floor: AtomicU64,
    /// The least number of a purge that the fleet does not know of yet: no stamp of another process says
    /// anything about it, however great it is.
    oldest_pending: AtomicU64,
    /// Counts the changes of the table, so that what was found valid need not be asked about again.
    changes: AtomicU64,
    /// Held from numbering to publication.
    order: Mutex<Order>,
    /// `None` where there is no fleet.
    fleet: Option<Hearing>,
}

#[derive(Debug, Default)]
struct Order {
    /// This process added more to a number of the fleet than can be told apart.
    spilled: bool,
    /// Purges of this process that the fleet does not know of yet.
    pending: BTreeSet<Stamp>,
}

/// When the fleet was heard last.
#[derive(Debug)]
struct Hearing {
    grace: u64,
    /// When the last reading that came to its end was asked for, in wall milliseconds.
    heard: AtomicU64,
    /// Readings fail: whatever the clock says, what is known may not be the latest.
    lost: AtomicBool,
}

impl Hearing {
    fn last(&self) -> UnixMillis {
        UnixMillis(self.heard.load(Ordering::Relaxed))
    }

    fn is_current(&self, now: UnixMillis) -> bool {
        !self.lost.load(Ordering::Relaxed) && now.since(self.last()) <= HEARING
    }
}

impl Default for PurgeTable {
    fn default() -> Self {
        Self::alone()
    }
}

impl PurgeTable {
    /// The table of a process that shares nothing with others.
    #[must_use]
    pub fn alone() -> Self {
        Self::with_room(MAX_IDS, None)
    }

    /// The table of one process of a fleet, which may serve what it fetched for `grace` while it does not
    /// hear the others.
    #[must_use]
    pub fn of_fleet(grace: Duration) -> Self {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let hearing = Hearing { grace, heard: AtomicU64::new(0), lost: AtomicBool::new(true) };
        Self::with_room(MAX_IDS, Some(hearing))
    }

    fn with_room(ids: usize, fleet: Option<Hearing>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            prefixes: RwLock::default(),
            room: (ids / SHARDS).max(2),
            applied: AtomicU64::new(0),
            highest: AtomicU64::new(0),
            highest_prefix: AtomicU64::new(0),
            floor: AtomicU64::new(0),
            oldest_pending: AtomicU64::new(u64::MAX),
            changes: AtomicU64::new(0),
            order: Mutex::default(),
            fleet,
        }
    }

    // === reading ===

    /// The stamp of a fetch whose request is sent after this call returns (I2).
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp(self.applied.load(Ordering::Acquire))
    }

    /// The stamp of a record out of Redis, as far as it is believed here: another process that is ahead of
    /// this one knows no more of what this one alone has purged, and an earlier stamp is never wrong. What
    /// this process itself counted is exact.
    #[must_use]
    pub fn believed(&self, stamp: Stamp) -> Stamp {
        if stamp != stamp.shared() {
            return stamp;
        }
        if stamp > self.stamp() {
            // The purge that it has seen may be on its way into this table: what was fetched since is not to be
            // taken for what it purged.
            drop(lock(&self.order));
        }
        let pending = self.oldest_pending.load(Ordering::Acquire);
        stamp.min(self.stamp().shared()).min(Stamp(pending.saturating_sub(1)))
    }

    /// What the purges applied so far say of a record: hard before soft, and of several soft ones the
    /// one that made it stale first. `key` is the primary key's text.
    #[must_use]
    pub fn validity(&self, stamp: Stamp, ids: &[PurgeId], key: &[u8]) -> Validity {
        if self.highest.load(Ordering::Acquire) <= stamp.0 {
            return Validity::Valid;
        }
        if self.floor.load(Ordering::Acquire) > stamp.0 {
            return Validity::Hard;
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
        if self.highest_prefix.load(Ordering::Acquire) > stamp.0 {
            let prefixes = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
            for (prefix, purged) in prefixes.iter().filter(|(_, purged)| purged.last() > stamp) {
                if begins(key, prefix) {
                    if purged.hard > stamp {
                        return Validity::Hard;
                    }
                    soft = soft.into_iter().chain(purged.stale_since(stamp)).min();
                }
            }
        }
        soft.map_or(Validity::Valid, |number| Validity::Soft(number.time()))
    }

    /// The greatest number that anything in the table has.
    #[must_use]
    pub fn highest(&self) -> Stamp {
        Stamp(self.highest.load(Ordering::Acquire))
    }

    /// Counts changes: while it is unchanged, so is what [`Self::validity`] says.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Whether the fleet's latest word is known here, as far as a record that was asked for then is
    /// concerned: valid, or unheard of since (I7).
    #[must_use]
    pub fn heard(&self, asked: UnixMillis, now: UnixMillis) -> Validity {
        let Some(fleet) = &self.fleet else { return Validity::Valid };
        if fleet.is_current(now) {
            return Validity::Valid;
        }
        // A clock that went back leaves times ahead of it: they prove nothing.
        let times = [fleet.last(), asked].into_iter().filter(|time| *time <= now);
        match times.max().map(|time| time.plus(fleet.grace)) {
            Some(until) if now < until => Validity::Valid,
            until => Validity::Unheard(until.unwrap_or(now)),
        }
    }

    /// What is to be made of a record that was asked for at `asked`: what purges say of it, and whether the
    /// latest are known (I3, I7).
    #[must_use]
    pub fn judge(
        &self,
        stamp: Stamp,
        ids: &[PurgeId],
        key: &[u8],
        asked: UnixMillis,
        now: UnixMillis,
    ) -> Validity {
        match self.validity(stamp, ids, key) {
            Validity::Valid => self.heard(asked, now),
            validity => validity,
        }
    }

    /// Whether the fleet's latest word is known here.
    #[must_use]
    pub fn in_sync(&self, now: UnixMillis) -> bool {
        self.fleet.as_ref().is_none_or(|fleet| fleet.is_current(now))
    }

    /// Milliseconds since the fleet was heard; `None` where there is none, or it never was.
    #[must_use]
    pub fn lag(&self, now: UnixMillis) -> Option<u64> {
        let heard = self.fleet.as_ref()?.last();
        (heard.0 > 0).then(|| now.since(heard))
    }

    /// Ids that are remembered. Locks every shard in turn: for people.
    #[must_use]
    pub fn ids(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).purged.len()).sum()
    }

    /// Whether these prefixes can be remembered beside those that are, without forgetting any.
    #[must_use]
    pub fn has_room(&self, prefixes: &HashSet<&Bytes>, now: UnixMillis) -> bool {
        let horizon = horizon(now);
        let held = self.prefixes.read().unwrap_or_else(PoisonError::into_inner);
        let others =
            held.iter().filter(|(prefix, purged)| purged.last() > horizon && !prefixes.contains(prefix));
        others.count() + prefixes.len() <= MAX_PREFIXES
    }

    /// The ids that a fetch bears before anything is known of its response.
    #[must_use]
    pub fn fetch_ids(&self, url: u128, host: &str) -> [PurgeId; 3] {
        [PurgeId::url(url), PurgeId::host(host), PurgeId::ALL]
    }

    // === purges of this process ===

    /// Makes what a purge concerns and was fetched before now unusable, or stale. Holds for every look-up
    /// in this process that begins after this returns. Where there is a fleet, it is pending until
    /// [`Self::settle`] is told the number that this returns.
    pub fn purge(&self, purge: &Purge, now: UnixMillis) -> Stamp {
        let mut order = lock(&self.order);
        let applied = Stamp(self.applied.load(Ordering::Acquire));
        let mut number = Stamp(applied.0.saturating_add(1));
        if self.fleet.is_none() {
            number = number.max(Stamp::of(Sequence::at(now)));
        } else if number.sequence() != applied.sequence() {
            order.spilled = true;
        }
        if self.fleet.is_some() {
            order.pending.insert(number);
            self.oldest_pending.fetch_min(number.0, Ordering::AcqRel);
        }
        self.write(purge, Span::one(number), now);
        self.publish(number);
        number
    }

    /// The fleet knows of the purge that has this number here, or need not know.
    pub fn settle(&self, number: Stamp) {
        let mut order = lock(&self.order);
        order.pending.remove(&number);
        let oldest = order.pending.first().map_or(u64::MAX, |number| number.0);
        self.oldest_pending.store(oldest, Ordering::Release);
    }

    /// The same for several, each with its number.
    pub fn purge_each(&self, purges: Vec<Purge>, now: UnixMillis) -> Vec<(Purge, Stamp)> {
        let each = |purge| {
            let number = self.purge(&purge, now);
            (purge, number)
        };
        purges.into_iter().map(each).collect()
    }

    // === what the fleet says ===

    /// Puts a purge of the fleet in its place. Returns whether it said anything new; its number becomes
    /// part of stamps with [`Self::advance`] only.
    pub fn apply(&self, purge: &Purge, sequence: Sequence, now: UnixMillis) -> bool {
        let _order = lock(&self.order);
        self.write(purge, Span::one(Stamp::of(sequence)), now)
    }

    /// As [`Self::apply`] and then [`Self::advance`], where every purge before this one is in the table: whoever
    /// saw it there finds it in stamps ([`Self::believed`]). Whether it said anything new, and the stamp of
    /// fetches before.
    pub fn apply_next(&self, purge: &Purge, sequence: Sequence, now: UnixMillis) -> (bool, Stamp) {
        let mut order = lock(&self.order);
        let news = self.write(purge, Span::one(Stamp::of(sequence)), now);
        let before = self.stamp();
        self.reach(&mut order, sequence);
        (news, before)
    }

    /// As [`Self::apply`], for the last of any number of purges of which the others are not known (I6).
    pub fn recall(&self, purge: &Purge, sequence: Sequence, now: UnixMillis) -> bool {
        let _order = lock(&self.order);
        self.write(purge, Span { first: Stamp::default(), last: Stamp::of(sequence) }, now)
    }

    /// Every purge of the fleet numbered up to `sequence` has been applied (I1).
    pub fn advance(&self, sequence: Sequence) {
        self.reach(&mut lock(&self.order), sequence);
    }

    fn reach(&self, order: &mut Order, sequence: Sequence) {
        let number = Stamp::of(sequence);
        if number.0 <= self.applied.load(Ordering::Acquire) {
            return;
        }
        if std::mem::take(&mut order.spilled) {
            // What this process numbered may be numbers that others were given: not to be compared.
            self.raise(number);
        }
        self.publish(number);
    }

    /// Whatever was fetched before `sequence` was applied is invalid.
    pub fn raise_floor(&self, sequence: Sequence) {
        let _order = lock(&self.order);
        self.raise(Stamp::of(sequence));
    }

    /// A reading of the fleet's purges, asked for at `asked`, came to its end.
    pub fn has_heard(&self, asked: UnixMillis) {
        if let Some(fleet) = &self.fleet {
            fleet.heard.store(asked.0, Ordering::Relaxed);
            fleet.lost.store(false, Ordering::Relaxed);
        }
    }

    /// Readings fail.
    pub fn hears_nothing(&self) {
        if let Some(fleet) = &self.fleet {
            fleet.lost.store(true, Ordering::Relaxed);
        }
    }

    // === writing; under the lock that orders ===

    fn write(&self, purge: &Purge, span: Span, now: UnixMillis) -> bool {
        let horizon = horizon(now);
        let mut news = false;
        for id in &purge.ids {
            let mut shard = self.shard(*id);
            news |= shard.entry(*id, self.room, horizon).add(purge.mode, span);
        }
        if !purge.prefixes.is_empty() {
            news |= self.write_prefixes(purge, span, horizon);
        }
        if news {
            self.highest.fetch_max(span.last.0, Ordering::AcqRel);
            self.changes.fetch_add(1, Ordering::AcqRel);
        }
        news
    }

    fn write_prefixes(&self, purge: &Purge, span: Span, horizon: Stamp) -> bool {
        let mut prefixes = self.prefixes.write().unwrap_or_else(PoisonError::into_inner);
        let mut news = false;
        for prefix in &purge.prefixes {
            let at = prefixes.iter().position(|(held, _)| held == prefix).unwrap_or_else(|| {
                if prefixes.len() >= MAX_PREFIXES {
                    prefixes.retain(|(_, purged)| purged.last() > horizon);
                }
                while prefixes.len() >= MAX_PREFIXES {
                    let oldest = prefixes.iter().enumerate().min_by_key(|(_, (_, purged))| purged.last());
                    let Some((oldest, last)) = oldest.map(|(at, (_, purged))| (at, purged.last())) else {
                        break;
                    };
                    prefixes.swap_remove(oldest);
                    // Which records it concerned is not known any more.
                    self.raise(last);
                }
                prefixes.push((super::exact(prefix), Purged::default()));
                prefixes.len() - 1
            });
            news |= prefixes[at].1.add(purge.mode, span);
        }
        self.highest_prefix.fetch_max(span.last.0, Ordering::AcqRel);
        news
    }

    fn raise(&self, floor: Stamp) {
        self.floor.fetch_max(floor.0, Ordering::AcqRel);
        self.highest.fetch_max(floor.0, Ordering::AcqRel);
        self.changes.fetch_add(1, Ordering::AcqRel);
    }

    fn publish(&self, number: Stamp) {
        self.applied.fetch_max(number.0, Ordering::AcqRel);
    }

    fn shard(&self, id: PurgeId) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards, which is never zero.
        lock(&self.shards[id.0 as usize % SHARDS])
    }
}

/// What was purged up to here concerns nothing that still lives.
const fn horizon(now: UnixMillis) -> Stamp {
    Stamp::of(Sequence::at(UnixMillis(now.0.saturating_sub(RETENTION))))
}

/// The purges of one id or prefix that still say something.
#[derive(Clone, Debug, Default)]
struct Purged {
    /// The last hard one; zero = never.
    hard: Stamp,
    /// The soft ones after it, ascending and apart; [`SPANS`] at most.
    soft: Vec<Span>,
}

/// Soft purges that are not told apart: one, or the first and the last of several.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: Stamp,
    last: Stamp,
}

impl Span {
    const fn one(number: Stamp) -> Self {
        Self { first: number, last: number }
    }
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

    /// Adds a purge, in whatever order they come. Whether it says anything that was not known.
    fn add(&mut self, mode: Mode, span: Span) -> bool {
        let number = span.last;
        if number <= self.hard {
            return false;
        }
        if mode == Mode::Hard {
            self.hard = number;
            self.soft.retain(|span| span.last > number);
            return true;
        }
        if self.soft.iter().any(|span| (span.first..=span.last).contains(&number)) {
            return false;
        }
        let at = self.soft.partition_point(|held| held.last < number);
        // Between what is known already and this one, nothing is left out.
        let before = at.checked_sub(1).and_then(|at| self.soft.get(at)).map_or(self.hard, |held| held.last);
        self.soft.reserve_exact(1);
        self.soft.insert(at, Span { first: span.first.max(before), last: number });
        if self.soft.len() > SPANS {
            let width = |pair: &[Span]| match pair {
                [before, after] => after.last.0.saturating_sub(before.first.0),
                _ => u64::MAX,
            };
            // The newest stays apart: most records are younger than all others.
            let older = self.soft.split_last().map_or(&[][..], |(_, older)| older);
            let narrowest = older.windows(2).enumerate().min_by_key(|(_, pair)| width(pair));
            if let Some((at, _)) = narrowest {
                let after = self.soft.remove(at + 1);
                self.soft[at].last = after.last;
            }
        }
        true
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

    impl PurgeTable {
        fn hard(&self, ids: &[PurgeId], now: UnixMillis) -> Stamp {
            self.purge(&purge(Mode::Hard, ids, &[]), now)
        }

        fn soft(&self, ids: &[PurgeId], now: UnixMillis) -> Stamp {
            self.purge(&purge(Mode::Soft, ids, &[]), now)
        }

        fn of(&self, stamp: Stamp, ids: &[PurgeId]) -> Validity {
            self.validity(stamp, ids, b"http://a.example/x")
        }
    }

    fn purge(mode: Mode, ids: &[PurgeId], prefixes: &[&'static str]) -> Purge {
        let prefixes = prefixes.iter().map(|prefix| Bytes::from_static(prefix.as_bytes())).collect();
        Purge { mode, ids: ids.to_vec(), prefixes }
    }

    /// What another process fetched after a purge is as good here as soon as the purge is known here.
    #[test]
    fn who_sees_a_purge_finds_it_in_stamps() {
        const PURGES: u64 = 20_000;
        let table = PurgeTable::of_fleet(Duration::ZERO);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 1..=PURGES {
                    table.apply_next(&purge(Mode::Hard, &[A], &[]), Sequence(number), T);
                }
            });
            let mut seen = 0;
            while seen < PURGES {
                // The first that was not in the table yet.
                let (before, after) = (Stamp::of(Sequence(seen)), Stamp::of(Sequence(seen + 1)));
                if !table.of(before, &[A]).is_valid() {
                    assert_eq!(table.believed(after), after);
                    seen += 1;
                }
            }
        });
    }

    #[test]
    fn a_purge_ends_what_was_fetched_before_it_and_nothing_later() {
        let table = PurgeTable::alone();
        let before = table.stamp();
        assert!(table.of(before, &[A, B]).is_valid());
        // In the same millisecond, and even by a clock that went back.
        for now in [T, UnixMillis(T.0 - 60_000)] {
            let before = table.stamp();
            let number = table.hard(&[A], now);
            assert_eq!(table.stamp(), number);
            let after = table.stamp();
            assert_eq!(table.of(before, &[B, A]), Validity::Hard);
            assert_eq!(table.of(before, &[B]), Validity::Valid, "another id");
            assert_eq!(table.of(after, &[A]), Validity::Valid, "fetched after the purge");
        }
        assert_eq!(table.of(before, &[A]), Validity::Hard, "for good");
    }

    #[test]
    fn a_soft_purge_says_since_when_and_gives_way_to_a_hard_one() {
        let table = PurgeTable::alone();
        let stamp = table.stamp();
        table.soft(&[A], T.plus(5));
        table.soft(&[B], T.plus(9));
        assert_eq!(table.of(stamp, &[B, A]), Validity::Soft(T.plus(5)), "stale since the first");
        assert_eq!(table.of(stamp, &[B]), Validity::Soft(T.plus(9)));
        assert!(!table.of(stamp, &[B]).is_valid());
        table.hard(&[A], T.plus(10));
        assert_eq!(table.of(stamp, &[B, A]), Validity::Hard);
        table.soft(&[A], T.plus(11));
        assert_eq!(table.of(stamp, &[A]), Validity::Hard, "a soft purge does not soften a hard one");
        let between = table.stamp();
        table.soft(&[A], T.plus(12));
        assert_eq!(table.of(between, &[A]), Validity::Soft(T.plus(12)));
    }

    /// A tag that is purged again and again does not hand out a new stale window each time.
    #[test]
    fn the_first_soft_purge_after_the_stamp_counts() {
        let table = PurgeTable::alone();
        let stamps: Vec<Stamp> = (0..20_u64)
            .map(|n| {
                let stamp = table.stamp();
                table.soft(&[A], T.plus(n * 1000 + 500));
                stamp
            })
            .collect();
        let since = |stamp| match table.of(stamp, &[A]) {
            Validity::Soft(since) => since,
            other => panic!("{other:?}"),
        };
        assert_eq!(since(stamps[0]), T.plus(500), "the oldest record");
        assert_eq!(since(stamps[19]), T.plus(19_500), "the newest");
        for (n, stamp) in (0..20).zip(&stamps) {
            let exact = T.plus(n * 1000 + 500);
            assert!((stamp.time()..=exact).contains(&since(*stamp)), "never later than it was");
        }
        assert_eq!(lock(&table.shards[0]).purged[&A.0].soft.len(), SPANS);
        let after = table.stamp();
        assert!(table.of(after, &[A]).is_valid());
        // What a hard purge ends is forgotten.
        table.hard(&[A], T.plus(20_000));
        assert!(lock(&table.shards[0]).purged[&A.0].soft.is_empty());
        assert_eq!(table.of(after, &[A]), Validity::Hard);
    }

    #[test]
    fn everything_bears_the_key_and_all() {
        let table = PurgeTable::alone();
        let stamp = table.stamp();
        assert_eq!(table.fetch_ids(7, "a"), [PurgeId::url(7), PurgeId::host("a"), PurgeId::ALL]);
        table.hard(&[PurgeId::ALL], T);
        assert_eq!(table.of(stamp, &table.fetch_ids(7, "a")), Validity::Hard);
        assert_eq!(table.of(stamp, &[]), Validity::Valid, "what bears nothing cannot be purged");
    }

    #[test]
    fn a_full_table_forgets_ids_and_revives_nothing() {
        let table = PurgeTable::with_room(SHARDS * 8, None);
        let first = table.stamp();
        for n in 0..1000_u64 {
            // All in one shard.
            table.hard(&[PurgeId(n * SHARDS as u64)], T.plus(n));
            assert!(lock(&table.shards[0]).purged.len() <= 8);
        }
        for n in 0..1000_u64 {
            assert_eq!(table.of(first, &[PurgeId(n * SHARDS as u64)]), Validity::Hard);
        }
        let last = table.stamp();
        assert!(table.of(last, &[PurgeId(0)]).is_valid(), "the floor is not above what was forgotten");
        // A forgotten id that is purged again, softly, keeps what its shard's floor says of it.
        table.soft(&[PurgeId(0)], T.plus(1001));
        assert_eq!(table.of(first, &[PurgeId(0)]), Validity::Hard);
        assert_eq!(table.of(last, &[PurgeId(0)]), Validity::Soft(T.plus(1001)));
    }

    #[test]
    fn what_no_record_can_predate_is_forgotten_first() {
        let table = PurgeTable::with_room(SHARDS * 8, None);
        let id = |n: u64| PurgeId(n * SHARDS as u64);
        for n in 0..7 {
            table.hard(&[id(n)], T);
        }
        let week = T.plus(RETENTION + 1);
        let recent = table.stamp();
        table.hard(&[id(7)], week);
        table.hard(&[id(8)], week);
        assert_eq!(lock(&table.shards[0]).purged.len(), 2);
        assert!(table.of(recent, &[id(0)]).is_valid());
        assert_eq!(table.of(recent, &[id(7)]), Validity::Hard);
    }

    #[test]
    fn a_purge_that_returned_holds_on_every_thread() {
        let table = PurgeTable::alone();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let table = &table;
                scope.spawn(move || {
                    for n in 0..500 {
                        let id = PurgeId(n % 7);
                        let stamp = table.stamp();
                        let number = table.hard(&[id], T);
                        assert!(number > stamp && table.stamp() >= number);
                        assert_eq!(table.of(stamp, &[id]), Validity::Hard, "thread {thread}");
                    }
                });
            }
        });
    }

    #[test]
    fn prefixes_are_purged_as_ids_are() {
        let table = PurgeTable::alone();
        let stamp = table.stamp();
        table.purge(&purge(Mode::Soft, &[], &["/x"]), T.plus(1));
        assert_eq!(table.of(stamp, &[A]), Validity::Soft(T.plus(1)));
        assert_eq!(table.validity(stamp, &[A], b"http://a.example/y"), Validity::Valid);
        table.purge(&purge(Mode::Hard, &[], &["http://a.example/"]), T.plus(2));
        assert_eq!(table.of(stamp, &[A]), Validity::Hard);
        assert_eq!(table.of(table.stamp(), &[A]), Validity::Valid);
        assert_eq!(table.validity(stamp, &[A], b"http://b.example/x"), Validity::Soft(T.plus(1)));
    }

    #[test]
    fn what_is_remembered_already_or_concerns_nothing_any_more_takes_no_room() {
        let table = PurgeTable::alone();
        let texts: Vec<Bytes> = (0..=MAX_PREFIXES).map(|n| Bytes::from(format!("/{n}/"))).collect();
        let (all, one_more) = (&texts[..MAX_PREFIXES], &texts[MAX_PREFIXES..]);
        let room = |texts: &[Bytes], now| table.has_room(&texts.iter().collect(), now);
        assert!(room(all, T) && !room(&texts, T));
        table.purge(&Purge { mode: Mode::Soft, ids: vec![], prefixes: all.to_vec() }, T);
        assert!(room(all, T) && !room(one_more, T));
        assert!(room(one_more, T.plus(RETENTION + 1)));
    }

    #[test]
    fn prefixes_without_room_raise_the_floor() {
        let table = PurgeTable::alone();
        let stamp = table.stamp();
        let prefix = |n: usize| Bytes::from(format!("/{n}/"));
        for n in 0..=MAX_PREFIXES {
            table.purge(&Purge { mode: Mode::Hard, ids: vec![], prefixes: vec![prefix(n)] }, T);
        }
        assert_eq!(table.of(stamp, &[A]), Validity::Hard, "it may have borne what was forgotten");
        assert_eq!(table.prefixes.read().unwrap().len(), MAX_PREFIXES);
        assert!(table.of(table.stamp(), &[A]).is_valid());
    }

    #[test]
    fn what_the_fleet_says_counts_in_whatever_order_it_comes() {
        let table = PurgeTable::of_fleet(Duration::ZERO);
        let number = |n: u64| Sequence(Sequence::at(T).0 + n);
        table.advance(number(0));
        let stamp = table.stamp();
        assert!(table.apply(&purge(Mode::Hard, &[A], &[]), number(9), T));
        assert_eq!(table.stamp(), stamp, "others before it are not known yet");
        assert_eq!(table.of(stamp, &[A]), Validity::Hard);
        assert!(table.apply(&purge(Mode::Soft, &[B], &[]), number(5), T));
        assert_eq!(table.of(stamp, &[B]), Validity::Soft(T), "below the highest, and new");
        for (mode, id, n) in [(Mode::Hard, A, 9), (Mode::Hard, A, 4), (Mode::Soft, A, 7), (Mode::Soft, B, 5)]
        {
            assert!(!table.apply(&purge(mode, &[id], &[]), number(n), T), "{mode:?} {n} is no news");
        }
        table.advance(number(9));
        table.advance(number(3));
        assert_eq!(table.stamp(), Stamp::of(number(9)), "never back");
        assert!(table.of(table.stamp(), &[A, B]).is_valid());
    }

    #[test]
    fn purges_the_fleet_was_not_told_hold_here() {
        let table = PurgeTable::of_fleet(Duration::ZERO);
        table.advance(Sequence(1000));
        let before = table.stamp();
        let first = table.hard(&[A], T);
        let between = table.stamp();
        table.hard(&[A], T);
        assert_eq!(first.sequence(), Sequence(1000));
        assert_eq!([before, between].map(|stamp| table.of(stamp, &[A])), [Validity::Hard; 2]);
        assert_eq!(between.shared(), before, "what others read is never later");
        assert!(table.of(table.stamp(), &[A]).is_valid());
        // More than there is room for between two numbers: what was numbered so is not believed later.
        let spilled = (0..=u16::MAX).map(|_| table.hard(&[B], T)).last();
        assert_eq!(spilled.map(Stamp::sequence), Some(Sequence(1001)));
        let stamp = table.stamp();
        assert!(table.of(stamp, &[A]).is_valid());
        table.advance(Sequence(1001));
        table.advance(Sequence(1002));
        assert_eq!(table.of(stamp, &[A]), Validity::Hard);
        assert!(table.of(table.stamp(), &[A]).is_valid());
    }

    #[test]
    fn a_floor_ends_everything_before_it() {
        let table = PurgeTable::of_fleet(Duration::ZERO);
        table.advance(Sequence(7));
        let stamp = table.stamp();
        table.raise_floor(Sequence(8));
        assert_eq!(table.validity(stamp, &[], b""), Validity::Hard);
        table.advance(Sequence(8));
        assert!(table.validity(table.stamp(), &[], b"").is_valid());
    }

    #[test]
    fn a_process_that_hears_nothing_says_so_after_its_grace() {
        let table = PurgeTable::of_fleet(Duration::from_secs(10));
        assert!(!table.in_sync(T));
        assert_eq!(table.heard(T, T.plus(9_999)), Validity::Valid, "never heard: the grace of the record");
        assert_eq!(table.heard(T, T.plus(10_000)), Validity::Unheard(T.plus(10_000)));
        table.has_heard(T);
        assert!(table.in_sync(T.plus(HEARING)) && !table.in_sync(T.plus(HEARING + 1)));
        let old = UnixMillis(T.0 - 60_000);
        assert_eq!(table.heard(old, T.plus(HEARING)), Validity::Valid, "no grace is needed");
        assert_eq!(table.heard(old, T.plus(10_000)), Validity::Unheard(T.plus(10_000)));
        assert_eq!(table.heard(T.plus(5_000), T.plus(10_000)), Validity::Valid, "fetched since");
        table.hears_nothing();
        assert!(!table.in_sync(T), "whatever the clock says");
        // The clock went back by a minute: neither the record nor the reading is of any use as proof.
        assert_eq!(table.heard(T.plus(5_000), old), Validity::Unheard(old));
        assert_eq!(table.heard(old, old.plus(1)), Validity::Valid, "asked for since");
        assert_eq!(PurgeTable::alone().heard(old, T), Validity::Valid);
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
            let table = PurgeTable::with_room(if full { 0 } else { MAX_IDS }, None);
            let spread = |id: &u64| PurgeId(id * SHARDS as u64 / 4);
            let mut stamps: Vec<(Stamp, usize)> = Vec::new();
            let mut purges: Vec<(bool, Vec<u64>, Stamp)> = Vec::new();
            for (at, step) in steps {
                let now = T.plus(at);
                match step {
                    Step::Stamp => stamps.push((table.stamp(), purges.len())),
                    Step::Purge { hard, ids } => {
                        let purged: Vec<PurgeId> = ids.iter().map(spread).collect();
                        let number = match hard {
                            true => table.hard(&purged, now),
                            false => table.soft(&purged, now),
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
                        match table.of(*stamp, &[spread(&id)]) {
                            Validity::Valid => prop_assert!(!hard && soft.is_none()),
                            Validity::Soft(since) => {
                                let Some(number) = soft else { panic!("never purged softly") };
                                let exact = number.time();
                                let stored = stamp.time();
                                prop_assert!(!hard && since <= exact && since >= stored);
                                prop_assert!(since == exact || all > SPANS);
                            }
                            Validity::Hard => prop_assert!(hard || full),
                            Validity::Unheard(_) => panic!("there is no fleet"),
                        }
                    }
                }
            }
        }
    }
}
