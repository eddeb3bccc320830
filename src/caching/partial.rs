//! Incomplete responses (RFC 9111 3.3, 3.4): storing parts, putting parts together.
//!
//! Decides: which 206 holds which range, whether two stored parts are parts of one representation,
//! and how their bytes make a larger one. Never touches: which range a request asks for
//! (`semantics::range`), bodies themselves (the caller joins what [`Join`] says).

use http::header::{CONTENT_RANGE, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::stored::{Part, StoredHead};
use super::validation::replace_fields;
use crate::semantics::fields;

impl Part {
    /// Whether every byte from `first` to `last`, inclusive, is held.
    #[must_use]
    pub const fn covers(&self, first: u64, last: u64) -> bool {
        self.first <= first && first <= last && last <= self.last
    }

    /// Bytes held.
    #[must_use]
    pub const fn len(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// Never: a part holds at least one byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// Whether it holds the whole representation.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.first == 0 && self.last.saturating_add(1) == self.complete
    }
}

/// The range a 206 holds, by its `Content-Range`.
///
/// `None` for what cannot be stored as a part: several ranges (`multipart/byteranges`), an unknown
/// complete length, another unit, a field that is missing, repeated, contradictory, or at odds with
/// `content_length`.
#[must_use]
pub fn part(headers: &HeaderMap, content_length: Option<u64>) -> Option<Part> {
    if let Some(media_type) = headers.get(CONTENT_TYPE) {
        let essence = media_type.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
        if essence.trim_ascii().eq_ignore_ascii_case(b"multipart/byteranges") {
            return None;
        }
    }
    let value = fields::sole(headers, &CONTENT_RANGE)?.to_str().ok()?;
    let (unit, rest) = value.trim().split_once(' ')?;
    let (range, complete) = rest.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let number = |text: &str| fields::digits(text.as_bytes()).filter(|n| *n < 1 << 62);
    let part = Part { first: number(first)?, last: number(last)?, complete: number(complete)? };
    let consistent =
        unit.eq_ignore_ascii_case("bytes") && part.first <= part.last && part.last < part.complete;
    (consistent && content_length.is_none_or(|length| length == part.len())).then_some(part)
}

/// The fields of a request for what a stored part lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// `Range`: the missing bytes.
    pub range: HeaderValue,
    /// `If-Range`: the part's strong entity tag; when the representation has changed, the answer is
    /// a complete 200.
    pub if_range: HeaderValue,
}

/// How to complete a stored part with one request (RFC 9111 3.4): possible when it has a strong
/// entity tag, and what it lacks is one range.
#[must_use]
pub fn completion(head: &StoredHead) -> Option<Completion> {
    let part = head.part?;
    if !super::validation::same_strong_etag(head, head) {
        return None;
    }
    let range = if part.first == 0 && !part.is_whole() {
        format!("bytes={}-", part.last.saturating_add(1))
    } else if part.last.saturating_add(1) == part.complete && part.first > 0 {
        format!("bytes=0-{}", part.first - 1)
    } else {
        return None;
    };
    Some(Completion { range: HeaderValue::from_str(&range).ok()?, if_range: head.field(&ETAG)?.clone() })
}

/// How two stored parts make a larger one.
#[derive(Clone, Debug, PartialEq)]
pub struct Join {
    /// The head of the joined response: the newer one's fields over the older one's (RFC 9111 3.4);
    /// status 200 and no part once it is whole.
    pub head: Box<StoredHead>,
    /// Which of the two stands first.
    pub order: Order,
    /// How many bytes of the second one's start the first already holds: skip them.
    pub overlap: u64,
}

/// Which part stands first in a [`Join`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one stored before.
    OlderFirst,
    /// The one just received.
    NewerFirst,
}

