//! A request on its way to the origin: its head, then its content, in the framing that the head states
//! (RFC 9112 6).
//!
//! Decides: which bytes go out in what order, when the message has ended cleanly, and whom the next bytes
//! have to come from. Never touches: which fields a head has (`request` does), or what an answer means.
//!
//! - A body that fails, or that is not as long as it said, breaks the message off: it is never ended
//!   properly (no last chunk, no filled-up length).
//! - What is small and at hand goes out together with the head; large content is never copied.
//! - No more than one frame of the body is held beside [`GATHERED`] bytes: an origin that stalls stalls
//!   the client.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, Bytes};
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use http_body::Frame;
use tokio::io::AsyncWrite;

use super::UpstreamError;
use super::body::RequestBody;
use super::request::{Framing, RequestHead};
use crate::clock;
use crate::wire::fields;

/// Bytes that are joined into one write before they go out.
const GATHERED: usize = 16 << 10;
/// Frames up to so many bytes are copied to be joined.
const SMALL: usize = 4 << 10;
/// Writes in a row, however much the connection takes: then the answer is looked at.
const TURNS: u32 = 16;
/// What most heads take.
const HEAD: usize = 1 << 10;

/// The end of a chunk's content.
const CRLF: &[u8] = b"\r\n";

/// How far the request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The connection took all of it, the last bytes then. One without content counts from its beginning.
    Ended(Instant),
    /// The next bytes have to come from the client: whatever time passes is not the origin's.
    WithClient,
    /// The connection took bytes last then, and has to take more.
    WithOrigin(Instant),
}

/// One request.
#[derive(Debug)]
pub(super) struct Upload {
    /// Small pieces to be written: the head, the framing, small content.
    pieces: Vec<u8>,
    /// How much of them was written.
    written: usize,
    /// Content that goes out behind them, and the framing behind it.
    content: Bytes,
    behind: &'static [u8],
    body: RequestBody,
    coding: Coding,
    stage: Stage,
    /// The connection takes no more: what it said.
    cut: Option<io::Error>,
}

/// How the content is framed.
#[derive(Debug)]
enum Coding {
    /// So many bytes of it have not come.
    Length(u64),
    /// In chunks; of the trailers, these are passed on.
    Chunked(Vec<HeaderName>),
    /// Nothing more will come.
    Ended,
}

impl Upload {
    /// The request of `head` to `host`, framed for `body` (RFC 9112 6, RFC 9110 8.6); begun at `now`.
    pub(super) fn new(head: &RequestHead, host: &HeaderValue, body: RequestBody, now: Instant) -> Self {
        let body = if body.is_empty() { RequestBody::Empty } else { body };
        let (framing, coding) = match body.size_hint().exact() {
            _ if matches!(body, RequestBody::Empty) => (Framing::None, Coding::Ended),
            Some(0) => (Framing::Length(0), Coding::Ended),
            Some(length) => (Framing::Length(length), Coding::Length(length)),
            None => (Framing::Chunked, Coding::Chunked(head.trailers())),
        };
        let mut pieces = Vec::with_capacity(HEAD);
        head.write(&mut pieces, host, framing);
        pieces.extend_from_slice(CRLF);
        let (content, behind) = (Bytes::new(), &[][..]);
        let stage = Stage::WithOrigin(now);
        Self { pieces, written: 0, content, behind, body, coding, stage, cut: None }
    }

