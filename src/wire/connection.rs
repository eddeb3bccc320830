//! What the service knows of the connection a request came on, and what it may ask of it.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Context;

use bytes::Bytes;

use super::Refusal;
use super::interim::{Interim, Relay};
use super::upgrade::{Handover, Upgrade, upgrade};

/// Bytes of a refused request that are kept for logs.
const MAX_SHOWN: usize = 256;

/// One client connection, shared by the task that serves it and the service that answers.
///
/// Both run on one event loop; the atomics only make the handle sendable, and order nothing.
#[derive(Clone, Debug)]
pub struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    peer: SocketAddr,
    local: SocketAddr,
    /// Requests handed to the service.
    begun: AtomicU64,
    /// Bytes have come behind the request that is being answered.
    is_ahead: AtomicBool,
    /// Why the content of the last request was refused; none comes after it.
    refusal: OnceLock<Refusal>,
    /// What was read of the request that was refused.
    read: OnceLock<Box<str>>,
    /// To whom the connection is handed over once a 101 is out.
    handover: Mutex<Option<Handover>>,
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
            is_ahead: AtomicBool::new(false),
            refusal: OnceLock::new(),
            read: OnceLock::new(),
            handover: Mutex::new(None),
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

    /// Another request is handed to the service; `is_ahead`: bytes have come behind it.
    pub(crate) fn begin(&self, is_ahead: bool) {
        self.0.begun.fetch_add(1, Relaxed);
        self.0.is_ahead.store(is_ahead, Relaxed);
    }

    /// Bytes have come behind the request that is being answered.
    pub(crate) fn came_ahead(&self) {
        self.0.is_ahead.store(true, Relaxed);
    }

    /// Why the content of the request that is being answered broke off, if it was refused.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.refusal.get().copied()
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

    /// Those that are still to be written before the final response; no more are taken in for this request.
    pub(crate) fn last_interim(&self) -> Option<Bytes> {
        self.0.relay.end()
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

    /// A request was refused, of which so much was `read`.
    pub(crate) fn refused(&self, read: &[u8]) {
        let shown = read.get(..MAX_SHOWN).unwrap_or(read);
        let line = shown.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        // The first refusal is the last thing read.
        let _ = self.0.read.set(String::from_utf8_lossy(line).into());
    }

    /// The content of the request that is being answered was refused.
    pub(crate) fn refuse_content(&self, refusal: Refusal) {
        let _ = self.0.refusal.set(refusal);
    }

    /// The bytes of this connection, once a 101 is out that answers the request being answered.
    ///
    /// `None`: it cannot be a tunnel, since bytes came behind the request before it was one, which nobody
    /// can say how to read. Answer 400 then, not 101.
    #[must_use]
    pub fn tunnel(&self) -> Option<Upgrade> {
        if self.0.is_ahead.load(Relaxed) {
            return None;
        }
        let (handover, taken) = upgrade();
        *self.handover() = Some(handover);
        Some(taken)
    }

    /// To whom the connection is to be handed over.
    pub(crate) fn take_handover(&self) -> Option<Handover> {
        self.handover().take()
    }

    /// Nothing that can panic runs under the lock.
    fn handover(&self) -> MutexGuard<'_, Option<Handover>> {
        self.0.handover.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn what_is_shown_of_a_refused_request_is_its_first_line() {
        let short = connection();
        short.refused(b"GET / HTTP/1.1\r\nHost");
        short.refused(b"POST");
        assert_eq!(short.refused_line(), "GET / HTTP/1.1");
        let long = connection();
        long.refused(&[0xff; 1000]);
        assert_eq!(long.refused_line().chars().count(), MAX_SHOWN);
    }

    #[test]
    fn what_came_too_early_never_enters_a_tunnel() {
        let good = connection();
        good.begin(false);
        assert!(good.tunnel().is_some() && good.take_handover().is_some());
        let bad = connection();
        bad.begin(true);
        assert!(bad.tunnel().is_none() && bad.take_handover().is_none());
        bad.begin(false);
        bad.came_ahead();
        assert!(bad.tunnel().is_none());
    }

    #[test]
    fn mapped_addresses_are_what_they_are() {
        assert_eq!(connection().peer().to_string(), "192.0.2.1");
    }
}
