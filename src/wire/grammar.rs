//! Bytes and the classes they fall into (RFC 9110 5, RFC 3986 3).
//!
//! Decides: which bytes a token, a field value, a target, a host may have. Knows nothing of messages.

const TOKEN: u8 = 1;
const PATH: u8 = 1 << 1;
const QUERY: u8 = 1 << 2;
const REG_NAME: u8 = 1 << 3;

/// One look-up a byte.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut index = 0x21;
    while index < 0x7f {
        let byte = index as u8;
        let plain = byte.is_ascii_alphanumeric();
        if plain || is_one_of(byte, b"!#$%&'*+-.^_`|~") {
            table[index] |= TOKEN;
        }
        if plain || is_one_of(byte, b"-._~!$&'()*+,;=") {
            table[index] |= REG_NAME;
        }
        // RFC 3986 allows fewer, and clients send more: what has one reading passes. A fragment is
        // never sent (RFC 9112 3.2.1); the others missing here are those that the URI parser behind
        // this one refuses, so that it is told in one place.
        if !is_one_of(byte, b"#<>`") {
            table[index] |= PATH;
        }
        if !is_one_of(byte, b"#<>\"") {
            table[index] |= QUERY;
        }
        index += 1;
    }
    table
}

const fn is_one_of(byte: u8, set: &[u8]) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

fn is(class: u8, byte: u8) -> bool {
    CLASSES[usize::from(byte)] & class != 0
}

/// Whether `byte` may be part of a token: a method, a field name (RFC 9110 5.6.2).
pub(super) fn is_token_byte(byte: u8) -> bool {
    is(TOKEN, byte)
}

/// Whether `byte` may be part of a field value: visible, blank or obs-text (RFC 9110 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    (byte >= 0x20 && byte != 0x7f) || byte == b'\t'
}

/// Whether all bytes may be part of a field value.
pub(super) fn is_value(bytes: &[u8]) -> bool {
    value_length(bytes) == bytes.len()
}

/// How many bytes at the beginning may be part of a field value. Eight at once are looked at as one number: where
/// all are neither controls nor DEL, as nearly always, that is a few instructions.
fn value_length(bytes: &[u8]) -> usize {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = LOW << 7;
    let end_of = |bytes: &[u8]| bytes.iter().position(|byte| !is_value_byte(*byte));
    let (eights, rest) = bytes.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        let word = u64::from_le_bytes(*eight);
        // A byte below 0x20 borrows, one that is 0x7f becomes 0 and borrows too; those from 0x80 on are let through.
        let controls = word.wrapping_sub(LOW * 0x20) & !word;
        let dels = (word ^ (LOW * 0x7f)).wrapping_sub(LOW) & !(word ^ (LOW * 0x7f));
        let found = (controls | dels) & HIGH;
        if found == 0 {
            continue;
        }
        // The first that was found is one; a tab is a control, and may be there.
        let first = (found.trailing_zeros() / 8) as usize;
        let end = if eight[first] == b'\t' { end_of(eight) } else { Some(first) };
        if let Some(end) = end {
            return at * 8 + end;
        }
    }
    bytes.len() - rest.len() + end_of(rest).unwrap_or(rest.len())
}

/// Whether `target` has only bytes that the path and the query of a URI may have.
pub(super) fn is_path_and_query(target: &[u8]) -> bool {
    match target.iter().position(|byte| !is(PATH, *byte) || *byte == b'?') {
        None => true,
        Some(end) => {
            let query = target.get(end..).unwrap_or_default();
            query.first() == Some(&b'?') && query.iter().all(|byte| is(QUERY, *byte))
        }
    }
}

/// How many bytes at the beginning of `line` are a token.
pub(super) fn token_length(line: &[u8]) -> usize {
    line.iter().position(|byte| !is_token_byte(*byte)).unwrap_or(line.len())
}

/// How long the head at the beginning of `bytes` is, and how many lines it has before the empty one, if its
/// end is there and its lines end as they should.
pub(crate) fn whole_head(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut lines = 0;
    let is_last = |at: &usize| {
        lines += 1;
        bytes.get(at + 1..).is_some_and(|rest| rest.starts_with(b"\r\n"))
    };
    let last = memchr::memchr_iter(b'\n', bytes).find(is_last)?;
    Some((last + 3, lines))
}

