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
    let consistent = unit.eq_ignore_ascii_case("bytes") && part.first <= part.last && part.last < part.complete;
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
    head.fields = replace_fields(&older.fields, &newer.fields.iter().map(|(n, v)| (n, v)).collect::<Vec<_>>());
    head.ids.extend_from_slice(&older.ids);
    head.ids.sort_unstable();
    head.ids.dedup();
    head.stamp = older.stamp.min(newer.stamp);
    head.part = (!joined.is_whole()).then_some(joined);
    if head.part.is_none() {
        head.status = StatusCode::OK;
    }
    Some(Join { head: Box::new(head), order, overlap })
}
