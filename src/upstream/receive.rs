//! What the bytes that were read are: heads, content, trailers, the end.
//!
//! Decides: which bytes are copied, and what memory they keep. Which of an origin's bytes may go on is
//! [`ResponseScanner`]'s word. Never touches: sockets, clocks, or what the bytes mean to a client.
//!
//! - An answer with no reading, or more than one, is an error, and nothing of the read that shows it goes
//!   on; nor does anything after it.
//! - Bytes behind the end of an answer never go on. The answer stands; its connection is poisoned.
//!
//! One buffer of [`SIZE`] bytes serves all connections of a thread. What is small leaves it as a copy of
//! its exact size, so that a head or a few bytes of content that are kept never keep a large buffer; content
//! that nearly fills it takes it along, so that a stream is not copied.

use std::cell::Cell;

use bytes::Bytes;
use http::HeaderMap;

use super::UpstreamError;
use super::response::Head;
use crate::wire::framed::Piece;
use crate::wire::{
    Awaited, FieldLines, MAX_FIELDS, Next, ResponseFault, ResponseHead, ResponseScanner, Then, whole_head,
};

/// Bytes of one read.
const SIZE: usize = 64 << 10;
/// What must be free for the rest of a head that did not come at once.
const ROOM: usize = 16 << 10;
/// Bytes that are added to a head on its way.
const ADDED: usize = 64;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty buffer, of [`SIZE`] bytes.
pub(super) fn buffer() -> Vec<u8> {
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    if spare.capacity() == SIZE { spare } else { Vec::with_capacity(SIZE) }
}

/// Keeps a buffer for the next read of this thread.
pub(super) fn give_back(mut buffer: Vec<u8>) {
    if buffer.capacity() == SIZE {
        buffer.clear();
        // A thread that ends keeps none.
        let _ = SPARE.try_with(|spare| spare.set(buffer));
    }
}

/// Reads the answer to one request.
#[derive(Debug)]
pub(super) struct Receiver {
    scanner: ResponseScanner,
    /// A head whose end has not come.
    held: Vec<u8>,
    /// Bytes came that belong to no answer: nothing on this connection can be trusted any more.
    poisoned: bool,
}

/// What came with one read.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The final head, or a 101.
    pub(super) head: Option<Head>,
    /// With a head: the length of the content, where it states one.
    pub(super) length: Option<u64>,
    /// Content, out of its framing; behind a 101, bytes of the other protocol.
    pub(super) content: Bytes,
    pub(super) trailers: Option<HeaderMap>,
    /// The answer has ended.
    pub(super) ended: bool,
}

impl Receiver {
    /// `max_head`: bytes of all heads of one answer.
    pub(super) fn new(max_head: usize) -> Self {
        Self { scanner: ResponseScanner::new(max_head), held: Vec::new(), poisoned: false }
    }

    /// Bytes of a request are about to be written: what comes from here on is its answer.
    pub(super) fn begin(&mut self, awaited: Awaited) {
        self.scanner.begin(awaited);
    }

    pub(super) const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// Whether the end of the connection is the proper end of the answer.
    pub(super) const fn ends_with_connection(&self) -> bool {
        self.scanner.ends_with_connection()
    }

    /// Where the next bytes are to be appended. It goes back through [`Self::unread`] or [`Self::read`].
    pub(super) fn buffer(&mut self) -> Vec<u8> {
        if self.held.is_empty() {
            return buffer();
        }
        let mut held = std::mem::take(&mut self.held);
        held.reserve(ROOM);
        held
    }

    /// Nothing was read.
    pub(super) fn unread(&mut self, buffer: Vec<u8>) {
        if buffer.is_empty() {
            give_back(buffer);
        } else {
            self.held = buffer;
        }
    }

    /// Bytes were read: what they are. `interim` is told each 1xx head but 101.
    pub(super) fn read(
        &mut self,
        mut buffer: Vec<u8>,
        interim: impl Fn(&Head),
    ) -> Result<Received, UpstreamError> {
        let mut received = Received::default();
        let mut begin = 0;
        while let Some(bytes) = buffer.get(begin..).filter(|bytes| !bytes.is_empty()) {
            if let Some(head) = self.whole_head(bytes) {
                let (head, fields) = head?;
                begin += head.fields.end;
                received.told(&head, fields, &self.scanner, &interim);
                continue;
            }
            match self.scanner.next(bytes).map_err(UpstreamError::protocol)? {
                Next::Partial => {
                    buffer.drain(..begin);
                    self.held = buffer;
                    return Ok(received);
                }
                Next::Head(head) => {
                    let lines = bytes.get(head.fields.clone()).unwrap_or_default();
                    let fields = FieldLines::read(lines);
                    let fields = fields.ok_or_else(|| UpstreamError::protocol(ResponseFault::FieldLine))?;
                    begin += head.fields.end;
                    received.told(&head, fields, &self.scanner, &interim);
                }
                Next::Content(first) => {
                    let begin = self.unframe(&mut buffer, begin, first)?;
                    received.content = taken(&mut buffer, begin);
                    break;
                }
                Next::Excess => {
                    self.poisoned = true;
                    break;
                }
                Next::Tunnel => {
                    received.content = Bytes::copy_from_slice(bytes);
                    break;
                }
            }
        }
        give_back(buffer);
        received.ended = self.scanner.is_idle();
        received.trailers = self.scanner.trailers();
        Ok(received)
    }

