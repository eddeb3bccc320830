//! Every reason of the closed list, said by the running proxy: in `Cache-Status` where an origin or the
//! cache answers, in the body where the proxy itself does, in the log where it is known only later.
//! `tests/documents.rs` holds the list against what is named here.

use crate::support::*;

/// The reason an answer names: `detail` of our member, or the second line of a body of our own.
fn reason(answer: &Answer) -> String {
    let status = answer.cache_status();
    match status.split("; ").find_map(|parameter| parameter.strip_prefix("detail=")) {
        Some(detail) => detail.to_owned(),
        None => {
            answer.text().lines().nth(1).unwrap_or_default().split(':').next().unwrap_or_default().to_owned()
        }
    }
}

/// The reason of the latest log line of this target, once there is one with it. Lines of several workers are in
/// order within each.
#[track_caller]
fn logged(proxy: &Forebay, target: &str, reason: &str) {
    let target = format!("target=\"{target}\"");
    until(&format!("a log line of {target} with reason={reason}"), || {
        let lines = proxy.log();
        let of_target = lines.iter().filter(|line| line.contains(&target) && line.contains(" result="));
        let latest = of_target.max_by_key(|line| line.split(' ').next());
        latest.and_then(|line| value(line, "reason")).as_deref() == Some(reason)
    });
}

/// Scripts a path: each 200 has these field lines, separated by bars.
fn told(origin: &Origin, path: &str, lines: &'static str) {
    origin.on(path, move |exchange| {
        let mut reply = Reply::ok(format!("v{}", exchange.nth()));
        for line in lines.split('|').filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(": ").expect("a field");
            reply = reply.field(name, value);
        }
        exchange.reply(&reply);
    });
}

#[test]
fn forwarded_without_a_look_up() {
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok("x").cache("max-age=60")));
    let proxy = Config::new(&origin)
        .defaults("client_cache_control = \"respect\"")
        .route("/uncached", "cache = false")
        .route("/bypass", "cookies = \"bypass\"")
        .route("/long", "key = { headers = [\"x-long\"] }")
        .start();
    let long = format!("X-Long: {}\r\n", "x".repeat(17 << 10));
    for (method, target, lines, body, expected) in [
        ("GET", "/uncached", "", "", "route-not-cached"),
        ("OPTIONS", "/p", "", "", "method-not-cacheable"),
        ("GET", "/p", "Content-Length: 1\r\n", "x", "request-has-body"),
        ("GET", "/p", "Connection: upgrade\r\nUpgrade: websocket\r\n", "", "request-upgrade"),
        ("GET", "/bypass", "Cookie: a=1\r\n", "", "cookie-bypass"),
        ("GET", "/pictures/..%2fbypass", "", "", "dot-segments"),
        ("GET", "/p", "Cache-Control: no-store\r\n", "", "request-no-store"),
        ("GET", "/long", long.as_str(), "", "key-too-long"),
    ] {
        let answer = proxy.send(format!("{}{body}", request(method, target, lines)));
        assert_eq!(
            (reason(&answer).as_str(), answer.x_cache()),
            (expected, "BYPASS"),
            "{}",
            answer.cache_status()
        );
        logged(&proxy, target, expected);
    }
}

