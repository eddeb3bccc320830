//! How long: the origin's word, the route's word, age, validation, and what may be served stale.

use std::time::Duration;

use crate::support::*;

#[test]
fn route_ttl_stands_in_where_the_origin_says_nothing() {
    let origin = Origin::start();
    origin.on("/silent", |exchange| exchange.reply(&Reply::ok(format!("v{}", exchange.nth()))));
    origin.versions("/own", "max-age=20");
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    proxy.get("/silent").expect(200, "MISS", "v1");
    let hit = proxy.get("/silent");
    hit.expect(200, "HIT", "v1");
    assert!(hit.ttl().is_some_and(|ttl| (40..=60).contains(&ttl)), "{}", hit.cache_status());
    proxy.get("/own").expect(200, "MISS", "v1");
    let hit = proxy.get("/own");
    assert!(hit.ttl().is_some_and(|ttl| (1..=20).contains(&ttl)), "{}", hit.cache_status());
}

#[test]
fn ttl_by_status_stores_errors_for_as_long_as_it_says() {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let status = exchange.target()[1..].parse().unwrap_or(200);
        let body = format!("v{}", exchange.nth());
        exchange.reply(&Reply::new(status).body(body));
    });
    let proxy = Config::new(&origin)
        .defaults("ttl = \"60s\"")
        .defaults("ttl_by_status = { 404 = \"10s\", 503 = \"5s\" }");
    let proxy = proxy.start();
    for (status, most) in [(200, 60), (404, 10), (503, 5), (301, 60), (410, 60)] {
        let target = format!("/{status}");
        proxy.get(&target).expect(status, "MISS", "v1");
        let hit = proxy.get(&target);
        hit.expect(status, "HIT", "v1");
        assert!(hit.ttl().is_some_and(|ttl| ttl <= most), "{status}: {}", hit.cache_status());
    }
    for status in [500, 502, 403, 400, 302] {
        let target = format!("/{status}");
        proxy.get(&target).expect(status, "MISS", "v1");
        proxy.get(&target).expect(status, "MISS", "v2");
    }
}

