//! The whole protocol under a simulation: proxies that fetch, store, serve and purge, a server that
//! loses its memory, its log and its last writes, connections that break at any point, and clocks that
//! jump. Deterministic: a seed is a run, and a run that fails names its seed.
//!
//! What is asserted is invariant 4 of the crate: a response that was purged, once the purge was
//! acknowledged, is served by no proxy that has heard from the fleet since; by none at all after the
//! grace; and by the proxy that purged it never, whether the fleet could be told or not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Entry, Follower, Incarnation, Look, MAX_CALL, Mark, PAGE, Page, Step, Table};
use crate::caching::stamp::{Mode, Purge, PurgeId, Sequence, Stamp};
use crate::semantics::UnixMillis;
use crate::store::purges::{HEARING, PurgeTable, Validity};

/// Runs of one test.
const SEEDS: u64 = 1000;
/// Events of one run.
const EVENTS: usize = 1000;
const PROXIES: usize = 3;
const KEYS: usize = 4;
const GRACE: u64 = 4_000;

#[test]
fn no_proxy_serves_what_was_purged() {
    let from = std::env::var("FOREBAY_SIMULATION_SEED").ok().and_then(|seed| seed.parse().ok());
    let count = std::env::var("FOREBAY_SIMULATION_RUNS").ok().and_then(|runs| runs.parse().ok());
    let first: u64 = from.unwrap_or(1);
    let mut tally = Tally::default();
    for seed in first..first + count.unwrap_or(if from.is_some() { 1 } else { SEEDS }) {
        let mut world = World::new(seed);
        for _ in 0..EVENTS {
            world.event();
        }
        world.settle();
        tally.add(&world.tally);
    }
    println!("{tally:?}");
    // A simulation in which nothing happens proves nothing.
    assert!(from.is_some() || tally.is_eventful(), "{tally:?}");
}

/// What happened, over all runs.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    served: u64,
    withheld: u64,
    acknowledged: u64,
    untold: u64,
    retold: u64,
    failovers: u64,
    losses: u64,
    restarts: u64,
    loads: u64,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.served += other.served;
        self.withheld += other.withheld;
        self.acknowledged += other.acknowledged;
        self.untold += other.untold;
        self.retold += other.retold;
        self.failovers += other.failovers;
        self.losses += other.losses;
        self.restarts += other.restarts;
        self.loads += other.loads;
    }

    fn is_eventful(&self) -> bool {
        [self.served, self.withheld, self.acknowledged, self.untold, self.retold].iter().all(|n| *n > 500)
            && [self.failovers, self.losses, self.restarts, self.loads].iter().all(|n| *n > 100)
    }
}

// === The server ===

/// What the scripts do, on a plain value.
#[derive(Clone, Debug, Default)]
struct Server {
    state: Option<(Incarnation, u64, u64, u64)>,
    mark: Mark,
    /// Both tables, with the incarnation that each holds.
    ids: (Option<Incarnation>, BTreeMap<(Mode, PurgeId), u64>),
    prefixes: (Option<Incarnation>, BTreeMap<(Mode, Bytes), u64>),
    log: Vec<Entry>,
}

impl Server {
    fn begin(&mut self, life: Incarnation, least: u64, clock: u64) -> (Incarnation, u64, u64, u64) {
        if let Some(state) = self.state
            && self.ids.0 == Some(state.0)
            && self.prefixes.0 == Some(state.0)
        {
            return state;
        }
        let sequence = clock.max(least).max(self.state.map_or(0, |(_, _, sequence, _)| sequence));
        *self = Self {
            state: Some((life, sequence, sequence, 0)),
            mark: Mark::default(),
            ids: (Some(life), BTreeMap::new()),
            prefixes: (Some(life), BTreeMap::new()),
            log: Vec::new(),
        };
        (life, sequence, sequence, 0)
    }

    fn look(&mut self, life: Incarnation, least: Sequence, now: u64) -> Look {
        let clock = now * Sequence::PER_MILLI;
        let (life, born, mut sequence, last) = self.begin(life, least.0, clock);
        if clock.saturating_sub(sequence) >= 1000 * Sequence::PER_MILLI || sequence < least.0 {
            sequence = sequence.max(clock).max(least.0);
        }
        self.state = Some((life, born, sequence, last));
        let [born, sequence, last] = [born, sequence, last].map(Sequence);
        Look { incarnation: life, born, sequence, last, mark: self.mark, now: UnixMillis(now), full: false }
    }

