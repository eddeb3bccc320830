//! Properties of the public parsers that meet fields from outside, where the property spans modules or
//! has no table of its own beside the code. Each parser's own properties stand with it.

use forebay::caching::admission::{MethodClass, RequestFacts};
use forebay::caching::cache_control::RequestDirectives;
use forebay::caching::freshness::{is_heuristically_cacheable, is_understood};
use forebay::caching::invalidation::TargetUri;
use forebay::caching::outcome::Reason;
use forebay::caching::partial::part;
use forebay::caching::policy::{ClientCacheControl, Policy};
use forebay::caching::stamp::{PurgeId, Stamp};
use forebay::caching::storability::{Exchange, Storability, client_fields, judge};
use forebay::caching::tags::{CACHE_GROUPS, CACHE_TAG, MAX_TAG_BYTES, MAX_TAGS, SURROGATE_KEY, ids};
use forebay::caching::vary::{MAX_NAMES, nominated, variant_hash};
use forebay::semantics::UnixMillis;
use forebay::semantics::range::ContentRange;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, COOKIE, DATE, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, PRAGMA, RANGE, VARY,
};
use http::{Method, StatusCode};
use proptest::prelude::*;

/// One field over several lines; what no field may hold is left out.
fn map<L: AsRef<[u8]>>(name: &HeaderName, lines: &[L]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for value in lines.iter().filter_map(|line| HeaderValue::from_bytes(line.as_ref()).ok()) {
        headers.append(name, value);
    }
    headers
}

/// Lines of any bytes, and lines that are nearly right.
fn lines(near: &'static str) -> impl Strategy<Value = Vec<Vec<u8>>> {
    let near = near.prop_map(String::into_bytes);
    prop::collection::vec(prop_oneof![near, prop::collection::vec(any::<u8>(), 0..40)], 0..4)
}

const TARGET: TargetUri<'static> =
    TargetUri { scheme: "http", authority: "shop.example", path_and_query: "/" };

