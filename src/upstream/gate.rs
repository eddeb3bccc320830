//! What stands between a connection's socket and the HTTP engine.
//!
//! Decides: which bytes of an origin the engine gets to see. Never touches: what they mean to a client.
//!
//! - Bytes that come before the first byte of a request was written answer nothing: the connection is
//!   poisoned, and the request, of which nothing was sent, goes to another one.
//! - What comes before a final head is bounded, 1xx included.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::UpstreamError;
use super::connect::{Transport, Unread};
use super::exchange::Exchange;
use super::server::Open;

/// Bytes an origin may send before its final head is taken: that head, and every 1xx before it. More is
/// a flood. Above what the engine buffers, which may belong to the body already.
const BEFORE_ANSWER: usize = 1 << 20;

/// The socket, as the engine sees it.
#[derive(Debug)]
pub(super) struct Gate {
    transport: Transport,
    exchange: Arc<Exchange>,
    /// The exchange that is being heard.
    number: u64,
    stage: Stage,
    /// Bytes read before the final head was taken.
    before_answer: usize,
    _open: Open,
}

/// How far the exchange is, as seen from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing of the request was written, and the socket was not asked what lies unread.
    Begun,
    /// Nothing of the request was written; the socket was asked.
    Probed,
    /// The request is on its way: what is read is its answer.
    Answering,
}

impl Gate {
    pub(super) fn new(transport: Transport, exchange: Arc<Exchange>, open: Open) -> Self {
        Self { transport, exchange, number: 0, stage: Stage::Probed, before_answer: 0, _open: open }
    }

    /// Notices that another exchange was begun.
    fn keep_up(&mut self) {
        let (number, _order) = self.exchange.current();
        if number != self.number {
            // A connection is fresh before its first exchange: nothing can lie unread.
            self.stage = if self.number == 0 { Stage::Probed } else { Stage::Begun };
            self.number = number;
            self.before_answer = 0;
        }
    }

    fn stray(&self) -> io::Error {
        self.exchange.poison();
        self.refuse("bytes that answer no request")
    }

    fn refuse(&self, fault: &'static str) -> io::Error {
        self.exchange.blame(UpstreamError::protocol(fault));
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.keep_up();
        let before = buf.filled().len();
        let Poll::Ready(read) = Pin::new(&mut this.transport).poll_read(cx, buf) else {
            if this.stage == Stage::Begun {
                this.stage = Stage::Probed;
                return match this.transport.unread() {
                    Unread::Nothing => Poll::Pending,
                    Unread::Bytes => Poll::Ready(Err(this.stray())),
                    Unread::End => Poll::Ready(Ok(())),
                };
            }
            return Poll::Pending;
        };
        read?;
        let got = buf.filled().get(before..).unwrap_or_default();
        if got.is_empty() {
            return Poll::Ready(Ok(()));
        }
        if this.stage != Stage::Answering {
            return Poll::Ready(Err(this.stray()));
        }
        this.exchange.hear();
        if !this.exchange.is_answered() {
            this.before_answer = this.before_answer.saturating_add(got.len());
            if this.before_answer > BEFORE_ANSWER {
                return Poll::Ready(Err(this.refuse("too much before the final response head")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write(cx, buf))?;
        this.keep_up();
        this.stage = Stage::Answering;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write_vectored(cx, bufs))?;
        this.keep_up();
        this.stage = Stage::Answering;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