    fn tell(
        &mut self,
        (life, mark): (Incarnation, Mark),
        least: Sequence,
        purge: &Purge,
        below: Sequence,
        now: u64,
    ) -> Sequence {
        let clock = now * Sequence::PER_MILLI;
        let (life, born, sequence, before) = self.begin(life, least.0, clock);
        let needless = |hard: Option<&u64>, same: Option<&u64>| {
            below.0 > 0 && hard.into_iter().chain(same).any(|number| *number >= below.0)
        };
        let mut purge = purge.clone();
        purge
            .ids
            .retain(|id| !needless(self.ids.1.get(&(Mode::Hard, *id)), self.ids.1.get(&(purge.mode, *id))));
        let table = &self.prefixes.1;
        purge.prefixes.retain(|text| {
            let number = |mode| table.get(&(mode, text.clone()));
            !needless(number(Mode::Hard), number(purge.mode))
        });
        if purge.is_empty() {
            return Sequence(0);
        }
        let number = (sequence + 1).max(clock).max(least.0 + 1);
        for id in &purge.ids {
            self.ids.1.insert((purge.mode, *id), number);
        }
        for text in &purge.prefixes {
            self.prefixes.1.insert((purge.mode, text.clone()), number);
        }
        if self.log.last().is_some_and(|entry| entry.sequence.0 >= number) {
            self.log.clear();
        }
        let mark_before = std::mem::replace(&mut self.mark, mark);
        let sequence = Sequence(number);
        self.log.push(Entry { sequence, mark, before: Sequence(before), mark_before, purge });
        self.state = Some((life, born, number, number));
        Sequence(number)
    }

    fn page(&self, of: Table, from: Sequence) -> Option<Page> {
        let (incarnation, ..) = self.state?;
        let mut members: Vec<(u64, Purge)> = match of {
            Table::Ids => {
                self.ids.1.iter().map(|((mode, id), n)| (*n, Purge::of_ids(*mode, vec![*id]))).collect()
            }
            Table::Prefixes => {
                let purge = |mode, text: &Bytes| Purge { mode, ids: vec![], prefixes: vec![text.clone()] };
                self.prefixes.1.iter().map(|((mode, text), n)| (*n, purge(*mode, text))).collect()
            }
        };
        members.retain(|(number, _)| *number >= from.0);
        members.sort_by_key(|(number, _)| *number);
        let full = members.len() > PAGE;
        members.truncate(PAGE);
        assert!(!full && MAX_CALL < PAGE, "runs are shorter than a page");
        let purges = members.into_iter().map(|(number, purge)| (Sequence(number), purge)).collect();
        Some(Page { incarnation, purges, full })
    }

    fn read(&self, after: Sequence) -> Vec<Entry> {
        self.log.iter().filter(|entry| entry.sequence > after).take(5).cloned().collect()
    }

    /// Whether it would tell who loads it of this purge.
    fn has(&self, purge: &Acknowledged) -> bool {
        let ids = purge.purge.ids.iter().all(|id| {
            let number = |mode| self.ids.1.get(&(mode, *id)).copied().unwrap_or(0);
            number(Mode::Hard).max(number(purge.purge.mode)) >= purge.sequence.0
        });
        let prefixes = purge.purge.prefixes.iter().all(|text| {
            let number = |mode| self.prefixes.1.get(&(mode, text.clone())).copied().unwrap_or(0);
            number(Mode::Hard).max(number(purge.purge.mode)) >= purge.sequence.0
        });
        ids && prefixes
    }
}

// === The proxies ===

#[derive(Clone, Copy, Debug)]
struct Response {
    key: usize,
    version: u64,
    stamp: Stamp,
    /// When it was asked for.
    asked: UnixMillis,
}

/// A fetch under way: stamped, and perhaps past the moment when the origin made its answer.
#[derive(Clone, Copy, Debug)]
struct Fetch {
    key: usize,
    stamp: Stamp,
    asked: UnixMillis,
    version: Option<u64>,
}

enum Asked {
    /// On its way to the server.
    Step(Step),
    /// On its way back.
    Look(Look),
    Page(Option<Page>),
    Read(Vec<Entry>),
}

struct Untold {
    purge: Purge,
    /// The number that makes telling needless.
    below: Sequence,
    /// The one that it has here alone, and the least version of each key that may be served after it; none
    /// for what the server has lost.
    own: Option<(Stamp, [u64; KEYS])>,
}

