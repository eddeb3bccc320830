//! Entity tags and their lists (RFC 9110 8.8.3, 13.1.2), and the conditions made of them.

#![no_main]

use forebay::semantics::UnixMillis;
use forebay::semantics::preconditions::{Precondition, evaluate};
use forebay::semantics::validator::{EntityTag, TagList};
use forebay_fuzz::{halves, map};
use http::HeaderValue;
use http::header::IF_NONE_MATCH;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (own, list) = halves(data);
    let tags: Vec<EntityTag<'_>> = TagList::new(list).collect();
    assert!(tags.len() <= list.len());
    let own_tag = EntityTag::parse(own);
    for tag in &tags {
        assert!(tag.weakly_equals(tag));
        assert_eq!(tag.strongly_equals(tag), tag.is_strong());
        if let Some(own) = &own_tag {
            assert!(!own.strongly_equals(tag) || own.weakly_equals(tag));
            assert_eq!(own.weakly_equals(tag), tag.weakly_equals(own));
        }
    }
    // 304 for no tag but one that was named.
    if let Ok(etag) = HeaderValue::from_bytes(own) {
        let headers = map(&IF_NONE_MATCH, list);
        if evaluate(&headers, Some(&etag), None, None, UnixMillis(0)) == Precondition::NotModified {
            let lines = || headers.get_all(IF_NONE_MATCH).iter();
            let star = lines().any(|line| line.as_bytes().trim_ascii() == b"*");
            let named = lines().any(|line| {
                TagList::new(line.as_bytes())
                    .any(|tag| own_tag.as_ref().is_some_and(|own| own.weakly_equals(&tag)))
            });
            assert!(star || named);
        }
    }
});
