//! The tier against real servers that come, go, hang, fill up and lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::testing::{RedisServer, until};
use super::*;
use crate::caching::stamp::{PurgeId, Sequence, Stamp};
use crate::caching::stored::{InStore, StoredBody, StoredHead, StoredResponse, Traits};
use crate::caching::vary::{NewVariant, VariantHash, VaryIndex};

pub(super) struct Unobserved;

impl CommandObserver for Unobserved {
    fn observe(&self, _: &'static str, _: Duration) {}
}

/// Settings for a server of these tests.
pub(super) fn settings(server: &RedisServer) -> Settings {
    Settings {
        server: Server::Tcp { node: Node { host: "127.0.0.1".to_owned(), port: server.port }, tls: false },
        authorities: Authorities::System,
        database: 0,
        username: None,
        password: None,
        prefix: "fb-test".to_owned(),
        // Wider than the defaults: these tests share their machine with others.
        read_timeout: Duration::from_millis(250),
        write_timeout: Duration::from_millis(500),
        max_object_size: 8 << 20,
        compress_above: 1 << 10,
        lock_ttl: Duration::from_secs(5),
    }
}

/// One store, with everything it counts.
struct Bench {
    store: Arc<RedisStore>,
    counters: Arc<Counters>,
}

impl Bench {
    fn new(server: &RedisServer) -> Self {
        Self::with(server, |_| {})
    }

    fn with(server: &RedisServer, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(server);
        change(&mut settings);
        let counters = Arc::new(Counters::default());
        let store = RedisStore::connect(Arc::new(settings), Arc::clone(&counters), Arc::new(Unobserved));
        Self { store, counters }
    }

    async fn up(server: &RedisServer) -> Self {
        let bench = Self::new(server);
        bench.usable().await;
        bench
    }

    async fn usable(&self) {
        until("the store is usable", || self.store.usable()).await;
    }

