//! Tag fields (`Surrogate-Key`, `Cache-Tag`, `Cache-Groups` of RFC 9875): bounded, or refused whole.

#![no_main]

use forebay::caching::invalidation::TargetUri;
use forebay::caching::tags::{CACHE_GROUPS, CACHE_TAG, MAX_TAGS, SURROGATE_KEY, ids};
use forebay_fuzz::map;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let target = TargetUri { scheme: "http", authority: "a", path_and_query: "/" };
    for name in [SURROGATE_KEY, CACHE_TAG, CACHE_GROUPS] {
        if let Ok(found) = ids(&map(&name, data), &["route"], target) {
            // A group is known by its own id and as a tag.
            assert!((1..=2 * MAX_TAGS + 1).contains(&found.len()));
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
        }
    }
});
