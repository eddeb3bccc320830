//! Fields of a map, as text and out of text; and what else heads and trailers are written with.
//!
//! Decides: which fields may be trailers. Which lines are good was decided before ([`super::grammar`]).

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, header};

use super::grammar::trim;
use super::head::MAX_FIELDS;

/// Adds a field whose `value` is a part of `bytes`. `None` where it is no field.
pub(crate) fn append(fields: &mut HeaderMap, bytes: &Bytes, name: &[u8], value: &[u8]) -> Option<()> {
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_maybe_shared(bytes.slice_ref(value)).ok()?;
    fields.try_append(name, value).ok().map(drop)
}

/// Writes a status line (RFC 9112 4), of HTTP/1.1 whatever the request was of (RFC 9110 2.5).
pub(crate) fn put_status_line(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Writes a field line (RFC 9112 5).
pub(crate) fn put(out: &mut Vec<u8>, name: &HeaderName, value: &[u8]) {
    out.extend_from_slice(name.as_str().as_bytes());
    // Piece by piece: what has a length that is known is no call.
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Writes every line of `fields`.
pub(crate) fn put_all(out: &mut Vec<u8>, fields: &HeaderMap) {
    for (name, value) in fields {
        put(out, name, value.as_bytes());
    }
}

/// Writes the size line of a chunk (RFC 9112 7.1); its content and a CR LF follow. An empty chunk would end
/// the content: there is no such chunk.
pub(crate) fn put_chunk_size(out: &mut Vec<u8>, size: usize) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(DIGITS[(size >> (digit * 4)) & 15]);
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the end of chunked content (RFC 9112 7.1.2): of the trailer fields those that `named` (the fields
/// of the head) announce in `Trailer`, and that may be trailers at all (RFC 9110 6.5.1).
pub(crate) fn put_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>, named: &[HeaderName]) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if named.contains(name) && may_trail(name) {
            put(out, name, value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The names that lines of `Trailer` announce (RFC 9110 6.6.2), as far as anyone needs: more than there may be
/// trailer fields mean nothing.
pub(crate) fn announced<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<HeaderName> {
    let members = lines.flat_map(|line| line.split(|byte| *byte == b','));
    let names = members.filter_map(|member| HeaderName::from_bytes(trim(member)).ok());
    names.take(usize::from(MAX_FIELDS)).collect()
}

/// RFC 9110 6.5.1: not what frames, routes, authenticates or says how content is to be read.
fn may_trail(name: &HeaderName) -> bool {
    use header as h;
    ![
        h::AUTHORIZATION,
        h::CACHE_CONTROL,
        h::CONNECTION,
        h::CONTENT_ENCODING,
        h::CONTENT_LENGTH,
        h::CONTENT_RANGE,
        h::CONTENT_TYPE,
        h::HOST,
        h::MAX_FORWARDS,
        h::SET_COOKIE,
        h::TE,
        h::TRAILER,
        h::TRANSFER_ENCODING,
    ]
    .contains(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9112_7_1_sizes_are_hexadecimal() {
        for size in [1, 9, 10, 15, 16, 255, 256, 4096, 0xABC_DEF0, usize::MAX] {
            let mut out = Vec::new();
            put_chunk_size(&mut out, size);
            assert_eq!(out, format!("{size:X}\r\n").as_bytes());
        }
    }

    #[test]
    fn rfc9110_6_5_1_trailers_that_were_announced() {
        let head = [&b"Sum, content-length"[..], b"x-b"];
        let mut trailers = HeaderMap::new();
        for name in ["sum", "content-length", "x-b", "x-c"] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        let mut out = Vec::new();
        put_last_chunk(&mut out, Some(&trailers), &announced(head.into_iter()));
        assert_eq!(out, b"0\r\nsum: 1\r\nx-b: 1\r\n\r\n");
        out.clear();
        put_last_chunk(&mut out, None, &[]);
        assert_eq!(out, b"0\r\n\r\n");
    }
}
