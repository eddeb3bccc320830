//! The head of an answer, written as it goes to a client.
//!
//! Decides: what of a map of fields is the message's own and what belongs to the hop (RFC 9112 6, RFC 9110
//! 7.6.1): framing and `Connection` are written by the connection alone. Never touches: which fields an answer
//! has.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Version};

use super::grammar::{self, is_value};
use super::{FieldLines, fields};

/// Room for the head of a usual answer.
const ROOM: usize = 640;

/// The head of an answer: status line and field lines, not yet ended.
#[derive(Debug)]
pub struct AnswerHead {
    status: StatusCode,
    text: Vec<u8>,
    is_dated: bool,
    /// What `Content-Length` says of content that is not sent: in answers to HEAD, and in 304.
    length: Option<u64>,
    /// The trailer fields that it announces.
    trailers: Vec<HeaderName>,
}

impl AnswerHead {
    /// A head without fields.
    #[must_use]
    pub fn new(status: StatusCode) -> Self {
        let mut text = Vec::with_capacity(ROOM);
        fields::put_status_line(&mut text, status);
        Self { status, text, is_dated: false, length: None, trailers: Vec::new() }
    }

    /// A head with these fields, less those that are the connection's to write.
    #[must_use]
    pub fn of(status: StatusCode, map: &HeaderMap) -> Self {
        Self::of_kept(status, map, |_| true)
    }

    /// The same with those of the fields alone that are to be kept.
    #[must_use]
    pub fn of_kept(status: StatusCode, map: &HeaderMap, is_kept: impl Fn(&HeaderName) -> bool) -> Self {
        let mut head = Self::new(status);
        for (name, value) in map {
            match *name {
                _ if !is_kept(name) => {}
                header::TRAILER => {
                    if head.trailers.is_empty() {
                        let lines = map.get_all(header::TRAILER).iter().map(HeaderValue::as_bytes);
                        head.trailers = fields::announced(lines);
                    }
                    head.line(name, value);
                }
                header::CONTENT_LENGTH => head.stated_length(value.as_bytes()),
                header::TRANSFER_ENCODING => {}
                // Of a 101 it is the answer to what was asked for (RFC 9110 7.8).
                header::CONNECTION if status != StatusCode::SWITCHING_PROTOCOLS => {}
                _ => head.line(name, value),
            }
        }
        head
    }

    /// The same of lines as they came.
    #[must_use]
    pub fn of_lines(status: StatusCode, lines: &FieldLines, is_kept: impl Fn(&[u8]) -> bool) -> Self {
        let mut head = Self::new(status);
        let Self { text, is_dated, .. } = &mut head;
        let (mut length, mut has_trailers) = (None, false);
        let keep = |name: &[u8], value: &[u8]| match name {
            _ if !is_kept(name) => false,
            b"content-length" => {
                length = grammar::length(value);
                false
            }
            b"transfer-encoding" => false,
            b"connection" => status == StatusCode::SWITCHING_PROTOCOLS,
            b"date" => {
                *is_dated = true;
                true
            }
            b"trailer" => {
                has_trailers = true;
                true
            }
            _ => true,
        };
        lines.write(keep, |piece| text.extend_from_slice(piece));
        head.length = length;
        if has_trailers {
            head.trailers = fields::announced(lines.values(b"trailer"));
        }
        head
    }

    /// Adds a field line, which is neither framing nor `Connection`.
    pub fn line(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.is_dated |= *name == header::DATE;
        fields::put(&mut self.text, name, value.as_bytes());
    }

    /// Adds a field line whose value is `text`; none where that is no field value.
    pub fn text_line(&mut self, name: &HeaderName, text: &[u8]) {
        if is_value(text) {
            fields::put(&mut self.text, name, text);
        }
    }

    /// Adds a field line whose value is a number.
    pub fn number_line(&mut self, name: &HeaderName, number: u64) {
        fields::put(&mut self.text, name, itoa::Buffer::new().format(number).as_bytes());
    }

