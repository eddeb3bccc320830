//! The connections of one worker to one server.
//!
//! Decides: which connection carries a request, which is used again, which is closed. Never touches:
//! what is sent over it, or whether a request may be sent at all (that is its [`Slot`]).
//!
//! - Idle connections belong to the worker that opened them, last in first out, and are closed after
//!   [`IDLE_LIFETIME`]. They hold no slot; when more sockets are open than there are slots, they are
//!   closed instead of kept, and a worker that has to open one beyond that asks the others to close an
//!   idle one. So sockets exceed `max_connections` for moments at most, requests in flight never.
//! - A [`Lease`] is a slot with a connection. Only [`Lease::finish`] gives the connection back, and
//!   only when both messages ended cleanly; dropping a lease cuts the connection off at once.
//!
//! Locks are held for a push or a pop, never across an await.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::UpstreamError;
use super::body::{Patience, SentBody};
use super::connect;
use super::exchange::{Exchange, Upload};
use super::gate::Gate;
use super::server::{ServerShared, Slot, UpstreamGauges};
use crate::clock;

/// How long an idle connection is kept: below the keep-alive time of common origins, so that they
/// rarely close one that is about to be used.
pub const IDLE_LIFETIME: Duration = Duration::from_secs(30);
/// Bytes hyper may hold of an answer that nobody reads, and the largest answer head with all interim ones
/// before it: room for the thousands of tags that some applications send, which are read here and go no
/// further.
const BUFFER: usize = 128 << 10;
/// How long a connection may take to notice that it is idle after both messages have ended.
const SETTLE: Duration = Duration::from_secs(1);

/// One worker's connections to one server.
pub(super) struct Pool(Arc<Home>);

/// Where connections go when their exchange is over.
struct Home {
    server: Arc<ServerShared>,
    idle: Mutex<Idle>,
}

impl Pool {
    pub(super) fn new(server: Arc<ServerShared>) -> Self {
        let idle = Idle { stack: Vec::new(), reaped: false, gauges: Arc::clone(&server.gauges) };
        Self(Arc::new(Home { server, idle: Mutex::new(idle) }))
    }

    pub(super) fn server(&self) -> &ServerShared {
        &self.0.server
    }

    /// A lease on an idle connection, or the slot back.
    pub(super) fn reuse(&self, slot: Slot) -> Result<Lease, Slot> {
        let now = clock::monotonic();
        loop {
            let Some((mut connection, since)) = lock(&self.0.idle).pop() else { return Err(slot) };
            if now.saturating_duration_since(since) < IDLE_LIFETIME && connection.is_usable() {
                self.server().gauges.reuses.fetch_add(1, Relaxed);
                connection.busy = true;
                return Ok(self.lease(connection, slot, true));
            }
        }
    }

    /// A lease on a connection made for it, within `limit`.
    pub(super) async fn connect(&self, slot: Slot, limit: Duration) -> Result<Lease, UpstreamError> {
        let connection = Connection::open(self.server(), limit).await?;
        Ok(self.lease(connection, slot, false))
    }

    fn lease(&self, connection: Connection, slot: Slot, reused: bool) -> Lease {
        Lease { connection, home: Arc::clone(&self.0), reused, http10: false, slot }
    }

    /// Idle connections of this worker.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        lock(&self.0.idle).stack.len()
    }

    /// What the reaper does after `time`.
    #[cfg(test)]
    pub(super) fn reap_after(&self, time: Duration) -> bool {
        lock(&self.0.idle).reap(clock::monotonic() + time, 0).is_some()
    }
}

impl Home {
    fn take_back(self: &Arc<Self>, mut connection: Connection) {
        connection.busy = false;
        if !connection.is_usable() || self.server.is_overfull() {
            return;
        }
        let now = clock::monotonic();
        let mut idle = lock(&self.idle);
        idle.push(connection, now);
        if !std::mem::replace(&mut idle.reaped, true) {
            let server = Arc::clone(&self.server);
            tokio::spawn(reap(Arc::downgrade(self), server, now + IDLE_LIFETIME));
        }
    }
}

/// Ages idle connections out: sleeps until the oldest is due, or another worker asks for one, and ends
/// when none is left (or the pool is gone); the next one that becomes idle begins it again.
async fn reap(home: Weak<Home>, server: Arc<ServerShared>, first: Instant) {
    let mut due = Some(first);
    while let Some(at) = due {
        let asked = tokio::time::timeout_at(at.into(), server.asked_to_give_up()).await.is_ok();
        let Some(home) = home.upgrade() else { return };
        due = lock(&home.idle).reap(clock::monotonic(), usize::from(asked));
    }
}

/// A slot with a connection. Dropped, it cuts the connection off: whatever was under way on it is not
/// ended properly, and nobody else ever reads what it still had to say.
pub(super) struct Lease {
    connection: Connection,
    home: Arc<Home>,
    reused: bool,
    http10: bool,
    /// Last, so that the connection is gone or back in the pool when the next request is let in.
    slot: Slot,
}