#[test]
fn looked_up() {
    let origin = Origin::start();
    told(&origin, "/fresh", "Cache-Control: max-age=60");
    told(&origin, "/vary", "Cache-Control: max-age=60|Vary: Foo");
    told(&origin, "/stale", "Cache-Control: max-age=60|Age: 60|ETag: \"a\"");
    told(&origin, "/no-cache", "Cache-Control: no-cache|ETag: \"a\"");
    told(&origin, "/guarded", "ETag: \"a\"");
    told(&origin, "/grouped", "Cache-Control: max-age=60|Cache-Groups: \"g\"");
    told(&origin, "/groups", "Cache-Group-Invalidation: \"g\"");
    told(&origin, "/renewed", "Cache-Control: max-age=60, stale-while-revalidate=600|Age: 60");
    told(&origin, "/uncacheable", "Cache-Control: no-store");
    origin.on("/part", |exchange| {
        let part = Reply::new(206).body("01234").cache("max-age=60").field("ETag", "\"a\"");
        exchange.reply(&part.field("Content-Range", "bytes 0-4/10"));
    });
    origin.on("/shared-later", |exchange| {
        let directives = if exchange.nth() == 1 { "max-age=60" } else { "public, max-age=60" };
        exchange.reply(&Reply::ok("v").cache(directives));
    });
    let proxy = Config::new(&origin)
        .defaults("client_cache_control = \"respect\"")
        .route("/guarded", "ttl = \"60s\"")
        .start();
    let rows = [
        ("GET", "/fresh", "", "nothing-stored"),
        // A hit names the tier; its log line says why it was one.
        ("GET", "/fresh", "", "memory"),
        ("GET", "/fresh", "Cache-Control: no-cache\r\n", "request-wants-validation"),
        ("GET", "/fresh", "Cache-Control: min-fresh=100\r\n", "request-wants-fresher"),
        ("GET", "/fresh", "Cache-Control: max-age=0\r\n", "client-reload"),
        ("GET", "/fresh", "Authorization: Bearer x\r\n", "authorization"),
        ("GET", "/fresh", "Range: bytes=100-\r\n", "range-not-satisfiable"),
        ("GET", "/shared-later", "", "nothing-stored"),
        ("GET", "/shared-later", "Authorization: Bearer x\r\n", "authorization-not-shared"),
        ("GET", "/absent", "Cache-Control: only-if-cached\r\n", "only-if-cached"),
        ("GET", "/vary", "Foo: 1\r\n", "nothing-stored"),
        ("GET", "/vary", "Foo: 2\r\n", "no-variant-matches"),
        ("GET", "/stale", "", "nothing-stored"),
        ("GET", "/stale", "", "stale"),
        ("GET", "/no-cache", "", "nothing-stored"),
        ("GET", "/no-cache", "", "must-validate"),
        ("GET", "/guarded", "", "nothing-stored"),
        ("GET", "/guarded", "Cookie: a=1\r\n", "cookie-guard"),
        ("GET", "/grouped", "", "nothing-stored"),
        ("POST", "/groups", "Content-Length: 0\r\n", "method-not-cacheable"),
        ("GET", "/grouped", "", "purged"),
        ("GET", "/renewed", "", "nothing-stored"),
        ("GET", "/renewed", "", "stale-while-revalidate"),
        ("GET", "/uncacheable", "", "no-store"),
        ("HEAD", "/uncacheable", "", "hit-for-miss"),
        ("GET", "/part", "Range: bytes=0-4\r\n", "nothing-stored"),
        ("GET", "/part", "Range: bytes=0-5\r\n", "part-missing"),
    ];
    for (at, (method, target, lines, expected)) in rows.into_iter().enumerate() {
        let answer = proxy.request(method, target, lines);
        assert_eq!(
            reason(&answer),
            expected,
            "row {at}: {method} {target} {lines}: {}",
            answer.cache_status()
        );
        logged(&proxy, target, if expected == "memory" { "fresh" } else { expected });
        until("nothing is under way", || get(proxy.admin, "/ready", "").text().contains("\"errands\": 0,"));
    }
}

#[test]
fn stored_and_not_readable() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply("/long", Reply::ok(noise(1, 300_000)).cache("max-age=60"));
    let proxy = Config::new(&origin).redis(&redis).without_memory().start();
    eventually("it comes from Redis", || (reason(&proxy.get("/long")) == "redis").then_some(()));
    let answer = eventually("its content is lost", || {
        for chunk in redis.keys().into_keys().filter(|name| name.contains(":b:")) {
            redis.command(&["DEL", &chunk]);
        }
        Some(proxy.get("/long")).filter(|answer| reason(answer) == "content-unreadable")
    });
    assert_eq!(answer.x_cache(), "MISS");
    logged(&proxy, "/long", "content-unreadable");
}

