//! The connections of one worker to one server.
//!
//! Decides: which connection carries a request, which is used again, which is closed. Never touches:
//! what is sent over it, or whether a request may be sent at all (that is its [`Slot`]).
//!
//! - Idle connections belong to the worker that opened them, last in first out, and are closed after
//!   [`IDLE_LIFETIME`]. They hold no slot; when more sockets are open than there are slots, they are
//!   closed instead of kept, and a worker that has to open one beyond that asks the others to close an
//!   idle one. So sockets exceed `max_connections` for moments at most, requests in flight never.
//! - No task drives a connection. One task per pool watches those that are idle, while there are any: a
//!   connection whose origin closes it, or says something, is closed at once. It is asked again when it is
//!   taken.
//! - A [`Lease`] is a slot with a connection. Only [`Lease::finish`] gives the connection back, and
//!   only when both messages ended cleanly; dropping a lease cuts the connection off at once.
//!
//! Locks are held for a push or a pop, never across an await.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::UpstreamError;
use super::connect::{self, Transport};
use super::patience::Patience;
use super::server::{Open, ServerShared, Slot, UpstreamGauges};
use crate::clock;

/// How long an idle connection is kept: below the keep-alive time of common origins, so that they
/// rarely close one that is about to be used.
pub const IDLE_LIFETIME: Duration = Duration::from_secs(30);
/// One worker's connections to one server.
pub(super) struct Pool(Arc<Home>);

/// Where connections go when their exchange is over.
struct Home {
    server: Arc<ServerShared>,
    idle: Mutex<Idle>,
}

impl Pool {
    pub(super) fn new(server: Arc<ServerShared>) -> Self {
        let idle = Idle { stack: Vec::new(), watch: Watch::None, gauges: Arc::clone(&server.gauges) };
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
            if now.saturating_duration_since(since) < IDLE_LIFETIME && connection.transport.is_silent() {
                self.server().gauges.reuses.fetch_add(1, Relaxed);
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
        Lease { connection, home: Arc::clone(&self.0), reused, _slot: slot }
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
        if self.server.is_overfull() {
            connection.transport.close();
            return;
        }
        let now = clock::monotonic();
        let mut idle = lock(&self.idle);
        match &idle.watch {
            Watch::By(waker) if connection.poll_of_no_use(&mut Context::from_waker(waker)).is_ready() => {
                return;
            }
            Watch::By(_) | Watch::Begun => {}
            Watch::None => {
                idle.watch = Watch::Begun;
                tokio::spawn(watch(Arc::downgrade(self), Arc::clone(&self.server), now + IDLE_LIFETIME));
            }
        }
        idle.push(connection, now);
    }
}

/// Closes idle connections that are of no use any more, and the oldest when it is due or another worker
/// asks for one. Ends when none is left (or the pool is gone); the next one that becomes idle begins it
/// again.
async fn watch(home: Weak<Home>, server: Arc<ServerShared>, first: Instant) {
    let mut due = Some(first);
    while let Some(at) = due {
        let (mut asked, mut aged) =
            (pin!(server.asked_to_give_up()), pin!(tokio::time::sleep_until(at.into())));
        due = poll_fn(|cx| {
            let more = asked.as_mut().poll(cx).is_ready();
            let aged = aged.as_mut().poll(cx).is_ready();
            let Some(home) = home.upgrade() else { return Poll::Ready(None) };
            let mut idle = lock(&home.idle);
            let due = idle.reap(clock::monotonic(), usize::from(more));
            if more || aged || due.is_none() {
                return Poll::Ready(due);
            }
            idle.watched_by(cx);
            Poll::Pending
        })
        .await;
    }
}

/// A slot with a connection. Dropped, it cuts the connection off: whatever was under way on it is not
/// ended properly, and nobody else ever reads what it still had to say.
pub(super) struct Lease {
    connection: Connection,
    home: Arc<Home>,
    reused: bool,
    /// Last, so that the connection is gone or back in the pool when the next request is let in.
    _slot: Slot,
}

impl Lease {
    /// Whether the connection had carried an exchange before: it may have died meanwhile.
    pub(super) const fn is_reused(&self) -> bool {
        self.reused
    }

    pub(super) const fn transport(&mut self) -> &mut Transport {
        &mut self.connection.transport
    }

    pub(super) const fn patience(&mut self) -> &mut Patience {
        &mut self.connection.patience
    }

    /// Both messages have ended cleanly: the connection may be used again.
    pub(super) fn finish(self) {
        let Self { connection, home, .. } = self;
        home.take_back(connection);
    }
}

impl std::fmt::Debug for Lease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lease").field("connection", &self.connection).field("reused", &self.reused).finish()
    }
}

/// A connection. It holds no bytes: what an exchange reads is the exchange's.
#[derive(Debug)]
struct Connection {
    transport: Transport,
    patience: Patience,
    _open: Open,
}

impl Connection {
    async fn open(server: &ServerShared, limit: Duration) -> Result<Self, UpstreamError> {
        server.make_room();
        match connect::connect(&server.address, limit).await {
            Ok(transport) => {
                server.gauges.connects.fetch_add(1, Relaxed);
                Ok(Self { transport, patience: Patience::default(), _open: server.opened() })
            }
            Err(error) => {
                server.gauges.connect_failures.fetch_add(1, Relaxed);
                Err(error)
            }
        }
    }

    /// Ready once an idle connection is of no use any more: it has ended, or something was said on it.
    fn poll_of_no_use(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.transport.poll_said(cx).map(drop)
    }
}

#[derive(Debug)]
struct Idle {
    /// Oldest first: taken from the back, aged out at the front.
    stack: Vec<(Connection, Instant)>,
    watch: Watch,
    gauges: Arc<UpstreamGauges>,
}

/// Who watches them.
#[derive(Debug)]
enum Watch {
    None,
    /// A task that has not come to it yet.
    Begun,
    /// The task that this wakes.
    By(Waker),
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

    /// Closes what is too old at `now`, and `more` of the oldest beside; says when to look again.
    fn reap(&mut self, now: Instant, more: usize) -> Option<Instant> {
        let aged =
            self.stack.iter().take_while(|(_, since)| now.saturating_duration_since(*since) >= IDLE_LIFETIME);
        let count = aged.count().max(more).min(self.stack.len());
        self.stack.drain(..count).for_each(|(mut connection, _)| connection.transport.close());
        self.count(-i64::try_from(count).unwrap_or(0));
        let next = self.stack.first().map(|(_, since)| *since + IDLE_LIFETIME);
        if next.is_none() {
            self.watch = Watch::None;
        }
        next
    }

    /// Closes what is of no use any more; of the others, `cx` is woken when they no longer are.
    fn watched_by(&mut self, cx: &mut Context<'_>) {
        let before = self.stack.len();
        self.stack.retain_mut(|(connection, _)| connection.poll_of_no_use(cx).is_pending());
        self.count(i64::try_from(self.stack.len()).unwrap_or(0) - i64::try_from(before).unwrap_or(0));
        self.watch = Watch::By(cx.waker().clone());
    }

    fn count(&self, change: i64) {
        self.gauges.idle.fetch_add(change, Relaxed);
    }
}

impl Drop for Idle {
    fn drop(&mut self) {
        self.stack.iter_mut().for_each(|(connection, _)| connection.transport.close());
        self.count(-i64::try_from(self.stack.len()).unwrap_or(0));
    }
}

/// A poisoned lock means that some thread panicked between two statements that cannot.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