/// A field line's name and value (RFC 9112 5), the value with the blanks around it; `None` when it is
/// not one. A blank before the colon, and a folded line, both show as a byte that no name has.
pub(super) fn field(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (name, rest) = line.split_at_checked(token_length(line))?;
    let (b':', value) = rest.split_first()? else { return None };
    (!name.is_empty() && is_value(value)).then_some((name, value))
}

/// A field line as nearly all are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'a> {
    pub(super) name: &'a [u8],
    /// Without the blanks around it.
    pub(super) value: &'a [u8],
    /// Bytes of the line, its CR LF included.
    pub(super) length: usize,
}

/// The field line at the beginning of `bytes`, found and judged in one go. `None` where it has not ended, is none, or
/// is the empty one: which of these is to be found out.
pub(super) fn plain(bytes: &[u8]) -> Option<Plain<'_>> {
    let (name, rest) = bytes.split_at_checked(token_length(bytes))?;
    let (b':', rest) = rest.split_first()? else { return None };
    let (value, rest) = rest.split_at_checked(value_length(rest))?;
    if name.is_empty() || !rest.starts_with(b"\r\n") {
        return None;
    }
    Some(Plain { name, value: trim(value), length: name.len() + 1 + value.len() + 2 })
}

/// The value without the blanks around it (RFC 9110 5.6.3: OWS is spaces and tabs alone).
pub(super) fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !is_blank(byte)) else { return &[] };
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

/// A number of bytes: digits alone, at most nineteen of them (RFC 9110 8.6).
pub(super) fn length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 {
        return None;
    }
    // Nineteen digits fit in 64 bits.
    value
        .iter()
        .try_fold(0_u64, |length, byte| byte.is_ascii_digit().then(|| length * 10 + u64::from(byte - b'0')))
}

/// `uri-host [":" port]` (RFC 9110 7.2, RFC 3986 3.2.2), not empty, without user information.
/// Of the IP literals, IPv6 alone: nothing else was ever defined.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (is_named, port) = match value.strip_prefix(b"[") {
        Some(rest) => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let (address, rest) = rest.split_at(end);
            let is_address = std::str::from_utf8(address)
                .is_ok_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
            (is_address, rest.get(1..).unwrap_or_default())
        }
        None => {
            let end = memchr::memchr(b':', value).unwrap_or(value.len());
            let (name, port) = value.split_at(end);
            (is_reg_name(name), port)
        }
    };
    is_named
        && match port.split_first() {
            None => true,
            Some((b':', port)) => is_port(port),
            Some(_) => false,
        }
}

/// A port, or nothing: RFC 3986 3.2.3 allows the colon alone.
fn is_port(port: &[u8]) -> bool {
    port.is_empty() || length(port).is_some_and(|port| port <= u64::from(u16::MAX))
}

fn is_reg_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let Some(odd) = rest.iter().position(|byte| !is(REG_NAME, *byte)) {
        rest = match rest.get(odd..) {
            Some([b'%', high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                after
            }
            _ => return false,
        };
    }
    !name.is_empty()
}

