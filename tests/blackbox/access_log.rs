//! The access log tells what happened: of clients that leave, and of requests that were refused.

use crate::support::*;

/// The line of the log about this target.
#[track_caller]
fn line(proxy: &Forebay, target: &str) -> String {
    let part = format!("target=\"{target}\"");
    eventually(&format!("a line with {part}"), || proxy.log().into_iter().find(|line| line.contains(&part)))
}

/// The value of a pair in it.
fn pair(line: &str, name: &str) -> String {
    let value = line.split(' ').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("no {name} in {line}")).trim_matches('"').to_owned()
}

#[test]
fn a_hit_that_its_client_left_is_not_logged_as_sent() {
    const LENGTH: usize = 24 << 20;
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(vec![b'x'; LENGTH]).cache("max-age=600")));
    let config = Config::new(&origin).memory("max_size = \"2GiB\"").memory("max_object_size = \"32MiB\"");
    let proxy = config.start();
    assert_eq!(proxy.get("/p").body.len(), LENGTH);
    let mut client = proxy.connect();
    client.send(request("GET", "/p?", ""));
    assert_eq!(client.answer().body.len(), LENGTH, "stored under its own key");
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    let (_, status, head) = client.head().unwrap();
    assert_eq!((status, head.field("x-cache")), (200, Some("HIT")));
    client.reset();
    let left =
        eventually("a line of the hit", || proxy.log().into_iter().find(|line| line.contains("result=hit")));
    assert_eq!(pair(&left, "broken"), "true", "{left}");
    assert!(pair(&left, "bytes").parse::<usize>().unwrap() < LENGTH, "{left}");
    // And one that was read to its end is whole.
    let whole = proxy.get("/p?");
    assert_eq!((whole.x_cache(), whole.body.len()), ("HIT", LENGTH));
    let said = || {
        proxy.log().into_iter().find(|line| line.contains("result=hit") && line.contains("target=\"/p?\""))
    };
    let read = eventually("a line of the other hit", said);
    assert!(pair(&read, "bytes") == LENGTH.to_string() && !read.contains("broken"), "{read}");
}

#[test]
fn a_client_that_left_before_its_answer_is_logged() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/*", move |exchange| {
        exchange.body();
        held.wait();
        exchange.reply(&Reply::ok("late").cache("max-age=60"));
    });
    let proxy = Config::new(&origin).route("/passed", "cache = false").start();
    // It fetches itself, it waits for one that does, and it has nothing to do with the cache.
    for (target, asked) in [("/fetched?a", 1), ("/fetched?a", 1), ("/passed", 2)] {
        let before = proxy.metric("forebay_requests_total", &[("code", "499")]);
        let mut client = proxy.connect();
        client.send(request("GET", target, ""));
        origin.wait("the request", |seen| seen.len() >= asked);
        drop(client);
        until("it is counted", || proxy.metric("forebay_requests_total", &[("code", "499")]) == before + 1.0);
        let said = line(&proxy, target);
        let pairs = ["method", "host", "status", "bytes", "result", "reason"].map(|name| pair(&said, name));
        assert_eq!(pairs, ["GET", "shop.example", "499", "0", "error", "client-gone"], "{said}");
        assert_eq!(pair(&said, "route"), if target == "/passed" { "route-1" } else { "rest" });
    }
    // Also where it left before anything could be done for it.
    for _ in 0..30 {
        proxy.connect().send(request("GET", "/passed?at-once", ""));
    }
    until("they are counted", || proxy.metric("forebay_requests_total", &[("code", "499")]) == 33.0);
    gate.open();
    until("the fetch that they began is stored", || proxy.get("/fetched?a").x_cache() == "HIT");
    assert_eq!(
        proxy.metric("forebay_requests_total", &[("code", "499")]),
        33.0,
        "who is answered is not gone"
    );
}

#[test]
fn the_visitor_is_logged_where_who_says_so_is_trusted() {
    let origin = Origin::start();
    origin.reply("/*", Reply::ok("content").cache("max-age=600"));
    let fields = "X-Forwarded-For: 198.51.100.1, 203.0.113.9, 127.0.0.3\r\n";
    for (trusted, client) in [("[\"127.0.0.0/8\"]", "203.0.113.9"), ("[]", "127.0.0.1")] {
        let proxy = Config::new(&origin).server(&format!("trusted_proxies = {trusted}")).start();
        proxy.get_with("/p", fields);
        assert_eq!(pair(&line(&proxy, "/p"), "client"), client);
    }
}

#[test]
fn a_refused_request_is_logged_as_what_was_read_of_it() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).server("header_timeout = \"2s\"").start();
    let long = "x".repeat(100_000);
    for (bytes, shown, status) in [
        (
            "GET /two-hosts HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
            "GET /two-hosts HTTP/1.1",
            "400",
        ),
        ("TRACE /trace HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), "TRACE /trace HTTP/1.1", "405"),
        ("\u{16}\u{3}\u{1}".to_owned(), "\\u{16}\\u{3}\\u{1}", "400"),
        ("GET /a\" status=200 HTTP/1.1\r\n\r\n".to_owned(), "GET /a\\\" status=200 HTTP/1.1", "400"),
        ("POST /slow HTTP/1.1\r\nHost: a\r\nX:".to_owned(), "POST /slow HTTP/1.1", "408"),
        (format!("GET /{long}"), &format!("GET /{}", &long[..251]), "414"),
    ] {
        let mut client = proxy.connect();
        client.send(&bytes);
        assert_eq!(client.answer().status.to_string(), status, "{bytes:.40}");
        let said = line(&proxy, shown);
        assert_eq!([pair(&said, "method"), pair(&said, "host")], ["-", ""], "{said}");
        let ending = &said[said.find(shown).unwrap() + shown.len()..];
        assert_eq!(pair(ending, "status"), status, "{said}");
    }
    // After good ones on the same connection it is the refused one that is told.
    origin.reply("/good", Reply::ok("good").cache("no-store"));
    let mut client = proxy.connect();
    client.send(request("GET", "/good", "") + "GET /behind HTTP/1.1\r\n\r\n");
    assert_eq!((client.answer().status, client.answer().status), (200, 400));
    assert_eq!(pair(&line(&proxy, "/good"), "method"), "GET");
    line(&proxy, "GET /behind HTTP/1.1");
    assert!(!proxy.log().iter().any(|line| line.contains("host=\"refused\"")));
}

#[test]
fn the_last_lines_are_written_before_the_end() {
    let origin = Origin::start();
    origin.reply("/*", Reply::ok("content").cache("max-age=600"));
    let mut proxy = Config::new(&origin).start();
    let mut client = proxy.connect();
    for n in 0..100 {
        client.send(request("GET", &format!("/{n}"), ""));
        client.answer().expect(200, "MISS", "content");
    }
    proxy.terminate();
    assert!(proxy.ended().success());
    (0..100).for_each(|n| assert_eq!(pair(&line(&proxy, &format!("/{n}")), "result"), "miss"));
}
