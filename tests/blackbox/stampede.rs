//! Wire rule 20: one miss is one fetch, what may not be shared never queues, and a fetch outlives the
//! client that began it.

use std::collections::HashSet;
use std::time::Duration;

use crate::support::*;

fn ask(target: &'static str) -> impl Fn(usize) -> String + Sync {
    move |_| request("GET", target, "")
}

#[test]
fn many_cold_clients_cost_one_fetch() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).defaults("collapse_timeout = \"30s\"").start();
    let answers = fan_out(&[proxy.address], 300, ask("/p"), || {
        origin.wait_count("/p", 1);
        gate.open();
    });
    assert!(
        answers.iter().all(|answer| answer.status == 200 && answer.text() == "v1" && answer.is_complete())
    );
    assert_eq!(origin.count("/p"), 1);
    let collapsed = answers.iter().filter(|answer| answer.cache_status().contains("collapsed")).count();
    assert_eq!(f64::from(u32::try_from(collapsed).unwrap()), proxy.metric("forebay_collapsed_total", &[]));
    assert!(collapsed > 0, "somebody waited");
}

#[test]
fn waiters_stream_the_growing_body() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst");
        held.wait();
        exchange.send("other");
    });
    let proxy = Config::new(&origin).start();
    let mut clients: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut clients {
        client.send(request("GET", "/p", ""));
        // Each reads half the body while the origin still holds the other half.
        assert_eq!(client.head().unwrap().1, 200);
        assert_eq!(client.read_until(|text| text.len() >= 5), "first");
    }
    gate.open();
    for client in &mut clients {
        assert_eq!(client.read_until(|text| text.len() >= 5), "other");
    }
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn a_leader_that_leaves_takes_nothing_with_it() {
    for reset in [false, true] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/p", move |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst");
            held.wait();
            assert!(exchange.send("other"), "the fetch goes on without its first client");
        });
        let proxy = Config::new(&origin).start();
        let mut leader = proxy.connect();
        leader.send(request("GET", "/p", ""));
        leader.read_until(|text| text.ends_with("first"));
        let mut follower = proxy.connect();
        follower.send(request("GET", "/p", ""));
        assert_eq!(follower.head().unwrap().1, 200);
        if reset {
            leader.reset();
        } else {
            drop(leader);
        }
        assert_eq!(follower.read_until(|text| text.len() >= 5), "first");
        gate.open();
        assert_eq!(follower.read_until(|text| text.len() >= 5), "other");
        proxy.get("/p").expect(200, "HIT", "firstother");
        assert_eq!(origin.count("/p"), 1);
    }
}

#[test]
fn a_leader_that_leaves_before_the_head_takes_nothing_with_it() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok("content").cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    let mut leader = proxy.connect();
    leader.send(request("GET", "/p", ""));
    origin.wait_count("/p", 1);
    let mut follower = proxy.connect();
    follower.send(request("GET", "/p", ""));
    drop(leader);
    pass(Duration::from_millis(100));
    gate.open();
    assert_eq!(follower.answer().text(), "content");
    assert_eq!(origin.count("/p"), 1);
}

/// An origin that answers everybody with something of their own, and only once all `count` fetches
/// are there at the same time. The first one's head goes out at once: it is what frees the others.
fn private_origin(count: usize, directives: &'static str) -> Origin {
    let origin = Origin::start();
    let meeting = Meeting::of(count);
    origin.on("/p", move |exchange| {
        exchange.body();
        let reply = Reply::ok(format!("secret {:04}", exchange.nth())).cache(directives);
        let reply = reply.field("Set-Cookie", format!("id={:04}", exchange.nth()));
        exchange.send(reply.head());
        meeting.arrive();
        exchange.send(reply.content());
    });
    origin
}

#[test]
fn a_hundred_private_answers_are_a_hundred_different_ones_fetched_at_once() {
    for directives in ["private, max-age=60", "no-store", "public, max-age=60"] {
        // The last one is public and sets a cookie: what may not be stored may not be shared.
        let origin = private_origin(100, directives);
        let proxy = Config::new(&origin).start();
        for round in 1..=2 {
            let answers = fan_out(&[proxy.address], 100, ask("/p"), || ());
            let bodies: HashSet<_> = answers.iter().map(Answer::text).collect();
            let cookies: HashSet<_> =
                answers.iter().map(|a| a.field("set-cookie").map(str::to_owned)).collect();
            assert_eq!((bodies.len(), cookies.len()), (100, 100), "{directives}");
            for answer in &answers {
                let cookie = answer.field("set-cookie").unwrap().replace("id=", "secret ");
                assert_eq!(answer.text(), cookie, "an answer is one answer");
            }
            assert_eq!(origin.count("/p"), 100 * round);
        }
    }
}

