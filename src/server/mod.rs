//! The public listeners: who may connect, for how long, and what bytes get through.
//!
//! Decides: limits on connections and heads, the order of draining. Never touches: what a request
//! means; the service is an argument. One single-threaded event loop per worker, each with its own
//! listener on the shared port (SO_REUSEPORT), so that a connection lives and dies on one core.

mod gate;
mod listener;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;

pub use self::listener::Listeners;
pub use self::worker::{Running, serve};
use crate::wire::{Connection, Limits, Refusal};

/// Bounds and addresses of the public listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses; port 0 asks for any.
    pub listen: Vec<SocketAddr>,
    /// Event loops.
    pub workers: usize,
    /// Connections over all workers; more wait in the listeners' queues.
    pub max_connections: usize,
    /// To read one head, from its first byte.
    pub header_timeout: Duration,
    /// Between requests.
    pub idle_timeout: Duration,
    /// For requests under way when the process is told to stop.
    pub drain_timeout: Duration,
    /// Bounds on one request.
    pub limits: Limits,
}

/// What answers the requests of one worker; made on that worker's event loop.
pub trait App: Clone + Send + Sync + 'static {
    /// The body of its answers.
    type Body: http_body::Body<Data = bytes::Bytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Answers one request; or, where `refused` says so, tells the client why its request was
    /// refused (`request` then stands in for it, and says nothing). Dropped when the client goes
    /// away first.
    fn answer(
        &self,
        request: Request<Incoming>,
        connection: Connection,
        refused: Option<Refusal>,
    ) -> impl Future<Output = Response<Self::Body>> + Send;
}