#[test]
fn explicit_freshness_stores_any_final_status_but_never_an_unasked_part_or_304() {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let status = exchange.target()[1..].parse().unwrap_or(200);
        exchange.reply(&Reply::new(status).body(format!("v{}", exchange.nth())).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    for status in [200, 203, 302, 404, 410, 500, 503] {
        let target = format!("/{status}");
        proxy.get(&target).expect(status, "MISS", "v1");
        proxy.get(&target).expect(status, "HIT", "v1");
    }
    for status in [206, 412, 416] {
        let target = format!("/{status}");
        for _ in 0..2 {
            assert_ne!(proxy.get(&target).x_cache(), "HIT", "{status}");
        }
        assert_eq!(origin.count(&target), 2, "{status} is never stored as a full answer");
    }
}

#[test]
fn bounds_of_the_route_hold() {
    let origin = Origin::start();
    origin.versions("/low/p", "max-age=1");
    origin.versions("/high/p", "max-age=6000");
    origin.versions("/low/none", "no-store, max-age=1");
    let proxy = Config::new(&origin)
        .route("/low/{p}", "min_ttl = \"30s\"")
        .route("/high/{p}", "max_ttl = \"5s\"")
        .start();
    for (target, bounds) in [("/low/p", 20..=30), ("/high/p", 0..=5)] {
        proxy.get(target).expect(200, "MISS", "v1");
        let hit = proxy.get(target);
        hit.expect(200, "HIT", "v1");
        assert!(hit.ttl().is_some_and(|ttl| bounds.contains(&ttl)), "{target}: {}", hit.cache_status());
    }
    proxy.get("/low/none").expect(200, "MISS", "v1");
    proxy.get("/low/none").expect(200, "MISS", "v2");
}

#[test]
fn override_replaces_the_origins_word_but_not_the_rules_of_sharing() {
    let origin = Origin::start();
    origin.versions("/no-store", "no-store, private, max-age=0");
    origin.on("/cookie", |exchange| {
        let body = format!("v{}", exchange.nth());
        exchange.reply(&Reply::ok(body).field("Set-Cookie", "a=1").cache("max-age=60"));
    });
    origin.on("/vary", |exchange| {
        let body = format!("v{}", exchange.nth());
        exchange.reply(&Reply::ok(body).field("Vary", "X-Kind").cache("no-store"));
    });
    let proxy = Config::new(&origin)
        .defaults("ttl = \"60s\"")
        .defaults("origin_cache_control = \"override\"")
        .start();
    proxy.get("/no-store").expect(200, "MISS", "v1");
    proxy.get("/no-store").expect(200, "HIT", "v1");
    proxy.get("/cookie").expect(200, "MISS", "v1");
    proxy.get("/cookie").expect(200, "MISS", "v2");
    proxy.get_with("/vary", "X-Kind: a\r\n").expect(200, "MISS", "v1");
    proxy.get_with("/vary", "X-Kind: b\r\n").expect(200, "MISS", "v2");
    proxy.get_with("/vary", "X-Kind: a\r\n").expect(200, "HIT", "v1");
    let authorized = "Authorization: Basic eA==\r\n";
    origin.versions("/authorized", "max-age=60");
    proxy.get_with("/authorized", authorized).expect(200, "MISS", "v1");
    proxy.get_with("/authorized", authorized).expect(200, "MISS", "v2");
}

#[test]
fn age_on_arrival_counts() {
    let origin = Origin::start();
    let reply = |age: &str| Reply::ok("aged").field("Age", age).cache("max-age=60");
    origin.reply("/young", reply("30"));
    origin.reply("/old", reply("60"));
    origin.reply("/huge", reply("18446744073709551616"));
    let proxy = Config::new(&origin).start();
    proxy.get("/young").expect(200, "MISS", "aged");
    let hit = proxy.get("/young");
    hit.expect(200, "HIT", "aged");
    assert!(hit.age().is_some_and(|age| (30..60).contains(&age)), "{:?}", hit.age());
    assert!(hit.ttl().is_some_and(|ttl| ttl <= 30), "{}", hit.cache_status());
    assert_eq!(hit.head.all("age").len(), 1);
    for target in ["/old", "/huge"] {
        for _ in 0..2 {
            assert_ne!(proxy.get(target).x_cache(), "HIT", "{target}");
        }
        assert_eq!(origin.count(target), 2);
    }
}

#[test]
fn s_maxage_beats_max_age_and_expires() {
    let origin = Origin::start();
    let past = "Mon, 06 Jul 2020 10:00:00 GMT";
    origin.reply("/yes", Reply::ok("x").field("Expires", past).cache("max-age=0, s-maxage=60"));
    origin.reply(
        "/no",
        Reply::ok("x").field("Expires", "Fri, 06 Jul 2096 10:00:00 GMT").cache("s-maxage=0, max-age=60"),
    );
    origin.reply("/invalid", Reply::ok("x").field("Expires", "0"));
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    for (target, second) in [("/yes", "HIT"), ("/no", "MISS"), ("/invalid", "MISS")] {
        proxy.get(target).expect(200, "MISS", "x");
        proxy.get(target).expect(200, second, "x");
    }
}

#[test]
fn clients_directives_count_only_where_the_route_says_so() {
    let origin = Origin::start();
    origin.versions("/deaf/p", "max-age=60");
    origin.versions("/polite/p", "max-age=60");
    let proxy = Config::new(&origin).route("/polite/{p}", "client_cache_control = \"respect\"").start();
    proxy.get("/deaf/p").expect(200, "MISS", "v1");
    proxy.get("/polite/p").expect(200, "MISS", "v1");
    for lines in ["Cache-Control: no-cache\r\n", "Cache-Control: max-age=0\r\n", "Pragma: no-cache\r\n"] {
        proxy.get_with("/deaf/p", lines).expect(200, "HIT", "v1");
        assert_ne!(proxy.get_with("/polite/p", lines).x_cache(), "HIT", "{lines}");
    }
    assert_eq!(origin.count("/polite/p"), 4);
    let absent = proxy.get_with("/polite/absent", "Cache-Control: only-if-cached\r\n");
    assert_eq!((absent.status, origin.count("/polite/absent")), (504, 0));
}

#[test]
fn validation_renews_the_response_and_merges_fields() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let nth = exchange.nth();
        if exchange.head().field("if-none-match") == Some("\"tag\"") {
            let reply = Reply::not_modified().field("ETag", "\"tag\"").field("X-Round", nth.to_string());
            exchange.reply(&reply.cache("no-cache"));
        } else {
            let reply = Reply::ok("content").field("ETag", "\"tag\"").field("X-Round", nth.to_string());
            exchange.reply(&reply.field("X-Kept", "yes").cache("no-cache"));
        }
    });
    let proxy = Config::new(&origin).start();
    let first = proxy.get("/p");
    first.expect(200, "MISS", "content");
    for round in 2..5 {
        let answer = proxy.get("/p");
        answer.expect(200, "REVALIDATED", "content");
        assert_eq!(
            answer.head.all("x-round"),
            [round.to_string()],
            "the 304's field replaces the stored one"
        );
        assert_eq!(answer.field("x-kept"), Some("yes"), "fields that the 304 leaves out stay");
        assert_eq!(answer.field("content-length"), Some("7"));
    }
    // The client's own validator is judged against what validation left.
    let answer = proxy.get_with("/p", "If-None-Match: \"tag\"\r\n");
    assert_eq!((answer.status, answer.text().as_str()), (304, ""));
    assert_eq!(origin.count("/p"), 5);
}

