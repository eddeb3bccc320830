//! RFC 9111 4.4, RFC 9875: what the success of an unsafe method makes unusable.

use super::stage::*;
use crate::support::*;

both_tiers! {
    fn of_the_target(tiers: Tiers) {
        let rows: &[(&str, u16, bool)] = &[
            ("POST", 200, true), ("POST", 201, true), ("POST", 204, true), ("POST", 303, true), ("POST", 302, true),
            ("PUT", 200, true), ("PUT", 204, true), ("DELETE", 200, true), ("DELETE", 204, true), ("PATCH", 200, true),
            ("FOO", 200, true), ("M-SEARCH", 200, true), ("post", 200, true), ("PROPPATCH", 207, true), ("LOCK", 200, true),
            ("POST", 400, false), ("POST", 403, false), ("POST", 404, false), ("POST", 500, false), ("POST", 503, false),
            ("PUT", 409, false), ("PUT", 500, false), ("DELETE", 404, false), ("DELETE", 500, false), ("FOO", 500, false), ("FOO", 404, false),
            ("OPTIONS", 200, false), ("PROPFIND", 207, false), ("REPORT", 200, false), ("SEARCH", 200, false), ("QUERY", 200, false),
        ];
        let stage = tiers.stage(&[]);
        for (at, (method, status, invalidates)) in rows.iter().copied().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.method() == "GET" { Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60") } else { Reply::new(status) };
                exchange.reply(&reply);
            });
            stage.fetch(&target, "").expect(200, "MISS", "v1");
            stage.fetch(&target, "").expect(200, "HIT", "v1");
            let answer = stage.ask(method, &target, "Content-Length: 0\r\n");
            assert_eq!((answer.status, answer.x_cache()), (status, "BYPASS"), "{method} {status}");
            let (x_cache, body) = if invalidates { ("MISS", "v3") } else { ("HIT", "v1") };
            let after = stage.fetch(&target, "");
            assert_eq!((after.x_cache(), after.text().as_str()), (x_cache, body), "{method} {status}");
        }
    }

    fn of_location_and_content_location(tiers: Tiers) {
        const FIELDS: [&str; 2] = ["Location", "Content-Location"];
        let references: &[(&str, bool)] = &[
            ("/a/{}", true),
            ("http://shop.example/a/{}", true),
            ("HTTP://SHOP.EXAMPLE/a/{}", true),
            ("http://shop.example:80/a/{}", true),
            ("//shop.example/a/{}", true),
            ("{}", true),
            ("./{}", true),
            ("../a/{}", true),
            ("/b/../a/{}", true),
            ("/a/{}#fragment", true),
            ("http://other.example/a/{}", false),
            ("http://shop.example:8080/a/{}", false),
            ("https://shop.example/a/{}", false),
            ("//other.example/a/{}", false),
            ("ftp://shop.example/a/{}", false),
            ("/a/{}?x", false),
            ("/A/{}", false),
            ("", false),
        ];
        let stage = tiers.stage(&[]);
        stage.origin.on("/a/*", |exchange| {
            let reply = Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60");
            exchange.reply(&reply);
        });
        stage.origin.on("/a/post", |exchange| {
            let (status, name, value) = {
                let head = exchange.head();
                let text = |name: &str| head.field(name).unwrap_or_default().to_owned();
                (text("x-status").parse().expect("a status"), text("x-name"), text("x-value"))
            };
            exchange.reply(&Reply::new(status).field(&name, value));
        });
        let mut at = 0;
        for name in FIELDS {
            for (reference, same) in references {
                for (method, status) in [("POST", 201), ("DELETE", 200), ("FOO", 302), ("POST", 500)] {
                    // Statuses and methods are the target's rows; here one each is enough but for POST.
                    if method != "POST" && *reference != "/a/{}" {
                        continue;
                    }
                    at += 1;
                    let target = format!("/a/{at}");
                    let value = reference.replace("{}", &at.to_string());
                    stage.fetch(&target, "").expect(200, "MISS", "v1");
                    let lines = format!("Content-Length: 0\r\nX-Status: {status}\r\nX-Name: {name}\r\nX-Value: {value}\r\n");
                    assert_eq!(stage.ask(method, "/a/post", &lines).status, status);
                    let after = stage.fetch(&target, "");
                    let expected = if *same && status < 400 { ("MISS", "v2") } else { ("HIT", "v1") };
                    assert_eq!((after.x_cache(), after.text().as_str()), expected, "{method} {status} {name}: {value:?}");
                }
            }
        }
    }

    /// GET names other targets too, and invalidates none of them.
    fn safe_methods_invalidate_nothing(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/kept", "Cache-Control: max-age=60\nCache-Groups: \"g\"");
        stage.fetch("/kept", "").expect(200, "MISS", "v1");
        stage.origin.reply("/names", Reply::ok("").cache("no-store").field("Location", "/kept").field("Content-Location", "/kept").field("Cache-Group-Invalidation", "\"g\""));
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(stage.ask(method, "/names", "").status, 200);
        }
        stage.fetch("/kept", "").expect(200, "HIT", "v1");
    }

    /// Every variant goes with its key, and so does what is fetched while the method is under way.
    fn every_variant_goes(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60").field("Vary", "Foo"));
        });
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "MISS", "v1");
        stage.fetch("/p", "Foo: 2\r\n").expect(200, "MISS", "v2");
        assert_eq!(stage.ask("POST", "/p", "Content-Length: 0\r\n").status, 200);
        stage.fetch("/p", "Foo: 1\r\n").expect(200, "MISS", "v4");
        stage.fetch("/p", "Foo: 2\r\n").expect(200, "MISS", "v5");
    }

    /// RFC 9875.
    fn of_groups(tiers: Tiers) {
        // (the groups of the response, the groups invalidated, whether it is)
        let rows: &[(&str, &str, bool)] = &[
            ("\"a\"", "\"a\"", true),
            ("\"a\", \"b\"", "\"b\"", true),
            ("\"a\"", "\"b\", \"a\"", true),
            ("\"a\";x=1", "\"a\"", true),
            ("\"a\"", "\"a\";x", true),
            ("\"a\"", "\"A\"", false),
            ("\"a\"", "\"b\"", false),
            ("\"a\"", "a", false),
            ("a", "\"a\"", false),
            ("\"a\"", "(\"a\")", false),
            ("\"a\"", "\"a\", b", false),
            ("\"a\", b", "\"a\"", false),
            ("\"a\"", "\"a", false),
        ];
        let stage = tiers.stage(&[]);
        for (at, (groups, invalidated, gone)) in rows.iter().copied().enumerate() {
            // Each row has groups of its own: `a` and `b` of row 7 are `7a` and `7b`.
            let own = |text: &str| text.replace('a', &format!("g{at}a")).replace('b', &format!("g{at}b")).replace('A', &format!("g{at}A"));
            let (groups, invalidated) = (own(groups), own(invalidated));
            let target = format!("/{at}");
            let expected = format!("row {at}: {groups} by {invalidated}");
            stage.origin.on(&target, {
                let groups = groups.clone();
                move |exchange| exchange.reply(&Reply::ok(format!("v{}", exchange.nth())).cache("max-age=60").field("Cache-Groups", &groups))
            });
            let first = stage.fetch(&target, "");
            first.expect(200, "MISS", "v1");
            stage.origin.reply("/post", Reply::new(200).field("Cache-Group-Invalidation", &invalidated));
            assert_eq!(stage.ask("POST", "/post", "Content-Length: 0\r\n").status, 200);
            let after = stage.fetch(&target, "");
            assert_eq!(after.x_cache() != "HIT", gone, "{expected}");
        }
    }

    /// A group of one origin is not the group of another; an error invalidates none.
    fn groups_end_with_their_origin_and_with_errors(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/p", "Cache-Control: max-age=60\nCache-Groups: \"g\"");
        stage.fetch("/p", "").expect(200, "MISS", "v1");
        stage.origin.reply("/post", Reply::new(200).field("Cache-Group-Invalidation", "\"g\""));
        let other = "POST /post HTTP/1.1\r\nHost: other.example\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(stage.send(other).status, 200);
        stage.fetch("/p", "").expect(200, "HIT", "v1");
        stage.origin.reply("/post", Reply::new(500).field("Cache-Group-Invalidation", "\"g\""));
        assert_eq!(stage.ask("POST", "/post", "Content-Length: 0\r\n").status, 500);
        stage.fetch("/p", "").expect(200, "HIT", "v1");
    }
}
