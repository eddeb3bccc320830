//! The connections of one worker to one server, and what all workers share about that server.
//!
//! Decides: which request gets a connection, which connection is used again, which is closed. Never
//! touches: what is sent over it.
//!
//! - A *slot* is the right to have a request in flight; there are `max_connections` of them per server
//!   in the whole process. Requests without one wait in a queue that is bounded in length
//!   ([`QUEUE_FACTOR`]) and time (the caller's), first come first served.
//! - Idle connections belong to the worker that opened them, last in first out, and are closed after
//!   [`IDLE_LIFETIME`]. They hold no slot; when more sockets are open than there are slots, they are
//!   closed instead of kept, and a worker that has to open one beyond that asks the others to close an
//!   idle one. So sockets exceed `max_connections` for moments at most, requests in flight never.
//! - A [`Lease`] is a slot with a connection. Only [`Lease::finish`] gives the connection back, and
//!   only when both messages ended cleanly; dropping a lease cuts the connection off at once.
//!
//! Locks are held for a push or a pop, never across an await.

use std::sync::atomic::{
    AtomicI64, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use http::HeaderValue;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};
use tokio::task::AbortHandle;

use super::UpstreamError;
use super::balance::Health;
use super::body::{Patience, SentBody};
use super::connect::{self, Address};
use super::exchange::{Exchange, Upload};
use super::gate::Gate;
use super::settings::UpstreamServer;
use crate::clock;

/// How long an idle connection is kept: below the keep-alive time of common origins, so that they
/// rarely close one that is about to be used.
pub const IDLE_LIFETIME: Duration = Duration::from_secs(30);
/// Requests that may wait for a slot, as a multiple of `max_connections`.
pub const QUEUE_FACTOR: usize = 4;
/// Bytes hyper may hold of an answer that nobody reads, and the largest answer head.
const BUFFER: usize = 256 << 10;
/// How long a connection may take to notice that it is idle after both messages have ended.
const SETTLE: Duration = Duration::from_secs(1);

/// Counters and gauges of one upstream, over all its servers and all workers.
#[derive(Debug, Default)]
pub struct UpstreamGauges {
    /// Connections kept for reuse, now.
    pub idle: AtomicI64,
    /// Requests in flight, now.
    pub busy: AtomicI64,
    /// Requests waiting for a slot, now.
    pub queued: AtomicI64,
    /// Connections made so far.
    pub connects: AtomicU64,
    /// Connections that could not be made so far.
    pub connect_failures: AtomicU64,
    /// Requests sent over a connection that was used before.
    pub reuses: AtomicU64,
    /// Requests sent again over a new connection because a reused one was dead.
    pub retries: AtomicU64,
    /// Requests refused because the queue was full or too slow.
    pub refusals: AtomicU64,
}

/// What all workers share about one server.
pub(super) struct ServerShared {
    address: Address,
    /// What `Host` carries under `host = "upstream"`, and where a request has none.
    pub(super) authority: HeaderValue,
    pub(super) health: Mutex<Health>,
    slots: Arc<Semaphore>,
    max_connections: usize,
    queued: AtomicUsize,
    open: Arc<AtomicUsize>,
    /// Asks any one worker to close an idle connection.
    give_up: Notify,
    gauges: Arc<UpstreamGauges>,
}

impl ServerShared {
    pub(super) fn new(
        server: &UpstreamServer,
        tls: Option<&Arc<ClientConfig>>,
        max_connections: usize,
        gauges: Arc<UpstreamGauges>,
    ) -> std::io::Result<Self> {
        let max_connections = max_connections.clamp(1, Semaphore::MAX_PERMITS);
        Ok(Self {
            address: Address::new(server, tls)?,
            authority: HeaderValue::try_from(server.authority()).map_err(std::io::Error::other)?,
            health: Mutex::default(),
            slots: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            queued: AtomicUsize::new(0),
            open: Arc::default(),
            give_up: Notify::new(),
            gauges,
        })
    }

    /// Requests in flight and waiting.
    pub(super) fn outstanding(&self) -> usize {
        let taken = self.max_connections.saturating_sub(self.slots.available_permits());
        taken.saturating_add(self.queued.load(Relaxed))
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    /// A slot, if there is one now and nobody waits for it.
    pub(super) fn try_slot(&self) -> Option<Slot> {
        match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(permit) => Some(self.slot(permit)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// A slot, waiting for it up to `patience` in the bounded queue.
    pub(super) async fn slot_in_turn(&self, patience: Duration) -> Result<Slot, UpstreamError> {
        let limit = self.max_connections.saturating_mul(QUEUE_FACTOR);
        let queued = Queued::join(self, limit).ok_or(UpstreamError::Busy);
        let permit = match queued {
            Ok(_queued) => tokio::time::timeout(patience, Arc::clone(&self.slots).acquire_owned()).await,
            Err(full) => {
                self.gauges.refusals.fetch_add(1, Relaxed);
                return Err(full);
            }
        };
        if let Ok(Ok(permit)) = permit {
            Ok(self.slot(permit))
        } else {
            self.gauges.refusals.fetch_add(1, Relaxed);
            Err(UpstreamError::Busy)
        }
    }

    fn slot(&self, permit: OwnedSemaphorePermit) -> Slot {
        self.gauges.busy.fetch_add(1, Relaxed);
        Slot { _permit: permit, gauges: Arc::clone(&self.gauges) }
    }

    async fn connect(&self, limit: Duration) -> Result<Connection, UpstreamError> {
        if self.open.load(Acquire) >= self.max_connections {
            self.give_up.notify_one();
        }
        let transport = match connect::connect(&self.address, limit).await {
            Ok(transport) => transport,
            Err(error) => {
                self.gauges.connect_failures.fetch_add(1, Relaxed);
                return Err(error);
            }
        };
        self.gauges.connects.fetch_add(1, Relaxed);
        let exchange = Arc::new(Exchange::new());
        let gate = Gate::new(transport, Arc::clone(&exchange), Open::count(&self.open));
        let (sender, driver) = http1::Builder::new()
            .max_buf_size(BUFFER)
            .handshake::<_, SentBody>(TokioIo::new(gate))
            .await
            .map_err(UpstreamError::from_hyper)?;
        // Failures reach whoever waits for the answer or reads its body; without one they mean nothing.
        let task = tokio::spawn(async move { drop(driver.with_upgrades().await) }).abort_handle();
        Ok(Connection { sender, exchange, patience: Patience::default(), task, busy: true })
    }
}

/// The right to have a request in flight; dropping it lets the next one in.
#[derive(Debug)]
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    gauges: Arc<UpstreamGauges>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.gauges.busy.fetch_sub(1, Relaxed);
    }
}

/// A place in the queue; left on drop, also when the waiting request is cancelled.
struct Queued<'a>(&'a ServerShared);

