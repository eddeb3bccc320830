//! What stands between a connection's socket and the HTTP engine.
//!
//! Decides: how far an exchange is, as seen from the socket. Which bytes of an origin may go on is
//! [`ResponseScanner`]'s word: every byte passes it before the engine reads it. Never touches: what the
//! bytes mean to a client.
//!
//! - An answer with no reading, or more than one, is an error of the read, and so is all that follows.
//! - Bytes behind the end of an answer never go on. The answer stands; its connection is poisoned.
//! - Bytes that come before the first byte of a request was written answer nothing: the connection is
//!   poisoned, and the request, of which nothing was sent, goes to another one.
//!
//! The engine's buffer is scanned where it is: nothing is held back, and content of known length is
//! passed over.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::UpstreamError;
use super::connect::{Transport, Unread};
use super::exchange::Exchange;
use super::server::Open;
use crate::wire::{Progress, ResponseFault, ResponseScanner};

/// The socket, as the engine sees it.
#[derive(Debug)]
pub(super) struct Gate {
    transport: Transport,
    scanner: ResponseScanner,
    exchange: Arc<Exchange>,
    /// The exchange that is being heard.
    number: u64,
    stage: Stage,
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
    /// `max_head`: bytes of all heads of one answer.
    pub(super) fn new(transport: Transport, exchange: Arc<Exchange>, max_head: usize, open: Open) -> Self {
        let scanner = ResponseScanner::new(max_head);
        Self { transport, scanner, exchange, number: 0, stage: Stage::Probed, _open: open }
    }

    /// Notices that another exchange was begun.
    fn keep_up(&mut self) {
        let (number, _awaited) = self.exchange.current();
        if number != self.number {
            // A connection is fresh before its first exchange: nothing can lie unread.
            self.stage = if self.number == 0 { Stage::Probed } else { Stage::Begun };
            self.number = number;
        }
    }

    /// Bytes of a request were written: what comes from here on is its answer.
    fn wrote(&mut self) {
        self.keep_up();
        if self.stage != Stage::Answering {
            self.stage = Stage::Answering;
            let (_number, awaited) = self.exchange.current();
            self.scanner.begin(awaited);
        }
    }

    fn stray(&self) -> io::Error {
        self.exchange.poison();
        self.exchange.blame(UpstreamError::protocol(STRAY));
        io::Error::new(io::ErrorKind::InvalidData, STRAY)
    }

    fn refuse(&self, fault: ResponseFault) -> io::Error {
        self.exchange.blame(UpstreamError::protocol(fault));
        io::Error::new(io::ErrorKind::InvalidData, fault)
    }
}

const STRAY: &str = "bytes that answer no request";

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
        match this.scanner.scan(got) {
            Ok(Progress::Excess(0)) => return Poll::Ready(Err(this.stray())),
            Ok(Progress::Excess(end)) => {
                this.exchange.poison();
                buf.set_filled(before + end);
            }
            Ok(Progress::Open | Progress::Complete) => {}
            Err(fault) => {
                this.exchange.hear();
                return Poll::Ready(Err(this.refuse(fault)));
            }
        }
        this.exchange.hear();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut this.transport).poll_write(cx, buf))?;
        this.wrote();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let transport = Pin::new(&mut this.transport);
        // One piece goes the kernel's shorter way.
        let written = ready!(match bufs {
            [all] => transport.poll_write(cx, all),
            pieces => transport.poll_write_vectored(cx, pieces),
        })?;
        this.wrote();
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
