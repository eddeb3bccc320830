//! Flights: the fetches that are under way in this process, over all its workers.
//!
//! The first request for a key leads; the others wait until the leader publishes what its response
//! head allows: [`Landing::Shared`] (it may be stored, so it may be shared), [`Landing::Alone`] (it
//! may not: everybody fetches for himself, at once) or [`Landing::Failed`]. A leader that vanishes
//! without a word releases its waiters too. Generic over what is shared, so that this module knows
//! no responses. Never touches: sockets, stores, clocks.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::caching::stamp::Stamp;

/// Which fetch: primary key hash, and variant (0 = the primary record itself) mixed with the class
/// of requests that may share it.
pub type FlightKey = (u128, u64);

const SHARDS: usize = 64;

/// What a flight came to.
#[derive(Clone, Debug)]
pub enum Landing<A, F> {
    /// May be stored, so it is shared; later requests may still join.
    Shared(A),
    /// May not be shared: each fetches for itself, without a queue.
    Alone,
    /// The origin could not answer.
    Failed(F),
}

/// All flights of the process.
#[derive(Debug)]
pub struct Flights<A, F> {
    shards: Vec<Mutex<Shard<A, F>>>,
}

type Shard<A, F> = HashMap<FlightKey, Arc<Flight<A, F>>, Seeds>;

/// Hashes flight keys, of which most is a hash already: two multiplications, with seeds that nobody outside
/// knows, so that nobody can choose which keys fall together.
#[derive(Clone, Copy, Debug)]
struct Seeds([u64; 4]);

impl Default for Seeds {
    fn default() -> Self {
        static SEEDS: LazyLock<[u64; 4]> = LazyLock::new(|| {
            let random = std::hash::RandomState::new();
            [0_u64, 1, 2, 3].map(|n| random.hash_one(n))
        });
        Self(*SEEDS)
    }
}

impl BuildHasher for Seeds {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        let Self([hash, low, high, rest]) = *self;
        Mixed { hash, low, high, rest }
    }
}

/// A key, mixed with the seeds.
struct Mixed {
    hash: u64,
    low: u64,
    high: u64,
    rest: u64,
}

impl Hasher for Mixed {
    fn write_u128(&mut self, n: u128) {
        self.hash ^= folded(n as u64 ^ self.low, (n >> 64) as u64 ^ self.high);
    }

    fn write_u64(&mut self, n: u64) {
        self.hash = folded(self.hash ^ n, self.rest | 1);
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}

/// Both halves of a product: every bit of it hangs on most bits of both factors.
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// One fetch under way.
#[derive(Debug)]
struct Flight<A, F> {
    /// The key's text: two keys with one hash never share.
    text: Bytes,
    /// Highest purge applied before its upstream request is sent.
    stamp: Stamp,
    landing: Mutex<Option<Landing<A, F>>>,
    /// Rings after something landed.
    bell: Notify,
}

impl<A, F> Flight<A, F> {
    fn is_valid(&self, valid: impl FnOnce(Stamp, Option<&A>) -> bool) -> bool {
        match &*lock(&self.landing) {
            Some(Landing::Shared(landed)) => valid(self.stamp, Some(landed)),
            Some(Landing::Alone | Landing::Failed(_)) | None => valid(self.stamp, None),
        }
    }

    fn land(&self, landing: Landing<A, F>) {
        *lock(&self.landing) = Some(landing);
        self.bell.notify_waiters();
    }
}

/// Whether a request leads or waits.
#[derive(Debug)]
pub enum Joined<A: Clone, F: Clone> {
    /// It must fetch, and publish what came.
    Leader(Lead<A, F>),
    /// Somebody fetches already.
    Waiter(Wait<A, F>),
    /// Another key with the same hash is in the air: fetch without collapsing.
    Collision,
}

impl<A: Clone, F: Clone> Default for Flights<A, F> {
    fn default() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }
}

impl<A: Clone, F: Clone> Flights<A, F> {
    /// Joins the flight of `key`, or begins one with `stamp`. `valid` says whether an answer fetched
    /// under a stamp may still be given, with what landed as far as that is known: nobody joins a fetch
    /// that a purge has overtaken.
    pub fn join(
        self: &Arc<Self>,
        key: FlightKey,
        text: &Bytes,
        stamp: Stamp,
        valid: impl FnOnce(Stamp, Option<&A>) -> bool,
    ) -> Joined<A, F> {
        let mut shard = self.shard(key);
        let begin =
            || Arc::new(Flight { text: text.clone(), stamp, landing: Mutex::default(), bell: Notify::new() });
        let flight = match shard.entry(key) {
            Entry::Occupied(flight) if flight.get().text != *text => return Joined::Collision,
            Entry::Occupied(flight) if flight.get().is_valid(valid) => {
                return Joined::Waiter(Wait { flight: Arc::clone(flight.get()) });
            }
            Entry::Occupied(mut overtaken) => {
                overtaken.insert(begin());
                Arc::clone(overtaken.get())
            }
            Entry::Vacant(place) => Arc::clone(place.insert(begin())),
        };
        drop(shard);
        Joined::Leader(Lead { flights: Arc::clone(self), key, flight, landed: false, left: false })
    }

