//! Lists, quoted strings and parameters (RFC 9110 5.6), and what ends at this hop (7.6.1).

#![no_main]

use forebay::semantics::fields::{
    is_hop_by_hop, parameters, quotes_are_closed, remove_hop_by_hop, split_list, trim_ows, unquote,
};
use forebay_fuzz::map;
use http::header::{CONNECTION, HOST};
use http::{HeaderName, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for member in split_list(data) {
        assert!(!member.is_empty() && trim_ows(member) == member);
        assert!(parameters(member).1.count() <= member.len());
    }
    if let Some(plain) = unquote(data) {
        assert!(plain.len() + 2 <= data.len() && quotes_are_closed(data));
        assert_eq!(split_list(data).count(), 1);
    }
    let mut headers = map(&CONNECTION, data);
    for name in ["a", "b", "x-a", "te", "keep-alive"] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
    }
    headers.insert(HOST, HeaderValue::from_static("h"));
    remove_hop_by_hop(&mut headers);
    assert!(headers.contains_key(HOST) && !headers.keys().any(is_hop_by_hop));
});
