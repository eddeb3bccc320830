//! What the service knows of the connection a request came on.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use super::Refusal;

const NONE: u64 = u64::MAX;

/// One client connection, shared by the gate that reads its bytes and the service that answers.
///
/// The gate and the service run on one event loop; the atomics only make the handle sendable.
#[derive(Clone, Debug)]
pub struct Connection(Arc<State>);

#[derive(Debug)]
struct State {
    peer: SocketAddr,
    /// Requests handed to the service.
    begun: AtomicU64,
    /// Which request the gate refused, counted from 0.
    refused: AtomicU64,
    refusal: OnceLock<Refusal>,
    tunnel: AtomicBool,
    abort: AtomicBool,
}

impl Connection {
    /// A new connection of `peer`.
    #[must_use]
    pub fn new(peer: SocketAddr) -> Self {
        Self(Arc::new(State {
            peer,
            begun: AtomicU64::new(0),
            refused: AtomicU64::new(NONE),
            refusal: OnceLock::new(),
            tunnel: AtomicBool::new(false),
            abort: AtomicBool::new(false),
        }))
    }

    /// The client's address, an IPv4 address mapped into IPv6 as what it is.
    #[must_use]
    pub fn peer(&self) -> IpAddr {
        self.0.peer.ip().to_canonical()
    }

    /// Counts a request that is handed to the service; `Some` when it stands for one that the gate
    /// refused, and is to be told so. Requests come in order, one at a time, so nothing a client
    /// sends can pass for a refused request, or for a good one in its place.
    pub(crate) fn begin(&self) -> Option<Refusal> {
        let number = self.0.begun.fetch_add(1, Ordering::Relaxed);
        (self.0.refused.load(Ordering::Relaxed) == number).then(|| self.refusal()).flatten()
    }

    /// Why the gate let no more through, if it did not: also in the middle of a request's content.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        self.0.refusal.get().copied()
    }

    /// The gate refuses request `number` (counted from 0), or the content of the one before.
    pub(crate) fn refuse(&self, number: Option<u64>, refusal: Refusal) {
        // The first refusal is the last thing read.
        if self.0.refusal.set(refusal).is_ok() {
            self.0.refused.store(number.unwrap_or(NONE), Ordering::Relaxed);
        }
    }

    /// From here on the connection is a tunnel: a 101 that the client asked for is being sent.
    pub fn tunnel(&self) {
        self.0.tunnel.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_tunnel(&self) -> bool {
        self.0.tunnel.load(Ordering::Relaxed)
    }

    /// The connection is to be reset instead of closed: an answer broke off before its end, and a
    /// client that reads until the close must see that (RFC 9112 8).
    pub(crate) fn abort(&self) {
        self.0.abort.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.0.abort.load(Ordering::Relaxed)
    }
}
