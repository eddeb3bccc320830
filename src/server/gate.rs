//! The gate: what stands between a client's socket and the HTTP engine.
//!
//! Decides: how long a client may be silent, and how its socket is closed. What may pass is
//! [`RequestScanner`]'s word: the gate lets whole heads and their content through and holds back the
//! beginning of a head until its end has come. Never touches: meaning.
//!
//! - A refused request is handed on as a minimal head of our own, so that it is answered in its turn,
//!   after the requests before it. Nothing behind it is ever read as HTTP.
//! - Refused content is an error of the read: the engine breaks the request's body off.
//! - Interim responses, of which the engine knows nothing, go out between its messages: where it has
//!   handed over every byte it has.
//! - A socket is closed so that the client gets what was written (RFC 9112 9.6), or reset so that it
//!   sees that something is missing.
//!
//! The common read, a whole head at once, goes from the socket straight into the engine's buffer and is
//! scanned there.
//!
//! The last write of a small answer waits for its turn: until every other task of this event loop that can
//! go on has gone on. Under load, requests are so received one after another, and then answers sent one
//! after another, and each of the two finds its part of the kernel in the processor's caches. That spares a
//! tenth of a small hit's CPU or more; where there is no load, there is nobody to wait for.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::Settings;
use super::patience::Patience;
use super::room::{Open, Pressure};
use crate::wire::{Connection, Refusal, RequestScanner, Scan};

/// What the engine reads in the place of a refused request; the service knows it by its number.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";
/// After the write side was shut: how much, and how long, is read and thrown away so that what was
/// written is not lost to a reset.
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Where connections are to leave: how long one may still be silent whose next words may be on their
/// way. While the process stops, that is one that has never said anything; where others wait for its
/// place, one that was answered just now.
const COURTESY: Duration = Duration::from_secs(1);

/// Up to this many bytes, a head and its content cost less as one copy of both than as two pieces: the
/// kernel's way for a plain send is shorter than the one for several pieces.
const SMALL: usize = 4 * 1024;
/// Up to this many bytes, a write waits for its turn. In a larger one, copying is what costs.
const TAKES_TURNS: usize = 16 * 1024;

thread_local! {
    static SMALL_WRITE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A client's socket, as the engine sees it.
#[derive(Debug)]
pub(super) struct Gate {
    socket: TcpStream,
    scanner: RequestScanner,
    connection: Connection,
    header_timeout: Duration,
    idle_timeout: Duration,
    state: State,
    /// The beginning of a head whose end has not come.
    held: Vec<u8>,
    /// Bytes that may go on, and have not yet.
    ready: Bytes,
    /// What is left of interim responses that are being written; no other byte goes out before it.
    interim: Bytes,
    /// A write waits for its turn.
    waits_its_turn: bool,
    awaits: Awaits,
    read_patience: Patience,
    write_patience: Patience,
    /// Dropped with the socket, and not before.
    open: Open,
}

#[derive(Debug)]
enum State {
    Open,
    /// Content was refused; the engine has not been told.
    Breaking(Refusal),
    /// Nothing more is read.
    Refused,
    /// The write side is being shut, or was; what still comes is thrown away.
    Closing(Closing),
}

#[derive(Debug, Default)]
struct Closing {
    is_shut: bool,
    thrown: usize,
    /// Set where the client is not done.
    until: Option<Pin<Box<Sleep>>>,
}

/// What the next bytes of a client would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaits {
    /// The next request, and nothing is under way.
    Request,
    /// The rest of a head.
    Head,
    /// Content.
    Content,
    /// Nothing: the client waits for us.
    Answer,
}

impl Gate {
    pub(super) fn new(socket: TcpStream, connection: Connection, settings: &Settings, open: Open) -> Self {
        Self {
            socket,
            scanner: RequestScanner::new(settings.limits),
            connection,
            header_timeout: settings.header_timeout,
            idle_timeout: settings.idle_timeout,
            state: State::Open,
            held: Vec::new(),
            ready: Bytes::new(),
            interim: Bytes::new(),
            waits_its_turn: false,
            awaits: Awaits::Request,
            read_patience: Patience::default(),
            write_patience: Patience::default(),
            open,
        }
    }