    /// Adds a piece of field lines that were written before, each with its CR LF; whether `Date` is among them.
    pub fn text(&mut self, piece: &[u8], is_dated: bool) {
        self.is_dated |= is_dated;
        self.text.extend_from_slice(piece);
    }

    /// Says how long the content is that is not sent (RFC 9110 8.6).
    pub fn unsent_length(&mut self, length: u64) {
        self.length = Some(length);
    }

    /// The same, as it was stated.
    pub fn stated_length(&mut self, length: &[u8]) {
        self.length = grammar::length(length);
    }

    /// The status.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.status
    }

    /// Ends it: `now` is what `Date` says where nothing did (RFC 9110 6.6.1).
    pub(crate) fn end(self, hop: &Hop, now: impl FnOnce() -> HeaderValue) -> Ended {
        let Self { status, mut text, is_dated, length, trailers } = self;
        if hop.version == Version::HTTP_10
            && let Some(minor) = text.get_mut("HTTP/1.".len())
        {
            *minor = b'0';
        }
        let stated = match hop.framing {
            AnswerFraming::Length(length) => Some(length),
            // RFC 9110 8.6: not in a 1xx or 204.
            AnswerFraming::None if !status.is_informational() && status != 204 => length,
            AnswerFraming::None | AnswerFraming::Chunked | AnswerFraming::UntilClose => None,
        };
        if let Some(length) = stated {
            put(&mut text, b"content-length: ", itoa::Buffer::new().format(length).as_bytes());
        } else if hop.framing == AnswerFraming::Chunked {
            put(&mut text, b"transfer-encoding: chunked", b"");
        }
        match hop.connection {
            _ if status == StatusCode::SWITCHING_PROTOCOLS => {}
            Keep::Close => put(&mut text, b"connection: close", b""),
            Keep::SaidAlive => put(&mut text, b"connection: keep-alive", b""),
            Keep::Alive => {}
        }
        if !is_dated && !status.is_informational() {
            put(&mut text, b"date: ", now().as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        Ended { text, trailers }
    }
}

/// A head that is whole.
#[derive(Debug)]
pub(crate) struct Ended {
    /// All of it.
    pub(crate) text: Vec<u8>,
    /// The trailer fields that it announces.
    pub(crate) trailers: Vec<HeaderName>,
}

/// What a connection adds to a head.
#[derive(Debug)]
pub(crate) struct Hop {
    /// The version of the request.
    pub(crate) version: Version,
    pub(crate) framing: AnswerFraming,
    pub(crate) connection: Keep,
}

/// How the content of an answer is framed (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnswerFraming {
    /// None follows the head.
    None,
    /// By its length.
    Length(u64),
    /// In chunks.
    Chunked,
    /// By the end of the connection: HTTP/1.0 knows no chunks.
    UntilClose,
}

/// What becomes of the connection after an answer (RFC 9112 9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// It stays, as is usual in HTTP/1.1.
    Alive,
    /// It stays, and HTTP/1.0 must be told.
    SaidAlive,
    /// It ends.
    Close,
}

impl Keep {
    /// What holds where nothing is said.
    pub(crate) const fn usual(version: Version) -> Self {
        match version {
            Version::HTTP_10 => Self::Close,
            _ => Self::Alive,
        }
    }
}

