//! The bytes of a client's connection, read as far as one head; the content behind it is
//! [`Framed`](super::framed::Framed).
//!
//! Decides: where each head begins and ends, and whether it may go on. Nothing is copied while it is not
//! whole: the bytes of an unfinished head stay with the caller, who shows them again.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Uri, Version};

use super::framed::Framed;
use super::grammar::{plain, whole_head};
use super::head::{Framing, Head, MAX_FIELDS};
use super::{Refusal, chunked, fields};

/// Bounds on what one request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, request line included.
    pub max_head: usize,
    /// Bytes of content.
    pub max_body: u64,
}

/// Reads one head after another.
#[derive(Debug)]
pub struct RequestReader {
    limits: Limits,
    partial: Partial,
    /// One empty line before a head is passed over (RFC 9112 2.2), and one only.
    after_empty_line: bool,
}

/// A head whose end has not come.
#[derive(Debug, Default)]
struct Partial {
    head: Head,
    /// Its bytes that have been read as whole lines.
    lines: usize,
    /// Its bytes in which no further line ends.
    searched: usize,
}

/// A head that is whole and may go on.
#[derive(Debug)]
pub struct ReadHead {
    /// All of it, in an allocation of its own.
    bytes: Bytes,
    head: Head,
    fields: HeaderMap,
    /// How the content behind it is framed; `None` where there is none.
    pub(crate) content: Option<Framed>,
}

impl RequestReader {
    /// At the beginning of a connection.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, partial: Partial::default(), after_empty_line: false }
    }

    /// How many of `bytes`, which begin behind the message before, are no part of a head: the empty line that
    /// is passed over. To be asked before they are read.
    pub fn skip(&mut self, bytes: &[u8]) -> usize {
        if !bytes.starts_with(b"\r\n") || self.after_empty_line || self.is_in_head() {
            return 0;
        }
        self.after_empty_line = true;
        2
    }

    /// Reads on: `bytes` begin where a head does, and are shown again from there with what came since
    /// until it is whole. `None` where it is not.
    ///
    /// # Errors
    /// Why it is refused. Nothing is to be shown after that.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Option<ReadHead>, Refusal> {
        match bytes {
            [] => return Ok(None),
            // Whether an empty line begins here is not known yet.
            [b'\r'] if !self.after_empty_line => return Ok(None),
            _ => {}
        }
        // Bytes that were looked at before are not looked at again.
        let whole = if self.is_in_head() { None } else { whole_head(bytes) };
        let (end, count) = match whole {
            // Nearly always all of it comes at once: its lines are judged and taken down in one go.
            Some((end, lines)) if end <= self.limits.max_head => (end, lines.saturating_sub(1)),
            _ => match self.partial.read(bytes, self.limits, |_, _| Ok(()))? {
                Some(_) => {
                    let Partial { head, lines, .. } = std::mem::take(&mut self.partial);
                    (lines, usize::from(head.fields()))
                }
                None => return Ok(None),
            },
        };
        self.after_empty_line = false;
        self.whole(bytes.get(..end).unwrap_or_default(), count)
    }

    /// What a whole head of so many fields says.
    fn whole(&self, head: &[u8], count: usize) -> Result<Option<ReadHead>, Refusal> {
        let bytes = Bytes::copy_from_slice(head);
        // As many as there are: no table is made twice, and none is larger than need be.
        let mut fields = HeaderMap::with_capacity(count.min(usize::from(MAX_FIELDS)));
        let mut partial = Partial::default();
        let framing = partial.read(&bytes, self.limits, |name, value| {
            fields::append(&mut fields, &bytes, name, value).ok_or(Refusal::FieldLine)
        })?;
        let Some(framing) = framing else { return Ok(None) };
        let content = match framing {
            Framing::Length(0) => None,
            Framing::Length(length) => Some(Framed::Length(length)),
            Framing::Chunked => Some(Framed::chunked(self.limits.max_body)),
        };
        Ok(Some(ReadHead { bytes, head: partial.head, fields, content }))
    }

    /// Whether the bytes shown so far begin a head whose end has not come.
    #[must_use]
    pub const fn is_in_head(&self) -> bool {
        self.partial.searched > 0
    }
}

