//! RFC 9111 4.3: asking the origin whether what is stored still holds, and what its answer changes.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

both_tiers! {
    /// RFC 9111 4.3.1: which condition a validation carries.
    fn the_stored_validators_are_sent(tiers: Tiers) {
        const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        let rows: &[(&str, Option<&str>, Option<&str>)] = &[
            ("ETag: \"a\"", Some("\"a\""), None),
            ("ETag: W/\"a\"", Some("W/\"a\""), None),
            ("ETag: \"\"", Some("\"\""), None),
            ("ETag: \"a, b\"", Some("\"a, b\""), None),
            ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", None, Some(DATE)),
            ("ETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT", Some("\"a\""), Some(DATE)),
            ("Last-Modified: Sunday, 06-Nov-94 08:49:37 GMT", None, Some("Sunday, 06-Nov-94 08:49:37 GMT")),
        ];
        let stage = tiers.stage(&[]);
        for (at, (lines, etag, date)) in rows.iter().enumerate() {
            let target = format!("/{at}");
            let lines = format!("{lines}\nCache-Control: max-age=0");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.nth() == 1 { Reply::ok("v1") } else { Reply::not_modified() };
                exchange.reply(&with(reply, &lines));
            });
            stage.fetch(&target, "").expect(200, "MISS", "v1");
            stage.fetch(&target, "").expect(200, "REVALIDATED", "v1");
            let seen = stage.origin.last(&target);
            assert_eq!((seen.field("if-none-match"), seen.field("if-modified-since")), (*etag, *date), "row {at}");
            assert_eq!(seen.method, "GET");
        }
    }

    /// RFC 9111 3.2: a 304 replaces every field it carries, but framing and what describes the bytes.
    fn a_304_freshens_the_stored_fields(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let old = "Cache-Control: max-age=60\nAge: 60\nETag: \"a\"\nX-Old: kept\nTest-Header: old\nX-Twice: 1\nX-Twice: 2\nContent-Type: text/old\nContent-Language: old\nContent-Encoding: identity\nExpires: {-60}\nServer: old";
        let new = "Cache-Control: max-age=3600\nETag: \"a\"\nTest-Header: new\nX-Twice: 3\nX-New: added\nContent-Type: text/new\nContent-Language: new\nContent-Encoding: gzip\nContent-Length: 10\nContent-Range: bytes 0-1/2\nExpires: {+3600}\nConnection: x-hop\nX-Hop: 1\nKeep-Alive: 5\nServer: new\nCache-Tag: t";
        stage.origin.on("/p", move |exchange| {
            let reply = if exchange.nth() == 1 { with(Reply::ok("content"), old) } else { with(Reply::not_modified(), new) };
            exchange.reply(&reply);
        });
        stage.fetch("/p", "").expect(200, "MISS", "content");
        for x_cache in ["REVALIDATED", "HIT"] {
            let answer = stage.fetch("/p", "");
            answer.expect(200, x_cache, "content");
            let expected = [
                ("cache-control", Some("max-age=3600")), ("x-old", Some("kept")), ("test-header", Some("new")),
                ("x-twice", Some("3")), ("x-new", Some("added")), ("content-language", Some("new")),
                ("content-encoding", Some("identity")), ("content-length", Some("7")), ("content-range", None),
                ("x-hop", None), ("keep-alive", None), ("server", Some("new")), ("cache-tag", None),
                ("transfer-encoding", None), ("etag", Some("\"a\"")),
            ];
            for (name, value) in expected {
                assert_eq!(answer.field(name), value, "{x_cache}: {name}");
            }
            assert_eq!((answer.head.all("x-twice").len(), answer.head.all("date").len()), (1, 1));
            assert!(answer.age().is_some_and(|age| age < 30), "the Age is the confirmed response's");
        }
    }

    /// The same for each field alone, whatever it is called, as for what a HEAD tells.
    fn each_field_of_a_304_replaces_the_stored_one(tiers: Tiers) {
        const REPLACED: [&str; 22] = [
            "Test-Header", "X-Test-Header", "Content-Foo", "X-Content-Foo", "Content-Location", "Content-MD5",
            "Content-Security-Policy", "Content-Type", "Content-Language", "Content-Disposition", "Clear-Site-Data",
            "Public-Key-Pins", "X-Frame-Options", "X-XSS-Protection", "Link", "Server", "Allow", "Retry-After",
            "Warning", "Accept-Ranges", "Refresh", "Strict-Transport-Security",
        ];
        const KEPT: [&str; 1] = ["Content-Encoding"];
        const GONE: [&str; 6] = ["Keep-Alive", "Proxy-Authenticate", "Proxy-Connection", "Upgrade", "TE", "Cache-Tag"];
        let stage = tiers.stage(&[]);
        for name in REPLACED.iter().chain(&KEPT).chain(&GONE).copied() {
            let target = format!("/{name}");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.nth() == 1 { Reply::ok("v1").field(name, "old").field("Age", "60") } else { Reply::not_modified().field(name, "new") };
                exchange.reply(&reply.cache("max-age=60").field("ETag", "\"a\""));
            });
            stage.fetch(&target, "").expect(200, "MISS", "v1");
            let expected = if REPLACED.contains(&name) { Some("new") } else if KEPT.contains(&name) { Some("old") } else { None };
            for x_cache in ["REVALIDATED", "HIT"] {
                // An encoded response goes to who says nothing of encodings as it went before.
                let answer = stage.fetch(&target, "");
                answer.expect(200, x_cache, "v1");
                assert_eq!(answer.head.all(&name.to_lowercase()), expected.into_iter().collect::<Vec<_>>(), "{x_cache} {name}");
            }
        }
    }

    /// A 304 that says nothing of freshness renews with what is stored.
    fn a_bare_304_renews(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        for (target, lines) in [("/max-age", "Cache-Control: max-age=60\nDate: {-60}"), ("/etag", "Cache-Control: max-age=60\nAge: 60")] {
            stage.origin.on(target, move |exchange| {
                let reply = if exchange.nth() == 1 { with(Reply::ok("v1"), lines).field("ETag", "\"a\"") } else { Reply::not_modified() };
                exchange.reply(&reply);
            });
            stage.fetch(target, "").expect(200, "MISS", "v1");
            stage.fetch(target, "").expect(200, "REVALIDATED", "v1");
            stage.fetch(target, "").expect(200, "HIT", "v1");
            assert_eq!(stage.origin.count(target), 2);
        }
    }

    /// RFC 9111 4.3.4: a 304 about something else changes nothing, and the response is fetched anew.
    fn a_304_about_something_else_is_no_answer(tiers: Tiers) {
        let rows: &[(&str, &str, bool)] = &[
            ("ETag: \"a\"", "ETag: \"b\"", false),
            ("ETag: \"a\"", "ETag: W/\"b\"", false),
            ("ETag: \"a\"", "ETag: W/\"a\"", true),
            ("ETag: W/\"a\"", "ETag: W/\"a\"", true),
            ("ETag: \"a\"", "", true),
            ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", true),
            ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT", false),
            ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "ETag: \"b\"", false),
            ("Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT", "", true),
        ];
        let stage = tiers.stage(&[]);
        for (at, (stored, confirmed, about)) in rows.iter().copied().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                let conditional = exchange.head().field("if-none-match").is_some() || exchange.head().field("if-modified-since").is_some();
                let lines = format!("{}\nCache-Control: max-age=60", if conditional { confirmed } else { stored });
                let reply = match (exchange.nth(), conditional) {
                    (1, false) => Reply::ok("old").field("Age", "60"),
                    (_, true) => Reply::not_modified(),
                    _ => Reply::ok("new"),
                };
                exchange.reply(&with(reply, &lines));
            });
            stage.fetch(&target, "").expect(200, "MISS", "old");
            let answer = stage.fetch(&target, "");
            let (x_cache, body, count) = if about { ("REVALIDATED", "old", 2) } else { ("MISS", "new", 3) };
            answer.expect(200, x_cache, body);
            assert_eq!(stage.origin.count(&target), count, "row {at}");
            stage.fetch(&target, "").expect(200, "HIT", body);
        }
    }

    /// A 304 nobody asked for is given to whom it came, if it has to be, and never stored.
    fn a_304_without_a_condition(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let reply = if exchange.nth() <= 2 { Reply::not_modified() } else { Reply::ok("whole") };
            exchange.reply(&reply.cache("max-age=60"));
        });
        assert_eq!(stage.fetch("/p", "").status, 304);
        assert_eq!(stage.fetch("/p", "").status, 304);
        assert_eq!(stage.fetch("/p", "").text(), "whole");
    }

    /// RFC 9111 4.3.3: any other answer to a validation is the answer.
    fn a_full_answer_replaces_what_was_stored(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        for status in [200, 203, 404, 410, 301, 500, 501, 503] {
            let target = format!("/{status}");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.nth() == 1 { Reply::ok("old").cache("max-age=0").field("ETag", "\"a\"") } else { Reply::new(status).body("new").cache("max-age=60") };
                exchange.reply(&reply);
            });
            stage.fetch(&target, "").expect(200, "MISS", "old");
            stage.fetch(&target, "").expect(status, "MISS", "new");
            stage.fetch(&target, "").expect(status, "HIT", "new");
        }
        // One that may not be stored leaves nothing behind that would answer again.
        stage.origin.on("/no-store", |exchange| {
            let directives = if exchange.nth() == 1 { "max-age=0" } else { "no-store" };
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache(directives).field("ETag", format!("\"{}\"", exchange.nth())));
        });
        for body in ["v1", "v2", "v3"] {
            stage.fetch("/no-store", "").expect(200, "MISS", body);
        }
    }

    /// RFC 9111 4.3.1, 4.3.4: variants that do not match are asked about by their tags, and a 304
    /// says which of them answers.
    fn a_304_chooses_among_variants(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let language = exchange.head().field("foo").unwrap_or("none").to_owned();
            let known = exchange.head().field("if-none-match").map(str::to_owned);
            let tag = if language == "3" { "\"1\"".to_owned() } else { format!("\"{language}\"") };
            let reply = match known {
                Some(known) if known.contains(&tag) => Reply::not_modified(),
                _ => Reply::ok(format!("in {language}")),
            };
            exchange.reply(&reply.cache("max-age=60").field("ETag", tag).field("Vary", "Foo"));
        });
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "MISS", "in 1");
        stage.fetch("/p", "Foo: 2\r\n").expect(200, "MISS", "in 2");
        let seen = stage.origin.last("/p");
        assert_eq!(seen.field("if-none-match"), Some("\"1\""), "the tags of what is stored");
        stage.fetch("/p", "Foo: 3\r\n").expect(200, "REVALIDATED", "in 1");
        stage.fetch("/p", "Foo: 3\r\n").expect(200, "HIT", "in 1");
        stage.fetch("/p", "Foo: 2\r\n").expect(200, "HIT", "in 2");
    }

    /// RFC 9111 5.2.2.2, 5.2.2.8, 5.2.2.10: nothing stale without the origin's word.
    fn what_must_be_revalidated_is(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("fresh and must-revalidate", "Cache-Control: max-age=60, must-revalidate", Reused),
            row("stale and must-revalidate", "Cache-Control: max-age=60, must-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("stale and proxy-revalidate", "Cache-Control: max-age=60, proxy-revalidate\nAge: 60\nETag: \"a\"", Validated),
            row("stale and s-maxage", "Cache-Control: s-maxage=60\nAge: 60\nETag: \"a\"", Validated),
            row("must-revalidate with an argument", "Cache-Control: max-age=60, must-revalidate=1\nAge: 60\nETag: \"a\"", Validated),
            row("fresh and immutable", "Cache-Control: max-age=60, immutable\nETag: \"a\"", Reused),
            row("stale and immutable", "Cache-Control: max-age=60, immutable\nAge: 60\nETag: \"a\"", Validated),
        ]);
    }
}
