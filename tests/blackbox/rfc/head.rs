//! HEAD (RFC 9110 9.3.2, RFC 9111 4.3.5): answered from a stored GET, and updating it.

use super::stage::*;
use crate::support::*;

both_tiers! {
    fn head_is_answered_from_get_and_get_not_from_head(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.versions("/p", "Cache-Control: max-age=60\nETag: \"a\"\nX-Own: 1");
        stage.fetch("/p", "").expect(200, "MISS", "v1");
        let head = stage.ask("HEAD", "/p", "");
        head.expect(200, "HIT", "");
        assert_eq!((head.field("content-length"), head.field("x-own")), (Some("2"), Some("1")));
        assert!(head.age().is_some());
        // A HEAD first: whatever it stores, GET gets its content.
        stage.versions("/q", "Cache-Control: max-age=60");
        assert_eq!(stage.ask("HEAD", "/q", "").status, 200);
        assert_eq!(stage.fetch("/q", "").text(), "v1");
        assert_eq!(stage.origin.last("/q").method, "GET");
        assert_eq!(stage.ask("HEAD", "/q", "").x_cache(), "HIT");
    }

    /// A HEAD about a stale GET is asked with HEAD; what it says renews or spoils what is stored.
    fn a_head_updates_or_spoils_a_stored_get(tiers: Tiers) {
        // (what the HEAD says, whether the stored content still answers)
        let rows: &[(&str, bool)] = &[
            ("ETag: \"a\"\nContent-Length: 3\nTest-Header: new", true),
            ("ETag: \"a\"\nTest-Header: new", true),
            ("ETag: \"b\"\nTest-Header: new", false),
            ("ETag: W/\"a\"\nTest-Header: new", false),
            ("ETag: \"a\"\nContent-Length: 4\nTest-Header: new", false),
            ("ETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:38 GMT\nTest-Header: new", false),
            ("ETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nTest-Header: new", true),
        ];
        let stage = tiers.stage(&[]);
        for (at, (told, holds)) in rows.iter().copied().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                if exchange.method() == "HEAD" {
                    let mut head = format!("HTTP/1.1 200 OK\r\nDate: {}\r\nCache-Control: max-age=60\r\n", date(0));
                    head += &crlf(told);
                    exchange.send(head + "\r\n");
                    return;
                }
                let old = "Cache-Control: max-age=60\nETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nTest-Header: old";
                let reply = if exchange.nth() == 1 { Reply::ok("old").field("Age", "60") } else { Reply::ok("newer") };
                exchange.reply(&with(reply, old));
            });
            stage.fetch(&target, "").expect(200, "MISS", "old");
            let head = stage.ask("HEAD", &target, "");
            assert_eq!((head.status, head.field("test-header")), (200, Some("new")), "row {at}");
            assert_eq!(stage.origin.last(&target).method, "HEAD", "row {at}");
            let get = stage.fetch(&target, "");
            if holds {
                get.expect(200, "HIT", "old");
                assert_eq!(get.field("test-header"), Some("new"), "row {at}");
                assert_eq!(get.field("content-length"), Some("3"), "row {at}");
            } else {
                get.expect(200, "MISS", "newer");
            }
        }
    }

    /// A HEAD that is answered with an error says nothing about a stored GET.
    fn a_failed_head_says_nothing(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        for status in [404, 410, 500, 503] {
            let target = format!("/{status}");
            stage.origin.on(&target, move |exchange| {
                let reply = if exchange.method() == "HEAD" { Reply::new(status) } else { Reply::ok("v1").field("ETag", "\"a\"").cache("max-age=0") };
                let confirmed = exchange.head().field("if-none-match").is_some() && exchange.method() == "GET";
                exchange.reply(&if confirmed { Reply::not_modified().field("ETag", "\"a\"") } else { reply });
            });
            stage.fetch(&target, "").expect(200, "MISS", "v1");
            assert_eq!(stage.ask("HEAD", &target, "").status, status);
            stage.fetch(&target, "").expect(200, "REVALIDATED", "v1");
        }
    }
}
