//! Who may see what (wire rules 17 to 19): an answer goes only to someone the origin would give it to.

use crate::support::*;

/// A proxy before an origin that answers `/p` with `v1`, `v2`, … and these lines.
fn versions(lines: &'static [(&'static str, &'static str)], defaults: &[&str]) -> (Origin, Forebay) {
    let origin = Origin::start();
    origin.on("/p", move |exchange| {
        let mut reply = Reply::ok(format!("v{}", exchange.nth()));
        for (name, value) in lines {
            reply = reply.field(name, value);
        }
        exchange.reply(&reply);
    });
    let config = defaults.iter().fold(Config::new(&origin), |config, line| config.defaults(line));
    let proxy = config.start();
    (origin, proxy)
}

#[test]
fn private_and_no_store_in_any_case_on_any_line_are_never_shared() {
    for lines in [
        [("Cache-Control", "private, max-age=60")].as_slice(),
        &[("Cache-Control", "PRIVATE, max-age=60")],
        &[("Cache-Control", "max-age=60"), ("Cache-Control", "Private")],
        &[("cache-control", "max-age=60,no-store")],
        &[("Cache-Control", "nO-StOrE"), ("Cache-Control", "max-age=60")],
        &[("Cache-Control", "max-age=60, x=\"a, b\", no-store")],
        &[("Cache-Control", "public, max-age=60, , ,private")],
    ] {
        let (_origin, proxy) = versions(lines, &["ttl = \"60s\""]);
        for nth in 1..4 {
            proxy.get("/p").expect(200, "MISS", &format!("v{nth}"));
        }
    }
}

#[test]
fn answers_to_authorization_are_shared_only_when_the_origin_says_so() {
    let authorized = "Authorization: Bearer secret\r\n";
    for (directives, shared) in [
        ("max-age=60", false),
        ("max-age=60, public", true),
        ("s-maxage=60", true),
        ("max-age=60, must-revalidate", true),
        ("max-age=60, proxy-revalidate", false),
    ] {
        let origin = Origin::start();
        origin.versions("/p", directives);
        let proxy = Config::new(&origin).start();
        proxy.get_with("/p", authorized).expect(200, "MISS", "v1");
        if shared {
            proxy.get_with("/p", authorized).expect(200, "HIT", "v1");
            proxy.get("/p").expect(200, "HIT", "v1");
        } else {
            proxy.get("/p").expect(200, "MISS", "v2");
            // What anybody may see is not what somebody who is known would get (RFC 9111 3.5).
            let answer = proxy.get_with("/p", authorized);
            assert_ne!(answer.text(), "v1", "{directives}");
        }
    }
}

#[test]
fn set_cookie_is_refused_or_stripped() {
    let lines = &[("Set-Cookie", "id=secret"), ("Cache-Control", "public, max-age=60")];
    let (_origin, proxy) = versions(lines, &[]);
    for nth in 1..4 {
        let answer = proxy.get("/p");
        answer.expect(200, "MISS", &format!("v{nth}"));
        assert_eq!(answer.field("set-cookie"), Some("id=secret"));
    }
    let (_origin, proxy) = versions(lines, &["set_cookie = \"strip\""]);
    for x_cache in ["MISS", "HIT", "HIT"] {
        let answer = proxy.get("/p");
        answer.expect(200, x_cache, "v1");
        assert_eq!(answer.field("set-cookie"), None);
    }
}

#[test]
fn set_cookie_may_be_shared_with_explicit_freshness_only() {
    let explicit = &[("Set-Cookie", "theme=dark"), ("Cache-Control", "max-age=60")];
    let (_origin, proxy) = versions(explicit, &["set_cookie = \"share\"", "ttl = \"60s\""]);
    proxy.get("/p").expect(200, "MISS", "v1");
    let hit = proxy.get("/p");
    hit.expect(200, "HIT", "v1");
    assert_eq!(hit.field("set-cookie"), Some("theme=dark"));
    let (_origin, proxy) = versions(&[("Set-Cookie", "a=1")], &["set_cookie = \"share\"", "ttl = \"60s\""]);
    proxy.get("/p").expect(200, "MISS", "v1");
    proxy.get("/p").expect(200, "MISS", "v2");
}

