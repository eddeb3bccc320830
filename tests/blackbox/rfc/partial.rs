//! Partial responses (RFC 9111 3.3, 3.4): stored, answered from, joined, completed.

use super::stage::*;
use crate::support::*;

const CONTENT: &str = "0123456789";

/// Answers ranges and conditions as an origin does that knows them.
fn serve(exchange: &mut Exchange, lines: &str) {
    if exchange.head().field("if-none-match").is_some() {
        return exchange.reply(&with(Reply::not_modified(), lines));
    }
    let range = exchange.head().field("range").map(str::to_owned);
    let reply = match range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) {
        Some((first, last)) => {
            let first: usize = first.parse().expect("a first offset");
            let last: usize = last.parse().unwrap_or(9).min(9);
            Reply::new(206)
                .field("Content-Range", format!("bytes {first}-{last}/10"))
                .body(&CONTENT[first..=last])
        }
        None => Reply::ok(CONTENT),
    };
    exchange.reply(&with(reply, lines));
}

const STRONG: &str = "Cache-Control: max-age=60\nETag: \"a\"";

both_tiers! {
    fn a_part_is_stored_and_answers_what_it_holds(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| serve(exchange, STRONG));
        stage.fetch("/p", "Range: bytes=2-7\r\n").expect(206, "MISS", "234567");
        for (asked, content_range, content) in [("2-7", "bytes 2-7/10", "234567"), ("3-5", "bytes 3-5/10", "345"), ("7-7", "bytes 7-7/10", "7"), ("2-2", "bytes 2-2/10", "2")] {
            let hit = stage.fetch("/p", &format!("Range: bytes={asked}\r\n"));
            hit.expect(206, "HIT", content);
            assert_eq!(hit.field("content-range"), Some(content_range));
        }
        let beyond = stage.fetch("/p", "Range: bytes=10-\r\n");
        assert_eq!((beyond.status, beyond.field("content-range")), (416, Some("bytes */10")));
        assert_eq!(stage.origin.count("/p"), 1);
        // The whole is more than it holds.
        stage.fetch("/p", "").expect(200, "MISS", CONTENT);
        stage.fetch("/p", "").expect(200, "HIT", CONTENT);
        stage.fetch("/p", "Range: bytes=2-3\r\n").expect(206, "HIT", "23");
    }

    fn parts_are_joined_and_completed(tiers: Tiers) {
        // Ranges asked one after the other, and whether they make the whole.
        let rows: &[(&[&str], bool)] = &[
            (&["0-4", "5-9"], true),
            (&["5-9", "0-4"], true),
            (&["0-6", "4-9"], true),
            (&["0-2", "3-5", "6-9"], true),
            (&["0-3", "6-9"], false),
        ];
        let stage = tiers.stage(&[]);
        for (at, (ranges, whole)) in rows.iter().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, |exchange| serve(exchange, STRONG));
            for range in *ranges {
                let lines = format!("Range: bytes={range}\r\n");
                assert_eq!(stage.fetch(&target, &lines).status, 206, "row {at}");
            }
            let answer = stage.fetch(&target, "");
            assert_eq!((answer.status, answer.text().as_str()), (200, CONTENT), "row {at}");
            assert_eq!(answer.x_cache() == "HIT", *whole, "row {at}: {}", answer.cache_status());
            assert_eq!(answer.field("content-range"), None, "row {at}");
        }
    }

    /// RFC 9111 3.4: what a stored part lacks is fetched, where it is one range, and both are the whole.
    fn a_part_is_completed_by_its_rest(tiers: Tiers) {
        // (the part that is stored, what the origin is asked when the whole is wanted)
        let rows = [("0-4", Some("bytes=5-")), ("0-8", Some("bytes=9-")), ("5-9", Some("bytes=0-4")), ("3-6", None)];
        let stage = tiers.stage(&[]);
        for (part, rest) in rows {
            let target = format!("/{part}");
            stage.origin.on(&target, |exchange| serve(exchange, STRONG));
            assert_eq!(stage.fetch(&target, &format!("Range: bytes={part}\r\n")).status, 206);
            let whole = stage.fetch(&target, "");
            whole.expect(200, "MISS", CONTENT);
            assert_eq!(whole.field("content-range"), None);
            let asked = stage.origin.last(&target);
            assert_eq!((asked.field("range"), asked.field("if-range")), (rest, rest.map(|_| "\"a\"")), "{part}");
            assert_eq!(asked.field("if-none-match"), None, "{part}: a part is not validated for a whole");
            if rest.is_some() {
                let told = whole.cache_status();
                assert!(told.starts_with("forebay; fwd=partial; fwd-status=206; stored; "), "{told}");
            }
            stage.fetch(&target, "").expect(200, "HIT", CONTENT);
            assert_eq!(stage.origin.count(&target), 2, "{part}");
        }
    }

    /// RFC 9111 3.3: a part answers nothing that it lacks, be it stale, confirmed or all that there is.
    fn a_part_answers_nothing_that_it_lacks(tiers: Tiers) {
        const OLD: &str = "Cache-Control: max-age=60, stale-if-error=600\nAge: 60\nETag: \"a\"";
        let stage = tiers.stage(&[]);
        stage.origin.on("/stale", |exchange| serve(exchange, OLD));
        stage.fetch("/stale", "Range: bytes=0-4\r\n").expect(206, "MISS", "01234");
        let other = stage.fetch("/stale", "Range: bytes=5-9\r\n");
        other.expect(206, "MISS", "56789");
        assert_eq!(other.field("content-range"), Some("bytes 5-9/10"));
        assert_eq!(stage.origin.last("/stale").field("if-none-match"), None);
        stage.origin.on("/failing", |exchange| match exchange.nth() {
            1 => serve(exchange, OLD),
            _ => exchange.reply(&Reply::new(503).body("sorry")),
        });
        stage.fetch("/failing", "Range: bytes=0-4\r\n").expect(206, "MISS", "01234");
        stage.fetch("/failing", "Range: bytes=5-9\r\n").expect(503, "MISS", "sorry");
        stage.fetch("/failing", "").expect(503, "MISS", "sorry");
        stage.fetch("/failing", "Range: bytes=1-3\r\n").expect(206, "STALE", "123");
    }

    /// What is not the rest never becomes part of a whole.
    fn what_is_not_the_rest_is_not_joined(tiers: Tiers) {
        // (the answer to the request for the rest, how often the origin is asked, whether the client
        // sees it break off; the whole is `new` otherwise)
        let part = |fields: &str, body: &str| format!("HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\n{fields}\r\n{body}");
        let rows = [
            ("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: \"b\"\r\nContent-Length: 3\r\n\r\nnew".to_owned(), 2, false),
            ("HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */3\r\nContent-Length: 0\r\n\r\n".to_owned(), 3, false),
            ("HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_owned(), 3, false),
            (part("ETag: \"b\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n", "56789"), 3, false),
            (part("ETag: W/\"a\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n", "56789"), 3, false),
            (part("Content-Range: bytes 5-9/10\r\nContent-Length: 5\r\n", "56789"), 3, false),
            (part("ETag: \"a\"\r\nContent-Range: bytes 5-10/11\r\nContent-Length: 6\r\n", "567890"), 3, false),
            (part("ETag: \"a\"\r\nContent-Range: bytes 6-9/10\r\nContent-Length: 4\r\n", "6789"), 3, false),
            (part("ETag: \"a\"\r\nContent-Range: bytes 5-8/10\r\nContent-Length: 4\r\n", "5678"), 3, false),
            (part("ETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\nContent-Length: 5\r\n", "567"), 2, true),
            (part("ETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\nTransfer-Encoding: chunked\r\n", "3\r\n567\r\n0\r\n\r\n"), 2, true),
            (part("ETag: \"a\"\r\nContent-Range: bytes 5-9/10\r\nTransfer-Encoding: chunked\r\n", "6\r\n56789a\r\n0\r\n\r\n"), 2, true),
        ];
        let stage = tiers.stage(&[]);
        for (at, (rest, count, broken)) in rows.into_iter().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| match exchange.nth() {
                1 => serve(exchange, STRONG),
                2 => {
                    exchange.send(&rest);
                    exchange.close();
                }
                _ => exchange.reply(&with(Reply::ok("new"), STRONG)),
            });
            assert_eq!(stage.fetch(&target, "Range: bytes=0-4\r\n").status, 206);
            if broken {
                assert!(!stage.is_answered_whole(&target), "row {at}");
            } else {
                stage.fetch(&target, "").expect(200, "MISS", "new");
            }
            assert_eq!(stage.origin.count(&target), count, "row {at}");
            let next = stage.fetch(&target, "");
            assert_eq!((next.status, next.text().as_str()), (200, "new"), "row {at}: nothing false was stored");
        }
    }

    /// Only a strong validator says that two parts are of one representation.
    fn parts_of_different_representations_are_not_joined(tiers: Tiers) {
        let rows = [("ETag: \"a\"", "ETag: \"b\""), ("ETag: W/\"a\"", "ETag: W/\"a\""), ("", ""), ("ETag: \"a\"", "")];
        let stage = tiers.stage(&[]);
        for (at, (one, other)) in rows.into_iter().enumerate() {
            let target = format!("/{at}");
            stage.origin.on(&target, move |exchange| {
                let lines = format!("{}\nCache-Control: max-age=60", if exchange.nth() == 1 { one } else { other });
                serve(exchange, &lines);
            });
            stage.fetch(&target, "Range: bytes=0-4\r\n").expect(206, "MISS", "01234");
            assert_eq!(stage.fetch(&target, "Range: bytes=5-9\r\n").text(), "56789", "row {at}");
            let answer = stage.fetch(&target, "");
            assert_eq!((answer.x_cache(), answer.text().as_str()), ("MISS", CONTENT), "row {at}");
        }
    }

    /// RFC 9111 3.3: what cannot be understood as a part is not stored, and never the whole.
    fn what_is_no_part_is_not_stored(tiers: Tiers) {
        let heads = [
            "Content-Length: 5\r\n",
            "Content-Range: bytes 0-4/*\r\nContent-Length: 5\r\n",
            "Content-Range: bytes 0-9/10\r\nContent-Length: 5\r\n",
            "Content-Range: bytes 4-0/10\r\nContent-Length: 5\r\n",
            "Content-Range: lines 0-4/10\r\nContent-Length: 5\r\n",
            "Content-Range: bytes 0-4/3\r\nContent-Length: 5\r\n",
            "Content-Type: multipart/byteranges; boundary=x\r\nContent-Length: 5\r\n",
        ];
        let stage = tiers.stage(&[]);
        for (at, head) in heads.into_iter().enumerate() {
            let target = format!("/{at}");
            let head = format!("HTTP/1.1 206 Partial Content\r\nCache-Control: max-age=60\r\nETag: \"a\"\r\n{head}\r\n01234");
            stage.origin.bytes(&target, head);
            for count in 1..=2 {
                let answer = stage.fetch(&target, "Range: bytes=0-4\r\n");
                assert_ne!(answer.x_cache(), "HIT", "row {at}");
                assert_eq!(stage.origin.count(&target), count, "row {at}");
            }
        }
        // A 206 that nobody asked for is not the whole, either.
        stage.origin.on("/unasked", |exchange| {
            exchange.reply(&with(Reply::new(206).field("Content-Range", "bytes 0-4/10").body("01234"), STRONG));
        });
        for count in 1..=2 {
            assert_ne!(stage.fetch("/unasked", "").x_cache(), "HIT");
            assert_eq!(stage.origin.count("/unasked"), count);
        }
    }

    /// A stale part is fetched again, and the origin may answer with the whole.
    fn a_stale_part_is_not_reused(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            if exchange.nth() == 1 { serve(exchange, "Cache-Control: max-age=60\nAge: 60\nETag: \"a\"") } else { exchange.reply(&with(Reply::ok(CONTENT), STRONG)) }
        });
        stage.fetch("/p", "Range: bytes=0-4\r\n").expect(206, "MISS", "01234");
        let second = stage.fetch("/p", "Range: bytes=0-4\r\n");
        assert_eq!((second.status, second.text().as_str()), (206, "01234"));
        stage.fetch("/p", "").expect(200, "HIT", CONTENT);
    }
}

