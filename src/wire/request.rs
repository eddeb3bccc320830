//! The bytes of a client's connection, read in order: head, content, next head.
//!
//! Decides: where each message begins and ends, and whether it may go on. Nothing is copied and
//! nothing allocated: the bytes of an unfinished head stay with the caller, who shows them again.

use super::Refusal;
use super::chunked::{self, Chunked};
use super::head::{Framing, Head};

/// Bounds on what one request may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head, request line included.
    pub max_head: usize,
    /// Bytes of content.
    pub max_body: u64,
}

/// Reads the bytes of one connection.
#[derive(Debug)]
pub struct RequestScanner {
    limits: Limits,
    at: At,
    heads: u64,
}

#[derive(Debug)]
enum At {
    /// Between messages. One empty line is passed over here (RFC 9112 2.2), and one only.
    Between { after_empty_line: bool },
    /// In a head.
    Head(Partial),
    /// In content of known length: how much of it is left.
    Length(u64),
    /// In chunked content.
    Chunked(Chunked),
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

/// What became of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// All of them may go on.
    Whole,
    /// So many may go on; the rest begin a head whose end has not come. They are to be shown again,
    /// from the first byte of that head, with what follows.
    Partial(usize),
    /// So many may go on; then comes what is refused. `in_content`: in the middle of a message
    /// whose head has gone on already. Nothing is to be shown after this.
    Refused {
        /// Bytes that may go on.
        pass: usize,
        /// Why the rest may not.
        refusal: Refusal,
        /// Whether the head before has gone on.
        in_content: bool,
    },
}

impl RequestScanner {
    /// At the beginning of a connection.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self { limits, at: At::Between { after_empty_line: false }, heads: 0 }
    }

    /// How many whole heads have gone on.
    #[must_use]
    pub const fn heads(&self) -> u64 {
        self.heads
    }

    /// Whether the next bytes belong to the content of a message whose head has gone on.
    #[must_use]
    pub const fn is_in_content(&self) -> bool {
        matches!(self.at, At::Length(_) | At::Chunked(_))
    }

    /// Reads `bytes`: what came since the last call, or, after [`Scan::Partial`], the held bytes
    /// and what came since.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut pass = 0;
        while let Some(rest) = bytes.get(pass..).filter(|rest| !rest.is_empty()) {
            match &mut self.at {
                At::Between { after_empty_line } => match rest {
                    [b'\r', b'\n', ..] if !*after_empty_line => {
                        *after_empty_line = true;
                        pass += 2;
                    }
                    // Whether an empty line begins here is not known yet.
                    [b'\r'] if !*after_empty_line => return Scan::Partial(pass),
                    _ => self.at = At::Head(Partial::default()),
                },
                At::Head(partial) => match partial.read(rest, self.limits) {
                    Ok(Some(framing)) => {
                        pass += partial.lines;
                        self.heads += 1;
                        self.at = match framing {
                            Framing::Length(0) => At::Between { after_empty_line: false },
                            Framing::Length(length) => At::Length(length),
                            Framing::Chunked => At::Chunked(Chunked::new(self.limits.max_body)),
                        };
                    }
                    Ok(None) => return Scan::Partial(pass),
                    Err(refusal) => return Scan::Refused { pass, refusal, in_content: false },
                },
                At::Length(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= step as u64;
                    pass += step;
                    if *left == 0 {
                        self.at = At::Between { after_empty_line: false };
                    }
                }
                At::Chunked(chunked) => match chunked.read(rest) {
                    Ok((step, ended)) => {
                        pass += step;
                        if ended {
                            self.at = At::Between { after_empty_line: false };
                        }
                    }
                    Err(fault) => return Scan::Refused { pass, refusal: fault.into(), in_content: true },
                },
            }
        }
        Scan::Whole
    }
}

impl Partial {
    /// Reads the lines of a head that have not been read, as far as they are whole; `bytes` begin with
    /// its first byte. `Some` at the head's end.
    ///
    /// The verdict is the one that the earliest byte makes inevitable, so that it does not depend on
    /// how the bytes arrive.
    fn read(&mut self, bytes: &[u8], limits: Limits) -> Result<Option<Framing>, Refusal> {
        let allowed = bytes.get(..limits.max_head).unwrap_or(bytes);
        while let Some(length) = memchr::memchr(b'\n', allowed.get(self.searched..).unwrap_or_default()) {
            let end = self.searched + length;
            let framing = self.head.line(allowed, self.lines, end)?;
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
    use crate::wire::{MAX_FIELDS, MAX_METHOD, MAX_TARGET};

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
                    return (passed, Some(refusal), scanner.heads());
                }
            }
        }
        (passed, None, scanner.heads())
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
        assert_eq!(scanner.heads(), 1);
    }

    #[test]
    fn of_content_that_is_refused_nothing_goes_on_but_its_head() {
        let head = head("Transfer-Encoding: chunked");
        let expected = Scan::Refused { pass: head.len(), refusal: Refusal::Framing, in_content: true };
        assert_eq!(RequestScanner::new(LIMITS).scan((head + "1\r\nab").as_bytes()), expected);
    }

    #[test]
    fn an_empty_line_between_requests_is_not_the_beginning_of_one() {
        let mut scanner = RequestScanner::new(LIMITS);
        assert_eq!(scanner.scan(b"GET / HTTP/1.0\r\n\r\n\r"), Scan::Partial(18));
        assert_eq!(scanner.scan(b"\r\n"), Scan::Whole);
        assert_eq!((scanner.heads(), scanner.is_in_content()), (1, false));
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
