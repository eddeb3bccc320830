//! The fleet's lock (promise 9): what many proxies want at once, one fetches; whoever leads may die, fail, or
//! come back with what nobody may share.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use crate::redis::stored;
use crate::support::*;

/// Proxies of one fleet whose clients wait for each other for as long as it takes.
fn fleet(size: usize, config: &Config) -> Vec<Forebay> {
    let config = config.clone().defaults("collapse_timeout = \"25s\"");
    let fleet: Vec<Forebay> = (0..size).map(|_| config.clone().start()).collect();
    fleet.iter().for_each(|proxy| until("it reads the journal", || proxy.in_sync()));
    fleet
}

/// How often it has asked for a lock.
fn attempts(proxy: &Forebay) -> f64 {
    proxy.metric("forebay_redis_command_duration_seconds_count", &[("command", "lock")])
}

/// A client of each proxy asks: that of the first begins, and those of the others wait for what it fetches.
fn line_up(fleet: &[Forebay], origin: &Origin, target: &str) -> Vec<Client> {
    let ask = |proxy: &Forebay| {
        let mut client = proxy.connect();
        client.send(request("GET", target, ""));
        client
    };
    let before = origin.count(target);
    let mut clients = vec![ask(&fleet[0])];
    origin.wait_count(target, before + 1);
    for proxy in &fleet[1..] {
        let earlier = attempts(proxy);
        clients.push(ask(proxy));
        until("it has looked in vain", || attempts(proxy) >= earlier + 2.0);
    }
    clients
}

#[test]
fn one_fetch_for_the_fleet_cold_expired_and_purged() {
    let redis = Redis::start();
    let origin = Origin::start();
    let gates: Arc<Vec<Gate>> = Arc::new((0..5).map(|_| Gate::new()).collect());
    let held = Arc::clone(&gates);
    origin.on("/p", move |exchange| {
        let nth = exchange.nth();
        held[nth - 1].wait();
        let lifetime = if nth == 1 { "max-age=5" } else { "max-age=600" };
        let reply = Reply::ok(format!("v{nth}")).field("ETag", format!("\"{nth}\"")).field("Cache-Tag", "t");
        exchange.reply(&reply.cache(lifetime));
    });
    let config = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"30s\"");
    let fleet: Vec<Forebay> = (0..4).map(|_| config.clone().start()).collect();
    let addresses: Vec<_> = fleet.iter().map(|proxy| proxy.address).collect();
    let purged = |what: serde_json::Value| {
        let told = fleet[0].purge(&what);
        let sequence = told["sequence"].as_u64().expect("a number");
        for proxy in &fleet {
            until("it has heard", || proxy.ready()["journal"]["sequence"].as_u64() >= Some(sequence));
        }
    };
    for (nth, before) in
        ["cold", "expired", "purged hard", "purged softly", "everything purged"].iter().enumerate()
    {
        match nth {
            // Wherever it is held, it is stale by then.
            1 => pass(Duration::from_millis(5_300)),
            2 => purged(json!({ "tags": ["t"], "mode": "hard" })),
            3 => purged(json!({ "tags": ["t"], "mode": "soft" })),
            4 => purged(json!({ "all": true })),
            _ => {}
        }
        let answers = fan_out(
            &addresses,
            200,
            |_| request("GET", "/p", ""),
            || {
                origin.wait_count("/p", nth + 1);
                gates[nth].open();
            },
        );
        let bodies: HashSet<_> = answers.iter().map(|answer| (answer.status, answer.text())).collect();
        assert_eq!(bodies, HashSet::from([(200, format!("v{}", nth + 1))]), "{before}");
        assert_eq!(origin.count("/p"), nth + 1, "{before}");
    }
}

