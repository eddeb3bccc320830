//! The bytes of an origin's connection, read in order: interim heads, head, content, and no more.
//!
//! Decides: where an answer ends, whether it has one reading (RFC 9112 2.2, 4, 5, 6), and which bytes
//! answer nothing that was asked. Nothing is copied: the bytes of an unfinished head stay with the
//! caller, who shows them again with what follows, and no line of them is read twice. Never touches:
//! sockets, or what an answer means.
//!
//! Stricter than RFC 9112 2.2 asks: a bare LF ends no line here, since an origin that lets a visitor's
//! LF into a field would have its answer split.

use std::ops::Range;

use http::{HeaderMap, StatusCode, Version};

use super::MAX_FIELDS;
use super::framed::{Framed, Piece};
use super::grammar::{field, is_value, length, plain, trim};

/// The longest field name, in bytes: that of [`http::HeaderName`], so that what is read fits in a map.
const MAX_NAME: usize = 65_535;
/// Interim (1xx) answers to one request.
pub const MAX_INTERIM: u8 = 16;

/// Why an answer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// The status line cannot be read, or its version is not 1.0 or 1.1.
    StatusLine,
    /// A field line cannot be read.
    FieldLine,
    /// The heads before the content, interim ones included, are larger than allowed, or one of them has
    /// more than [`MAX_FIELDS`] fields.
    HeadTooLarge,
    /// More than [`MAX_INTERIM`] interim answers.
    TooManyInterim,
    /// Content-Length is no number, or several that differ.
    ContentLength,
    /// Transfer-Encoding is not a lone `chunked`, or stands in an HTTP/1.0 answer.
    TransferEncoding,
    /// Both Content-Length and Transfer-Encoding.
    BothFramings,
    /// A 101 that no request asked for.
    UnaskedSwitch,
    /// The chunks cannot be read.
    Chunks,
}

impl std::fmt::Display for ResponseFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::StatusLine => "the status line cannot be read",
            Self::FieldLine => "a field line is malformed",
            Self::HeadTooLarge => "the response head is too large",
            Self::TooManyInterim => "too many interim responses",
            Self::ContentLength => "Content-Length is invalid or contradicts itself",
            Self::TransferEncoding => "Transfer-Encoding is not chunked alone",
            Self::BothFramings => "both Content-Length and Transfer-Encoding",
            Self::UnaskedSwitch => "a 101 that the request did not ask for",
            Self::Chunks => "the chunked content is malformed",
        })
    }
}

impl std::error::Error for ResponseFault {}

/// What a request says about the answer to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaited {
    /// It is a HEAD: the answer has no content, whatever its head says (RFC 9112 6.3).
    pub head: bool,
    /// It asks for an upgrade: a 101 is an answer, and ends HTTP on this connection.
    pub upgrade: bool,
}

/// What the next bytes of a connection are.
#[derive(Debug)]
pub(crate) enum Next {
    /// The beginning of a head whose end has not come: to be shown again, with what follows.
    Partial,
    /// A head.
    Head(ResponseHead),
    /// Some of the content; what follows is to be shown next.
    Content(Piece),
    /// They answer nothing: the connection can be trusted no more.
    Excess,
    /// HTTP is over, and they are no part of it.
    Tunnel,
}

/// A head whose lines are good, at the beginning of the bytes that were shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResponseHead {
    pub(crate) status: StatusCode,
    pub(crate) version: Version,
    /// Where its field lines are, the empty one included.
    pub(crate) fields: Range<usize>,
    /// What comes behind it.
    pub(crate) then: Then,
}

/// What comes behind a head (RFC 9112 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Another head: this one was interim.
    Head,
    /// Nothing.
    End,
    /// Content.
    Content,
    /// Another protocol.
    Tunnel,
}

/// Reads the bytes of one origin connection.
#[derive(Debug)]
pub(crate) struct ResponseScanner {
    max_head: usize,
    at: At,
    awaited: Awaited,
    /// Of this answer: bytes that its heads may still have, and how many of them were interim.
    room: usize,
    interim: u8,
    head: Head,
    trailers: Option<HeaderMap>,
}

#[derive(Clone, Debug)]
enum At {
    /// No request is outstanding.
    Nothing,
    /// In a head.
    Head,
    /// In content.
    Content(Framed),
    /// HTTP is over.
    Tunnel,
    /// Nothing more is read.
    Refused(ResponseFault),
}