    fn count(&self, kind: &str) -> u64 {
        self.counters.errors().into_iter().filter(|(label, _)| *label == kind).map(|(_, count)| count).sum()
    }
}

const NOW: UnixMillis = UnixMillis(1_900_000_000_000);

/// Fresh for a minute from [`NOW`].
fn response(body: impl Into<Bytes>) -> Record {
    let fields = [("content-type", "text/html"), ("etag", "\"a\""), ("x-same", "1"), ("x-same", "2")];
    Record::Response(Arc::new(StoredResponse {
        head: StoredHead {
            status: StatusCode::OK,
            fields: fields
                .into_iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect(),
            trailers: Vec::new(),
            received: NOW,
            initial_age: 0,
            lifetime: 60_000,
            stale_while_revalidate: 0,
            stale_if_error: 0,
            keep: 0,
            cost: 5,
            traits: Traits::ORIGIN_EXPLICIT,
            stamp: Stamp::of(Sequence(7)),
            ids: vec![PurgeId::ALL, PurgeId(9)],
            vary: Vec::new(),
            part: None,
        },
        body: StoredBody::Here(body.into()),
    }))
}

/// Bytes that no compression shortens.
fn noise(length: usize) -> Bytes {
    let mut random = fastrand::Rng::with_seed(length as u64);
    std::iter::repeat_with(|| random.u8(..)).take(length).collect()
}

/// What is stored, with a long body read to its end.
async fn whole(bench: &Bench, place: &StoreKey, now: UnixMillis) -> Option<Record> {
    let record = bench.store.get(place, now).await?;
    let Some(body) = kept_body(&record) else { return Some(record) };
    let Record::Response(stored) = &record else { return None };
    let body = bench.store.whole(place, body).await?.into();
    Some(Record::Response(Arc::new(StoredResponse { head: stored.head.clone(), body })))
}

fn assert_same(found: Option<Record>, expected: &Record, what: &str) {
    match (found, expected) {
        (Some(Record::Response(found)), Record::Response(expected)) => {
            assert_eq!(found.head, expected.head, "{what}");
            assert!(found.body == expected.body, "{what}: another body of {} bytes", found.body.length());
        }
        (Some(Record::Index(found)), Record::Index(expected)) => assert_eq!(&found, expected, "{what}"),
        (Some(Record::HitForMiss { until: found }), Record::HitForMiss { until }) => {
            assert_eq!(found, *until, "{what}");
        }
        (found, _) => panic!("{what}: {found:?}"),
    }
}

fn key(text: &str) -> StoreKey {
    StoreKey {
        primary: xxhash_rust::xxh3::xxh3_128(text.as_bytes()),
        variant: None,
        text: Bytes::copy_from_slice(text.as_bytes()),
    }
}

#[tokio::test]
async fn records_come_back_as_they_were() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let store = &bench.store;
    let mut index = VaryIndex::default();
    let variant = NewVariant {
        hash: VariantHash(3),
        received: NOW,
        useless_at: NOW.plus(50_000),
        etag: Some(Bytes::from_static(b"\"v\"")),
    };
    index.insert(&[http::header::ACCEPT_LANGUAGE], variant, NOW);
    let words = "All work and no play makes a dull page. ".repeat(40_000);
    for (what, record) in [
        ("empty", response("")),
        ("short", response("hello")),
        ("not a command", response("MOVED 1 127.0.0.1:9")),
        ("compressed", response(words[..20_000].to_owned())),
        ("compressed elsewhere", response(words[..200_000].to_owned())),
        ("long", response(noise(200_000))),
        ("chunked", response(noise(1_000_000))),
        ("chunked and compressed", response(words.clone())),
        ("index", Record::Index(Arc::new(index))),
        ("hit for miss", Record::HitForMiss { until: NOW.plus(40_000) }),
    ] {
        for variant in [None, Some(VariantHash(5))] {
            let place = StoreKey { variant, ..key(what) };
            assert!(store.get(&place, NOW).await.is_none(), "{what}");
            store.put(place.clone(), record.clone(), NOW).await;
            assert_same(whole(&bench, &place, NOW).await, &record, what);
            assert!(store.get(&place, NOW.plus(60_000)).await.is_none(), "{what} is useless by then");
            store.put(place.clone(), response("newer"), NOW).await;
            assert_same(whole(&bench, &place, NOW).await, &response("newer"), what);
            store.remove(&place).await;
            assert!(store.get(&place, NOW).await.is_none(), "{what} is gone");
        }
    }
    assert!(bench.counters.errors().iter().all(|(_, count)| *count == 0), "{:?}", bench.counters.errors());
    let (before, after) = bench.counters.compressed();
    assert!(before > 1_600_000 && after < before / 4, "{before} {after}");
    for name in server.keys() {
        let ttl = server.ttl(&name);
        assert!(name.starts_with("fb-test:") && (1..=60_000 + 120_000).contains(&ttl), "{name} {ttl}");
    }
}

#[tokio::test]
async fn records_are_read_by_a_connection_of_their_own() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let place = key("a");
    bench.store.put(place.clone(), response("hello"), NOW).await;
    // The library speaks RESP3. While the other connection is being made, the library reads.
    let is_read_there = || {
        let clients = server.command(&["CLIENT", "LIST"]);
        clients.lines().any(|client| client.contains("cmd=getrange") && client.contains("resp=2"))
    };
    let deadline = clock::monotonic() + Duration::from_secs(20);
    loop {
        assert_same(whole(&bench, &place, NOW).await, &response("hello"), "by whichever connection");
        if is_read_there() {
            break;
        }
        assert!(clock::monotonic() < deadline, "never read by the connection for records");
    }
}

#[tokio::test]
async fn what_is_useless_or_too_long_is_not_written() {
    let server = RedisServer::running();
    let bench = Bench::with(&server, |settings| settings.max_object_size = 1_000);
    bench.usable().await;
    for (record, now) in [
        (response(noise(1_001)), NOW),
        (response("a"), NOW.plus(60_000)),
        (Record::HitForMiss { until: NOW }, NOW),
        (Record::Index(Arc::new(VaryIndex::default())), NOW),
    ] {
        bench.store.put(key("a"), record, now).await;
        assert!(server.keys().iter().all(|name| name == "fb-test:probe"));
    }
    bench.store.put(key("a"), response(noise(1_000)), NOW).await;
    assert!(bench.store.get(&key("a"), NOW).await.is_some());
}

