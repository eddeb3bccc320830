//! What is left of a connection after 101 Switching Protocols (RFC 9110 15.2.2).
//!
//! Decides nothing. Never touches: the bytes, or how long a tunnel may be idle (that is `proxy`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::UpstreamError;
use super::pool::Lease;

/// The way out of HTTP. It holds its slot, as [`TunnelIo`] does until it is dropped: a tunnel is a
/// request in flight. Dropped unopened, it closes the connection.
#[derive(Debug)]
pub struct Tunnel {
    opening: OnUpgrade,
    lease: Lease,
}

impl Tunnel {
    pub(super) const fn new(opening: OnUpgrade, lease: Lease) -> Self {
        Self { opening, lease }
    }

    /// The raw connection, what came after the 101 included.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Reset`] when the connection broke meanwhile.
    pub async fn open(self) -> Result<TunnelIo, UpstreamError> {
        let Self { opening, lease } = self;
        let upgraded = opening.await.map_err(UpstreamError::from_hyper)?;
        Ok(TunnelIo { io: TokioIo::new(upgraded), _lease: lease })
    }
}

/// A connection that speaks another protocol now.
#[derive(Debug)]
pub struct TunnelIo {
    io: TokioIo<Upgraded>,
    _lease: Lease,
}

impl AsyncRead for TunnelIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_read(cx, buf)
    }
}

impl AsyncWrite for TunnelIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}
