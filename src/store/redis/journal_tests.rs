//! The purge journal against real servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;

use super::counters::{CommandObserver, Counters};
use super::journal::{Journal, Told};
use super::testing::{RedisServer, until};
use super::tests::{Unobserved, settings};
use crate::caching::stamp::{Mode, Purge, PurgeId, Stamp};
use crate::clock;
use crate::store::purges::{PurgeTable, Validity};

const KEY: &[u8] = b"http://shop.example/a";
const A: PurgeId = PurgeId(11);
const B: PurgeId = PurgeId(12);
const PATIENCE: Duration = Duration::from_secs(10);

/// One process's journal and table; it reads until the value is dropped.
struct Reader {
    journal: Arc<Journal>,
    table: Arc<PurgeTable>,
    running: JoinHandle<()>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Reader {
    fn start(server: &RedisServer) -> Self {
        let table = Arc::new(PurgeTable::of_fleet(Duration::ZERO));
        let counters = Arc::new(Counters::default());
        let settings = Arc::new(settings(server));
        let journal = Arc::new(Journal::new(settings, Arc::clone(&table), counters, Arc::new(Unobserved)));
        let running = tokio::spawn({
            let journal = Arc::clone(&journal);
            async move { journal.run().await }
        });
        Self { journal, table, running }
    }

    async fn up(server: &RedisServer) -> Self {
        let reader = Self::start(server);
        reader.in_sync().await;
        reader
    }

    async fn in_sync(&self) {
        until("the journal is read", || self.table.in_sync(clock::wall())).await;
    }

    /// As a proxy purges: here first, then the fleet.
    async fn purge(&self, purge: Purge) -> Told {
        let number = self.table.purge(&purge, clock::wall());
        self.journal.tell(vec![(purge, number)], PATIENCE).await
    }

    fn validity(&self, stamp: Stamp, ids: &[PurgeId]) -> Validity {
        self.table.validity(stamp, ids, KEY)
    }
}

fn hard(id: PurgeId) -> Purge {
    Purge::of_ids(Mode::Hard, vec![id])
}

#[tokio::test]
async fn a_purge_told_by_one_holds_for_all_and_for_those_who_come_later() {
    let server = RedisServer::running();
    let (one, two) = (Reader::up(&server).await, Reader::up(&server).await);
    let before = [one.table.stamp(), two.table.stamp()];
    assert!(one.validity(before[0], &[A]).is_valid());
    let Told::Fleet(sequence) = one.purge(hard(A)).await else { panic!("not told") };
    assert!(one.table.stamp() >= Stamp::of(sequence), "what is fetched now outlives it");
    until("the other obeys", || two.validity(before[1], &[A]) == Validity::Hard).await;
    assert!(two.validity(before[1], &[B]).is_valid());
    until("its stamps move on", || two.table.stamp() >= Stamp::of(sequence)).await;
    assert!(two.validity(two.table.stamp(), &[A]).is_valid());
    let prefix = Purge { mode: Mode::Soft, ids: vec![B], prefixes: vec![Bytes::from_static(b"/a")] };
    let stamp = two.table.stamp();
    assert!(matches!(two.purge(prefix).await, Told::Fleet(_)));
    let three = Reader::up(&server).await;
    for reader in [&one, &two, &three] {
        until("everybody knows", || matches!(reader.validity(stamp, &[]), Validity::Soft(_))).await;
        assert!(matches!(reader.validity(stamp, &[B]), Validity::Soft(_)));
        assert_eq!(reader.validity(before[0], &[A]), Validity::Hard);
        assert!(reader.validity(reader.table.stamp(), &[A, B]).is_valid());
    }
    assert!(three.journal.status().progress.loaded && three.journal.status().untold == 0);
}

#[tokio::test]
async fn many_purges_are_few_calls_and_pages() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    let stamp = one.table.stamp();
    let ids: Vec<PurgeId> = (0..9_500).map(PurgeId).collect();
    assert!(matches!(one.purge(Purge::of_ids(Mode::Soft, ids.clone())).await, Told::Fleet(_)));
    assert_eq!(server.command(&["XLEN", "fb-test:{journal}:log"]).trim(), ":10", "a thousand a call");
    let two = Reader::up(&server).await;
    for id in ids {
        assert!(matches!(two.validity(stamp, &[id]), Validity::Soft(_)), "{id:?}");
    }
}

#[tokio::test]
async fn an_emptied_server_begins_a_new_life_and_nothing_older_is_valid() {
    let server = RedisServer::running();
    let (one, two) = (Reader::up(&server).await, Reader::up(&server).await);
    let life = one.journal.status().progress.incarnation;
    let stamps = [one.table.stamp(), two.table.stamp()];
    let keys = ["state", "ids", "prefixes", "log"].map(|what| format!("fb-test:{{journal}}:{what}"));
    server.command(&["DEL", &keys[0], &keys[1], &keys[2], &keys[3]]);
    for (reader, stamp) in [&one, &two].into_iter().zip(stamps) {
        until("it is noticed", || reader.journal.status().progress.incarnation != life).await;
        until("nothing older is valid", || reader.validity(stamp, &[]) == Validity::Hard).await;
        until("what is new is", || reader.validity(reader.table.stamp(), &[A]).is_valid()).await;
    }
    assert!(matches!(two.purge(hard(A)).await, Told::Fleet(_)));
}