#[test]
fn time_to_live_is_bounded() {
    let marker = |left| Record::HitForMiss { until: NOW.plus(left) };
    let week = 7 * 24 * 3_600_000;
    for (left, chance, expected) in [
        (0, 0.0, None),
        (1, 0.0, Some(1)),
        (1, 1.0, Some(1)),
        (1_000, 0.0, Some(1_000)),
        (1_000, 0.5, Some(975)),
        (1_000, 1.0, Some(950)),
        (u64::MAX, 0.0, Some(week)),
        (u64::MAX, 1.0, Some(week - week / 20)),
    ] {
        assert_eq!(time_to_live(&marker(left), NOW, chance), expected, "{left} {chance}");
    }
    assert_eq!(time_to_live(&marker(5), NOW.plus(6), 0.0), None);
}

#[tokio::test]
async fn lies_are_misses() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (mine, other) = (key("mine"), key("other"));
    bench.store.put(other.clone(), response("someone else's"), NOW).await;
    let theirs = server.key(|name| name.ends_with(":o"));
    bench.store.put(mine.clone(), response("mine"), NOW).await;
    let name = server.key(|name| name.ends_with(":o") && name != theirs);
    let huge = "x".repeat(3 << 20);
    for lie in [
        &["SET", &name, "MOVED 1 127.0.0.1:9"][..],
        &["SET", &name, "ASK 1 127.0.0.1:9"],
        &["SET", &name, "subscribe"],
        &["SET", &name, "message"],
        &["SET", &name, "1"],
        &["SET", &name, &huge],
        &["APPEND", &name, "x"],
        &["SETRANGE", &name, "5", "zzzz"],
        &["COPY", &theirs, &name, "REPLACE"],
    ] {
        bench.store.put(mine.clone(), response("mine"), NOW).await;
        let before: u64 = bench.counters.errors().iter().map(|(_, count)| count).sum();
        server.command(lie);
        assert!(bench.store.get(&mine, NOW).await.is_none(), "{:.40}", lie.join(" "));
        let after: u64 = bench.counters.errors().iter().map(|(_, count)| count).sum();
        assert_eq!(after, before + 1, "{:.40}", lie.join(" "));
        assert_same(bench.store.get(&other, NOW).await, &response("someone else's"), "the other");
    }
    for other_type in [&["RPUSH", &name, "subscribe", "b", "c"][..], &["HSET", &name, "a", "b"]] {
        server.command(&["DEL", &name]);
        server.command(other_type);
        assert!(bench.store.get(&mine, NOW).await.is_none());
    }
    assert_eq!(bench.count("wrong_type"), 2);
    assert!(bench.store.usable());
    // What is written anew is good again.
    bench.store.put(mine.clone(), response("mine"), NOW).await;
    assert_same(bench.store.get(&mine, NOW).await, &response("mine"), "mine");
}

#[tokio::test]
async fn a_chunk_that_is_missing_or_wrong_is_a_miss() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, record) = (key("long"), response(noise(900_000)));
    let second = |name: &str| name.contains(":b:") && name.ends_with(":1");
    for wrong in ["missing", "short", "empty", "changed", "another", "text", "list"] {
        bench.store.put(place.clone(), record.clone(), NOW).await;
        assert_same(whole(&bench, &place, NOW).await, &record, wrong);
        let name = server.key(second);
        let first = server.key(|name| name.contains(":b:") && name.ends_with(":0"));
        match wrong {
            "missing" => server.command(&["DEL", &name]),
            "short" => server.command(&["SET", &name, "x"]),
            "empty" => server.command(&["SET", &name, ""]),
            "changed" => server.command(&["SETRANGE", &name, "100000", "changed"]),
            "another" => server.command(&["COPY", &first, &name, "REPLACE"]),
            "text" => server.command(&["SET", &name, "MOVED 1 127.0.0.1:9"]),
            _ => {
                server.command(&["DEL", &name]);
                server.command(&["RPUSH", &name, "a"])
            }
        };
        let before: u64 = bench.counters.errors().iter().map(|(_, count)| count).sum();
        assert!(whole(&bench, &place, NOW).await.is_none(), "{wrong}");
        let after: u64 = bench.counters.errors().iter().map(|(_, count)| count).sum();
        assert_eq!(after, before + 1, "{wrong}: {:?}", bench.counters.errors());
        // What is written anew repairs it, though the content is the same.
        bench.store.put(place.clone(), record.clone(), NOW).await;
        assert_same(whole(&bench, &place, NOW).await, &record, wrong);
        server.command(&["FLUSHALL"]);
    }
}