/// Joins two parts, where RFC 9111 3.4 lets it: they share a strong validator and the complete
/// length, they touch or overlap, and neither lies within the other.
///
/// `None`: keep the newer one alone.
#[must_use]
pub fn join(older: &StoredHead, newer: &StoredHead) -> Option<Join> {
    let (a, b) = (older.part?, newer.part?);
    if a.complete != b.complete || !super::validation::same_strong_etag(older, newer) {
        return None;
    }
    if older.vary != newer.vary {
        return None;
    }
    let (order, front, back) =
        if a.first <= b.first { (Order::OlderFirst, a, b) } else { (Order::NewerFirst, b, a) };
    let touches = back.first <= front.last.saturating_add(1);
    if !touches || back.last <= front.last {
        return None;
    }
    let overlap = front.last.saturating_add(1) - back.first;
    let joined = Part { first: front.first, last: back.last, complete: a.complete };
    let mut head = newer.clone();
    head.fields = replace_fields(&older.fields, &newer.fields.iter().collect::<Vec<_>>()).into();
    head.ids.extend_from_slice(&older.ids);
    head.ids.sort_unstable();
    head.ids.dedup();
    // They were said of the part that they came with.
    head.trailers = Vec::new();
    head.stamp = older.stamp.min(newer.stamp);
    head.part = (!joined.is_whole()).then_some(joined);
    if head.part.is_none() {
        head.status = StatusCode::OK;
    }
    Some(Join { head: Box::new(head), order, overlap })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caching::stamp::{PurgeId, Stamp};
    use crate::caching::testing::{Case, map};

    fn held(tag: &str, range: &str, extra: (&str, &str)) -> StoredHead {
        let lines = [("cache-control", "max-age=60"), ("etag", tag), ("content-range", range), extra];
        Case::new(206, &lines).request(&[("range", "bytes=0-")]).stored()
    }

    #[test]
    fn rfc_9110_14_4_content_range() {
        let found = |value| part(&map(&[("content-range", value)]), None);
        assert_eq!(found("bytes 2-5/10"), Some(Part { first: 2, last: 5, complete: 10 }));
        assert_eq!(found("Bytes 0-0/1"), Some(Part { first: 0, last: 0, complete: 1 }));
        for invalid in [
            "",
            "bytes",
            "bytes 2-5",
            "bytes 5-2/10",
            "bytes 2-10/10",
            "bytes */10",
            "bytes 2-5/*",
            "bytes 2-5/+10",
            "bytes 2 -5/10",
        ] {
            assert_eq!(found(invalid), None, "{invalid}");
        }
        let twice = [("content-range", "bytes 0-1/9"), ("content-range", "bytes 0-1/9")];
        assert_eq!(part(&map(&twice), None), None);
        let multipart =
            [("content-range", "bytes 0-1/9"), ("content-type", "Multipart/ByteRanges; boundary=x")];
        assert_eq!(part(&map(&multipart), None), None);
    }

    #[test]
    fn rfc_9111_3_4_parts_are_joined() {
        let x = ("x", "1");
        let rows = [
            ("bytes 0-4/10", "bytes 5-9/10", Some((Order::OlderFirst, 0, None))),
            ("bytes 5-9/10", "bytes 0-4/10", Some((Order::NewerFirst, 0, None))),
            ("bytes 0-4/10", "bytes 3-7/10", Some((Order::OlderFirst, 2, Some((0, 7))))),
            ("bytes 2-4/10", "bytes 5-6/10", Some((Order::OlderFirst, 0, Some((2, 6))))),
            ("bytes 0-4/10", "bytes 6-9/10", None),
            ("bytes 0-4/10", "bytes 1-3/10", None),
            ("bytes 1-3/10", "bytes 0-4/10", None),
            ("bytes 0-4/10", "bytes 5-9/11", None),
        ];
        for (older, newer, expected) in rows {
            let joined = join(&held("\"a\"", older, x), &held("\"a\"", newer, x));
            let found = joined.as_ref().map(|j| (j.order, j.overlap, j.head.part.map(|p| (p.first, p.last))));
            assert_eq!(found, expected, "{older} and {newer}");
            if let Some(join) = joined {
                let status =
                    if join.head.part.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
                assert_eq!(join.head.status, status);
            }
        }
    }

    #[test]
    fn rfc_9111_3_4_only_with_one_strong_validator() {
        let x = ("x", "1");
        let (first, second) = ("bytes 0-4/10", "bytes 5-9/10");
        assert!(join(&held("\"a\"", first, x), &held("\"b\"", second, x)).is_none());
        assert!(join(&held("W/\"a\"", first, x), &held("W/\"a\"", second, x)).is_none());
        assert!(join(&held("a", first, x), &held("a", second, x)).is_none());
        assert!(join(&held("\"a\"", first, x), &held("\"a\"", second, ("vary", "x"))).is_none());
    }

    #[test]
    fn rfc_9111_3_4_the_newer_fields_and_every_id_of_both() {
        let mut older = held("\"a\"", "bytes 0-4/10", ("x", "old"));
        older.stamp = Stamp(3);
        older.ids.push(PurgeId::tag(b"old"));
        let join = join(&older, &held("\"a\"", "bytes 5-9/10", ("x", "new"))).unwrap();
        let x: Vec<_> = join.head.fields.iter().filter(|(n, _)| *n == "x").collect();
        assert_eq!(x.len(), 1);
        assert_eq!(x[0].1, "new");
        assert!(join.head.ids.contains(&PurgeId::tag(b"old")));
        assert_eq!(join.head.stamp, Stamp(3));
    }

    #[test]
    fn rfc_9111_3_4_what_is_missing_is_asked_for_once() {
        let x = ("x", "1");
        let range =
            |tag, range| completion(&held(tag, range, x)).map(|c| c.range.to_str().unwrap().to_owned());
        assert_eq!(range("\"a\"", "bytes 0-4/10").as_deref(), Some("bytes=5-"));
        assert_eq!(range("\"a\"", "bytes 5-9/10").as_deref(), Some("bytes=0-4"));
        assert_eq!(range("\"a\"", "bytes 2-5/10"), None);
        assert_eq!(range("W/\"a\"", "bytes 0-4/10"), None);
        assert!(Part { first: 2, last: 5, complete: 10 }.covers(3, 5));
        assert!(!Part { first: 2, last: 5, complete: 10 }.covers(3, 6));
    }
}