    /// The head at the beginning of `bytes`, where nothing of it was read before and all of it is there, as nearly
    /// always: its lines are judged and taken down in one go.
    fn whole_head(&mut self, bytes: &[u8]) -> Option<Result<(ResponseHead, FieldLines), UpstreamError>> {
        if !self.scanner.is_before_head() {
            return None;
        }
        let (length, lines) = whole_head(bytes)?;
        // The status line is counted among them: room for one more that is added on the way.
        let lines = lines.min(usize::from(MAX_FIELDS) + 1);
        let mut fields = FieldLines::with_capacity(length + ADDED, lines);
        match self.scanner.next_told(bytes.get(..length)?, |name, value| fields.push(name, value)) {
            Ok(Next::Head(head)) => Some(Ok((head, fields))),
            // A head that has ended is one, or is refused.
            Ok(_) => Some(Err(UpstreamError::protocol(ResponseFault::FieldLine))),
            Err(fault) => Some(Err(UpstreamError::protocol(fault))),
        }
    }

    /// Moves the content of all the pieces from `begin` on together, and cuts the buffer behind it; where
    /// it begins.
    fn unframe(&mut self, buffer: &mut Vec<u8>, begin: usize, first: Piece) -> Result<usize, UpstreamError> {
        let begin = begin + first.framing;
        let mut end = begin + first.content;
        let mut read = end;
        while let Some(bytes) = buffer.get(read..).filter(|bytes| !bytes.is_empty()) {
            match self.scanner.next(bytes).map_err(UpstreamError::protocol)? {
                Next::Content(piece) => {
                    read += piece.framing;
                    buffer.copy_within(read..read + piece.content, end);
                    read += piece.content;
                    end += piece.content;
                }
                Next::Excess => {
                    self.poisoned = true;
                    break;
                }
                // Behind content comes none of these.
                Next::Partial | Next::Head(_) | Next::Tunnel => break,
            }
        }
        buffer.truncate(end);
        Ok(begin)
    }
}

impl Received {
    /// A head came, and the scanner knows what follows it.
    fn told(
        &mut self,
        head: &ResponseHead,
        fields: FieldLines,
        scanner: &ResponseScanner,
        interim: &impl Fn(&Head),
    ) {
        let told = Head { status: head.status, version: head.version, fields };
        if head.then == Then::Head {
            interim(&told);
        } else {
            self.head = Some(told);
            self.length = scanner.left();
        }
    }
}

