//! Validators (RFC 9110 8.8): entity tags, and when a modification date is a strong one.
//!
//! Decides: what an `ETag` is and which two are the same. Never touches: conditions (that is
//! `preconditions`) or which stored response is asked for.
//!
//! An entity tag that is not quoted, or is otherwise malformed, is still what its origin calls the
//! representation: it is sent back byte for byte, equals only the very same bytes, and is never strong.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9110 8.8.1: strong and weak validators | [`EntityTag::strongly_equals`], [`date_is_strong`] | `rfc9110_8_8_3_2_comparison`, `rfc9110_8_8_2_2_strong_dates` |
//! | RFC 9110 8.8.2.2: when Last-Modified is strong | [`date_is_strong`] | `rfc9110_8_8_2_2_strong_dates` |
//! | RFC 9110 8.8.3: syntax, weakness in upper case alone | [`EntityTag::parse`] | `rfc9110_8_8_3_syntax` |
//! | RFC 9110 8.8.3.2: comparison | [`EntityTag::weakly_equals`], [`EntityTag::strongly_equals`] | `rfc9110_8_8_3_2_comparison` |
//! | RFC 9110 13.1.1, 13.1.2: lists of entity tags | [`TagList`] | `rfc9110_13_1_2_lists` |

use http::HeaderValue;

use super::fields::trim_ows;
use super::{UnixMillis, http_date};

/// An entity tag as it stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityTag<'a> {
    /// `"…"`; the quotes are part of it.
    Strong(&'a [u8]),
    /// `W/"…"`; the quotes are part of it, the `W/` is not.
    Weak(&'a [u8]),
    /// Anything else that is not empty.
    Malformed(&'a [u8]),
}

impl<'a> EntityTag<'a> {
    /// Reads the value of an `ETag` field; `None` when it is empty.
    ///
    /// ```
    /// use forebay::semantics::validator::EntityTag;
    /// assert_eq!(EntityTag::parse(b"\"xyzzy\""), Some(EntityTag::Strong(b"\"xyzzy\"")));
    /// assert_eq!(EntityTag::parse(b"W/\"xyzzy\""), Some(EntityTag::Weak(b"\"xyzzy\"")));
    /// ```
    #[must_use]
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let text = trim_ows(text);
        if text.is_empty() {
            return None;
        }
        let (weak, opaque) = match text.strip_prefix(b"W/") {
            Some(opaque) => (true, opaque),
            None => (false, text),
        };
        Some(match opaque_end(opaque) {
            Some(end) if end == opaque.len() && weak => Self::Weak(opaque),
            Some(end) if end == opaque.len() => Self::Strong(opaque),
            _ => Self::Malformed(text),
        })
    }

    /// The same opaque tag, weak or not: what If-None-Match asks (8.8.3.2).
    #[must_use]
    pub fn weakly_equals(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Strong(a) | Self::Weak(a), Self::Strong(b) | Self::Weak(b)) => a == b,
            (Self::Malformed(a), Self::Malformed(b)) => a == b,
            _ => false,
        }
    }

    /// The same opaque tag, and both strong: what If-Range and combining parts ask (8.8.3.2).
    #[must_use]
    pub fn strongly_equals(&self, other: &Self) -> bool {
        matches!((self, other), (Self::Strong(a), Self::Strong(b)) if a == b)
    }

    /// Whether it can show that two representations are the same byte for byte.
    #[must_use]
    pub const fn is_strong(&self) -> bool {
        matches!(self, Self::Strong(_))
    }
}

/// Length of the opaque tag `text` begins with, quotes included. Unlike a quoted string it has no
/// escapes: a backslash is a byte of the tag.
fn opaque_end(text: &[u8]) -> Option<usize> {
    let inner = text.strip_prefix(b"\"")?;
    let length = inner.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..=0xff))?;
    (inner.get(length) == Some(&b'"')).then_some(length + 2)
}

/// The members of an `If-None-Match` or `If-Match` line. `*` comes as the malformed tag it is not:
/// whoever reads the list looks for it first.
#[derive(Clone, Debug)]
pub struct TagList<'a>(&'a [u8]);

impl<'a> TagList<'a> {
    /// The list on one line; several lines are read one after the other.
    #[must_use]
    pub const fn new(line: &'a [u8]) -> Self {
        Self(line)
    }
}

impl<'a> Iterator for TagList<'a> {
    type Item = EntityTag<'a>;

    fn next(&mut self) -> Option<EntityTag<'a>> {
        loop {
            let text = trim_ows(self.0);
            if let Some(rest) = text.strip_prefix(b",") {
                self.0 = rest;
                continue;
            }
            if text.is_empty() {
                self.0 = text;
                return None;
            }
            // A comma inside the quotes belongs to the tag; after them, or without them, it ends it.
            let prefix = if text.starts_with(b"W/") { 2 } else { 0 };
            let from = prefix + text.get(prefix..).and_then(opaque_end).unwrap_or(0);
            let end = text
                .get(from..)
                .and_then(|tail| memchr::memchr(b',', tail))
                .map_or(text.len(), |at| from + at);
            let (member, rest) = text.split_at(end);
            self.0 = rest;
            if let Some(tag) = EntityTag::parse(member) {
                return Some(tag);
            }
        }
    }
}