struct Proxy {
    table: Arc<PurgeTable>,
    follower: Follower,
    /// The reading under way: when it was asked by its own clock, and by the world's events and time.
    asked: Option<(UnixMillis, usize, u64, Asked)>,
    /// When the last look was asked for, by the world's events and time.
    looked: (usize, u64),
    /// The event at which the last look that brought it up to date was asked for.
    heard: Option<usize>,
    /// By the world's time.
    heard_at: u64,
    memory: BTreeMap<usize, Response>,
    fetches: Vec<Fetch>,
    untold: Vec<Untold>,
    /// What its own clock is ahead of the world's.
    ahead: i64,
    /// What it purged itself: the least version of each key that it may serve.
    own: [u64; KEYS],
    /// The clock went back since it heard: its grace is not the world's.
    unsteady: bool,
}

impl Proxy {
    fn new(ahead: i64, now: u64) -> Self {
        let table = Arc::new(PurgeTable::of_fleet(Duration::from_millis(GRACE)));
        Self {
            follower: Follower::new(Arc::clone(&table)),
            table,
            asked: None,
            looked: (0, now),
            heard: None,
            heard_at: now,
            memory: BTreeMap::new(),
            fetches: Vec::new(),
            untold: Vec::new(),
            ahead,
            own: [0; KEYS],
            unsteady: false,
        }
    }

    fn clock(&self, now: u64) -> UnixMillis {
        UnixMillis(now.saturating_add_signed(self.ahead))
    }

    /// As the tiers judge.
    fn validity(&self, response: &Response, now: u64) -> Validity {
        let (ids, text) = (ids(response.key), text(response.key));
        self.table.judge(response.stamp, &ids, text.as_bytes(), response.asked, self.clock(now))
    }

    /// Whether it has applied this purge, or cannot serve anything that old.
    fn knows(&self, purge: &Acknowledged) -> bool {
        let before = Stamp(Stamp::of(purge.sequence).0 - 1);
        let said = |ids: &[PurgeId], text: &[u8]| match self.table.validity(before, ids, text) {
            Validity::Hard => true,
            validity => purge.purge.mode == Mode::Soft && !validity.is_valid(),
        };
        purge.purge.ids.iter().all(|id| said(&[*id], b""))
            && purge.purge.prefixes.iter().all(|prefix| said(&[], prefix))
    }
}

fn text(key: usize) -> String {
    format!("http://a/{}/{key}", key % 2)
}

/// Key, a tag of half of the keys, all.
fn ids(key: usize) -> [PurgeId; 3] {
    [PurgeId(100 + key as u64), PurgeId(200 + key as u64 % 2), PurgeId::ALL]
}

// === The world ===

struct Acknowledged {
    purge: Purge,
    sequence: Sequence,
    /// The least version of the keys it concerns that may be served.
    versions: [u64; KEYS],
    /// The event of the acknowledgement, and its time.
    event: usize,
    at: u64,
    /// A failover has lost it: unknown to who did not know it, until somebody tells it again.
    lost: bool,
}