#[test]
fn the_cookie_guard_asks_for_the_origins_own_word() {
    let cookie = "Cookie: session=7\r\n";
    // Fresh by the route alone: with a cookie it is neither reused nor stored.
    let (_origin, proxy) = versions(&[], &["ttl = \"60s\""]);
    assert_eq!(proxy.get_with("/p", cookie).text(), "v1");
    proxy.get("/p").expect(200, "MISS", "v2");
    assert_eq!(proxy.get_with("/p", cookie).text(), "v3");
    proxy.get("/p").expect(200, "HIT", "v2");
    // Fresh by the origin's word: shared.
    let (_origin, proxy) = versions(&[("Cache-Control", "max-age=60")], &[]);
    proxy.get_with("/p", cookie).expect(200, "MISS", "v1");
    proxy.get_with("/p", cookie).expect(200, "HIT", "v1");
    proxy.get("/p").expect(200, "HIT", "v1");
}

#[test]
fn cookies_can_be_ignored_or_bypass() {
    let cookie = "Cookie: session=7\r\n";
    let (_origin, proxy) = versions(&[], &["ttl = \"60s\"", "cookies = \"ignore\""]);
    proxy.get_with("/p", cookie).expect(200, "MISS", "v1");
    proxy.get_with("/p", cookie).expect(200, "HIT", "v1");
    let (_origin, proxy) = versions(&[("Cache-Control", "max-age=60")], &["cookies = \"bypass\""]);
    proxy.get("/p").expect(200, "MISS", "v1");
    proxy.get_with("/p", cookie).expect(200, "BYPASS", "v2");
    proxy.get("/p").expect(200, "HIT", "v1");
}

#[test]
fn variants_stay_side_by_side() {
    let (origin, proxy) = versions(&[("Vary", "X-Language, x-kind"), ("Cache-Control", "max-age=60")], &[]);
    let lines = |language, kind| format!("X-Language: {language}\r\nX-Kind: {kind}\r\n");
    let variants = [("de", "a"), ("de", "b"), ("fr", "a"), ("dea", ""), ("d", "ea")];
    for (n, (language, kind)) in variants.iter().enumerate() {
        proxy.get_with("/p", &lines(language, kind)).expect(200, "MISS", &format!("v{}", n + 1));
    }
    for (n, (language, kind)) in variants.iter().enumerate() {
        proxy.get_with("/p", &lines(language, kind)).expect(200, "HIT", &format!("v{}", n + 1));
    }
    proxy.get("/p").expect(200, "MISS", "v6");
    assert_eq!(origin.count("/p"), 6);
}

#[test]
fn vary_counts_on_every_line_and_a_star_anywhere_means_never() {
    let lines = &[("Vary", "X-A"), ("Vary", "X-B"), ("Cache-Control", "max-age=60")];
    let (_origin, proxy) = versions(lines, &[]);
    proxy.get_with("/p", "X-A: 1\r\nX-B: 1\r\n").expect(200, "MISS", "v1");
    proxy.get_with("/p", "X-A: 1\r\nX-B: 2\r\n").expect(200, "MISS", "v2");
    proxy.get_with("/p", "X-A: 2\r\nX-B: 1\r\n").expect(200, "MISS", "v3");
    proxy.get_with("/p", "X-A: 1\r\nX-B: 2\r\n").expect(200, "HIT", "v2");
    for star in [
        [("Vary", "*"), ("Cache-Control", "max-age=60")].as_slice(),
        &[("Vary", "Accept, *"), ("Cache-Control", "max-age=60")],
        &[("Vary", "Accept"), ("Vary", " *, X"), ("Cache-Control", "max-age=60")],
    ] {
        let (_origin, proxy) = versions(star, &["ttl = \"60s\""]);
        proxy.get("/p").expect(200, "MISS", "v1");
        proxy.get("/p").expect(200, "MISS", "v2");
    }
}

#[test]
fn variants_of_one_key_are_bounded() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let agent = exchange.head().field("x-agent").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(agent).field("Vary", "X-Agent").cache("max-age=600"));
    });
    let proxy = Config::new(&origin).start();
    for n in 0..300 {
        proxy.get_with("/p", &format!("X-Agent: {n}\r\n")).expect(200, "MISS", &n.to_string());
    }
    assert!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]) < 300.0);
    proxy.get_with("/p", "X-Agent: 299\r\n").expect(200, "HIT", "299");
}