/// Whether `last_modified` is a strong validator for a cache (RFC 9110 8.8.2.2): the stored response
/// has a `Date` at least one second after it, so that it cannot have changed twice in that second
/// unseen.
#[must_use]
pub fn date_is_strong(last_modified: &HeaderValue, date: Option<&HeaderValue>, now: UnixMillis) -> bool {
    let modified = http_date::parse_value(last_modified, now);
    let generated = date.and_then(|date| http_date::parse_value(date, now));
    matches!((modified, generated), (Some(modified), Some(generated)) if modified.plus(1000) <= generated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc9110_8_8_3_syntax() {
        use EntityTag::{Malformed, Strong, Weak};
        for (text, expected) in [
            (&b""[..], None),
            (b"  ", None),
            (b"\"\"", Some(Strong(b"\"\""))),
            (b"\"a\"", Some(Strong(b"\"a\""))),
            (b"\"a\\\"", Some(Strong(b"\"a\\\""))),
            (b"\"a,b\"", Some(Strong(b"\"a,b\""))),
            (b"\"\xc3\xa9\"", Some(Strong(b"\"\xc3\xa9\""))),
            (b"W/\"a\"", Some(Weak(b"\"a\""))),
            (b"w/\"a\"", Some(Malformed(b"w/\"a\""))),
            (b"W/ \"a\"", Some(Malformed(b"W/ \"a\""))),
            (b"W\"a\"", Some(Malformed(b"W\"a\""))),
            (b"W/", Some(Malformed(b"W/"))),
            (b"a", Some(Malformed(b"a"))),
            (b"*", Some(Malformed(b"*"))),
            (b"\"a", Some(Malformed(b"\"a"))),
            (b"a\"", Some(Malformed(b"a\""))),
            (b"\"", Some(Malformed(b"\""))),
            (b"\"a b\"", Some(Malformed(b"\"a b\""))),
            (b"\"a\"b", Some(Malformed(b"\"a\"b"))),
            (b"\"a\"\"", Some(Malformed(b"\"a\"\""))),
        ] {
            assert_eq!(EntityTag::parse(text), expected, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn rfc9110_8_8_3_2_comparison() {
        // The table of the section, then what lies outside its grammar.
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
            ("\"1\"", "\"A\"", false, false),
            ("\"a\"", "\"A\"", false, false),
            ("1", "1", false, true),
            ("1", "\"1\"", false, false),
            ("W/1", "1", false, false),
        ] {
            let (a, b) =
                (EntityTag::parse(a.as_bytes()).expect("tag"), EntityTag::parse(b.as_bytes()).expect("tag"));
            assert_eq!(a.strongly_equals(&b), strong, "{a:?} {b:?}");
            assert_eq!(a.weakly_equals(&b), weak, "{a:?} {b:?}");
            assert_eq!((b.strongly_equals(&a), b.weakly_equals(&a)), (strong, weak));
        }
    }

    #[test]
    fn rfc9110_13_1_2_lists() {
        use EntityTag::{Malformed, Strong, Weak};
        for (line, expected) in [
            ("", &[][..]),
            (" , ,", &[]),
            ("\"a\"", &[Strong(b"\"a\"")]),
            ("\"a\", W/\"b\" ,\"c\"", &[Strong(b"\"a\""), Weak(b"\"b\""), Strong(b"\"c\"")]),
            ("\"a,b\",\"c\"", &[Strong(b"\"a,b\""), Strong(b"\"c\"")]),
            ("\"a\\\", \"b\"", &[Strong(b"\"a\\\""), Strong(b"\"b\"")]),
            ("W/\"a,b\"", &[Weak(b"\"a,b\"")]),
            ("a, \"b\"", &[Malformed(b"a"), Strong(b"\"b\"")]),
            ("\"a, \"b\"", &[Malformed(b"\"a"), Strong(b"\"b\"")]),
            ("\"a\" \"b\", \"c\"", &[Malformed(b"\"a\" \"b\""), Strong(b"\"c\"")]),
            ("*", &[Malformed(b"*")]),
        ] {
            assert_eq!(TagList::new(line.as_bytes()).collect::<Vec<_>>(), expected, "{line:?}");
        }
    }

    #[test]
    fn rfc9110_8_8_2_2_strong_dates() {
        let at = |second: u32| format!("Sun, 06 Nov 1994 08:49:{second:02} GMT");
        for (modified, date, strong) in [
            (at(37), Some(at(38)), true),
            (at(37), Some(at(37)), false),
            (at(37), Some(at(36)), false),
            (at(37), None, false),
            (at(37), Some("0".to_owned()), false),
            ("yesterday".to_owned(), Some(at(38)), false),
        ] {
            let value = |text: &String| HeaderValue::from_str(text).expect("value");
            let date = date.as_ref().map(value);
            assert_eq!(
                date_is_strong(&value(&modified), date.as_ref(), UnixMillis(0)),
                strong,
                "{modified} {date:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(TagList::new(&line).count() <= line.len());
            let _ = EntityTag::parse(&line);
        }

        /// Whatever stands around it, a well-formed tag between commas is found.
        #[test]
        fn lists_keep_their_tags(tags in proptest::collection::vec("(W/)?\"[!#-~]{0,8}\"", 0..6), gap in "[ ,\t]{0,3},[ \t]{0,2}") {
            let line = tags.join(&gap);
            let read: Vec<_> = TagList::new(line.as_bytes()).collect();
            let expected: Vec<_> = tags.iter().filter_map(|tag| EntityTag::parse(tag.as_bytes())).collect();
            prop_assert_eq!(read, expected);
        }
    }
}
