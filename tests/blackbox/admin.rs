//! The admin listener, the access log, the command's life: how forebay is seen from outside.

use std::net::TcpStream;

use crate::support::*;

#[test]
fn live_and_ready_answer_with_redis_up_and_down() {
    let (origin, mut redis) = (Origin::start(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).start();
    for up in [true, false] {
        if !up {
            redis.kill();
        }
        assert_eq!(get(proxy.admin, "/live", "").status, 200);
        let ready = get(proxy.admin, "/ready", "");
        assert_eq!((ready.status, ready.is_complete()), (200, true));
        assert!(ready.field("content-type").is_some_and(|value| value.starts_with("application/json")));
        let json: serde_json::Value = serde_json::from_slice(&ready.body).expect("JSON");
        let text = json.to_string();
        assert!(text.contains("memory") && text.contains("redis"), "{text}");
    }
    let alone = Config::new(&origin).start();
    let json: serde_json::Value = serde_json::from_slice(&get(alone.admin, "/ready", "").body).expect("JSON");
    assert!(json.to_string().contains("memory"), "{json}");
}

#[test]
fn the_admin_listener_is_not_the_public_one() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("from the origin").cache("no-store"));
    let proxy = Config::new(&origin).start();
    for path in ["/metrics", "/ready", "/live", "/status", "/purge"] {
        assert_eq!(proxy.get(path).text(), "from the origin", "{path} belongs to the site");
    }
    for (bytes, statuses) in [
        (request("GET", "/nothing", ""), [404].as_slice()),
        (request("POST", "/metrics", "Content-Length: 0\r\n"), &[405, 404]),
        (request("GET", "/../etc/passwd", ""), &[404, 400]),
    ] {
        let answer = send(proxy.admin, bytes);
        assert!(statuses.contains(&answer.status), "{}", answer.status);
    }
    let mut client = Client::to(proxy.admin);
    client.send("nonsense\r\n\r\n");
    client.finish();
    let (rest, _) = client.rest();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(get(proxy.admin, "/live", "").status, 200);
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    origin.reply("/private", Reply::ok("content").cache("private"));
    let proxy = Config::new(&origin).route("/fresh", "cache = false").start();
    for (target, times) in [("/p", 4), ("/private", 2), ("/fresh", 3)] {
        for _ in 0..times {
            proxy.get(target);
        }
    }
    for (labels, count) in [
        ([("result", "hit"), ("route", "rest")], 3.0),
        ([("result", "miss"), ("route", "rest")], 3.0),
        ([("result", "bypass"), ("route", "route-1")], 3.0),
        ([("method", "GET"), ("code", "200")], 6.0),
    ] {
        until(&format!("{labels:?} is {count}"), || proxy.metric("forebay_requests_total", &labels) == count);
    }
    let lookups =
        |result| proxy.metric("forebay_cache_lookups_total", &[("tier", "memory"), ("result", result)]);
    assert_eq!(lookups("hit"), 3.0);
    assert!(lookups("miss") >= 2.0);
    assert_eq!(proxy.metric("forebay_not_stored_total", &[("route", "rest")]), 2.0);
    assert_eq!(proxy.metric("forebay_origin_fetches_total", &[]), 6.0);
    assert!(proxy.metric("forebay_cache_bytes", &[("tier", "memory")]) >= 7.0);
    assert!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]) >= 1.0);
    assert_eq!(proxy.metric("forebay_request_duration_seconds_count", &[]), 9.0);
    assert_eq!(proxy.metric("forebay_build_info", &[]), 1.0);
}

