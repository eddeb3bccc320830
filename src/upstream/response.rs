//! The head of an answer, made fit for clients and for stores.
//!
//! Decides: whether an answer's framing means one thing only (RFC 9112 6), and which of its fields
//! leave this hop (RFC 9110 7.6.1). Never touches: bodies, caching, tag fields. Pure.

use std::fmt;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version, response::Parts};

use super::request::Via;
use crate::semantics::fields;

/// Why an answer cannot be forwarded: it could be read in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingFault {
    /// `Content-Length` and `Transfer-Encoding` in one message (RFC 9112 6.1).
    BothFramings,
    /// A `Transfer-Encoding` other than one `chunked`, or any in HTTP/1.0.
    TransferEncoding,
    /// A `Content-Length` that is no number, or several that differ.
    ContentLength,
    /// A 101 to a request that did not ask for an upgrade (RFC 9110 15.2.2).
    UnaskedUpgrade,
}

impl fmt::Display for FramingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BothFramings => "both Content-Length and Transfer-Encoding",
            Self::TransferEncoding => "a Transfer-Encoding other than chunked",
            Self::ContentLength => "an invalid or contradictory Content-Length",
            Self::UnaskedUpgrade => "101 Switching Protocols that nobody asked for",
        })
    }
}

impl std::error::Error for FramingFault {}

/// Judges the framing fields of an answer (RFC 9112 6.1 to 6.3), stricter than the RFC has to be where
/// it lets a recipient repair.
///
/// # Errors
///
/// The first fault found.
pub fn check_framing(version: Version, headers: &HeaderMap) -> Result<(), FramingFault> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        let chunked = fields::trim_ows(coding.as_bytes()).eq_ignore_ascii_case(b"chunked");
        if !chunked || codings.next().is_some() || version == Version::HTTP_10 {
            return Err(FramingFault::TransferEncoding);
        }
        if headers.contains_key(header::CONTENT_LENGTH) {
            return Err(FramingFault::BothFramings);
        }
    }
    let mut length = None;
    for line in headers.get_all(header::CONTENT_LENGTH) {
        // Digits saturate: what does not fit is a length nobody sends, and compares as one.
        let number = fields::digits(line.as_bytes()).filter(|&n| n < u64::MAX);
        let number = number.ok_or(FramingFault::ContentLength)?;
        if length.replace(number).is_some_and(|before| before != number) {
            return Err(FramingFault::ContentLength);
        }
    }
    Ok(())
}

