//! Two proxies and one Redis: what one fetched, the other has.

use std::collections::HashSet;

use crate::long_bodies::at_rest;
use crate::support::*;

/// Waits until Redis holds this content in plain sight: records are written off the request's path.
#[track_caller]
pub(crate) fn stored(redis: &Redis, content: &str) {
    until(&format!("Redis holds {content:?}"), || {
        let needle = content.as_bytes();
        redis.strings().values().any(|value| value.windows(needle.len()).any(|window| window == needle))
    });
}

#[test]
fn the_second_proxys_first_answer_comes_from_redis() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let tag = Reply::ok("shared content").field("ETag", "\"1\"").field("X-List", "a").field("X-List", "b");
    origin.reply("/p", tag.cache("max-age=60"));
    let one = Config::new(&origin).redis(&redis).start();
    let two = Config::new(&origin).redis(&redis).start();
    let first = one.get("/p");
    first.expect(200, "MISS", "shared content");
    stored(&redis, "shared content");
    let second = two.get("/p");
    second.expect(200, "HIT", "shared content");
    assert!(second.cache_status().contains("detail=redis"), "{}", second.cache_status());
    for name in ["date", "etag", "cache-control", "x-list"] {
        assert_eq!(second.head.all(name), first.head.all(name), "{name}");
    }
    assert!(second.age().is_some());
    let third = two.get("/p");
    third.expect(200, "HIT", "shared content");
    assert!(third.cache_status().contains("detail=memory"), "filled back: {}", third.cache_status());
    assert_eq!(origin.count("/p"), 1);
    assert_eq!(two.metric("forebay_cache_lookups_total", &[("tier", "redis"), ("result", "hit")]), 1.0);
}