    /// Reads until something may go on: `true` when it is in `buf`, or nothing is and that is the end.
    fn poll_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let read = if self.held.is_empty() { self.poll_straight(cx, buf) } else { self.poll_held(cx) };
        match read {
            Poll::Ready(read) => Poll::Ready(read),
            Poll::Pending => self.poll_silence(cx).map(Ok),
        }
    }

    /// Reads into the engine's own buffer, and cuts off what may not go on yet.
    fn poll_straight(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        let fresh = buf.filled().get(before..).unwrap_or_default();
        if fresh.is_empty() {
            return Poll::Ready(Ok(true));
        }
        self.read_patience.rest();
        let pass = match self.scanner.scan(fresh) {
            Scan::Whole => return Poll::Ready(Ok(true)),
            Scan::Partial(pass) => {
                self.held.extend_from_slice(fresh.get(pass..).unwrap_or_default());
                pass
            }
            Scan::Refused { pass, refusal, in_content } => {
                self.refuse(&[], fresh.get(pass..).unwrap_or_default(), refusal, in_content);
                pass
            }
        };
        buf.set_filled(before + pass);
        Poll::Ready(Ok(pass > 0))
    }

    /// Reads on where a head was incomplete.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut space = [MaybeUninit::uninit(); 4096];
        let mut chunk = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut chunk))?;
        if chunk.filled().is_empty() {
            // The client closed in the middle of a head: there is no request to answer.
            return Poll::Ready(Ok(true));
        }
        self.held.extend_from_slice(chunk.filled());
        match self.scanner.scan(&self.held) {
            Scan::Whole => {
                self.ready = Bytes::from(std::mem::take(&mut self.held));
                self.read_patience.rest();
            }
            // The same head: its time runs on.
            Scan::Partial(0) => {}
            Scan::Partial(pass) => {
                let rest = self.held.split_off(pass);
                self.ready = Bytes::from(std::mem::replace(&mut self.held, rest));
                self.read_patience.rest();
            }
            Scan::Refused { pass, refusal, in_content } => {
                let mut held = std::mem::take(&mut self.held);
                let rest = held.split_off(pass);
                self.refuse(&held, &rest, refusal, in_content);
            }
        }
        Poll::Ready(Ok(false))
    }

    /// Nothing comes: whether that has lasted too long. `true`: the connection is to be closed.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let awaits = self.awaits();
        if awaits != self.awaits {
            self.awaits = awaits;
            self.read_patience.rest();
        }
        let limit = match awaits {
            Awaits::Answer => return Poll::Pending,
            Awaits::Head => self.header_timeout,
            Awaits::Content => self.idle_timeout,
            Awaits::Request => {
                self.write_patience = Patience::default();
                self.idle_limit()
            }
        };
        ready!(self.read_patience.poll_spent(cx, limit));
        match awaits {
            Awaits::Request | Awaits::Answer => Poll::Ready(true),
            Awaits::Head => {
                let held = std::mem::take(&mut self.held);
                self.refuse(&[], &held, Refusal::Timeout, false);
                Poll::Ready(false)
            }
            Awaits::Content => {
                self.refuse(&[], &[], Refusal::Timeout, true);
                Poll::Ready(false)
            }
        }
    }

    /// Begins to time an idle connection. The engine does not read again after an answer where its last
    /// read had to wait, so this is done as the answer goes out; that its time is over is then seen by
    /// a read, to which the timer wakes.
    fn watch_idle(&mut self, cx: &mut Context<'_>) {
        let is_idle = matches!(self.state, State::Open)
            && self.ready.is_empty()
            && !self.connection.is_tunnel()
            && self.awaits() == Awaits::Request;
        if is_idle && self.poll_silence(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn awaits(&self) -> Awaits {
        if !self.held.is_empty() {
            Awaits::Head
        } else if self.scanner.is_in_content() {
            Awaits::Content
        } else if self.scanner.heads() > self.connection.ended() || self.is_unwritten() {
            Awaits::Answer
        } else {
            Awaits::Request
        }
    }

    /// Bytes of an answer wait to be written.
    fn is_unwritten(&self) -> bool {
        self.waits_its_turn || self.write_patience.is_running()
    }

    /// How long nothing may be under way.
    fn idle_limit(&self) -> Duration {
        let is_new = self.scanner.heads() == 0;
        let limit = if is_new { self.header_timeout.min(self.idle_timeout) } else { self.idle_timeout };
        match self.open.room().pressure() {
            Pressure::Stopping if !is_new => Duration::ZERO,
            Pressure::Crowded if is_new => limit,
            Pressure::None => limit,
            Pressure::Stopping | Pressure::Crowded => limit.min(COURTESY),
        }
    }

    /// Nothing behind this is read. `before` may go on first; `read` is what came of the refused request.
    fn refuse(&mut self, before: &[u8], read: &[u8], refusal: Refusal, in_content: bool) {
        self.held = Vec::new();
        self.read_patience = Patience::default();
        let heads = self.scanner.heads();
        if in_content {
            self.connection.refuse_content(heads.saturating_sub(1), refusal);
            self.state = State::Breaking(refusal);
            self.ready = Bytes::copy_from_slice(before);
        } else {
            self.connection.refuse(heads, refusal, read);
            self.state = State::Refused;
            self.ready = Bytes::from([before, STAND_IN].concat());
        }
    }

    /// Gives the engine what is ready.
    fn take_ready(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.ready.len().min(buf.remaining());
        if length == 0 {
            return false;
        }
        buf.put_slice(self.ready.get(..length).unwrap_or_default());
        self.ready.advance(length);
        if self.ready.is_empty() {
            self.ready = Bytes::new();
        }
        true
    }

    /// Writes the rest of interim responses that have begun to go out.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.interim.is_empty() {
            let written = Pin::new(&mut self.socket).poll_write(cx, &self.interim);
            match ready!(self.timed(cx, written))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                length => self.interim.advance(length),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Sends a small write to the end of the line, once, where the whole answer was handed over: whoever
    /// is woken is asked again after all who were woken before.
    fn poll_turn(&mut self, cx: &Context<'_>, length: usize) -> Poll<()> {
        let has_more = self.connection.is_answering() || self.connection.is_tunnel();
        if has_more || length > TAKES_TURNS || self.waits_its_turn {
            self.waits_its_turn = false;
            return Poll::Ready(());
        }
        self.waits_its_turn = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// A write that must wait may not wait for ever.
    fn timed<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match written {
            Poll::Ready(written) => {
                self.write_patience.rest();
                Poll::Ready(written)
            }
            // How long a tunnel may be silent is the service's to say.
            Poll::Pending if self.connection.is_tunnel() => Poll::Pending,
            Poll::Pending => {
                ready!(self.write_patience.poll_spent(cx, self.idle_timeout));
                self.connection.abort();
                let fault = "the client took nothing of its answer for too long";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, fault)))
            }
        }
    }
}