#[test]
fn an_encoded_answer_goes_only_to_those_who_accept_it() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        // An origin that encodes without saying that it varies.
        let gzip = exchange.head().field("accept-encoding").is_some_and(|value| value.contains("gzip"));
        let reply = Reply::ok(if gzip { "zipped" } else { "plain" }).cache("max-age=60");
        exchange.reply(&if gzip { reply.field("Content-Encoding", "gzip") } else { reply });
    });
    let proxy = Config::new(&origin).start();
    proxy.get_with("/p", "Accept-Encoding: gzip\r\n").expect(200, "MISS", "zipped");
    let plain = proxy.get("/p");
    assert_eq!((plain.text().as_str(), plain.field("content-encoding")), ("plain", None));
    let refused = proxy.get_with("/p", "Accept-Encoding: identity, gzip;q=0\r\n");
    assert_eq!((refused.text().as_str(), refused.field("content-encoding")), ("plain", None));
}

#[test]
fn one_clients_validators_never_shape_anothers_answer() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        if exchange.head().field("if-none-match").is_some() {
            exchange.reply(&Reply::not_modified().field("ETag", "\"1\"").cache("max-age=60"));
        } else {
            exchange.reply(&Reply::ok("content").field("ETag", "\"1\"").cache("max-age=60"));
        }
    });
    let proxy = Config::new(&origin).start();
    let conditional = proxy.get_with("/p", "If-None-Match: \"1\"\r\n");
    assert!(matches!(conditional.status, 200 | 304), "{}", conditional.status);
    let plain = proxy.get("/p");
    assert_eq!((plain.status, plain.text().as_str()), (200, "content"));
}

#[test]
fn one_clients_range_never_shapes_anothers_answer() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        if exchange.head().field("range").is_some() {
            let part = Reply::new(206).body("con").field("Content-Range", "bytes 0-2/7");
            exchange.reply(&part.cache("max-age=60"));
        } else {
            exchange.reply(&Reply::ok("content").cache("max-age=60"));
        }
    });
    let proxy = Config::new(&origin).start();
    let part = proxy.get_with("/p", "Range: bytes=0-2\r\n");
    assert!(matches!((part.status, part.text().as_str()), (206, "con") | (200, "content")), "{part:?}");
    let whole = proxy.get("/p");
    assert_eq!((whole.status, whole.text().as_str()), (200, "content"));
}

#[test]
fn nominated_fields_and_tags_are_not_stored() {
    let lines = &[
        ("Connection", "X-Once"),
        ("X-Once", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Surrogate-Key", "a b"),
        ("Cache-Tag", "c,d"),
        ("Link", "<a>"),
        ("Link", "<b>"),
        ("Cache-Control", "max-age=60"),
    ];
    let (_origin, proxy) = versions(lines, &[]);
    for x_cache in ["MISS", "HIT"] {
        let answer = proxy.get("/p");
        answer.expect(200, x_cache, "v1");
        for name in ["x-once", "keep-alive", "surrogate-key", "cache-tag"] {
            assert_eq!(answer.field(name), None, "{name}");
        }
        assert_eq!(answer.head.all("link"), ["<a>", "<b>"], "lines stay lines, in order");
    }
}

#[test]
fn variants_by_forwarding_fields_go_by_what_the_origin_was_told() {
    // Every client of these tests is 127.0.0.1, and http: that is what the origin hears.
    for vary in ["X-Forwarded-Proto", "X-Forwarded-For", "X-Forwarded-Host, Via", "TE"] {
        let origin = Origin::start();
        origin.on("/p", move |exchange| {
            let heard = exchange.head().field("x-forwarded-for").unwrap_or_default().to_owned();
            let body = format!("v{} for {heard}", exchange.nth());
            exchange.reply(&Reply::ok(body).cache("max-age=60").field("Vary", vary));
        });
        let proxy = Config::new(&origin).start();
        proxy.get("/p").expect(200, "MISS", "v1 for 127.0.0.1");
        proxy.get("/p").expect(200, "HIT", "v1 for 127.0.0.1");
        // What a stranger claims is not what the origin is told, and selects nothing.
        let claims = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\n";
        proxy.get_with("/p", claims).expect(200, "HIT", "v1 for 127.0.0.1");
    }
}

#[test]
fn a_trusted_proxy_lends_nobody_its_clients_variants() {
    // What is stored for 192.0.2.1 is selected by who the origin would be told of, not by a claim.
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let heard = exchange.head().field("x-forwarded-for").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(heard).cache("max-age=60").field("Vary", "X-Forwarded-For"));
    });
    let proxy = Config::new(&origin).server("trusted_proxies = [\"127.0.0.0/8\"]").start();
    proxy.get_with("/p", "X-Forwarded-For: 192.0.2.1\r\n").expect(200, "MISS", "192.0.2.1, 127.0.0.1");
    proxy.get_with("/p", "X-Forwarded-For: 192.0.2.1\r\n").expect(200, "HIT", "192.0.2.1, 127.0.0.1");
    // The same words, on a request whose own list differs.
    let other = proxy.get_with("/p", "X-Forwarded-For: 192.0.2.1, 127.0.0.1\r\n");
    other.expect(200, "MISS", "192.0.2.1, 127.0.0.1, 127.0.0.1");
}