#[test]
fn that_an_answer_is_private_is_remembered() {
    let origin = Origin::start();
    let meeting = Meeting::of(50);
    origin.on("/p", move |exchange| {
        // After the first, nobody's head is sent before all fifty requests are here: had they queued
        // for a verdict, they would never be.
        if exchange.nth() > 1 {
            meeting.arrive();
        }
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("private"));
    });
    let proxy = Config::new(&origin).start();
    assert_eq!(proxy.get("/p").text(), "v1");
    let answers = fan_out(&[proxy.address], 50, ask("/p"), || ());
    let bodies: HashSet<_> = answers.iter().map(Answer::text).collect();
    assert_eq!((bodies.len(), origin.count("/p")), (50, 51));
}

#[test]
fn a_private_page_that_becomes_public_is_stored_after_all() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let cache = if exchange.nth() == 1 { "private" } else { "max-age=60" };
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache(cache));
    });
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    proxy.get("/p").expect(200, "MISS", "v2");
    proxy.get("/p").expect(200, "HIT", "v2");
}

#[test]
fn an_error_reaches_everybody_and_is_kept_for_nobody() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reply(&Reply::new(500).body("broken"));
    });
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    let answers = fan_out(&[proxy.address], 50, ask("/p"), || {
        origin.wait_count("/p", 1);
        gate.open();
    });
    assert!(answers.iter().all(|answer| answer.status == 500 && answer.text() == "broken"));
    let before = origin.count("/p");
    assert_eq!(proxy.get("/p").status, 500);
    assert!(origin.count("/p") > before);
}

#[test]
fn an_origin_that_resets_fails_everybody_soon() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        held.wait();
        exchange.reset();
    });
    let proxy = Config::new(&origin).start();
    let answers = fan_out(&[proxy.address], 50, ask("/p"), || {
        origin.wait_count("/p", 1);
        gate.open();
    });
    assert!(answers.iter().all(|answer| answer.status == 502 && answer.is_complete()), "{answers:?}");
}

#[test]
fn expiry_is_a_stampede_of_one_too() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        if exchange.nth() > 1 {
            held.wait();
        }
        let tag = format!("\"{}\"", exchange.nth());
        let ttl = if exchange.nth() == 1 { "max-age=1" } else { "max-age=60" };
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).field("ETag", tag).cache(ttl));
    });
    let proxy = Config::new(&origin).defaults("collapse_timeout = \"30s\"").start();
    proxy.get("/p").expect(200, "MISS", "v1");
    pass(Duration::from_millis(1100));
    let answers = fan_out(&[proxy.address], 100, ask("/p"), || {
        origin.wait_count("/p", 2);
        gate.open();
    });
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == "v2"), "{answers:?}");
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn different_variants_and_credentials_never_share_a_fetch() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let who = exchange.head().field("x-who").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(who).field("Vary", "X-Who").cache("max-age=60"));
    });
    origin.on("/a", |exchange| {
        let who = exchange.head().field("authorization").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(who).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    for _ in 0..2 {
        let by_variant = |i: usize| request("GET", "/p", &format!("X-Who: {}\r\n", i % 7));
        for (i, answer) in fan_out(&[proxy.address], 70, by_variant, || ()).iter().enumerate() {
            assert_eq!(answer.text(), (i % 7).to_string());
        }
        let by_user = |i: usize| request("GET", "/a", &format!("Authorization: Bearer {i}\r\n"));
        for (i, answer) in fan_out(&[proxy.address], 70, by_user, || ()).iter().enumerate() {
            assert_eq!(answer.text(), format!("Bearer {i}"));
        }
    }
}

#[test]
fn different_keys_never_wait_for_each_other() {
    let origin = Origin::start();
    let meeting = Meeting::of(50);
    origin.on("/*", move |exchange| {
        meeting.arrive();
        exchange.reply(&Reply::ok(exchange.target()).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).start();
    let answers = fan_out(&[proxy.address], 50, |i| request("GET", &format!("/{i}"), ""), || ());
    assert!(answers.iter().enumerate().all(|(i, answer)| answer.text() == format!("/{i}")));
}

#[test]
fn a_waiters_patience_ends_as_configured() {
    for (action, status) in [("fetch", 200), ("503", 503)] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/p", move |exchange| {
            if exchange.nth() == 1 {
                held.wait();
            }
            exchange.reply(&Reply::ok("content").cache("max-age=60"));
        });
        let config = Config::new(&origin).defaults("collapse_timeout = \"300ms\"");
        let proxy = config.defaults(&format!("on_collapse_timeout = \"{action}\"")).start();
        let mut leader = proxy.connect();
        leader.send(request("GET", "/p", ""));
        origin.wait_count("/p", 1);
        let answer = proxy.get("/p");
        assert_eq!(answer.status, status, "{action}");
        gate.open();
        assert_eq!(leader.answer().status, 200);
    }
}

