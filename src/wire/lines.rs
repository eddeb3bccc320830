//! The field lines of a head, as they came: what goes on of them goes on as it is, and a map is made of them where
//! somebody looks things up.
//!
//! Decides nothing: which lines are good was decided before ([`super::grammar`]).

use bytes::Bytes;
use http::header::HeaderMap;

use super::fields;
use super::grammar::plain;

/// Field lines that were found good, in their order: names in lower case, values without blanks around them.
#[derive(Clone, Default)]
pub struct FieldLines {
    /// Each as `name: value` and CR LF.
    text: Vec<u8>,
    lines: Vec<Line>,
}

/// Where a line stands.
#[derive(Clone, Copy)]
struct Line {
    begin: usize,
    /// Its name is up to here; a colon and a blank follow.
    name: usize,
    /// With its CR LF.
    end: usize,
}

impl FieldLines {
    /// None, with room for so many lines of so many bytes.
    #[must_use]
    pub(crate) fn with_capacity(bytes: usize, lines: usize) -> Self {
        // A line that came without a blank behind its colon gets one.
        Self { text: Vec::with_capacity(bytes + lines), lines: Vec::with_capacity(lines) }
    }

    /// The lines of `text`, each with its CR LF; an empty one, or the end, ends them. `None` where one of them is none.
    pub(crate) fn read(text: &[u8]) -> Option<Self> {
        let mut lines = Self::with_capacity(text.len(), memchr::memchr_iter(b'\n', text).count());
        let mut rest = text;
        while !rest.is_empty() && !rest.starts_with(b"\r\n") {
            let line = plain(rest)?;
            lines.push(line.name, line.value);
            rest = rest.get(line.length..)?;
        }
        Some(lines)
    }

    /// Adds a line.
    pub(crate) fn push(&mut self, name: &[u8], value: &[u8]) {
        let Self { text, lines } = self;
        let begin = text.len();
        text.extend_from_slice(name);
        let end = text.len();
        if let Some(name) = text.get_mut(begin..) {
            name.make_ascii_lowercase();
        }
        // Piece by piece: what has a length that is known is no call.
        text.extend_from_slice(b": ");
        text.extend_from_slice(value);
        text.extend_from_slice(b"\r\n");
        lines.push(Line { begin, name: end, end: text.len() });
    }

    /// Name and value of each.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines.iter().map(|line| self.at(*line))
    }

    /// The values of the lines of this name, which is in lower case.
    pub fn values(&self, name: &[u8]) -> impl Iterator<Item = &[u8]> {
        // Most are of another length: that is seen without looking at the text.
        let named = move |line: &&Line| {
            line.name - line.begin == name.len() && self.text.get(line.begin..line.name) == Some(name)
        };
        self.lines.iter().filter(named).map(|line| self.at(*line).1)
    }

    /// Takes out the lines of which `keep` is not true: it is asked about name and value of each, in their order.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Self { text, lines } = self;
        lines.retain(|line| {
            let (name, value) = at(text, *line);
            keep(name, value)
        });
    }

    /// The text of the lines of which `keep` is true, in their order and in as few pieces as may be.
    pub(crate) fn write(&self, mut keep: impl FnMut(&[u8], &[u8]) -> bool, mut put: impl FnMut(&[u8])) {
        let (mut begin, mut end) = (0, 0);
        for line in &self.lines {
            let (name, value) = self.at(*line);
            if !keep(name, value) {
                continue;
            }
            if line.begin != end {
                put(self.text.get(begin..end).unwrap_or_default());
                begin = line.begin;
            }
            end = line.end;
        }
        put(self.text.get(begin..end).unwrap_or_default());
    }

    /// As a map, whose values are parts of one piece of memory; `None` where a name is too long for one, or there are
    /// too many lines.
    pub(crate) fn into_map(self) -> Option<HeaderMap> {
        let Self { text, lines } = self;
        let text = Bytes::from(text);
        // As many as there are: no table is made twice, and none is larger than need be.
        let mut map = HeaderMap::with_capacity(lines.len());
        for line in lines {
            let (name, value) = at(&text, line);
            fields::append(&mut map, &text, name, value)?;
        }
        Some(map)
    }

    fn at(&self, line: Line) -> (&[u8], &[u8]) {
        at(&self.text, line)
    }
}

fn at(text: &[u8], line: Line) -> (&[u8], &[u8]) {
    let name = text.get(line.begin..line.name).unwrap_or_default();
    (name, text.get(line.name + 2..line.end - 2).unwrap_or_default())
}

impl std::fmt::Debug for FieldLines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = String::from_utf8_lossy;
        f.debug_list().entries(self.iter().map(|(name, value)| (text(name), text(value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> FieldLines {
        FieldLines::read(b"Host: a\r\nX-A:1\r\nx-a: \t\r\nx-b: b c \r\n\r\nnot a line").expect("good lines")
    }

    fn text(lines: &FieldLines, keep: impl FnMut(&[u8], &[u8]) -> bool) -> (String, usize) {
        let (mut text, mut pieces) = (Vec::new(), 0);
        lines.write(keep, |piece| {
            text.extend_from_slice(piece);
            pieces += 1;
        });
        (String::from_utf8(text).expect("text"), pieces)
    }

    #[test]
    fn rfc9112_5_lines_and_fields_are_the_same() {
        let map = lines().into_map().expect("good lines");
        assert_eq!((map.len(), map["host"].as_bytes(), map["x-b"].as_bytes()), (4, &b"a"[..], &b"b c"[..]));
        assert_eq!(map.get_all("x-a").iter().collect::<Vec<_>>(), ["1", ""]);
        for bad in ["a", "a: b", "a: b\n", "a\r\n", "a b: c\r\n", ": b\r\n", "a: b\0c\r\n", "a: b\rX: y\r\n"]
        {
            assert!(FieldLines::read(bad.as_bytes()).is_none(), "{bad:?}");
        }
        let long = [&[b'a'; 1 << 16][..], b": b\r\n"].concat();
        assert!(FieldLines::read(&long).is_some_and(|lines| lines.into_map().is_none()));
    }

    #[test]
    fn what_is_kept_goes_out_in_one_piece() {
        let mut lines = lines();
        assert_eq!(text(&lines, |_, _| true), ("host: a\r\nx-a: 1\r\nx-a: \r\nx-b: b c\r\n".into(), 1));
        assert_eq!(text(&lines, |_, value| value != b"1"), ("host: a\r\nx-a: \r\nx-b: b c\r\n".into(), 2));
        assert_eq!(text(&lines, |name, _| name != b"host").0, "x-a: 1\r\nx-a: \r\nx-b: b c\r\n");
        assert_eq!(text(&lines, |_, _| false).0, "");
        lines.retain(|name, value| name != b"x-a" || value.is_empty());
        lines.push(b"Via", b"1.1 us");
        assert_eq!(text(&lines, |_, _| true).0, "host: a\r\nx-a: \r\nx-b: b c\r\nvia: 1.1 us\r\n");
        assert_eq!(lines.values(b"via").collect::<Vec<_>>(), [b"1.1 us"]);
    }
}
