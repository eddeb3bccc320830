//! What the service knows of the connection a request came on, and what it may ask of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::Refusal;
use super::interim::{Interim, Relay};

const NONE: u64 = u64::MAX;
/// Bytes of a refused request that are kept for logs.
const MAX_SHOWN: usize = 256;

/// One client connection, shared by the gate that reads its bytes and the service that answers.
///
/// Gate and service run on one event loop; the atomics only make the handle sendable, and order
/// nothing.
#[derive(Clone, Debug)]
pub struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    peer: SocketAddr,
    local: SocketAddr,
    /// Requests handed to the service.
    begun: AtomicU64,
    /// Answers that were given to their end, or given up.
    ended: AtomicU64,
    /// Which request the gate refused, counted from 0.
    refused: AtomicU64,
    /// Of which request the gate refused the content.
    broken: AtomicU64,
    refusal: OnceLock<Refusal>,
    /// What was read of the request that was refused.
    read: OnceLock<Box<str>>,
    tunnel: AtomicBool,
    abort: AtomicBool,
    relay: Relay,
}

impl Connection {
    /// A new connection of `peer` to `local`.
    #[must_use]
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self(Arc::new(State {
            peer,
            local,
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refused: AtomicU64::new(NONE),
            broken: AtomicU64::new(NONE),
            refusal: OnceLock::new(),
            read: OnceLock::new(),
            tunnel: AtomicBool::new(false),
            abort: AtomicBool::new(false),
            relay: Relay::default(),
        }))
    }

    /// The client's address, an IPv4 address mapped into IPv6 as what it is.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.0.peer.ip().to_canonical()
    }

    /// The address the client connected to.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.0.local
    }

    /// Counts a request that is handed to the service; `Some` when it stands for one that the gate
    /// refused, and is to be told so. Requests come in order, one at a time, so nothing a client
    /// sends can pass for a refused request, or for a good one in its place.
    pub(crate) fn begin(&self) -> Option<Refusal> {
        let number = self.0.begun.fetch_add(1, Relaxed);
        if self.0.refused.load(Relaxed) == number { self.0.refusal.get().copied() } else { None }
    }

    /// Counts an answer that was given to its end, or given up.
    pub(crate) fn end(&self) {
        self.0.ended.fetch_add(1, Relaxed);
    }

    /// How many answers were given to their end, or given up.
    pub(crate) fn ended(&self) -> u64 {
        self.0.ended.load(Relaxed)
    }

    /// Whether a request that was handed to the service is not answered to its end.
    pub(crate) fn is_answering(&self) -> bool {
        self.0.begun.load(Relaxed) > self.ended()
    }

    /// Why the content of the request that is being answered broke off, if the gate refused it.
    /// What comes behind that request says nothing here.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        let is_current = self.0.broken.load(Relaxed).wrapping_add(1) == self.0.begun.load(Relaxed);
        if is_current { self.0.refusal.get().copied() } else { None }
    }

    /// The way for interim responses to the client of the request that is being answered, which is
    /// to be one of HTTP/1.1: before that version there were none (RFC 9110 15.2).
    #[must_use]
    pub fn relay(&self) -> Interim {
        Interim::new(self.clone(), self.0.begun.load(Relaxed))
    }

    /// The interim responses that are to be written now; where there are none, the task is woken when
    /// one comes. To be asked only where no other message has begun.
    pub(crate) fn interim(&self, cx: &Context<'_>) -> Option<Bytes> {
        self.0.relay.take(cx)
    }

    /// Ready when the gate has taken every interim response; no more are taken in for this request.
    pub(crate) fn poll_interim_ended(&self, cx: &Context<'_>) -> Poll<()> {
        self.0.relay.poll_end(cx)
    }

    pub(super) fn relay_state(&self) -> &Relay {
        &self.0.relay
    }

    /// The first line of the request that was refused, or what was read of it: a few hundred
    /// bytes that may be anything, for logs alone.
    #[must_use]
    pub fn refused_line(&self) -> &str {
        self.0.read.get().map_or("", |read| read)
    }

    /// The gate refuses request `number`, counted from 0, of which it has `read` so much.
    pub(crate) fn refuse(&self, number: u64, refusal: Refusal, read: &[u8]) {
        // The first refusal is the last thing read.
        if self.0.refusal.set(refusal).is_ok() {
            let shown = read.get(..MAX_SHOWN).unwrap_or(read);
            let line = shown.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let _ = self.0.read.set(String::from_utf8_lossy(line).into());
            self.0.refused.store(number, Relaxed);
        }
    }

    /// The gate refuses the content of request `number`, counted from 0.
    pub(crate) fn refuse_content(&self, number: u64, refusal: Refusal) {
        if self.0.refusal.set(refusal).is_ok() {
            self.0.broken.store(number, Relaxed);
        }
    }

    /// From here on the connection is a tunnel: a 101 that the client asked for is being sent.
    ///
    /// `false`: it cannot be one, since bytes behind the request were refused already, and what would
    /// be let through is not what the client sent. Answer 400 then, not 101.
    #[must_use]
    pub fn tunnel(&self) -> bool {
        let may = self.0.refusal.get().is_none();
        if may {
            self.0.tunnel.store(true, Relaxed);
        }
        may
    }

    /// Whether the connection became a tunnel.
    pub(crate) fn is_tunnel(&self) -> bool {
        self.0.tunnel.load(Relaxed)
    }

    /// The connection is to be reset instead of closed: an answer broke off before its end, and a
    /// client that reads until the close must see that (RFC 9112 8).
    pub fn abort(&self) {
        self.0.abort.store(true, Relaxed);
    }

    /// Whether the connection is to be reset.
    pub(crate) fn is_aborted(&self) -> bool {
        self.0.abort.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        let peer = "[::ffff:192.0.2.1]:4711".parse().expect("an address");
        Connection::new(peer, "192.0.2.2:80".parse().expect("an address"))
    }

    #[test]
    fn the_refused_request_is_known_by_its_number_alone() {
        let connection = connection();
        connection.refuse(1, Refusal::Host, b"GET / HTTP/1.1\r\nHost");
        connection.refuse(0, Refusal::Framing, b"POST");
        assert_eq!(connection.refused_line(), "GET / HTTP/1.1");
        assert_eq!((connection.begin(), connection.refusal()), (None, None));
        assert_eq!((connection.begin(), connection.refusal()), (Some(Refusal::Host), None));
        assert_eq!((connection.begin(), connection.refusal()), (None, None));
    }

    #[test]
    fn refused_content_is_its_own_requests_alone() {
        let connection = connection();
        connection.refuse_content(1, Refusal::Framing);
        assert_eq!(connection.refusal(), None);
        assert_eq!((connection.begin(), connection.refusal()), (None, None));
        assert_eq!((connection.begin(), connection.refusal()), (None, Some(Refusal::Framing)));
    }

    #[test]
    fn what_was_refused_never_becomes_a_tunnel() {
        let good = connection();
        assert!(good.tunnel() && good.is_tunnel());
        let bad = connection();
        bad.refuse(1, Refusal::RequestLine, &[0xff; 1000]);
        assert_eq!(bad.refused_line().chars().count(), MAX_SHOWN);
        assert!(!bad.tunnel() && !bad.is_tunnel());
    }

    #[test]
    fn mapped_addresses_are_what_they_are() {
        assert_eq!(connection().peer().to_string(), "192.0.2.1");
    }
}
