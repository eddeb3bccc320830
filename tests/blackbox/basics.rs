//! The first things anybody tries: miss, hit, bypass, HEAD, conditionals, keys, methods.

use crate::support::*;

#[test]
fn first_a_miss_then_hits_with_age() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").field("ETag", "\"1\"").cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    let miss = proxy.get("/p");
    miss.expect(200, "MISS", "content");
    assert!(miss.cache_status().starts_with("forebay"), "{}", miss.cache_status());
    assert!(miss.cache_status().contains("fwd="), "{}", miss.cache_status());
    assert!(!miss.cache_status().contains("hit"), "{}", miss.cache_status());
    for _ in 0..3 {
        let hit = proxy.get("/p");
        hit.expect(200, "HIT", "content");
        assert!(hit.age().is_some_and(|age| age < 30), "{:?}", hit.age());
        assert!(hit.cache_status().starts_with("forebay; hit"), "{}", hit.cache_status());
        assert!(hit.cache_status().contains("detail=memory"), "{}", hit.cache_status());
        assert!(hit.ttl().is_some_and(|ttl| (1..=60).contains(&ttl)), "{}", hit.cache_status());
        for name in ["date", "etag", "cache-control"] {
            assert_eq!(hit.head.all(name), miss.head.all(name), "{name} is the origin's");
        }
        assert_eq!(hit.field("content-length"), Some("7"));
    }
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn a_route_that_does_not_cache_forwards_everything() {
    let origin = Origin::start();
    origin.versions("/fresh/1", "max-age=60");
    let proxy = Config::new(&origin).route("/fresh/{id}", "cache = false").start();
    proxy.get("/fresh/1").expect(200, "BYPASS", "v1");
    proxy.get("/fresh/1").expect(200, "BYPASS", "v2");
    assert!(proxy.get("/fresh/1").cache_status().contains("fwd=bypass"));
}

#[test]
fn without_a_word_on_freshness_nothing_is_stored() {
    let origin = Origin::start();
    origin.on("/p", |exchange| exchange.reply(&Reply::ok(format!("v{}", exchange.nth()))));
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    proxy.get("/p").expect(200, "MISS", "v2");
}

#[test]
fn hits_keep_the_connection_and_come_in_order() {
    let origin = Origin::start();
    origin.on("/n/*", |exchange| exchange.reply(&Reply::ok(exchange.target()).cache("max-age=60")));
    let proxy = Config::new(&origin).start();
    for round in ["MISS", "HIT"] {
        let mut client = proxy.connect();
        let requests: String = (0..20).map(|i| request("GET", &format!("/n/{i}"), "")).collect();
        client.send(requests);
        for i in 0..20 {
            client.answer().expect(200, round, &format!("/n/{i}"));
        }
    }
}

#[test]
fn head_is_answered_from_a_stored_get() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "content");
    let mut client = proxy.connect();
    client.send(request("HEAD", "/p", "") + &request("GET", "/p", ""));
    let head = client.answer_to("HEAD");
    head.expect(200, "HIT", "");
    assert_eq!(head.field("content-length"), Some("7"));
    client.answer().expect(200, "HIT", "content");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn a_miss_of_head_fetches_what_get_needs() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    let head = proxy.request("HEAD", "/p", "");
    assert_eq!((head.status, head.field("content-length"), head.text().as_str()), (200, Some("7"), ""));
    proxy.get("/p").expect(200, "HIT", "content");
    assert_eq!(origin.seen().len(), 1);
}

#[test]
fn conditionals_are_answered_from_a_fresh_response() {
    let origin = Origin::start();
    let modified = "Mon, 06 Jul 2026 10:00:00 GMT";
    let reply = Reply::ok("content").field("ETag", "\"one\"").field("Last-Modified", modified);
    origin.reply("/p", reply.cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "content");
    // RFC 9110 13.1.2, 13.1.3, 13.2.2: weak comparison, lists, and If-None-Match before dates.
    let later = "Tue, 07 Jul 2026 10:00:00 GMT";
    let earlier = "Sun, 05 Jul 2026 10:00:00 GMT";
    for (lines, status) in [
        ("If-None-Match: \"one\"\r\n".to_owned(), 304),
        ("If-None-Match: W/\"one\"\r\n".to_owned(), 304),
        ("If-None-Match: \"zero\", \"one\"\r\n".to_owned(), 304),
        ("If-None-Match: \"zero\"\r\nIf-None-Match: \"one\"\r\n".to_owned(), 304),
        ("If-None-Match: *\r\n".to_owned(), 304),
        ("If-None-Match: \"two\"\r\n".to_owned(), 200),
        (format!("If-Modified-Since: {modified}\r\n"), 304),
        (format!("If-Modified-Since: {later}\r\n"), 304),
        (format!("If-Modified-Since: {earlier}\r\n"), 200),
        ("If-Modified-Since: not a date\r\n".to_owned(), 200),
        (format!("If-None-Match: \"two\"\r\nIf-Modified-Since: {later}\r\n"), 200),
    ] {
        let answer = proxy.get_with("/p", &lines);
        assert_eq!((answer.status, answer.x_cache()), (status, "HIT"), "{lines}");
        assert_eq!(answer.field("etag"), Some("\"one\""), "{lines}");
        assert_eq!(answer.text(), if status == 200 { "content" } else { "" }, "{lines}");
    }
    assert_eq!(origin.count("/p"), 1);
}

