//! One cache for the whole fleet (promises 9, 14 to 19): what one proxy is told, all obey; what all want,
//! one fetches; who is cut off, stops by itself.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// `/p/N` answers `v1`, `v2`, … with a validator and the tag `t`.
fn origin() -> Origin {
    let origin = Origin::start();
    origin.on("/p/*", |exchange| {
        let etag = format!("\"e{}\"", exchange.nth());
        let reply = Reply::ok(format!("v{}", exchange.nth())).field("ETag", &etag).field("Cache-Tag", "t");
        exchange.reply(&reply.cache("max-age=600"));
    });
    origin
}

fn in_sync(proxy: &Forebay) -> bool {
    ready(proxy)["journal"]["in_sync"] == true
}

fn ready(proxy: &Forebay) -> serde_json::Value {
    let ready = get(proxy.admin, "/ready", "Connection: close\r\n").text();
    serde_json::from_str(&ready).expect("JSON")
}

/// Each has it in its memory.
fn warmed(proxies: &[Forebay], target: &str, version: &str) {
    for proxy in proxies {
        until("it is in memory", || {
            let answer = proxy.get(target);
            assert_eq!(answer.text(), version, "{}", answer.cache_status());
            answer.cache_status().contains("hit") && answer.cache_status().contains("detail=memory")
        });
    }
}

#[test]
fn every_proxy_obeys_a_purge_that_one_was_told() {
    let (origin, redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis);
    let fleet: Vec<Forebay> = (0..4).map(|_| config.clone().start()).collect();
    let url = "http://shop.example/p/1";
    let mut version = 1;
    fleet[0].get("/p/1").expect(200, "MISS", "v1");
    let mut took = Vec::new();
    for round in 0..10 {
        for what in [
            json!({ "urls": [url] }),
            json!({ "tags": ["t"], "mode": "hard" }),
            json!({ "prefixes": ["/p/"], "mode": "hard" }),
            json!({ "prefixes": ["http://shop.example/p"], "mode": "hard" }),
            json!({ "hosts": ["shop.example"], "mode": "hard" }),
            json!({ "all": true }),
        ] {
            warmed(&fleet, "/p/1", &format!("v{version}"));
            let told = fleet[round % 4].purge(&what);
            let acknowledged = ::forebay::clock::monotonic();
            assert!(told["scope"] == "fleet" && told["sequence"].is_u64() && told["matched"] == 1, "{told}");
            version += 1;
            for proxy in &fleet {
                until("it obeys", || proxy.get("/p/1").text() == format!("v{version}"));
                took.push(acknowledged.elapsed());
            }
            assert_eq!(origin.count("/p/1"), version, "one fetch for the fleet after {what}");
        }
    }
    took.sort_unstable();
    let p99 = took[took.len() * 99 / 100];
    println!(
        "acknowledged to obeyed, with the fetch: p50 {:?}, p99 {p99:?} of {}",
        took[took.len() / 2],
        took.len()
    );
    // What concerns none of it changes nothing.
    for what in
        [json!({ "tags": ["u"] }), json!({ "prefixes": ["/q"] }), json!({ "hosts": ["other.example"] })]
    {
        assert_eq!(fleet[0].purge(&what)["matched"], 0, "{what}");
    }
    warmed(&fleet, "/p/1", &format!("v{version}"));
    assert_eq!(origin.count("/p/1"), version);
}

#[test]
fn an_unsafe_method_through_one_ends_what_all_hold() {
    let (origin, redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis);
    let fleet: Vec<Forebay> = (0..3).map(|_| config.clone().start()).collect();
    fleet[0].get("/p/1");
    warmed(&fleet, "/p/1", "v1");
    assert_eq!(fleet[2].request("POST", "/p/1", "Content-Length: 0\r\n").text(), "v2");
    for proxy in &fleet {
        until("it obeys", || proxy.get("/p/1").text() == "v3");
    }
    assert_eq!(origin.count("/p/1"), 3);
    // What nobody has cached is no news for the fleet.
    let entries = |redis: &Redis| redis.command(&["XLEN", "forebay:{journal}:log"]).integer();
    let before = entries(&redis);
    for n in 0..20 {
        fleet[0].request("POST", &format!("/p/unknown-{n}"), "Content-Length: 0\r\n");
    }
    assert_eq!(entries(&redis), before);
}