/// The whole may be more than is kept: it passes, and nobody has it from a cache.
#[test]
fn a_whole_that_outgrows_the_cache_passes() {
    let content = noise(1, 100 << 10);
    let part = 50 << 10;
    let origin = Origin::start();
    let whole = content.clone();
    origin.on("/p", move |exchange| {
        let total = whole.len();
        let (first, last) = match exchange.head().field("range") {
            Some("bytes=0-51199") => (0, part),
            Some("bytes=51200-") => (part, total),
            other => panic!("an unexpected range: {other:?}"),
        };
        let reply = Reply::new(206).body(&whole[first..last]).cache("max-age=60").field("ETag", "\"a\"");
        exchange.reply(&reply.field("Content-Range", format!("bytes {first}-{}/{total}", last - 1)));
    });
    let proxy = Config::new(&origin).memory("max_object_size = \"64KiB\"").start();
    assert_eq!(proxy.get_with("/p", "Range: bytes=0-51199\r\n").body, &content[..part]);
    eventually("the part is stored", || {
        (proxy.get_with("/p", "Range: bytes=0-51199\r\n").x_cache() == "HIT").then_some(())
    });
    let answer = proxy.get("/p");
    assert!(answer.is_complete() && answer.status == 200 && answer.body == content);
    assert_eq!(origin.count("/p"), 2);
}