fn put(text: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    text.extend_from_slice(name);
    text.extend_from_slice(value);
    text.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines of a head with `end`ed hop fields, and the trailer fields that it announces.
    fn ended(head: AnswerHead, framing: AnswerFraming) -> (Vec<String>, Vec<HeaderName>) {
        let hop = Hop { version: Version::HTTP_11, framing, connection: Keep::Alive };
        let Ended { text, trailers } = head.end(&hop, || HeaderValue::from_static("now"));
        let text = String::from_utf8(text).expect("text");
        let mut lines: Vec<_> = text.split("\r\n").map(str::to_owned).collect();
        // A map keeps together what has one name.
        lines.sort();
        (lines, trailers)
    }

    proptest! {
        /// A head that is written from lines is the one that is written from the map of them.
        #[test]
        fn lines_and_their_map_are_written_alike(
            lines in proptest::collection::vec(
                (
                    proptest::sample::select(vec![
                        "date", "Date", "content-length", "trailer", "Transfer-Encoding", "connection", "x-a",
                        "X-B", "set-cookie", "hidden",
                    ]),
                    proptest::sample::select(vec!["7", "a, b", "", "x-sum"]),
                ),
                0..8,
            ),
            status in proptest::sample::select(vec![200, 204, 304, 101, 404]),
            framing in proptest::sample::select(vec![
                AnswerFraming::None, AnswerFraming::Length(5), AnswerFraming::Chunked, AnswerFraming::UntilClose,
            ]),
        ) {
            // One length, as what was cleaned has.
            let mut lengths = 0;
            let lines: Vec<_> = lines.into_iter().filter(|(name, _)| {
                lengths += u8::from(*name == "content-length");
                *name != "content-length" || lengths == 1
            }).collect();
            let text: String = lines.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let status = StatusCode::from_u16(status).expect("a status");
            let as_lines = FieldLines::read(text.as_bytes()).expect("good lines");
            let of_lines = AnswerHead::of_lines(status, &as_lines, |name| name != b"hidden");
            let map = as_lines.into_map().expect("good lines");
            let of_map = AnswerHead::of_kept(status, &map, |name| *name != "hidden");
            prop_assert_eq!(ended(of_lines, framing), ended(of_map, framing));
        }
    }

    fn written(status: u16, fields: &[(&'static str, &'static str)], hop: &Hop) -> String {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        let status = StatusCode::from_u16(status).expect("a status");
        let head = AnswerHead::of(status, &map).end(hop, || HeaderValue::from_static("today"));
        String::from_utf8(head.text).expect("text")
    }

    #[test]
    fn rfc9112_6_framing_is_the_connections() {
        let hop = |framing, connection| Hop { version: Version::HTTP_11, framing, connection };
        let stated =
            [("content-length", "7"), ("transfer-encoding", "gzip"), ("connection", "x"), ("a", "b")];
        for (status, framing, connection, end) in [
            (200, AnswerFraming::Length(5), Keep::Alive, "content-length: 5\r\ndate: today\r\n\r\n"),
            (200, AnswerFraming::Chunked, Keep::Alive, "transfer-encoding: chunked\r\ndate: today\r\n\r\n"),
            (200, AnswerFraming::UntilClose, Keep::Close, "connection: close\r\ndate: today\r\n\r\n"),
            (
                200,
                AnswerFraming::None,
                Keep::SaidAlive,
                "content-length: 7\r\nconnection: keep-alive\r\ndate: today\r\n\r\n",
            ),
            (304, AnswerFraming::None, Keep::Alive, "content-length: 7\r\ndate: today\r\n\r\n"),
            (204, AnswerFraming::None, Keep::Alive, "date: today\r\n\r\n"),
        ] {
            let text = written(status, &stated, &hop(framing, connection));
            let lines = text.split_once("\r\n").expect("a status line").1;
            assert_eq!(lines, format!("a: b\r\n{end}"), "{status} {framing:?}");
        }
        let dated = written(200, &[("date", "then")], &hop(AnswerFraming::Length(0), Keep::Alive));
        assert_eq!(dated, "HTTP/1.1 200 OK\r\ndate: then\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn rfc9110_7_8_a_switch_keeps_its_connection_field() {
        let hop = Hop { version: Version::HTTP_11, framing: AnswerFraming::None, connection: Keep::Close };
        let text = written(101, &[("connection", "upgrade"), ("upgrade", "x")], &hop);
        assert_eq!(text, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    }

    #[test]
    fn http_1_0_is_answered_as_such() {
        let hop =
            Hop { version: Version::HTTP_10, framing: AnswerFraming::UntilClose, connection: Keep::Close };
        assert!(written(404, &[], &hop).starts_with("HTTP/1.0 404 Not Found\r\nconnection: close\r\n"));
    }
}