#[test]
fn not_stored() {
    let origin = Origin::start();
    let many_names: String = (0..40).map(|n| format!("X-{n}, ")).collect();
    let many_tags: String = (0..200).map(|n| format!("t{n},")).collect();
    let rows: Vec<(u16, Vec<(&str, &str)>, &str, &str)> = vec![
        (200, vec![("Cache-Control", "no-store")], "", "no-store"),
        (200, vec![("Cache-Control", "private")], "", "private"),
        (599, vec![("Cache-Control", "must-understand, no-store, max-age=60")], "", "status-not-understood"),
        (429, vec![("Cache-Control", "max-age=60")], "", "status-not-cacheable"),
        (200, vec![], "", "no-freshness"),
        (200, vec![("Cache-Control", "max-age=60"), ("Age", "60")], "", "already-stale"),
        (200, vec![("Cache-Control", "max-age=60")], "Authorization: Bearer x\r\n", "authorization"),
        (200, vec![("Cache-Control", "max-age=60"), ("Set-Cookie", "a=1")], "", "set-cookie"),
        (200, vec![("Cache-Control", "max-age=60"), ("Vary", "*")], "", "vary-any"),
        (200, vec![("Cache-Control", "max-age=60"), ("Vary", &many_names)], "", "too-many-variants"),
        (200, vec![("Cache-Control", "max-age=60"), ("X-Body", "large")], "", "too-large"),
        (200, vec![("Cache-Control", "max-age=60"), ("Cache-Tag", &many_tags)], "", "too-many-tags"),
        (206, vec![("Cache-Control", "max-age=60")], "Range: bytes=0-0\r\n", "part-not-storable"),
        (200, vec![("Cache-Control", "max-age=0")], "", "ttl-zero"),
    ];
    let proxy = Config::new(&origin)
        .memory("max_object_size = \"1KiB\"")
        .route("/ruled/{*rest}", "ttl = \"60s\"")
        .start();
    for (at, (status, fields, lines, expected)) in rows.into_iter().enumerate() {
        let target = format!("/{at}");
        let body = if expected == "too-large" { "x".repeat(2000) } else { "x".to_owned() };
        let reply =
            fields.iter().fold(Reply::new(status).body(body), |reply, (name, text)| reply.field(name, text));
        origin.reply(&target, reply);
        let before = proxy.metric("forebay_not_stored_total", &[("reason", expected)]);
        assert_eq!(reason(&proxy.get_with(&target, lines)), expected, "row {at}");
        logged(&proxy, &target, expected);
        let after = proxy.metric("forebay_not_stored_total", &[("reason", expected)]);
        assert!(after > before, "row {at}: {expected} is not counted");
    }
    origin.reply("/ruled/405", Reply::new(405));
    assert_eq!(reason(&proxy.get("/ruled/405")), "reflects-request");
    // Told before it is tried: what other methods are answered is not looked at.
    let text = Config::new(&origin).text();
    let told = explain(
        &text,
        &["-X", "PUT", "--response", "HTTP/1.1 200 OK\\nCache-Control: max-age=60", "http://a/"],
    );
    assert!(String::from_utf8_lossy(&told.stdout).contains("request-method"), "{told:?}");
}

#[test]
fn broken_off() {
    let origin = Origin::start();
    let piece = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for (target, directives) in [("/stored", "max-age=60"), ("/passed", "no-store")] {
        origin.bytes(target, format!("HTTP/1.1 200 OK\r\nCache-Control: {directives}\r\n{piece}"));
    }
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/stalled", move |exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n{piece}"));
        held.wait();
        exchange.close();
    });
    origin.on("/endless", move |exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nCache-Control: no-store\r\n{piece}"));
        exchange.hang_up();
    });
    let breaks_off = |proxy: &Forebay, target: &str, expected: &str| {
        let mut client = proxy.connect();
        client.send(request("GET", target, ""));
        assert!(client.try_answer().is_ok_and(|answer| !answer.is_complete()), "{target}");
        logged(proxy, target, expected);
    };
    let hasty = Config::new(&origin).upstream("between_bytes_timeout = \"300ms\"").start();
    breaks_off(&hasty, "/stalled", "origin-between-bytes-timeout");
    gate.open();
    drop(hasty);

    let proxy = Config::new(&origin).start();
    breaks_off(&proxy, "/stored", "incomplete");
    breaks_off(&proxy, "/passed", "origin-reset");
    assert!(proxy.metric("forebay_not_stored_total", &[("reason", "incomplete")]) > 0.0);
    let mut client = proxy.connect();
    client.send(request("GET", "/endless", ""));
    client.read_until(|text| text.contains("abc"));
    client.reset();
    logged(&proxy, "/endless", "client-gone");
}