impl ReadHead {
    /// Its length in bytes: where content or the next message begins.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.bytes.len()
    }

    /// Method, target, version and fields: in a box, since they are handed on from one to the next.
    ///
    /// # Errors
    /// [`Refusal::Target`] where a library takes for no target what was found to be one; no such bytes are
    /// known.
    pub fn parts(self) -> Result<Box<Parts>, Refusal> {
        let (method, target) = self.head.parts(&self.bytes);
        let mut parts = Box::new(Request::new(()).into_parts().0);
        // A new one is a GET.
        if method != b"GET" {
            parts.method = Method::from_bytes(method).map_err(|_| Refusal::RequestLine)?;
        }
        let target = self.bytes.slice_ref(target);
        parts.uri = Uri::from_maybe_shared(target).map_err(|_| Refusal::Target)?;
        parts.version = self.version();
        parts.headers = self.fields;
        Ok(parts)
    }

    /// The version of the message.
    #[must_use]
    pub const fn version(&self) -> Version {
        if self.head.is_http_10() { Version::HTTP_10 } else { Version::HTTP_11 }
    }
}

impl Partial {
    /// Reads the lines of a head that have not been read, as far as they are whole; `bytes` begin with
    /// its first byte, and `field` is told of each field. `Some` at the head's end.
    ///
    /// The verdict is the one that the earliest byte makes inevitable, so that it does not depend on
    /// how the bytes arrive.
    fn read(
        &mut self,
        bytes: &[u8],
        limits: Limits,
        mut field: impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>,
    ) -> Result<Option<Framing>, Refusal> {
        let allowed = bytes.get(..limits.max_head).unwrap_or(bytes);
        loop {
            if self.head.is_begun()
                && self.searched == self.lines
                && let Some(line) = plain(allowed.get(self.lines..).unwrap_or_default())
            {
                self.head.field(allowed, line.name, line.value, &mut field)?;
                self.lines += line.length;
                self.searched = self.lines;
                continue;
            }
            let unread = allowed.get(self.searched..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'\n', unread) else { break };
            let end = self.searched + length;
            let framing = self.head.line(allowed, self.lines, end, &mut field)?;
            self.lines = end + 1;
            self.searched = self.lines;
            match framing {
                Some(Framing::Length(length)) if length > limits.max_body => {
                    return Err(Refusal::BodyTooLarge);
                }
                Some(framing) => return Ok(Some(framing)),
                None => {}
            }
        }
        self.searched = allowed.len();
        self.head.beginning(allowed.get(self.lines..).unwrap_or_default())?;
        if bytes.len() > limits.max_head { Err(self.head.too_large()) } else { Ok(None) }
    }
}

