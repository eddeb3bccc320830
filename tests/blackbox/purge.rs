//! Purging on request (promises 14 to 18, 33): by tag, URL, host, everything; who may; what is told.

use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// `/p/N` answers `v1`, `v2`, … with these field lines, a validator among them.
fn tagged(lines: &'static [(&'static str, &'static str)]) -> Origin {
    let origin = Origin::start();
    origin.on("/p/*", move |exchange| {
        let etag = format!("\"e{}\"", exchange.nth());
        let mut reply = Reply::ok(format!("v{}", exchange.nth())).field("ETag", &etag).cache("max-age=60");
        for (name, value) in lines {
            reply = reply.field(name, value);
        }
        exchange.reply(&reply);
    });
    origin
}

#[test]
fn by_the_tags_of_every_field_and_of_the_route() {
    let origin = tagged(&[
        ("Surrogate-Key", "a  b"),
        ("Surrogate-Key", "c"),
        ("Cache-Tag", "d, e f"),
        ("Cache-Groups", "\"g\", \"h i\""),
    ]);
    let proxy = Config::new(&origin).route("/p/{id}", "tags = [\"all\", \"product:{id}\"]").start();
    let mut version = 1;
    proxy.get("/p/7").expect(200, "MISS", "v1");
    for tag in ["a", "b", "c", "d", "e f", "g", "h i", "all", "product:7"] {
        proxy.get("/p/7").expect(200, "HIT", &format!("v{version}"));
        let told = proxy.purge(&json!({ "tags": ["unknown", tag], "mode": "hard" }));
        assert!(told["matched"].is_u64() && told["scope"] == "process", "{told}");
        assert!(told.as_object().is_some_and(|told| told.contains_key("sequence")), "{told}");
        version += 1;
        let answer = proxy.get("/p/7");
        answer.expect(200, "MISS", &format!("v{version}"));
        assert!(answer.cache_status().contains("detail=purged"), "{tag}: {}", answer.cache_status());
    }
    // What nothing bears purges nothing: neither parts of a tag, nor its other spellings.
    for tag in ["e", "f", "A", "product:", "product:77", "{id}", "h", "\"g\"", "a  b"] {
        proxy.purge(&json!({ "tags": [tag], "mode": "hard" }));
        proxy.get("/p/7").expect(200, "HIT", &format!("v{version}"));
    }
}

#[test]
fn tag_fields_never_reach_a_client() {
    let origin = tagged(&[("Surrogate-Key", "a"), ("Cache-Tag", "b"), ("Cache-Groups", "\"c\"")]);
    let proxy = Config::new(&origin).route("/p/raw", "cache = false").start();
    let without_tags = |answer: &Answer| {
        for name in ["surrogate-key", "cache-tag", "cache-groups"] {
            assert_eq!(answer.field(name), None, "{}", answer.x_cache());
        }
    };
    for (target, x_cache) in [("/p/1", "MISS"), ("/p/1", "HIT"), ("/p/raw", "BYPASS")] {
        let answer = proxy.get(target);
        assert_eq!(answer.x_cache(), x_cache);
        without_tags(&answer);
    }
    let head = proxy.request("HEAD", "/p/1", "");
    assert_eq!(head.x_cache(), "HIT");
    without_tags(&head);
    let not_modified = proxy.get_with("/p/1", "If-None-Match: \"e1\"\r\n");
    assert_eq!(not_modified.status, 304);
    without_tags(&not_modified);
    // Nor as trailers, be they stored or not.
    origin.bytes(
        "/p/trailed*",
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum, Cache-Tag\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Sum: 7\r\nCache-Tag: secret\r\n\r\n",
    );
    let raw = Config::new(&origin).defaults("cache = false").start();
    for (proxy, x_cache) in [(&proxy, "MISS"), (&proxy, "HIT"), (&raw, "BYPASS")] {
        let answer = proxy.get_with("/p/trailed", "TE: trailers\r\n");
        assert_eq!((answer.x_cache(), answer.text().as_str()), (x_cache, "abc"));
        assert_eq!(answer.trailers, [("x-sum".to_owned(), "7".to_owned())], "{x_cache}");
    }
}

