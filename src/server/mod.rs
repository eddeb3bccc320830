//! The public listeners: who may connect, for how long, and what bytes get through.
//!
//! Decides: limits on connections, heads and silence, the order of draining. Never touches: what a
//! request means; the service is an argument. One single-threaded event loop per worker, each with its
//! own listener on the shared port (SO_REUSEPORT), so that a connection lives and dies on one core.
//!
//! A connection's life: `worker` accepts it, `room` gives it a place, `connection` has its requests answered
//! one after another, and `client` is its socket, where every byte is read and every silence timed.

mod client;
mod connection;
mod listener;
mod outbox;
mod patience;
mod room;
#[cfg(test)]
mod tests;
mod tunnel;
mod worker;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use http::request::Parts;

pub use self::listener::Listeners;
pub use self::worker::{Running, serve};
use crate::wire::{AnswerHead, Connection, Content, Limits, Refusal};

/// Bounds and addresses of the public listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Addresses; port 0 asks for any.
    pub listen: Vec<SocketAddr>,
    /// Event loops.
    pub workers: usize,
    /// Connections over all workers, tunnels included. When they are all taken, a new one waits (one
    /// per listener accepted, the rest in the kernel's queue), those that have been between requests for a
    /// second are closed to make room, and answers end their connections.
    pub max_connections: usize,
    /// To read one head, from its first byte; then 408. The first byte of a connection has as long to
    /// come; then the connection is closed.
    pub header_timeout: Duration,
    /// How long a client may be silent: between requests (then the connection is closed), in the middle
    /// of content (then 408), or taking nothing of an answer (then the connection is reset).
    pub idle_timeout: Duration,
    /// For requests and tunnels under way when the process is told to stop.
    pub drain_timeout: Duration,
    /// Bounds on one request.
    pub limits: Limits,
}

/// What answers the requests of one worker; made on that worker's event loop.
pub trait App: Clone + Send + Sync + 'static {
    /// The body of its answers. An error resets the connection, so that no client takes what it has for
    /// the whole.
    type Body: http_body::Body<Data = bytes::Bytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Answers one request; or, where `refused` says so, tells the client why its request was
    /// refused (`head` then stands in for its own, and says nothing). Dropped when the client goes
    /// away first.
    ///
    /// Where the content of a request ends in an error, [`Connection::refusal`] says whether it was
    /// refused, and with which status. Whoever answers 101 has asked [`Connection::tunnel`] before.
    fn answer(
        &self,
        head: Box<Parts>,
        content: Content,
        connection: Connection,
        refused: Option<Refusal>,
    ) -> impl Future<Output = (AnswerHead, Self::Body)> + Send;
}
