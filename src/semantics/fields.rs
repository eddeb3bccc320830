//! Fields as they meet us (RFC 9110 5): lists over several lines, tokens, quoted strings, parameters,
//! and the fields that end at this hop.
//!
//! Decides: where a list member begins and ends, and which fields never cross the proxy. Never touches:
//! what a member means; nothing here allocates but for escapes inside quoted strings and nominations.
//!
//! | clause | function | test |
//! |---|---|---|
//! | RFC 9110 5.2, 5.3: several lines are one list | [`members`] | `lists_span_lines` |
//! | RFC 9110 5.6.1.2: empty members are ignored | [`split_list`] | `rfc9110_5_6_1_lists` |
//! | RFC 9110 5.6.2: token | [`is_token`] | `rfc9110_5_6_2_tokens` |
//! | RFC 9110 5.6.4: quoted-string, quoted-pair | [`unquote`], [`split_list`] | `rfc9110_5_6_4_quoted_strings` |
//! | RFC 9110 5.6.6: parameters | [`parameters`] | `rfc9110_5_6_6_parameters` |
//! | RFC 9110 7.6.1: nominated fields are removed, as is Connection | [`remove_hop_by_hop`] | `rfc9110_7_6_1_nominations` |
//! | RFC 9110 7.6.1: fields for all recipients are no connection options | [`cannot_be_nominated`] | `what_cannot_be_nominated` |
//! | RFC 9111 3.1: what no cache stores | [`is_hop_by_hop`] | `rfc9111_3_1_never_stored` |

use std::borrow::Cow;
use std::collections::HashSet;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// All members of a list field, over all its lines in order, without white space around them and
/// without the empty ones. Commas inside quoted strings do not separate.
///
/// ```
/// use forebay::semantics::fields::members;
/// let mut headers = http::HeaderMap::new();
/// headers.append("example", http::HeaderValue::from_static(r#"a, "b, c" ,,"#));
/// headers.append("example", http::HeaderValue::from_static("d"));
/// let all: Vec<_> = members(&headers, &http::HeaderName::from_static("example")).collect();
/// assert_eq!(all, [&b"a"[..], br#""b, c""#, b"d"]);
/// ```
pub fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|line| split_list(line.as_bytes()))
}

/// The members of one line of a list field. A quote that is never closed is an ordinary byte: what
/// follows it is split at its commas, so that nothing hides behind it.
#[must_use]
pub fn split_list(line: &[u8]) -> Pieces<'_> {
    Pieces::new(line, b',')
}

/// Cuts `member` at its first semicolon: the value before it, and the parameters after it
/// (RFC 9110 5.6.6) as name and value, still quoted where they came quoted. Names keep their case.
pub fn parameters(member: &[u8]) -> (&[u8], impl Iterator<Item = (&[u8], &[u8])>) {
    let mut pieces = Pieces::new(member, b';');
    // `Pieces` skips what is empty: a member that begins with a semicolon has an empty value.
    let value =
        if trim_ows(member).first() == Some(&b';') { &b""[..] } else { pieces.next().unwrap_or_default() };
    let rest = pieces.map(|piece| match memchr::memchr(b'=', piece) {
        Some(at) => {
            let (name, value) = piece.split_at(at);
            (trim_ows(name), trim_ows(value.get(1..).unwrap_or_default()))
        }
        None => (piece, &b""[..]),
    });
    (value, rest)
}

/// Whether a member of the list `name` equals `token` in any case (as `Connection: Upgrade`, `Vary: *`).
#[must_use]
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    members(headers, name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
}

/// The value of a field that stands on exactly one line; `None` when it is absent or repeated.
#[must_use]
pub fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    lines.next().is_none().then_some(first)
}

/// The text of a quoted string with its escapes undone; `None` when `text` is not one quoted string
/// from its first byte to its last.
#[must_use]
pub fn unquote(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    let end = quoted_end(text)?;
    if end != text.len() {
        return None;
    }
    let inner = text.get(1..end - 1)?;
    if memchr::memchr(b'\\', inner).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(&byte) = bytes.next() {
        plain.push(if byte == b'\\' { *bytes.next()? } else { byte });
    }
    Some(Cow::Owned(plain))
}