    /// Waits for the flight of `key` if there is one that `valid` lets this request join; begins none.
    pub fn find(
        &self,
        key: FlightKey,
        text: &Bytes,
        valid: impl FnOnce(Stamp, Option<&A>) -> bool,
    ) -> Option<Wait<A, F>> {
        let shard = self.shard(key);
        let flight = shard.get(&key)?;
        (flight.text == *text && flight.is_valid(valid)).then(|| Wait { flight: Arc::clone(flight) })
    }

    /// How many fetches are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: FlightKey) -> MutexGuard<'_, Shard<A, F>> {
        let index = (key.0 as usize ^ key.1 as usize) % SHARDS;
        lock(&self.shards[index])
    }
}

/// The leader's permit. Dropping it ends the flight; if nothing was published, waiters are told to
/// fetch for themselves.
#[derive(Debug)]
pub struct Lead<A: Clone, F: Clone> {
    flights: Arc<Flights<A, F>>,
    key: FlightKey,
    flight: Arc<Flight<A, F>>,
    landed: bool,
    left: bool,
}

impl<A: Clone, F: Clone> Lead<A, F> {
    /// The stamp the flight began under.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        self.flight.stamp
    }

    /// Another way to wait for what this leader publishes.
    #[must_use]
    pub fn wait(&self) -> Wait<A, F> {
        Wait { flight: Arc::clone(&self.flight) }
    }

    /// Tells everybody. A shared landing stays open to later requests until the permit is dropped
    /// (which must come after the store, so that there is never a gap); the others end the flight.
    pub fn land(&mut self, landing: Landing<A, F>) {
        self.landed = true;
        if !matches!(landing, Landing::Shared(_)) {
            self.leave();
        }
        self.flight.land(landing);
    }

    /// Ends the flight, and tells those who joined, if anybody did.
    pub fn end(mut self, landing: impl FnOnce() -> Landing<A, F>) {
        self.leave();
        (self.left, self.landed) = (true, true);
        // Whoever waits joined before it was left, and has a share in the flight.
        if Arc::strong_count(&self.flight) > 1 {
            self.flight.land(landing());
        }
    }

    /// Ends the flight for newcomers; those who joined keep what was shared.
    pub fn leave(&self) {
        let mut shard = self.flights.shard(self.key);
        if let Entry::Occupied(flight) = shard.entry(self.key)
            && Arc::ptr_eq(flight.get(), &self.flight)
        {
            flight.remove();
        }
    }
}

impl<A: Clone, F: Clone> Drop for Lead<A, F> {
    fn drop(&mut self) {
        if !self.left {
            self.leave();
        }
        if !self.landed {
            self.flight.land(Landing::Alone);
        }
    }
}

/// A waiter's place.
#[derive(Debug)]
pub struct Wait<A, F> {
    flight: Arc<Flight<A, F>>,
}

