//! What all workers share about one server: the slots, the queue for them, its health.
//!
//! Decides: which request may be in flight now, which has to wait, which is refused. Never touches:
//! connections (those belong to one worker's pool) or requests.
//!
//! A *slot* is the right to have a request in flight; there are `max_connections` of them per server in
//! the whole process. Requests without one wait in a queue that is bounded in length ([`QUEUE_FACTOR`])
//! and in time (`connect_timeout`), first come first served.

use std::sync::atomic::{
    AtomicI64, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Relaxed,
};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use http::HeaderValue;
use rustls::ClientConfig;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, TryAcquireError};

use super::UpstreamError;
use super::balance::Health;
use super::connect::Address;
use super::pool::lock;
use crate::rules::settings::UpstreamServer;

/// Requests that may wait for a slot, as a multiple of `max_connections`.
pub const QUEUE_FACTOR: usize = 4;

/// Counters and gauges of one upstream, over all its servers and all workers.
#[derive(Debug, Default)]
pub struct UpstreamGauges {
    /// Connections kept for reuse, now.
    pub idle: AtomicI64,
    /// Requests in flight, now; each has a connection, or is making one.
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

/// One server, as all workers know it.
pub(super) struct ServerShared {
    pub(super) address: Address,
    /// What `Host` carries under `host = "upstream"`, and where a request has none.
    pub(super) authority: HeaderValue,
    pub(super) gauges: Arc<UpstreamGauges>,
    health: Mutex<Health>,
    slots: Arc<Semaphore>,
    max_connections: usize,
    queued: AtomicUsize,
    /// Open sockets, idle ones included.
    open: Arc<AtomicUsize>,
    /// Asks any one worker to close an idle connection.
    give_up: Notify,
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
            gauges,
            health: Mutex::default(),
            slots: Arc::new(Semaphore::new(max_connections)),
            max_connections,
            queued: AtomicUsize::new(0),
            open: Arc::default(),
            give_up: Notify::new(),
        })
    }

    /// Requests in flight and waiting.
    pub(super) fn outstanding(&self) -> usize {
        let taken = self.max_connections.saturating_sub(self.slots.available_permits());
        taken.saturating_add(self.queued.load(Relaxed))
    }

    /// What a log calls it.
    pub(super) fn shown(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
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
        let waited = match Queued::join(self) {
            Some(_place) => {
                tokio::time::timeout(patience, Arc::clone(&self.slots).acquire_owned()).await.ok()
            }
            None => None,
        };
        if let Some(Ok(permit)) = waited {
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

    /// Counts a socket that was opened, for as long as it is.
    pub(super) fn opened(&self) -> Open {
        self.open.fetch_add(1, AcqRel);
        Open(Arc::clone(&self.open))
    }

    /// Before another socket is opened: when there are as many as there are slots, some worker is
    /// asked to close an idle one.
    pub(super) fn make_room(&self) {
        if self.open.load(Acquire) >= self.max_connections {
            self.give_up.notify_one();
        }
    }

    /// Whether more sockets are open than there are slots: none is kept idle then.
    pub(super) fn is_overfull(&self) -> bool {
        self.open.load(Acquire) > self.max_connections
    }

    /// Waits to be asked for an idle connection.
    pub(super) async fn asked_to_give_up(&self) {
        self.give_up.notified().await;
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
    fn join(server: &'a ServerShared) -> Option<Self> {
        let limit = server.max_connections.saturating_mul(QUEUE_FACTOR);
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

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, AcqRel);
    }
}