/// Removes what ends at this hop and appends our element to `Via`, in place.
///
/// Left as they came: `Content-Length` (one line of it; for the answer to a HEAD or a 304 it says
/// something about the representation), and `Trailer`, which the server side needs to pass trailers on.
/// A 101 keeps `Upgrade`, and its `Connection` is `upgrade` again.
pub fn clean(head: &mut Parts, via: &Via) {
    let upgrade: Vec<HeaderValue> = if head.status == StatusCode::SWITCHING_PROTOCOLS {
        lines(&head.headers, header::UPGRADE)
    } else {
        Vec::new()
    };
    let trailer = lines(&head.headers, header::TRAILER);
    fields::remove_hop_by_hop(&mut head.headers);
    if head.status.is_informational() || head.status == StatusCode::NO_CONTENT {
        // RFC 9110 8.6: not in these.
        head.headers.remove(header::CONTENT_LENGTH);
    } else if let Some(length) = repeated(&head.headers, &header::CONTENT_LENGTH) {
        head.headers.insert(header::CONTENT_LENGTH, length);
    }
    for line in trailer {
        head.headers.append(header::TRAILER, line);
    }
    if !upgrade.is_empty() {
        for line in upgrade {
            head.headers.append(header::UPGRADE, line);
        }
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
    via.append(&mut head.headers, head.version);
}

/// Removes from trailers what must not stand in them (RFC 9110 6.5.1): framing, routing, and what ends
/// at this hop.
pub fn clean_trailers(trailers: &mut HeaderMap) {
    fields::remove_hop_by_hop(trailers);
    for name in [header::CONTENT_LENGTH, header::HOST, header::SET_COOKIE, header::CACHE_CONTROL, header::AGE]
    {
        trailers.remove(name);
    }
}

fn lines(headers: &HeaderMap, name: HeaderName) -> Vec<HeaderValue> {
    headers.get_all(name).iter().cloned().collect()
}

/// The first line of a field that stands on several.
fn repeated(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?;
    all.next().map(|_| first.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).expect("name"),
                HeaderValue::from_str(value).expect("value"),
            );
        }
        fields
    }

    fn strings(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn rfc9112_6_framing() {
        use FramingFault::{BothFramings, ContentLength, TransferEncoding};
        const CL: &str = "content-length";
        const TE: &str = "transfer-encoding";
        for (lines, fault) in [
            (&[][..], None),
            (&[(CL, "0")], None),
            (&[(CL, "5"), (CL, "5")], None),
            (&[(CL, "5"), (CL, "6")], Some(ContentLength)),
            (&[(CL, "5, 5")], Some(ContentLength)),
            (&[(CL, "+5")], Some(ContentLength)),
            (&[(CL, "")], Some(ContentLength)),
            (&[(CL, "-0")], Some(ContentLength)),
            (&[(CL, "99999999999999999999999")], Some(ContentLength)),
            (&[(TE, "chunked")], None),
            (&[(TE, "Chunked ")], None),
            (&[(TE, "gzip, chunked")], Some(TransferEncoding)),
            (&[(TE, "chunked"), (TE, "chunked")], Some(TransferEncoding)),
            (&[(TE, "identity")], Some(TransferEncoding)),
            (&[(TE, "")], Some(TransferEncoding)),
            (&[(TE, "chunked"), (CL, "5")], Some(BothFramings)),
        ] {
            assert_eq!(check_framing(Version::HTTP_11, &map(lines)).err(), fault, "{lines:?}");
        }
        assert_eq!(check_framing(Version::HTTP_10, &map(&[(TE, "chunked")])), Err(TransferEncoding));
    }

    #[test]
    fn rfc9110_7_6_1_what_leaves_this_hop() {
        let via = Via::new("forebay").expect("a token");
        for (title, status, lines, expected) in [
            (
                "hop-by-hop",
                200,
                &[("connection", "x-a, close"), ("x-a", "1"), ("keep-alive", "5"), ("x-b", "2")][..],
                &["x-b: 2"][..],
            ),
            (
                "framing is ours",
                200,
                &[("transfer-encoding", "chunked"), ("trailer", "x-sum")],
                &["trailer: x-sum"],
            ),
            (
                "length stays, once",
                200,
                &[("content-length", "5"), ("content-length", "5")],
                &["content-length: 5"],
            ),
            ("length of a 304", 304, &[("content-length", "5")], &["content-length: 5"]),
            ("no length in a 204", 204, &[("content-length", "5")], &[]),
            ("upgrade only in a 101", 200, &[("connection", "upgrade"), ("upgrade", "h2")], &[]),
            (
                "a 101",
                101,
                &[("connection", "Upgrade"), ("upgrade", "websocket")],
                &["connection: upgrade", "upgrade: websocket"],
            ),
            (
                "several stay several",
                200,
                &[("set-cookie", "a"), ("set-cookie", "b")],
                &["set-cookie: a", "set-cookie: b"],
            ),
        ] {
            let (mut head, ()) = http::Response::new(()).into_parts();
            head.status = StatusCode::from_u16(status).expect("status");
            head.headers = map(lines);
            clean(&mut head, &via);
            let mut left: Vec<_> =
                head.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("text"))).collect();
            left.sort();
            let before = left.len();
            left.retain(|line| line != "via: 1.1 forebay");
            assert_eq!((left.as_slice(), before - left.len()), (&*strings(expected), 1), "{title}");
        }
    }

    #[test]
    fn rfc9110_6_5_1_trailers() {
        let mut trailers = map(&[
            ("x-sum", "1"),
            ("content-length", "5"),
            ("transfer-encoding", "chunked"),
            ("set-cookie", "a"),
            ("host", "h"),
        ]);
        clean_trailers(&mut trailers);
        assert_eq!(trailers, map(&[("x-sum", "1")]));
    }
}
