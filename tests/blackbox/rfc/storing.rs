//! RFC 9111 3: what is stored, for whom, and with which fields.

use super::stage::Then::*;
use super::stage::*;
use crate::support::*;

both_tiers! {
    /// RFC 9111 3.5; both requests carry credentials.
    fn authorization(tiers: Tiers) {
        const ASKED: &str = "Authorization: Basic dXNlcjpwYXNz";
        tiers.stage(&[]).run(&[
            row("max-age", "Cache-Control: max-age=60", Fetched).asked(ASKED),
            row("Expires", "Expires: {+60}", Fetched).asked(ASKED),
            row("public", "Cache-Control: max-age=60, public", Reused).asked(ASKED),
            row("must-revalidate", "Cache-Control: max-age=60, must-revalidate", Reused).asked(ASKED),
            row("s-maxage", "Cache-Control: s-maxage=60", Reused).asked(ASKED),
            row("proxy-revalidate is not listed", "Cache-Control: max-age=60, proxy-revalidate", Fetched).asked(ASKED),
            row("private wins", "Cache-Control: max-age=60, public, private", Fetched).asked(ASKED),
            row("no-store wins", "Cache-Control: max-age=60, public, no-store", Fetched).asked(ASKED),
            row("public in a targeted field", "CDN-Cache-Control: max-age=60, public", Reused).asked(ASKED),
            row("public, to everybody", "Cache-Control: max-age=60, public", Reused).then_asked(ASKED),
            row("without, then with: asked anew", "Cache-Control: max-age=60", Fetched).then_asked(ASKED),
        ]);
    }

    /// RFC 9111 5.2.2.3.
    fn must_understand(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("understood", "Cache-Control: must-understand, no-store, max-age=60", Reused),
            row("understood, in another order", "Cache-Control: no-store, max-age=60, must-understand", Reused),
            row("understood, without no-store", "Cache-Control: must-understand, max-age=60", Reused).status(404),
            row("not understood", "Cache-Control: must-understand, no-store, max-age=60", Fetched).status(299),
            row("not understood, without no-store", "Cache-Control: must-understand, max-age=60", Fetched).status(599),
            row("no-store alone", "Cache-Control: no-store, max-age=60", Fetched),
            row("private stays private", "Cache-Control: must-understand, private, max-age=60", Fetched),
        ]);
    }

    /// RFC 9111 5.2.2.4, 5.2.2.7: the qualified forms withhold fields, not the response.
    fn qualified_private_and_no_cache(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let rows = [
            ("private=\"a\", max-age=60", true),
            ("private=\"A\", max-age=60", true),
            ("private=\"b, a\", max-age=60", true),
            ("private=a, max-age=60", true),
            ("no-cache=\"a\", max-age=60", true),
            ("no-cache=\"b,a\", max-age=60", true),
            ("no-cache=\"b\", max-age=60", false),
            ("x-private=\"a\", max-age=60", false),
        ];
        for (at, (directives, withheld)) in rows.into_iter().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                exchange.reply(&Reply::ok("v").cache(directives).field("A", "1").field("C", "3"));
            });
            let first = stage.fetch(&target, "");
            first.expect(200, "MISS", "v");
            assert_eq!(first.field("a"), Some("1"), "{directives}: its own client has it");
            let second = stage.fetch(&target, "");
            second.expect(200, "HIT", "v");
            assert_eq!((second.field("a").is_none(), second.field("c")), (withheld, Some("3")), "{directives}");
        }
    }

    fn set_cookie_and_cookie(tiers: Tiers) {
        const SET: &str = "Cache-Control: max-age=60\nSet-Cookie: a=1";
        tiers.stage(&[]).run(&[
            row("refused", SET, Fetched),
            row("refused with public", "Cache-Control: public, max-age=60\nSet-Cookie: a=1", Fetched),
            row("Set-Cookie2", "Cache-Control: max-age=60\nSet-Cookie2: a=1", Fetched),
            row("a request with Cookie", "Cache-Control: max-age=60", Reused).asked("Cookie: a=1"),
        ]);
        let stage = tiers.stage(&["set_cookie = \"strip\""]);
        stage.run(&[row("stripped", SET, Reused)]);
        assert_eq!(stage.fetch("/0", "").field("set-cookie"), None);
        let stage = tiers.stage(&["set_cookie = \"share\""]);
        stage.run(&[row("shared", SET, Reused)]);
        assert_eq!(stage.fetch("/0", "").field("set-cookie"), Some("a=1"));
    }

    /// RFC 9111 3.1: what ends at this hop is neither stored nor passed on.
    fn fields_that_are_not_stored(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let gone = ["keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authentication-info", "te", "upgrade", "x-hop", "x-other"];
        let kept = ["content-type", "x-own", "link", "server", "x-frame-options", "content-language", "accept-ranges", "warning", "www-authenticate", "content-security-policy", "strict-transport-security"];
        stage.origin.on("/p", move |exchange| {
            let reply = Reply::ok("v").cache("max-age=60").field("Connection", "x-hop").field("Connection", "X-Other, close");
            let reply = gone.iter().chain(&kept).fold(reply, |reply, name| reply.field(name, format!("of {name}")));
            exchange.reply(&reply.field("X-Twice", "1").field("X-Twice", "2").field("Test-Header", "a,b ,c"));
        });
        for x_cache in ["MISS", "HIT"] {
            let answer = stage.fetch("/p", "");
            answer.expect(200, x_cache, "v");
            for name in gone {
                assert_eq!(answer.field(name), None, "{x_cache}: {name}");
            }
            for name in kept {
                assert_eq!(answer.field(name), Some(format!("of {name}").as_str()), "{x_cache}: {name}");
            }
            assert_eq!((answer.head.all("x-twice"), answer.field("test-header")), (vec!["1", "2"], Some("a,b ,c")));
        }
    }

    /// What is nominated cannot take away what caching depends on.
    fn caching_fields_cannot_be_nominated_away(tiers: Tiers) {
        tiers.stage(&[]).run(&[
            row("no-store", "Cache-Control: no-store, max-age=60\nConnection: cache-control", Fetched),
            row("Vary", "Cache-Control: max-age=60\nVary: Foo\nConnection: vary", Fetched).then_asked("Foo: 1"),
            row("Age", "Cache-Control: max-age=60\nAge: 60\nConnection: age", Fetched),
            row("Set-Cookie", "Cache-Control: max-age=60\nSet-Cookie: a=1\nConnection: set-cookie", Fetched),
        ]);
    }

    /// Content of every framing is stored byte for byte; nothing that broke off is.
    fn content_of_every_framing(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let body = "some content of an unremarkable length";
        let framed = [("/length", Reply::ok(body)), ("/chunked", Reply::ok(body).chunked()), ("/close", Reply::ok(body).close_delimited())];
        for (target, reply) in framed {
            stage.origin.reply(target, reply.cache("max-age=60"));
            stage.fetch(target, "").expect(200, "MISS", body);
            let hit = stage.fetch(target, "");
            hit.expect(200, "HIT", body);
            assert_eq!(hit.framing, Framing::Length(body.len() as u64), "{target}: its length is known by now");
        }
        let broken = [
            ("/short", "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhalf"),
            ("/open", "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"),
        ];
        for (target, bytes) in broken {
            stage.origin.bytes(target, bytes);
            for count in 1..=2 {
                assert!(!stage.is_answered_whole(target), "{target}");
                assert_eq!(stage.origin.count(target), count, "{target}: what broke off is not stored");
            }
        }
    }

    /// RFC 9110 6.5: trailers that describe the content are kept apart from the fields.
    fn trailers(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTrailer: X-Checksum\r\nTransfer-Encoding: chunked\r\n\r\n";
        let tail = "5\r\nhello\r\n0\r\nX-Checksum: 42\r\nCache-Control: no-store\r\nAge: 99\r\nETag: \"late\"\r\nSet-Cookie: a=1\r\nContent-Length: 3\r\n\r\n";
        stage.origin.bytes("/p", format!("{head}{tail}"));
        let checksum = [("x-checksum".to_owned(), "42".to_owned())];
        let taken = "TE: trailers\r\nConnection: te\r\n";
        let first = stage.fetch("/p", taken);
        first.expect(200, "MISS", "hello");
        assert_eq!((first.trailers.as_slice(), first.field("trailer")), (&checksum[..], Some("X-Checksum")));
        // Stored apart from the header (RFC 9111 3.1), and sent again to who takes them.
        for _ in 0..2 {
            let hit = stage.fetch("/p", taken);
            hit.expect(200, "HIT", "hello");
            assert_eq!((hit.trailers.as_slice(), hit.field("trailer"), hit.framing), (&checksum[..], Some("x-checksum"), Framing::Chunked));
        }
        let part = stage.fetch("/p", &format!("Range: bytes=1-2\r\n{taken}"));
        part.expect(206, "HIT", "el");
        let old = stage.send(format!("GET /p HTTP/1.0\r\nHost: shop.example\r\n{taken}\r\n"));
        stage.settle();
        for answer in [part, old, stage.fetch("/p", ""), stage.fetch("/p", "TE: gzip\r\n"), stage.ask("HEAD", "/p", taken)] {
            assert_eq!((answer.x_cache(), answer.trailers.as_slice(), answer.field("trailer")), ("HIT", &[][..], None));
            assert!(answer.field("content-length").is_some(), "{:?}", answer.head);
        }
        // Nothing of a trailer becomes a field, or a rule.
        let hit = stage.fetch("/p", "");
        hit.expect(200, "HIT", "hello");
        assert_eq!((hit.field("cache-control"), hit.field("etag"), hit.field("set-cookie")), (Some("max-age=60"), None, None));
        assert!(hit.age().is_some_and(|age| age < 50));
        assert_eq!(stage.origin.count("/p"), 1);
        // What is not stored passes with its trailers as well.
        stage.origin.bytes("/passing", format!("{}{tail}", head.replace("max-age=60", "no-store")));
        let passing = stage.fetch("/passing", taken);
        passing.expect(200, "MISS", "hello");
        assert_eq!(passing.trailers, checksum);
        let without = stage.fetch("/passing", "");
        without.expect(200, "MISS", "hello");
        assert_eq!((without.trailers.len(), without.field("trailer")), (0, None));
    }

    /// Methods other than GET and HEAD store nothing and are answered by the origin alone.
    fn other_methods(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/p", "Cache-Control: max-age=60");
        for (nth, method) in ["OPTIONS", "PUT", "DELETE", "PATCH", "POST", "FOO", "get", "PROPFIND", "QUERY", "OPTIONS"].into_iter().enumerate() {
            let answer = stage.ask(method, "/p", "Content-Length: 0\r\n");
            assert_eq!((answer.x_cache(), answer.field("x-version")), ("BYPASS", Some((nth + 1).to_string().as_str())), "{method}");
        }
        stage.fetch("/p", "").expect(200, "MISS", "v11");
        stage.fetch("/p", "").expect(200, "HIT", "v11");
        // Safe ones leave it alone, and are not answered from it.
        for method in ["OPTIONS", "PROPFIND", "QUERY"] {
            assert_eq!(stage.ask(method, "/p", "").x_cache(), "BYPASS", "{method}");
        }
        stage.fetch("/p", "").expect(200, "HIT", "v11");
    }

    /// The query is part of the target, byte for byte.
    fn the_target_is_the_key(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/k*", |exchange| {
            let target = exchange.target().to_owned();
            exchange.reply(&Reply::ok(target).cache("max-age=60"));
        });
        let targets = ["/k", "/k/", "/k?", "/k?a", "/k?a=", "/k?a=1", "/k?a=1&b=2", "/k?b=2&a=1", "/k?A=1", "/K".to_lowercase().leak(), "/k%41", "/kA", "/k?a=%20", "/k?a=+"];
        for target in targets {
            assert_eq!(stage.fetch(target, "").text(), target);
        }
        for target in targets {
            stage.fetch(target, "").expect(200, "HIT", target);
        }
    }
}
