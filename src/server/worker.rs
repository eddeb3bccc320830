//! Workers: one thread, one event loop, its own listeners, its own service.
//!
//! Decides: when a connection is accepted, and the order of stopping. The listeners first answer what
//! is already in their queues, then close; connections leave as soon as nothing is under way on them,
//! and what is still open after the drain time is reset. A worker that has drained stays until all
//! have: what its event loop does for others (a fill, a renewal) goes on.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::connection;
use super::room::{Open, Place, Room};
use super::{App, Listeners, Settings};
use crate::clock;
use crate::wire::Connection;

/// After a failure to accept: how long until the next attempt.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// Blocking work that is still under way when all has drained.
const LAST_WORK: Duration = Duration::from_secs(1);

/// Workers that are running.
#[derive(Debug)]
pub struct Running {
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until every worker has drained.
    pub fn join(self) {
        for thread in self.threads {
            if thread.join().is_err() {
                tracing::error!("a worker panicked");
            }
        }
    }
}

/// Starts one worker per set of listeners. `make` is called on each worker's own event loop.
/// `stop` turning true begins the drain. `opened` is told of each connection that opens (+1) and
/// closes (-1).
///
/// # Errors
/// When an event loop cannot be had, before any worker begins, or a thread; those that have begun then
/// run until `stop`.
pub fn serve<A: App>(
    settings: &Settings,
    listeners: Listeners,
    make: impl Fn(usize) -> A + Send + Sync + 'static,
    opened: impl Fn(i64) + Send + Sync + 'static,
    stop: &watch::Receiver<bool>,
) -> io::Result<Running> {
    let make = Arc::new(make);
    let settings = Arc::new(settings.clone());
    let listeners = listeners.into_workers();
    let room = Arc::new(Room::new(settings.max_connections, listeners.len(), Box::new(opened)));
    let (all_drained, _) = watch::channel(());
    let all_drained = Arc::new(all_drained);
    let runtimes = listeners
        .iter()
        .map(|_| {
            let mut event_loop = tokio::runtime::Builder::new_current_thread();
            event_loop.on_thread_unpark(clock::wake).on_thread_park(clock::sleep).enable_all().build()
        })
        .collect::<io::Result<Vec<_>>>()?;
    let mut threads = Vec::new();
    for (index, (listeners, runtime)) in listeners.into_iter().zip(runtimes).enumerate() {
        let make = Arc::clone(&make);
        let worker =
            Worker { index, settings: Arc::clone(&settings), room: Arc::clone(&room), stop: stop.clone() };
        let drained = Arc::clone(&all_drained);
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            runtime.block_on(async move {
                let app = make(index);
                worker.run(listeners, app).await;
                // The channel closes when the last worker has come this far, or panicked.
                let mut others = drained.subscribe();
                drop(drained);
                while others.changed().await.is_ok() {}
            });
            runtime.shutdown_timeout(LAST_WORK);
        })?;
        threads.push(thread);
    }
    Ok(Running { threads })
}

#[derive(Clone)]
struct Worker {
    index: usize,
    settings: Arc<Settings>,
    room: Arc<Room>,
    stop: watch::Receiver<bool>,
}

impl Worker {
    /// Accepts until told to stop, then waits for what was accepted.
    async fn run<A: App>(self, listeners: Vec<std::net::TcpListener>, app: A) {
        let (open, mut drained) = mpsc::channel(1);
        let mut accepting = JoinSet::new();
        for listener in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    accepting.spawn(self.clone().accept(listener, app.clone(), open.clone()));
                }
                Err(error) => tracing::error!(%error, "a listener could not be served"),
            }
        }
        drop(open);
        while let Some(ended) = accepting.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a listener is no longer served");
            }
        }
        // Nothing is ever sent: the channel closes with the last connection.
        if timeout(self.settings.drain_timeout, drained.recv()).await.is_err() {
            tracing::warn!(worker = self.index, "connections still open after the drain time are reset");
        }
    }

    async fn accept<A: App>(mut self, listener: TcpListener, app: A, open: mpsc::Sender<()>) {
        let mut is_failing = false;
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                accepted = listener.accept() => accepted,
            };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    self.accept_failed(&error, is_failing).await;
                    is_failing = true;
                    continue;
                }
            };
            is_failing = false;
            // Accepted first, and then a place: a worker whose queue is empty holds none.
            let place = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => Place::NONE,
                place = self.room.place() => place,
            };
            self.spawn(socket, peer, place, &app, &open);
        }
        self.room.stop();
        // Whoever is in the queue has been told by the kernel that it is connected.
        while let Ok(Ok((socket, peer))) = timeout(Duration::ZERO, listener.accept()).await {
            self.spawn(socket, peer, Place::NONE, &app, &open);
        }
    }

    /// A client that went away while it was in the queue harms nobody. Everything else is a lack of
    /// something, mostly of descriptors: connections that leave will mend it, trying at once will not.
    async fn accept_failed(&mut self, error: &io::Error, is_known: bool) {
        if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
            return;
        }
        if !is_known {
            tracing::warn!(%error, "connections cannot be accepted");
        }
        let _crowd = self.room.crowd();
        self.room.ring_all();
        tokio::select! {
            () = stopped(&mut self.stop) => {}
            () = sleep(ACCEPT_AGAIN) => {}
        }
    }

    fn spawn<A: App>(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        place: Place,
        app: &A,
        drained: &mpsc::Sender<()>,
    ) {
        let open = Open::new(Arc::clone(&self.room), place, drained.clone());
        // It went away already.
        let Ok(local) = socket.local_addr() else { return };
        let connection = Connection::new(peer, local);
        let settings = Arc::clone(&self.settings);
        tokio::spawn(connection::serve(socket, connection, self.index, settings, open, app.clone()));
    }
}

/// Ends when the process is told to stop, or whoever could tell it has gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}