#[test]
fn failures_of_the_origin() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/busy", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok("late").cache("no-store"));
    });
    origin.on("/held", |exchange| {
        exchange.hang_up();
    });
    origin.on("/reset", |exchange| exchange.reset());
    origin.bytes("/nonsense", "nonsense\r\n\r\n");
    origin.on("/allowed", |exchange| {
        let stale = Reply::ok("old").cache("max-age=60, stale-if-error=600").field("Age", "60");
        exchange.reply(&if exchange.nth() == 1 { stale } else { Reply::new(500) });
    });
    let fails = |proxy: &Forebay, target: &str, status: u16, expected: &str| {
        let answer = proxy.get(target);
        assert_eq!((answer.status, reason(&answer).as_str()), (status, expected), "{target}");
        logged(proxy, target, expected);
    };
    let hasty = Config::new(&origin).upstream("first_byte_timeout = \"300ms\"").start();
    fails(&hasty, "/held", 504, "origin-first-byte-timeout");
    drop(hasty);

    let proxy = Config::new(&origin).start();
    fails(&proxy, "/reset", 502, "origin-reset");
    fails(&proxy, "/nonsense", 502, "origin-protocol");
    for expected in ["nothing-stored", "stale-if-error"] {
        let answer = proxy.get("/allowed");
        assert_eq!((reason(&answer).as_str(), answer.text().as_str()), (expected, "old"));
    }
    let asked = eventually("the origin is left alone", || {
        let asked = origin.count("/allowed");
        let answer = proxy.get("/allowed");
        assert_eq!(answer.text(), "old");
        (reason(&answer) == "origin-back-off").then_some(asked)
    });
    assert_eq!(origin.count("/allowed"), asked, "the last one was answered without asking");
    // Nobody is shown the error that a stored response stands in for: the log tells it.
    until("the error is told", || {
        proxy.log().iter().any(|line| {
            value(line, "reason").as_deref() == Some("origin-error") && line.contains("status=500")
        })
    });
    drop(proxy);

    let proxy = Config::new(&origin).upstream("max_connections = 1\nconnect_timeout = \"200ms\"").start();
    let mut first = proxy.connect();
    first.send(request("GET", "/busy", ""));
    origin.wait_count("/busy", 1);
    let busy = proxy.get("/other");
    assert_eq!((busy.status, reason(&busy).as_str()), (503, "origin-busy"));
    gate.open();
    assert_eq!(first.answer().text(), "late");

    let nowhere = Config::to(free_port()).start().get("/p");
    assert_eq!((nowhere.status, reason(&nowhere).as_str()), (502, "origin-connect"));
    let text = Config::new(&origin).text().replace("servers = [\"http://", "servers = [\"https://");
    // It speaks no TLS: what it makes of the handshake is no request.
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let text = text.replace(&origin.address.to_string(), &plain.local_addr().unwrap().to_string());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let _ = plain.accept().unwrap().0.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let answer = Forebay::run(&text).get("/p");
        assert_eq!((answer.status, reason(&answer).as_str()), (502, "origin-tls"));
    });
}