/// What is known of a head whose end has not been seen.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// 0 before the status line.
    status: u16,
    http_10: bool,
    chunked: bool,
    length: Option<u64>,
    /// How many field lines were read.
    fields: u16,
    /// Where they begin.
    begin: usize,
    /// Its bytes that have been read as whole lines.
    lines: usize,
    /// Its bytes in which no further line ends.
    searched: usize,
}

impl ResponseScanner {
    /// On a connection over which no request was sent. `max_head`: bytes of all heads of one answer.
    pub(crate) fn new(max_head: usize) -> Self {
        Self {
            max_head,
            at: At::Nothing,
            awaited: Awaited::default(),
            room: max_head,
            interim: 0,
            head: Head::default(),
            trailers: None,
        }
    }

    /// A request is being sent: what comes is its answer. To be called when the answer before has
    /// ended; an exchange that was given up leaves its connection unusable, and this changes nothing.
    pub(crate) fn begin(&mut self, awaited: Awaited) {
        if matches!(self.at, At::Nothing) {
            self.at = At::Head;
            self.awaited = awaited;
            self.room = self.max_head;
            self.interim = 0;
            self.head = Head::default();
            self.trailers = None;
        }
    }

    /// Whether a head is to come, of which nothing was read.
    pub(crate) const fn is_before_head(&self) -> bool {
        matches!(self.at, At::Head) && self.head.searched == 0
    }

    /// Whether no answer is outstanding, and nothing was refused.
    pub(crate) const fn is_idle(&self) -> bool {
        matches!(self.at, At::Nothing)
    }

    /// Whether the end of the connection is the proper end of the answer.
    pub(crate) const fn ends_with_connection(&self) -> bool {
        matches!(&self.at, At::Content(framed) if framed.ends_with_connection())
    }

    /// Bytes of content that are still to come, where that is known.
    pub(crate) const fn left(&self) -> Option<u64> {
        match &self.at {
            At::Content(framed) => framed.left(),
            At::Nothing => Some(0),
            At::Head | At::Tunnel | At::Refused(_) => None,
        }
    }

    /// The trailer fields, once the answer has ended; `None` where there are none.
    pub(crate) fn trailers(&mut self) -> Option<HeaderMap> {
        self.trailers.take()
    }

    /// Reads on: `bytes`, of which there are some, are what came behind those that were read; after
    /// [`Next::Partial`], all of the head so far and what came since.
    ///
    /// # Errors
    /// Why the answer is refused; the same again if asked again.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Next, ResponseFault> {
        self.next_told(bytes, |_, _| {})
    }

    /// The same; `tell` is told name and value of each field line that is read.
    pub(crate) fn next_told(
        &mut self,
        bytes: &[u8],
        tell: impl FnMut(&[u8], &[u8]),
    ) -> Result<Next, ResponseFault> {
        let next = match &mut self.at {
            At::Nothing => Ok(Next::Excess),
            At::Head => self.head(bytes, tell),
            At::Content(framed) => match framed.next(bytes) {
                Ok(piece) => {
                    if piece.ended {
                        self.trailers = framed.trailers();
                        self.at = At::Nothing;
                    }
                    Ok(Next::Content(piece))
                }
                Err(_) => Err(ResponseFault::Chunks),
            },
            At::Tunnel => Ok(Next::Tunnel),
            At::Refused(fault) => Err(*fault),
        };
        if let Err(fault) = &next {
            self.at = At::Refused(*fault);
        }
        next
    }

    /// Reads the lines of a head that have not been read, as far as they are whole.
    ///
    /// The verdict is the one that the earliest byte makes inevitable, so that it does not depend on
    /// how the bytes arrive.
    fn head(&mut self, bytes: &[u8], mut tell: impl FnMut(&[u8], &[u8])) -> Result<Next, ResponseFault> {
        let allowed = bytes.get(..self.room).unwrap_or(bytes);
        loop {
            if self.head.status != 0
                && self.head.searched == self.head.lines
                && let Some(line) = plain(allowed.get(self.head.lines..).unwrap_or_default())
            {
                self.head.field(line.name, line.value, &mut tell)?;
                self.head.lines += line.length;
                self.head.searched = self.head.lines;
                continue;
            }
            let unread = allowed.get(self.head.searched..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'\n', unread) else { break };
            let end = self.head.searched + length;
            let line = allowed.get(self.head.lines..end).unwrap_or_default();
            self.head.lines = end + 1;
            self.head.searched = end + 1;
            if self.head.line(line, &mut tell)? == Line::Empty {
                return self.end_of_head().map(Next::Head);
            }
        }
        self.head.searched = allowed.len();
        if self.head.status == 0 && !may_begin_status_line(allowed) {
            return Err(ResponseFault::StatusLine);
        }
        if bytes.len() > self.room { Err(ResponseFault::HeadTooLarge) } else { Ok(Next::Partial) }
    }

    /// RFC 9112 6.3, in its order.
    fn end_of_head(&mut self) -> Result<ResponseHead, ResponseFault> {
        let head = std::mem::take(&mut self.head);
        self.room = self.room.saturating_sub(head.lines);
        let (at, then) = match (head.status, head.length) {
            (101, _) if !self.awaited.upgrade => return Err(ResponseFault::UnaskedSwitch),
            (101, _) => (At::Tunnel, Then::Tunnel),
            (100..=199, _) => {
                if self.interim == MAX_INTERIM {
                    return Err(ResponseFault::TooManyInterim);
                }
                self.interim += 1;
                (At::Head, Then::Head)
            }
            (204 | 304, _) => (At::Nothing, Then::End),
            _ if self.awaited.head => (At::Nothing, Then::End),
            _ if head.chunked => (At::Content(Framed::chunked(u64::MAX)), Then::Content),
            (_, Some(0)) => (At::Nothing, Then::End),
            (_, Some(length)) => (At::Content(Framed::Length(length)), Then::Content),
            (_, None) => (At::Content(Framed::UntilClose), Then::Content),
        };
        self.at = at;
        let status = StatusCode::from_u16(head.status).map_err(|_| ResponseFault::StatusLine)?;
        let version = if head.http_10 { Version::HTTP_10 } else { Version::HTTP_11 };
        Ok(ResponseHead { status, version, fields: head.begin..head.lines, then })
    }
}

