//! Preconditions (RFC 9110 13), as a cache evaluates them against a response it selected.
//!
//! Decides: whether a stored response answers a conditional GET or HEAD with 304. Never touches:
//! which response is selected, ranges (`If-Range` is part of `range`), what is sent upstream.
//!
//! `If-Match` and `If-Unmodified-Since` are for the origin: a cache must not evaluate them
//! (RFC 9111 4.3.2) and may leave them out of account for GET (RFC 9110 13.1.1, 13.1.4), so they
//! neither fail nor force a request that is answered from the cache; a forwarded one carries them on.
//! There is therefore no third verdict. The caller asks only where the stored status is 200
//! (RFC 9110 13.2.1: conditions on anything but a success are ignored).
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9110 13.1.1, 13.1.4; RFC 9111 4.3.2: not for a cache | [`evaluate`] | `rfc9111_4_3_2_what_is_for_the_origin` |
//! | RFC 9110 13.1.2: If-None-Match, weak comparison, `*` | [`evaluate`] | `rfc9110_13_1_2_if_none_match` |
//! | RFC 9110 13.1.3: If-Modified-Since, ignored when invalid or repeated | [`evaluate`] | `rfc9110_13_1_3_if_modified_since` |
//! | RFC 9110 13.2.2: If-None-Match before If-Modified-Since | [`evaluate`] | `rfc9110_13_2_2_precedence` |
//! | RFC 9111 4.3.2: Date stands in for a missing Last-Modified | [`evaluate`] | `rfc9110_13_1_3_if_modified_since` |

use http::header::{HeaderMap, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};

use super::fields::{sole, trim_ows};
use super::validator::{EntityTag, TagList};
use super::{UnixMillis, http_date};

/// What the conditions of a request make of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Answer as if there were no condition.
    Proceed,
    /// Answer 304 (RFC 9110 15.4.5).
    NotModified,
}

/// Whether a request has a condition that [`evaluate`] looks at: two lookups, no more, for the many
/// that have none.
#[must_use]
pub fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_NONE_MATCH) || headers.contains_key(IF_MODIFIED_SINCE)
}

/// Evaluates the conditions of a GET or HEAD against the selected 200 response's `ETag`,
/// `Last-Modified` and `Date`. Every response has a `Date`, since one that came without is given the
/// time it came (RFC 9110 6.6.1). `now` places two-digit years.
///
/// ```
/// use forebay::semantics::{UnixMillis, preconditions::{Precondition, evaluate}};
/// let mut headers = http::HeaderMap::new();
/// headers.insert("if-none-match", http::HeaderValue::from_static("\"xyzzy\", W/\"r2d2xxxx\""));
/// let etag = http::HeaderValue::from_static("\"r2d2xxxx\"");
/// assert_eq!(evaluate(&headers, Some(&etag), None, None, UnixMillis(0)), Precondition::NotModified);
/// ```
#[must_use]
pub fn evaluate(
    headers: &HeaderMap,
    etag: Option<&HeaderValue>,
    last_modified: Option<&HeaderValue>,
    date: Option<&HeaderValue>,
    now: UnixMillis,
) -> Precondition {
    let not_modified = if headers.contains_key(IF_NONE_MATCH) {
        if_none_match_names(headers, etag)
    } else {
        unmodified_since(headers, last_modified.or(date), now)
    };
    if not_modified { Precondition::NotModified } else { Precondition::Proceed }
}

/// Whether `If-None-Match` is false: it lists the response's tag, or is `*`.
fn if_none_match_names(headers: &HeaderMap, etag: Option<&HeaderValue>) -> bool {
    if sole(headers, &IF_NONE_MATCH).is_some_and(|line| trim_ows(line.as_bytes()) == b"*") {
        return true;
    }
    let Some(own) = etag.and_then(|etag| EntityTag::parse(etag.as_bytes())) else { return false };
    let lines = headers.get_all(IF_NONE_MATCH).iter();
    lines.flat_map(|line| TagList::new(line.as_bytes())).any(|tag| tag.weakly_equals(&own))
}

