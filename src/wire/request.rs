//! The bytes of a client's connection, read in order: head, content, next head.

use super::Refusal;
use super::chunked::Chunked;
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
    /// In a head: how many of its bytes have been read as whole lines.
    Head { head: Head, lines: usize },
    /// In content of known length.
    Length(u64),
    /// In chunked content.
    Chunked(Box<Chunked>),
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
    /// whose head has gone on already.
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
    pub fn new(limits: Limits) -> Self {
        Self { limits, at: At::Head { head: Head::default(), lines: 0 }, heads: 0 }
    }

    /// How many whole heads have gone on.
    #[must_use]
    pub const fn heads(&self) -> u64 {
        self.heads
    }

    /// Reads `bytes`: what came since the last call, or, after [`Scan::Partial`], the held bytes
    /// and what came since.
    pub fn scan(&mut self, bytes: &[u8]) -> Scan {
        let mut pass = 0;
        while let Some(rest) = bytes.get(pass..).filter(|rest| !rest.is_empty()) {
            match &mut self.at {
                At::Length(left) => {
                    let step = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= step as u64;
                    pass += step;
                    if *left == 0 {
                        self.next_head();
                    }
                }
                At::Chunked(chunked) => match chunked.read(rest, self.limits.max_body) {
                    Ok((step, ended)) => {
                        pass += step;
                        if ended {
                            self.next_head();
                        }
                    }
                    Err(refusal) => return Scan::Refused { pass, refusal, in_content: true },
                },
                At::Head { head, lines } => match read_head(head, lines, rest, self.limits.max_head) {
                    Ok(Some(framing)) => {
                        if matches!(framing, Framing::Length(length) if length > self.limits.max_body) {
                            let refusal = Refusal::BodyTooLarge;
                            return Scan::Refused { pass, refusal, in_content: false };
                        }
                        pass += *lines;
                        self.heads += 1;
                        match framing {
                            Framing::Length(0) => self.next_head(),
                            Framing::Length(length) => self.at = At::Length(length),
                            Framing::Chunked => self.at = At::Chunked(Box::new(Chunked::new())),
                        }
                    }
                    Ok(None) => return Scan::Partial(pass),
                    Err(refusal) => return Scan::Refused { pass, refusal, in_content: false },
                },
            }
        }
        Scan::Whole
    }

    fn next_head(&mut self) {
        self.at = At::Head { head: Head::default(), lines: 0 };
    }
}

/// Reads the whole lines of a head that have not been read; `lines` counts the bytes of those that
/// have. `Some` at the head's end.
fn read_head(
    head: &mut Head,
    lines: &mut usize,
    bytes: &[u8],
    max_head: usize,
) -> Result<Option<Framing>, Refusal> {
    loop {
        let rest = bytes.get(*lines..).unwrap_or_default();
        let Some(end) = memchr::memchr(b'\n', rest) else {
            // What has come of an unfinished line is already too much, or already wrong.
            if let Some(refusal) = head.outgrown(rest.len()) {
                return Err(refusal);
            }
            if bytes.len() > max_head {
                return Err(Refusal::HeadTooLarge);
            }
            return refuse_early(rest).map(|()| None);
        };
        if *lines + end >= max_head {
            return Err(head.outgrown(end).unwrap_or(Refusal::HeadTooLarge));
        }
        let line = match rest.get(..end) {
            Some([line @ .., b'\r']) => line,
            // A bare LF ends no line (RFC 9112 2.2 lets a recipient accept it; two would disagree).
            _ => return Err(Refusal::FieldLine),
        };
        if memchr::memchr(b'\r', line).is_some() {
            return Err(Refusal::FieldLine);
        }
        let framing = head.line(line)?;
        *lines += end + 1;
        if framing.is_some() {
            return Ok(framing);
        }
    }
}

