//! Wire rule 15 and DESIGN 1.3: which fields cross the proxy, and which it writes itself.

use crate::support::*;

fn echo() -> (Origin, Forebay) {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("reached").cache("no-store"));
    let proxy = Config::new(&origin).start();
    (origin, proxy)
}

#[test]
fn what_connection_nominates_stays_on_its_hop() {
    let (origin, proxy) = echo();
    let lines = "Connection: X-Hop, close ,x-other\r\nConnection: x-third\r\nX-Hop: 1\r\nX-Other: 2\r\nX-Third: 3\r\n\
                 X-Kept: 4\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nTE: gzip\r\nUpgrade: foo\r\n\
                 Proxy-Authorization: Basic eA==\r\n";
    assert_eq!(proxy.get_with("/p", lines).status, 200);
    let seen = origin.last("/p");
    for name in
        ["x-hop", "x-other", "x-third", "keep-alive", "proxy-connection", "upgrade", "proxy-authorization"]
    {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_ne!(seen.field("te"), Some("gzip"));
    assert_eq!(seen.field("x-kept"), Some("4"));
    let connection = seen.field("connection").unwrap_or_default().to_ascii_lowercase();
    assert!(matches!(connection.as_str(), "" | "keep-alive"), "{connection}");
}

#[test]
fn framing_host_and_our_own_fields_cannot_be_nominated_away() {
    let (origin, proxy) = echo();
    let nominated = "Connection: Host, Content-Length, Transfer-Encoding, Via, X-Forwarded-For, X-Forwarded-Host, \
                     X-Forwarded-Proto, Authorization, Cookie, Cache-Control\r\n";
    let answer = proxy
        .send(format!("POST /p HTTP/1.1\r\nHost: shop.example\r\n{nominated}Content-Length: 3\r\n\r\nabc"));
    if answer.status == 200 {
        let seen = origin.last("/p");
        assert_eq!(seen.body, b"abc");
        for name in ["host", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"] {
            assert!(seen.field(name).is_some(), "{name} was nominated away");
        }
    } else {
        assert_eq!((answer.status, origin.seen().len()), (400, 0));
    }
    // The other way round: an origin that nominates what frames its answer.
    origin.bytes(
        "/evil",
        "HTTP/1.1 200 OK\r\nConnection: Content-Length, Date, close\r\nCache-Control: max-age=60\r\nContent-Length: 3\r\n\r\nabc",
    );
    let answer = proxy.get("/evil");
    assert!(answer.is_complete());
    assert!(answer.status == 502 || answer.text() == "abc" && answer.framing != Framing::Close, "{answer:?}");
}

#[test]
fn forwarding_fields_are_ours_unless_the_peer_is_trusted() {
    let lines = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
                 Forwarded: for=6.6.6.6;proto=https\r\n";
    let (origin, proxy) = echo();
    assert_eq!(proxy.get_with("/p", lines).status, 200);
    let seen = origin.last("/p");
    assert_eq!(seen.head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.head.all("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["shop.example"]);
    assert!(!seen.head.all("forwarded").join(",").contains("6.6.6.6"));
    let proxy = Config::new(&origin).server("trusted_proxies = [\"127.0.0.0/8\"]").start();
    assert_eq!(proxy.get_with("/p", lines).status, 200);
    let seen = origin.last("/p");
    assert_eq!(seen.head.all("x-forwarded-for").join(", "), "6.6.6.6, 127.0.0.1");
    assert_eq!(seen.head.all("x-forwarded-proto"), ["https"]);
    assert_eq!(seen.head.all("x-forwarded-host"), ["evil.example"]);
}

#[test]
fn via_grows_in_both_directions() {
    let (origin, proxy) = echo();
    origin.reply("/via", Reply::ok("x").field("Via", "1.1 inner").cache("max-age=60"));
    for _ in 0..2 {
        let answer = proxy.get_with("/via", "Via: 1.0 outer\r\n");
        assert_eq!(answer.head.all("via").join(", "), "1.1 inner, 1.1 forebay");
    }
    assert_eq!(origin.last("/via").head.all("via").join(", "), "1.0 outer, 1.1 forebay");
}

#[test]
fn cache_status_is_appended_to_the_inner_caches() {
    let (origin, proxy) = echo();
    origin.reply("/p", Reply::ok("x").field("Cache-Status", "inner; hit").cache("max-age=60"));
    for word in ["fwd=", "hit"] {
        let answer = proxy.get("/p");
        let members = answer.head.all("cache-status").join(", ");
        assert!(members.starts_with("inner; hit, forebay"), "{members}");
        assert!(answer.cache_status().contains(word), "{members}");
        assert_eq!(members.matches("forebay").count(), 1, "{members}");
    }
}

#[test]
fn fields_pass_in_order_and_byte_for_byte() {
    let (origin, proxy) = echo();
    origin.bytes(
        "/p",
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nX-Latin: caf\xe9\r\nX-List: a\r\nX-Empty:\r\nX-List: b\r\nContent-Length: 2\r\n\r\nok",
    );
    for _ in 0..2 {
        let answer = proxy.get_with("/p", "X-Latin: na\u{ef}f\r\nX-Multi: 1\r\nX-Multi: 2\r\n");
        assert_eq!(answer.field("x-latin"), Some("caf\u{e9}"));
        assert_eq!(answer.field("x-empty"), Some(""));
        assert_eq!(answer.head.all("x-list"), ["a", "b"]);
    }
    let seen = origin.last("/p");
    assert_eq!(seen.head.all("x-multi"), ["1", "2"]);
    assert_eq!(seen.field("host"), Some("shop.example"));
}

#[test]
fn the_host_towards_the_origin_is_configuration() {
    for (line, host) in [
        ("host = \"preserve\"", "shop.example".to_owned()),
        ("host = \"upstream\"", String::new()),
        ("host = \"inner.example\"", "inner.example".to_owned()),
    ] {
        let origin = Origin::start();
        origin.reply("/p", Reply::ok("x"));
        let host = if host.is_empty() { origin.address.to_string() } else { host };
        let proxy = Config::new(&origin).upstream(line).start();
        assert_eq!(proxy.get("/p").status, 200);
        let seen = origin.last("/p");
        assert_eq!(seen.head.all("host"), [host], "{line}");
        assert_eq!(seen.field("x-forwarded-host"), Some("shop.example"), "{line}");
    }
}

#[test]
fn trailers_pass_both_ways_and_frame_nothing() {
    let (origin, proxy) = echo();
    origin.bytes(
        "/p",
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Content-Length\r\nCache-Control: no-store\r\nConnection: close\r\n\
         Transfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 99\r\n\r\n",
    );
    let answer = proxy.get_with("/p", "TE: trailers\r\n");
    assert_eq!((answer.text().as_str(), answer.is_complete()), ("abc", true));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    let upload = "PUT /up HTTP/1.1\r\nHost: shop.example\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\nX-Sum: 7\r\nHost: evil.example\r\nTransfer-Encoding: gzip\r\n\r\n";
    let answer = proxy.send(upload);
    let seen = origin.wait("the upload's end", |seen| seen.iter().all(|seen| seen.end.is_some()));
    if answer.status == 200 {
        let seen = seen.iter().find(|seen| seen.target == "/up").unwrap();
        assert_eq!((seen.body.as_slice(), seen.field("host")), (b"abc".as_slice(), Some("shop.example")));
        assert!(seen.trailers.iter().all(|(name, _)| name == "x-sum"), "{:?}", seen.trailers);
    } else {
        assert_eq!(answer.status, 400, "a trailer that frames is refused");
        assert!(seen.iter().all(|seen| seen.target != "/up" || seen.end != Some(End::Complete)));
    }
}

#[test]
fn a_response_without_date_gets_one_that_stays() {
    let (origin, proxy) = echo();
    origin.reply("/p", Reply::ok("x").without_date().cache("max-age=60"));
    let first = proxy.get("/p");
    let date = first.field("date").map(str::to_owned);
    assert!(date.is_some(), "RFC 9110 6.6.1");
    pass(std::time::Duration::from_millis(1100));
    let hit = proxy.get("/p");
    hit.expect(200, "HIT", "x");
    assert_eq!((first.head.all("date").len(), hit.head.all("date").len()), (1, 1));
    assert_eq!(hit.field("date").map(str::to_owned), date, "a stored response keeps its date");
}

#[test]
fn statuses_without_content_have_none() {
    let (origin, proxy) = echo();
    origin.bytes("/204", "HTTP/1.1 204 No Content\r\nCache-Control: max-age=60\r\n\r\n");
    origin.reply("/304", Reply::not_modified().field("ETag", "\"1\""));
    for _ in 0..2 {
        let answer = proxy.get("/204");
        assert_eq!((answer.status, answer.field("content-length"), answer.is_complete()), (204, None, true));
        assert_eq!(answer.field("transfer-encoding"), None);
        let answer = proxy.get_with("/304", "If-None-Match: \"1\"\r\n");
        assert_eq!((answer.status, answer.text().as_str()), (304, ""));
    }
}

#[test]
fn a_path_without_route_is_a_404_that_says_so() {
    let origin = Origin::start();
    let text = Config::new(&origin).text().replace("path = \"/{*rest}\"", "path = \"/only\"");
    let proxy = Forebay::run(&text);
    let answer = proxy.get("/other");
    assert_eq!(answer.status, 404);
    assert!(!answer.text().is_empty());
    assert!(origin.seen().is_empty());
}

#[test]
fn the_answer_to_a_forwarded_head_keeps_its_length() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\nCache-Control: no-store\r\n\r\n");
    });
    let proxy = Config::new(&origin).defaults("cache = false").start();
    let answer = proxy.request("HEAD", "/p", "");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("1234")));
}

#[test]
fn a_head_of_what_is_not_stored_moves_no_content() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("no-store"));
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "content");
    let answer = proxy.request("HEAD", "/p", "");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("7")));
    assert_eq!(origin.last("/p").method, "HEAD");
}
