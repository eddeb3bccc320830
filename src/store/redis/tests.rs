//! The tier against real servers that come, go, hang, fill up and lie.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use super::testing::{RedisServer, until};
use super::*;
use crate::caching::vary::VariantHash;

struct Unobserved;

impl CommandObserver for Unobserved {
    fn observe(&self, _: &'static str, _: Duration) {}
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
        let mut settings = Settings {
            server: Server::Tcp { host: "127.0.0.1".to_owned(), port: server.port, tls: false },
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
        };
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

fn key(text: &str) -> StoreKey {
    StoreKey {
        primary: xxhash_rust::xxh3::xxh3_128(text.as_bytes()),
        variant: None,
        text: Bytes::copy_from_slice(text.as_bytes()),
    }
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

    assert!(!store.renew(&place, &theirs, Duration::from_secs(60)).await);
    assert!(server.ttl(&name) <= 30_000);
    assert!(store.renew(&place, &ours, Duration::from_secs(60)).await);
    assert!(server.ttl(&name) > 30_000);

    store.unlock(&place, &theirs).await;
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Held);
    store.unlock(&place, &ours).await;
    assert!(!store.renew(&place, &ours, long).await);
    assert_eq!(store.try_lock(&place, &theirs, long).await, LockAttempt::Locked);

    // Redis forgets its scripts: they are sent again.
    server.command(&["SCRIPT", "FLUSH"]);
    store.unlock(&place, &theirs).await;
    assert_eq!(store.try_lock(&place, &ours, Duration::from_millis(1)).await, LockAttempt::Locked);
    until("the lock expires", || server.ttl(&name) == -2).await;
    assert!(!store.renew(&place, &ours, long).await);
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
        assert!(!bench.store.renew(&place, &token, Duration::from_secs(9)).await);
        bench.store.unlock(&place, &token).await;
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
    assert!(bench.count("io") > 0, "{:?}", bench.counters.errors());
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