/// What a line of a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Line {
    Status,
    Field,
    /// The one that ends it.
    Empty,
}

/// Whether a status line that is none yet may still become one: an origin that speaks another protocol
/// is not waited for.
fn may_begin_status_line(bytes: &[u8]) -> bool {
    const VERSION: &[u8] = b"HTTP/1.";
    let length = bytes.len().min(VERSION.len());
    bytes.get(..length) == VERSION.get(..length)
}

impl Head {
    fn line(&mut self, line: &[u8], tell: &mut impl FnMut(&[u8], &[u8])) -> Result<Line, ResponseFault> {
        if self.status == 0 {
            self.status_line(line).ok_or(ResponseFault::StatusLine)?;
            self.begin = self.lines;
            return Ok(Line::Status);
        }
        let line = line.strip_suffix(b"\r").ok_or(ResponseFault::FieldLine)?;
        if line.is_empty() {
            return Ok(Line::Empty);
        }
        let (name, value) = field(line).ok_or(ResponseFault::FieldLine)?;
        self.field(name, trim(value), tell)?;
        Ok(Line::Field)
    }

    /// A field line that is a good one; its value has no blanks around it.
    fn field(
        &mut self,
        name: &[u8],
        value: &[u8],
        tell: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), ResponseFault> {
        if name.len() > MAX_NAME {
            return Err(ResponseFault::FieldLine);
        }
        if self.fields == MAX_FIELDS {
            return Err(ResponseFault::HeadTooLarge);
        }
        self.fields += 1;
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        tell(name, value);
        Ok(())
    }

