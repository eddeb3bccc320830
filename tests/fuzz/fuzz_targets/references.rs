//! `Location` and `Content-Location` of unsafe requests (RFC 9111 4.4): this origin's paths or nothing.

#![no_main]

use forebay::caching::invalidation::{TargetUri, targets};
use forebay_fuzz::map;
use http::header::LOCATION;
use http::{Method, StatusCode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let target = TargetUri { scheme: "http", authority: "a.example", path_and_query: "/b/c?d" };
    let found = targets(&Method::POST, StatusCode::OK, target, &map(&LOCATION, data)).targets;
    assert_eq!(found.first().map(String::as_str), Some("/b/c?d"));
    assert!(found.len() <= 8);
    for path in &found {
        assert!(
            path.starts_with('/') && !path.contains('#') && path.bytes().all(|byte| byte.is_ascii_graphic())
        );
    }
});
