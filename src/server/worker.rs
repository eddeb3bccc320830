//! Workers: one thread, one event loop, its own listeners, its own service.
//!
//! Stopping: the listeners first answer what is already in their queues, then close; idle
//! connections close at once, those with a request under way after it, and what is still open after
//! the drain time is dropped.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::gate::Gate;
use super::{App, Listeners, Settings};
use crate::wire::Connection;

/// hyper's buffer per connection grows to this at most; a head must fit.
const LEAST_BUFFER: usize = 16 * 1024;

/// Workers that are running.
#[derive(Debug)]
pub struct Running {
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until every worker has drained.
    pub fn join(self) {
        for thread in self.threads {
            // A worker that panicked has printed why; the others are still waited for.
            let _ = thread.join();
        }
    }
}

/// Starts one worker per set of listeners. `make` is called on each worker's own event loop.
/// `stop` turning true begins the drain. `opened` is told of each connection that opens (+1) and
/// closes (-1).
///
/// # Errors
/// When a thread or an event loop cannot be had.
pub fn serve<A: App>(
    settings: &Settings,
    listeners: Listeners,
    make: impl Fn(usize) -> A + Send + Sync + 'static,
    opened: impl Fn(i64) + Send + Sync + 'static,
    stop: &watch::Receiver<bool>,
) -> io::Result<Running> {
    let make = Arc::new(make);
    let opened: Arc<dyn Fn(i64) + Send + Sync> = Arc::new(opened);
    let room = Arc::new(Semaphore::new(settings.max_connections.min(Semaphore::MAX_PERMITS)));
    let mut threads = Vec::new();
    for (index, listeners) in listeners.into_workers().into_iter().enumerate() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let make = Arc::clone(&make);
        let worker = Worker {
            settings: Arc::new(settings.clone()),
            room: Arc::clone(&room),
            opened: Arc::clone(&opened),
            stop: stop.clone(),
        };
        let thread = std::thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            runtime.block_on(async move {
                let app = make(index);
                worker.run(listeners, app).await;
            });
        })?;
        threads.push(thread);
    }
    Ok(Running { threads })
}

#[derive(Clone)]
struct Worker {
    settings: Arc<Settings>,
    room: Arc<Semaphore>,
    opened: Arc<dyn Fn(i64) + Send + Sync>,
    stop: watch::Receiver<bool>,
}

impl Worker {
    async fn run<A: App>(self, listeners: Vec<std::net::TcpListener>, app: A) {
        let mut accepting = JoinSet::new();
        for listener in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    accepting.spawn(self.clone().accept(listener, app.clone()));
                }
                Err(error) => tracing::error!(%error, "a listener could not be served"),
            }
        }
        while accepting.join_next().await.is_some() {}
    }

    /// Accepts until told to stop, then drains what it accepted.
    async fn accept<A: App>(mut self, listener: TcpListener, app: A) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => {
                    // The permit comes after the connection: a worker that waits for connections holds
                    // none, and one that waits for a permit leaves the others in the queue.
                    let permit = tokio::select! {
                        biased;
                        () = stopped(&mut self.stop) => break,
                        permit = Arc::clone(&self.room).acquire_owned() => permit,
                    };
                    let serve = self.clone().connection(socket, Connection::new(peer), app.clone());
                    connections.spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: closing connections will mend it, spinning will not.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            while connections.try_join_next().is_some() {}
        }
        // Whoever is in the queue has been told by the kernel that it is connected.
        while let Ok(Ok((socket, peer))) = tokio::time::timeout(Duration::ZERO, listener.accept()).await {
            connections.spawn(self.clone().connection(socket, Connection::new(peer), app.clone()));
        }
        drop(listener);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(self.settings.drain_timeout, drained).await.is_err() {
            tracing::warn!("connections were still open after the drain time, and are dropped");
        }
    }

    async fn connection<A: App>(mut self, socket: TcpStream, connection: Connection, app: A) {
        (self.opened)(1);
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(%error, "TCP_NODELAY could not be set");
        }
        let settings = &self.settings;
        let gate = Gate::new(socket, connection.clone(), settings.limits, settings.header_timeout);
        let service = service_fn(|request| {
            let app = app.clone();
            let connection = connection.clone();
            let refused = connection.begin();
            async move { Ok::<_, Infallible>(app.answer(request, connection, refused).await) }
        });
        let served = {
            let mut served = std::pin::pin!(
                http1::Builder::new()
                    .timer(TokioTimer::new())
                    // Since hyper 1.6 this runs from the end of the answer before: the idle time. A head
                    // that has begun to arrive is the gate's to time.
                    .header_read_timeout(settings.idle_timeout)
                    .max_buf_size(settings.limits.max_head.max(LEAST_BUFFER))
                    .half_close(false)
                    .serve_connection(TokioIo::new(gate), service)
                    .with_upgrades()
            );
            let served = tokio::select! {
                served = served.as_mut() => served,
                () = stopped(&mut self.stop) => {
                    served.as_mut().graceful_shutdown();
                    served.as_mut().await
                }
            };
            if let Err(error) = &served
                && error.is_user()
            {
                // The answer's body broke off: seen before the gate is dropped, and the socket with it.
                connection.abort();
            }
            served
        };
        if let Err(error) = served {
            tracing::debug!(%error, "a connection ended early");
        }
        (self.opened)(-1);
    }
}

/// Ends when the process is told to stop, or by whoever could tell it has gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await.map(drop);
}
