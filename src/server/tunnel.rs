//! A client's connection after a 101 (RFC 9110 15.2.2).
//!
//! Decides nothing. Never touches: the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::client::Client;

/// A connection that speaks another protocol now; what came of it before is read first. It counts as one that is
/// open as long as it lives.
#[derive(Debug)]
pub(super) struct TunnelEnd(pub(super) Client);

impl AsyncRead for TunnelEnd {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let client = &mut self.get_mut().0;
        if client.take_held(buf) {
            return Poll::Ready(Ok(()));
        }
        Pin::new(client.socket()).poll_read(cx, buf)
    }
}

impl AsyncWrite for TunnelEnd {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.get_mut().0.socket()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.get_mut().0.socket()).poll_shutdown(cx)
    }
}