/// Whether every quote in `line` that opens a quoted string is closed again.
#[must_use]
pub fn quotes_are_closed(line: &[u8]) -> bool {
    let mut rest = line;
    while let Some(at) = memchr::memchr(b'"', rest) {
        let tail = rest.get(at..).unwrap_or_default();
        let Some(end) = quoted_end(tail) else { return false };
        rest = tail.get(end..).unwrap_or_default();
    }
    true
}

/// Whether `text` is a token (RFC 9110 5.6.2): not empty, and `tchar` throughout.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_tchar)
}

/// `tchar` of RFC 9110 5.6.2.
#[must_use]
pub const fn is_tchar(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// `text` without the optional white space (SP, HTAB) around it.
#[must_use]
pub const fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Reads `1*DIGIT`, saturating at `u64::MAX`; `None` for anything else, the empty string included.
#[must_use]
pub fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        byte.is_ascii_digit().then(|| number.saturating_mul(10).saturating_add(u64::from(byte - b'0')))
    })
}

/// Whether a field concerns one connection only: it is neither forwarded nor stored
/// (RFC 9110 7.6.1, RFC 9111 3.1).
///
/// `Transfer-Encoding` is among them because every message is framed anew; `Proxy-Authenticate`,
/// `Proxy-Authorization` and `Proxy-Authentication-Info` because the proxy they speak of is this one.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_hop_by_hop_bytes(name.as_str().as_bytes())
}

/// [`is_hop_by_hop`] of a name in lower case.
#[must_use]
pub fn is_hop_by_hop_bytes(name: &[u8]) -> bool {
    matches!(
        name,
        b"connection"
            | b"keep-alive"
            | b"proxy-connection"
            | b"te"
            | b"trailer"
            | b"transfer-encoding"
            | b"upgrade"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-authentication-info"
    )
}

/// Whether a `Connection` option of this name is refused (RFC 9110 7.6.1): framing and `Host`, the
/// fields this proxy generates, and those that say who may be given what. A peer that could nominate
/// `Cookie` or `Cache-Control` away would decide how its neighbours are served.
#[must_use]
pub fn cannot_be_nominated(name: &HeaderName) -> bool {
    cannot_be_nominated_bytes(name.as_str().as_bytes())
}

/// [`cannot_be_nominated`] of a name in lower case.
#[must_use]
pub fn cannot_be_nominated_bytes(name: &[u8]) -> bool {
    name.starts_with(b"content-")
        || matches!(
            name,
            b"host"
                | b"via"
                | b"forwarded"
                | b"x-forwarded-for"
                | b"x-forwarded-proto"
                | b"x-forwarded-host"
                | b"authorization"
                | b"www-authenticate"
                | b"cookie"
                | b"set-cookie"
                | b"cache-control"
                | b"cdn-cache-control"
                | b"forebay-cache-control"
                | b"cache-status"
                | b"pragma"
                | b"vary"
                | b"age"
                | b"date"
                | b"expires"
                | b"etag"
                | b"last-modified"
        )
}

/// Removes what ends at this hop: the fields of [`is_hop_by_hop`] and those that `Connection`
/// nominates, except where [`cannot_be_nominated`] refuses.
///
/// To be called before anything is derived from the fields (key, variant, guard), so that what is
/// judged is what is sent. One pass over the names; no allocation unless several are there, or a real
/// nomination stands in `Connection`. What the caller needs of `TE`, `Upgrade` and
/// `Connection` itself it reads first.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Hardly ever more than one of them is there.
    let mut ending = headers.keys().filter(|name| is_hop_by_hop(name));
    let Some(first) = ending.next().cloned() else { return };
    let others: Vec<HeaderName> = ending.cloned().collect();
    for name in nominated(headers).into_iter().flatten() {
        headers.remove(name);
    }
    headers.remove(first);
    for name in others {
        headers.remove(name);
    }
}

