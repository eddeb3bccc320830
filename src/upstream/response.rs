//! The head of an answer, made fit for clients and for stores.
//!
//! Decides: which of an answer's fields leave this hop (RFC 9110 7.6.1). Never touches: bodies, caching,
//! tag fields; or whether an answer may be read at all (that is `wire`'s). Pure.

use std::collections::HashSet;

use http::response::{Parts, Response};
use http::{StatusCode, Version};

use super::request::Via;
use crate::semantics::fields;
use crate::wire::FieldLines;

/// The head of an answer.
#[derive(Clone, Debug)]
pub struct Head {
    /// Its status.
    pub status: StatusCode,
    /// The version that the origin speaks.
    pub version: Version,
    /// Its fields: as they came, or as [`Self::clean`] has left them.
    pub fields: FieldLines,
}

impl Head {
    /// Removes what ends at this hop and adds our element to `Via`.
    ///
    /// Left as they came: `Content-Length` (one number of it; for the answer to a HEAD or a 304 it says
    /// something about the representation), and `Trailer`, which the server side needs to pass trailers on.
    /// A 101 keeps `Upgrade`, and its `Connection` is `upgrade` again.
    pub fn clean(&mut self, via: &Via) {
        let switches = self.status == StatusCode::SWITCHING_PROTOCOLS;
        // RFC 9110 8.6: not in these.
        let has_length = !self.status.is_informational() && self.status != StatusCode::NO_CONTENT;
        let nominated = nominated(&self.fields);
        let (mut is_stated, mut listed, mut upgrades) = (false, None, false);
        self.fields.retain(|name, value| match name {
            // One number, be it repeated on several lines or in a list (RFC 9110 8.6).
            b"content-length" if !has_length || is_stated => false,
            b"content-length" => {
                is_stated = true;
                let first = value.split(|byte| *byte == b',').next().unwrap_or_default();
                let is_list = first.len() < value.len();
                listed = is_list.then(|| fields::trim_ows(first).to_vec());
                !is_list
            }
            b"trailer" => true,
            b"upgrade" => {
                upgrades |= switches;
                switches
            }
            _ => {
                !fields::is_hop_by_hop_bytes(name)
                    && nominated.as_ref().is_none_or(|nominated| !nominated.contains(name))
            }
        });
        if let Some(length) = listed {
            self.fields.push(b"content-length", &length);
        }
        if upgrades {
            self.fields.push(b"connection", b"upgrade");
        }
        self.fields.push(b"via", via.element(self.version).as_bytes());
    }

    /// Its fields in a map, to be looked at; `None` where no map takes them, which the wire does not let through.
    #[must_use]
    pub fn into_parts(self) -> Option<Parts> {
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.status = self.status;
        parts.version = self.version;
        parts.headers = self.fields.into_map()?;
        Some(parts)
    }
}

/// The names that `Connection` nominates, in lower case, less those that it cannot: hardly ever any.
fn nominated(lines: &FieldLines) -> Option<HashSet<Vec<u8>>> {
    let mut nominations = fields::nominations(lines.values(b"connection")).peekable();
    nominations.peek()?;
    // Of however many it names, only those that are there are kept.
    let there: HashSet<&[u8]> = lines.iter().map(|(name, _)| name).collect();
    let names = nominations.map(<[u8]>::to_ascii_lowercase);
    let names = names.filter(|name| there.contains(&name[..]) && !fields::cannot_be_nominated_bytes(name));
    Some(names.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    /// The lines of a head of these lines once it is cleaned, in their order.
    fn cleaned(status: u16, version: Version, lines: &[(&str, &str)]) -> Vec<String> {
        let mut fields = FieldLines::default();
        lines.iter().for_each(|(name, value)| fields.push(name.as_bytes(), value.as_bytes()));
        let status = StatusCode::from_u16(status).expect("status");
        let mut head = Head { status, version, fields };
        head.clean(&Via::new("forebay").expect("a token"));
        let headers = head.clone().into_parts().expect("good lines").headers;
        assert_eq!(headers.len(), head.fields.iter().count());
        let text = |bytes| String::from_utf8(Vec::from(bytes)).expect("text");
        head.fields.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    #[test]
    fn rfc9110_7_6_1_what_leaves_this_hop() {
        for (title, status, lines, expected) in [
            (
                "hop-by-hop",
                200,
                &[("Connection", "x-a, close"), ("x-a", "1"), ("keep-alive", "5"), ("x-b", "2")][..],
                &["x-b: 2"][..],
            ),
            (
                "nominated on several lines, in any case",
                200,
                &[("connection", "X-A"), ("x-a", "1"), ("x-b", "2"), ("x-c", "3"), ("connection", "y, x-B")],
                &["x-c: 3"],
            ),
            (
                "what cannot be nominated",
                200,
                &[
                    ("connection", "set-cookie, cache-control, content-length, content-type, via, trailer"),
                    ("set-cookie", "a"),
                    ("cache-control", "no-store"),
                    ("content-length", "5"),
                    ("trailer", "x-sum"),
                ],
                &["set-cookie: a", "cache-control: no-store", "content-length: 5", "trailer: x-sum"],
            ),
            ("a quote hides no nomination", 200, &[("connection", "\"x-a\", x-a"), ("x-a", "1")], &[]),
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
            (
                "length stays, out of a list",
                200,
                &[("content-length", "5 , 5"), ("a", "b"), ("content-length", "5")],
                &["a: b", "content-length: 5"],
            ),
            ("length of a 304", 304, &[("content-length", "5")], &["content-length: 5"]),
            ("no length in a 204", 204, &[("content-length", "5")], &[]),
            ("no length in a 103", 103, &[("content-length", "5"), ("link", "</a>")], &["link: </a>"]),
            ("upgrade only in a 101", 200, &[("connection", "upgrade"), ("upgrade", "h2")], &[]),
            (
                "a 101",
                101,
                &[("connection", "Upgrade"), ("upgrade", "websocket"), ("upgrade", "x")],
                &["upgrade: websocket", "upgrade: x", "connection: upgrade"],
            ),
            ("a 101 without", 101, &[("connection", "upgrade"), ("x-a", "1")], &["x-a: 1"]),
            (
                "several stay several, in their order",
                200,
                &[("set-cookie", "b"), ("x", ""), ("Set-Cookie", "a"), ("via", "1.1 other")],
                &["set-cookie: b", "x: ", "set-cookie: a", "via: 1.1 other"],
            ),
        ] {
            for (version, ours) in
                [(Version::HTTP_11, "via: 1.1 forebay"), (Version::HTTP_10, "via: 1.0 forebay")]
            {
                let expected = [&strings(expected)[..], &strings(&[ours])].concat();
                assert_eq!(cleaned(status, version, lines), expected, "{title}");
            }
        }
    }
}