struct World {
    seed: u64,
    random: fastrand::Rng,
    /// True time, in milliseconds.
    now: u64,
    /// What the server's clock is ahead of it.
    server_ahead: i64,
    event: usize,
    server: Server,
    /// What replicas hold: the last few states.
    lagging: Vec<Server>,
    shared: BTreeMap<usize, Response>,
    versions: [u64; KEYS],
    proxies: Vec<Proxy>,
    acknowledged: Vec<Acknowledged>,
    tally: Tally,
    trace: Vec<String>,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = 1_700_000_000_000;
        let mut random = fastrand::Rng::with_seed(seed);
        let proxies = (0..PROXIES).map(|_| Proxy::new(random.i64(-2_000..2_000), now)).collect();
        Self {
            seed,
            server_ahead: random.i64(-5_000..5_000),
            random,
            now,
            event: 0,
            server: Server::default(),
            lagging: Vec::new(),
            shared: BTreeMap::new(),
            versions: [1; KEYS],
            proxies,
            acknowledged: Vec::new(),
            tally: Tally::default(),
            trace: Vec::new(),
        }
    }

    fn event(&mut self) {
        self.event += 1;
        self.now +=
            if self.random.u32(0..50) == 0 { self.random.u64(0..4_000) } else { self.random.u64(0..40) };
        let at = self.random.usize(0..PROXIES);
        // What the driver does: readings that fail for so long are noticed, whatever the clock says.
        for proxy in &mut self.proxies {
            if self.now - proxy.heard_at >= HEARING {
                proxy.table.hears_nothing();
            }
        }
        match self.random.u32(0..1000) {
            0..540 => self.follow(at),
            540..700 => self.fetch(at),
            700..880 => self.serve(at),
            880..910 => self.purge(at),
            910..970 => self.tell(at),
            970..976 => self.disconnect(at),
            976..978 => self.restart(at),
            978..980 => self.fail_over(),
            980..982 => self.lose(),
            982..984 => self.step_clock(at),
            _ => self.replicate(),
        }
    }

    /// One half of a reading: the server answers, or the answer arrives.
    fn follow(&mut self, at: usize) {
        let (life, server_now) = (self.life(), self.server_now());
        let proxy = &mut self.proxies[at];
        let clock = proxy.clock(self.now);
        let Some((asked, event, at_time, what)) = proxy.asked.take() else {
            let step = proxy.follower.next(clock);
            proxy.asked = Some((clock, self.event, self.now, Asked::Step(step)));
            return;
        };
        let answer = match what {
            Asked::Step(Step::Look { least }) => Asked::Look(self.server.look(life, least, server_now)),
            Asked::Step(Step::Page { of, from }) => Asked::Page(self.server.page(of, from)),
            Asked::Step(Step::Read { after, .. }) => Asked::Read(self.server.read(after)),
            Asked::Look(look) => {
                proxy.looked = (event, at_time);
                return proxy.hearing(|follower| follower.looked(look, asked));
            }
            Asked::Page(Some(page)) => {
                self.tally.loads += 1;
                return proxy.hearing(|follower| {
                    if follower.paged(&page, clock).is_err() {
                        follower.lost();
                    }
                });
            }
            Asked::Page(None) => return proxy.follower.lost(),
            Asked::Read(entries) => {
                if proxy.follower.read(&entries, clock).is_err() {
                    proxy.follower.unreadable();
                }
                while let Some((sequence, purge)) = proxy.follower.take_untold() {
                    self.tally.retold += 1;
                    proxy.untold.push(Untold { purge, below: sequence, own: None });
                }
                return;
            }
        };
        proxy.asked = Some((asked, event, at_time, answer));
    }

    fn fetch(&mut self, at: usize) {
        let key = self.random.usize(0..KEYS);
        let proxy = &mut self.proxies[at];
        if proxy.fetches.len() < 3 && self.random.bool() {
            let (stamp, asked) = (proxy.table.stamp(), proxy.clock(self.now));
            proxy.fetches.push(Fetch { key, stamp, asked, version: None });
            return;
        }
        if proxy.fetches.is_empty() {
            return;
        }
        let which = self.random.usize(0..proxy.fetches.len());
        let fetch = &mut proxy.fetches[which];
        let Some(version) = fetch.version else {
            fetch.version = Some(self.versions[fetch.key]);
            return;
        };
        let fetch = proxy.fetches.swap_remove(which);
        let response = Response { key: fetch.key, version, stamp: fetch.stamp, asked: fetch.asked };
        proxy.memory.insert(fetch.key, response);
        self.shared.insert(fetch.key, Response { stamp: response.stamp.shared(), ..response });
    }

    fn serve(&mut self, at: usize) {
        let key = self.random.usize(0..KEYS);
        let (now, proxy) = (self.now, &mut self.proxies[at]);
        if self.random.bool()
            && proxy.table.in_sync(proxy.clock(now))
            && let Some(found) = self.shared.get(&key).copied()
        {
            let asked = found.asked.min(proxy.clock(now));
            let found = Response { stamp: proxy.table.believed(found.stamp), asked, ..found };
            if proxy.validity(&found, now).is_valid() {
                proxy.memory.insert(key, found);
            }
        }
        let Some(response) = self.proxies[at].memory.get(&key).copied() else { return };
        let validity = self.proxies[at].validity(&response, now);
        match validity {
            Validity::Valid => self.tally.served += 1,
            _ => self.tally.withheld += 1,
        }
        self.check(at, &response, validity);
    }

    /// Invariant 4, for one response that one proxy is about to use.
    fn check(&self, at: usize, response: &Response, validity: Validity) {
        let proxy = &self.proxies[at];
        if validity == Validity::Valid && response.version < proxy.own[response.key] {
            self.fail(at, "it purged this itself", response);
        }
        let cut_off = self.now - proxy.heard_at > HEARING + GRACE && !proxy.unsteady;
        for purge in &self.acknowledged {
            let hard = purge.purge.mode == Mode::Hard;
            let used = validity == Validity::Valid || (hard && validity != Validity::Hard);
            if !used || response.version >= purge.versions[response.key] {
                continue;
            }
            let heard = proxy.heard.is_some_and(|heard| heard > purge.event);
            if heard && !purge.lost {
                self.fail(at, &format!("it heard of purge {:?}", purge.sequence), response);
            }
            if proxy.knows(purge) && validity != Validity::Hard && hard {
                self.fail(at, &format!("it knows purge {:?}", purge.sequence), response);
            }
            if cut_off && !purge.lost && validity == Validity::Valid && self.now - purge.at > HEARING + GRACE
            {
                self.fail(at, &format!("its grace is over, purge {:?}", purge.sequence), response);
            }
        }
    }

    fn fail(&self, at: usize, why: &str, response: &Response) -> ! {
        let lines = self.trace.iter().rev().take(60).rev().cloned().collect::<Vec<_>>().join("\n");
        panic!(
            "proxy {at} uses {response:?}: {why}\nat event {}; FOREBAY_SIMULATION_SEED={}\n{lines}",
            self.event, self.seed
        );
    }

    /// The origin changes, and a proxy is asked to purge.
    fn purge(&mut self, at: usize) {
        let key = self.random.usize(0..KEYS);
        let mode = if self.random.bool() { Mode::Hard } else { Mode::Soft };
        let prefix = Bytes::from(text(key)[..10].to_owned());
        let purge = match self.random.u32(0..8) {
            0..4 => Purge::of_ids(mode, vec![ids(key)[0]]),
            4..6 => Purge::of_ids(mode, vec![ids(key)[1]]),
            6 => Purge { mode, ids: Vec::new(), prefixes: vec![prefix] },
            _ => Purge::of_ids(mode, vec![PurgeId::ALL]),
        };
        for other in concerned(&purge) {
            self.versions[other] += 1;
        }
        let proxy = &mut self.proxies[at];
        let number = proxy.table.purge(&purge, proxy.clock(self.now));
        let mut least = [0; KEYS];
        for other in concerned(&purge) {
            proxy.own[other] = self.versions[other];
            least[other] = self.versions[other];
        }
        proxy.untold.push(Untold { purge, below: Sequence(0), own: Some((number, least)) });
    }

    /// A proxy tells what it has to tell; the answer may get lost.
    fn tell(&mut self, at: usize) {
        let (life, now) = (self.life(), self.server_now());
        let mark = Mark(self.random.u64(1..));
        let proxy = &mut self.proxies[at];
        if proxy.untold.is_empty() {
            return;
        }
        if !proxy.table.in_sync(proxy.clock(self.now)) {
            self.tally.untold += 1;
            return;
        }
        let Untold { purge, below, own } = proxy.untold.remove(0);
        let sequence = self.server.tell((life, mark), proxy.follower.least_number(), &purge, below, now);
        if self.random.u32(0..10) == 0 {
            // It was told and does not know: it tells again.
            proxy.untold.insert(0, Untold { purge, below, own });
            return;
        }
        if sequence == Sequence(0) {
            return;
        }
        proxy.follower.told(&purge, sequence, proxy.clock(self.now));
        for purge in self.acknowledged.iter_mut().filter(|purge| purge.lost) {
            if self.server.has(purge) {
                (purge.lost, purge.event, purge.at) = (false, self.event, self.now);
            }
        }
        if let Some((number, versions)) = own {
            proxy.table.settle(number);
            let (event, at) = (self.event, self.now);
            self.acknowledged.push(Acknowledged { purge, sequence, versions, event, at, lost: false });
            self.tally.acknowledged += 1;
        }
    }

    fn disconnect(&mut self, at: usize) {
        let proxy = &mut self.proxies[at];
        proxy.asked = None;
        proxy.follower.lost();
        self.note(format!("{at} is disconnected"));
    }

    fn restart(&mut self, at: usize) {
        self.proxies[at] = Proxy::new(self.random.i64(-2_000..2_000), self.now);
        self.tally.restarts += 1;
        self.note(format!("{at} restarts"));
    }

    fn replicate(&mut self) {
        self.lagging.push(self.server.clone());
        if self.lagging.len() > 3 {
            self.lagging.remove(0);
        }
    }

    /// A replica that lags takes over: connections break, its last writes are gone.
    fn fail_over(&mut self) {
        if self.lagging.is_empty() {
            return;
        }
        self.server = self.lagging.swap_remove(self.random.usize(0..self.lagging.len()));
        self.lagging.clear();
        for purge in &mut self.acknowledged {
            purge.lost |= !self.server.has(purge);
        }
        self.server_ahead = self.random.i64(-8_000..8_000);
        (0..PROXIES).for_each(|at| self.disconnect(at));
        self.tally.failovers += 1;
        self.note("a failover".to_owned());
    }

    fn lose(&mut self) {
        self.tally.losses += 1;
        self.lagging.clear();
        let what = self.random.u32(0..6);
        match what {
            0 => {
                self.server = Server::default();
                self.shared.clear();
            }
            1 => self.server.state = None,
            2 => self.server.ids = Default::default(),
            3 => self.server.prefixes = Default::default(),
            4 => self.server.log.clear(),
            _ => {
                let half = self.server.log.len() / 2;
                drop(self.server.log.drain(..half));
            }
        }
        // What is evicted was known to nobody who had not read it: the next look finds out.
        self.acknowledged.retain(|_| what > 3);
        self.note(format!("loss {what}"));
    }

    fn step_clock(&mut self, at: usize) {
        let step = self.random.i64(-3_600_000..3_600_000);
        if self.random.bool() {
            self.server_ahead += step;
        } else {
            self.proxies[at].ahead += step;
            self.proxies[at].unsteady = true;
        }
        self.note(format!("a clock steps by {step}"));
    }

    /// Faults end; everybody reads to the end and tells what is left: then whatever is fetched is valid for
    /// all, and nothing older than the last purge is.
    fn settle(&mut self) {
        let mut quiet = 0;
        for _ in 0..5_000 {
            self.event += 1;
            self.now += 20;
            for at in 0..PROXIES {
                self.follow(at);
                self.tell(at);
            }
            quiet = if self.proxies.iter().all(|proxy| proxy.untold.is_empty()) { quiet + 1 } else { 0 };
            // Long enough for several looks of each.
            if quiet > 400 {
                break;
            }
        }
        for at in 0..PROXIES {
            let clock = self.proxies[at].clock(self.now);
            if !self.proxies[at].table.in_sync(clock) || !self.proxies[at].untold.is_empty() {
                let progress = self.proxies[at].follower.progress();
                panic!("proxy {at} does not catch up: {progress:?}; FOREBAY_SIMULATION_SEED={}", self.seed);
            }
            for key in 0..KEYS {
                if let Some(response) = self.proxies[at].memory.get(&key).copied() {
                    let validity = self.proxies[at].validity(&response, self.now);
                    self.check(at, &response, validity);
                }
                let stamp = self.proxies[at].table.stamp();
                let fetched = Response { key, version: self.versions[key], stamp, asked: clock };
                for other in 0..PROXIES {
                    let stamp = self.proxies[other].table.believed(stamp.shared());
                    let seen = Response { stamp, ..fetched };
                    let validity = self.proxies[other].validity(&seen, self.now);
                    assert!(
                        validity.is_valid(),
                        "what {at} fetched is {validity:?} for {other}; FOREBAY_SIMULATION_SEED={}",
                        self.seed
                    );
                }
            }
        }
    }

    fn life(&mut self) -> Incarnation {
        Incarnation(self.random.u128(..).to_be_bytes())
    }

    fn server_now(&self) -> u64 {
        self.now.saturating_add_signed(self.server_ahead)
    }

    fn note(&mut self, line: String) {
        self.trace.push(format!("{:>4} {line}", self.event));
    }
}

fn concerned(purge: &Purge) -> BTreeSet<usize> {
    let by_id = |key: &usize| ids(*key).iter().any(|id| purge.ids.contains(id));
    let by_text = |key: &usize| purge.prefixes.iter().any(|prefix| text(*key).as_bytes().starts_with(prefix));
    (0..KEYS).filter(|key| by_id(key) || by_text(key)).collect()
}

impl Proxy {
    /// Notes whether an answer brought it up to date: then all it knew when it looked.
    fn hearing(&mut self, answer: impl FnOnce(&mut Follower)) {
        let mark = |table: &PurgeTable| table.lag(UnixMillis(u64::MAX));
        let before = mark(&self.table);
        answer(&mut self.follower);
        if mark(&self.table) != before {
            (self.heard, self.heard_at) = (Some(self.looked.0), self.looked.1);
            self.unsteady = false;
        }
    }
}
