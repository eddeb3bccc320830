//! The way out of HTTP: the bytes of a connection after a 101 (RFC 9110 15.2.2), from who served it to whoever
//! asked for them.
//!
//! Decides nothing. Never touches: the bytes.

use std::fmt::Debug;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

/// A stream of bytes in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + Debug> Duplex for T {}

/// The connection of a request that asked for an upgrade, once its 101 is out. In the extensions of such a
/// request. Ends in an error where another answer was given, or the connection is gone.
#[derive(Debug)]
pub struct Upgrade(oneshot::Receiver<Box<dyn Duplex>>);

/// Where the connection hands itself over.
pub(crate) type Handover = oneshot::Sender<Box<dyn Duplex>>;

/// Both ends of the way.
pub(crate) fn upgrade() -> (Handover, Upgrade) {
    let (handover, taken) = oneshot::channel();
    (handover, Upgrade(taken))
}

/// There is no such connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUpgraded;

impl Future for Upgrade {
    type Output = Result<Box<dyn Duplex>, NotUpgraded>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map_err(|_| NotUpgraded)
    }
}