#[test]
fn nobody_evicts_what_is_stored_for_all_by_sending_credentials() {
    for (line, lines) in
        [("Authorization: Bearer x\r\n", &[("Cache-Control", "max-age=60")][..]), ("Cookie: id=1\r\n", &[])]
    {
        let origin = Origin::start();
        origin.on("/p", move |exchange| {
            let known = exchange.head().field("authorization").or(exchange.head().field("cookie"));
            let mut reply = Reply::ok(format!("v{}", exchange.nth()));
            match known {
                Some(_) => reply = reply.cache("private"),
                None => {
                    for (name, value) in lines {
                        reply = reply.field(name, value);
                    }
                }
            }
            exchange.reply(&reply);
        });
        let proxy = Config::new(&origin).defaults("ttl = \"60s\"").start();
        proxy.get("/p").expect(200, "MISS", "v1");
        proxy.get_with("/p", line).expect(200, "MISS", "v2");
        proxy.get("/p").expect(200, "HIT", "v1");
    }
}

#[test]
fn a_key_by_forwarding_fields_goes_by_what_the_origin_was_told() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        let scheme = exchange.head().field("x-forwarded-proto").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(scheme).cache("max-age=60"));
    });
    let config = Config::new(&origin).defaults("key = { headers = [\"X-Forwarded-Proto\"] }");
    // A stranger's claim is replaced: it must not put the answer for http under https.
    let stranger = config.clone().start();
    stranger.get_with("/p", "X-Forwarded-Proto: https\r\n").expect(200, "MISS", "http");
    stranger.get("/p").expect(200, "HIT", "http");
    // A trusted proxy's word is passed on, and counts.
    let trusted = config.server("trusted_proxies = [\"127.0.0.0/8\"]").start();
    trusted.get_with("/p", "X-Forwarded-Proto: https\r\n").expect(200, "MISS", "https");
    trusted.get("/p").expect(200, "MISS", "http");
    trusted.get_with("/p", "X-Forwarded-Proto: https\r\n").expect(200, "HIT", "https");
}

#[test]
fn an_unsafe_method_invalidates_its_target_whatever_the_key_is_made_of() {
    for (recipe, line) in [
        ("key = { headers = [\"X-Lang\"] }", "X-Lang: de\r\n"),
        ("key = { cookies = [\"lang\"] }", "Cookie: lang=de\r\n"),
    ] {
        let origin = Origin::start();
        origin.on("/p", |exchange| {
            exchange.body();
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60"));
        });
        let proxy = Config::new(&origin).defaults(recipe).start();
        proxy.get_with("/p", line).expect(200, "MISS", "v1");
        proxy.get_with("/p", line).expect(200, "HIT", "v1");
        proxy.get("/p").expect(200, "MISS", "v2");
        assert_eq!(proxy.request("POST", "/p", "Content-Length: 0\r\n").status, 200);
        proxy.get_with("/p", line).expect(200, "MISS", "v4");
        proxy.get("/p").expect(200, "MISS", "v5");
        proxy.get_with("/p", line).expect(200, "HIT", "v4");
    }
}