#[tokio::test]
async fn a_long_body_that_is_validated_stays_where_it_is() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let Record::Response(first) = response(noise(1 << 20)) else { panic!("a response") };
    let place = key("long");
    let mut sent = Vec::new();
    for n in 0..10 {
        let mut head = first.head.clone();
        head.received = NOW.plus(n * 60_000);
        head.stamp = Stamp::of(Sequence(7 + n));
        let record = Record::Response(Arc::new(StoredResponse { head, body: first.body.clone() }));
        let before = bench.counters.commands();
        bench.store.put(place.clone(), record.clone(), NOW.plus(n * 60_000)).await;
        sent.push(bench.counters.commands() - before);
        assert_same(whole(&bench, &place, NOW.plus(n * 60_000)).await, &record, "validated");
    }
    // The first asks for one chunk and writes four; the others ask for four. All write the record.
    assert_eq!(sent, [6, 5, 5, 5, 5, 5, 5, 5, 5, 5]);
    let data = || server.keys().into_iter().filter(|name| name != "fb-test:probe");
    assert_eq!(data().count(), 5);
    // Of the chunks, those that are gone are written, and those that are left live longer.
    let name = |end: &'static str| server.key(move |name| name.contains(":b:") && name.ends_with(end));
    server.command(&["DEL", &name(":2")]);
    server.command(&["PEXPIRE", &name(":3"), "5000"]);
    bench.store.put(place.clone(), Record::Response(Arc::clone(&first)), NOW).await;
    assert!(server.ttl(&name(":3")) > 60_000 && server.ttl(&name(":2")) > 60_000);
    assert_same(whole(&bench, &place, NOW).await, &Record::Response(first), "whole again");
    assert!(bench.counters.errors().iter().all(|(_, count)| *count == 0), "{:?}", bench.counters.errors());
}

#[tokio::test]
async fn a_lock_belongs_to_its_token() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let store = &bench.store;
    let (ours, theirs) = (LockToken::random(), LockToken::random());
    assert_ne!(ours, theirs);
    let (place, long) = (key("http://h/"), Duration::from_secs(30));
    let variant = StoreKey { variant: Some(VariantHash(7)), ..place.clone() };

    assert_eq!(store.try_lock(&place, &ours, long).await, LockAttempt::Locked);
    assert_eq!(store.try_lock(&place, &ours, long).await, LockAttempt::Held);
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Held);
    assert_eq!(store.try_lock(&variant, &theirs, long).await, LockAttempt::Locked);
    let name = server.key(|name| name.ends_with(":l"));
    assert!((1..=30_000).contains(&server.ttl(&name)));

    assert_ne!(store.renew(&place, &theirs, Duration::from_secs(60)).await, Some(true));
    assert!(server.ttl(&name) <= 30_000);
    assert_eq!(store.renew(&place, &ours, Duration::from_secs(60)).await, Some(true));
    assert!(server.ttl(&name) > 30_000);

    store.unlock(&place, &theirs, None).await;
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Held);
    store.unlock(&place, &ours, None).await;
    assert_ne!(store.renew(&place, &ours, long).await, Some(true));
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Locked);

    // Redis forgets its scripts: they are sent again.
    server.command(&["SCRIPT", "FLUSH"]);
    store.unlock(&place, &theirs, None).await;
    assert_eq!(store.try_lock(&place, &ours, Duration::from_millis(1)).await, LockAttempt::Locked);
    until("the lock expires", || server.ttl(&name) == -2).await;
    assert_ne!(store.renew(&place, &ours, long).await, Some(true));
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Locked);
    assert!(bench.counters.errors().iter().all(|(_, count)| *count == 0), "{:?}", bench.counters.errors());
}

#[tokio::test]
async fn a_hostile_lock_is_nobodys() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, token) = (key("http://h/"), LockToken::random());
    assert_eq!(bench.store.try_lock(&place, &token, Duration::from_secs(9)).await, LockAttempt::Locked);
    let name = server.key(|name| name.ends_with(":l"));
    for hostile in [
        &["SET", &name, "MOVED 1 127.0.0.1:9"][..],
        &["SET", &name, "subscribe"],
        &["SET", &name, ""],
        &["SET", &name, "1"],
        &["RPUSH", &name, "subscribe", "b", "c"],
        &["HSET", &name, "a", "b"],
    ] {
        server.command(&["DEL", &name]);
        server.command(hostile);
        assert_eq!(bench.store.try_lock(&place, &token, Duration::from_secs(9)).await, LockAttempt::Held);
        assert_ne!(bench.store.renew(&place, &token, Duration::from_secs(9)).await, Some(true));
        bench.store.unlock(&place, &token, Some(LastWord::Alone)).await;
        assert_eq!(server.ttl(&name), -1, "{hostile:?} is left alone");
    }
    assert!(bench.store.usable());
}

