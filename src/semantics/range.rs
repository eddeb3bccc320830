//! Range requests (RFC 9110 14): which bytes a request asks for, and how an answer names them.
//!
//! Decides: what `Range` and `If-Range` make of a complete representation of known length, what
//! `Content-Range` says, and the bytes between the parts of a multipart answer. Never touches: the
//! content itself, methods (ranges mean something to GET alone, RFC 9110 14.2), other conditions
//! (evaluated before, RFC 9110 13.2.2).
//!
//! A Range that is malformed, has more than [`MAX_RANGES`] members, overlaps itself more than twice
//! or asks for more bytes than there are is ignored and the whole is sent (RFC 9110 14.2 allows it):
//! no request makes an answer larger than the response it is about, but for the heads of its parts.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9110 8.8.2.2, 13.1.5: If-Range, strong comparison, exact dates | [`judge`] | `rfc9110_13_1_5_if_range` |
//! | RFC 9110 14.1, 14.1.1: units in any case, unknown ones ignored | [`judge`] | `rfc9110_14_1_1_specifiers` |
//! | RFC 9110 14.1.2: int-range, suffix-range, satisfiability | [`judge`] | `rfc9110_14_1_2_satisfiability` |
//! | RFC 9110 14.2: abusive ranges are ignored | [`judge`] | `rfc9110_14_2_floods` |
//! | RFC 9110 14.4: Content-Range | [`ContentRange`] | `rfc9110_14_4_content_range` |
//! | RFC 9110 14.6, 15.3.7.2: multipart/byteranges | [`Multipart`] | `rfc9110_14_6_multipart` |
//! | RFC 9110 15.3.7.1: one range is no multipart | [`judge`] | `rfc9110_14_1_2_satisfiability` |
//! | RFC 9110 15.5.17: 416 | [`RangeVerdict::Unsatisfiable`], [`ContentRange::unsatisfied`] | `rfc9110_14_1_2_satisfiability` |

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue, IF_RANGE, RANGE};

use super::fields::{digits, sole, split_list, trim_ows};
use super::validator::{EntityTag, date_is_strong};
use super::{UnixMillis, http_date};

/// The most members a Range may have before it is ignored.
pub const MAX_RANGES: usize = 16;

/// Bytes of a representation, both ends inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub first: u64,
    /// Offset of the last byte; never before `first`.
    pub last: u64,
}

impl ByteRange {
    /// How many bytes it holds.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }
}

/// What a request's `Range` asks of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeVerdict {
    /// 200 with everything: no Range, or one that is to be ignored.
    Whole,
    /// 206 with one `Content-Range`.
    Single(ByteRange),
    /// 206 as `multipart/byteranges`, in the order asked for; two at least.
    Several(Vec<ByteRange>),
    /// 416 with [`ContentRange::unsatisfied`].
    Unsatisfiable,
}

/// What is known of the representation that ranges are taken from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Representation<'a> {
    /// Its complete length in bytes.
    pub length: u64,
    /// Its `ETag`.
    pub etag: Option<&'a HeaderValue>,
    /// Its `Last-Modified`.
    pub last_modified: Option<&'a HeaderValue>,
    /// Its `Date`.
    pub date: Option<&'a HeaderValue>,
}