#[test]
fn soft_is_the_default_for_tags_and_hosts_and_hard_for_urls_and_everything() {
    for (what, is_hard) in [
        (json!({ "tags": ["t"] }), false),
        (json!({ "hosts": ["shop.example"] }), false),
        (json!({ "urls": ["http://shop.example/p/1"] }), true),
        (json!({ "all": true }), true),
        (json!({ "tags": ["t"], "mode": "hard" }), true),
        (json!({ "urls": ["http://shop.example/p/1"], "mode": "soft" }), false),
        (json!({ "all": true, "mode": "soft" }), false),
    ] {
        let origin = tagged(&[("Surrogate-Key", "t")]);
        let proxy = Config::new(&origin).defaults("stale_while_revalidate = \"60s\"").start();
        proxy.get("/p/1").expect(200, "MISS", "v1");
        proxy.purge(&what);
        if is_hard {
            proxy.get("/p/1").expect(200, "MISS", "v2");
        } else {
            proxy.get("/p/1").expect(200, "STALE", "v1");
            origin.wait_count("/p/1", 2);
            until("it is renewed", || proxy.get("/p/1").text() == "v2");
        }
    }
}

#[test]
fn a_url_is_all_its_variants_for_get_and_head() {
    let origin = tagged(&[("Vary", "X-Language")]);
    let proxy = Config::new(&origin).start();
    let languages = ["X-Language: de\r\n", "X-Language: fr\r\n", "X-Language: en\r\n", ""];
    for lines in languages {
        assert_eq!(proxy.get_with("/p/1?a=b", lines).x_cache(), "MISS");
        assert_eq!(proxy.get_with("/p/2", lines).x_cache(), "MISS");
    }
    proxy.purge(&json!({ "urls": ["http://shop.example/p/1?a=b"] }));
    for lines in languages {
        assert_eq!(proxy.request("HEAD", "/p/2", lines).x_cache(), "HIT", "another URL");
        assert_eq!(proxy.request("HEAD", "/p/1?a=b", lines).x_cache(), "MISS");
    }
    // Purging what is not there is no failure, and says so.
    let told =
        proxy.purge(&json!({ "urls": ["http://elsewhere.example/nothing"], "hosts": ["nobody.example"] }));
    assert_eq!(told["matched"], 0);
}

