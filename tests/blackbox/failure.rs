//! A cache failure is never a user's failure: Redis dead, hung, full, slow, cut off or not Redis at all.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::*;

/// Clients that never stop asking, over many keys; every answer must be the right one and come soon.
struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Duration>>,
}

impl Load {
    fn on(addresses: &[SocketAddr]) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let threads = (0..8).map(|thread| {
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            let address = addresses[thread % addresses.len()];
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread as u64);
                let (mut slowest, mut client) = (Duration::ZERO, Client::to(address));
                while !stop.load(Ordering::Acquire) {
                    let target = format!("/load/{}", random.u32(0..200));
                    let began = ::forebay::clock::monotonic();
                    client.send(request("GET", &target, ""));
                    let answer = client.answer();
                    slowest = slowest.max(::forebay::clock::monotonic() - began);
                    assert_eq!((answer.status, answer.text()), (200, format!("content of {target}")));
                    assert!(answer.is_complete());
                    answered.fetch_add(1, Ordering::AcqRel);
                    // A steady load, not all that the machine can do.
                    pass(Duration::from_millis(2));
                }
                slowest
            })
        });
        let threads = threads.collect();
        Self { stop, answered, threads }
    }

    /// Returns once this many more requests were answered.
    #[track_caller]
    fn more(&self, count: usize) {
        let target = self.answered.load(Ordering::Acquire) + count;
        until("the load goes on", || {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a client failed");
            self.answered.load(Ordering::Acquire) >= target
        });
    }

    /// Ends it; the slowest answer of all.
    #[track_caller]
    fn stop(self) -> Duration {
        self.stop.store(true, Ordering::Release);
        let slowest = self.threads.into_iter().map(|thread| thread.join().expect("every answer was right"));
        slowest.max().unwrap_or_default()
    }
}

/// An origin that says nothing on freshness, so that the route's short life holds and Redis and the
/// origin are asked all the time.
fn origin() -> Origin {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let body = format!("content of {}", exchange.target());
        exchange.reply(&Reply::ok(body));
    });
    // What is looked for in Redis is still there when a busy machine comes to it.
    origin.on("/again/*", |exchange| {
        exchange.reply(&Reply::ok(format!("content of {}", exchange.target())).cache("max-age=60"));
    });
    origin
}

fn config(origin: &Origin) -> Config {
    Config::new(origin).without_memory().defaults("ttl = \"300ms\"")
}

/// What one proxy fetched reaches the other through Redis (again), and nobody was restarted.
#[track_caller]
fn shared_again(origin: &Origin, one: &Forebay, two: &Forebay) {
    let (from, mut n) = (origin.seen().len(), 0);
    until("the fleet shares through Redis", || {
        n += 1;
        let target = format!("/again/{from}/{n}");
        assert_eq!(one.get(&target).status, 200);
        // Records are written off the request's path: one that comes too late for us is no failure.
        pass(Duration::from_millis(20 * n.min(15)));
        let answer = two.get(&target);
        assert_eq!((answer.status, answer.text()), (200, format!("content of {target}")));
        answer.cache_status().contains("detail=redis") && origin.count(&target) == 1
    });
}

/// No answer takes longer than this because of Redis. Generous: machines that test are busy.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn redis_hangs_under_load_and_returns() {
    let (origin, redis) = (origin(), Redis::start());
    let config = config(&origin).redis(&redis).contract_budgets();
    let (one, two) = (config.clone().start(), config.start());
    shared_again(&origin, &one, &two);
    let load = Load::on(&[one.address, two.address]);
    load.more(300);
    redis.pause();
    load.more(300);
    assert_eq!(get(one.admin, "/ready", "").status, 200, "requests are still served");
    until("its time-outs are counted", || one.metric("forebay_redis_errors_total", &[]) > 0.0);
    redis.resume();
    load.more(300);
    shared_again(&origin, &one, &two);
    let slowest = load.stop();
    assert!(slowest < SOON, "an answer took {slowest:?}");
}