/// What the `Range` and `If-Range` of a GET ask of a 200 response. `now` places two-digit years.
///
/// ```
/// use forebay::semantics::{UnixMillis, range::{ByteRange, RangeVerdict, Representation, judge}};
/// let mut headers = http::HeaderMap::new();
/// headers.insert("range", http::HeaderValue::from_static("bytes=-500"));
/// let whole = Representation { length: 10_000, ..Representation::default() };
/// let last_500 = RangeVerdict::Single(ByteRange { first: 9500, last: 9999 });
/// assert_eq!(judge(&headers, &whole, UnixMillis(0)), last_500);
/// ```
#[must_use]
pub fn judge(headers: &HeaderMap, whole: &Representation<'_>, now: UnixMillis) -> RangeVerdict {
    // Range is no list field: several lines are malformed.
    let Some(asked) = sole(headers, &RANGE) else { return RangeVerdict::Whole };
    if !if_range_holds(headers, whole, now) {
        return RangeVerdict::Whole;
    }
    let Some(asked) = parse(asked.as_bytes()) else { return RangeVerdict::Whole };
    if whole.length == 0 && asked.iter().any(|spec| matches!(spec, Spec::Suffix(1..))) {
        // Satisfiable, yet no Content-Range could name the bytes: the empty whole says it all.
        return RangeVerdict::Whole;
    }
    let mut ranges: Vec<ByteRange> = asked.iter().filter_map(|spec| spec.within(whole.length)).collect();
    match ranges.len() {
        0 => RangeVerdict::Unsatisfiable,
        1 => ranges.pop().map_or(RangeVerdict::Whole, RangeVerdict::Single),
        _ if is_abusive(&ranges, whole.length) => RangeVerdict::Whole,
        _ => RangeVerdict::Several(ranges),
    }
}

/// The one int-range of a well-formed `Range`, before the length is known: its first offset and its
/// last, `None` meaning to the end. `None` for several, suffix or malformed ranges.
#[must_use]
pub fn sole_int_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    match parse(sole(headers, &RANGE)?.as_bytes())?.as_slice() {
        [Spec::Int { first, last }] => Some((*first, *last)),
        _ => None,
    }
}

/// One range-spec (RFC 9110 14.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spec {
    Int { first: u64, last: Option<u64> },
    Suffix(u64),
}

impl Spec {
    /// `None` for a malformed spec.
    fn parse(text: &[u8]) -> Option<Self> {
        let (first, last) = text.split_at_checked(memchr::memchr(b'-', text)?)?;
        let last = last.get(1..)?;
        if first.is_empty() {
            return digits(last).map(Self::Suffix);
        }
        let first = digits(first)?;
        let last = if last.is_empty() { None } else { Some(digits(last)?) };
        (last.is_none_or(|last| first <= last)).then_some(Self::Int { first, last })
    }

    /// The bytes it names in a representation of that length; `None` when there are none.
    fn within(self, length: u64) -> Option<ByteRange> {
        let end = length.checked_sub(1)?;
        match self {
            Self::Int { first, .. } if first > end => None,
            Self::Int { first, last } => {
                Some(ByteRange { first, last: last.map_or(end, |last| last.min(end)) })
            }
            Self::Suffix(0) => None,
            Self::Suffix(count) => Some(ByteRange { first: length.saturating_sub(count), last: end }),
        }
    }
}

/// The specs of a `Range` in bytes; `None` when it is malformed, of another unit or too long.
fn parse(text: &[u8]) -> Option<Vec<Spec>> {
    let text = trim_ows(text);
    let (unit, set) = text.split_at_checked(memchr::memchr(b'=', text)?)?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut specs = Vec::new();
    for spec in split_list(set.get(1..)?) {
        if specs.len() == MAX_RANGES {
            return None;
        }
        specs.push(Spec::parse(spec)?);
    }
    (!specs.is_empty()).then_some(specs)
}

/// More than two overlaps, or more bytes than there are. At most [`MAX_RANGES`] squared comparisons.
fn is_abusive(ranges: &[ByteRange], length: u64) -> bool {
    let total = ranges.iter().fold(0_u64, |sum, range| sum.saturating_add(range.length()));
    let overlaps = ranges.iter().enumerate().map(|(at, a)| {
        let later = ranges.get(at + 1..).unwrap_or_default();
        later.iter().filter(|b| a.first <= b.last && b.first <= a.last).count()
    });
    total > length || overlaps.sum::<usize>() > 2
}

/// Whether there is no `If-Range`, or it names exactly this representation by a strong validator.
fn if_range_holds(headers: &HeaderMap, whole: &Representation<'_>, now: UnixMillis) -> bool {
    if !headers.contains_key(IF_RANGE) {
        return true;
    }
    let Some(condition) = sole(headers, &IF_RANGE) else { return false };
    if let Some(since) = http_date::parse_value(condition, now) {
        return whole.last_modified.is_some_and(|modified| {
            http_date::parse_value(modified, now) == Some(since) && date_is_strong(modified, whole.date, now)
        });
    }
    let own = whole.etag.and_then(|etag| EntityTag::parse(etag.as_bytes()));
    let asked = EntityTag::parse(condition.as_bytes());
    matches!((own, asked), (Some(own), Some(asked)) if own.strongly_equals(&asked))
}