#[tokio::test]
async fn an_evicted_table_is_noticed_and_an_evicted_stream_harms_nobody() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    let stamp = one.table.stamp();
    assert!(matches!(one.purge(hard(A)).await, Told::Fleet(_)));
    server.command(&["UNLINK", "fb-test:{journal}:log"]);
    let two = Reader::up(&server).await;
    assert_eq!(two.validity(stamp, &[A]), Validity::Hard, "the tables have it");
    let life = one.journal.status().progress.incarnation;
    let stamp = one.table.stamp();
    assert!(matches!(two.purge(hard(B)).await, Told::Fleet(_)));
    until("it goes on", || one.validity(stamp, &[B]) == Validity::Hard).await;
    assert_eq!(one.journal.status().progress.incarnation, life);
    server.command(&["UNLINK", "fb-test:{journal}:ids"]);
    until("it is noticed", || one.journal.status().progress.incarnation != life).await;
}

#[tokio::test]
async fn what_was_purged_while_a_reader_was_away_is_caught_up_with() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    let stamp = one.table.stamp();
    // Its connections are cut again and again; meanwhile others purge.
    let two = Reader::up(&server).await;
    for n in 0..20 {
        server.command(&["CLIENT", "KILL", "TYPE", "normal"]);
        two.in_sync().await;
        two.purge(hard(PurgeId(n))).await;
    }
    for n in 0..20 {
        until("it is known", || one.validity(stamp, &[PurgeId(n)]) == Validity::Hard).await;
    }
}

#[tokio::test]
async fn what_redis_could_not_be_told_is_told_later() {
    let mut server = RedisServer::running();
    let one = Reader::up(&server).await;
    server.kill();
    until("it is noticed", || !one.table.in_sync(clock::wall())).await;
    let stamp = one.table.stamp();
    assert_eq!(one.purge(hard(A)).await, Told::Later);
    assert_eq!(one.validity(stamp, &[A]), Validity::Hard, "it holds here");
    assert_eq!(one.journal.status().untold, 1);
    server.start();
    let two = Reader::start(&server);
    until("it was told", || one.journal.status().untold == 0).await;
    until("the other knows", || two.validity(stamp, &[A]) == Validity::Hard).await;
}

#[tokio::test]
async fn a_frozen_server_is_not_believed_and_found_again() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    server.freeze();
    until("it is noticed", || !one.table.in_sync(clock::wall())).await;
    server.thaw();
    one.in_sync().await;
    assert!(matches!(one.purge(hard(A)).await, Told::Fleet(_)));
}

#[tokio::test]
async fn nonsense_in_redis_is_not_believed() {
    let server = RedisServer::running();
    // Entries that no script of ours wrote, where there is none yet.
    let one = Reader::up(&server).await;
    let (stamp, life) = (one.table.stamp(), one.journal.status().progress.incarnation);
    for fields in [["b", "x"], ["m", "q"], ["subscribe", "1"]] {
        let arguments = ["XADD", "fb-test:{journal}:log", "*", fields[0], fields[1]];
        server.command(&arguments);
    }
    assert!(matches!(one.purge(hard(A)).await, Told::Fleet(_)));
    let two = Reader::up(&server).await;
    assert!(matches!(two.purge(hard(B)).await, Told::Fleet(_)));
    for id in [A, B] {
        until("the tables tell", || one.validity(stamp, &[id]) == Validity::Hard).await;
    }
    one.in_sync().await;
    assert_eq!(one.journal.status().progress.incarnation, life);
    // A state that is none begins a new life.
    server.command(&["SET", "fb-test:{journal}:state", "nonsense"]);
    until("a new life begins", || one.journal.status().progress.incarnation != life).await;
    one.in_sync().await;
    // A type that none of our scripts can use is replaced as well.
    server.command(&["DEL", "fb-test:{journal}:ids"]);
    server.command(&["SET", "fb-test:{journal}:ids", "x"]);
    let life = one.journal.status().progress.incarnation;
    until("a new life begins", || one.journal.status().progress.incarnation != life).await;
}

#[tokio::test]
async fn a_full_server_is_followed_and_takes_no_purges() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    until("it is full", || one.journal.status().full).await;
    one.in_sync().await;
    assert_eq!(one.purge(hard(A)).await, Told::Later);
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    until("it is told", || one.journal.status().untold == 0).await;
}