impl Lease {
    /// Whether the connection had carried an exchange before: it may have died meanwhile.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    /// The origin answered as HTTP/1.0: the connection is not used again, since hyper would speak
    /// HTTP/1.0 on it and could not frame a body of unknown length.
    pub(super) const fn answered_http10(&mut self) {
        self.http10 = true;
    }

    pub(super) const fn sender(&mut self) -> &mut SendRequest<SentBody> {
        &mut self.connection.sender
    }

    pub(super) const fn exchange(&self) -> &Arc<Exchange> {
        &self.connection.exchange
    }

    pub(super) fn patience(&mut self) -> (&mut Patience, &Exchange) {
        (&mut self.connection.patience, &self.connection.exchange)
    }

    /// The answer has ended. The connection is used again if the request has ended as well and nothing
    /// else was said on it; else it is cut off.
    ///
    /// An answer that ends before its request cuts the upload off: the origin has said what it had to
    /// say, and no answer could tell what became of the rest.
    pub(super) fn finish(self) {
        let Self { mut connection, home, http10, slot, .. } = self;
        let ended = matches!(connection.exchange.upload(), Upload::Ended(_));
        if !ended || http10 || connection.exchange.is_poisoned() || connection.sender.is_closed() {
            drop(connection);
        } else if connection.is_usable() {
            home.take_back(connection);
        } else {
            // Both messages have ended, but the connection's task has not come round to it yet; the
            // slot stays taken until it has.
            tokio::spawn(async move {
                if let Ok(Ok(())) = tokio::time::timeout(SETTLE, connection.sender.ready()).await {
                    home.take_back(connection);
                }
                drop(slot);
            });
        }
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection).field("reused", &self.reused).finish()
    }
}

/// A connection, driven by a task of its own.
///
/// Dropped while busy, it is cut off at once; dropped while idle, its task closes the socket in peace
/// (with TLS, saying so).
#[derive(Debug)]
struct Connection {
    sender: SendRequest<SentBody>,
    exchange: Arc<Exchange>,
    patience: Patience,
    task: AbortHandle,
    busy: bool,
}

impl Connection {
    async fn open(server: &ServerShared, limit: Duration) -> Result<Self, UpstreamError> {
        server.make_room();
        let transport = match connect::connect(&server.address, limit).await {
            Ok(transport) => transport,
            Err(error) => {
                server.gauges.connect_failures.fetch_add(1, Relaxed);
                return Err(error);
            }
        };
        server.gauges.connects.fetch_add(1, Relaxed);
        let exchange = Arc::new(Exchange::new());
        let gate = Gate::new(transport, Arc::clone(&exchange), BUFFER, server.opened());
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake::<_, SentBody>(TokioIo::new(gate))
            .await
            .map_err(UpstreamError::from_hyper)?;
        // Failures reach whoever waits for the answer or reads its body; without one they mean nothing.
        let task = tokio::spawn(async move { drop(driver.with_upgrades().await) }).abort_handle();
        Ok(Self { sender, exchange, patience: Patience::default(), task, busy: true })
    }

    fn is_usable(&self) -> bool {
        self.sender.is_ready() && !self.sender.is_closed() && !self.exchange.is_poisoned()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.busy {
            self.task.abort();
        }
    }
}

#[derive(Debug)]
struct Idle {
    /// Oldest first: taken from the back, aged out at the front.
    stack: Vec<(Connection, Instant)>,
    /// Whether a task is there to age them out.
    reaped: bool,
    gauges: Arc<UpstreamGauges>,
}

impl Idle {
    fn pop(&mut self) -> Option<(Connection, Instant)> {
        let popped = self.stack.pop();
        self.count(-i64::from(popped.is_some()));
        popped
    }

    fn push(&mut self, connection: Connection, since: Instant) {
        self.stack.push((connection, since));
        self.count(1);
    }

    /// Drops what is dead or too old at `now`, and `more` of the oldest beside; says when to look again.
    fn reap(&mut self, now: Instant, more: usize) -> Option<Instant> {
        let before = self.stack.len();
        self.stack.drain(..more.min(before));
        self.stack.retain(|(connection, since)| {
            now.saturating_duration_since(*since) < IDLE_LIFETIME && connection.is_usable()
        });
        self.count(i64::try_from(self.stack.len()).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
        let next = self.stack.first().map(|(_, since)| *since + IDLE_LIFETIME);
        self.reaped = next.is_some();
        next
    }

    fn count(&self, change: i64) {
        self.gauges.idle.fetch_add(change, Relaxed);
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.count(-i64::try_from(self.stack.len()).unwrap_or(0));
    }
}

/// A poisoned lock means that some thread panicked between two statements that cannot.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