#[tokio::test]
async fn it_starts_without_redis_and_finds_it_later() {
    let mut server = RedisServer::absent();
    let bench = Bench::new(&server);
    assert!(!bench.store.usable());
    assert_eq!(
        bench.store.try_lock(&key("a"), &LockToken::random(), Duration::from_secs(1)).await,
        LockAttempt::Unavailable
    );
    let status = bench.store.status();
    assert!(!status.connected && status.breaker != BreakerState::Closed && status.last_latency.is_none());
    assert_eq!(status.address, format!("redis://127.0.0.1:{}", server.port));
    server.start();
    bench.usable().await;
    let status = bench.store.status();
    assert!(status.connected && status.breaker == BreakerState::Closed && status.last_latency.is_some());
    assert_eq!(
        bench.store.try_lock(&key("a"), &LockToken::random(), Duration::from_secs(1)).await,
        LockAttempt::Locked
    );
}

/// Tasks that ask without pause until dropped.
struct Load {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    done: Arc<AtomicUsize>,
}

impl Load {
    fn on(store: &Arc<RedisStore>) -> Self {
        let done = Arc::new(AtomicUsize::new(0));
        let ask = |n: usize| {
            let (store, done) = (Arc::clone(store), Arc::clone(&done));
            tokio::spawn(async move {
                let place = key(&n.to_string());
                loop {
                    let _ = store.renew(&place, &LockToken::random(), Duration::from_secs(1)).await;
                    done.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            })
        };
        Self { tasks: (0..32).map(ask).collect(), done }
    }

    /// Until every task has gone round at least once more.
    async fn goes_on(&self) {
        let before = self.done.load(Ordering::Relaxed);
        until("the load goes on", || self.done.load(Ordering::Relaxed) > before + 200).await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

#[tokio::test]
async fn a_crash_under_load_is_survived() {
    let mut server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let load = Load::on(&bench.store);
    load.goes_on().await;
    for _ in 0..2 {
        server.kill();
        until("the breaker opens", || !bench.store.usable()).await;
        load.goes_on().await;
        server.start();
        bench.usable().await;
        load.goes_on().await;
    }
    // What was written fails at once; what the client had only queued runs into its time budget.
    assert!(bench.count("io") + bench.count("timeout") > 0, "{:?}", bench.counters.errors());
}

#[tokio::test]
async fn a_redis_that_hangs_costs_a_few_timeouts() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let load = Load::on(&bench.store);
    load.goes_on().await;
    server.freeze();
    let begun = clock::monotonic();
    until("the breaker opens", || !bench.store.usable()).await;
    // One time-out of every command under way, and slack for a busy machine.
    let took = clock::monotonic().saturating_duration_since(begun);
    assert!(took < Duration::from_secs(3), "{took:?}");
    load.goes_on().await;
    let begun = clock::monotonic();
    let attempt = bench.store.try_lock(&key("a"), &LockToken::random(), Duration::from_secs(1)).await;
    assert_eq!(attempt, LockAttempt::Unavailable);
    assert!(clock::monotonic().saturating_duration_since(begun) < Duration::from_millis(100));
    assert!(bench.count("timeout") >= 5, "{:?}", bench.counters.errors());
    server.thaw();
    bench.usable().await;
    load.goes_on().await;
}

/// The client's task hangs in a write that nobody reads: the breaker opens all the same, and the
/// store is back when Redis is.
#[tokio::test]
async fn a_redis_that_hangs_with_full_buffers_is_survived() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let record = response(noise(250_000));
    server.freeze();
    let begun = clock::monotonic();
    let writes: Vec<_> = (0..WRITES_IN_FLIGHT)
        .map(|n| {
            let (store, record) = (Arc::clone(&bench.store), record.clone());
            tokio::spawn(async move { store.put(key(&n.to_string()), record, NOW).await })
        })
        .collect();
    until("the breaker opens", || !bench.store.usable()).await;
    for write in writes {
        write.await.expect("no panic");
    }
    let took = clock::monotonic().saturating_duration_since(begun);
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert!(bench.store.get(&key("0"), NOW).await.is_none());
    server.thaw();
    bench.usable().await;
    bench.store.put(key("a"), record.clone(), NOW).await;
    assert_same(bench.store.get(&key("a"), NOW).await, &record, "afterwards");
}

#[tokio::test]
async fn a_full_redis_still_answers_reads() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, token) = (key("a"), LockToken::random());
    assert_eq!(bench.store.try_lock(&place, &token, Duration::from_secs(60)).await, LockAttempt::Locked);
    server.command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    let attempt = bench.store.try_lock(&key("b"), &token, Duration::from_secs(60)).await;
    assert_eq!(attempt, LockAttempt::Unavailable);
    assert_eq!(bench.count("oom"), 1);
    assert_ne!(bench.store.status().write_breaker, BreakerState::Closed);
    assert!(bench.store.usable());
    // Nothing is written meanwhile, beside probes.
    let before = bench.counters.commands();
    let attempt = bench.store.try_lock(&key("b"), &token, Duration::from_secs(60)).await;
    assert_eq!((attempt, bench.counters.commands()), (LockAttempt::Unavailable, before));
    server.command(&["CONFIG", "SET", "maxmemory", "0"]);
    until("writes go on", || bench.store.status().write_breaker == BreakerState::Closed).await;
    let attempt = bench.store.try_lock(&key("b"), &token, Duration::from_secs(60)).await;
    assert_eq!(attempt, LockAttempt::Locked);
    for name in server.keys() {
        assert!(name.starts_with("fb-test:") && server.ttl(&name) > 0, "{name}");
    }
}