#[test]
fn a_fetch_led_by_an_anonymous_client_is_not_given_to_one_with_a_session() {
    // Fresh by the route's word alone: under the guard, requests with cookies fetch for themselves.
    let (origin, gate) = (Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        let who = exchange.head().field("cookie").unwrap_or("nobody").to_owned();
        if who == "nobody" {
            held.wait();
        }
        exchange.reply(&Reply::ok(who));
    });
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    let mut first = proxy.connect();
    first.send(request("GET", "/p", ""));
    origin.wait_count("/p", 1);
    let mut session = proxy.connect();
    session.send(request("GET", "/p", "Cookie: user=ana\r\n"));
    let mut second = proxy.connect();
    second.send(request("GET", "/p", ""));
    until("the second anonymous client waits", || proxy.metric("forebay_connections", &[]) >= 3.0);
    gate.open();
    assert_eq!(first.answer().text(), "nobody");
    assert_eq!(second.answer().text(), "nobody");
    assert_eq!(session.answer().text(), "user=ana");
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn a_client_with_a_session_leads_nobody_into_a_queue() {
    let (origin, gate) = (Origin::start(), Gate::new());
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        let who = exchange.head().field("cookie").unwrap_or("nobody").to_owned();
        if who != "nobody" {
            held.wait();
        }
        exchange.reply(&Reply::ok(who));
    });
    let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
    let mut session = proxy.connect();
    session.send(request("GET", "/p", "Cookie: user=ana\r\n"));
    origin.wait_count("/p", 1);
    // The session's fetch is still held: nobody else waits for it.
    proxy.get("/p").expect(200, "MISS", "nobody");
    proxy.get("/p").expect(200, "HIT", "nobody");
    gate.open();
    assert_eq!(session.answer().text(), "user=ana");
}

/// An origin whose answers only go out once `count` requests are there at the same time, after `warm`
/// that are answered as they come.
fn meeting_origin(warm: usize, count: usize, directives: &'static str) -> Origin {
    let origin = Origin::start();
    let meeting = Meeting::of(count);
    origin.on("/p", move |exchange| {
        if exchange.nth() > warm {
            meeting.arrive();
        }
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache(directives));
    });
    origin
}

#[test]
fn requests_with_credentials_queue_once_and_not_for_ever() {
    for (line, directives) in
        [("Authorization: Bearer x\r\n", "max-age=60"), ("Cookie: id=1\r\n", "stale-if-error=0")]
    {
        // One answer teaches that such requests get answers of their own: then all are fetched at once.
        let origin = meeting_origin(1, 20, directives);
        let proxy =
            Config::new(&origin).defaults("ttl = \"60s\"").defaults("collapse_timeout = \"30s\"").start();
        proxy.get_with("/p", line).expect(200, "MISS", "v1");
        let answers = fan_out(&[proxy.address], 20, |_| request("GET", "/p", line), || ());
        assert!(answers.iter().all(|answer| answer.status == 200), "{line}");
        let bodies: HashSet<_> = answers.iter().map(Answer::text).collect();
        assert_eq!(bodies.len(), 20, "{line}");
    }
}