impl<'a> Queued<'a> {
    fn join(server: &'a ServerShared, limit: usize) -> Option<Self> {
        let join = |length: usize| (length < limit).then_some(length + 1);
        server.queued.fetch_update(AcqRel, Acquire, join).ok()?;
        server.gauges.queued.fetch_add(1, Relaxed);
        Some(Self(server))
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, AcqRel);
        self.0.gauges.queued.fetch_sub(1, Relaxed);
    }
}

/// Counts an open socket for as long as it lives; owned by whatever owns the socket.
#[derive(Debug)]
pub(super) struct Open(Arc<AtomicUsize>);

impl Open {
    pub(super) fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, AcqRel);
        Self(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
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

/// One worker's connections to one server.
pub(super) struct Pool {
    server: Arc<ServerShared>,
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug)]
struct Idle {
    /// Oldest first: taken from the back, aged out at the front.
    stack: Vec<(Connection, Instant)>,
    /// Whether a task is there to age them out.
    reaped: bool,
    gauges: Arc<UpstreamGauges>,
}

impl Pool {
    pub(super) fn new(server: Arc<ServerShared>) -> Self {
        let idle = Idle { stack: Vec::new(), reaped: false, gauges: Arc::clone(&server.gauges) };
        Self { server, idle: Arc::new(Mutex::new(idle)) }
    }

    pub(super) fn server(&self) -> &ServerShared {
        &self.server
    }

    /// A lease on an idle connection, or the slot back.
    pub(super) fn reuse(&self, slot: Slot) -> Result<Lease, Slot> {
        let now = clock::monotonic();
        loop {
            let Some((mut connection, since)) = lock(&self.idle).pop() else { return Err(slot) };
            if now.saturating_duration_since(since) < IDLE_LIFETIME && connection.is_usable() {
                self.server.gauges.reuses.fetch_add(1, Relaxed);
                connection.busy = true;
                return Ok(self.lease(connection, slot, true));
            }
        }
    }

    /// A lease on a connection made for it.
    pub(super) async fn connect(&self, slot: Slot, limit: Duration) -> Result<Lease, UpstreamError> {
        let connection = self.server.connect(limit).await?;
        Ok(self.lease(connection, slot, false))
    }

    fn lease(&self, connection: Connection, slot: Slot, reused: bool) -> Lease {
        Lease {
            connection,
            home: Home { server: Arc::clone(&self.server), idle: Arc::clone(&self.idle) },
            reused,
            http10: false,
            slot,
        }
    }

    /// Idle connections of this worker.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        lock(&self.idle).stack.len()
    }
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

/// Where a connection goes when its exchange is over.
#[derive(Clone)]
struct Home {
    server: Arc<ServerShared>,
    idle: Arc<Mutex<Idle>>,
}

impl Home {
    fn take_back(&self, mut connection: Connection) {
        connection.busy = false;
        if !connection.is_usable() || self.server.open.load(Acquire) > self.server.max_connections {
            return;
        }
        let now = clock::monotonic();
        let mut idle = lock(&self.idle);
        idle.push(connection, now);
        if !std::mem::replace(&mut idle.reaped, true) {
            tokio::spawn(reap(Arc::downgrade(&self.idle), Arc::clone(&self.server), now + IDLE_LIFETIME));
        }
    }
}

/// Ages idle connections out: sleeps until the oldest is due, or another worker asks for one, and ends
/// when none is left (or the pool is gone); the next one that becomes idle begins it again.
async fn reap(idle: Weak<Mutex<Idle>>, server: Arc<ServerShared>, first: Instant) {
    let mut due = Some(first);
    while let Some(at) = due {
        let asked = tokio::time::timeout_at(at.into(), server.give_up.notified()).await.is_ok();
        let Some(idle) = idle.upgrade() else { return };
        due = lock(&idle).reap(clock::monotonic(), usize::from(asked));
    }
}

/// A slot with a connection. Dropped, it cuts the connection off: whatever was under way on it is not
/// ended properly, and nobody else ever reads what it still had to say.
pub(super) struct Lease {
    connection: Connection,
    home: Home,
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

/// A poisoned lock means that some thread panicked between two statements that cannot.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