#[test]
fn every_series_is_there_and_no_label_is_a_users() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply(
        "*",
        Reply::ok("content ".repeat(1000)).field("Content-Type", "text/plain").cache("max-age=60"),
    );
    let proxy = Config::new(&origin).redis(&redis).start();
    for n in 0..50 {
        let target = format!("/tenant-{n}?token=secret{n}");
        proxy.send(format!("GET {target} HTTP/1.1\r\nHost: tenant-{n}.example\r\n\r\n"));
        proxy.request(&format!("TENANT{n}"), &target, "Content-Length: 0\r\n");
    }
    let text = proxy.metrics();
    for name in [
        "requests_total",
        "request_duration_seconds",
        "cache_lookups_total",
        "cache_bytes",
        "cache_entries",
        "evictions_total",
        "collapsed_total",
        "lock_wait_seconds",
        "origin_fetches_total",
        "origin_duration_seconds",
        "upstream_connections",
        "redis_command_duration_seconds",
        "redis_breaker_state",
        "compression_bytes_total",
        "connections",
        "build_info",
    ] {
        assert!(text.contains(&format!("# TYPE forebay_{name} ")), "forebay_{name} is missing:\n{text}");
    }
    for word in ["tenant", "TENANT", "secret", "token"] {
        assert!(!text.contains(word), "{word} is in\n{text}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1500, "{series} series");
}

#[test]
fn the_access_log_has_a_line_per_request_with_route_result_and_reason() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    let proxy = Config::new(&origin).route("/raw", "cache = false").start();
    proxy.get("/p");
    proxy.get("/p");
    proxy.get("/raw");
    let lines = |route: &str, result: &str| {
        let (route, result) = (format!("route={route}"), format!("result={result}"));
        let has = |line: &&String| {
            let words: Vec<_> =
                line.split_whitespace().map(|word| word.replace('"', "").to_lowercase()).collect();
            words.contains(&route) && words.contains(&result)
        };
        proxy.log().iter().filter(has).count()
    };
    for (route, result) in [("rest", "miss"), ("rest", "hit"), ("route-1", "bypass")] {
        until(&format!("a line for {route} {result}"), || lines(route, result) == 1);
    }
}

#[test]
fn no_request_forges_a_line_of_the_log() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("x"));
    let proxy = Config::new(&origin).start();
    let forged = "%0aforged=line%0d%0aforged=line";
    proxy.get_with(
        &format!("/{forged}"),
        &format!("User-Agent: \u{9b}31m{forged}\r\nReferer: a\tforged=line\r\n"),
    );
    proxy.get("/done");
    until("the last request is logged", || proxy.metric("forebay_requests_total", &[]) >= 2.0);
    assert!(proxy.log().iter().all(|line| !line.trim_start().starts_with("forged")), "{:?}", proxy.log());
}

#[test]
fn sigterm_lets_what_began_end() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst");
        held.wait();
        exchange.send("other");
    });
    let mut proxy = Config::new(&origin).start();
    let mut idle = proxy.connect();
    idle.send(request("GET", "/idle", ""));
    assert_eq!(idle.answer().status, 404);
    let mut busy = proxy.connect();
    busy.send(request("GET", "/p", ""));
    busy.read_until(|text| text.ends_with("first"));
    proxy.terminate();
    assert_eq!(idle.rest(), (Vec::new(), End::Closed), "idle connections end at once");
    until("nobody listens any more", || TcpStream::connect(proxy.address).is_err());
    gate.open();
    assert_eq!(busy.read_until(|text| text.len() >= 5), "other");
    assert_eq!(busy.rest(), (Vec::new(), End::Closed));
    assert!(proxy.ended().success());
}

#[test]
fn draining_ends_when_its_time_is_over() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        exchange.hang_up();
    });
    let mut proxy = Config::new(&origin).server("drain_timeout = \"500ms\"").start();
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    origin.wait_count("/p", 1);
    proxy.terminate();
    proxy.ended();
    assert!(!client.try_answer().is_ok_and(|answer| answer.status == 200));
}

#[test]
fn the_start_says_which_tiers_and_listeners_are_live() {
    let (origin, redis) = (Origin::start(), Redis::absent());
    let proxy = Config::new(&origin).redis(&redis).start();
    for word in ["memory", "redis", "listener=proxy", "listener=admin"] {
        until(word, || proxy.log().iter().any(|line| line.contains(word)));
    }
}