#[test]
fn waiting_for_another_fetch() {
    for (action, status, expected) in [("503", 503, "collapse-timeout"), ("stale", 200, "stale-on-timeout")] {
        let origin = Origin::start();
        let gate = Gate::new();
        let held = gate.clone();
        origin.on("/p", move |exchange| {
            if exchange.nth() > 1 {
                held.wait();
            }
            exchange.reply(&Reply::ok("v").cache("max-age=60, stale-if-error=600").field("Age", "60"));
        });
        let proxy = Config::new(&origin)
            .defaults(&format!("on_collapse_timeout = \"{action}\"\ncollapse_timeout = \"200ms\""))
            .start();
        proxy.get("/p").expect(200, "MISS", "v");
        let mut leader = proxy.connect();
        leader.send(request("GET", "/p", ""));
        origin.wait_count("/p", 2);
        let answer = proxy.get("/p");
        assert_eq!((answer.status, reason(&answer).as_str()), (status, expected));
        logged(&proxy, "/p", expected);
        gate.open();
        assert_eq!(leader.answer().status, 200);
    }
}

#[test]
fn renewed_early() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        match exchange.nth() {
            // What it costs is what makes it worth renewing early.
            1 => pass(std::time::Duration::from_secs(1)),
            _ => held.wait(),
        }
        exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=20"));
    });
    let proxy = Config::new(&origin).defaults("early_refresh = 10.0").start();
    proxy.get("/p").expect(200, "MISS", "v1");
    let early = eventually("a hit renews early", || {
        let hit = proxy.get("/p");
        hit.expect(200, "HIT", "v1");
        (reason(&hit) != "memory").then_some(hit)
    });
    assert_eq!(reason(&early), "early-refresh");
    assert!(early.cache_status().starts_with("forebay; hit; ttl="), "{}", early.cache_status());
    logged(&proxy, "/p", "early-refresh");
    origin.wait_count("/p", 2);
    // One renewal, and whoever asks meanwhile has a plain hit.
    assert_eq!(reason(&proxy.get("/p")), "memory");
    gate.open();
    eventually("the renewal is stored", || (proxy.get("/p").text() != "v1").then_some(()));
}

#[test]
fn refused() {
    let origin = Origin::start();
    let text = Config::new(&origin)
        .server("max_request_body = \"1KiB\"\nheader_timeout = \"3s\"")
        .text()
        .replace("path = \"/{*rest}\"", "path = \"/only\"");
    let proxy = Forebay::run(&text);
    let host = "Host: a\r\n";
    for (bytes, status, expected) in [
        ("GET /only HTTP/1.1\r\nHost: a\r\nbad line\r\n\r\n".to_owned(), 400, "bad-request"),
        (
            format!("POST /only HTTP/1.1\r\n{host}Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400,
            "bad-framing",
        ),
        ("GET /only HTTP/1.1\r\n\r\n".to_owned(), 400, "bad-host"),
        (format!("GET /only HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(40 << 10)), 431, "head-too-large"),
        (format!("GET /{} HTTP/1.1\r\n{host}\r\n", "x".repeat(9 << 10)), 414, "target-too-long"),
        (format!("POST /only HTTP/1.1\r\n{host}Content-Length: 2000\r\n\r\n"), 413, "body-too-large"),
        ("GET /only HTTP/1.1\r\nHos".to_owned(), 408, "request-timeout"),
        (format!("TRACE /only HTTP/1.1\r\n{host}\r\n"), 405, "method-refused"),
        (format!("GET /other HTTP/1.1\r\n{host}\r\n"), 404, "no-route"),
    ] {
        let answer = proxy.send(&bytes);
        assert_eq!((answer.status, reason(&answer).as_str()), (status, expected), "{}", &bytes[..40]);
    }
    // What stands for several faults says which.
    for (bytes, fault) in [
        (
            format!("GET /only HTTP/1.1\r\n{host}Connection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
            "upgrades to HTTP/2 are refused",
        ),
        (format!("GET /on ly HTTP/1.1\r\n{host}\r\n"), "the request line cannot be read"),
        (format!("GET /only HTTP/1.1\r\n{host}bad line\r\n\r\n"), "a field line is malformed"),
    ] {
        let text = proxy.send(&bytes).text();
        assert!(text.contains(fault), "{text}");
    }
}
