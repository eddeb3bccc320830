//! A tunnel: after a 101 both sides exchange bytes that are no longer HTTP (RFC 9110 7.8).
//!
//! Never looks at the bytes. Ends when either side ends, or when neither has sent anything for the
//! idle time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::clock;

/// Bytes in flight per direction.
const BUFFER: usize = 16 * 1024;

/// Relays both ways until both have ended, one has failed, or both have been silent for `idle`.
pub(super) async fn relay<C, O>(client: C, origin: O, idle: Duration)
where
    C: AsyncRead + AsyncWrite + Unpin,
    O: AsyncRead + AsyncWrite + Unpin,
{
    let moved = Arc::new(AtomicU64::new(0));
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_origin, mut to_origin) = tokio::io::split(origin);
    let up = copy(&mut from_client, &mut to_origin, &moved);
    let down = copy(&mut from_origin, &mut to_client, &moved);
    let both = async { tokio::try_join!(up, down) };
    tokio::select! {
        _ = both => {}
        () = silence(&moved, idle) => {}
    }
}

async fn copy<R, W>(from: &mut R, to: &mut W, moved: &AtomicU64) -> std::io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(buffer.get(..length).unwrap_or_default()).await?;
        moved.fetch_add(1, Ordering::Relaxed);
        clock::pass();
    }
}

/// Ends after a whole period of `idle` in which nothing moved.
async fn silence(moved: &AtomicU64, idle: Duration) {
    let mut before = moved.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(idle).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_cross_both_ways_until_one_side_ends() {
        let (client, mut far_client) = tokio::io::duplex(64);
        let (origin, mut far_origin) = tokio::io::duplex(64);
        let tunnel = tokio::spawn(relay(client, origin, Duration::from_secs(60)));
        far_client.write_all(b"ping").await.expect("write");
        let mut four = [0; 4];
        far_origin.read_exact(&mut four).await.expect("read");
        assert_eq!(&four, b"ping");
        far_origin.write_all(b"pong").await.expect("write");
        far_client.read_exact(&mut four).await.expect("read");
        assert_eq!(&four, b"pong");
        drop(far_client);
        drop(far_origin);
        tunnel.await.expect("ends");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends_after_the_idle_time() {
        let (client, _far_client) = tokio::io::duplex(64);
        let (origin, _far_origin) = tokio::io::duplex(64);
        relay(client, origin, Duration::from_secs(5)).await;
    }
}
