//! Targeted fields (RFC 9213): the first that is valid governs, and one that is not is as if absent.

#![no_main]

use forebay::caching::cache_control::ResponseDirectives;
use forebay::caching::freshness::Word;
use forebay::caching::targeted::{CDN_CACHE_CONTROL, FOREBAY_CACHE_CONTROL, Governing, governing, targeted};
use forebay_fuzz::{halves, map};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (own, cdn) = halves(data);
    let mut headers = map(&FOREBAY_CACHE_CONTROL, own);
    let own_read = targeted(&headers);
    headers.extend(map(&CDN_CACHE_CONTROL, cdn));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let (field, directives) = governing(&headers);
    match own_read {
        Some((name, read)) => assert!(field == Governing::Targeted(name) && directives == read),
        None => match field {
            Governing::Targeted(name) => assert_eq!(name, &CDN_CACHE_CONTROL),
            Governing::CacheControl => assert_eq!(directives, ResponseDirectives::parse(&headers)),
        },
    }
    let word = Word::of(&headers);
    assert_eq!((word.targeted, word.directives), (field != Governing::CacheControl, directives));
});