    /// Whether the connection has taken all of it.
    pub(super) const fn is_whole(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Since when the origin alone has been waited for; `None` while the client's bytes are.
    pub(super) const fn waiting_for_origin_since(&self) -> Option<Instant> {
        match self.stage {
            Stage::Ended(at) | Stage::WithOrigin(at) => Some(at),
            Stage::WithClient => None,
        }
    }

    /// What the connection said when it took no more.
    pub(super) const fn take_cut(&mut self) -> Option<io::Error> {
        self.cut.take()
    }

    /// Writes on, as far as client and connection allow. Ready once there is nothing more to write; also
    /// where the connection takes no more, which is no failure yet: the answer may have come before.
    ///
    /// # Errors
    /// [`UpstreamError::ClientBody`]: the message is broken off.
    pub(super) fn poll<C: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        connection: &mut C,
    ) -> Poll<Result<(), UpstreamError>> {
        for turn in 0.. {
            if self.is_whole() || self.cut.is_some() {
                break;
            }
            if turn == TURNS {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.gather(cx)?;
            if self.stage == Stage::WithClient && !self.is_written() {
                self.stage = Stage::WithOrigin(clock::monotonic());
            }
            let done = if self.is_written() {
                ready!(Pin::new(&mut *connection).poll_flush(cx)).map(|()| None)
            } else {
                ready!(self.poll_write(cx, connection)).map(Some)
            };
            match done {
                Ok(Some(count)) => self.wrote(count),
                Ok(None) if matches!(self.coding, Coding::Ended) => {
                    let at = self.waiting_for_origin_since();
                    self.stage = Stage::Ended(at.unwrap_or_else(clock::monotonic));
                }
                Ok(None) => {
                    self.stage = Stage::WithClient;
                    return Poll::Pending;
                }
                Err(error) => {
                    self.cut = Some(error);
                    // Nothing more of the client's goes there: what is waited for is the origin's answer.
                    if self.stage == Stage::WithClient {
                        self.stage = Stage::WithOrigin(clock::monotonic());
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    const fn is_written(&self) -> bool {
        self.written == self.pieces.len() && self.content.is_empty() && self.behind.is_empty()
    }

    /// Takes what the client's side has at hand, up to [`GATHERED`] bytes or one large frame.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), UpstreamError> {
        while !matches!(self.coding, Coding::Ended)
            && self.content.is_empty()
            && self.behind.is_empty()
            && self.pieces.len() - self.written < GATHERED
        {
            match self.body.poll_frame(cx) {
                Poll::Pending => break,
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Ok(frame))) => self.put(frame)?,
                Poll::Ready(Some(Err(error))) => return Err(UpstreamError::ClientBody(Arc::from(error))),
            }
        }
        Ok(())
    }

    fn put(&mut self, frame: Frame<Bytes>) -> Result<(), UpstreamError> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok().as_ref()),
        };
        if data.is_empty() {
            return Ok(());
        }
        let behind = match &mut self.coding {
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or_else(misstated)?;
                if *left == 0 {
                    self.coding = Coding::Ended;
                }
                &[][..]
            }
            Coding::Chunked(_) => {
                fields::put_chunk_size(&mut self.pieces, data.len());
                CRLF
            }
            Coding::Ended => return Err(misstated()),
        };
        if data.len() <= SMALL {
            self.pieces.extend_from_slice(&data);
            self.pieces.extend_from_slice(behind);
        } else {
            (self.content, self.behind) = (data, behind);
        }
        Ok(())
    }

    /// The body has ended.
    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), UpstreamError> {
        match std::mem::replace(&mut self.coding, Coding::Ended) {
            Coding::Length(0) | Coding::Ended => Ok(()),
            Coding::Length(_) => Err(misstated()),
            Coding::Chunked(named) => {
                fields::put_last_chunk(&mut self.pieces, trailers, &named);
                Ok(())
            }
        }
    }

    fn poll_write<C: AsyncWrite + Unpin>(
        &self,
        cx: &mut Context<'_>,
        connection: &mut C,
    ) -> Poll<io::Result<usize>> {
        let connection = Pin::new(connection);
        let pieces = self.pieces.get(self.written..).unwrap_or_default();
        let written = ready!(if self.content.is_empty() && self.behind.is_empty() {
            // One piece goes the kernel's shorter way.
            connection.poll_write(cx, pieces)
        } else {
            let slices = [pieces, &self.content, self.behind].map(IoSlice::new);
            connection.poll_write_vectored(cx, &slices)
        })?;
        Poll::Ready(if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) })
    }

    fn wrote(&mut self, mut count: usize) {
        let small = count.min(self.pieces.len() - self.written);
        self.written += small;
        count -= small;
        let large = count.min(self.content.len());
        self.content.advance(large);
        self.behind = self.behind.get(count - large..).unwrap_or_default();
        if self.written == self.pieces.len() {
            self.pieces.clear();
            self.written = 0;
        }
        if !matches!(self.body, RequestBody::Empty) {
            self.stage = Stage::WithOrigin(clock::monotonic());
        }
    }
}

fn misstated() -> UpstreamError {
    let told = "the request's content is not as long as it said";
    UpstreamError::ClientBody(Arc::new(io::Error::new(io::ErrorKind::InvalidData, told)))
}