#[test]
fn the_key_is_scheme_host_path_and_query_byte_for_byte() {
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(exchange.target()).cache("max-age=60")));
    let proxy = Config::new(&origin).start();
    let targets = [
        "/a/b",
        "/a%2Fb",
        "/a%2fb",
        "/a//b",
        "/A/b",
        "/a/b/",
        "/a/.b",
        "/a/b?",
        "/a/b?x=1&y=2",
        "/a/b?y=2&x=1",
        "/a/b?x=1",
        "/a/b?x=1&x=2",
        "/a/b?x=%31",
        "/a/b?X=1",
    ];
    for target in targets {
        proxy.get(target).expect(200, "MISS", target);
    }
    for target in targets {
        proxy.get(target).expect(200, "HIT", target);
    }
    let seen: Vec<_> = origin.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(seen, targets, "forwarded byte for byte");
    // Of what may lead elsewhere there is no key; it is forwarded like the others.
    for target in ["/a/./b", "/a/%2e%2E/b?x=1"] {
        proxy.get(target).expect(200, "BYPASS", target);
    }
    let other = proxy.send("GET /a/b HTTP/1.1\r\nHost: other.example\r\n\r\n");
    other.expect(200, "MISS", "/a/b");
}

#[test]
fn excluded_parameters_share_one_response_and_reach_the_origin() {
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(exchange.target()).cache("max-age=60")));
    let config = Config::new(&origin)
        .route("/tracked", "")
        .route("/named", "key = { query_exclude = [\"session\", \"x_*\"] }")
        .route("/only", "key = { query_include = [\"id\"] }")
        .route("/sorted", "key = { sort_query = true }");
    let proxy = config.start();
    for (first, same, different) in [
        ("/tracked?id=1&utm_source=a&gclid=3", "/tracked?id=1&utm_source=b", "/tracked?id=2&utm_source=a"),
        ("/named?id=1&session=7&x_a=1", "/named?x_b=2&id=1", "/named?id=1&sessions=7"),
        ("/only?id=1&page=2", "/only?page=3&id=1", "/only?id=2&page=2"),
        ("/sorted?b=1&a=2", "/sorted?a=2&b=1", "/sorted?a=1&b=2"),
    ] {
        proxy.get(first).expect(200, "MISS", first);
        proxy.get(same).expect(200, "HIT", first);
        proxy.get(different).expect(200, "MISS", different);
    }
}

#[test]
fn chosen_fields_and_cookies_are_part_of_the_key() {
    let origin = Origin::start();
    origin.versions("/p", "max-age=60");
    let lines = "cookies = \"ignore\"\nkey = { headers = [\"X-Country\"], cookies = [\"currency\"] }";
    let proxy = Config::new(&origin).route("/p", lines).start();
    proxy.get_with("/p", "X-Country: DE\r\n").expect(200, "MISS", "v1");
    proxy.get_with("/p", "X-Country: FR\r\n").expect(200, "MISS", "v2");
    proxy.get_with("/p", "X-Country: DE\r\nCookie: session=9\r\n").expect(200, "HIT", "v1");
    proxy.get_with("/p", "X-Country: DE\r\nCookie: a=1; currency=EUR\r\n").expect(200, "MISS", "v3");
    proxy.get_with("/p", "X-Country: DE\r\nCookie: currency=EUR\r\n").expect(200, "HIT", "v3");
    proxy.get_with("/p", "X-Country: FR\r\n").expect(200, "HIT", "v2");
}

