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
use http::response::{Parts, Response};

use super::UpstreamError;
use crate::wire::framed::Piece;
use crate::wire::{Awaited, Next, ResponseFault, ResponseHead, ResponseScanner, Then, fields};

/// Bytes of one read.
const SIZE: usize = 64 << 10;
/// What must be free for the rest of a head that did not come at once.
const ROOM: usize = 16 << 10;

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
    pub(super) head: Option<Parts>,
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
        interim: impl Fn(&Parts),
    ) -> Result<Received, UpstreamError> {
        let mut received = Received::default();
        let mut begin = 0;
        while let Some(bytes) = buffer.get(begin..).filter(|bytes| !bytes.is_empty()) {
            match self.scanner.next(bytes).map_err(UpstreamError::protocol)? {
                Next::Partial => {
                    buffer.drain(..begin);
                    self.held = buffer;
                    return Ok(received);
                }
                Next::Head(head) => {
                    let parts = parts(&head, bytes)?;
                    begin += head.fields.end;
                    if head.then == Then::Head {
                        interim(&parts);
                    } else {
                        received.head = Some(parts);
                        received.length = self.scanner.left();
                    }
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

/// A head as the rest of the program knows it; its values keep a copy of its lines, and nothing else.
fn parts(head: &ResponseHead, bytes: &[u8]) -> Result<Parts, UpstreamError> {
    let lines = bytes.get(head.fields.clone()).unwrap_or_default();
    let fields = fields::map(&Bytes::copy_from_slice(lines));
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.status = head.status;
    parts.version = head.version;
    parts.headers = fields.ok_or_else(|| UpstreamError::protocol(ResponseFault::FieldLine))?;
    Ok(parts)
}

/// What the buffer holds from `begin` on: a copy, or the buffer itself where little else is in it.
fn taken(buffer: &mut Vec<u8>, begin: usize) -> Bytes {
    let content = buffer.get(begin..).unwrap_or_default();
    if content.len() < buffer.capacity() / 4 * 3 {
        return Bytes::copy_from_slice(content);
    }
    Bytes::from(std::mem::take(buffer)).slice(begin..)
}