#[test]
fn a_host_is_purged_without_the_others() {
    let origin = tagged(&[]);
    let proxy = Config::new(&origin).start();
    let get = |host: &str| proxy.send(format!("GET /p/1 HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    for host in ["one.example", "two.example", "one.example:8080"] {
        assert_eq!(get(host).x_cache(), "MISS");
    }
    proxy.purge(&json!({ "hosts": ["ONE.example"], "mode": "hard" }));
    assert_eq!(get("two.example").x_cache(), "HIT");
    assert_eq!(get("one.example").x_cache(), "MISS");
    proxy.purge(&json!({ "all": true }));
    assert_eq!(get("two.example").x_cache(), "MISS");
}

/// Promise 17: a list that is too long is not stored, never cut, and the client gets its answer.
#[test]
fn ten_thousand_tags_are_not_stored_and_counted() {
    for (name, separator) in [("Surrogate-Key", " "), ("Cache-Tag", ",")] {
        let tags: Vec<_> = (0..10_000).map(|n| format!("cat-{n:05}")).collect();
        let (name, value) = (name.to_owned(), tags.join(separator));
        let origin = Origin::start();
        origin.on("/p", move |exchange| {
            exchange
                .reply(&Reply::ok(format!("v{}", exchange.nth())).field(&name, &value).cache("max-age=60"));
        });
        let proxy = Config::new(&origin).start();
        for nth in 1..4 {
            let answer = proxy.get("/p");
            answer.expect(200, "MISS", &format!("v{nth}"));
            assert!(answer.head.raw.len() < 1000, "the tags stay here");
        }
        let labels = [("route", "rest"), ("reason", "too-many-tags")];
        until("it is counted", || proxy.metric("forebay_not_stored_total", &labels) == 3.0);
    }
}

#[test]
fn the_purge_method_is_for_who_may() {
    let origin = tagged(&[("Vary", "X-Language")]);
    origin.reply("*", Reply::ok("never asked"));
    let proxy = Config::new(&origin).server("purge_from = [\"127.0.0.1\"]").start();
    for lines in ["", "X-Language: de\r\n"] {
        proxy.get_with("/p/1", lines);
        assert_eq!(proxy.get_with("/p/1", lines).x_cache(), "HIT");
    }
    let answer = proxy.request("PURGE", "/p/1", "");
    assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
    assert_eq!((answer.field("x-cache"), answer.field("cache-control")), (None, Some("no-store")));
    let told = answer.json();
    assert!(told["matched"].is_u64() && told["scope"] == "process", "{told}");
    for lines in ["", "X-Language: de\r\n"] {
        assert_eq!(proxy.get_with("/p/1", lines).x_cache(), "MISS");
    }
    // What is not there, with content that nobody reads.
    let absent = proxy.request("PURGE", "/p/none", "Content-Length: 0\r\n");
    assert_eq!((absent.status, absent.json()["matched"].as_u64()), (200, Some(0)));
    assert!(origin.seen().iter().all(|seen| seen.method != "PURGE"), "it is for the cache alone");
    until("it is counted by its result", || {
        proxy.metric("forebay_requests_total", &[("result", "purge"), ("code", "200")]) == 2.0
    });
}

#[test]
fn strangers_may_not_purge() {
    let origin = tagged(&[]);
    for networks in ["[]", "[\"10.0.0.0/8\", \"::1\"]"] {
        // What they say of themselves does not count, not even for who is trusted in other things.
        let server = format!("purge_from = {networks}\ntrusted_proxies = [\"127.0.0.1\"]");
        let proxy = Config::new(&origin).server(&server).start();
        proxy.get("/p/1");
        for lines in ["", "X-Forwarded-For: 10.1.1.1\r\n", "Forwarded: for=10.1.1.1\r\n"] {
            let answer = proxy.request("PURGE", "/p/1", lines);
            assert_eq!(answer.status, 405);
            assert!(answer.text().contains("method-refused"), "{}", answer.text());
        }
        assert_eq!(proxy.get("/p/1").x_cache(), "HIT");
    }
    assert!(origin.seen().iter().all(|seen| seen.method != "PURGE"), "nor is it forwarded");
}

#[test]
fn what_is_no_purge_is_told_and_nothing_of_it_carried_out() {
    let origin = tagged(&[("Surrogate-Key", "t")]);
    let proxy = Config::new(&origin).start();
    proxy.get("/p/1");
    for (body, says) in [
        ("", "EOF while parsing"),
        ("{}", "nothing is named"),
        ("{\"tags\": [\"t\"], \"tag\": [\"u\"]}", "did you mean \\\"tags\\\"?"),
        ("{\"tags\": [\"t\", 7]}", "tags[1]"),
        ("{\"tags\": [\"t\"], \"mode\": \"harder\"}", "mode"),
        ("{\"tags\": [\"t\"], \"urls\": [\"http://a/\", \"/p/1\"]}", "urls[1]"),
        ("[\"t\"]", "expected an object"),
    ] {
        let answer = proxy.post_with("/purge", "", body);
        assert_eq!(answer.status, 400, "{body}: {}", answer.text());
        assert!(answer.text().contains(says), "{body}: {}", answer.text());
    }
    let much = format!("{{\"tags\": [\"t\"], \"hosts\": [\"{}\"]}}", "x".repeat(5 << 20));
    assert_eq!(proxy.post_with("/purge", "", &much).status, 413);
    assert_eq!(proxy.get("/p/1").x_cache(), "HIT");
}

/// A page of another site, in the browser of somebody who can reach the listener, purges nothing.
#[test]
fn pages_of_other_sites_cannot_purge() {
    let origin = tagged(&[("Surrogate-Key", "t")]);
    let proxy = Config::new(&origin).start();
    proxy.get("/p/1");
    let (admin, body) = (proxy.admin, r#"{"tags":["t"],"mode":"hard"}"#);
    for (host, lines, status) in [
        // What a form can send.
        (admin.to_string(), "Content-Type: text/plain", 415),
        (admin.to_string(), "Content-Type: application/x-www-form-urlencoded", 415),
        // What a script can, if the listener let it.
        (admin.to_string(), "Content-Type: application/json\r\nOrigin: http://evil.example", 403),
        (admin.to_string(), "Content-Type: application/json\r\nSec-Fetch-Site: cross-site", 403),
        // A name of the page's owner that leads here.
        ("evil.example".to_owned(), "Content-Type: application/json\r\nOrigin: http://evil.example", 403),
    ] {
        let length = body.len();
        let request = format!(
            "POST /purge HTTP/1.1\r\nHost: {host}\r\n{lines}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        assert_eq!(send(admin, request).status, status, "{host} {lines}");
    }
    let preflight = send(admin, format!("OPTIONS /purge HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    assert_eq!((preflight.status, preflight.field("access-control-allow-origin")), (405, None));
    assert_eq!(get(admin, "/purge", "").status, 405);
    assert_eq!(proxy.get("/p/1").x_cache(), "HIT");
    let own = format!("Origin: http://{admin}\r\nSec-Fetch-Site: same-origin\r\n");
    assert_eq!(proxy.post_with("/purge", &own, body).status, 200);
    assert_eq!(proxy.get("/p/1").x_cache(), "MISS");
}

#[test]
fn the_token_guards_purging() {
    let origin = tagged(&[("Surrogate-Key", "t")]);
    let proxy = Config::new(&origin).admin("token = \"0123456789abcdef\"").start();
    proxy.get("/p/1");
    let body = r#"{"tags":["t"],"mode":"hard"}"#;
    for lines in
        ["", "Authorization: Bearer 0123456789abcdeF\r\n", "Authorization: Basic 0123456789abcdef\r\n"]
    {
        let answer = proxy.post_with("/purge", lines, body);
        assert_eq!((answer.status, answer.field("www-authenticate")), (401, Some("Bearer")));
    }
    assert_eq!(proxy.get("/p/1").x_cache(), "HIT");
    assert_eq!(proxy.post_with("/purge", "Authorization: Bearer 0123456789abcdef\r\n", body).status, 200);
    assert_eq!(proxy.get("/p/1").x_cache(), "MISS");
}

#[test]
fn the_command_purges_and_says_what_became_of_it() {
    let origin = tagged(&[("Surrogate-Key", "t")]);
    let proxy = Config::new(&origin).admin("token = \"0123456789abcdef\"").start();
    let admin = format!("http://{}", proxy.admin);
    let with_token = ["purge", "--admin", &admin, "--token", "0123456789abcdef"];
    for what in [
        ["--tag", "t", "--hard"].as_slice(),
        &["--tag", "unknown", "--url", "http://shop.example/p/1"],
        &["--host", "shop.example", "--hard"],
        &["--all"],
    ] {
        proxy.get("/p/1");
        assert_eq!(proxy.get("/p/1").x_cache(), "HIT");
        let done = command(&[&with_token, what].concat());
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert_eq!((done.status.code(), err.as_ref()), (Some(0), ""), "{what:?}: {out}");
        let told: serde_json::Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(told["scope"], "process");
        assert_eq!(proxy.get("/p/1").x_cache(), "MISS", "{what:?}");
    }
    let nobody = format!("http://{}", free_port());
    for (arguments, code, says) in [
        (["purge", "--admin", &admin, "--tag", "t"].as_slice(), 1, "401"),
        (&[with_token.as_slice(), &["--url", "/p/1"]].concat(), 1, "urls[0]"),
        (&["purge", "--admin", &nobody, "--tag", "t"], 1, "refused"),
        (&["purge", "--admin", &admin], 2, "--tag"),
        (&["purge", "--admin", "127.0.0.1:9090", "--all"], 2, "did you mean"),
    ] {
        let failed = command(arguments);
        let err = String::from_utf8_lossy(&failed.stderr).into_owned();
        assert_eq!(failed.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(says), "{arguments:?}: {err}");
        assert!(!err.contains("0123456789abcdef"), "a token is never told");
    }
}

/// What was looked up before a purge is not confirmed after it, nor does it stand in for the origin then.
#[test]
fn what_is_purged_for_good_while_the_origin_is_asked_about_it_is_gone() {
    for (answer, method) in [(304, "GET"), (500, "GET"), (500, "HEAD"), (200, "HEAD")] {
        let (origin, gate) = (Origin::start(), Gate::new());
        let held = gate.clone();
        origin.on("/p", move |exchange| {
            let nth = exchange.nth();
            let old = exchange.head().field("if-none-match").is_some() || exchange.method() == "HEAD";
            let reply = Reply::ok(format!("v{nth}")).field("ETag", "\"same\"");
            match nth {
                1 => exchange.reply(&reply.field("X-Version", "1").cache("max-age=1, stale-if-error=600")),
                _ if old => {
                    held.wait();
                    let reply =
                        if answer == 200 { reply } else { Reply::new(answer).field("ETag", "\"same\"") };
                    exchange.reply(&reply.cache("max-age=600"));
                }
                _ => exchange.reply(&reply.cache("max-age=600")),
            }
        });
        let proxy = Config::new(&origin).start();
        proxy.get("/p").expect(200, "MISS", "v1");
        pass(Duration::from_millis(1_200));
        // One asks the origin; the others wait for it, and are its followers in turn.
        let answers = std::thread::scope(|scope| {
            let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| proxy.request(method, "/p", ""))).collect();
            origin.wait_count("/p", 2);
            proxy.purge(&json!({ "urls": ["http://shop.example/p"] }));
            gate.open();
            asking.into_iter().map(|asking| asking.join().expect("an answer")).collect::<Vec<_>>()
        });
        let old = answers.iter().find(|given| given.field("x-version").is_some());
        assert!(
            old.is_none(),
            "{method}, {answer}: {:?}",
            old.map(|given| (given.status, given.cache_status()))
        );
        let after = proxy.get("/p");
        assert_ne!(after.text(), "v1", "{method}, {answer}: {}", after.cache_status());
    }
}

/// RFC 9111 4.3.5 lets HEAD freshen what it agrees with; what was purged has changed, whatever its length.
#[test]
fn head_freshens_what_was_purged_softly_by_a_validator_alone() {
    for (validator, freshened) in [(None, false), (Some("ETag"), true), (Some("Last-Modified"), true)] {
        let origin = Origin::start();
        origin.on("/p", move |exchange| {
            let reply = Reply::ok(format!("v{}", exchange.nth())).cache("max-age=600");
            let value = if validator == Some("ETag") { "\"same\"" } else { "Sun, 06 Nov 1994 08:49:37 GMT" };
            exchange.reply(&validator.iter().fold(reply, |reply, name| reply.field(name, value)));
        });
        let proxy = Config::new(&origin).start();
        proxy.get("/p").expect(200, "MISS", "v1");
        proxy.purge(&json!({ "urls": ["http://shop.example/p"], "mode": "soft" }));
        assert_eq!(proxy.request("HEAD", "/p", "").x_cache(), "MISS");
        let (x_cache, body) = if freshened { ("HIT", "v1") } else { ("MISS", "v3") };
        proxy.get("/p").expect(200, x_cache, body);
    }
}
