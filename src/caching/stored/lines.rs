//! Field lines kept as the text that they go out as.
//!
//! Decides: whether names and values from outside can be lines. Never touches: which fields there are, but for those
//! that end at a hop: a store that was tampered with frames nobody's answer. Pure, and total.
//!
//! Most answers need the text alone: names and values are made of it when somebody asks for one.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use super::Fields;
use super::names;
use crate::semantics::fields::{is_hop_by_hop_bytes, is_tchar};

/// The most lines of one response: an origin sends a hundred at most, and what is merged with them (RFC 9111 3.2)
/// as many again.
pub const MAX_LINES: usize = 1024;
/// Longest name: that of [`HeaderName`].
const LONGEST_NAME: usize = (1 << 16) - 1;

/// A name and a value.
pub(super) type Pair = (HeaderName, HeaderValue);

/// A name as a store has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name<'n> {
    /// By its number in [`names`].
    Numbered(u8),
    /// As it is.
    Spelt(&'n [u8]),
}

/// What a name says of its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing.
    Plain,
    /// It is `Date`.
    Dated,
    /// It is not told to everybody as it stands: a trailer is announced to those who are sent it, another cache's
    /// `X-Cache` gives way to ours, and the length of content that is not there is the connection's to say.
    Varying,
    /// It is in no store.
    Refused,
}

impl Kind {
    pub(super) fn of(name: &[u8]) -> Self {
        match name {
            b"date" => Self::Dated,
            b"trailer" | b"x-cache" | b"content-length" => Self::Varying,
            _ if is_hop_by_hop_bytes(name) => Self::Refused,
            _ => Self::Plain,
        }
    }
}

/// Lines as text, each `name: value` and CR LF, while they are written one by one.
#[derive(Debug)]
pub struct LineText<'v> {
    /// Of those to come.
    values: &'v [u8],
    facts: Facts,
}

/// What is known of lines without reading them.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    count: usize,
    /// Whether `Date` is among them.
    is_dated: bool,
    /// Whether one of them is not told to everybody as it stands.
    varies: bool,
}

impl<'v> LineText<'v> {
    /// Begins lines with these values, one behind the other. `None` where one has a byte that no field value has.
    #[must_use]
    pub fn of(values: &'v [u8]) -> Option<Self> {
        // Without a way out in the middle: a few instructions for sixteen bytes at once.
        let is_sound = values.iter().fold(true, |good, byte| good & is_in_value(*byte));
        is_sound.then_some(Self { values, facts: Facts::default() })
    }

    /// Appends a line with the next so many bytes of the values. `None` where the name is not that of a line, or
    /// there are not so many.
    pub fn put(&mut self, out: &mut Vec<u8>, name: Name<'_>, length: usize) -> Option<()> {
        let (value, values) = self.values.split_at_checked(length)?;
        let kind = match name {
            Name::Numbered(number) => {
                let (beginning, kind) = names::beginning(number)?;
                out.extend_from_slice(beginning);
                *kind
            }
            Name::Spelt(name) => {
                let is_one = (1..=LONGEST_NAME).contains(&name.len()) && name.iter().all(|b| is_in_name(*b));
                out.extend_from_slice(name);
                out.extend_from_slice(b": ");
                if is_one { Kind::of(name) } else { Kind::Refused }
            }
        };
        if kind == Kind::Refused || self.facts.count == MAX_LINES {
            return None;
        }
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
        self.values = values;
        self.facts.count += 1;
        self.facts.is_dated |= kind == Kind::Dated;
        self.facts.varies |= kind == Kind::Varying;
        Some(())
    }

    /// The lines, all of which are what was appended. `None` where there are more values than lines.
    #[must_use]
    pub fn fields(self, text: Bytes) -> Option<Fields> {
        let Self { values, facts } = self;
        values.is_empty().then(|| Fields::of_text(TextLines { text, facts, pairs: OnceLock::new() }))
    }
}

/// Lines as text.
#[derive(Debug)]
pub(super) struct TextLines {
    text: Bytes,
    facts: Facts,
    /// Made when they are asked for.
    pairs: OnceLock<Box<[Pair]>>,
}

impl TextLines {
    pub(super) const fn len(&self) -> usize {
        self.facts.count
    }

    pub(super) fn text(&self) -> &[u8] {
        &self.text
    }

    pub(super) const fn is_dated(&self) -> bool {
        self.facts.is_dated
    }

    /// Whether they are told to everybody as they stand.
    pub(super) const fn is_told_as_it_stands(&self) -> bool {
        !self.facts.varies
    }

    /// The same as names and values, which share the allocation of the text.
    pub(super) fn pairs(&self) -> &[Pair] {
        self.pairs.get_or_init(|| {
            let mut pairs = Vec::with_capacity(self.facts.count);
            let mut rest = &*self.text;
            while let Some((name, value, left)) = split(rest) {
                rest = left;
                let value = HeaderValue::from_maybe_shared(self.text.slice_ref(value));
                // Both were held against the grammar that these hold them against.
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), value) {
                    pairs.push((name, value));
                }
            }
            pairs.into_boxed_slice()
        })
    }
}

/// The first line's name and value, and what follows its end.
fn split(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (line, rest) = text.split_at_checked(memchr::memchr(b'\r', text)?)?;
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((name, value.strip_prefix(b": ")?, rest.strip_prefix(b"\r\n")?))
}