/// The authority without a port that says nothing: the default of `http`, or none.
pub(super) fn without_default_port(authority: &[u8]) -> &[u8] {
    authority.strip_suffix(b":80").or_else(|| authority.strip_suffix(b":")).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc3986_3_2_2_hosts() {
        for good in
            ["a", "A.example", "a.example:80", "a:", "1.2.3.4:65535", "[::1]", "[::1]:80", "a%20b", "_x-~"]
        {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "u@a",
            "a:x",
            "a:65536",
            "a:80:80",
            "a:-1",
            "[::1",
            "[]",
            "[::1]80",
            "[::1]:x",
            "[fe80::1%25eth0]",
            "[v1.x]",
            "::1",
            "a%2",
            "a%zz",
            "a\u{e9}",
            "a,b\"",
            "a\\b",
            "a\t",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn rfc9110_5_5_values_by_eights_and_one_by_one() {
        for byte in 0..=255_u8 {
            for length in [1, 7, 8, 9, 16, 21] {
                for at in 0..length {
                    for filler in [b'a', b'\t', b' ', 0x80, 0xff, b'~'] {
                        let mut value = vec![filler; length];
                        value[at] = byte;
                        assert_eq!(is_value(&value), is_value_byte(byte), "{byte:#x} at {at} of {length}");
                        let end = if is_value_byte(byte) { length } else { at };
                        assert_eq!(value_length(&value), end, "{byte:#x} at {at} of {length}");
                    }
                }
            }
        }
        assert!(is_value(b""));
    }

    /// A line that is read in one go is what it is found to be when it is looked at more closely; one that is not is
    /// none, or has not ended.
    #[test]
    fn rfc9112_5_lines_in_one_go() {
        let lines = [
            "Host: a",
            "A:",
            "a:\t b\tc \t",
            "a: \u{e9}",
            "a : b",
            ": b",
            "a",
            "",
            "a: b\rc",
            "a: \u{7f}",
            " a: b",
        ];
        for line in lines {
            for (end, what) in
                [("\r\n", "more"), ("\r\n", ""), ("\n", "b: c\r\n"), ("\r", ""), ("", ""), ("\r\r\n", "")]
            {
                let bytes = [line, end, what].concat();
                let read = plain(bytes.as_bytes()).map(|line| (line.name, line.value, line.length));
                let closer = field(line.as_bytes()).filter(|_| end == "\r\n");
                let closer = closer.map(|(name, value)| (name, trim(value), line.len() + 2));
                assert_eq!(read, closer, "{bytes:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn rfc9112_5_any_line_in_one_go(
            line in "[Xx-]{0,9}[: ]{0,2}[a-z\u{e9}\t ]{0,20}[\r\u{1}\u{7f}\n]{0,1}[a-z\t ]{0,12}",
            more in "[a-z\r\n]{0,9}",
        ) {
            let bytes = [line.as_bytes(), b"\r\n", more.as_bytes()].concat();
            let read = plain(&bytes).map(|line| (line.name, line.value, line.length));
            // By the rule: up to the first LF, which has to have its CR.
            let end = memchr::memchr(b'\n', &bytes).expect("one at least");
            let closer = bytes[..end].strip_suffix(b"\r").and_then(field);
            prop_assert_eq!(read, closer.map(|(name, value)| (name, trim(value), end + 1)));
        }
    }

    #[test]
    fn a_whole_head_and_its_lines() {
        for (bytes, whole) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET", Some((27, 2))),
            ("GET / HTTP/1.0\r\n\r\n", Some((18, 1))),
            ("GET / HTTP/1.0\r\n\r", None),
            ("GET / HTTP/1.0\r\n", None),
            ("", None),
        ] {
            assert_eq!(whole_head(bytes.as_bytes()), whole, "{bytes:?}");
        }
    }

    #[test]
    fn rfc9110_8_6_lengths() {
        for (text, length) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("9999999999999999999", Some(9_999_999_999_999_999_999)),
            ("10000000000000000000", None),
            ("", None),
            ("+1", None),
            ("1 ", None),
            ("1,1", None),
            ("0x1", None),
            ("1e1", None),
        ] {
            assert_eq!(super::length(text.as_bytes()), length, "{text}");
        }
    }

    /// What passes here must pass the URI parser behind it, or a client would be refused by someone
    /// who tells nobody.
    #[test]
    fn targets_that_pass_are_uris() {
        for byte in 0..=255_u8 {
            for (prefix, name) in [("/", "path"), ("/?", "query")] {
                let target = [prefix.as_bytes(), &[byte]].concat();
                let is_uri = http::Uri::try_from(target.as_slice()).is_ok();
                let is_right = is_uri && byte.is_ascii_graphic() && byte != b'#';
                assert_eq!(is_path_and_query(&target), is_right, "{byte:#x} in a {name}");
            }
        }
    }

    #[test]
    fn rfc9110_5_field_lines() {
        assert_eq!(field(b"A: b"), Some((&b"A"[..], &b" b"[..])));
        assert_eq!(field(b"A:"), Some((&b"A"[..], &b""[..])));
        assert_eq!(
            field("A: \u{e9}\t\"".as_bytes()).map(|(_, value)| trim(value)),
            Some("\u{e9}\t\"".as_bytes())
        );
        for bad in
            ["", "A", ": b", "A : b", "A\t: b", " A: b", "A B: b", "A: \u{1}", "A: \r", "A: \u{7f}", "A\0: b"]
        {
            assert_eq!(field(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
