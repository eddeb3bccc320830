//! A client's socket: what is read from it and what is written to it.
//!
//! Decides: how long a client may be silent, how much of what it sends ahead is taken in, and how its socket
//! is closed. Which bytes are a message is [`RequestReader`]'s word. Never touches: what is asked and answered.
//!
//! - No buffer belongs to a connection that is idle: bytes are read into one that all connections of an event
//!   loop share, and what is kept of them, a whole head or the beginning of one, has just the room it needs.
//! - A socket is closed so that the client gets what was written (RFC 9112 9.6), or reset so that it
//!   sees that something is missing.
//!
//! The last write of a small answer waits for its turn: until every other task of this event loop that can
//! go on has gone on. Under load, requests are so received one after another, and then answers sent one
//! after another, and each of the two finds its part of the kernel in the processor's caches. That spares a
//! tenth of a small hit's CPU or more; where there is no load, there is nobody to wait for.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use http::header::EXPECT;
use http::request::Parts;
use http::{HeaderMap, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Settings;
use super::outbox::Outbox;
use super::patience::Patience;
use super::room::{Open, Pressure};
use super::tunnel::TunnelEnd;
use crate::clock;
use crate::wire::content::{Feed, content};
use crate::wire::framed::Framed;
use crate::wire::{BrokenContent, Connection, Content, ReadHead, Refusal, RequestReader};

/// Bytes that are read at once.
const READ: usize = 16 * 1024;
/// Bytes that a client may send ahead of the answer it waits for; more are left in its socket.
const AHEAD: usize = 64 * 1024;
/// After the write side was shut: how much, and how long, is read and thrown away so that what was
/// written is not lost to a reset.
const LINGER_BYTES: usize = 1 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Where connections are to leave: how long one may still be silent whose next words may be on their
/// way. While the process stops, that is one that has never said anything; where others wait for its
/// place, one that was answered just now.
const COURTESY: Duration = Duration::from_secs(1);
/// Up to this many bytes, a write waits for its turn. In a larger one, copying is what costs.
const TAKES_TURNS: usize = 16 * 1024;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

thread_local! {
    /// What was read last by any connection of this event loop.
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A client's socket, and how far the talk on it is.
#[derive(Debug)]
pub(super) struct Client {
    socket: TcpStream,
    connection: Connection,
    settings: Arc<Settings>,
    reader: RequestReader,
    /// Bytes that were read and belong to what comes next.
    held: BytesMut,
    /// Some of them were not shown to the reader.
    has_news: bool,
    /// The content of the request under way, and to whom it goes.
    upload: Option<Upload>,
    hears: Hears,
    is_new: bool,
    outbox: Outbox,
    /// An answer is being made or given.
    is_answering: bool,
    /// A write waits for its turn.
    waits_its_turn: bool,
    awaits: Awaits,
    read_patience: Patience,
    write_patience: Patience,
    /// Dropped with the socket, and not before.
    open: Open,
}

/// The content of a request that is being read.
#[derive(Debug)]
struct Upload {
    framed: Framed,
    /// `None` where nobody wants it any more.
    feed: Option<Feed>,
    /// The client waits for a 100 before it sends any (RFC 9110 10.1.1).
    expects_continue: bool,
}

/// Whether what a client says is still read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hears {
    Everything,
    /// The client has said all: what is held is answered, and that is the end.
    WhatIsHeld,
    /// Something was refused, and nothing behind it is ever read as HTTP.
    Nothing,
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
}

/// What comes next on a connection.
#[derive(Debug)]
pub(super) enum Next {
    /// A request, all of whose head is there.
    Request(Box<Parts>, Content),
    /// One that is refused.
    Refused(Refusal),
    /// Nothing: the client has gone, or has been silent for too long.
    End,
}

/// The client has gone, or its request broke off: there is nobody to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Client {
    pub(super) fn new(
        socket: TcpStream,
        connection: Connection,
        settings: Arc<Settings>,
        open: Open,
    ) -> Self {
        let reader = RequestReader::new(settings.limits);
        Self {
            socket,
            connection,
            settings,
            reader,
            held: BytesMut::new(),
            has_news: false,
            upload: None,
            hears: Hears::Everything,
            is_new: true,
            outbox: Outbox::default(),
            is_answering: false,
            waits_its_turn: false,
            awaits: Awaits::Request,
            read_patience: Patience::default(),
            write_patience: Patience::default(),
            open,
        }
    }

    // === Between requests ===

    /// The next request.
    pub(super) fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if self.hears != Hears::Nothing
                && std::mem::take(&mut self.has_news)
                && let Some(next) = self.read_held()
            {
                return Poll::Ready(next);
            }
            if self.hears != Hears::Everything {
                return Poll::Ready(Next::End);
            }
            let read = if self.held.is_empty() { self.poll_head(cx) } else { self.poll_held(cx) };
            match read {
                Poll::Ready(Ok(Some(next))) => return Poll::Ready(next),
                Poll::Ready(Ok(None)) => {}
                // The client closed, if in the middle of a head: there is no request to answer.
                Poll::Ready(Err(_)) => return Poll::Ready(Next::End),
                Poll::Pending => return self.poll_silence(cx),
            }
        }
    }

    /// Reads where nothing is held: the common read, a whole head at once, is taken from where it was read to.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Next>>> {
        SHARED.with_borrow_mut(|shared| {
            let bytes = ready!(poll_read(&mut self.socket, cx, shared))?;
            self.read_patience.rest();
            let bytes = bytes.get(self.reader.skip(bytes)..).unwrap_or_default();
            match self.reader.read(bytes) {
                Ok(Some(head)) => {
                    self.hold(bytes.get(head.length()..).unwrap_or_default());
                    Poll::Ready(Ok(Some(self.begin(head))))
                }
                Ok(None) => {
                    self.held.extend_from_slice(bytes);
                    Poll::Ready(Ok(None))
                }
                Err(refusal) => Poll::Ready(Ok(Some(self.refuse(refusal, bytes)))),
            }
        })
    }

    /// Reads on where a head was incomplete.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Next>>> {
        SHARED.with_borrow_mut(|shared| {
            let bytes = ready!(poll_read(&mut self.socket, cx, shared))?;
            self.hold(bytes);
            Poll::Ready(Ok(None))
        })
    }

    /// What is held, if it is a request.
    fn read_held(&mut self) -> Option<Next> {
        let skip = self.reader.skip(&self.held);
        self.take(skip);
        match self.reader.read(&self.held) {
            Ok(Some(head)) => {
                self.read_patience.rest();
                self.take(head.length());
                self.has_news = !self.held.is_empty();
                Some(self.begin(head))
            }
            // The same head: its time runs on.
            Ok(None) => None,
            Err(refusal) => {
                let held = std::mem::take(&mut self.held);
                Some(self.refuse(refusal, &held))
            }
        }
    }

    /// A request begins; what came behind its head is held.
    fn begin(&mut self, mut head: ReadHead) -> Next {
        let (framed, version) = (head.content.take(), head.version());
        let (body, feed) = match &framed {
            None => (Content::NONE, None),
            Some(framed) => {
                let (body, feed) = content(framed.left());
                (body, Some(feed))
            }
        };
        let head = match head.parts() {
            Ok(head) => head,
            Err(refusal) => return self.refuse(refusal, &[]),
        };
        self.upload = framed.map(|framed| {
            let expects_continue = version == Version::HTTP_11 && expects_continue(&head.headers);
            Upload { framed, feed, expects_continue }
        });
        self.connection.begin(self.upload.is_none() && !self.held.is_empty());
        self.is_new = false;
        self.is_answering = true;
        self.write_patience = Patience::default();
        Next::Request(head, body)
    }

    /// Nothing behind this is read; `read` is what came of the refused request.
    fn refuse(&mut self, refusal: Refusal, read: &[u8]) -> Next {
        self.hears = Hears::Nothing;
        self.held = BytesMut::new();
        self.read_patience = Patience::default();
        self.connection.refused(read);
        self.connection.begin(true);
        self.is_answering = true;
        Next::Refused(refusal)
    }

    fn hold(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.held.extend_from_slice(bytes);
            self.has_news = true;
        }
    }

    /// So many of the held bytes were used; where none are left, nothing is held.
    fn take(&mut self, length: usize) {
        self.held.advance(length.min(self.held.len()));
        self.let_go();
    }

    /// Where nothing is held, no room is kept for it.
    fn let_go(&mut self) {
        if self.held.is_empty() {
            self.held = BytesMut::new();
        }
    }

    /// Nothing comes: whether that has lasted too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        let awaits = if self.reader.is_in_head() { Awaits::Head } else { Awaits::Request };
        let limit = match awaits {
            Awaits::Head => self.settings.header_timeout,
            Awaits::Request | Awaits::Content => self.idle_limit(),
        };
        ready!(self.poll_patience(cx, awaits, limit));
        if awaits == Awaits::Request {
            return Poll::Ready(Next::End);
        }
        let held = std::mem::take(&mut self.held);
        Poll::Ready(self.refuse(Refusal::Timeout, &held))
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>, awaits: Awaits, limit: Duration) -> Poll<()> {
        if std::mem::replace(&mut self.awaits, awaits) != awaits {
            self.read_patience.rest();
        }
        self.read_patience.poll_spent(cx, limit)
    }

    /// How long nothing may be under way.
    fn idle_limit(&self) -> Duration {
        let limit = if self.is_new {
            self.settings.header_timeout.min(self.settings.idle_timeout)
        } else {
            self.settings.idle_timeout
        };
        match self.open.room().pressure() {
            Pressure::Stopping if !self.is_new => Duration::ZERO,
            Pressure::Crowded if self.is_new => limit,
            Pressure::None => limit,
            Pressure::Stopping | Pressure::Crowded => limit.min(COURTESY),
        }
    }

    // === While a request is answered ===

    /// What is to be done on a connection while its answer is waited for: content is read for whoever wants
    /// it, interim responses go out, and a client that leaves is noticed.
    pub(super) fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        while let Some(interim) = self.connection.interim(cx) {
            self.outbox.put_text(&interim);
        }
        loop {
            let is_fed = match self.poll_upload(cx) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(gone)) => return Poll::Ready(gone),
                Poll::Pending => false,
            };
            // A client that cannot be written to has gone too.
            if !self.outbox.is_empty()
                && let Poll::Ready(Err(_)) = self.poll_written(cx)
            {
                return Poll::Ready(Gone);
            }
            if !is_fed {
                break;
            }
        }
        // Content that nobody wants yet is left where it is, and with it what comes behind.
        if self.upload.is_some() || self.hears != Hears::Everything {
            return Poll::Pending;
        }
        while self.held.len() < AHEAD {
            let read = SHARED.with_borrow_mut(|shared| {
                let bytes = ready!(poll_read(&mut self.socket, cx, shared))?;
                self.hold(bytes);
                Poll::Ready(io::Result::Ok(()))
            });
            match ready!(read) {
                Ok(()) => self.connection.came_ahead(),
                // It waits for its answers, and has nothing more to ask.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !self.held.is_empty() => {
                    self.hears = Hears::WhatIsHeld;
                    break;
                }
                Err(_) => return Poll::Ready(Gone),
            }
        }
        Poll::Pending
    }

    /// Reads content for whoever wants it. Ready: there may be more to do at once.
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let Some(upload) = &mut self.upload else { return Poll::Pending };
        let Some(feed) = &upload.feed else { return Poll::Pending };
        if feed.is_unread() {
            upload.feed = None;
            return Poll::Pending;
        }
        if !feed.is_wanted(cx) {
            return Poll::Pending;
        }
        if self.held.is_empty() {
            if std::mem::take(&mut upload.expects_continue) {
                self.outbox.put_text(CONTINUE);
            }
            match self.poll_content(cx) {
                Poll::Ready(Ok(())) => self.read_patience.rest(),
                Poll::Ready(Err(_)) => {
                    self.break_off(BrokenContent::ClientGone);
                    return Poll::Ready(Err(Gone));
                }
                Poll::Pending => {
                    ready!(self.poll_patience(cx, Awaits::Content, self.settings.idle_timeout));
                    self.break_off(BrokenContent::Refused(Refusal::Timeout));
                    return Poll::Ready(Ok(()));
                }
            }
        }
        self.hand_over();
        Poll::Ready(Ok(()))
    }

    /// Reads content; an error at the end of the stream.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Room is made for what is there, not for what is waited for.
        ready!(self.socket.poll_read_ready(cx))?;
        clock::pass();
        self.held.reserve(READ);
        let read = pin!(self.socket.read_buf(&mut self.held)).poll(cx);
        self.let_go();
        match ready!(read)? {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Gives what is held of the content to whoever wants it: many small chunks as one piece.
    fn hand_over(&mut self) {
        let Some(upload) = &mut self.upload else { return };
        upload.expects_continue = false;
        let mut data = BytesMut::new();
        let mut next = Ok(false);
        while !self.held.is_empty() && matches!(next, Ok(false)) {
            next = upload.framed.next(&self.held).map(|piece| {
                self.held.advance(piece.framing);
                let content = self.held.split_to(piece.content);
                // Where it is the first, it is not copied.
                if data.is_empty() {
                    data = content
                } else {
                    data.extend_from_slice(&content)
                }
                piece.ended
            });
        }
        if let Some(feed) = upload.feed.as_ref().filter(|_| !data.is_empty()) {
            feed.give(data.freeze());
        }
        self.let_go();
        match next {
            Ok(false) => {}
            Ok(true) => self.end_upload(),
            Err(fault) => self.break_off(BrokenContent::Refused(fault.into())),
        }
    }

    /// The content of the request has ended.
    fn end_upload(&mut self) {
        let Some(Upload { mut framed, feed, .. }) = self.upload.take() else { return };
        if let Some(feed) = feed {
            feed.end(framed.trailers());
        }
        self.has_news = !self.held.is_empty();
        if self.has_news {
            self.connection.came_ahead();
        }
    }

    /// The content of the request breaks off; nothing behind it is read.
    fn break_off(&mut self, broken: BrokenContent) {
        self.hears = Hears::Nothing;
        self.held = BytesMut::new();
        if let BrokenContent::Refused(refusal) = broken {
            self.connection.refuse_content(refusal);
        }
        if let Some(Upload { feed: Some(feed), .. }) = self.upload.take() {
            feed.break_off(broken);
        }
    }

    // === The answer ===

    /// What goes out.
    pub(super) const fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Writes everything that is to go out; where it is the last of an answer, in its turn.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>, is_last: bool) -> Poll<io::Result<()>> {
        if is_last && !self.waits_its_turn && self.outbox.len() <= TAKES_TURNS {
            // Whoever is woken is asked again after all who were woken before.
            self.waits_its_turn = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.poll_written(cx)
    }

    /// A write that must wait may not wait for ever.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        clock::pass();
        let before = self.outbox.len();
        match self.outbox.poll_write(cx, &mut self.socket) {
            Poll::Ready(written) => {
                self.write_patience.rest();
                Poll::Ready(written)
            }
            Poll::Pending => {
                // However slowly it takes something, it does.
                if self.outbox.len() < before {
                    self.write_patience.rest();
                }
                ready!(self.write_patience.poll_spent(cx, self.settings.idle_timeout));
                let fault = "the client took nothing of its answer for too long";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, fault)))
            }
        }
    }

    /// Whether a write waits for its turn: nothing else is to be done meanwhile.
    pub(super) const fn waits_its_turn(&self) -> bool {
        self.waits_its_turn
    }

    /// The final head goes out: no 100 may any more. Whether another request can come behind this answer, for all
    /// that is known: content that nobody wants is passed over, as far as it is here.
    pub(super) fn may_go_on(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(upload) = &mut self.upload else { return self.hears != Hears::Nothing };
        upload.expects_continue = false;
        if upload.feed.as_ref().is_some_and(|feed| !feed.is_unread()) {
            // Whoever answers still reads it.
            return true;
        }
        if self.held.is_empty() && !matches!(self.poll_content(cx), Poll::Ready(Ok(()))) {
            return false;
        }
        self.pass_over()
    }

    /// The answer was given to its end: whether the request has ended too, so that another may come.
    pub(super) fn answered(&mut self) -> bool {
        self.is_answering = false;
        self.waits_its_turn = false;
        self.pass_over()
    }

    /// Passes over content that nobody wants, as far as it is held: whether the request has ended.
    fn pass_over(&mut self) -> bool {
        while let Some(upload) = &mut self.upload {
            // Whoever reads on finds it broken off.
            upload.feed = None;
            if self.held.is_empty() {
                return false;
            }
            let Ok(piece) = upload.framed.next(&self.held) else { return false };
            self.take(piece.framing + piece.content);
            if piece.ended {
                self.end_upload();
            }
        }
        self.hears != Hears::Nothing
    }

    // === The end ===

    /// Shuts the write side; where the client still sends, reads on for a moment, since closing a
    /// socket with unread bytes resets it, and the client would lose what was written.
    pub(super) async fn close(&mut self) {
        let is_done = self.hears == Hears::Everything && self.held.is_empty() && self.upload.is_none();
        self.is_answering = false;
        if std::future::poll_fn(|cx| Pin::new(&mut self.socket).poll_shutdown(cx)).await.is_err() {
            return;
        }
        let mut until = (!is_done).then(|| Box::pin(sleep(LINGER_TIME)));
        let mut thrown = 0;
        std::future::poll_fn(|cx| {
            loop {
                let read = SHARED.with_borrow_mut(|shared| {
                    poll_read(&mut self.socket, cx, shared).map_ok(|bytes| bytes.len())
                });
                match read {
                    Poll::Ready(Ok(length)) => {
                        thrown += length;
                        if thrown > LINGER_BYTES {
                            return Poll::Ready(());
                        }
                        until.get_or_insert_with(|| Box::pin(sleep(LINGER_TIME)));
                    }
                    // The client has closed too.
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => {
                        return match &mut until {
                            Some(until) => until.as_mut().poll(cx),
                            None => Poll::Ready(()),
                        };
                    }
                }
            }
        })
        .await;
    }

    /// HTTP is over on this connection: its socket, and what came of it and was not read.
    pub(super) const fn into_tunnel(mut self) -> TunnelEnd {
        self.is_answering = false;
        TunnelEnd(self)
    }

    /// The socket, for what is no longer HTTP.
    pub(super) const fn socket(&mut self) -> &mut TcpStream {
        &mut self.socket
    }

    /// Moves what is held to `buf`, as far as there is room; whether there was any.
    pub(super) fn take_held(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let length = self.held.len().min(buf.remaining());
        buf.put_slice(self.held.get(..length).unwrap_or_default());
        self.take(length);
        length > 0
    }
}

impl Drop for Client {
    /// Where an answer is under way, or its last bytes wait to be written, the client is to see that: closing with
    /// a linger time of zero sends RST. A socket that is gone already needs none.
    fn drop(&mut self) {
        if self.is_answering {
            let _ = socket2::SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Reads into `space`: what was read, at least one byte; an error at the end of the stream.
fn poll_read<'s>(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    space: &'s mut [u8],
) -> Poll<io::Result<&'s [u8]>> {
    let mut buffer = ReadBuf::new(space);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    let length = buffer.filled().len();
    if length == 0 {
        return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
    }
    Poll::Ready(Ok(space.get(..length).unwrap_or_default()))
}

fn expects_continue(fields: &HeaderMap) -> bool {
    fields.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
