//! Ranges (RFC 9110 14) from complete stored responses.

use super::stage::*;
use crate::support::*;

const CONTENT: &str = "0123456789abcdefghij";

/// One row: fields of the request, and status, Content-Range and content of the answer.
type Asked = (&'static str, u16, Option<&'static str>, &'static str);

const PLAIN: &[Asked] = &[
    ("Range: bytes=0-4", 206, Some("bytes 0-4/20"), "01234"),
    ("Range: bytes=5-5", 206, Some("bytes 5-5/20"), "5"),
    ("Range: bytes=15-", 206, Some("bytes 15-19/20"), "fghij"),
    ("Range: bytes=0-", 206, Some("bytes 0-19/20"), CONTENT),
    ("Range: bytes=15-99", 206, Some("bytes 15-19/20"), "fghij"),
    ("Range: bytes=-5", 206, Some("bytes 15-19/20"), "fghij"),
    ("Range: bytes=-99", 206, Some("bytes 0-19/20"), CONTENT),
    ("Range: BYTES=0-1", 206, Some("bytes 0-1/20"), "01"),
    ("range: bytes=0-1", 206, Some("bytes 0-1/20"), "01"),
    ("Range: bytes=0-1,", 206, Some("bytes 0-1/20"), "01"),
    ("Range: bytes= 0-1", 206, Some("bytes 0-1/20"), "01"),
    ("Range: bytes=0-1, 30-40", 206, Some("bytes 0-1/20"), "01"),
    ("Range: bytes=20-", 416, Some("bytes */20"), ""),
    ("Range: bytes=20-30", 416, Some("bytes */20"), ""),
    ("Range: bytes=-0", 416, Some("bytes */20"), ""),
    ("Range: bytes=99999999999999999999-", 416, Some("bytes */20"), ""),
    ("Range: bytes=5-4", 200, None, CONTENT),
    ("Range: bytes=a-b", 200, None, CONTENT),
    ("Range: bytes=", 200, None, CONTENT),
    ("Range: bytes", 200, None, CONTENT),
    ("Range: 0-4", 200, None, CONTENT),
    ("Range: lines=0-4", 200, None, CONTENT),
    ("Range: bytes=0-4\nRange: bytes=5-9", 200, None, CONTENT),
    ("Range: bytes=0-19,0-19,0-19,0-19", 200, None, CONTENT),
    // If-Range: a strong comparison, or an exact and strong date.
    ("Range: bytes=0-4\nIf-Range: \"a\"", 206, Some("bytes 0-4/20"), "01234"),
    ("Range: bytes=0-4\nIf-Range: \"b\"", 200, None, CONTENT),
    ("Range: bytes=0-4\nIf-Range: W/\"a\"", 200, None, CONTENT),
    ("Range: bytes=0-4\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT", 206, Some("bytes 0-4/20"), "01234"),
    ("Range: bytes=0-4\nIf-Range: Sun, 06 Nov 1994 08:49:38 GMT", 200, None, CONTENT),
    ("Range: bytes=0-4\nIf-Range: nonsense", 200, None, CONTENT),
    ("If-Range: \"a\"", 200, None, CONTENT),
    // Preconditions come first (RFC 9110 13.2.2).
    ("Range: bytes=0-4\nIf-None-Match: \"a\"", 304, None, ""),
    ("Range: bytes=0-4\nIf-None-Match: \"b\"", 206, Some("bytes 0-4/20"), "01234"),
];

both_tiers! {
    fn ranges_of_a_complete_response(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        let lines = "Cache-Control: max-age=60\nETag: \"a\"\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\nContent-Type: text/plain\nX-Own: 1";
        stage.origin.on("/p", move |exchange| exchange.reply(&with(Reply::ok(CONTENT), lines)));
        stage.fetch("/p", "").expect(200, "MISS", CONTENT);
        for (asked, status, content_range, content) in PLAIN {
            let answer = stage.fetch("/p", &crlf(asked));
            answer.expect(*status, "HIT", content);
            assert_eq!(answer.field("content-range"), *content_range, "{asked}");
            let says = answer.cache_status().contains("detail=range-not-satisfiable");
            assert_eq!(says, *status == 416, "{asked}: {}", answer.cache_status());
            if *status == 206 {
                // RFC 9110 15.3.7: what a 200 would have said of it.
                let told = ["cache-control", "etag", "content-type", "date"].map(|name| answer.field(name).is_some());
                assert_eq!(told, [true; 4], "{asked}");
                assert_eq!(answer.framing, Framing::Length(content.len() as u64), "{asked}");
            }
        }
        // Ranges mean something to GET alone.
        let head = stage.ask("HEAD", "/p", "Range: bytes=0-4\r\n");
        assert_eq!((head.status, head.field("content-length")), (200, Some("20")));
        assert_eq!(stage.origin.count("/p"), 1);
    }

    fn several_ranges_are_multipart(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.reply("/p", Reply::ok(CONTENT).cache("max-age=60").field("Content-Type", "text/plain"));
        stage.fetch("/p", "").expect(200, "MISS", CONTENT);
        for (asked, parts) in [
            ("bytes=0-1,5-6", vec![("0-1", "01"), ("5-6", "56")]),
            ("bytes=5-6, 0-1", vec![("5-6", "56"), ("0-1", "01")]),
            ("bytes=0-0, -1", vec![("0-0", "0"), ("19-19", "j")]),
            ("bytes=0-0,99-,2-2", vec![("0-0", "0"), ("2-2", "2")]),
        ] {
            let answer = stage.fetch("/p", &format!("Range: {asked}\r\n"));
            assert_eq!((answer.status, answer.x_cache(), answer.field("content-range")), (206, "HIT", None), "{asked}");
            let media = answer.field("content-type").expect("a type").to_owned();
            let boundary = media.strip_prefix("multipart/byteranges; boundary=").expect(&media).trim_matches('"');
            let mut expected = String::new();
            for (range, content) in parts {
                expected += &format!("\r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes {range}/20\r\n\r\n{content}");
            }
            expected += &format!("\r\n--{boundary}--\r\n");
            let normal = |text: &str| text.trim_start().to_lowercase();
            assert_eq!(normal(&answer.text()), normal(&expected), "{asked}");
        }
    }

    /// A range of a stored error is not asked of it: 404 is what it is.
    fn ranges_of_other_statuses(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        for status in [203, 301, 404, 500] {
            let target = format!("/{status}");
            stage.origin.reply(&target, Reply::new(status).body(CONTENT).cache("max-age=60"));
            stage.fetch(&target, "").expect(status, "MISS", CONTENT);
            stage.fetch(&target, "Range: bytes=0-4\r\n").expect(status, "HIT", CONTENT);
        }
    }

    /// RFC 9110 8.8.2.2: a date within the second before its response is no strong validator.
    fn a_date_that_is_too_young_is_weak(tiers: Tiers) {
        let stage = tiers.stage(&[]);
        stage.origin.on("/p", |exchange| {
            let now = date(0);
            let reply = Reply::ok(CONTENT).without_date().field("Date", &now).field("Last-Modified", &now);
            exchange.reply(&reply.cache("max-age=60"));
        });
        let modified = stage.fetch("/p", "").field("last-modified").expect("a date").to_owned();
        stage.fetch("/p", &format!("Range: bytes=0-4\r\nIf-Range: {modified}\r\n")).expect(200, "HIT", CONTENT);
    }
}