    /// RFC 9112 4: `HTTP-version SP status-code [SP reason-phrase]`; the blank before a reason that is
    /// missing may be missing too, as many origins do.
    fn status_line(&mut self, line: &[u8]) -> Option<()> {
        let line = line.strip_suffix(b"\r")?;
        let (version, rest) = line.split_at_checked(9)?;
        self.http_10 = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return None,
        };
        let (code, reason) = rest.split_at_checked(3)?;
        let status = length(code).and_then(|code| u16::try_from(code).ok()).filter(|code| *code >= 100)?;
        if !matches!(reason, [] | [b' ', ..]) || !is_value(reason) {
            return None;
        }
        self.status = status;
        Some(())
    }

    /// RFC 9110 8.6: the same number several times is that number.
    fn content_length(&mut self, value: &[u8]) -> Result<(), ResponseFault> {
        if self.chunked {
            return Err(ResponseFault::BothFramings);
        }
        for member in value.split(|byte| *byte == b',') {
            let length = length(trim(member)).ok_or(ResponseFault::ContentLength)?;
            if self.length.replace(length).is_some_and(|other| other != length) {
                return Err(ResponseFault::ContentLength);
            }
        }
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), ResponseFault> {
        if self.length.is_some() {
            return Err(ResponseFault::BothFramings);
        }
        if self.chunked || self.http_10 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(ResponseFault::TransferEncoding);
        }
        self.chunked = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_HEAD: usize = 4096;
    const GET: Awaited = Awaited { head: false, upgrade: false };
    const HEAD: Awaited = Awaited { head: true, upgrade: false };
    const UPGRADE: Awaited = Awaited { head: false, upgrade: true };

    /// What became of the bytes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Progress {
        /// All belong to the answer, and it has not ended.
        Open,
        /// All belong to the answer, and it has ended with them.
        Complete,
        /// Those from here on answer nothing.
        Excess(usize),
    }

    /// A connection's reader, holding what is to be shown again.
    struct Reader {
        scanner: ResponseScanner,
        held: Vec<u8>,
    }

    impl Reader {
        fn new() -> Self {
            Self { scanner: ResponseScanner::new(MAX_HEAD), held: Vec::new() }
        }

        /// Reads what came; excess is counted from its beginning.
        fn scan(&mut self, bytes: &[u8]) -> Result<Progress, ResponseFault> {
            let before = self.held.len();
            self.held.extend_from_slice(bytes);
            let mut read = 0;
            while read < self.held.len() {
                match self.scanner.next(&self.held[read..])? {
                    Next::Partial => {
                        self.held.drain(..read);
                        return Ok(Progress::Open);
                    }
                    Next::Head(head) => read += head.fields.end,
                    Next::Content(piece) => read += piece.framing + piece.content,
                    Next::Excess => {
                        self.held.clear();
                        return Ok(Progress::Excess(read - before));
                    }
                    Next::Tunnel => read = self.held.len(),
                }
            }
            self.held.clear();
            Ok(if self.scanner.is_idle() { Progress::Complete } else { Progress::Open })
        }
    }

    fn awaiting(awaited: Awaited) -> Reader {
        let mut reader = Reader::new();
        reader.scanner.begin(awaited);
        reader
    }

    /// The verdict on `bytes` in pieces, excess counted from the beginning of them all.
    fn in_pieces(awaited: Awaited, bytes: &[u8], cuts: &[usize]) -> Result<Progress, ResponseFault> {
        let mut reader = awaiting(awaited);
        let mut last = Ok(Progress::Open);
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            if start < end {
                last = match reader.scan(&bytes[start..end]) {
                    Ok(Progress::Excess(at)) => return Ok(Progress::Excess(start + at)),
                    Ok(progress) => Ok(progress),
                    Err(fault) => return Err(fault),
                };
            }
            start = end;
        }
        last
    }

    #[track_caller]
    fn verdict(awaited: Awaited, bytes: &str, expected: Result<Progress, ResponseFault>) {
        assert_eq!(awaiting(awaited).scan(bytes.as_bytes()), expected, "{bytes:?}");
        let every: Vec<usize> = (0..bytes.len()).collect();
        assert_eq!(in_pieces(awaited, bytes.as_bytes(), &every), expected, "byte by byte: {bytes:?}");
    }

    #[track_caller]
    fn refused(bytes: &str, fault: ResponseFault) {
        verdict(GET, bytes, Err(fault));
    }

    #[test]
    fn rfc9112_2_2_lines_end_in_crlf() {
        refused("HTTP/1.1 200 OK\nA: b\r\n\r\n", ResponseFault::StatusLine);
        refused("HTTP/1.1 200 OK\r\nA: b\n\r\n", ResponseFault::FieldLine);
        refused("HTTP/1.1 200 OK\r\nA: b\r\n\n", ResponseFault::FieldLine);
        refused("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", ResponseFault::FieldLine);
        refused("\r\nHTTP/1.1 200 OK\r\n\r\n", ResponseFault::StatusLine);
    }

    #[test]
    fn rfc9112_4_status_lines() {
        for good in ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 599 a b\t\u{e9}"] {
            verdict(GET, &format!("{good}\r\nContent-Length: 0\r\n\r\n"), Ok(Progress::Complete));
        }
        for bad in [
            "HTTP/1.1",
            "HTTP/1.1 ",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 000 OK",
            "HTTP/1.1 099",
            "HTTP/1.1 abc OK",
            "HTTP/1.1 +20 OK",
            "HTTP/1.1  200",
            "HTTP/1.1\t200",
            "HTTP/1.1 200\tOK",
            "HTTP/2.0 200 OK",
            "HTTP/1.2 200 OK",
            "http/1.1 200 OK",
            "ICY 200 OK",
            "SSH-2.0-OpenSSH_9.2p1",
            "",
            "HTTP/1.1 200 O\0K",
        ] {
            refused(&format!("{bad}\r\nContent-Length: 0\r\n\r\n"), ResponseFault::StatusLine);
        }
    }

    #[test]
    fn rfc9112_5_field_lines() {
        for bad in ["A : b", "nothing", ": b", "A: b\r\n c", "A: b\0c", "A B: c", " A: b"] {
            refused(&format!("HTTP/1.1 200 OK\r\n{bad}\r\n\r\n"), ResponseFault::FieldLine);
        }
        let large = "x".repeat(MAX_HEAD);
        refused(&format!("HTTP/1.1 200 OK\r\nX: {large}\r\n\r\n"), ResponseFault::HeadTooLarge);
        refused(&format!("HTTP/1.1 200 OK\r\nX: {large}"), ResponseFault::HeadTooLarge);
    }

    #[test]
    fn fields_are_bounded_in_number() {
        let head = format!("HTTP/1.1 204 No Content\r\n{}", "a: b\r\n".repeat(usize::from(MAX_FIELDS)));
        verdict(GET, &format!("{head}\r\n"), Ok(Progress::Complete));
        refused(&format!("{head}a: b\r\n"), ResponseFault::HeadTooLarge);
    }

    #[test]
    fn what_cannot_become_a_status_line_is_not_waited_for() {
        for other in ["hello", "HTTQ", "220 mail.example", "HTTP/2", "\r"] {
            refused(other, ResponseFault::StatusLine);
        }
        for beginning in ["H", "HTTP/1.", "HTTP/1.1 200 O", "HTTP/1.9"] {
            verdict(GET, beginning, Ok(Progress::Open));
        }
    }

    #[test]
    fn rfc9112_4_a_head_is_told_with_its_place() {
        let bytes = b"HTTP/1.0 299 \xe9\r\nA: b\r\n\r\ncontent";
        let mut scanner = ResponseScanner::new(MAX_HEAD);
        scanner.begin(GET);
        let Ok(Next::Head(head)) = scanner.next(bytes) else { panic!("a head") };
        assert_eq!((head.status.as_u16(), head.version), (299, Version::HTTP_10));
        assert_eq!((&bytes[head.fields.clone()], head.then), (&b"A: b\r\n\r\n"[..], Then::Content));
        assert!(scanner.ends_with_connection());
        assert_eq!(scanner.left(), None);
    }

    #[test]
    fn rfc9112_6_3_one_length() {
        use ResponseFault as F;
        for (fields, fault) in [
            ("Content-Length: 3\r\nContent-Length: 4", F::ContentLength),
            ("Content-Length: 3, 4", F::ContentLength),
            ("Content-Length: 3,", F::ContentLength),
            ("Content-Length: +3", F::ContentLength),
            ("Content-Length: -3", F::ContentLength),
            ("Content-Length: -0", F::ContentLength),
            ("Content-Length: 3 4", F::ContentLength),
            ("Content-Length:", F::ContentLength),
            ("Content-Length: 18446744073709551616", F::ContentLength),
            ("Content-Length: 3\r\nTransfer-Encoding: chunked", F::BothFramings),
            ("Transfer-Encoding: chunked\r\nContent-Length: 3", F::BothFramings),
            ("Transfer-Encoding: chunked, chunked", F::TransferEncoding),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", F::TransferEncoding),
            ("Transfer-Encoding: gzip, chunked", F::TransferEncoding),
            ("Transfer-Encoding: identity", F::TransferEncoding),
            ("Transfer-Encoding:", F::TransferEncoding),
        ] {
            refused(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\nabc"), fault);
        }
        refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", F::TransferEncoding);
        let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding:\t Chunked \r\n\r\n0\r\n\r\n";
        verdict(GET, coded, Ok(Progress::Complete));
        for same in ["Content-Length: 3\r\nContent-Length: 3", "Content-Length: 3, 3", "content-length:3"] {
            verdict(GET, &format!("HTTP/1.1 200 OK\r\n{same}\r\n\r\nabc"), Ok(Progress::Complete));
        }
    }

    #[test]
    fn rfc9112_6_3_where_an_answer_ends() {
        use Progress as P;
        let long = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        verdict(GET, &format!("{long}ab"), Ok(P::Open));
        verdict(GET, &format!("{long}abc"), Ok(P::Complete));
        verdict(GET, &format!("{long}abcd"), Ok(P::Excess(long.len() + 3)));
        verdict(HEAD, long, Ok(P::Complete));
        verdict(HEAD, &format!("{long}abc"), Ok(P::Excess(long.len())));
        verdict(HEAD, chunked, Ok(P::Complete));
        verdict(GET, &format!("{chunked}3\r\nabc\r\n"), Ok(P::Open));
        verdict(GET, &format!("{chunked}3\r\nabc\r\n0\r\nT: v\r\n\r\n"), Ok(P::Complete));
        verdict(GET, &format!("{chunked}0\r\n\r\nH"), Ok(P::Excess(chunked.len() + 5)));
        refused(&format!("{chunked}3 \r\nabc\r\n"), ResponseFault::Chunks);
        refused(&format!("{chunked}3\r\nabcd"), ResponseFault::Chunks);
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\n\r\n");
            verdict(GET, &head, Ok(P::Complete));
            verdict(GET, &format!("{head}abc"), Ok(P::Excess(head.len())));
        }
        verdict(GET, "HTTP/1.1 200 OK\r\n\r\nwhatever comes", Ok(P::Open));
    }

    #[test]
    fn rfc9110_15_2_interim_answers_are_bounded() {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
        let last = "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz";
        verdict(GET, &(hint.repeat(16) + last), Ok(Progress::Complete));
        refused(&(hint.repeat(17) + last), ResponseFault::TooManyInterim);
        let large = format!("HTTP/1.1 103 Early Hints\r\nX: {}\r\n\r\n", "x".repeat(1000));
        refused(&(large.repeat(5) + last), ResponseFault::HeadTooLarge);
    }

    #[test]
    fn rfc9110_7_8_a_101_is_asked_for() {
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n";
        refused(switch, ResponseFault::UnaskedSwitch);
        verdict(UPGRADE, &format!("{switch}\0anything\n"), Ok(Progress::Open));
    }

    #[test]
    fn bytes_that_answer_nothing() {
        let mut reader = Reader::new();
        assert_eq!(reader.scan(b"HTTP"), Ok(Progress::Excess(0)));
        reader.scanner.begin(GET);
        assert!(!reader.scanner.is_idle());
        assert_eq!(reader.scan(b"HTTP/1.1 204 No Content\r\n\r\n"), Ok(Progress::Complete));
        assert!(reader.scanner.is_idle());
        assert_eq!(reader.scan(b"\r\n"), Ok(Progress::Excess(0)));
    }

    #[test]
    fn a_refused_connection_stays_refused() {
        let mut reader = awaiting(GET);
        assert_eq!(reader.scan(b"nonsense\r\n"), Err(ResponseFault::StatusLine));
        reader.scanner.begin(GET);
        assert_eq!(reader.scan(b"HTTP/1.1 204 No Content\r\n\r\n"), Err(ResponseFault::StatusLine));
        assert!(!reader.scanner.is_idle());
    }

    fn pieces() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just("HTTP/1.1 200 OK\r\n"),
            Just("HTTP/1.1 103 Early Hints\r\n\r\n"),
            Just("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Just("HTTP/1.0 304 Not Modified\r\n\r\n"),
            Just("Content-Length: 4\r\n"),
            Just("Transfer-Encoding: chunked\r\n"),
            Just("2\r\nxy\r\n"),
            Just("0\r\n\r\n"),
            Just("\r\n"),
            Just("X-A: b \t\r\n"),
            Just("X : y\r\n"),
            Just("X: \0\r\n"),
            Just("X: a\rb\r\n"),
            Just(" folded\r\n"),
            Just("abcd"),
            Just("\n"),
            Just("\r"),
        ];
        proptest::collection::vec(part, 0..8).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_the_bytes_arrive(
            bytes in pieces(),
            head in any::<bool>(),
            upgrade in any::<bool>(),
            at in proptest::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut cuts: Vec<usize> = at.iter().map(|index| index.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let awaited = Awaited { head, upgrade };
            prop_assert_eq!(in_pieces(awaited, &bytes, &[]), in_pieces(awaited, &bytes, &cuts));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = awaiting(GET).scan(&bytes);
            let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = awaiting(GET).scan(&[chunked.as_slice(), bytes.as_slice()].concat());
        }
    }
}