#[test]
fn redis_dies_under_load_and_returns_empty() {
    let (origin, mut redis) = (origin(), Redis::start());
    let config = config(&origin).redis(&redis).contract_budgets();
    let (one, two) = (config.clone().start(), config.start());
    shared_again(&origin, &one, &two);
    let load = Load::on(&[one.address, two.address]);
    load.more(300);
    for _ in 0..2 {
        redis.kill();
        load.more(300);
        assert_eq!(get(one.admin, "/ready", "").status, 200);
        redis.restart();
        load.more(300);
        shared_again(&origin, &one, &two);
    }
    let slowest = load.stop();
    assert!(slowest < SOON, "an answer took {slowest:?}");
}

#[test]
fn a_hang_with_large_writes_in_flight_wedges_nothing() {
    let (origin, redis) = (origin(), Redis::start());
    origin.on("/big/*", |exchange| exchange.reply(&Reply::ok(noise(3, 200_000)).cache("max-age=60")));
    let config = config(&origin).redis(&redis).contract_budgets();
    let (one, two) = (config.clone().start(), config.start());
    shared_again(&origin, &one, &two);
    redis.pause();
    // Far more than the socket buffers between the two take.
    for n in 0..100 {
        assert!(one.get(&format!("/big/{n}")).body == noise(3, 200_000));
    }
    assert!(one.resident() < 300 << 20, "what waits for Redis is bounded: {} bytes", one.resident());
    redis.resume();
    shared_again(&origin, &one, &two);
}

#[test]
fn forebay_starts_without_redis_and_finds_it_later() {
    let (origin, mut redis) = (origin(), Redis::absent());
    let config = config(&origin).redis_at(redis.address);
    let (one, two) = (config.clone().start(), config.start());
    for n in 0..50 {
        let target = format!("/cold/{n}");
        assert_eq!(one.get(&target).text(), format!("content of {target}"));
    }
    redis.restart();
    shared_again(&origin, &one, &two);
}

#[test]
fn forebay_starts_with_redis_hanging() {
    let (origin, redis) = (origin(), Redis::start());
    redis.pause();
    let config = config(&origin).redis_at(redis.address);
    let (one, two) = (config.clone().start(), config.start());
    for n in 0..20 {
        let target = format!("/cold/{n}");
        assert_eq!(one.get(&target).text(), format!("content of {target}"));
    }
    redis.resume();
    shared_again(&origin, &one, &two);
}

#[test]
fn the_memory_tier_and_collapsing_go_on_without_redis() {
    let (origin, mut redis) = (Origin::start(), Redis::start());
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok("content").cache("max-age=60"));
    });
    let proxy =
        Config::new(&origin).redis(&redis).contract_budgets().defaults("collapse_timeout = \"30s\"").start();
    redis.kill();
    let answers = fan_out(
        &[proxy.address],
        100,
        |_| request("GET", "/p", ""),
        || {
            origin.wait_count("/p", 1);
            gate.open();
        },
    );
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == "content"));
    proxy.get("/p").expect(200, "HIT", "content");
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn a_redis_that_refuses_to_write_is_no_failure() {
    let (origin, redis) = (origin(), Redis::start());
    let config = config(&origin).redis(&redis).contract_budgets();
    let (one, two) = (config.clone().start(), config.start());
    shared_again(&origin, &one, &two);
    for (break_it, mend_it) in [
        (["CONFIG", "SET", "maxmemory", "1"].as_slice(), ["CONFIG", "SET", "maxmemory", "0"].as_slice()),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
        (&["CONFIG", "SET", "min-replicas-to-write", "1"], &["CONFIG", "SET", "min-replicas-to-write", "0"]),
    ] {
        redis.command(break_it);
        for n in 0..60 {
            let target = format!("/{}/{n}", break_it[0]);
            assert_eq!(one.get(&target).text(), format!("content of {target}"), "{break_it:?}");
        }
        redis.command(mend_it);
        shared_again(&origin, &one, &two);
    }
}