/// Once the connection for chunks has worked, what goes wrong there stays there.
#[tokio::test]
async fn trouble_with_chunks_is_not_moved_to_other_commands() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (short, long) = (response("short"), response(noise(1 << 20)));
    bench.store.put(key("short"), short.clone(), NOW).await;
    bench.store.put(key("long"), long.clone(), NOW).await;
    let bulk = bench.store.bulk.get().expect("asked for by the first long body");
    until("the second connection works", || bulk.usable()).await;
    assert_same(whole(&bench, &key("long"), NOW).await, &long, "on its own connection");

    bulk.breaker().trip(clock::monotonic());
    let before = bench.counters.commands();
    let body =
        kept_body(&bench.store.get(&key("long"), NOW).await.expect("the record")).expect("a long body");
    assert_eq!(first_read(&bench, &key("long"), body).await, Err(Unreadable::Unanswered));
    bench.store.put(key("another"), long.clone(), NOW).await;
    assert!(!bulk.usable(), "before it was probed again");
    assert_eq!(bench.counters.commands() - before, 1, "the record, and no chunk");
    assert_same(bench.store.get(&key("short"), NOW).await, &short, "the others go on");
    assert!(bench.store.get(&key("another"), NOW).await.is_none());

    until("the second connection works again", || bulk.usable()).await;
    assert_same(whole(&bench, &key("long"), NOW).await, &long, "as before");
}

/// Every command that is given up counts for the breaker of its connection.
#[tokio::test]
async fn long_reads_from_a_redis_that_hangs_open_the_breaker() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, long) = (key("long"), response(noise(1 << 20)));
    bench.store.put(place.clone(), long.clone(), NOW).await;
    let bulk = bench.store.bulk.get().expect("asked for by the first long body");
    until("the second connection works", || bulk.usable()).await;
    let body = kept_body(&bench.store.get(&place, NOW).await.expect("the record")).expect("a long body");
    server.freeze();
    for _ in 0..3 {
        assert_eq!(first_read(&bench, &place, body).await, Err(Unreadable::Unanswered));
    }
    assert!(!bulk.usable(), "two commands of each reading ran out of time");
    assert!(bench.count("timeout") > 2, "{:?}", bench.counters.errors());
    server.thaw();
    until("the second connection works again", || bulk.usable()).await;
    bench.usable().await;
    assert_same(whole(&bench, &place, NOW).await, &long, "as before");
}

