//! How many connections there may be, and what those that there are hear of it.
//!
//! Decides: who waits for a place, and when connections are to leave. Never touches sockets. Places are
//! shared by all workers and given in the order in which they were asked for, so no worker starves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::sleep;

/// While connections wait for a place, how often the others are asked to make room.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// What connections are to know of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pressure {
    /// Stay as long as you like.
    None,
    /// Others wait for your place: go when nothing is under way.
    Crowded,
    /// The process is stopping: go when nothing is under way.
    Stopping,
}

/// Told of each connection that opens (+1) and closes (-1).
pub(super) type Opened = dyn Fn(i64) + Send + Sync;

/// The places of all workers.
pub(super) struct Room {
    places: Arc<Semaphore>,
    /// Connections that have been accepted and wait for a place.
    waiting: AtomicUsize,
    stopping: AtomicBool,
    /// One per worker, so that listening to it contends with nobody.
    bells: Vec<Notify>,
    opened: Box<Opened>,
}

impl Room {
    pub(super) fn new(connections: usize, workers: usize, opened: Box<Opened>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            bells: (0..workers).map(|_| Notify::new()).collect(),
            opened,
        }
    }

    pub(super) fn pressure(&self) -> Pressure {
        if self.stopping.load(Relaxed) {
            Pressure::Stopping
        } else if self.waiting.load(Relaxed) > 0 {
            Pressure::Crowded
        } else {
            Pressure::None
        }
    }

    /// Waits for a place; meanwhile connections between requests are asked to leave theirs.
    pub(super) async fn place(&self) -> Place {
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(permit) => Place { _permit: Some(permit) },
            Err(_) => {
                let _crowd = self.crowd();
                let mut permit = std::pin::pin!(Arc::clone(&self.places).acquire_owned());
                loop {
                    self.ring_all();
                    tokio::select! {
                        // An error would mean that the semaphore was closed, which nobody does.
                        permit = permit.as_mut() => return Place { _permit: permit.ok() },
                        () = sleep(ASK_AGAIN) => {}
                    }
                }
            }
        }
    }

    /// As [`Pressure::Crowded`] until dropped: also when it is not places that are short.
    pub(super) fn crowd(&self) -> Crowd<'_> {
        self.waiting.fetch_add(1, Relaxed);
        Crowd(self)
    }

    /// From now on connections leave as soon as nothing is under way.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Relaxed);
        self.ring_all();
    }

    pub(super) fn ring_all(&self) {
        for bell in &self.bells {
            bell.notify_waiters();
        }
    }

    /// Ends when the pressure may have changed since this was called. `None` for a worker that there
    /// is not.
    pub(super) fn bell(&self, worker: usize) -> Option<Notified<'_>> {
        self.bells.get(worker).map(Notify::notified)
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Room").field("places", &self.places.available_permits()).finish_non_exhaustive()
    }
}

/// Somebody waits; dropped when they no longer do.
#[derive(Debug)]
pub(super) struct Crowd<'a>(&'a Room);

impl Drop for Crowd<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

/// A place for one connection. The last connections before a stop are let in without.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    pub(super) const NONE: Self = Self { _permit: None };
}

/// One open connection, from accept to close; owned by whoever has its socket, also where it became a tunnel.
#[derive(Debug)]
pub(super) struct Open {
    room: Arc<Room>,
    _place: Place,
    /// Closed when the last connection of the worker is.
    _drained: mpsc::Sender<()>,
}

impl Open {
    pub(super) fn new(room: Arc<Room>, place: Place, drained: mpsc::Sender<()>) -> Self {
        (room.opened)(1);
        Self { room, _place: place, _drained: drained }
    }

    pub(super) fn room(&self) -> &Arc<Room> {
        &self.room
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        (self.room.opened)(-1);
    }
}