#[test]
fn a_thousand_cold_clients_on_two_proxies_cost_one_fetch() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60"));
    });
    let config = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"30s\"");
    let (one, two) = (config.clone().start(), config.start());
    let answers = fan_out(
        &[one.address, two.address],
        1000,
        |_| request("GET", "/p", ""),
        || {
            origin.wait_count("/p", 1);
            gate.open();
        },
    );
    let bodies: HashSet<_> = answers.iter().map(|answer| (answer.status, answer.text())).collect();
    assert_eq!(bodies, HashSet::from([(200, "v1".to_owned())]));
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn every_size_comes_back_byte_for_byte_through_redis_alone() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/*", |exchange| {
        let words: Vec<&str> = exchange.target()[1..].split('/').collect();
        let length: usize = words[1].parse().unwrap();
        exchange.reply(
            &Reply::ok(content(words[0], length)).field("Content-Type", "text/plain").cache("max-age=60"),
        );
    });
    let config = Config::new(&origin).redis(&redis).without_memory();
    let (one, two) = (config.clone().start(), config.start());
    for kind in ["noise", "text"] {
        for length in [0, 1, 1023, 1024, 1025, 65_537, 262_143, 262_144, 262_145, 1_000_000, 3_000_000] {
            let target = format!("/{kind}/{length}");
            let whole = content(kind, length);
            assert!(one.get(&target).body == whole, "{target}");
            let hit = eventually(&target, || {
                let answer = two.get(&target);
                assert!(answer.is_complete() && answer.body == whole, "{target} differs");
                answer.cache_status().contains("detail=redis").then_some(answer)
            });
            assert_eq!((hit.status, hit.x_cache()), (200, "HIT"), "{target}");
        }
    }
    let before = one.metric("forebay_compression_bytes_total", &[]);
    assert!(before > 0.0, "text above compress_above is compressed");
}

fn content(kind: &str, length: usize) -> Vec<u8> {
    match kind {
        "noise" => noise(length as u64, length),
        _ => b"the same words again and again. ".iter().copied().cycle().take(length).collect(),
    }
}

#[test]
fn text_takes_less_room_than_it_has_bytes() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply(
        "/p",
        Reply::ok(content("text", 50_000)).field("Content-Type", "text/plain").cache("max-age=60"),
    );
    let proxy = Config::new(&origin).redis(&redis).start();
    assert_eq!(proxy.get("/p").body.len(), 50_000);
    until("the record is there", || redis.strings().values().map(Vec::len).sum::<usize>() > 100);
    let held: usize = redis.strings().values().map(Vec::len).sum();
    assert!(held < 25_000, "{held} bytes");
}

#[test]
fn variants_are_shared_too() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/p", |exchange| {
        let language = exchange.head().field("x-language").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(format!("in {language}")).field("Vary", "X-Language").cache("max-age=60"));
    });
    let config = Config::new(&origin).redis(&redis).without_memory();
    let (one, two) = (config.clone().start(), config.start());
    for language in ["de", "fr", "it"] {
        let (lines, body) = (format!("X-Language: {language}\r\n"), format!("in {language}"));
        one.get_with("/p", &lines).expect(200, "MISS", &body);
        stored(&redis, &body);
    }
    for language in ["it", "de", "fr"] {
        let (lines, body) = (format!("X-Language: {language}\r\n"), format!("in {language}"));
        let hit = eventually(language, || Some(two.get_with("/p", &lines)).filter(|a| a.x_cache() == "HIT"));
        hit.expect(200, "HIT", &body);
    }
    two.get_with("/p", "X-Language: es\r\n").expect(200, "MISS", "in es");
}

#[test]
fn variants_that_made_room_leave_redis_too() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/p", |exchange| {
        let agent = exchange.head().field("x-agent").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(format!("for {agent}!")).field("Vary", "X-Agent").cache("max-age=600"));
    });
    let proxy = Config::new(&origin).redis(&redis).start();
    let ask = |n: usize| proxy.get_with("/p", &format!("X-Agent: {n}\r\n"));
    for n in 0..80 {
        let body = format!("for {n}!");
        ask(n).expect(200, "MISS", &body);
        // The next one adds to what this one has left there.
        at_rest(&proxy);
        ask(n).expect(200, "HIT", &body);
    }
    let holds = |n: usize| {
        let body = format!("for {n}!");
        redis.strings().values().any(|value| value.windows(body.len()).any(|part| part == body.as_bytes()))
    };
    until("the first have made room", || (0..16).all(|n| !holds(n)));
    assert!((16..80).all(holds), "and no others");
}

#[test]
fn what_one_proxy_learned_to_be_private_the_other_never_queues_for() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let meeting = Meeting::of(40);
    origin.on("/p", move |exchange| {
        if exchange.nth() > 1 {
            meeting.arrive();
        }
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("private"));
    });
    let config = Config::new(&origin).redis(&redis);
    let (one, two) = (config.clone().start(), config.start());
    assert_eq!(one.get("/p").text(), "v1");
    until("the marker is in Redis", || redis.keys().into_keys().any(|key| key.ends_with(":o")));
    let answers = fan_out(&[one.address, two.address], 40, |_| request("GET", "/p", ""), || ());
    let bodies: HashSet<_> = answers.iter().map(Answer::text).collect();
    assert_eq!((bodies.len(), origin.count("/p")), (40, 41));
}

#[test]
fn a_hundred_private_answers_on_two_proxies_are_a_hundred_different_ones() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let meeting = Meeting::of(100);
    origin.on("/p", move |exchange| {
        exchange.body();
        let reply = Reply::ok(format!("secret {}", exchange.nth() + 1000)).cache("private, max-age=60");
        exchange.send(reply.head());
        meeting.arrive();
        exchange.send(reply.content());
    });
    let config = Config::new(&origin).redis(&redis);
    let (one, two) = (config.clone().start(), config.start());
    let answers = fan_out(&[one.address, two.address], 100, |_| request("GET", "/p", ""), || ());
    let bodies: HashSet<_> = answers.iter().map(Answer::text).collect();
    assert_eq!((bodies.len(), origin.count("/p")), (100, 100));
    assert!(redis.strings().values().all(|value| !value.windows(6).any(|window| window == b"secret")));
}

#[test]
fn validation_works_on_what_the_other_stored() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/p", |exchange| {
        if exchange.head().field("if-none-match") == Some("\"1\"") {
            exchange.reply(&Reply::not_modified().field("ETag", "\"1\"").cache("no-cache"));
        } else {
            exchange.reply(&Reply::ok("validated content").field("ETag", "\"1\"").cache("no-cache"));
        }
    });
    let config = Config::new(&origin).redis(&redis);
    let (one, two) = (config.clone().start(), config.start());
    one.get("/p").expect(200, "MISS", "validated content");
    stored(&redis, "validated content");
    two.get("/p").expect(200, "REVALIDATED", "validated content");
    assert_eq!(origin.last("/p").field("if-none-match"), Some("\"1\""));
}

#[test]
fn every_key_has_our_prefix_and_an_end_and_nothing_scans() {
    let (origin, redis) = (Origin::start(), Redis::start());
    redis.command(&["SET", "somebody:elses", "untouched"]);
    let monitor = redis.monitor();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/*", move |exchange| {
        let reply = Reply::ok(content("noise", 400_000)).cache("max-age=60");
        match exchange.target() {
            "/private" => exchange.reply(&Reply::ok("mine").cache("private")),
            "/vary" => exchange.reply(&reply.field("Vary", "Accept")),
            "/small" => exchange.reply(&Reply::ok("small").cache("max-age=60")),
            "/held" => {
                held.wait();
                exchange.reply(&Reply::ok("held").cache("max-age=60"));
            }
            _ => exchange.reply(&reply),
        }
    });
    let config = Config::new(&origin).redis(&redis).redis_line("prefix = \"shop-cache\"");
    let (one, two) = (config.clone().start(), config.start());
    for proxy in [&one, &two] {
        for target in ["/private", "/vary", "/small", "/big"] {
            assert_eq!(proxy.get(target).status, 200);
        }
        assert_eq!(proxy.request("POST", "/small", "Content-Length: 0\r\n").status, 200);
    }
    let mut client = one.connect();
    client.send(request("GET", "/held", ""));
    origin.wait_count("/held", 1);
    let check = |what: &str| {
        let keys = redis.keys();
        assert!(keys.len() > 1, "{what}: something is stored");
        for key in keys.keys().filter(|key| *key != "somebody:elses") {
            assert!(key.starts_with("shop-cache"), "{what}: {key}");
            // A key that is gone by now (-2) had an end.
            let left = redis.command(&["PTTL", key]).integer().unwrap();
            assert_ne!(left, -1, "{what}: {key} never expires");
            assert!(left <= 8 * 24 * 3_600_000, "{what}: {key} lives {left} ms");
        }
    };
    check("while a lock is held");
    gate.open();
    assert_eq!(client.answer().text(), "held");
    stored(&redis, "held");
    check("after all");
    assert_eq!(redis.command(&["GET", "somebody:elses"]), Value::Bytes(b"untouched".to_vec()));
    // The test's own KEYS comes from elsewhere: what the proxies send has their prefix or no key at all.
    let mut own: HashSet<String> = HashSet::new();
    for line in monitor.lines().iter().filter(|line| !line.contains("\"KEYS\" \"*\"")) {
        let name = line.split_once("] \"").and_then(|(_, rest)| rest.split('"').next()).unwrap_or_default();
        own.insert(name.to_ascii_uppercase());
    }
    for forbidden in ["SCAN", "KEYS", "FLUSHDB", "FLUSHALL", "SWAPDB", "RANDOMKEY"] {
        assert!(!own.contains(forbidden), "{forbidden} was sent: {own:?}");
    }
    assert!(own.contains("GET") && own.contains("SET"), "{own:?}");
}

#[test]
fn short_lives_leave_an_empty_database() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(exchange.target())));
    // Above a second: `Date` is of whole seconds, and an answer that was under way as one ended is of that age.
    let config = Config::new(&origin).redis(&redis).defaults("ttl = \"1500ms\"");
    let proxy = config.defaults("keep = \"0s\"").start();
    for n in 0..50 {
        assert_eq!(proxy.get(&format!("/{n}")).status, 200);
    }
    until("something was stored", || {
        proxy.metric("forebay_redis_command_duration_seconds_count", &[("command", "set")]) >= 1.0
    });
    // What stays is the journal of purges: no data, and of a bounded size.
    until("everything has expired", || redis.keys().is_empty());
    assert!(redis.all_keys().into_keys().all(|key| key.starts_with("forebay:{journal}:")));
}

#[test]
fn an_unsafe_method_invalidates_for_the_other_proxy_too() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.on("/p", |exchange| match exchange.method() {
        "GET" => exchange.reply(&Reply::ok(format!("version {}", exchange.nth())).cache("max-age=60")),
        _ => exchange.reply(&Reply::new(204)),
    });
    let config = Config::new(&origin).redis(&redis).without_memory();
    let (one, two) = (config.clone().start(), config.start());
    one.get("/p").expect(200, "MISS", "version 1");
    stored(&redis, "version 1");
    two.get("/p").expect(200, "HIT", "version 1");
    assert_eq!(one.request("POST", "/p", "Content-Length: 0\r\n").status, 204);
    eventually("the new version", || (two.get("/p").text() == "version 3").then_some(()));
}