impl From<chunked::Fault> for Refusal {
    fn from(fault: chunked::Fault) -> Self {
        match fault {
            chunked::Fault::Malformed => Self::Framing,
            chunked::Fault::TrailerLine => Self::FieldLine,
            chunked::Fault::TrailersTooLarge => Self::HeadTooLarge,
            chunked::Fault::TooLarge => Self::BodyTooLarge,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::{MAX_METHOD, MAX_TARGET};

    /// A connection that reads heads and content in turn, as the server does.
    struct RequestScanner {
        reader: RequestReader,
        content: Option<Framed>,
        heads: u64,
    }

    /// What became of the bytes.
    #[derive(Debug, PartialEq, Eq)]
    enum Scan {
        /// All of them went on.
        Whole,
        /// So many went on; the rest are shown again with what follows.
        Partial(usize),
        /// So many went on; then came what is refused, in the content of a message or not.
        Refused { pass: usize, refusal: Refusal, in_content: bool },
    }

    impl RequestScanner {
        fn new(limits: Limits) -> Self {
            Self { reader: RequestReader::new(limits), content: None, heads: 0 }
        }

        fn scan(&mut self, bytes: &[u8]) -> Scan {
            let mut pass = 0;
            loop {
                if self.content.is_none() {
                    pass += self.reader.skip(&bytes[pass..]);
                }
                let rest = &bytes[pass..];
                if rest.is_empty() {
                    return Scan::Whole;
                }
                match &mut self.content {
                    None => match self.reader.read(rest) {
                        Ok(None) => return Scan::Partial(pass),
                        Ok(Some(head)) => {
                            pass += head.length();
                            self.heads += 1;
                            self.content = head.content.clone();
                            head.parts().expect("what was read is a request");
                        }
                        Err(refusal) => return Scan::Refused { pass, refusal, in_content: false },
                    },
                    Some(content) => match content.next(rest) {
                        Ok(piece) => {
                            pass += piece.framing + piece.content;
                            if piece.ended {
                                self.content = None;
                            }
                        }
                        Err(fault) => return Scan::Refused { pass, refusal: fault.into(), in_content: true },
                    },
                }
            }
        }
    }

    const LIMITS: Limits = Limits { max_head: 16 * 1024, max_body: 1000 };

    fn refusal(bytes: &[u8]) -> Option<Refusal> {
        match RequestScanner::new(LIMITS).scan(bytes) {
            Scan::Refused { refusal, .. } => Some(refusal),
            Scan::Whole | Scan::Partial(_) => None,
        }
    }

    /// Feeds `bytes` in pieces as a connection would, holding what is to be held.
    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<Refusal>, u64) {
        let mut scanner = RequestScanner::new(LIMITS);
        let (mut held, mut passed) = (Vec::new(), Vec::new());
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            held.extend_from_slice(&bytes[start..end]);
            start = end;
            match scanner.scan(&held) {
                Scan::Whole => passed.append(&mut held),
                Scan::Partial(pass) => passed.extend(held.drain(..pass)),
                Scan::Refused { pass, refusal, .. } => {
                    passed.extend(held.drain(..pass));
                    return (passed, Some(refusal), scanner.heads);
                }
            }
        }
        (passed, None, scanner.heads)
    }

    #[track_caller]
    fn all(cases: &[(&str, Option<Refusal>)]) {
        for (bytes, verdict) in cases {
            assert_eq!(refusal(bytes.as_bytes()), *verdict, "{bytes:?}");
            let step = if bytes.len() < 1000 { 1 } else { 101 };
            let every: Vec<usize> = (0..bytes.len()).step_by(step).collect();
            assert_eq!(in_pieces(bytes.as_bytes(), &every).1, *verdict, "in pieces: {bytes:?}");
            if verdict.is_none() {
                assert_eq!(RequestScanner::new(LIMITS).scan(bytes.as_bytes()), Scan::Whole, "{bytes:?}");
            }
        }
    }

    fn head(fields: &str) -> String {
        format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
    }

    #[test]
    fn messages_with_one_reading_go_on() {
        all(&[
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET /?q=a%20b&c=[1] HTTP/1.1\r\nHost: a.example:8080\r\nX: \t y\u{e4} \r\n\r\n", None),
            ("GET / HTTP/1.0\r\n\r\n", None),
            ("OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", None),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                None,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
                None,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", None),
            (
                "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:chunked\r\n\r\n\
                 A;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\nU:\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                None,
            ),
            ("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", None),
        ]);
    }

    #[test]
    fn rfc9112_2_2_lines_end_in_crlf() {
        use Refusal as R;
        all(&[
            ("GET / HTTP/1.1\nHost: a\n\n", Some(R::RequestLine)),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", Some(R::RequestLine)),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\nHost: a\r\n\n", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\nX: a\rb", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\nX: a\0", Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\r\n", Some(R::RequestLine)),
            // One empty line before a request, and no other blank.
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", None),
            ("GET / HTTP/1.0\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n\r\n", None),
            ("\r\n\r\nGET / HTTP/1.1\r\n", Some(R::RequestLine)),
            ("\nGET / HTTP/1.1\r\n", Some(R::RequestLine)),
            ("\rGET / HTTP/1.1\r\n", Some(R::RequestLine)),
            (" GET / HTTP/1.1\r\n", Some(R::RequestLine)),
        ]);
    }