/// Whether `If-Modified-Since` is false: the response was modified at its date or before.
fn unmodified_since(headers: &HeaderMap, modified: Option<&HeaderValue>, now: UnixMillis) -> bool {
    let since = sole(headers, &IF_MODIFIED_SINCE).and_then(|line| http_date::parse_value(line, now));
    let modified = modified.and_then(|value| http_date::parse_value(value, now));
    matches!((modified, since), (Some(modified), Some(since)) if modified <= since)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    /// Whether a request with these fields is answered 304 by a response with those.
    fn not_modified(request: &[(&str, &str)], response: &[(&str, &str)]) -> bool {
        let (request, response) = (map(request), map(response));
        let field = |name: &str| response.get(name);
        let verdict = evaluate(&request, field("etag"), field("last-modified"), field("date"), UnixMillis(0));
        verdict == Precondition::NotModified
    }

    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    #[test]
    fn rfc9110_13_1_2_if_none_match() {
        for (lines, etag, expected) in [
            (&["\"a\""][..], Some("\"a\""), true),
            (&["\"b\""], Some("\"a\""), false),
            (&["W/\"a\""], Some("\"a\""), true),
            (&["\"a\""], Some("W/\"a\""), true),
            (&["\"b\", \"a\""], Some("\"a\""), true),
            (&["\"b\"", "\"c\",\"a\""], Some("\"a\""), true),
            (&["*"], Some("\"a\""), true),
            (&["*"], None, true),
            (&["\"b\", *"], Some("\"a\""), false),
            (&["\"*\""], Some("\"a\""), false),
            (&["\"a\""], None, false),
            (&[""], Some("\"a\""), false),
            (&["a"], Some("\"a\""), false),
            (&["\"a\""], Some("a"), false),
            (&["a"], Some("a"), true),
            (&["\"a\""], Some(""), false),
        ] {
            let request: Vec<_> = lines.iter().map(|line| ("if-none-match", *line)).collect();
            let response: Vec<_> = etag.map(|etag| ("etag", etag)).into_iter().collect();
            assert_eq!(not_modified(&request, &response), expected, "{lines:?} {etag:?}");
        }
    }

    #[test]
    fn rfc9110_13_1_3_if_modified_since() {
        for (since, response, expected) in [
            (THEN, &[("last-modified", THEN)][..], true),
            (AFTER, &[("last-modified", THEN)], true),
            (BEFORE, &[("last-modified", THEN)], false),
            ("Sunday, 06-Nov-94 08:49:37 GMT", &[("last-modified", THEN)], true),
            ("yesterday", &[("last-modified", THEN)], false),
            ("", &[("last-modified", THEN)], false),
            // Date stands in for a Last-Modified that is missing, not for one that is no date.
            (THEN, &[("date", THEN)], true),
            (BEFORE, &[("date", THEN)], false),
            (THEN, &[("last-modified", "junk"), ("date", THEN)], false),
            (THEN, &[], false),
        ] {
            assert_eq!(
                not_modified(&[("if-modified-since", since)], response),
                expected,
                "{since} {response:?}"
            );
        }
        let twice = [("if-modified-since", AFTER), ("if-modified-since", AFTER)];
        assert!(!not_modified(&twice, &[("last-modified", THEN)]));
    }

    #[test]
    fn rfc9110_13_2_2_precedence() {
        let response = [("etag", "\"a\""), ("last-modified", THEN)];
        for (tag, since, expected) in
            [("\"a\"", BEFORE, true), ("\"b\"", AFTER, false), ("", AFTER, false), ("\"a\"", "junk", true)]
        {
            let request = [("if-none-match", tag), ("if-modified-since", since)];
            assert_eq!(not_modified(&request, &response), expected, "{tag} {since}");
        }
    }

    #[test]
    fn rfc9111_4_3_2_what_is_for_the_origin() {
        let response = [("etag", "\"a\""), ("last-modified", THEN)];
        for (name, value) in [("if-match", "\"b\""), ("if-unmodified-since", BEFORE), ("if-range", "\"b\"")] {
            assert!(!is_conditional(&map(&[(name, value)])));
            assert!(!not_modified(&[(name, value)], &response));
            assert!(not_modified(&[(name, value), ("if-none-match", "\"a\"")], &response));
        }
        assert!(is_conditional(&map(&[("if-none-match", "*")])));
        assert!(is_conditional(&map(&[("if-modified-since", THEN)])));
    }

    proptest! {
        /// 304 is never answered for a tag the client did not name.
        #[test]
        fn only_what_was_named(lines in proptest::collection::vec("[ -~]{0,20}", 0..4), etag in "\"[a-c]{1,2}\"") {
            let request: Vec<_> = lines.iter().map(|line| ("if-none-match", line.as_str())).collect();
            let star = lines.len() == 1 && lines.iter().any(|line| line.trim() == "*");
            let named = lines.iter().any(|line| line.contains(&etag));
            prop_assert!(!not_modified(&request, &[("etag", &etag)]) || named || star);
        }
    }
}