/// What the first reading of a long body comes to: how many bytes, or why none.
async fn first_read(bench: &Bench, place: &StoreKey, body: InStore) -> Result<usize, Unreadable> {
    let ranges = [(0, body.length - 1)];
    let mut reader = LongReader::of(&bench.store, place.clone(), body, &ranges).expect("within the body");
    reader.next().await.expect("a first chunk").map(|bytes| bytes.len())
}

#[tokio::test]
async fn a_range_reads_its_chunks_and_at_most_one_ahead() {
    const C: u64 = record::CHUNK as u64;
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, content) = (key("long"), noise(5 * record::CHUNK + 7));
    bench.store.put(place.clone(), response(content.clone()), NOW).await;
    let body = kept_body(&bench.store.get(&place, NOW).await.expect("the record")).expect("a long body");
    let end = body.length - 1;
    for (ranges, chunks) in [
        (vec![(0, 0)], 1),
        (vec![(end, end)], 1),
        (vec![(C, 2 * C - 1)], 1),
        (vec![(C - 1, C)], 2),
        (vec![(0, end)], 6),
        (vec![(5, 9), (7, 30), (2 * C, 2 * C)], 2),
        (vec![(3 * C, 3 * C), (0, 0), (3 * C, 3 * C)], 3),
    ] {
        for is_full in [false, true] {
            let others = is_full.then(|| bench.counters.streaming.take(64 << 20).expect("nothing is held"));
            let before = bench.counters.commands();
            let mut reader = LongReader::of(&bench.store, place.clone(), body, &ranges).expect("within");
            assert_eq!(reader.reads_ahead(), others.is_none());
            let mut read = Vec::new();
            while let Some(bytes) = reader.next().await {
                read.extend_from_slice(&bytes.expect("all is there"));
                assert!(bench.counters.commands() - before <= chunks, "{ranges:?}");
            }
            let at = |offset: u64| usize::try_from(offset).expect("small");
            let expected: Vec<u8> =
                ranges.iter().flat_map(|(first, last)| &content[at(*first)..=at(*last)]).copied().collect();
            assert!(read == expected, "{ranges:?}");
            assert_eq!(bench.counters.commands() - before, chunks, "{ranges:?}");
            drop((reader, others));
        }
    }
    assert!(bench.counters.streaming.take(64 << 20).is_some(), "all is given back");
    // Who takes his time has the rest kept for him, and what is kept longer anyway stays so.
    let name = |end: &'static str| server.key(move |name| name.contains(":b:") && name.ends_with(end));
    for (chunk, ttl) in [(":2", "5000"), (":3", "5000"), (":4", "900000"), (":5", "5000")] {
        server.command(&["PEXPIRE", &name(chunk), ttl]);
    }
    let mut reader = LongReader::of(&bench.store, place.clone(), body, &[(3 * C, end)]).expect("within");
    assert!(reader.next().await.is_some_and(|bytes| bytes.is_ok()));
    reader.prolong().await;
    let left = [":2", ":3", ":4", ":5"].map(|chunk| server.ttl(&name(chunk)) / 60_000);
    assert_eq!(left, [0, 0, 14, 1], "those that were read, or are not wanted, expire");
    assert!(LongReader::of(&bench.store, place.clone(), body, &[(0, end + 1)]).is_none());
    let longer = InStore { length: 9 << 20, ..body };
    assert!(LongReader::of(&bench.store, place, longer, &[(0, 0)]).is_none(), "longer than configured");
}

#[tokio::test]
async fn a_record_whose_content_is_lost_is_forgotten_unless_it_is_another() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (place, long) = (key("long"), response(noise(600_000)));
    bench.store.put(place.clone(), long.clone(), NOW).await;
    let kept = bench.store.get(&place, NOW).await.expect("the record");
    let body = kept_body(&kept).expect("a long body");
    let other = InStore { mark: body.mark ^ 1, ..body };
    bench.store.discard(&place, other).await;
    assert_same(whole(&bench, &place, NOW).await, &long, "written anew since");
    bench.store.put(place.clone(), response("short"), NOW).await;
    bench.store.discard(&place, body).await;
    assert_same(whole(&bench, &place, NOW).await, &response("short"), "another record");
    server.command(&["DEL", &server.key(|name| name.ends_with(":o"))]);
    server.command(&["RPUSH", "fb-test:x", "a"]);
    bench.store.put(place.clone(), long.clone(), NOW).await;
    let again = kept_body(&bench.store.get(&place, NOW).await.expect("the record")).expect("a long body");
    bench.store.discard(&place, again).await;
    assert!(bench.store.get(&place, NOW).await.is_none());
    bench.store.discard(&place, body).await;
    // A body that is to stay where it is has to be there.
    assert_eq!(bench.store.put(place.clone(), kept.clone(), NOW).await, Written::Yes);
    assert_same(whole(&bench, &place, NOW).await, &long, "its chunks outlived it");
    server.command(&["DEL", &server.key(|name| name.ends_with(":2"))]);
    assert_eq!(bench.store.put(place.clone(), kept.clone(), NOW).await, Written::ContentLost);
    server.command(&["CONFIG", "SET", "maxmemory", "1"]);
    assert_eq!(bench.store.put(place, kept, NOW).await, Written::ContentLost, "lost is lost");
}

