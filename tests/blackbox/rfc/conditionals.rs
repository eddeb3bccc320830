//! RFC 9110 13, RFC 9111 4.3.2: a client's own conditions, answered from what is stored.

use super::stage::*;
use crate::support::*;

const ETAG: &str = "ETag: \"abc\"";
const WEAK: &str = "ETag: W/\"abc\"";
const MODIFIED: &str = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT";
const BOTH: &str = "ETag: \"abc\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT";

both_tiers! {
    fn preconditions_of_a_fresh_response(tiers: Tiers) {
        let rows: &[(&str, &str, u16)] = &[
            (ETAG, "If-None-Match: \"abc\"", 304),
            (ETAG, "If-None-Match: \"other\"", 200),
            (ETAG, "If-None-Match: W/\"abc\"", 304),
            (WEAK, "If-None-Match: \"abc\"", 304),
            (WEAK, "If-None-Match: W/\"abc\"", 304),
            (WEAK, "If-None-Match: W/\"other\"", 200),
            (ETAG, "If-None-Match: *", 304),
            ("", "If-None-Match: *", 304),
            ("", "If-None-Match: \"abc\"", 200),
            (ETAG, "If-None-Match: \"a\", \"abc\"", 304),
            (ETAG, "If-None-Match: \"abc\", \"b\"", 304),
            (ETAG, "If-None-Match: \"a\",\"abc\",\"b\"", 304),
            (ETAG, "If-None-Match: \"a\" ,\t\"abc\"", 304),
            (ETAG, "If-None-Match: , ,\"abc\"", 304),
            (ETAG, "If-None-Match: \"a\"\nIf-None-Match: \"abc\"", 304),
            (ETAG, "If-None-Match: \"a\", \"b\"", 200),
            (ETAG, "If-None-Match: \"ABC\"", 200),
            (ETAG, "If-None-Match: \"abcd\"", 200),
            (ETAG, "If-None-Match: \"ab\"", 200),
            (ETAG, "If-None-Match: \"\"", 200),
            ("ETag: \"\"", "If-None-Match: \"\"", 304),
            ("ETag: \"a,b\"", "If-None-Match: \"a,b\"", 304),
            ("ETag: \"a,b\"", "If-None-Match: \"a\", \"b\"", 200),
            ("ETag: \"a\\b\"", "If-None-Match: \"a\\b\"", 304),
            (MODIFIED, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT", 304),
            (MODIFIED, "If-Modified-Since: Sun, 06 Nov 1994 08:49:38 GMT", 304),
            (MODIFIED, "If-Modified-Since: {+0}", 304),
            (MODIFIED, "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", 200),
            (MODIFIED, "If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT", 304),
            (MODIFIED, "If-Modified-Since: Sun Nov  6 08:49:37 1994", 304),
            (MODIFIED, "If-Modified-Since: 0", 200),
            (MODIFIED, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 UTC", 200),
            (MODIFIED, "If-Modified-Since: {+0}\nIf-Modified-Since: {+0}", 200),
            ("", "If-Modified-Since: {+60}", 304),
            ("", "If-Modified-Since: {-600}", 200),
            ("Date: {-30}", "If-Modified-Since: {-10}", 304),
            (BOTH, "If-None-Match: \"abc\"\nIf-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT", 304),
            (BOTH, "If-None-Match: \"other\"\nIf-Modified-Since: {+0}", 200),
            (BOTH, "If-None-Match: \"abc\"\nIf-Modified-Since: nonsense", 304),
            // For the origin alone (RFC 9111 4.3.2): a fresh response answers as if they were not there.
            (ETAG, "If-Match: \"abc\"", 200),
            (ETAG, "If-Match: \"other\"", 200),
            (ETAG, "If-Match: *", 200),
            (MODIFIED, "If-Unmodified-Since: {+0}", 200),
            (MODIFIED, "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT", 200),
        ];
        let stage = tiers.stage(&[]);
        for (at, (lines, _, _)) in rows.iter().enumerate() {
            let lines = format!("{lines}\nCache-Control: max-age=600\nContent-Type: text/x-test\nX-Own: 1\nContent-Location: /c\nVary: Foo");
            stage.origin.on(&format!("/{at}"), move |exchange| exchange.reply(&with(Reply::ok("whole"), &lines)));
            stage.fetch(&format!("/{at}"), "").expect(200, "MISS", "whole");
        }
        for (at, (lines, asked, status)) in rows.iter().enumerate() {
            for method in ["GET", "HEAD"] {
                let answer = stage.ask(method, &format!("/{at}"), &crlf(&dated(asked)));
                let row = format!("row {at}, {method}: {lines:?} asked {asked:?}");
                assert_eq!((answer.status, answer.x_cache()), (*status, "HIT"), "{row}");
                assert!(answer.age().is_some(), "{row}");
                let same = |name: &str| answer.field(name).map(|value| format!("{name}: {value}"));
                if *status == 304 {
                    assert_eq!(answer.text(), "", "{row}");
                    // RFC 9110 15.4.5: what a 200 would have said of caching, and of content nothing.
                    assert_eq!(answer.field("content-type"), None, "{row}");
                    assert_eq!(answer.field("cache-control"), Some("max-age=600"), "{row}");
                    assert_eq!((answer.field("vary"), answer.field("content-location")), (Some("Foo"), Some("/c")), "{row}");
                    assert!(answer.field("date").is_some(), "{row}");
                    let etag = lines.split('\n').find(|line| line.starts_with("ETag")).map(str::to_lowercase);
                    assert_eq!(same("etag").map(|tag| tag.to_lowercase()), etag, "{row}");
                } else if method == "GET" {
                    assert_eq!(answer.text(), "whole", "{row}");
                }
            }
            assert_eq!(stage.origin.count(&format!("/{at}")), 1, "row {at}: answered without the origin");
        }
    }

    /// RFC 9110 13.2.1: conditions are ignored where the answer without them is no success.
    fn conditions_on_what_is_no_success_are_ignored(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        for status in [203, 301, 404, 500] {
            let target = format!("/{status}");
            stage.origin.reply(&target, Reply::new(status).body("whole").cache("max-age=60").field("ETag", "\"a\""));
            stage.fetch(&target, "").expect(status, "MISS", "whole");
            if status != 203 {
                stage.fetch(&target, "If-None-Match: \"a\"\r\n").expect(status, "HIT", "whole");
            }
        }
    }

    /// One client's condition on a miss fetches the whole for all, and is then answered itself.
    fn a_condition_on_a_miss(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let reply = || Reply::ok("whole").cache("max-age=60").field("ETag", "\"a\"").field("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        for target in ["/match", "/other", "/since"] {
            stage.origin.on(target, move |exchange| {
                let head = exchange.head();
                assert_eq!((head.field("if-none-match"), head.field("if-modified-since")), (None, None), "nothing is stored: nothing is asked");
                exchange.reply(&reply());
            });
        }
        assert_eq!(stage.fetch("/match", "If-None-Match: \"a\"\r\n").status, 304);
        stage.fetch("/match", "").expect(200, "HIT", "whole");
        stage.fetch("/other", "If-None-Match: \"b\"\r\n").expect(200, "MISS", "whole");
        assert_eq!(stage.fetch("/since", "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n").status, 304);
        stage.fetch("/since", "").expect(200, "HIT", "whole");
    }

    /// A stale response's own validators go to the origin, never the client's, whose condition is
    /// judged on what comes of it.
    fn a_condition_on_a_stale_response(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        // (the client's tag, whether the origin still has it, what the client gets)
        let rows = [("\"a\"", true, 304), ("\"b\"", true, 200), ("\"a\"", false, 200), ("\"b\"", false, 304), ("*", true, 304)];
        for (at, (asked, holds, status)) in rows.into_iter().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                let stale = |tag: &str, body: &str| Reply::ok(body).cache("max-age=60").field("ETag", tag);
                if exchange.nth() == 1 {
                    return exchange.reply(&stale("\"a\"", "old").field("Age", "60"));
                }
                assert_eq!(exchange.head().field("if-none-match"), Some("\"a\""), "the stored tag");
                exchange.reply(&if holds { Reply::not_modified().field("ETag", "\"a\"").cache("max-age=60") } else { stale("\"b\"", "new") });
            });
            stage.fetch(&target, "").expect(200, "MISS", "old");
            let answer = stage.fetch(&target, &format!("If-None-Match: {asked}\r\n"));
            let body = if status == 304 { "" } else if holds { "old" } else { "new" };
            assert_eq!((answer.status, answer.text().as_str()), (status, body), "row {at}");
            stage.fetch(&target, "").expect(200, "HIT", if holds { "old" } else { "new" });
        }
    }

    /// Where nothing may be stored, the client's condition is the origin's to judge once that is known.
    fn conditions_pass_where_nothing_is_stored(tiers: Tiers) {
        let stage = tiers.stage(&["cache = false"]);
        stage.origin.on("/p", |exchange| {
            let hit = exchange.head().field("if-none-match") == Some("\"a\"");
            exchange.reply(&if hit { Reply::not_modified().field("ETag", "\"a\"") } else { Reply::ok("whole") });
        });
        assert_eq!(stage.fetch("/p", "If-None-Match: \"a\"\r\n").status, 304);
        stage.fetch("/p", "").expect(200, "BYPASS", "whole");
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let hit = exchange.head().field("if-none-match") == Some("\"a\"");
            let reply = if hit { Reply::not_modified() } else { Reply::ok("whole") };
            exchange.reply(&reply.field("ETag", "\"a\"").cache("no-store"));
        });
        stage.fetch("/p", "").expect(200, "MISS", "whole");
        // By now it is known that nobody shares this.
        assert_eq!(stage.fetch("/p", "If-None-Match: \"a\"\r\n").status, 304);
        stage.fetch("/p", "").expect(200, "MISS", "whole");
    }
}