impl<A: Clone, F: Clone> Wait<A, F> {
    /// What the flight came to. Cancel-safe.
    pub async fn landing(&mut self) -> Landing<A, F> {
        loop {
            // Heard from here on: nothing lands unseen between the look and the wait.
            let rung = self.flight.bell.notified();
            if let Some(landing) = &*lock(&self.flight.landing) {
                return landing.clone();
            }
            rung.await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Test = Flights<u32, ()>;
    const KEY: FlightKey = (7, 0);

    fn join(flights: &Arc<Test>, stamp: u64) -> Joined<u32, ()> {
        flights.join(KEY, &Bytes::from_static(b"k"), Stamp(stamp), |s, _| s.0 >= stamp)
    }

    fn lead(joined: Joined<u32, ()>) -> Lead<u32, ()> {
        match joined {
            Joined::Leader(lead) => lead,
            other => panic!("expected to lead, got {other:?}"),
        }
    }

    #[tokio::test]
    async fn one_leads_and_the_others_share() {
        let flights = Arc::new(Test::default());
        let mut leader = lead(join(&flights, 0));
        let Joined::Waiter(mut early) = join(&flights, 0) else { panic!("must wait") };
        leader.land(Landing::Shared(5));
        let Joined::Waiter(mut late) = join(&flights, 0) else { panic!("may still join") };
        assert!(matches!(early.landing().await, Landing::Shared(5)));
        assert!(matches!(late.landing().await, Landing::Shared(5)));
        drop(leader);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn an_end_is_told_to_those_who_wait_alone() {
        let flights = Arc::new(Test::default());
        lead(join(&flights, 0)).end(|| panic!("nobody waits"));
        assert!(flights.is_empty());
        let leader = lead(join(&flights, 0));
        let Joined::Waiter(mut waiter) = join(&flights, 0) else { panic!("must wait") };
        let Joined::Waiter(gone) = join(&flights, 0) else { panic!("must wait") };
        drop(gone);
        leader.end(|| Landing::Shared(5));
        assert!(flights.is_empty());
        assert!(matches!(waiter.landing().await, Landing::Shared(5)));
        let overtaken = lead(join(&flights, 1));
        let Joined::Waiter(mut waiter) = join(&flights, 0) else { panic!("must wait") };
        let newer = lead(join(&flights, 2));
        overtaken.end(|| Landing::Shared(6));
        assert!(matches!(waiter.landing().await, Landing::Shared(6)));
        assert_eq!(flights.len(), 1, "the old leader does not end the new flight");
        drop(newer);
    }

    #[tokio::test]
    async fn what_may_not_be_shared_releases_everybody_and_ends_the_flight() {
        let flights = Arc::new(Test::default());
        let mut leader = lead(join(&flights, 0));
        let Joined::Waiter(mut waiter) = join(&flights, 0) else { panic!("must wait") };
        leader.land(Landing::Alone);
        assert!(flights.is_empty());
        assert!(matches!(waiter.landing().await, Landing::Alone));
    }

    #[tokio::test]
    async fn a_leader_that_vanishes_releases_its_waiters() {
        let flights = Arc::new(Test::default());
        let leader = lead(join(&flights, 0));
        let Joined::Waiter(mut waiter) = join(&flights, 0) else { panic!("must wait") };
        drop(leader);
        assert!(matches!(waiter.landing().await, Landing::Alone));
    }

    #[tokio::test]
    async fn nobody_joins_a_fetch_that_a_purge_has_overtaken() {
        let flights = Arc::new(Test::default());
        let old = lead(join(&flights, 1));
        let new = lead(join(&flights, 2));
        drop(old);
        assert_eq!(flights.len(), 1, "the old leader does not end the new flight");
        drop(new);
        assert!(flights.is_empty());
    }

    #[tokio::test]
    async fn nobody_joins_what_landed_and_was_purged_since() {
        let flights = Arc::new(Test::default());
        let text = Bytes::from_static(b"k");
        let not_five = |_: Stamp, landed: Option<&u32>| landed != Some(&5);
        let mut old = lead(flights.join(KEY, &text, Stamp(1), not_five));
        assert!(matches!(flights.join(KEY, &text, Stamp(1), not_five), Joined::Waiter(_)));
        old.land(Landing::Shared(5));
        assert!(flights.find(KEY, &text, not_five).is_none());
        let _new = lead(flights.join(KEY, &text, Stamp(1), not_five));
    }

    #[test]
    fn finding_begins_nothing() {
        let flights = Arc::new(Test::default());
        let text = Bytes::from_static(b"k");
        assert!(flights.find(KEY, &text, |_, _| true).is_none());
        assert!(flights.is_empty());
        let _leader = lead(join(&flights, 1));
        assert!(flights.find(KEY, &text, |_, _| true).is_some());
        assert!(flights.find(KEY, &text, |stamp, _| stamp.0 > 1).is_none(), "a purge has overtaken it");
        assert!(flights.find(KEY, &Bytes::from_static(b"other"), |_, _| true).is_none());
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let seeds = Seeds::default();
        let mut hashes = std::collections::HashSet::new();
        let bits = (0..128).map(|bit| (1_u128 << bit, 0)).chain((0..64).map(|bit| (0, 1_u64 << bit)));
        let keys: Vec<FlightKey> = bits.chain([(0, 0)]).collect();
        for key in &keys {
            hashes.insert(seeds.hash_one(key));
        }
        assert_eq!(hashes.len(), keys.len());
    }

    #[test]
    fn keys_that_collide_never_share() {
        let flights = Arc::new(Test::default());
        let _leader = lead(join(&flights, 0));
        let other = flights.join(KEY, &Bytes::from_static(b"other"), Stamp(0), |_, _| true);
        assert!(matches!(other, Joined::Collision));
    }
}