#[test]
fn nothing_that_was_purged_keeps_the_next_purge_from_being_told() {
    let (origin, redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis);
    let proxy = Forebay::run(&config.text().replace("path = \"/{*rest}\"", "path = \"/p/{*rest}\""));
    until("it reads the journal", || in_sync(&proxy));
    // Nothing can be stored under a URL that no route has: there is nothing to tell, and nothing went wrong.
    let told = proxy.purge(&json!({ "urls": ["http://shop.example/elsewhere"] }));
    assert_eq!((&told["scope"], &told["sequence"]), (&json!("fleet"), &json!(null)));
    let prefixes: Vec<String> = (0..700).map(|n| format!("/p/{n}/")).collect();
    for mode in ["soft", "hard", "soft"] {
        assert_eq!(proxy.purge(&json!({ "prefixes": prefixes, "mode": mode }))["scope"], "fleet", "{mode}");
    }
    for (what, status) in [
        (json!({ "prefixes": (700..1_000).map(|n| format!("/p/{n}/")).collect::<Vec<_>>() }), 200),
        (json!({ "prefixes": ["/one/more"] }), 400),
        (json!({ "prefixes": prefixes }), 200),
        (json!({ "tags": ["t"] }), 200),
    ] {
        assert_eq!(proxy.post("/purge", &what).status, status);
    }
    assert_eq!(ready(&proxy)["journal"]["untold"], 0);
}

/// Nobody can name the records that lie under other values of what the key counts in: the fleet is told.
#[test]
fn an_unsafe_method_ends_what_lies_under_other_values_of_fields_and_cookies() {
    let (origin, redis) = (origin(), Redis::start());
    let keyed = "cookies = \"ignore\"\nkey = { headers = [\"x-language\"], cookies = [\"currency\"] }";
    let config = Config::new(&origin).redis(&redis).route("/p/{id}", keyed);
    let (one, two) = (config.clone().start(), config.start());
    for lines in ["X-Language: de\r\n", "Cookie: currency=EUR\r\n"] {
        let before = one.get_with("/p/1", lines).text();
        assert_eq!(one.get_with("/p/1", lines).x_cache(), "HIT");
        two.request("POST", "/p/1", "X-Language: fr\r\nContent-Length: 0\r\n");
        until("it obeys", || one.get_with("/p/1", lines).text() != before);
    }
}

