//! `Vary` (RFC 9110 12.5.5): which names, and the place of the variant that a request selects.

#![no_main]

use forebay::caching::vary::{MAX_NAMES, nominated, variant_hash};
use forebay_fuzz::{halves, map};
use http::HeaderName;
use http::header::{ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, VARY};
use libfuzzer_sys::fuzz_target;

const TENANT: HeaderName = HeaderName::from_static("x-tenant");

fuzz_target!(|data: &[u8]| {
    let (vary, request) = halves(data);
    if let Ok(names) = nominated(&map(&VARY, vary)) {
        assert!(names.len() <= MAX_NAMES);
        assert!(names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
        for name in &names {
            let values = map(name, request);
            assert_ne!(variant_hash(&names, &values).0, 0);
        }
    }
    // One line with all members is the same list as several lines, wherever the field is a list.
    for name in [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, COOKIE, TENANT] {
        let names = [name.clone()];
        let lines = map(&name, request);
        let hash = variant_hash(&names, &lines);
        assert_eq!(hash, variant_hash(&names, &lines));
        let absent = variant_hash(&names, &http::HeaderMap::new());
        assert_eq!(hash == absent, lines.is_empty(), "only absence matches absence");
    }
});