/// What cannot be told as it is must not keep the fleet from everything that comes after it.
#[tokio::test]
async fn prefixes_without_room_are_told_as_hosts() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    let host = PurgeId::host("shop.example");
    let stamp = one.table.stamp();
    let score = (clock::wall().0 * 16).to_string();
    let texts: Vec<String> = (0..2_000).map(|n| format!("h/{n}/")).collect();
    let members = texts.iter().flat_map(|text| [score.as_str(), text]);
    let key = "fb-test:{journal}:prefixes";
    server.command(&["ZADD", key].into_iter().chain(members).collect::<Vec<_>>());
    let of = |text: &'static str| Purge {
        mode: Mode::Soft,
        ids: Vec::new(),
        prefixes: vec![Bytes::from_static(text.as_bytes())],
    };
    assert!(matches!(one.purge(of("http://shop.example/new/")).await, Told::Fleet(_)));
    assert!(matches!(one.validity(stamp, &[host]), Validity::Soft(_)), "the host, then");
    assert!(matches!(one.purge(hard(A)).await, Told::Fleet(_)));
    assert_eq!(one.journal.status().untold, 0);
    // What is there already needs no room, whatever its mode.
    let hosts = || server.command(&["ZCARD", "fb-test:{journal}:ids"]);
    let before = hosts();
    assert!(matches!(one.purge(of("/7/")).await, Told::Fleet(_)));
    assert_eq!((hosts(), server.command(&["ZCARD", key]).trim()), (before, ":2002"));
}

#[tokio::test]
async fn the_log_is_bounded_and_old_ids_are_forgotten() {
    let server = RedisServer::running();
    let one = Reader::up(&server).await;
    // A week old, as its score says.
    server.command(&["ZADD", "fb-test:{journal}:ids", "16", "h12345678"]);
    for n in 0..30 {
        one.purge(hard(PurgeId(n))).await;
    }
    assert_eq!(server.command(&["ZSCORE", "fb-test:{journal}:ids", "h12345678"]).trim(), "$-1");
    assert_eq!(server.command(&["ZCARD", "fb-test:{journal}:ids"]).trim(), ":31");
    for key in ["state", "ids", "prefixes", "log"] {
        assert_eq!(server.ttl(&format!("fb-test:{{journal}}:{key}")), -1, "it does not expire");
    }
}

/// Panics once each time it is armed, in the midst of the journal's work.
#[derive(Default)]
struct Staged(AtomicBool);

impl CommandObserver for Staged {
    fn observe(&self, _command: &'static str, _took: Duration) {
        assert!(!self.0.swap(false, Ordering::SeqCst), "staged by a test");
    }
}

#[tokio::test]
async fn a_fault_of_ours_is_no_end_of_the_journal() {
    let server = RedisServer::running();
    let other = Reader::up(&server).await;
    let (table, staged) = (Arc::new(PurgeTable::of_fleet(Duration::ZERO)), Arc::new(Staged::default()));
    let observer: Arc<dyn CommandObserver> = Arc::<Staged>::clone(&staged);
    let journal =
        Arc::new(Journal::new(Arc::new(settings(&server)), Arc::clone(&table), Arc::default(), observer));
    let following = Arc::clone(&journal);
    // Ends with the process, as the proxy's does.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        following.keep_running(&runtime);
    });
    for round in 1..=3 {
        until("it is read", || table.in_sync(clock::wall())).await;
        let before = table.stamp();
        staged.0.store(true, Ordering::SeqCst);
        until("it panics", || journal.status().restarts == round).await;
        // Of others it hears again, and others hear of it.
        assert!(matches!(other.purge(hard(A)).await, Told::Fleet(_)));
        until("it hears", || table.validity(before, &[A], KEY) == Validity::Hard).await;
        let number = table.purge(&hard(B), clock::wall());
        until("it is read", || table.in_sync(clock::wall())).await;
        assert!(matches!(journal.tell(vec![(hard(B), number)], PATIENCE).await, Told::Fleet(_)));
        assert_eq!(journal.status().untold, 0);
        until("the other hears", || other.validity(before, &[B]) == Validity::Hard).await;
    }
}

#[tokio::test]
async fn a_purge_that_a_fault_of_ours_interrupts_is_told_all_the_same() {
    let server = RedisServer::running();
    let other = Reader::up(&server).await;
    let before = other.table.stamp();
    let (table, staged) = (Arc::new(PurgeTable::of_fleet(Duration::ZERO)), Arc::new(InTelling::default()));
    let observer: Arc<dyn CommandObserver> = Arc::<InTelling>::clone(&staged);
    let journal =
        Arc::new(Journal::new(Arc::new(settings(&server)), Arc::clone(&table), Arc::default(), observer));
    let following = Arc::clone(&journal);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        following.keep_running(&runtime);
    });
    until("it is read", || table.in_sync(clock::wall())).await;
    let number = table.purge(&hard(A), clock::wall());
    assert_eq!(journal.tell(vec![(hard(A), number)], PATIENCE).await, Told::Later);
    until("it was told", || journal.status().restarts == 1 && journal.status().untold == 0).await;
    until("the other hears", || other.validity(before, &[A]) == Validity::Hard).await;
}

/// Panics when the first purge was told, before that is known here.
#[derive(Default)]
struct InTelling(AtomicBool);

impl CommandObserver for InTelling {
    fn observe(&self, command: &'static str, _took: Duration) {
        assert!(command != "journal_tell" || self.0.swap(true, Ordering::SeqCst), "staged by a test");
    }
}