#[test]
fn unsafe_methods_invalidate_on_success_only() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "FROB"] {
        let origin = Origin::start();
        origin.on("/p", |exchange| match exchange.method() {
            "GET" => exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60")),
            _ if exchange.head().field("x-fail").is_some() => exchange.reply(&Reply::new(500)),
            _ => exchange.reply(&Reply::ok("changed")),
        });
        let proxy = Config::new(&origin).start();
        proxy.get("/p").expect(200, "MISS", "v1");
        assert_eq!(proxy.request(method, "/p", "X-Fail: 1\r\nContent-Length: 0\r\n").status, 500);
        proxy.get("/p").expect(200, "HIT", "v1");
        assert_eq!(proxy.request(method, "/p", "Content-Length: 0\r\n").text(), "changed", "{method}");
        proxy.get("/p").expect(200, "MISS", "v4");
    }
}

#[test]
fn unsafe_methods_invalidate_location_on_the_same_host_only() {
    let origin = Origin::start();
    origin.versions("/list", "max-age=60");
    origin.versions("/other", "max-age=60");
    let created =
        Reply::new(201).field("Location", "/list").field("Content-Location", "http://evil.example/other");
    origin.reply("/create", created);
    let proxy = Config::new(&origin).start();
    let evil = "GET /other HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    proxy.get("/list").expect(200, "MISS", "v1");
    proxy.send(evil).expect(200, "MISS", "v1");
    assert_eq!(proxy.request("POST", "/create", "Content-Length: 0\r\n").status, 201);
    proxy.get("/list").expect(200, "MISS", "v2");
    proxy.send(evil).expect(200, "HIT", "v1");
}

#[test]
fn other_methods_and_get_with_content_are_never_answered_from_the_cache() {
    let origin = Origin::start();
    origin.versions("/p", "public, max-age=60");
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    for (n, request) in [
        "OPTIONS /p HTTP/1.1\r\nHost: shop.example\r\n\r\n",
        "GET /p HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 4\r\n\r\nmore",
    ]
    .iter()
    .enumerate()
    {
        let answer = proxy.send(request);
        assert_eq!((answer.text(), answer.x_cache()), (format!("v{}", n + 2), "BYPASS"), "{request}");
    }
    assert_eq!(origin.last("/p").body, b"more");
    proxy.get("/p").expect(200, "HIT", "v1");
}

#[test]
fn x_cache_can_be_turned_off_and_the_name_chosen() {
    let origin = Origin::start();
    origin.versions("/p", "max-age=60");
    let proxy = Config::new(&origin).server("x_cache = false").server("name = \"edge\"").start();
    for member in ["edge; fwd=", "edge; hit"] {
        let answer = proxy.get("/p");
        assert_eq!(answer.field("x-cache"), None);
        assert!(answer.cache_status().starts_with(member), "{}", answer.cache_status());
        assert!(answer.field("via").is_some_and(|via| via.contains("edge")), "{:?}", answer.field("via"));
    }
}

#[test]
fn the_most_specific_route_decides() {
    let origin = Origin::start();
    origin.on("/*", |exchange| exchange.reply(&Reply::ok(format!("v{}", exchange.nth()))));
    let proxy = Config::new(&origin)
        .route("/shop/{*rest}", "ttl = \"60s\"")
        .route("/shop/cart", "cache = false")
        .route("/shop/{page}", "host = \"raw.example\"\ncache = false")
        .start();
    proxy.get("/shop/a/b").expect(200, "MISS", "v1");
    proxy.get("/shop/a/b").expect(200, "HIT", "v1");
    proxy.get("/shop/cart").expect(200, "BYPASS", "v1");
    proxy.send("GET /shop/x HTTP/1.1\r\nHost: raw.example\r\n\r\n").expect(200, "BYPASS", "v1");
    proxy.get("/shop/x").expect(200, "MISS", "v2");
    proxy.get("/shop/x").expect(200, "HIT", "v2");
}

#[test]
fn the_answer_to_post_that_describes_its_target_answers_get() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let n = exchange.nth();
        let reply = Reply::ok(format!("v{n}")).cache("max-age=60");
        let post = exchange.method() == "POST";
        exchange.reply(&if post { reply.field("Content-Location", "/p") } else { reply });
    });
    let proxy = Config::new(&origin).start();
    proxy.get("/p").expect(200, "MISS", "v1");
    let posted = proxy.request("POST", "/p", "Content-Length: 0\r\n");
    assert_eq!((posted.status, posted.text().as_str()), (200, "v2"));
    assert!(posted.cache_status().contains("stored"), "{}", posted.cache_status());
    // RFC 9110 9.3.3: it replaced what it invalidated.
    proxy.get("/p").expect(200, "HIT", "v2");
    assert_eq!(origin.count("/p"), 2);
}