proptest! {
    /// RFC 9110 12.5.5: whatever `Vary` holds, it names a bounded, sorted set or matches nothing; no name
    /// on any line is lost, and a `*` is never overlooked.
    #[test]
    fn vary_names_are_sorted_bounded_and_never_lost(
        lines in lines("[ ,]{0,2}((Accept|x-[a-c]|\\*|a b)[ ,]{1,2}){0,3}"),
    ) {
        let headers = map(&VARY, &lines);
        let values = headers.get_all(VARY).iter();
        let members: Vec<&[u8]> = values
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .map(<[u8]>::trim_ascii)
            .filter(|member| !member.is_empty())
            .collect();
        match nominated(&headers) {
            Ok(names) => {
                prop_assert!(names.len() <= MAX_NAMES && !members.contains(&&b"*"[..]));
                prop_assert!(names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str()));
                for member in members {
                    prop_assert!(names.contains(&HeaderName::from_bytes(member).unwrap()));
                }
            }
            Err(reason) => prop_assert!(matches!(reason, Reason::VaryAny | Reason::TooManyVariants)),
        }
    }

    /// RFC 9111 4.1: how a list is spread over lines, and what stands around its commas, tells no two
    /// requests apart; another member does.
    #[test]
    fn variants_do_not_depend_on_lines(
        members in prop::collection::vec("[a-z]{1,5}", 1..5), gap in "[ \t]{0,2},[ \t]{0,2}", other in "[a-z]{8}",
    ) {
        for name in ["accept-encoding", "accept-language", "x-tenant"] {
            let name = HeaderName::from_static(name);
            let names = [name.clone()];
            let one = variant_hash(&names, &map(&name, &[members.join(&gap)]));
            prop_assert_eq!(one, variant_hash(&names, &map(&name, &members)));
            let mut more = members.clone();
            more.push(other.clone());
            prop_assert_ne!(one, variant_hash(&names, &map(&name, &more)));
        }
    }

    /// An encoded response without `Vary` is taken to vary by `Accept-Encoding`.
    #[test]
    fn encoded_responses_vary(coding in "[a-z]{1,8}") {
        let names = nominated(&map(&CONTENT_ENCODING, &[coding]));
        prop_assert_eq!(names, Ok(vec![ACCEPT_ENCODING]));
    }

    /// RFC 9110 14.4: what is stored as a part is what `Content-Range` says, read by the other parser
    /// of the same grammar; and its length is the content's.
    #[test]
    fn parts_agree_with_content_range(
        lines in lines("[Bb]ytes [0-9]{1,3}-[0-9]{1,3}/([0-9]{1,4}|\\*)"),
        length in prop::option::of(0_u64..1000),
    ) {
        let headers = map(&CONTENT_RANGE, &lines);
        if let Some(part) = part(&headers, length) {
            prop_assert_eq!(headers.get_all(CONTENT_RANGE).iter().count(), 1);
            let read = ContentRange::parse(headers[CONTENT_RANGE].as_bytes()).unwrap();
            let range = read.range.unwrap();
            let said = (range.first, range.last, read.complete);
            prop_assert_eq!(said, (part.first, part.last, Some(part.complete)));
            prop_assert!(length.is_none_or(|length| length == part.len()));
            prop_assert!(part.covers(part.first, part.last) && !part.covers(part.first, part.last + 1));
        }
    }

    /// Tags: every one that is read can be purged by; a list over its bounds is refused, never cut.
    #[test]
    fn tags_are_all_there_or_refused(tags in prop::collection::vec("[!-+\\--~]{1,12}", 0..200)) {
        let none: [&[u8]; 0] = [];
        let bytes: usize = tags.iter().map(|tag| tag.len() + 1).sum();
        for (name, separator) in [(SURROGATE_KEY, " "), (CACHE_TAG, ",")] {
            match ids(&map(&name, &[tags.join(separator)]), &none, TARGET) {
                Ok(found) => {
                    prop_assert!(found.windows(2).all(|pair| pair[0] < pair[1]));
                    prop_assert!(tags.iter().all(|tag| found.contains(&PurgeId::tag(tag.as_bytes()))));
                }
                Err(reason) => {
                    prop_assert_eq!(reason, Reason::TooManyTags);
                    prop_assert!(tags.len() > MAX_TAGS || bytes > MAX_TAG_BYTES);
                }
            }
        }
    }

    /// RFC 9875 2: groups are structured strings; other bytes make neither a panic nor a group.
    #[test]
    fn groups_are_strings(lines in lines("(\"[a-z ]{0,5}\"(;a=1)?(, )?){0,3}")) {
        let headers = map(&CACHE_GROUPS, &lines);
        let none: [&[u8]; 0] = [];
        let found = ids(&headers, &none, TARGET);
        let quoted = headers.get_all(CACHE_GROUPS).iter().any(|line| line.as_bytes().contains(&b'"'));
        prop_assert!(quoted || found == Ok(Vec::new()));
    }

    /// What is read of a request is true of its fields, in whatever order they come.
    #[test]
    fn facts_are_what_the_fields_are(
        picked in prop::sample::subsequence(vec![0_usize, 1, 2, 3, 4, 5], 0..=6),
        values in lines("(no-cache|no-store|max-age=[0-9x]{1,3}|max-stale)(, )?"),
        respect: bool,
    ) {
        let names = [COOKIE, AUTHORIZATION, RANGE, IF_NONE_MATCH, PRAGMA, CACHE_CONTROL];
        let respect = if respect { ClientCacheControl::Respect } else { ClientCacheControl::Ignore };
        let policy = Policy { client_cache_control: respect, ..Policy::default() };
        let sent = |order: &[usize]| {
            let mut headers = HeaderMap::new();
            for name in order.iter().map(|at| &names[*at]) {
                for value in map(name, &values).get_all(name) {
                    headers.append(name, value.clone());
                }
            }
            headers
        };
        let headers = sent(&picked);
        let facts = RequestFacts::read(&Method::GET, &headers, &policy);
        let reversed: Vec<usize> = picked.iter().rev().copied().collect();
        prop_assert_eq!(&facts, &RequestFacts::read(&Method::GET, &sent(&reversed), &policy));
        prop_assert_eq!(facts.method, MethodClass::Get);
        prop_assert_eq!(facts.has_cookie, headers.contains_key(COOKIE));
        prop_assert_eq!(facts.has_authorization, headers.contains_key(AUTHORIZATION));
        prop_assert_eq!(facts.range, headers.contains_key(RANGE));
        prop_assert_eq!(facts.conditional, headers.contains_key(IF_NONE_MATCH));
        if respect == ClientCacheControl::Ignore {
            prop_assert_eq!(facts.directives, RequestDirectives::default());
        }
    }

    /// RFC 9111 5.2, RFC 9213 3: whatever directives an origin sends, the first client sees them as they
    /// came, and so do the others where the response is stored.
    #[test]
    fn rfc9111_5_2_directives_pass_through(
        fields in prop::collection::vec(
            ("cache-control|cdn-cache-control|forebay-cache-control|expires|pragma", "[ -~]{0,30}"), 0..5,
        ),
    ) {
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=60, extension=\"a\""));
        for (name, value) in &fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let mut seen = headers.clone();
        client_fields(&mut seen, true, &Policy::default());
        prop_assert_eq!(&seen, &headers);
        let facts = RequestFacts::default();
        let exchange = Exchange {
            method: &Method::GET,
            facts: &facts,
            request: &HeaderMap::new(),
            target: TARGET,
            host: "shop.example",
            url: 1,
            tags: &[],
            status: StatusCode::OK,
            headers: &headers,
            content_length: None,
            request_sent: UnixMillis(0),
            response_received: UnixMillis(0),
            stamp: Stamp::default(),
        };
        if let Storability::Store(head) = judge(&exchange, &Policy::default()) {
            let stored: HeaderMap = head.fields.to_vec().into_iter().filter(|(name, _)| *name != DATE).fold(
                HeaderMap::new(),
                |mut stored, (name, value)| {
                    stored.append(name, value);
                    stored
                },
            );
            prop_assert_eq!(&stored, &headers);
        }
    }

    /// RFC 9110 15.1: no status is cacheable by heuristics that is not understood.
    #[test]
    fn heuristics_need_a_status_that_is_understood(code in 100_u16..1000) {
        let status = StatusCode::from_u16(code).unwrap();
        prop_assert!(is_understood(status) || !is_heuristically_cacheable(status));
    }
}
