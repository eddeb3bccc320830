//! One cache for the whole fleet (promises 9, 14 to 19): what one proxy is told, all obey; what all want,
//! one fetches; who is cut off, stops by itself.

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
            until("it has read it back", || {
                fleet[round % 4].ready()["journal"]["sequence"].as_u64() >= told["sequence"].as_u64()
            });
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
    until("it reads the journal", || proxy.in_sync());
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
    assert_eq!(proxy.ready()["journal"]["untold"], 0);
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

#[test]
fn a_purge_that_the_fleet_cannot_be_told_says_so_holds_here_and_is_told_later() {
    let (origin, mut redis) = (origin(), Redis::start());
    let config = Config::new(&origin).redis(&redis).redis_line("purge_grace = \"1h\"");
    let fleet: Vec<Forebay> = (0..2).map(|_| config.clone().start()).collect();
    fleet[0].get("/p/1");
    warmed(&fleet, "/p/1", "v1");
    redis.kill();
    until("it is noticed", || !fleet[0].in_sync() && !fleet[1].in_sync());
    let answer = send(
        fleet[0].admin,
        "POST /purge HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 36\r\nConnection: close\r\n\r\n{\"urls\":[\"http://shop.example/p/1\"]}",
    );
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("untold"), "{}", answer.text());
    assert_eq!(fleet[0].get("/p/1").text(), "v2", "it holds here");
    assert_eq!(fleet[1].get("/p/1").text(), "v1", "the other cannot know");
    redis.restart();
    until("it was told", || fleet[0].ready()["journal"]["untold"] == 0 && fleet[0].in_sync());
    until("the other obeys", || fleet[1].get("/p/1").text() != "v1");
}

#[test]
fn a_proxy_that_is_cut_off_asks_the_origin_after_its_grace() {
    let (origin, redis) = (origin(), Redis::start());
    let relay = Relay::to(redis.address);
    let config = Config::new(&origin).redis_at(relay.address).redis_line("purge_grace = \"0s\"");
    let (cut, other) = (config.start(), Config::new(&origin).redis(&redis).start());
    until("both read", || cut.in_sync() && other.in_sync());
    cut.get("/p/1");
    until("it is in memory", || cut.get("/p/1").cache_status().contains("detail=memory"));
    let old = cut.get("/p/1").text();
    relay.set(Fault::Blackhole);
    until("it is noticed", || !cut.in_sync());
    assert_eq!(other.purge(&json!({ "urls": ["http://shop.example/p/1"] }))["scope"], "fleet");
    let answer = cut.get("/p/1");
    assert_ne!(answer.text(), old, "{}", answer.cache_status());
    assert!(answer.cache_status().contains("detail=purges-unknown"), "{}", answer.cache_status());
    relay.set(Fault::None);
    until("it reads again", || cut.in_sync());
    until("hits are hits", || cut.get("/p/1").cache_status().contains("detail=memory"));
}

#[test]
fn a_soft_purge_of_what_is_hot_makes_nobody_wait_and_spares_the_origin() {
    const HOT: usize = 1_000;
    const CLIENTS: usize = 8;
    let (redis, origin) = (Redis::start(), Origin::start());
    let fetches: Arc<Vec<AtomicUsize>> = Arc::new((0..HOT).map(|_| AtomicUsize::new(0)).collect());
    let (busy, most) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)));
    let (counted, peak) = (Arc::clone(&fetches), Arc::clone(&most));
    origin.on("/p/*", move |exchange| {
        peak.fetch_max(busy.fetch_add(1, SeqCst) + 1, SeqCst);
        pass(Duration::from_millis(1));
        let number: usize = exchange.target().trim_start_matches("/p/").parse().expect("a number");
        counted[number].fetch_add(1, SeqCst);
        let reply = Reply::ok("hot").field("Cache-Tag", "t");
        busy.fetch_sub(1, SeqCst);
        exchange.reply(&reply.cache("max-age=600, stale-while-revalidate=600"));
    });
    let proxy = Config::new(&origin).redis(&redis).upstream("max_connections = 4").start();
    // All that were fetched so often, by clients that keep their connections.
    let visit = |times_fetched: usize, expected: &[&str]| {
        std::thread::scope(|scope| {
            for first in 0..CLIENTS {
                let (mut client, fetches) = (proxy.connect(), &fetches);
                scope.spawn(move || {
                    let fetched = |n: &usize| fetches[*n].load(SeqCst) == times_fetched;
                    for n in (first..HOT).step_by(CLIENTS).filter(fetched) {
                        client.send(request("GET", &format!("/p/{n}"), ""));
                        let answer = client.answer();
                        assert!(expected.contains(&answer.x_cache()), "/p/{n}: {}", answer.cache_status());
                    }
                });
            }
        });
    };
    visit(0, &["MISS"]);
    most.store(0, SeqCst);
    assert_eq!(proxy.purge(&json!({ "tags": ["t"] }))["matched"], HOT);
    // Who found no room at the origin is renewed by a later visit.
    until("all are renewed", || {
        visit(1, &["STALE", "HIT"]);
        fetches.iter().all(|fetches| fetches.load(SeqCst) > 1)
    });
    assert!(fetches.iter().all(|fetches| fetches.load(SeqCst) == 2), "each is renewed once");
    // Half of the connections.
    assert!(most.load(SeqCst) <= 2, "{} at once", most.load(SeqCst));
}
