//! The head of an answer, made fit for clients and for stores.
//!
//! Decides: which of an answer's fields leave this hop (RFC 9110 7.6.1). Never touches: bodies, caching,
//! tag fields; or whether an answer may be read at all (that is `wire`'s). Pure.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, response::Parts};

use super::request::Via;
use crate::semantics::fields;

/// Removes what ends at this hop and appends our element to `Via`, in place.
///
/// Left as they came: `Content-Length` (one number of it; for the answer to a HEAD or a 304 it says
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
    } else if let Some(length) = repeated_length(&head.headers) {
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

/// The one number that a repeated Content-Length is, be it on several lines or in a list (RFC 9110 8.6);
/// `None` where nothing is repeated.
fn repeated_length(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut all = headers.get_all(header::CONTENT_LENGTH).iter();
    let first = all.next()?;
    match first.as_bytes().split(|byte| *byte == b',').next() {
        Some(number) if number.len() < first.len() => HeaderValue::from_bytes(fields::trim_ows(number)).ok(),
        _ => all.next().map(|_| first.clone()),
    }
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
            ("length stays, out of a list", 200, &[("content-length", "5 , 5")], &["content-length: 5"]),
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