/// RFC 9110 4.2.3: the case of a host, a default port and needless percent-encodings make no other URL, so
/// that neither a purge nor an unsafe method leaves the answer to another spelling behind.
#[test]
fn a_url_ends_in_all_its_spellings() {
    let (origin, redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis);
    let (one, two) = (config.clone().start(), config.start());
    let get = |proxy: &Forebay, (host, target): (&str, &str)| {
        proxy.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
    };
    let spellings = [
        ("shop.example", "/p/caf%C3%A9"),
        ("SHOP.Example", "/p/caf%c3%a9"),
        ("shop.example:80", "/p/%63af%C3%A9"),
    ];
    for what in [
        json!({ "urls": ["http://shop.example/p/caf%C3%A9"] }),
        json!({ "urls": ["HTTP://shop.EXAMPLE:80/p/caf%c3%a9"] }),
        json!({ "urls": ["https://shop.example:443/p/c%61f%C3%A9"] }),
        json!({ "prefixes": ["http://Shop.example:80/"], "mode": "hard" }),
        json!("POST"),
    ] {
        let before = spellings.map(|spelt| {
            until("both have it in memory", || {
                get(&one, spelt).x_cache() == "HIT"
                    && get(&two, spelt).cache_status().contains("detail=memory")
            });
            get(&two, spelt).text()
        });
        get(&one, ("shop.example:8080", "/p/1"));
        match what.as_str() {
            Some(method) => {
                let host = "Host: Shop.Example:80\r\nContent-Length: 0";
                two.send(format!("{method} /p/caf%c3%A9 HTTP/1.1\r\n{host}\r\n\r\n"));
            }
            None => assert_eq!(one.purge(&what)["matched"], 3, "{what}"),
        }
        for (spelt, before) in spellings.into_iter().zip(before) {
            until("both obey", || get(&one, spelt).text() != before && get(&two, spelt).text() != before);
        }
        assert_eq!(get(&one, ("shop.example:8080", "/p/1")).x_cache(), "HIT", "another origin's");
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
        exchange.reply(&Reply::ok(format!("v{nth}")).cache(lifetime));
    });
    let config = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"50ms\"");
    let fleet: Vec<Forebay> = (0..3).map(|_| config.clone().start()).collect();
    fleet.iter().for_each(|proxy| assert_eq!(proxy.get("/p").text(), "v1"));
    until("it is stale", || fleet.iter().all(|proxy| proxy.get("/p").x_cache() == "STALE"));
    origin.wait_count("/p", 2);
    let attempts = |proxy: &Forebay| {
        proxy.metric("forebay_redis_command_duration_seconds_count", &[("command", "lock")])
    };
    until("the others have waited for longer than anybody would", || {
        fleet.iter().filter(|proxy| attempts(proxy) >= 7.0).count() == 2
    });
    assert_eq!(origin.count("/p"), 2, "one renews for all");
    gate.open();
    for proxy in &fleet {
        until("all have the new one", || proxy.get("/p").text() == "v2");
    }
    assert_eq!(origin.count("/p"), 2);
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
        let lifetime = if nth == 1 { "max-age=1" } else { "max-age=600" };
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
            until("it has heard", || ready(proxy)["journal"]["sequence"].as_u64() >= Some(sequence));
        }
    };
    for (nth, before) in
        ["cold", "expired", "purged hard", "purged softly", "everything purged"].iter().enumerate()
    {
        match nth {
            // Wherever it is held, it is stale by then.
            1 => pass(Duration::from_millis(1_300)),
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

#[test]
fn a_purge_that_the_fleet_cannot_be_told_says_so_holds_here_and_is_told_later() {
    let (origin, mut redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis).redis_line("purge_grace = \"1h\"");
    let fleet: Vec<Forebay> = (0..2).map(|_| config.clone().start()).collect();
    fleet[0].get("/p/1");
    warmed(&fleet, "/p/1", "v1");
    redis.kill();
    until("it is noticed", || !in_sync(&fleet[0]) && !in_sync(&fleet[1]));
    let answer = send(
        fleet[0].admin,
        "POST /purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 36\r\nConnection: close\r\n\r\n{\"urls\":[\"http://shop.example/p/1\"]}",
    );
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("untold"), "{}", answer.text());
    assert_eq!(fleet[0].get("/p/1").text(), "v2", "it holds here");
    assert_eq!(fleet[1].get("/p/1").text(), "v1", "the other cannot know");
    redis.restart();
    until("it was told", || ready(&fleet[0])["journal"]["untold"] == 0 && in_sync(&fleet[0]));
    until("the other obeys", || fleet[1].get("/p/1").text() != "v1");
}

#[test]
fn a_proxy_that_is_cut_off_asks_the_origin_after_its_grace() {
    let (origin, redis) = (origin(), Redis::start());
    let relay = Relay::to(redis.address);
    let config = Config::new(&origin).redis_at(relay.address).redis_line("purge_grace = \"0s\"");
    let (cut, other) = (config.start(), Config::new(&origin).redis(&redis).start());
    until("both read", || in_sync(&cut) && in_sync(&other));
    cut.get("/p/1");
    until("it is in memory", || cut.get("/p/1").cache_status().contains("detail=memory"));
    relay.set(Fault::Blackhole);
    until("it is noticed", || !in_sync(&cut));
    assert_eq!(other.purge(&json!({ "urls": ["http://shop.example/p/1"] }))["scope"], "fleet");
    let answer = cut.get("/p/1");
    assert_eq!(answer.text(), "v2", "{}", answer.cache_status());
    assert!(answer.cache_status().contains("detail=purges-unknown"), "{}", answer.cache_status());
    relay.set(Fault::None);
    until("it reads again", || in_sync(&cut));
    until("hits are hits", || cut.get("/p/1").cache_status().contains("detail=memory"));
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
    let far = Config::new(&origin).redis_at(relay.address).contract_budgets().start();
    let near = Config::new(&origin).redis(&redis).start();
    until("both read", || in_sync(&far) && in_sync(&near));
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
fn a_soft_purge_of_what_is_hot_makes_nobody_wait_and_spares_the_origin() {
    const HOT: usize = 300;
    let redis = Redis::start();
    let origin = Origin::start();
    let (busy, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&busy), Arc::clone(&most));
    origin.on("/p/*", move |exchange| {
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        pass(Duration::from_millis(2));
        let reply = Reply::ok(format!("v{}", exchange.nth())).field("Cache-Tag", "t");
        exchange.reply(&reply.cache("max-age=600, stale-while-revalidate=600"));
        now.fetch_sub(1, SeqCst);
    });
    let proxy = Config::new(&origin).redis(&redis).upstream("max_connections = 4").start();
    for n in 0..HOT {
        proxy.get(&format!("/p/{n}")).expect(200, "MISS", "v1");
    }
    most.store(0, SeqCst);
    assert_eq!(proxy.purge(&json!({ "tags": ["t"] }))["matched"], HOT);
    let answers =
        fan_out(&[proxy.address], 2 * HOT, |n| request("GET", &format!("/p/{}", n % HOT), ""), || {});
    for answer in &answers {
        assert!(["STALE", "HIT"].contains(&answer.x_cache()), "{}", answer.cache_status());
    }
    // Who found no room at the origin is renewed by a later visit.
    until("all are renewed", || {
        let renewed = |target: &str| origin.count(target) == 2 || proxy.get(target).x_cache().is_empty();
        (0..HOT).all(|n| renewed(&format!("/p/{n}")))
    });
    // Each of the two workers has connections of its own.
    assert!(most.load(SeqCst) <= 8, "{} at once", most.load(SeqCst));
}