/// `Content-Range` in bytes (RFC 9110 14.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ContentRange {
    /// The bytes enclosed; `None` in a 416.
    pub range: Option<ByteRange>,
    /// The complete length; `None` when the sender did not know it.
    pub complete: Option<u64>,
}

impl ContentRange {
    /// `bytes first-last/complete`.
    #[must_use]
    pub const fn satisfied(range: ByteRange, complete: u64) -> Self {
        Self { range: Some(range), complete: Some(complete) }
    }

    /// `bytes */complete`.
    #[must_use]
    pub const fn unsatisfied(complete: u64) -> Self {
        Self { range: None, complete: Some(complete) }
    }

    /// Reads a field value; `None` when it is malformed, of another unit, or names bytes beyond its
    /// own length (14.4: such a message must not be recombined).
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = trim_ows(text);
        let (unit, rest) = text.split_at_checked(memchr::memchr(b' ', text)?)?;
        let rest = rest.get(1..)?;
        let (range, complete) = rest.split_at_checked(memchr::memchr(b'/', rest)?)?;
        let complete = match complete.get(1..)? {
            b"*" => None,
            number => Some(digits(number)?),
        };
        let range = match range {
            b"*" => None,
            range => match Spec::parse(range)? {
                Spec::Int { first, last: Some(last) } => Some(ByteRange { first, last }),
                _ => return None,
            },
        };
        let possible = match (range, complete) {
            (Some(range), Some(complete)) => range.last < complete,
            (Some(range), None) => range.last < u64::MAX,
            (None, complete) => complete.is_some(),
        };
        (unit.eq_ignore_ascii_case(b"bytes") && possible).then_some(Self { range, complete })
    }

    /// The field value.
    #[must_use]
    pub fn to_value(&self) -> HeaderValue {
        HeaderValue::try_from(self.text()).unwrap_or(HeaderValue::from_static("bytes */*"))
    }

    fn text(&self) -> String {
        let mut text = String::with_capacity(72);
        text.push_str("bytes ");
        // Writing to a String cannot fail.
        let _ = match self.range {
            Some(range) => write!(text, "{}-{}", range.first, range.last),
            None => write!(text, "*"),
        };
        let _ = match self.complete {
            Some(complete) => write!(text, "/{complete}"),
            None => write!(text, "/*"),
        };
        text
    }
}

/// The frame of a `multipart/byteranges` answer (RFC 9110 14.6): what stands around the parts.
///
/// The parts themselves are slices of the stored content: part `n` is [`Multipart::part_head`] of `n`
/// and then its bytes; after the last comes [`Multipart::tail`].
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: String,
    content_type: Option<HeaderValue>,
    complete: u64,
    ranges: Vec<ByteRange>,
}

impl Multipart {
    /// `seed` becomes the boundary: whoever gives 128 random bits gives one that the content does not
    /// hold. `content_type` is the representation's own and stands in each part.
    #[must_use]
    pub fn new(seed: u128, content_type: Option<HeaderValue>, complete: u64, ranges: Vec<ByteRange>) -> Self {
        Self { boundary: format!("{seed:032x}"), content_type, complete, ranges }
    }

    /// The parts, in the order they are sent.
    #[must_use]
    pub fn ranges(&self) -> &[ByteRange] {
        &self.ranges
    }

