//! Spellings of one URL: what a purge of it reaches.
//!
//! Decides: which authorities and targets name the same resource (RFC 9110 4.2.3, RFC 3986 6.2.2 and 6.2.3).
//! Never touches: keys, which stay the bytes that are forwarded. Two spellings are two stored responses, and
//! whoever purges or changes the resource means both: what is taken for the same and is not costs a
//! needless miss, never a stale answer.
//!
//! TLS towards clients ends before forebay, so that the default ports of both schemes are left out.

use std::borrow::Cow;

/// The authority in lower case and without a default port.
#[must_use]
pub fn authority(authority: &str) -> Cow<'_, str> {
    let bare = authority.get(..bare(authority.as_bytes()).len()).unwrap_or(authority);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// The authority without a default port, as bytes.
#[must_use]
pub fn bare(authority: &[u8]) -> &[u8] {
    let ports: [&[u8]; 3] = [b":80", b":443", b":"];
    ports.iter().find_map(|port| authority.strip_suffix(*port)).unwrap_or(authority)
}

/// The host of an authority, without its port.
#[must_use]
pub fn host(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}

/// Whether a path has segments `.` or `..` (RFC 3986 3.3), encoded or not, or would have for an origin that
/// takes `%2F`, `\` or `%5C` for a slash, `%u002E` for a dot, or leaves out what stands behind a `;`.
#[must_use]
pub fn has_dot_segments(path: &str) -> bool {
    let mut rest = path.as_bytes();
    if memchr::memchr3(b'.', b'%', b'\\', rest).is_none() {
        return false;
    }
    // Most that have a dot have it in a name.
    let begins_a_segment = |at: usize| at.checked_sub(1).and_then(|at| rest.get(at)) == Some(&b'/');
    let is_plain = memchr::memchr2(b'%', b'\\', rest).is_none();
    if is_plain && !memchr::memchr_iter(b'.', rest).any(begins_a_segment) {
        return false;
    }
    // How many dots the segment consists of, while it consists of dots alone.
    let mut dots = Some(0_usize);
    let is_dots = |dots: Option<usize>| matches!(dots, Some(1 | 2));
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'%', [b'u' | b'U', b'0', b'0', high, low, after @ ..] | [high, low, after @ ..]) => {
                match (high, low.to_ascii_lowercase()) {
                    (b'2', b'e') => (b'.', after),
                    (b'2', b'f') | (b'5', b'c') => (b'/', after),
                    _ => (b'%', after),
                }
            }
            (b'\\', after) => (b'/', after),
            (byte, after) => (*byte, after),
        };
        rest = after;
        dots = match byte {
            b'/' | b';' if is_dots(dots) => return true,
            b'/' => Some(0),
            b'.' => dots.map(|dots| dots + 1),
            _ => None,
        };
    }
    is_dots(dots)
}

/// The path and query with percent-encodings in capitals, and without those of unreserved characters.
#[must_use]
pub fn target(target: &str) -> Cow<'_, str> {
    if !target.contains('%') {
        return Cow::Borrowed(target);
    }
    let mut written = String::with_capacity(target.len());
    let mut pieces = target.split('%');
    written.push_str(pieces.next().unwrap_or_default());
    for piece in pieces {
        match piece.split_at_checked(2).map(|(digits, rest)| (u8::from_str_radix(digits, 16), digits, rest)) {
            Some((Ok(byte), digits, rest)) if digits.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
                    written.push(char::from(byte));
                } else {
                    written.push('%');
                    written.push_str(&digits.to_ascii_uppercase());
                }
                written.push_str(rest);
            }
            _ => {
                written.push('%');
                written.push_str(piece);
            }
        }
    }
    Cow::Owned(written)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc_3986_3_3_dot_segments_in_every_dress() {
        for path in [
            "/..",
            "/.",
            "/../",
            "/a/./b",
            "/a/../b",
            "/a/..",
            "/%2e%2E/b",
            "/a/.%2e",
            "/%2e",
            "/a%2f..%2Fb",
            "/a/..%2fb",
            "/a\\..\\b",
            "/a%5c..%5Cb",
            "/..%5c",
            "/a/..;/b",
            "/a/..;x=1/b",
            "/a/.;/b",
            "/%2e%2e;/b",
            "/a/..;",
            "/%u002e%U002E/b",
            "/a%u002f..",
        ] {
            assert!(has_dot_segments(path), "{path}");
        }
        for path in [
            "/",
            "",
            "*",
            "/a",
            "/a.b",
            "/.well-known/x",
            "/..a",
            "/a..",
            "/a/...",
            "/%2e%2e%2e",
            "/a%2fb",
            "/%2",
            "/%",
            "/a.%2fb",
            "/.%2a",
            "/%25%32%65",
            "/a;b/c",
            "/a..;/b",
            "/...;/b",
            "/;..",
            "/%u0041/.a",
            "/%u00",
            "/a%2e%2eb/c",
        ] {
            assert!(!has_dot_segments(path), "{path}");
        }
    }

    #[test]
    fn rfc_9110_4_2_3_case_and_default_ports_do_not_tell_authorities_apart() {
        for (written, same) in [
            ("shop.example", "shop.example"),
            ("SHOP.Example", "shop.example"),
            ("shop.example:80", "shop.example"),
            ("Shop.example:443", "shop.example"),
            ("shop.example:", "shop.example"),
            ("shop.example:8080", "shop.example:8080"),
            ("[::1]:80", "[::1]"),
            ("[fe80::80]", "[fe80::80]"),
            ("", ""),
        ] {
            assert_eq!(authority(written), same, "{written}");
        }
    }

    #[test]
    fn a_host_has_no_port() {
        for (written, name) in [
            ("a:8080", "a"),
            ("a", "a"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("a:", "a"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(host(written), name, "{written}");
        }
    }

    #[test]
    fn rfc_3986_6_2_2_targets_are_told_apart_by_what_they_say() {
        for (written, same) in [
            ("/a?b=c", "/a?b=c"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/%41%7e%2f?%2D", "/A~%2F?-"),
            ("/100%", "/100%"),
            ("/%4", "/%4"),
            ("/%+1%zz%%41", "/%+1%zz%A"),
            ("/%é", "/%é"),
        ] {
            assert_eq!(target(written), same, "{written}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_stays_one_url(text in "(%|[0-9A-Fa-f]|é|/|\\?){0,24}") {
            let once = target(&text).into_owned();
            // Decoding may bring forth what looks like an encoding of its own, which is none.
            prop_assert!(once.len() <= text.len());
            prop_assert_eq!(target(&text.to_ascii_uppercase()).to_ascii_uppercase(), once.to_ascii_uppercase());
        }
    }
}