/// A CR that is not before an LF, or a NUL, will not become right by waiting.
fn refuse_early(rest: &[u8]) -> Result<(), Refusal> {
    let wrong = match memchr::memchr2(b'\r', 0, rest) {
        Some(at) => rest.get(at) == Some(&0) || at + 1 < rest.len(),
        None => false,
    };
    if wrong { Err(Refusal::FieldLine) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::MAX_TARGET;

    const LIMITS: Limits = Limits { max_head: 16 * 1024, max_body: 1000 };

    fn scan(bytes: &[u8]) -> Scan {
        RequestScanner::new(LIMITS).scan(bytes)
    }

    fn refusal(bytes: &[u8]) -> Option<Refusal> {
        match scan(bytes) {
            Scan::Refused { refusal, .. } => Some(refusal),
            Scan::Whole | Scan::Partial(_) => None,
        }
    }

    #[test]
    fn rfc9112_messages_with_one_reading_go_on() {
        for good in [
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /?q=a%20b&c=[1] HTTP/1.1\r\nHost: a.example:8080\r\nX: \t y\u{e4} \r\n\r\n",
            "GET / HTTP/1.0\r\n\r\n",
            "GET http://a.example/x HTTP/1.1\r\nHost: A.example\r\n\r\n",
            "GET http://a.example?x HTTP/1.1\r\nHost: a.example\r\n\r\n",
            "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\ntransfer-encoding:chunked\r\n\r\nA;x=\"y\"\r\n0123456789\r\n00\r\nT: v\r\n\r\n",
            "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ] {
            assert_eq!(scan(good.as_bytes()), Scan::Whole, "{good:?}");
        }
    }

    #[test]
    fn rfc9112_what_has_two_readings_is_refused() {
        use Refusal as R;
        let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(MAX_TARGET));
        let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(LIMITS.max_head));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(100));
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(LIMITS.max_head));
        let head = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
        let chunks = |chunks: &str| head("Transfer-Encoding: chunked") + chunks;
        for (bad, why) in [
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), R::FieldLine),
            ("GET / HTTP/1.1\r\nHost: a\n\r\n".into(), R::FieldLine),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n".into(), R::FieldLine),
            ("GET / HTTP/1.1\r\nX: a\rb".into(), R::FieldLine),
            ("GET / HTTP/1.1\r\nX: a\0".into(), R::FieldLine),
            ("\r\n\r\nGET / HTTP/1.1\r\n".into(), R::RequestLine),
            ("GET  / HTTP/1.1\r\n".into(), R::RequestLine),
            ("GET / HTTP/1.1 \r\n".into(), R::RequestLine),
            ("GET /\r\n".into(), R::RequestLine),
            ("G(T / HTTP/1.1\r\n".into(), R::RequestLine),
            ("GET / http/1.1\r\n".into(), R::RequestLine),
            ("PRI * HTTP/2.0\r\n".into(), R::Version),
            ("GET / HTTP/1.2\r\n".into(), R::Version),
            ("CONNECT a:443 HTTP/1.1\r\n".into(), R::Method),
            ("TRACE / HTTP/1.1\r\n".into(), R::Method),
            ("GET * HTTP/1.1\r\n".into(), R::Target),
            ("GET a.example HTTP/1.1\r\n".into(), R::Target),
            ("GET https://a/ HTTP/1.1\r\n".into(), R::Target),
            ("GET /\u{e4} HTTP/1.1\r\n".into(), R::Target),
            ("GET /a\tb HTTP/1.1\r\n".into(), R::Target),
            ("GET /a#b HTTP/1.1\r\n".into(), R::Target),
            ("GET http://user@a/ HTTP/1.1\r\n".into(), R::Host),
            ("GET http:///x HTTP/1.1\r\n".into(), R::Host),
            (long, R::TargetTooLong),
            (large, R::HeadTooLarge),
            (many, R::HeadTooLarge),
            (endless, R::HeadTooLarge),
            ("GET / HTTP/1.1\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: a:x\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n".into(), R::Host),
            (format!("GET /{}", "x".repeat(MAX_TARGET + 100)), R::TargetTooLong),
            ("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n".into(), R::Host),
            ("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), R::Host),
            ("GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n".into(), R::Host),
            ("GET http://a/ HTTP/1.1\r\n\r\n".into(), R::Host),
            (head("X : y"), R::FieldLine),
            (head("X"), R::FieldLine),
            (head(": y"), R::FieldLine),
            (head("X: a\r\n b"), R::FieldLine),
            (head("X: \u{1}"), R::FieldLine),
            (head("X: \u{7f}"), R::FieldLine),
            (head("Content-Length: 1\r\nTransfer-Encoding: chunked"), R::Framing),
            (head("Transfer-Encoding: chunked\r\nContent-Length: 1"), R::Framing),
            (head("Content-Length: 1\r\nContent-Length: 1"), R::Framing),
            (head("Content-Length: 1, 1"), R::Framing),
            (head("Content-Length: +1"), R::Framing),
            (head("Content-Length: -1"), R::Framing),
            (head("Content-Length: 0x1"), R::Framing),
            (head("Content-Length:"), R::Framing),
            (head("Content-Length: 99999999999999999999"), R::Framing),
            (head("Content-Length: 1001"), R::BodyTooLarge),
            (head("Transfer-Encoding: gzip, chunked"), R::Framing),
            (head("Transfer-Encoding: chunked, chunked"), R::Framing),
            (head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), R::Framing),
            (head("Transfer-Encoding: identity"), R::Framing),
            (head("Transfer-Encoding: \"chunked\""), R::Framing),
            (head("Transfer-Encoding: xchunked"), R::Framing),
            (head("Transfer-Encoding:"), R::Framing),
            ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), R::Framing),
            (head("Upgrade: h2c"), R::UpgradeToHttp2),
            (head("Upgrade: websocket, H2C"), R::UpgradeToHttp2),
            (head("HTTP2-Settings: AAMAAABk"), R::UpgradeToHttp2),
            (chunks("+3\r\nabc\r\n"), R::Framing),
            (chunks("0x3\r\nabc\r\n"), R::Framing),
            (chunks(" 3\r\nabc\r\n"), R::Framing),
            (chunks("3 \r\nabc\r\n"), R::Framing),
            (chunks("3\nabc\r\n"), R::Framing),
            (chunks("3\r\nabcd\r\n"), R::Framing),
            (chunks("3\r\nabc\n"), R::Framing),
            (chunks(";x\r\n"), R::Framing),
            (chunks("\r\n"), R::Framing),
            (chunks("1111111111111111\r\n"), R::Framing),
            (chunks("3;a\nb\r\nabc\r\n"), R::Framing),
            (chunks("3e9\r\n"), R::BodyTooLarge),
            (chunks(&format!("1;{}\r\n", "x".repeat(5000))), R::Framing),
            (chunks("0\r\nT : v\r\n\r\n"), R::FieldLine),
            (chunks("0\r\nT: a\n\r\n"), R::Framing),
            (chunks(&format!("0\r\nT: {}\r\n", "x".repeat(9000))), R::HeadTooLarge),
        ] {
            assert_eq!(refusal(bad.as_bytes()), Some(why), "{bad:?}");
        }
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

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            Just("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab\r\n"),
            Just("POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            Just("2\r\nxy\r\n"),
            Just("0\r\n\r\n"),
            Just("\r\n"),
            Just("X: y\r\n"),
            Just("\n"),
            Just("\r"),
        ];
        proptest::collection::vec(part, 0..6).prop_map(|parts| parts.concat().into_bytes())
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
            // Content before a refusal goes on as far as it came; nothing refused ever does.
            let every: Vec<usize> = (0..bytes.len()).collect();
            prop_assert_eq!(in_pieces(&bytes, &every).1, whole.1);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            scan(&bytes);
            scan(&[b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat());
        }
    }
}