/// The fields that `Connection` nominates and that exist, without those of [`cannot_be_nominated`]; `None` where it
/// nominates nothing, as nearly always.
#[must_use]
pub fn nominated(headers: &HeaderMap) -> Option<HashSet<HeaderName>> {
    let lines = headers.get_all(header::CONNECTION).iter().map(HeaderValue::as_bytes);
    let mut nominations = nominations(lines).peekable();
    nominations.peek()?;
    let names = nominations.filter_map(|option| HeaderName::from_bytes(option).ok());
    Some(names.filter(|name| !cannot_be_nominated(name) && headers.contains_key(name)).collect())
}

/// The options of `Connection` lines that nominate something.
pub fn nominations<'a>(lines: impl Iterator<Item = &'a [u8]>) -> impl Iterator<Item = &'a [u8]> {
    // A connection option is a token: quotes mean nothing here, so that no nomination hides in them.
    let options = lines.flat_map(|line| line.split(|&byte| byte == b',')).map(trim_ows);
    options.filter(|option| {
        !option.is_empty()
            && !option.eq_ignore_ascii_case(b"keep-alive")
            && !option.eq_ignore_ascii_case(b"close")
    })
}

/// Pieces of a value between separators outside quoted strings: trimmed, never empty.
#[derive(Clone, Debug)]
pub struct Pieces<'a> {
    rest: &'a [u8],
    separator: u8,
    /// Whether a quote may still open a quoted string. Once one was found that never closes, no later
    /// one does: to close, it would have had to close the earlier. So a hostile value costs one scan
    /// and not one per quote.
    quotes: bool,
}

impl<'a> Pieces<'a> {
    const fn new(text: &'a [u8], separator: u8) -> Self {
        Self { rest: text, separator, quotes: true }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = self.end_of_piece();
            let (piece, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            let piece = trim_ows(piece);
            if !piece.is_empty() {
                return Some(piece);
            }
        }
        None
    }
}

impl Pieces<'_> {
    /// Offset of the next separator outside quotes, or the length of what is left.
    fn end_of_piece(&mut self) -> usize {
        let mut from = 0;
        while let Some(found) =
            self.rest.get(from..).and_then(|tail| memchr::memchr2(b'"', self.separator, tail))
        {
            let at = from + found;
            if self.rest.get(at) == Some(&self.separator) {
                return at;
            }
            let end = if self.quotes { self.rest.get(at..).and_then(quoted_end) } else { None };
            self.quotes = end.is_some();
            from = at + end.unwrap_or(1);
        }
        self.rest.len()
    }
}