#[test]
fn a_request_with_credentials_holds_up_nobody_in_the_fleet() {
    let redis = Redis::start();
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        if exchange.head().field("authorization").is_some() {
            held.wait();
        }
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60"));
    });
    let proxy = Config::new(&origin).redis(&redis).defaults("collapse_timeout = \"30s\"").start();
    let mut known = proxy.connect();
    known.send(request("GET", "/p", "Authorization: Bearer x\r\n"));
    origin.wait_count("/p", 1);
    let mut anybody = proxy.connect();
    anybody.send(request("GET", "/p", ""));
    // Long before its patience: the other one is still held.
    origin.wait_count("/p", 2);
    assert_eq!(anybody.answer().text(), "v2");
    gate.open();
    assert_eq!(known.answer().text(), "v1");
}

#[test]
fn nobody_joins_a_fetch_whose_group_was_purged_meanwhile() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        let reply =
            Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60").field("Cache-Groups", "\"prices\"");
        if exchange.nth() == 1 {
            exchange.send(reply.head());
            held.wait();
            exchange.send(reply.content());
        } else {
            exchange.reply(&reply);
        }
    });
    origin.on("/prices", |exchange| {
        exchange.body();
        exchange.reply(&Reply::ok("").field("Cache-Group-Invalidation", "\"prices\""));
    });
    let proxy = Config::new(&origin).start();
    let mut first = proxy.connect();
    first.send(request("GET", "/p", ""));
    first.head().unwrap();
    assert_eq!(proxy.request("POST", "/prices", "Content-Length: 0\r\n").status, 200);
    // The old answer is still arriving; whoever asks now gets what the origin says now, once for all.
    proxy.get("/p").expect(200, "MISS", "v2");
    proxy.get("/p").expect(200, "HIT", "v2");
    gate.open();
    assert_eq!(first.read_until(|text| text.len() >= 2), "v1");
    proxy.get("/p").expect(200, "HIT", "v2");
    assert_eq!(origin.count("/p"), 2);
}

#[test]
fn what_outgrew_every_tier_is_waited_for_by_nobody() {
    let redis = Redis::start();
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n");
        exchange.send([b"8000\r\n".as_slice(), &[b'x'; 0x8000], b"\r\n"].concat());
        held.wait();
        exchange.send("0\r\n\r\n");
    });
    let proxy = Config::new(&origin)
        .memory("max_object_size = \"16KiB\"")
        .redis(&redis)
        .redis_line("max_object_size = \"16KiB\"")
        .defaults("collapse_timeout = \"120s\"")
        .upstream("between_bytes_timeout = \"120s\"")
        .start();
    let mut first = proxy.connect();
    first.send(request("GET", "/p", ""));
    first.head().unwrap();
    let mut seen = 0;
    while seen < 0x8000 {
        seen += first.some().unwrap().len();
    }
    let mut second = proxy.connect();
    second.send(request("GET", "/p", ""));
    // Long before its patience: the first one's body is still arriving.
    origin.wait_count("/p", 2);
    assert_eq!(second.head().unwrap().1, 200);
    gate.open();
    until("the body is counted as too large", || {
        proxy.metric("forebay_not_stored_total", &[("reason", "too-large")]) >= 1.0
    });
}

#[test]
fn only_who_shared_a_fetch_is_counted_as_sharing_one() {
    let origin = private_origin(20, "private");
    let proxy = Config::new(&origin).start();
    fan_out(&[proxy.address], 20, ask("/p"), || ());
    assert_eq!(proxy.metric("forebay_collapsed_total", &[]), 0.0);
}

#[test]
fn what_is_dear_and_hot_is_renewed_before_it_is_stale() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        pass(Duration::from_secs(1));
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=10"));
    });
    let proxy = Config::new(&origin).defaults("early_refresh = 10.0").start();
    proxy.get("/p").expect(200, "MISS", "v1");
    // Each visit begins it with a chance that grows as the end comes near; nobody waits for it.
    until("it is renewed early", || {
        let answer = proxy.get("/p");
        answer.expect(200, "HIT", "v1");
        answer.cache_status().contains("detail=early-refresh")
    });
    until("the new one answers", || {
        let answer = proxy.get("/p");
        assert_eq!(answer.x_cache(), "HIT", "{}", answer.cache_status());
        answer.text() == "v2"
    });
}