/// What the buffer holds from `begin` on: a copy, or the buffer itself where little else is in it.
fn taken(buffer: &mut Vec<u8>, begin: usize) -> Bytes {
    let content = buffer.get(begin..).unwrap_or_default();
    if content.len() < buffer.capacity() / 8 * 7 {
        return Bytes::copy_from_slice(content);
    }
    Bytes::from(std::mem::take(buffer)).slice(begin..)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use proptest::prelude::*;

    use super::*;

    const MAX_HEAD: usize = 4096;

    /// All that was handed on of an answer.
    #[derive(Debug, Default, PartialEq)]
    struct Heard {
        interim: Vec<(u16, HeaderMap)>,
        head: Option<(u16, HeaderMap)>,
        content: Vec<u8>,
        trailers: Option<HeaderMap>,
        ended: bool,
        poisoned: bool,
    }

    /// What a connection hands on of `bytes` that arrive in pieces; the beginning of it, and no more,
    /// where they are refused.
    fn heard(awaited: Awaited, bytes: &[u8], cuts: &[usize]) -> (Heard, bool) {
        let mut receiver = Receiver::new(MAX_HEAD);
        receiver.begin(awaited);
        let mut heard = Heard::default();
        let interim = RefCell::new(Vec::new());
        let (mut start, mut refused) = (0, false);
        for end in cuts.iter().copied().chain([bytes.len()]) {
            // After the end of its answer a connection is read no more.
            if start == end || heard.ended {
                continue;
            }
            let mut buffer = receiver.buffer();
            buffer.extend_from_slice(&bytes[start..end]);
            start = end;
            let map = |head: &Head| head.clone().into_parts().expect("good lines").headers;
            let told = |head: &Head| interim.borrow_mut().push((head.status.as_u16(), map(head)));
            let Ok(received) = receiver.read(buffer, told) else {
                refused = true;
                break;
            };
            if let Some(head) = received.head {
                assert!(heard.head.replace((head.status.as_u16(), map(&head))).is_none());
            }
            heard.content.extend_from_slice(&received.content);
            heard.trailers = received.trailers;
            heard.ended = received.ended;
        }
        heard.interim = interim.into_inner();
        heard.poisoned = receiver.is_poisoned();
        (heard, refused)
    }

    /// The same by the scanner's word alone, over all bytes at once.
    fn said(awaited: Awaited, bytes: &[u8]) -> (Heard, bool) {
        let mut scanner = ResponseScanner::new(MAX_HEAD);
        scanner.begin(awaited);
        let mut said = Heard::default();
        let mut read = 0;
        while read < bytes.len() {
            let rest = &bytes[read..];
            match scanner.next(rest) {
                Ok(Next::Head(head)) => {
                    let lines = FieldLines::read(&rest[head.fields.clone()]).expect("good lines");
                    let told = (head.status.as_u16(), lines.into_map().expect("good lines"));
                    if head.then == Then::Head {
                        said.interim.push(told)
                    } else {
                        said.head = Some(told)
                    }
                    read += head.fields.end;
                }
                Ok(Next::Content(piece)) => {
                    let begin = read + piece.framing;
                    read = begin + piece.content;
                    said.content.extend_from_slice(&bytes[begin..read]);
                }
                Ok(Next::Tunnel) => {
                    said.content.extend_from_slice(rest);
                    read = bytes.len();
                }
                Ok(Next::Partial) => break,
                Ok(Next::Excess) => {
                    said.poisoned = true;
                    break;
                }
                Err(_) => return (said, true),
            }
        }
        said.trailers = scanner.trailers();
        said.ended = scanner.is_idle();
        (said, false)
    }

    fn answers() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just("HTTP/1.1 200 OK\r\n"),
            Just("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"),
            Just("HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            Just("HTTP/1.0 304 Not Modified\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nA: b\r\n\r\n"),
            Just("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: b\r\n\r\n"),
            Just("Content-Length: 4\r\n"),
            Just("Transfer-Encoding: chunked\r\n"),
            Just("2\r\nxy\r\n"),
            Just("003;a=b\r\n\0\r\n\r\n"),
            Just("0\r\n\r\n"),
            Just("0\r\nSum: 1\r\n\r\n"),
            Just("\r\n"),
            Just("abcd"),
            Just("\n"),
        ];
        proptest::collection::vec(part, 0..9).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn what_is_read_is_the_scanners_verdict_however_it_arrives(
            bytes in answers(),
            head in any::<bool>(),
            upgrade in any::<bool>(),
            at in proptest::collection::vec(any::<prop::sample::Index>(), 0..9),
        ) {
            let mut cuts: Vec<usize> = at.iter().map(|index| index.index(bytes.len() + 1)).collect();
            cuts.sort_unstable();
            let every: Vec<usize> = (1..bytes.len()).collect();
            let awaited = Awaited { head, upgrade };
            let (said, refused) = said(awaited, &bytes);
            for cuts in [&[][..], &cuts, &every] {
                let (mut heard, heard_refused) = heard(awaited, &bytes, cuts);
                prop_assert_eq!(heard_refused, refused);
                if refused {
                    // What came before may have gone on, as far as it came before.
                    prop_assert!(said.content.starts_with(&heard.content));
                    prop_assert!(heard.head.is_none() || heard.head == said.head);
                    prop_assert!(!heard.ended);
                    continue;
                }
                // Bytes behind the end may come after the connection was last read.
                heard.poisoned = said.poisoned;
                prop_assert_eq!(&heard, &said);
            }
            prop_assert!(!said.poisoned || heard(awaited, &bytes, &[]).0.poisoned);
        }
    }

    #[test]
    fn what_is_kept_is_as_large_as_what_it_holds() {
        for (length, copied) in [(1, true), (SIZE / 2, true), (SIZE, false)] {
            let mut full = buffer();
            full.resize(length, b'x');
            let content = taken(&mut full, 0);
            assert_eq!((content.len(), full.capacity() == SIZE), (length, copied));
        }
        let empty = buffer();
        assert_eq!((empty.len(), empty.capacity()), (0, SIZE));
    }
}