/// Length of the quoted string that `text` begins with, quotes included; `None` when it begins with
/// none or never closes.
fn quoted_end(text: &[u8]) -> Option<usize> {
    if text.first() != Some(&b'"') {
        return None;
    }
    let mut at = 1;
    loop {
        let found = at + memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("name");
            headers.append(name, HeaderValue::from_str(value).expect("value"));
        }
        headers
    }

    fn list(line: &str) -> Vec<String> {
        split_list(line.as_bytes()).map(|m| String::from_utf8_lossy(m).into_owned()).collect()
    }

    #[test]
    fn rfc9110_5_6_1_lists() {
        for (line, expected) in [
            ("", &[][..]),
            (" , ,\t,", &[]),
            ("a", &["a"]),
            ("a,b", &["a", "b"]),
            (" a ,\tb\t", &["a", "b"]),
            (",a,,b,", &["a", "b"]),
            ("a b, c", &["a b", "c"]),
        ] {
            assert_eq!(list(line), expected, "{line:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_4_quoted_strings() {
        for (line, expected) in [
            (r#"a="b, c", d"#, &[r#"a="b, c""#, "d"][..]),
            (r#""\", x", y"#, &[r#""\", x""#, "y"]),
            (r#""\\", y"#, &[r#""\\""#, "y"]),
            // Never closed: the quote is an ordinary byte, and nothing hides behind it.
            (r#"a="b, no-store"#, &[r#"a="b"#, "no-store"]),
            (r#"a="b, c\"#, &[r#"a="b"#, r"c\"]),
            (r#"a="b\", no-store"#, &[r#"a="b\""#, "no-store"]),
            (r#"a="", b"#, &[r#"a="""#, "b"]),
        ] {
            assert_eq!(list(line), expected, "{line:?}");
        }
        for (text, expected) in [
            (r#""""#, Some("")),
            (r#""a b""#, Some("a b")),
            (r#""a\"b\\c\d""#, Some(r#"a"b\cd"#)),
            (r#"""#, None),
            (r#""a"#, None),
            (r#""a\""#, None),
            (r#""a" "#, None),
            (r#""a"b"#, None),
            ("a", None),
            ("", None),
        ] {
            let plain = unquote(text.as_bytes()).map(|t| String::from_utf8_lossy(&t).into_owned());
            assert_eq!(plain.as_deref(), expected, "{text:?}");
        }
        for (line, closed) in
            [("", true), ("a", true), (r#""""#, true), (r#"a="b" "c"#, false), (r#""\""#, false)]
        {
            assert_eq!(quotes_are_closed(line.as_bytes()), closed, "{line:?}");
        }
    }

    #[test]
    fn rfc9110_5_6_2_tokens() {
        for (text, token) in
            [("a", true), ("*", true), ("a-b_c.d!", true), ("", false), ("a b", false), ("a;b", false)]
        {
            assert_eq!(is_token(text.as_bytes()), token, "{text:?}");
        }
        assert!(!is_token(b"\xc3\xa9"));
    }

    #[test]
    fn rfc9110_5_6_6_parameters() {
        let read = |member: &str| {
            let (value, rest) = parameters(member.as_bytes());
            let text = |t: &[u8]| String::from_utf8_lossy(t).into_owned();
            (text(value), rest.map(|(n, v)| (text(n), text(v))).collect::<Vec<_>>())
        };
        let pairs = |p: &[(&str, &str)]| {
            p.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect::<Vec<_>>()
        };
        for (member, value, expected) in [
            ("gzip", "gzip", &[][..]),
            ("gzip;q=0.5", "gzip", &[("q", "0.5")]),
            ("gzip ; q=0.5 ;; x", "gzip", &[("q", "0.5"), ("x", "")]),
            (r#"a;b="c;d";e=f"#, "a", &[("b", r#""c;d""#), ("e", "f")]),
            (";q=1", "", &[("q", "1")]),
            ("", "", &[]),
        ] {
            assert_eq!(read(member), (value.to_owned(), pairs(expected)), "{member:?}");
        }
    }

    #[test]
    fn lists_span_lines() {
        let headers = map(&[("vary", "Accept, "), ("vary", ""), ("vary", " *")]);
        assert_eq!(members(&headers, &header::VARY).collect::<Vec<_>>(), [&b"Accept"[..], b"*"]);
        assert!(has_token(&headers, &header::VARY, "ACCEPT"));
        assert!(!has_token(&headers, &header::VARY, "Accept-Language"));
        assert_eq!(sole(&headers, &header::VARY), None);
        assert_eq!(sole(&map(&[("age", "1")]), &header::AGE).map(HeaderValue::as_bytes), Some(&b"1"[..]));
    }

    #[test]
    fn numbers_saturate() {
        assert_eq!(digits(b"0042"), Some(42));
        assert_eq!(digits(b"99999999999999999999999999"), Some(u64::MAX));
        for bad in [&b""[..], b"-1", b"+1", b"1.0", b" 1", b"1 ", b"0x1", b"1e3"] {
            assert_eq!(digits(bad), None);
        }
    }

    #[test]
    fn rfc9111_3_1_never_stored() {
        let mut headers = map(&[
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authenticate", "Basic"),
            ("proxy-authorization", "Basic x"),
            ("proxy-authentication-info", "x"),
            ("x-kept", "1"),
        ]);
        remove_hop_by_hop(&mut headers);
        assert_eq!(headers, map(&[("x-kept", "1")]));
        assert!(!is_hop_by_hop(&header::CONTENT_LENGTH));
    }

    #[test]
    fn rfc9110_7_6_1_nominations() {
        for (connection, kept) in [
            (&["close"][..], "a b c"),
            (&["keep-alive, x-a"], "b c"),
            (&["X-A", ",x-B ,,"], "c"),
            (&["close, \"x, x-a\""], "a b c"),
            (&["\"q, x-a"], "b c"),
            (&["x-a, not a name, x-c"], "b"),
            (&[""], "a b c"),
            (&["x-missing"], "a b c"),
        ] {
            let mut headers = map(&[("x-a", "1"), ("x-b", "2"), ("x-b", "3"), ("x-c", "4")]);
            for line in connection {
                headers.append(header::CONNECTION, HeaderValue::from_static(line));
            }
            remove_hop_by_hop(&mut headers);
            let mut left: Vec<_> = headers.keys().filter_map(|n| n.as_str().strip_prefix("x-")).collect();
            left.sort_unstable();
            assert_eq!(left.join(" "), kept, "{connection:?}");
            assert!(!headers.contains_key(header::CONNECTION));
        }
    }

    #[test]
    fn what_cannot_be_nominated() {
        let refused = [
            "host",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "authorization",
            "cookie",
            "set-cookie",
            "cache-control",
            "cdn-cache-control",
            "forebay-cache-control",
            "pragma",
            "vary",
            "age",
            "date",
            "expires",
            "etag",
            "last-modified",
            "content-length",
            "content-type",
            "content-encoding",
            "content-range",
            "content-location",
            "cache-status",
            "www-authenticate",
        ];
        for name in refused {
            let mut headers = map(&[(name, "1"), ("connection", &name.to_ascii_uppercase())]);
            remove_hop_by_hop(&mut headers);
            assert_eq!(headers, map(&[(name, "1")]));
        }
        for name in ["x-trace", "range", "if-none-match", "accept-encoding", "http2-settings", "user-agent"] {
            let mut headers = map(&[(name, "1"), ("connection", name)]);
            remove_hop_by_hop(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn splitting_is_total_and_loses_only_separators(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let pieces: Vec<_> = split_list(&line).collect();
            for piece in &pieces {
                prop_assert!(!piece.is_empty());
                prop_assert_eq!(trim_ows(piece), *piece);
            }
            let strip = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b" \t,".contains(b)).collect::<Vec<_>>();
            prop_assert_eq!(strip(&pieces.concat()), strip(&line));
            let _ = quotes_are_closed(&line);
            let _ = unquote(&line);
            prop_assert!(parameters(&line).1.count() <= line.len());
        }

        /// That an unclosed quote stands for all later ones changes no boundary.
        #[test]
        fn quotes_are_tried_once(line in "[\"\\\\, a]{0,40}") {
            let line = line.as_bytes();
            let (mut expected, mut start, mut at) = (Vec::new(), 0, 0);
            while at <= line.len() {
                if matches!(line.get(at), None | Some(b',')) {
                    expected.push(trim_ows(&line[start..at]));
                    start = at + 1;
                }
                at += line.get(at..).and_then(quoted_end).unwrap_or(1);
            }
            expected.retain(|piece| !piece.is_empty());
            prop_assert_eq!(split_list(line).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn quoting_is_undone(text in "[ -~]{0,40}") {
            let quoted = format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
            let plain = unquote(quoted.as_bytes());
            prop_assert_eq!(plain.as_deref(), Some(text.as_bytes()));
            prop_assert_eq!(split_list(quoted.as_bytes()).count(), 1);
        }

        #[test]
        fn nothing_nominated_survives(options in proptest::collection::vec("[a-z]{1,3}", 0..6)) {
            let mut headers = map(&[("aa", "1"), ("b", "2"), ("ccc", "3"), ("host", "h")]);
            headers.insert(header::CONNECTION, HeaderValue::from_str(&options.join(", ")).expect("value"));
            remove_hop_by_hop(&mut headers);
            for option in &options {
                prop_assert!(!headers.contains_key(option.as_str()));
            }
            prop_assert!(headers.contains_key(header::HOST));
        }
    }
}