#[test]
fn a_200_to_a_validation_replaces_what_was_stored() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let nth = exchange.nth();
        exchange.reply(&Reply::ok(format!("v{nth}")).field("ETag", format!("\"{nth}\"")).cache("no-cache"));
    });
    let proxy = Config::new(&origin).start();
    for nth in 1..4 {
        assert_eq!(proxy.get("/p").text(), format!("v{nth}"));
    }
    let asked: Vec<_> =
        origin.seen_at("/p").iter().map(|seen| seen.field("if-none-match").map(str::to_owned)).collect();
    assert_eq!(asked, [None, Some("\"1\"".to_owned()), Some("\"2\"".to_owned())]);
}

#[test]
fn stale_while_revalidate_answers_at_once_and_renews_behind() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        if exchange.nth() == 2 {
            held.wait();
        }
        let body = format!("v{}", exchange.nth());
        let cache = if exchange.nth() == 1 { "max-age=1, stale-while-revalidate=600" } else { "max-age=600" };
        exchange.reply(&Reply::ok(body).cache(cache));
    });
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    let stale =
        eventually("the response is stale", || Some(proxy.get("/p")).filter(|a| a.x_cache() == "STALE"));
    stale.expect(200, "STALE", "v1");
    assert!(stale.ttl().is_some_and(|ttl| ttl <= 0), "{}", stale.cache_status());
    // The origin holds the refresh, whose client is long gone: everybody else is served meanwhile.
    origin.wait_count("/p", 2);
    for _ in 0..10 {
        proxy.get("/p").expect(200, "STALE", "v1");
    }
    assert_eq!(origin.count("/p"), 2, "one refresh, however many ask");
    gate.open();
    let fresh = eventually("the refresh arrives", || Some(proxy.get("/p")).filter(|a| a.x_cache() == "HIT"));
    fresh.expect(200, "HIT", "v2");
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn stale_if_error_covers_every_way_an_origin_fails() {
    let origin = Origin::start();
    origin.on("/p/*", |exchange| {
        if exchange.nth() == 1 {
            return exchange.reply(&Reply::ok("good").cache("max-age=1, stale-if-error=600"));
        }
        match exchange.target() {
            "/p/500" => exchange.reply(&Reply::new(500).body("bad")),
            "/p/503" => exchange.reply(&Reply::new(503).body("bad")),
            "/p/reset" => exchange.reset(),
            "/p/nonsense" => {
                exchange.send("nonsense\r\n\r\n");
                exchange.close();
            }
            _ => {
                exchange.hang_up();
            }
        }
    });
    let targets = ["/p/500", "/p/503", "/p/reset", "/p/nonsense", "/p/silent"];
    let proxy = Config::new(&origin).upstream("first_byte_timeout = \"3s\"").start();
    for target in targets {
        proxy.get(target).expect(200, "MISS", "good");
    }
    for target in targets {
        let stale = eventually(target, || Some(proxy.get(target)).filter(|answer| answer.x_cache() != "HIT"));
        stale.expect(200, "STALE", "good");
    }
}

#[test]
fn must_revalidate_forbids_serving_stale() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        if exchange.nth() == 1 {
            exchange.reply(&Reply::ok("good").cache("max-age=1, must-revalidate"));
        } else {
            exchange.reply(&Reply::new(503).body("bad"));
        }
    });
    let config = Config::new(&origin).defaults("stale_if_error = \"10m\"");
    let proxy = config.defaults("stale_while_revalidate = \"10m\"").start();
    proxy.get("/p").expect(200, "MISS", "good");
    let answer =
        eventually("the response is stale", || Some(proxy.get("/p")).filter(|a| a.x_cache() != "HIT"));
    assert_eq!((answer.status, answer.text().as_str()), (503, "bad"));
}

#[test]
fn short_lives_end() {
    let origin = Origin::start();
    origin.on("/p", |exchange| exchange.reply(&Reply::ok(format!("v{}", exchange.nth()))));
    let proxy = Config::new(&origin).defaults("ttl = \"300ms\"").start();
    proxy.get("/p").expect(200, "MISS", "v1");
    pass(Duration::from_millis(350));
    assert_eq!(proxy.get("/p").text(), "v2");
}

#[test]
fn a_stored_part_lends_its_validator_to_nobody_who_wants_the_whole() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let head = exchange.head();
        if head.field("if-none-match").is_some() {
            return exchange.reply(&Reply::new(304).field("ETag", "\"1\""));
        }
        let reply = if head.field("range").is_some() {
            Reply::new(206).body("cont").field("Content-Range", "bytes 0-3/7")
        } else {
            Reply::ok("content")
        };
        exchange.reply(&reply.field("ETag", "\"1\"").cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    let part = proxy.get_with("/p", "Range: bytes=0-3\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "cont"));
    let within = proxy.get_with("/p", "Range: bytes=1-2\r\n");
    assert_eq!((within.status, within.x_cache(), within.text().as_str()), (206, "HIT", "on"));
    assert_eq!(within.field("content-range"), Some("bytes 1-2/7"));
    proxy.get("/p").expect(200, "MISS", "content");
    proxy.get("/p").expect(200, "HIT", "content");
}
