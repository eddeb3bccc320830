//! What is left of a connection after 101 Switching Protocols (RFC 9110 15.2.2).
//!
//! Decides nothing. Never touches: the bytes, or how long a tunnel may be idle (that is `proxy`).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pool::Lease;

/// The way out of HTTP. It holds its slot, as [`TunnelIo`] does until it is dropped: a tunnel is a
/// request in flight. Dropped unopened, it closes the connection.
#[derive(Debug)]
pub struct Tunnel(Box<TunnelIo>);

impl Tunnel {
    pub(super) fn new(lease: Lease, early: Bytes) -> Self {
        Self(Box::new(TunnelIo { lease, early }))
    }

    /// The raw connection, what came after the 101 included.
    #[must_use]
    pub fn open(self) -> TunnelIo {
        *self.0
    }
}

/// A connection that speaks another protocol now.
#[derive(Debug)]
pub struct TunnelIo {
    lease: Lease,
    /// What came with the 101, as far as it was not read.
    early: Bytes,
}

impl AsyncRead for TunnelIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.early.is_empty() {
            return Pin::new(this.lease.transport()).poll_read(cx, buf);
        }
        let count = this.early.len().min(buf.remaining());
        buf.put_slice(this.early.get(..count).unwrap_or_default());
        this.early.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for TunnelIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().lease.transport()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().lease.transport()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().lease.transport()).poll_shutdown(cx)
    }
}