/// A renewal behind a stale answer is one for the fleet, however long it takes: nobody's patience runs out.
#[test]
fn a_slow_renewal_is_one_for_the_fleet() {
    let (redis, origin, gate) = (Redis::start(), Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        let nth = exchange.nth();
        if nth > 1 {
            held.wait();
        }
        let lifetime = if nth == 1 { "max-age=1, stale-while-revalidate=600" } else { "max-age=600" };
        exchange.reply(&Reply::ok(format!("version {nth}")).cache(lifetime));
    });
    let config = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"50ms\"");
    let fleet: Vec<Forebay> = (0..3).map(|_| config.clone().start()).collect();
    assert_eq!(fleet[0].get("/p").text(), "version 1");
    stored(&redis, "version 1");
    fleet[1..].iter().for_each(|proxy| assert_eq!(proxy.get("/p").text(), "version 1"));
    until("it is stale", || fleet.iter().all(|proxy| proxy.get("/p").x_cache() == "STALE"));
    origin.wait_count("/p", 2);
    until("the others have waited for longer than anybody would", || {
        fleet.iter().filter(|proxy| attempts(proxy) >= 7.0).count() == 2
    });
    assert_eq!(origin.count("/p"), 2, "one renews for all");
    gate.open();
    for proxy in &fleet {
        until("all have the new one", || proxy.get("/p").text() == "version 2");
    }
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn a_lock_that_was_granted_too_late_to_be_seen_is_held_all_the_same() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p/1", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok("one").cache("max-age=600"));
    });
    let relay = Relay::to(redis.address);
    let far = Config::new(&origin).redis_at(relay.address);
    let far = far.redis_line("read_timeout = \"50ms\"\nwrite_timeout = \"2s\"").start();
    let near = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"25s\"").start();
    until("both use Redis", || far.uses_redis() && near.uses_redis());
    // There and back in more than a read may take, and in less than a write may.
    relay.set(Fault::Delay(Duration::from_millis(40)));
    let mut leading = far.connect();
    leading.send(request("GET", "/p/1", ""));
    origin.wait_count("/p/1", 1);
    let mut waiting = near.connect();
    waiting.send(request("GET", "/p/1", ""));
    // It would have had the lock by now, had the other let go of it.
    let looks = || near.metric("forebay_cache_lookups_total", &[("tier", "redis"), ("result", "miss")]);
    until("it has looked in vain for half a second", || looks() >= 9.0);
    assert_eq!(origin.count("/p/1"), 1);
    gate.open();
    leading.answer().expect(200, "MISS", "one");
    waiting.answer().expect(200, "HIT", "one");
    assert_eq!(origin.count("/p/1"), 1);
}

#[test]
fn a_leader_that_is_killed_is_followed_by_another() {
    let (redis, origin, gate) = (Redis::start(), Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        if exchange.nth() == 1 {
            exchange.hang_up();
            return;
        }
        held.wait();
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=600"));
    });
    let config = Config::new(&origin).redis(&redis).redis_line("lock_ttl = \"4s\"\nwrite_timeout = \"2s\"");
    let mut fleet = fleet(3, &config);
    let clients = line_up(&fleet, &origin, "/p");
    drop(fleet.remove(0));
    // Its lock runs out, and one of those who waited takes it.
    origin.wait_count("/p", 2);
    gate.open();
    for mut client in clients.into_iter().skip(1) {
        let answer = client.answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, "v2"), "{}", answer.cache_status());
    }
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn a_leader_whose_client_is_gone_fetches_for_the_fleet() {
    let (redis, origin, gate) = (Redis::start(), Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=600"));
    });
    let fleet = fleet(3, &Config::new(&origin).redis(&redis));
    let mut clients = line_up(&fleet, &origin, "/p");
    clients.remove(0).reset();
    until("its proxy has seen it go", || fleet[0].metric("forebay_connections", &[]) < 1.0);
    gate.open();
    for client in &mut clients {
        client.answer().expect(200, "HIT", "v1");
    }
    assert_eq!(origin.count("/p"), 1);
}

/// One after another they would wait for as many time-outs as there are proxies.
#[test]
fn nobody_lines_up_for_an_origin_that_does_not_answer() {
    let (redis, origin, others) = (Redis::start(), Origin::start(), Meeting::of(3));
    origin.on("/p", move |exchange| {
        if exchange.nth() == 1 {
            exchange.hang_up();
            return;
        }
        others.arrive();
        exchange.reply(&Reply::ok("here").cache("max-age=600"));
    });
    let config = Config::new(&origin).redis(&redis).upstream("first_byte_timeout = \"10s\"");
    let fleet = fleet(4, &config);
    let mut answers = line_up(&fleet, &origin, "/p").into_iter().map(|mut client| client.answer());
    let first = answers.next().expect("four clients");
    assert_eq!(first.status, 504, "{}", first.cache_status());
    // It failed one proxy: that is no answer for the others, who ask all at once.
    answers.for_each(|answer| answer.expect(200, "MISS", "here"));
    assert_eq!(origin.count("/p"), 4);
}

#[test]
fn nobody_lines_up_for_what_everybody_must_ask_for() {
    let (redis, origin, gate, others) = (Redis::start(), Origin::start(), Gate::new(), Meeting::of(3));
    let held = gate.clone();
    // It is stored, so no marker stands in its place; and each must have it confirmed.
    origin.on("/p", move |exchange| {
        if exchange.nth() == 1 {
            held.wait()
        } else {
            others.arrive()
        }
        exchange.reply(&Reply::ok("here").field("ETag", "\"1\"").cache("no-cache"));
    });
    let fleet = fleet(4, &Config::new(&origin).redis(&redis));
    let clients = line_up(&fleet, &origin, "/p");
    gate.open();
    for mut client in clients {
        client.answer().expect(200, "MISS", "here");
    }
    assert_eq!(origin.count("/p"), 4);
}