impl AsyncRead for Gate {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.take_ready(buf) {
                return Poll::Ready(Ok(()));
            }
            match this.state {
                State::Open => {}
                State::Breaking(refusal) => {
                    this.state = State::Refused;
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)));
                }
                // Not the end of the stream: the engine would drop the answers that are on their way.
                State::Refused | State::Closing(_) => return Poll::Pending,
            }
            if this.connection.is_tunnel() {
                // What came before the switch, if anything, was held as the beginning of a head.
                if !this.held.is_empty() {
                    this.ready = Bytes::from(std::mem::take(&mut this.held));
                    continue;
                }
                return Pin::new(&mut this.socket).poll_read(cx, buf);
            }
            if ready!(this.poll_socket(cx, buf))? {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Gate {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        ready!(this.poll_turn(cx, buf.len()));
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.timed(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_interim(cx))?;
        let length: usize = bufs.iter().map(|buf| buf.len()).sum();
        ready!(this.poll_turn(cx, length));
        let socket = Pin::new(&mut this.socket);
        let written = if length > SMALL {
            socket.poll_write_vectored(cx, bufs)
        } else {
            SMALL_WRITE.with_borrow_mut(|joined| {
                joined.clear();
                bufs.iter().for_each(|buf| joined.extend_from_slice(buf));
                socket.poll_write(cx, joined)
            })
        };
        this.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The engine asks for this where it has no more bytes to hand over: the place for interim responses,
    /// since none of a final response has begun while its service is under way.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.poll_interim(cx))?;
            match this.connection.interim(cx) {
                Some(interim) => this.interim = interim,
                None => break,
            }
        }
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        this.watch_idle(cx);
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side; where the client still sends, reads on for a moment, since closing a
    /// socket with unread bytes resets it, and the client would lose what was written.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.connection.is_tunnel() {
            // The other direction may go on.
            return Pin::new(&mut this.socket).poll_shutdown(cx);
        }
        let closing = match &mut this.state {
            State::Closing(closing) => closing,
            state => {
                // Refused, or in the middle of something: there is more to come.
                let is_done =
                    matches!(state, State::Open) && this.held.is_empty() && !this.scanner.is_in_content();
                let until = (!is_done).then(|| Box::pin(sleep(LINGER_TIME)));
                *state = State::Closing(Closing { until, ..Closing::default() });
                let State::Closing(closing) = state else { return Poll::Ready(Ok(())) };
                closing
            }
        };
        if !closing.is_shut {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
            closing.is_shut = true;
        }
        let mut space = [MaybeUninit::uninit(); 16 * 1024];
        loop {
            let mut chunk = ReadBuf::uninit(&mut space);
            match Pin::new(&mut this.socket).poll_read(cx, &mut chunk) {
                Poll::Ready(Ok(())) if !chunk.filled().is_empty() => {
                    closing.thrown += chunk.filled().len();
                    if closing.thrown > LINGER_BYTES {
                        return Poll::Ready(Ok(()));
                    }
                    closing.until.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
                }
                // The client has closed too.
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    return match &mut closing.until {
                        Some(until) => until.as_mut().poll(cx).map(Ok),
                        None => Poll::Ready(Ok(())),
                    };
                }
            }
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Where the engine shut the connection itself, every answer was given to its end. Otherwise one
        // may be under way, or its last bytes wait to be written.
        let is_cut = (self.connection.is_answering() || self.is_unwritten())
            && !self.connection.is_tunnel()
            && !matches!(self.state, State::Closing(_));
        if is_cut || self.connection.is_aborted() {
            // Closing with a linger time of zero sends RST. A socket that is gone already needs none.
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}
