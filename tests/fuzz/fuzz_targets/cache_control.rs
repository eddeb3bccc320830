//! `Cache-Control` and `Pragma` (RFC 9111 5.2, 5.4): whatever stands beside them, restrictions only add up.

#![no_main]

use forebay::caching::cache_control::{RequestDirectives, ResponseDirectives};
use forebay_fuzz::{lines, map};
use http::HeaderValue;
use http::header::{CACHE_CONTROL, PRAGMA};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let headers = map(&CACHE_CONTROL, data);
    let all = ResponseDirectives::parse(&headers);
    let asked = RequestDirectives::parse(&headers);
    for line in lines(data) {
        let one = ResponseDirectives::parse(&map(&CACHE_CONTROL, line));
        assert!(all.no_store || !one.no_store, "a line's no-store is lost");
        assert!(all.private || !one.private, "a line's private is lost");
        assert!(all.no_cache || !one.no_cache, "a line's no-cache is lost");
        assert!(one.max_age.is_none() || all.max_age.is_some_and(|least| Some(least) <= one.max_age));
        assert!(one.s_maxage.is_none() || all.s_maxage.is_some_and(|least| Some(least) <= one.s_maxage));
        let one = RequestDirectives::parse(&map(&CACHE_CONTROL, line));
        assert!(asked.no_store || !one.no_store, "a request's no-store is lost");
    }
    let mut more = headers.clone();
    more.append(CACHE_CONTROL, HeaderValue::from_static("no-store, private, no-cache, max-age=1"));
    let more = ResponseDirectives::parse(&more);
    assert!(more.no_store && more.private && more.no_cache);
    assert!(more.max_age.is_some_and(|age| age.millis() <= 1000));

    let pragma = RequestDirectives::parse(&map(&PRAGMA, data));
    assert_eq!(pragma, RequestDirectives { no_cache: pragma.no_cache, ..RequestDirectives::default() });
});
