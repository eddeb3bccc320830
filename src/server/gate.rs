//! The gate: what stands between a client's socket and hyper.
//!
//! Decides nothing itself: [`RequestScanner`] reads the bytes, the gate lets whole heads and their
//! content through and holds back the beginning of a head until its end has come. A refused request
//! is handed on as a minimal head of our own, so that hyper answers it in its turn, after the answers
//! to the requests before it; nothing after it is ever read as HTTP. Never touches: meaning.
//!
//! The common read, a whole head at once, goes from the socket straight into hyper's buffer and is
//! scanned there.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::wire::{Connection, Limits, Refusal, RequestScanner, Scan};

/// What hyper reads in the place of a refused request; the service knows it by its number.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// After a refusal: how much, and how long, is read and thrown away so that the answer is not lost
/// to a reset.
const LINGER_BYTES: usize = 64 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// A client's socket, as hyper sees it.
#[derive(Debug)]
pub(super) struct Gate {
    socket: TcpStream,
    scanner: RequestScanner,
    connection: Connection,
    /// The beginning of a head whose end has not come.
    held: Vec<u8>,
    /// Bytes that may go on, but did not fit into hyper's buffer.
    ready: BytesMut,
    /// Runs until the first head has begun, and while a head is incomplete.
    patience: Option<Pin<Box<Sleep>>>,
    header_timeout: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Open,
    /// Content was refused: once what came before it has been taken, reading fails.
    Failing(Refusal),
    /// Nothing more is read.
    Refused,
    /// The write side is shut; what still comes is thrown away.
    Lingering(Pin<Box<Sleep>>, usize),
}

impl Gate {
    pub(super) fn new(
        socket: TcpStream,
        connection: Connection,
        limits: Limits,
        header_timeout: Duration,
    ) -> Self {
        Self {
            socket,
            scanner: RequestScanner::new(limits),
            connection,
            held: Vec::new(),
            ready: BytesMut::new(),
            // A client that connects and says nothing is as slow as one that never ends its head.
            patience: Some(Box::pin(sleep(header_timeout))),
            header_timeout,
            state: State::Open,
        }
    }

    /// Takes the verdict on what was read.
    fn refuse(&mut self, refusal: Refusal, in_content: bool) {
        self.held = Vec::new();
        self.patience = None;
        if in_content {
            self.connection.refuse(None, refusal);
            self.state = State::Failing(refusal);
        } else {
            self.connection.refuse(Some(self.scanner.heads()), refusal);
            self.ready.extend_from_slice(STAND_IN);
            self.state = State::Refused;
        }
    }

    /// Reads into hyper's own buffer, and cuts off what may not go on yet.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        if Pin::new(&mut self.socket).poll_read(cx, buf)?.is_pending() {
            // Only before the first head; between requests the idle time is hyper's to keep.
            return match &mut self.patience {
                Some(patience) => patience.as_mut().poll(cx).map(|()| Ok(true)),
                None => Poll::Pending,
            };
        }
        self.patience = None;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        let pass = match self.scanner.scan(fresh) {
            Scan::Whole => return Poll::Ready(Ok(true)),
            Scan::Partial(pass) => {
                self.held.extend_from_slice(fresh.get(pass..).unwrap_or_default());
                self.patience = Some(Box::pin(sleep(self.header_timeout)));
                pass
            }
            Scan::Refused { pass, refusal, in_content } => {
                buf.set_filled(before + pass);
                self.refuse(refusal, in_content);
                return Poll::Ready(Ok(pass > 0));
            }
        };
        buf.set_filled(before + pass);
        Poll::Ready(Ok(pass > 0))
    }

    /// Reads on where a head was incomplete.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut chunk = ReadBuf::uninit(&mut space);
        if Pin::new(&mut self.socket).poll_read(cx, &mut chunk)?.is_pending() {
            if let Some(patience) = &mut self.patience
                && patience.as_mut().poll(cx).is_ready()
            {
                self.refuse(Refusal::Timeout, false);
                return Poll::Ready(Ok(false));
            }
            return Poll::Pending;
        }
        if chunk.filled().is_empty() {
            // The client closed in the middle of a head: there is no request to answer.
            return Poll::Ready(Ok(true));
        }
        self.held.extend_from_slice(chunk.filled());
        match self.scanner.scan(&self.held) {
            Scan::Whole => {
                self.ready.extend_from_slice(&self.held);
                self.held = Vec::new();
                self.patience = None;
            }
            Scan::Partial(0) => {}
            Scan::Partial(pass) => {
                self.ready.extend_from_slice(self.held.get(..pass).unwrap_or_default());
                self.held.drain(..pass);
                self.patience = Some(Box::pin(sleep(self.header_timeout)));
            }
            Scan::Refused { pass, refusal, in_content } => {
                self.ready.extend_from_slice(self.held.get(..pass).unwrap_or_default());
                self.refuse(refusal, in_content);
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Gives hyper what is ready.
    fn take_ready(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.ready.len().min(buf.remaining());
        if length == 0 {
            return false;
        }
        buf.put_slice(self.ready.get(..length).unwrap_or_default());
        self.ready.advance(length);
        if self.ready.is_empty() {
            self.ready = BytesMut::new();
        }
        true
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.take_ready(buf) {
                return Poll::Ready(Ok(()));
            }
            if this.connection.is_tunnel() {
                // What came before the switch, if anything, was held as the beginning of a head.
                if !this.held.is_empty() {
                    this.patience = None;
                    this.ready.extend_from_slice(&std::mem::take(&mut this.held));
                    continue;
                }
                return Pin::new(&mut this.socket).poll_read(cx, buf);
            }
            match this.state {
                // Not the end of the stream: hyper would drop the answers that are on their way.
                State::Refused | State::Lingering(..) => return Poll::Pending,
                State::Failing(refusal) => {
                    this.state = State::Refused;
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
                }
                State::Open => {}
            }
            let done = if this.held.is_empty() {
                ready!(this.poll_straight(cx, buf))?
            } else {
                ready!(this.poll_held(cx))?
            };
            if done {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    /// Shuts the write side; after a refusal, reads on for a moment, since closing a socket with
    /// unread bytes resets it and the client would lose the answer.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Open => return Pin::new(&mut this.socket).poll_shutdown(cx),
                State::Refused | State::Failing(_) => {
                    ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
                    this.state = State::Lingering(Box::pin(sleep(LINGER_TIME)), 0);
                }
                State::Lingering(time, thrown) => {
                    let mut space = [MaybeUninit::uninit(); 4096];
                    let mut chunk = ReadBuf::uninit(&mut space);
                    match Pin::new(&mut this.socket).poll_read(cx, &mut chunk) {
                        Poll::Ready(Ok(())) if !chunk.filled().is_empty() && *thrown < LINGER_BYTES => {
                            *thrown += chunk.filled().len();
                        }
                        Poll::Ready(_) => return Poll::Ready(Ok(())),
                        Poll::Pending => return time.as_mut().poll(cx).map(Ok),
                    }
                }
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if self.connection.is_aborted() {
            // Closing with a linger time of zero sends RST. A socket that is gone already needs none.
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
