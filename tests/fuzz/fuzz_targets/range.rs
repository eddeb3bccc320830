//! `Range` and `If-Range` (RFC 9110 13.1.5, 14.2): what is given exists, and is never more than there is.

#![no_main]

use forebay::semantics::UnixMillis;
use forebay::semantics::range::{
    ByteRange, MAX_RANGES, Multipart, RangeVerdict, Representation, judge, sole_int_range,
};
use forebay_fuzz::{halves, map, number};
use http::HeaderValue;
use http::header::{IF_RANGE, RANGE};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (length, text) = number(data);
    let (range, condition) = halves(text);
    let mut headers = map(&RANGE, range);
    headers.extend(map(&IF_RANGE, condition));
    let etag = HeaderValue::from_static("\"a\"");
    let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    let whole = Representation { length, etag: Some(&etag), last_modified: Some(&date), date: Some(&date) };
    let inside = |range: &ByteRange| range.first <= range.last && range.last < length;
    match judge(&headers, &whole, UnixMillis(0)) {
        RangeVerdict::Whole | RangeVerdict::Unsatisfiable => {}
        RangeVerdict::Single(range) => assert!(inside(&range)),
        RangeVerdict::Several(ranges) => {
            assert!((2..=MAX_RANGES).contains(&ranges.len()) && ranges.iter().all(inside));
            let total: u128 = ranges.iter().map(|range| u128::from(range.length())).sum();
            assert!(total <= u128::from(length));
            let frame = Multipart::new(1, None, length, ranges);
            assert!(u128::from(frame.content_length()) >= total.min(u128::from(u64::MAX)));
        }
    }
    if let Some((first, Some(last))) = sole_int_range(&headers) {
        assert!(first <= last);
    }
});
