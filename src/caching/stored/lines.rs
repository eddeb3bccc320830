//! Field lines kept as the text that they go out as.
//!
//! Decides: whether bytes from outside are such lines. Never touches: which fields there are, but for those that
//! end at a hop: a store that was tampered with frames nobody's answer. Pure, and total.
//!
//! Most answers need the text alone: names and values are made of it when somebody asks for one.

use std::sync::OnceLock;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};

use crate::semantics::fields::{ends_at_this_hop, is_tchar};

/// The most lines of one response: an origin sends a hundred at most, and what is merged with them (RFC 9111 3.2)
/// as many again.
pub const MAX_LINES: usize = 1024;
/// Longest name: that of [`HeaderName`].
const LONGEST_NAME: usize = (1 << 16) - 1;

/// A name and a value.
pub(super) type Pair = (HeaderName, HeaderValue);

/// Lines as text, each `name: value` and CR LF.
#[derive(Debug)]
pub(super) struct TextLines {
    text: Bytes,
    facts: Facts,
    /// Made when they are asked for.
    pairs: OnceLock<Box<[Pair]>>,
}

/// What reading them once says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Facts {
    count: usize,
    /// Whether `Date` is among them.
    is_dated: bool,
    /// Whether one of them depends on who asks: see [`depends_on_who_asks`].
    varies: bool,
}

impl TextLines {
    /// `None` unless every line is `name: value` and CR LF, the name a token in lower case that does not end at
    /// this hop, the value of bytes that a field value has.
    pub(super) fn of(text: Bytes) -> Option<Self> {
        let facts = facts(&text)?;
        Some(Self { text, facts, pairs: OnceLock::new() })
    }

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

/// Whether a line is not told to everybody as it stands: a trailer is announced to those who are sent it, another
/// cache's `X-Cache` gives way to ours, and the length of content that is not there is the connection's to say.
pub(super) fn depends_on_who_asks(name: &[u8]) -> bool {
    matches!(name, b"trailer" | b"x-cache" | b"content-length")
}

fn facts(text: &[u8]) -> Option<Facts> {
    // Without a way out in the middle: a few instructions for sixteen bytes at once.
    if !text.iter().fold(true, |good, byte| good & (is_in_value(*byte) | matches!(byte, b'\r' | b'\n'))) {
        return None;
    }
    let (mut facts, mut rest) = (Facts::default(), text);
    while !rest.is_empty() {
        let (name, _, left) = split(rest)?;
        let is_name = !name.is_empty() && name.len() <= LONGEST_NAME && name.iter().all(|b| is_in_name(*b));
        if !is_name || ends_at_this_hop(name) || facts.count == MAX_LINES {
            return None;
        }
        facts.count += 1;
        facts.is_dated |= name == b"date";
        facts.varies |= depends_on_who_asks(name);
        rest = left;
    }
    Some(facts)
}

/// The first line's name and value, and what follows its end. Neither has a CR or an LF in it.
fn split(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (line, rest) = text.split_at_checked(memchr::memchr2(b'\r', b'\n', text)?)?;
    let rest = rest.strip_prefix(b"\r\n")?;
    let (name, value) = line.split_at_checked(memchr::memchr(b':', line)?)?;
    Some((name, value.strip_prefix(b": ")?, rest))
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

    fn read(text: &[u8]) -> Option<TextLines> {
        TextLines::of(Bytes::copy_from_slice(text))
    }

    #[test]
    fn lines_are_read_once_and_made_when_asked_for() {
        let text = b"content-type: text/html\r\nset-cookie: a:b\r\nx-empty: \r\nset-cookie:  \tb \r\ndate: caf\xe9\r\n";
        let lines = read(text).expect("lines");
        assert_eq!((lines.len(), lines.is_dated(), lines.is_told_as_it_stands()), (5, true, true));
        assert!(lines.pairs.get().is_none());
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
        assert_eq!((read(b"").expect("none").len(), read(b"").expect("none").pairs().len()), (0, 0));
        for varying in ["trailer", "x-cache", "content-length"] {
            let lines = read(format!("a: b\r\n{varying}: 1\r\n").as_bytes());
            // A trailer field that is announced is never stored.
            assert_eq!(lines.map(|l| l.is_told_as_it_stands()), (varying != "trailer").then_some(false));
        }
    }

    #[test]
    fn what_is_not_lines_is_refused() {
        let table: &[&[u8]] = &[
            b"a: b",
            b"a: b\r",
            b"a: b\n",
            b"a: b\r\n\r\n",
            b"\r\na: b\r\n",
            b"a: b\r\n\r\na: b\r\n",
            b"a: b\nc: d\r\n",
            b"a: b\rc: d\r\n",
            b"a: b\r\r\n",
            b"a: b\n\r\n",
            b"a: b\r\n c\r\n",
            b"a: b\0\r\n",
            b"a: b\x7f\r\n",
            b"a\0: b\r\n",
            b"a:b\r\n",
            b"a:\r\n",
            b"a : b\r\n",
            b" a: b\r\n",
            b"a\xe9: b\r\n",
            b": b\r\n",
            b"a\r\n",
            b"a b\r\n",
            b"A: b\r\n",
            b"x-Cache: b\r\n",
            b"connection: close\r\n",
            b"transfer-encoding: chunked\r\n",
            b"a: b\r\ntransfer-encoding: chunked\r\n",
            b"keep-alive: 1\r\n",
            b"upgrade: x\r\n",
            b"HTTP/1.1 200 OK\r\n",
        ];
        for text in table {
            assert!(read(text).is_none(), "{}", text.escape_ascii());
        }
        assert!(read(&b"a: b\r\n".repeat(MAX_LINES)).is_some());
        assert!(read(&b"a: b\r\n".repeat(MAX_LINES + 1)).is_none());
        let named = |length| [&vec![b'n'; length][..], b": b\r\n"].concat();
        assert_eq!(read(&named(LONGEST_NAME)).expect("a line").pairs().len(), 1);
        assert!(read(&named(LONGEST_NAME + 1)).is_none());
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