    /// The `Content-Type` of the answer.
    #[must_use]
    pub fn content_type(&self) -> HeaderValue {
        let text = format!("multipart/byteranges; boundary={}", self.boundary);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("multipart/byteranges"))
    }

    /// The `Content-Length` of the answer.
    #[must_use]
    pub fn content_length(&self) -> u64 {
        let frame = |bytes: &Bytes| u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let parts = self.ranges.iter().enumerate();
        parts.fold(frame(&self.tail()), |sum, (at, range)| {
            sum.saturating_add(range.length()).saturating_add(self.part_head(at).as_ref().map_or(0, frame))
        })
    }

    /// Everything before the bytes of part `index`; `None` past the last part.
    #[must_use]
    pub fn part_head(&self, index: usize) -> Option<Bytes> {
        let range = *self.ranges.get(index)?;
        let mut head = Vec::with_capacity(192);
        if index > 0 {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"--");
        head.extend_from_slice(self.boundary.as_bytes());
        if let Some(content_type) = &self.content_type {
            head.extend_from_slice(b"\r\nContent-Type: ");
            head.extend_from_slice(content_type.as_bytes());
        }
        head.extend_from_slice(b"\r\nContent-Range: ");
        head.extend_from_slice(ContentRange::satisfied(range, self.complete).text().as_bytes());
        head.extend_from_slice(b"\r\n\r\n");
        Some(Bytes::from(head))
    }

    /// Everything after the bytes of the last part.
    #[must_use]
    pub fn tail(&self) -> Bytes {
        Bytes::from(format!("\r\n--{}--\r\n", self.boundary))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn asked(range: &str, length: u64) -> RangeVerdict {
        judge(
            &map(&[("range", range)]),
            &Representation { length, ..Representation::default() },
            UnixMillis(0),
        )
    }

    fn range(first: u64, last: u64) -> ByteRange {
        ByteRange { first, last }
    }

    #[test]
    fn rfc9110_14_1_1_specifiers() {
        use RangeVerdict::{Several, Single, Whole};
        for (text, expected) in [
            ("bytes=0-499", Single(range(0, 499))),
            ("Bytes=0-0", Single(range(0, 0))),
            ("bytes= 0-0 ,\t5-6 ,", Several(vec![range(0, 0), range(5, 6)])),
            ("bytes=,0-0", Single(range(0, 0))),
            ("bytes=00-007", Single(range(0, 7))),
            ("bytes=500-", Single(range(500, 9999))),
            ("bytes=-500", Single(range(9500, 9999))),
            ("bytes=9500-", Single(range(9500, 9999))),
            ("bytes=0-0,-1", Several(vec![range(0, 0), range(9999, 9999)])),
            ("bytes=500-600,601-999", Several(vec![range(500, 600), range(601, 999)])),
            ("bytes=0-99999999999999999999999", Single(range(0, 9999))),
            ("bytes=-99999999999999999999999", Single(range(0, 9999))),
            // Malformed, or of a unit not known: ignored.
            ("bytes=", Whole),
            ("bytes=,", Whole),
            ("bytes", Whole),
            ("bytes=-", Whole),
            ("bytes=a-b", Whole),
            ("bytes=0", Whole),
            ("bytes=1-0", Whole),
            ("bytes=0-1,1-0", Whole),
            ("bytes=0 - 1", Whole),
            ("bytes=0-1-2", Whole),
            ("bytes=+0-1", Whole),
            ("bytes=--1", Whole),
            ("bytes =0-1", Whole),
            ("bytes:0-1", Whole),
            ("items=0-1", Whole),
            ("", Whole),
        ] {
            assert_eq!(asked(text, 10_000), expected, "{text:?}");
        }
        assert_eq!(judge(&HeaderMap::new(), &Representation::default(), UnixMillis(0)), Whole);
        let twice = map(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(
            judge(&twice, &Representation { length: 9, ..Representation::default() }, UnixMillis(0)),
            Whole
        );
    }

    #[test]
    fn rfc9110_14_1_2_satisfiability() {
        use RangeVerdict::{Single, Unsatisfiable, Whole};
        for (text, length, expected) in [
            ("bytes=0-", 1, Single(range(0, 0))),
            ("bytes=1-", 1, Unsatisfiable),
            ("bytes=99999999999999999999999-", 1, Unsatisfiable),
            ("bytes=-0", 1, Unsatisfiable),
            ("bytes=-5", 3, Single(range(0, 2))),
            ("bytes=9-10,5-6", 3, Unsatisfiable),
            // One of several can be satisfied: no multipart.
            ("bytes=0-0,9-10", 3, Single(range(0, 0))),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-0", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=0-", u64::MAX, Single(range(0, u64::MAX - 1))),
        ] {
            assert_eq!(asked(text, length), expected, "{text:?} {length}");
        }
    }

    #[test]
    fn rfc9110_14_2_floods() {
        let many = |count: u64| {
            let specs: Vec<_> = (0..count).map(|n| format!("{}-{}", n * 2, n * 2)).collect();
            format!("bytes={}", specs.join(","))
        };
        assert!(matches!(asked(&many(16), 1000), RangeVerdict::Several(all) if all.len() == MAX_RANGES));
        assert_eq!(asked(&many(17), 1000), RangeVerdict::Whole);
        assert_eq!(asked("bytes=0-,0-", 1000), RangeVerdict::Whole);
        assert_eq!(asked("bytes=0-600,500-999", 1000), RangeVerdict::Whole);
        assert!(matches!(asked("bytes=0-9,5-14", 1000), RangeVerdict::Several(_)));
        assert_eq!(asked("bytes=0-9,1-2,2-3,5-6", 1000), RangeVerdict::Whole);
    }

    #[test]
    fn rfc9110_13_1_5_if_range() {
        const THEN: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
        const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
        for (condition, etag, modified, date, holds) in [
            ("\"a\"", "\"a\"", THEN, LATER, true),
            ("\"b\"", "\"a\"", THEN, LATER, false),
            ("W/\"a\"", "\"a\"", THEN, LATER, false),
            ("W/\"a\"", "W/\"a\"", THEN, LATER, false),
            ("\"a\"", "W/\"a\"", THEN, LATER, false),
            ("a", "a", THEN, LATER, false),
            ("*", "\"a\"", THEN, LATER, false),
            ("\"a\", \"b\"", "\"a\"", THEN, LATER, false),
            (THEN, "\"a\"", THEN, LATER, true),
            ("Sunday, 06-Nov-94 08:49:37 GMT", "\"a\"", THEN, LATER, true),
            (LATER, "\"a\"", THEN, LATER, false),
            (THEN, "\"a\"", LATER, LATER, false),
            (THEN, "\"a\"", THEN, THEN, false),
            ("", "\"a\"", THEN, LATER, false),
        ] {
            let response = map(&[("etag", etag), ("last-modified", modified), ("date", date)]);
            let whole = Representation {
                length: 10,
                etag: response.get("etag"),
                last_modified: response.get("last-modified"),
                date: response.get("date"),
            };
            let verdict =
                judge(&map(&[("range", "bytes=0-1"), ("if-range", condition)]), &whole, UnixMillis(0));
            assert_eq!(
                verdict == RangeVerdict::Single(range(0, 1)),
                holds,
                "{condition} {etag} {modified} {date}"
            );
            // A condition on no range is no condition.
            assert_eq!(judge(&map(&[("if-range", condition)]), &whole, UnixMillis(0)), RangeVerdict::Whole);
            // Nothing to compare with: false.
            let bare = Representation { length: 10, ..Representation::default() };
            let request = map(&[("range", "bytes=0-1"), ("if-range", condition)]);
            assert_eq!(judge(&request, &bare, UnixMillis(0)), RangeVerdict::Whole);
        }
        let twice = map(&[("range", "bytes=0-1"), ("if-range", "\"a\""), ("if-range", "\"a\"")]);
        let etag = HeaderValue::from_static("\"a\"");
        let whole = Representation { length: 10, etag: Some(&etag), ..Representation::default() };
        assert_eq!(judge(&twice, &whole, UnixMillis(0)), RangeVerdict::Whole);
    }

    #[test]
    fn rfc9110_14_4_content_range() {
        let some = |range, complete| Some(ContentRange { range, complete });
        for (text, expected) in [
            ("bytes 42-1233/1234", some(Some(range(42, 1233)), Some(1234))),
            ("bytes 42-1233/*", some(Some(range(42, 1233)), None)),
            ("bytes */1234", some(None, Some(1234))),
            ("Bytes 0-0/1", some(Some(range(0, 0)), Some(1))),
            ("bytes 42-1233/1233", None),
            ("bytes 42-41/1234", None),
            ("bytes 42-/1234", None),
            ("bytes -42/1234", None),
            ("bytes */*", None),
            ("bytes=42-1233/1234", None),
            ("bytes  42-1233/1234", None),
            ("bytes 42-1233", None),
            ("bytes 42-1233/", None),
            ("bytes 42-1233/12a", None),
            ("items 0-1/2", None),
            ("bytes 0-99999999999999999999999/99999999999999999999999", None),
            ("bytes 0-99999999999999999999999/*", None),
            ("", None),
        ] {
            assert_eq!(ContentRange::parse(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(ContentRange::satisfied(range(0, 4), 10).to_value(), "bytes 0-4/10");
        assert_eq!(ContentRange::unsatisfied(10).to_value(), "bytes */10");
    }

    #[test]
    fn rfc9110_14_6_multipart() {
        let content = b"0123456789";
        let kind = HeaderValue::from_static("text/plain");
        let parts = Multipart::new(0xabc, Some(kind), 10, vec![range(0, 1), range(8, 9)]);
        let mut body = Vec::new();
        for (at, range) in parts.ranges().iter().enumerate() {
            body.extend_from_slice(&parts.part_head(at).expect("part"));
            body.extend_from_slice(&content[range.first as usize..=range.last as usize]);
        }
        body.extend_from_slice(&parts.tail());
        let boundary = "00000000000000000000000000000abc";
        let expected = format!(
            "--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
             \r\n--{boundary}\r\nContent-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\
             \r\n--{boundary}--\r\n"
        );
        assert_eq!(String::from_utf8_lossy(&body), expected);
        assert_eq!(parts.content_length(), body.len() as u64);
        assert_eq!(parts.content_type(), format!("multipart/byteranges; boundary={boundary}").as_str());
        assert_eq!(parts.part_head(2), None);
        let untyped = Multipart::new(1, None, 10, vec![range(0, 1), range(8, 9)]);
        assert!(!untyped.part_head(0).expect("part").starts_with(b"\r\n"));
        assert!(!String::from_utf8_lossy(&untyped.part_head(1).expect("part")).contains("Content-Type"));
    }

    #[test]
    fn ranges_for_parts() {
        for (text, expected) in [
            ("bytes=5-9", Some((5, Some(9)))),
            ("bytes=5-", Some((5, None))),
            ("bytes=-5", None),
            ("bytes=0-1,2-3", None),
            ("bytes=9-5", None),
        ] {
            assert_eq!(sole_int_range(&map(&[("range", text)])), expected, "{text}");
        }
    }

    proptest! {
        /// Whatever is asked, what is given lies inside, in order of its ends, and is bounded.
        #[test]
        fn what_is_given_exists(text in "bytes=[0-9,\\- ]{0,40}|[ -~]{0,30}", length in 0_u64..100) {
            match asked(&text, length) {
                RangeVerdict::Whole | RangeVerdict::Unsatisfiable => {}
                RangeVerdict::Single(one) => prop_assert!(one.first <= one.last && one.last < length),
                RangeVerdict::Several(all) => {
                    prop_assert!((2..=MAX_RANGES).contains(&all.len()));
                    prop_assert!(all.iter().all(|one| one.first <= one.last && one.last < length));
                    prop_assert!(all.iter().map(ByteRange::length).sum::<u64>() <= length);
                }
            }
        }

        #[test]
        fn content_ranges_survive(first in 0_u64..1000, more in 0_u64..1000, rest in 1_u64..1000, known: bool) {
            let last = first + more;
            let own = ContentRange { range: Some(range(first, last)), complete: known.then_some(last + rest) };
            prop_assert_eq!(ContentRange::parse(own.to_value().as_bytes()), Some(own));
        }

        #[test]
        fn any_bytes_are_read(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = ContentRange::parse(&text);
            let _ = parse(&text);
        }
    }
}