/// Visible, blank, or obs-text (RFC 9110 5.5).
const fn is_in_value(byte: u8) -> bool {
    ((byte >= 0x20) & (byte != 0x7f)) | (byte == b'\t')
}

/// `tchar` in the case that names are told in. One look-up a byte.
const fn is_in_name(byte: u8) -> bool {
    const NAME: [bool; 256] = {
        let (mut table, mut byte) = ([false; 256], 0_u8);
        loop {
            table[byte as usize] = is_tchar(byte) && !byte.is_ascii_uppercase();
            if byte == u8::MAX {
                break table;
            }
            byte += 1;
        }
    };
    NAME[byte as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines with names as they are and values one behind the other.
    fn read(lines: &[(&[u8], &[u8])]) -> Option<Fields> {
        let values: Vec<u8> = lines.iter().flat_map(|(_, value)| value.to_vec()).collect();
        let (mut text, mut out) = (LineText::of(&values)?, Vec::new());
        for (name, value) in lines {
            text.put(&mut out, Name::Spelt(name), value.len())?;
        }
        text.fields(out.into())
    }

    #[test]
    fn lines_are_made_when_they_are_asked_for() {
        let values = b"text/htmla:b \tb caf\xe9";
        let (mut text, mut out) = (LineText::of(values).expect("values"), Vec::new());
        let content_type = names::number(&http::header::CONTENT_TYPE).expect("a number");
        let lines = [
            (Name::Numbered(content_type), 9),
            (Name::Spelt(b"set-cookie"), 3),
            (Name::Spelt(b"x-empty"), 0),
            (Name::Spelt(b"set-cookie"), 4),
            (Name::Spelt(b"date"), 4),
        ];
        for (name, length) in lines {
            text.put(&mut out, name, length).expect("a line");
        }
        let whole = b"content-type: text/html\r\nset-cookie: a:b\r\nx-empty: \r\nset-cookie:  \tb \r\ndate: caf\xe9\r\n";
        assert_eq!(out.escape_ascii().to_string(), whole.escape_ascii().to_string());
        let lines = TextLines { text: out.into(), facts: text.facts, pairs: OnceLock::new() };
        assert_eq!((lines.len(), lines.is_dated(), lines.is_told_as_it_stands()), (5, true, true));
        let pairs: Vec<(&str, &[u8])> =
            lines.pairs().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let expected: [(&str, &[u8]); 5] = [
            ("content-type", b"text/html"),
            ("set-cookie", b"a:b"),
            ("x-empty", b""),
            ("set-cookie", b" \tb "),
            ("date", b"caf\xe9"),
        ];
        assert_eq!(pairs, expected);
        assert_eq!(read(&[]), Some(Fields::default()));
    }

    #[test]
    fn what_is_no_line_is_refused() {
        let values: [&[u8]; 6] = [b"b\r\nc: d", b"\r", b"b\n", b"b\0", b"\x7f", b"b\r\n c"];
        for value in values {
            assert_eq!(read(&[(b"a", b"b"), (b"a", value)]), None, "{}", value.escape_ascii());
        }
        let names: [&[u8]; 16] = [
            b"",
            b"A",
            b"x-Cache",
            b"a ",
            b" a",
            b"a b",
            b"a:",
            b"a: b\r\nc",
            b"a\0",
            b"a\r",
            b"caf\xe9",
            b"\"a\"",
            b"connection",
            b"transfer-encoding",
            b"keep-alive",
            b"upgrade",
        ];
        for name in names {
            assert_eq!(read(&[(b"a", b"b"), (name, b"c")]), None, "{}", name.escape_ascii());
        }
        for hop in ["connection", "transfer-encoding"] {
            assert_eq!(names::number(&HeaderName::from_static(hop)), None, "spelt, and so refused above");
        }
        let put = |name, length| LineText::of(b"ab").expect("values").put(&mut Vec::new(), name, length);
        assert_eq!(put(Name::Numbered(1), 3), None, "longer than what is there");
        assert_eq!(put(Name::Numbered(names::SPELT), 2), None);
        assert_eq!(put(Name::Numbered(u8::MAX), 2), None);
        assert_eq!(put(Name::Numbered(1), 2), Some(()));
        assert_eq!(LineText::of(b"ab").expect("values").fields(Bytes::new()), None, "more than lines");
        let line: (&[u8], &[u8]) = (b"a", b"b");
        assert_eq!(read(&[line; MAX_LINES]).expect("lines").iter().len(), MAX_LINES);
        assert_eq!(read(&[line; MAX_LINES + 1]), None);
        let named = |length| read(&[(&vec![b'n'; length], b"b")]);
        assert_eq!(named(LONGEST_NAME).expect("a line").iter().len(), 1);
        assert_eq!(named(LONGEST_NAME + 1), None);
    }

    /// What is taken for a line can be made one: this reading and that of the library are one.
    #[test]
    fn bytes_are_those_of_names_and_values() {
        for byte in 0..=u8::MAX {
            let is_lower = HeaderName::from_lowercase(&[byte]).is_ok();
            // The library takes quotation marks as well.
            assert_eq!(is_in_name(byte), is_lower && byte != b'"', "{byte:#x}");
            assert_eq!(is_in_value(byte), HeaderValue::from_bytes(&[byte]).is_ok(), "{byte:#x}");
        }
    }
}
