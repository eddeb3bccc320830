//! `Content-Range` (RFC 9110 14.4), as it is read and as a part is stored by it (RFC 9111 3.3).

#![no_main]

use forebay::caching::partial::part;
use forebay::semantics::range::ContentRange;
use forebay_fuzz::map;
use http::header::CONTENT_RANGE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let read = ContentRange::parse(data);
    if let Some(read) = read {
        assert_eq!(ContentRange::parse(read.to_value().as_bytes()), Some(read));
    }
    let headers = map(&CONTENT_RANGE, data);
    if let Some(part) = part(&headers, None) {
        assert!(part.first <= part.last && part.last < part.complete && part.covers(part.first, part.last));
        let read = ContentRange::parse(headers[CONTENT_RANGE].as_bytes()).expect("a part has a range");
        let range = read.range.expect("a part has bytes");
        assert_eq!((range.first, range.last, read.complete), (part.first, part.last, Some(part.complete)));
    }
});