    #[test]
    fn rfc9112_3_request_lines() {
        use Refusal as R;
        let longest = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(MAX_TARGET - 1));
        let long = format!("GET /{} HTTP/1.0\r\n\r\n", "x".repeat(MAX_TARGET));
        let endless = format!("GET /{}", "x".repeat(MAX_TARGET));
        let method = format!("{} / HTTP/1.0\r\n\r\n", "M".repeat(MAX_METHOD));
        let long_method = "M".repeat(MAX_METHOD + 1);
        all(&[
            (&longest, None),
            (&long, Some(R::TargetTooLong)),
            (&endless, Some(R::TargetTooLong)),
            (&method, None),
            (&long_method, Some(R::RequestLine)),
            ("GET  / HTTP/1.1\r\n", Some(R::RequestLine)),
            ("GET /  HTTP/1.1\r\n", Some(R::RequestLine)),
            ("GET / HTTP/1.1 \r\n", Some(R::RequestLine)),
            ("GET / q HTTP/1.1\r\n", Some(R::RequestLine)),
            ("GET\t/\tHTTP/1.1\r\n", Some(R::RequestLine)),
            ("GET /\r\n", Some(R::RequestLine)),
            ("GET\r\n", Some(R::RequestLine)),
            ("G(T / HTTP/1.1\r\n", Some(R::RequestLine)),
            ("G@T", Some(R::RequestLine)),
            ("\u{16}\u{3}\u{1}", Some(R::RequestLine)),
            ("GET / http/1.1\r\n", Some(R::RequestLine)),
            ("GET / HTTP/01.1\r\n", Some(R::RequestLine)),
            ("GET / HTTP/1.10\r\n", Some(R::RequestLine)),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(R::Version)),
            ("GET / HTTP/1.2\r\n", Some(R::Version)),
            ("GET / HTTP/0.9\r\n", Some(R::Version)),
            ("CONNECT a:443 HTTP/1.1\r\n", Some(R::Method)),
            ("CONNECT / HTTP/1.1\r\n", Some(R::Method)),
            ("TRACE / HTTP/1.1\r\n", Some(R::Method)),
            ("GET * HTTP/1.1\r\n", Some(R::Target)),
            ("OPTIONS *x HTTP/1.1\r\n", Some(R::Target)),
            ("GET a.example HTTP/1.1\r\n", Some(R::Target)),
            ("GET ?q HTTP/1.1\r\n", Some(R::Target)),
            ("GET https://a/ HTTP/1.1\r\n", Some(R::Target)),
            ("GET http:/a/ HTTP/1.1\r\n", Some(R::Target)),
            ("GET /\u{e4} HTTP/1.1\r\n", Some(R::Target)),
            ("GET /a\tb HTTP/1.1\r\n", Some(R::Target)),
            ("GET /a\0b HTTP/1.1\r\n", Some(R::Target)),
            ("GET /a\rb HTTP/1.1\r\n", Some(R::Target)),
            ("GET /a\u{7f}b HTTP/1.1\r\n", Some(R::Target)),
            ("GET /a#b HTTP/1.1\r\n", Some(R::Target)),
            ("GET http://a/#b HTTP/1.1\r\n", Some(R::Target)),
            ("GET http://user@a/ HTTP/1.1\r\n", Some(R::Host)),
            ("GET http:///x HTTP/1.1\r\n", Some(R::Host)),
            ("GET http://a%41/x HTTP/1.1\r\n", Some(R::Host)),
        ]);
    }

    #[test]
    fn rfc9112_3_2_exactly_one_host() {
        use Refusal as R;
        all(&[
            ("GET http://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n", None),
            ("GET http://a.example?x HTTP/1.1\r\nHost: a.example\r\n\r\n", None),
            ("GET HTTP://a.example:80/ HTTP/1.1\r\nX: y\r\nHost:\ta.example \r\n\r\n", None),
            ("GET http://a:8080/ HTTP/1.0\r\n\r\n", None),
            ("GET / HTTP/1.1\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", Some(R::Host)),
            ("GET / HTTP/1.1\r\nHost: \u{e4}\r\n\r\n", Some(R::Host)),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", Some(R::Host)),
            ("GET http://a/ HTTP/1.1\r\nHost: a:81\r\n\r\n", Some(R::Host)),
            ("GET http://a/ HTTP/1.1\r\n\r\n", Some(R::Host)),
        ]);
    }

    #[test]
    fn rfc9112_5_field_lines() {
        use Refusal as R;
        let full = format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(usize::from(MAX_FIELDS)));
        let many = format!("GET / HTTP/1.0\r\n{}\r\n", "X: y\r\n".repeat(usize::from(MAX_FIELDS) + 1));
        let large = format!("GET / HTTP/1.0\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.max_head));
        let endless = format!("GET / HTTP/1.0\r\nX: {}", "x".repeat(LIMITS.max_head));
        all(&[
            (&full, None),
            (&many, Some(R::HeadTooLarge)),
            (&large, Some(R::HeadTooLarge)),
            (&endless, Some(R::HeadTooLarge)),
            (&head("X : y"), Some(R::FieldLine)),
            (&head("X\t: y"), Some(R::FieldLine)),
            (&head("X"), Some(R::FieldLine)),
            (&head(": y"), Some(R::FieldLine)),
            (&head("X: a\r\n b"), Some(R::FieldLine)),
            (&head("X: a\r\n\tb"), Some(R::FieldLine)),
            (&head("X: \u{1}"), Some(R::FieldLine)),
            (&head("X: \u{7f}"), Some(R::FieldLine)),
            (&head("Transfer-Encoding:\u{b}chunked"), Some(R::FieldLine)),
            ("GET / HTTP/1.1\r\n Host: a\r\nHost: b\r\n\r\n", Some(R::FieldLine)),
            (&head("Upgrade: h2c"), Some(R::UpgradeToHttp2)),
            (&head("Upgrade: websocket, H2C"), Some(R::UpgradeToHttp2)),
            (&head("Upgrade: h2/x"), Some(R::UpgradeToHttp2)),
            (&head("HTTP2-Settings: AAMAAABk"), Some(R::UpgradeToHttp2)),
        ]);
    }

    #[test]
    fn rfc9112_6_one_framing() {
        use Refusal as R;
        all(&[
            (&head("Content-Length: 1\r\nTransfer-Encoding: chunked"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked\r\nContent-Length: 1"), Some(R::Framing)),
            (&head("Content-Length: 0\r\nTransfer-Encoding: identity"), Some(R::Framing)),
            (&head("Content-Length: 1\r\nContent-Length: 2"), Some(R::Framing)),
            (&head("Content-Length: 1\r\nContent-Length: 1"), Some(R::Framing)),
            (&head("Content-Length: 1, 1"), Some(R::Framing)),
            (&head("Content-Length: +1"), Some(R::Framing)),
            (&head("Content-Length: -1"), Some(R::Framing)),
            (&head("Content-Length: 0x1"), Some(R::Framing)),
            (&head("Content-Length: 1 1"), Some(R::Framing)),
            (&head("Content-Length:"), Some(R::Framing)),
            (&head("Content-Length: \u{b2}"), Some(R::Framing)),
            (&head("Content-Length: 99999999999999999999"), Some(R::Framing)),
            (&head("Content-Length: 1001"), Some(R::BodyTooLarge)),
            (&head("Transfer-Encoding: gzip, chunked"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked, chunked"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked,"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked;q=1"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Some(R::Framing)),
            (&head("Transfer-Encoding: identity"), Some(R::Framing)),
            (&head("Transfer-Encoding: \"chunked\""), Some(R::Framing)),
            (&head("Transfer-Encoding: xchunked"), Some(R::Framing)),
            (&head("Transfer-Encoding: chunked\u{a0}"), Some(R::Framing)),
            (&head("Transfer-Encoding:"), Some(R::Framing)),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Some(R::Framing)),
        ]);
    }

    #[test]
    fn rfc9112_7_1_chunks() {
        use Refusal as R;
        let chunks = |chunks: &str| head("Transfer-Encoding: chunked") + chunks;
        let extended = |bytes| format!("1;{}\r\na\r\n", "x".repeat(bytes)).repeat(2);
        all(&[
            (&chunks("3e8\r\n"), None),
            (&chunks(&(extended(2047) + "0\r\n\r\n")), None),
            (&chunks("+3\r\nabc\r\n"), Some(R::Framing)),
            (&chunks("-3\r\nabc\r\n"), Some(R::Framing)),
            (&chunks("0x3\r\nabc\r\n"), Some(R::Framing)),
            (&chunks(" 3\r\nabc\r\n"), Some(R::Framing)),
            (&chunks("3 \r\nabc\r\n"), Some(R::Framing)),
            (&chunks("3\nabc\r\n"), Some(R::Framing)),
            (&chunks("3\rabc\r\n"), Some(R::Framing)),
            (&chunks("3\r\nabcd\r\n"), Some(R::Framing)),
            (&chunks("3\r\nabc\n"), Some(R::Framing)),
            (&chunks("3\r\nabc3"), Some(R::Framing)),
            (&chunks(";x\r\n"), Some(R::Framing)),
            (&chunks("\r\n"), Some(R::Framing)),
            (&chunks("g\r\n"), Some(R::Framing)),
            (&chunks("1111111111111111\r\n"), Some(R::Framing)),
            (&chunks("0000000000000000"), Some(R::Framing)),
            (&chunks("3;a\nb\r\nabc\r\n"), Some(R::Framing)),
            (&chunks("3;\0\r\nabc\r\n"), Some(R::Framing)),
            (&chunks("3e9\r\n"), Some(R::BodyTooLarge)),
            (&chunks("1\r\na\r\n3e8\r\n"), Some(R::BodyTooLarge)),
            (&chunks(&extended(2049)), Some(R::Framing)),
            (&chunks("0\r\nT : v\r\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\n T: v\r\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\nT: v\r\n w\r\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\nT\r\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\n: v\r\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\nT: a\n\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\nT: a\rb\r\n"), Some(R::FieldLine)),
            (&chunks("0\r\n\n"), Some(R::FieldLine)),
            (&chunks(&format!("0\r\nT: {}\r\n", "x".repeat(9000))), Some(R::HeadTooLarge)),
        ]);
    }

    #[test]
    fn what_came_before_a_refused_request_goes_on() {
        let good = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = [good.as_slice(), b"GET /2 HTTP/1.1\r\n\r\n"].concat();
        let mut scanner = RequestScanner::new(LIMITS);
        let expected = Scan::Refused { pass: good.len(), refusal: Refusal::Host, in_content: false };
        assert_eq!(scanner.scan(&both), expected);
        assert_eq!(scanner.heads, 1);
    }

    #[test]
    fn content_that_is_refused_breaks_off_behind_what_came_before_it() {
        let head = head("Transfer-Encoding: chunked");
        let pass = head.len() + "1\r\na".len();
        let expected = Scan::Refused { pass, refusal: Refusal::Framing, in_content: true };
        assert_eq!(RequestScanner::new(LIMITS).scan((head + "1\r\nab").as_bytes()), expected);
    }

    #[test]
    fn an_empty_line_between_requests_is_not_the_beginning_of_one() {
        let mut scanner = RequestScanner::new(LIMITS);
        assert_eq!(scanner.scan(b"GET / HTTP/1.0\r\n\r\n\r"), Scan::Partial(18));
        assert_eq!(scanner.scan(b"\r\n"), Scan::Whole);
        assert_eq!((scanner.heads, scanner.content.is_some()), (1, false));
        assert!(!scanner.reader.is_in_head());
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Just("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab\r\n"),
            Just("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Just("GET http://a/ HTTP/1.1\r\n"),
            Just("Host: a\r\n"),
            Just("2\r\nxy\r\n"),
            Just("2;e\r\n"),
            Just("0\r\n\r\n"),
            Just("\r\n"),
            Just("X: y\r\n"),
            Just(" "),
            Just(":"),
            Just("\0"),
            Just("\n"),
            Just("\r"),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_arrive(
            bytes in pieces(),
            at in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = at.iter().map(|index| index.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let whole = in_pieces(&bytes, &[]);
            let parts = in_pieces(&bytes, &cuts);
            prop_assert_eq!((whole.1, whole.2), (parts.1, parts.2));
            let every: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(in_pieces(&bytes, &every).1, whole.1);
            // Whatever goes on is what came, in order.
            prop_assert!(bytes.starts_with(&whole.0) && bytes.starts_with(&parts.0));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            refusal(&bytes);
            refusal(&[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat());
        }
    }
}