#[test]
fn a_redis_that_throws_everybody_out_is_no_failure() {
    let (origin, redis) = (origin(), Redis::start());
    let config = config(&origin).redis(&redis).contract_budgets();
    let (one, two) = (config.clone().start(), config.start());
    let load = Load::on(&[one.address, two.address]);
    for _ in 0..20 {
        load.more(50);
        redis.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    assert!(load.stop() < SOON);
    shared_again(&origin, &one, &two);
}

#[test]
fn a_password_that_appears_overnight_is_no_failure() {
    let (origin, redis) = (origin(), Redis::start());
    let proxy = config(&origin).redis(&redis).contract_budgets().start();
    let mut operator = Resp::to(redis.address).unwrap();
    operator.command(&["CONFIG", "SET", "requirepass", "secret"]).unwrap();
    operator.command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
    for n in 0..60 {
        let target = format!("/{n}");
        assert_eq!(proxy.get(&target).text(), format!("content of {target}"));
    }
}

#[test]
fn a_network_that_delays_swallows_or_resets_is_no_failure() {
    let (origin, redis) = (origin(), Redis::start());
    let relay = Relay::to(redis.address);
    let config = config(&origin).redis_at(relay.address);
    let (one, two) = (config.clone().start(), config.start());
    shared_again(&origin, &one, &two);
    let load = Load::on(&[one.address, two.address]);
    for fault in [Fault::Delay(Duration::from_millis(200)), Fault::Blackhole, Fault::Reset] {
        relay.set(fault);
        load.more(500);
        relay.set(Fault::None);
        load.more(100);
        shared_again(&origin, &one, &two);
    }
    let slowest = load.stop();
    assert!(slowest < SOON, "an answer took {slowest:?}");
}

#[test]
fn something_else_listening_where_redis_should_be_is_no_failure() {
    for words in [
        b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice(),
        b"-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n",
        b"+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n+OK\r\n",
        b"$999999999999\r\n",
        b"*999999999\r\n*999999999\r\n",
        b"\0\xff\xfe\x80garbage",
        b"",
    ] {
        let origin = origin();
        let proxy = config(&origin).redis_at(impostor(words)).start();
        let before = proxy.resident();
        for n in 0..40 {
            let target = format!("/{n}");
            assert_eq!(proxy.get(&target).text(), format!("content of {target}"), "{words:?}");
        }
        let growth = proxy.resident().saturating_sub(before);
        assert!(growth < 64 << 20, "{growth} bytes for {words:?}");
    }
}

/// Accepts every connection, says these bytes, and closes when it said nothing.
fn impostor(words: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(words);
            if !words.is_empty() {
                kept.push(stream);
            }
        }
    });
    address
}

#[test]
fn what_was_purged_while_the_origin_failed_does_not_stand_in() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| match (exchange.method(), exchange.nth()) {
        ("POST", _) => {
            exchange.body();
            exchange.reply(&Reply::ok("changed"));
        }
        (_, 1) => {
            exchange.reply(&Reply::ok("old").cache("max-age=0, stale-if-error=60").field("ETag", "\"1\""))
        }
        _ => {
            held.wait();
            exchange.reply(&Reply::new(503));
        }
    });
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "old");
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    origin.wait_count("/p", 2);
    assert_eq!(proxy.request("POST", "/p", "Content-Length: 0\r\n").status, 200);
    gate.open();
    let answer = client.answer();
    assert!(answer.status >= 500, "{} {}", answer.status, answer.text());
}

#[test]
fn an_origin_that_fails_a_head_is_left_alone_for_a_while() {
    for fails in [
        |exchange: &mut Exchange| exchange.reply(&Reply::new(503)),
        |exchange: &mut Exchange| exchange.close(),
    ] {
        let origin = Origin::start();
        origin.on("/p", move |exchange| match exchange.nth() {
            1 => {
                exchange.reply(&Reply::ok("old").cache("max-age=0, stale-if-error=60").field("ETag", "\"1\""))
            }
            _ => fails(exchange),
        });
        let proxy = Config::new(&origin).start();
        proxy.get("/p").expect(200, "MISS", "old");
        for _ in 0..10 {
            let answer = proxy.request("HEAD", "/p", "");
            assert_eq!((answer.status, answer.x_cache()), (200, "STALE"));
        }
        // One a second at most, and ten take nowhere near that long.
        let asked = origin.count("/p");
        assert!((2..8).contains(&asked), "asked {asked} times");
    }
}