/// A user who may not run scripts has no renewals, and reads and writes all the same.
#[tokio::test]
async fn a_user_without_scripts_still_reads_and_writes() {
    let server = RedisServer::running();
    server.command(&["ACL", "SETUSER", "cache", "on", ">secret", "~fb-test:*", "+@all", "-eval", "-evalsha"]);
    let bench = Bench::with(&server, |settings| {
        settings.username = Some("cache".to_owned());
        settings.password = Some("secret".to_owned());
    });
    bench.usable().await;
    let (place, token, long) = (key("a"), LockToken::random(), Duration::from_secs(30));
    assert_eq!(bench.store.try_lock(&place, &token, long).await, LockAttempt::Locked);
    for _ in 0..50 {
        assert_ne!(bench.store.renew(&place, &token, long).await, Some(true));
    }
    assert_eq!(bench.count("noperm"), 50);
    assert!(bench.store.usable());
    assert_eq!(bench.store.status().write_breaker, BreakerState::Closed);
    bench.store.put(place.clone(), response("a"), NOW).await;
    assert_same(bench.store.get(&place, NOW).await, &response("a"), "reads and writes go on");
}

/// The workers of a process share what their calls may hold.
#[tokio::test]
async fn memory_is_bounded_by_bytes() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let (short, long) = (response(noise(1_000)), response(noise(1 << 20)));
    bench.store.put(key("long"), long.clone(), NOW).await;
    bench.store.put(key("short"), short.clone(), NOW).await;

    let others = bench.counters.reading.take(64 << 20).expect("nothing is under way");
    assert!(whole(&bench, &key("long"), NOW).await.is_none());
    assert_eq!(bench.count("saturated"), 1);
    assert_same(bench.store.get(&key("short"), NOW).await, &short, "a short body needs no putting together");
    drop(others);
    assert_same(whole(&bench, &key("long"), NOW).await, &long, "there is room again");

    let others = bench.counters.writing.take(63 << 20).expect("nothing is under way");
    bench.store.put(key("another"), long.clone(), NOW).await;
    assert_eq!(bench.count("saturated"), 2);
    assert!(bench.store.get(&key("another"), NOW).await.is_none());
    bench.store.put(key("another"), short.clone(), NOW).await;
    assert_same(bench.store.get(&key("another"), NOW).await, &short, "a short body fits");
    drop(others);
    bench.store.put(key("another"), long.clone(), NOW).await;
    assert_same(whole(&bench, &key("another"), NOW).await, &long, "there is room again");
    assert_eq!(bench.count("saturated"), 2);
}

/// Long writes to a Redis that hangs hold no more than the budget.
#[tokio::test]
async fn a_hang_while_long_bodies_are_written_is_bounded() {
    let server = RedisServer::running();
    let bench = Bench::up(&server).await;
    let record = response(noise(8 << 20));
    server.freeze();
    let writes: Vec<_> = (0..50)
        .map(|n| {
            let (store, record) = (Arc::clone(&bench.store), record.clone());
            tokio::spawn(async move { store.put(key(&n.to_string()), record, NOW).await })
        })
        .collect();
    until("all have begun or were turned away", || bench.count("saturated") == 43).await;
    assert!(bench.counters.writing.take(2 << 20).is_none());
    for write in writes {
        write.await.expect("no panic");
    }
    assert!(bench.counters.writing.take(64 << 20).is_some(), "all is given back");
    server.thaw();
    bench.usable().await;
}
