//! Both ends of the wire, and everything in between that can fail: a scripted origin, a raw client,
//! the real binary, real `redis-server` processes, a relay that breaks connections and a server that lies.
//!
//! Nothing here uses an HTTP library: what a test sends is what goes out, byte for byte, and what it
//! sees is what came in. Every wait has a deadline, so that a broken proxy fails a test and hangs none.

mod client;
mod deploys;
mod forebay;
mod message;
mod origin;
mod redis;
mod relay;
mod reply;
mod resp;
mod selftest;
mod stand_in;
mod sync;

use std::net::{SocketAddr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) use client::{Answer, Client, fan_out, get, request, send, try_fan_out};
pub(crate) use deploys::{Cluster, Fleet, Sentinels, Tls};
pub(crate) use forebay::{Config, Forebay, check, command, explain, value};
pub(crate) use message::{End, Framing};
pub(crate) use origin::{Exchange, Origin, Seen};
pub(crate) use redis::Redis;
pub(crate) use relay::{Fault, Relay};
pub(crate) use reply::Reply;
pub(crate) use resp::{Resp, Value};
pub(crate) use stand_in::{Commands, Lie, StandIn};
pub(crate) use sync::{Gate, Meeting};

/// How long anything may take before a test gives up: generous, since it is only ever spent on failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until `ask` has an answer; panics with `what` when there is none in time.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = ::forebay::clock::monotonic() + PATIENCE;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(::forebay::clock::monotonic() < deadline, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Like [`eventually`], for a plain condition.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    eventually(what, || holds().then_some(()));
}

/// Lets time pass, where time itself is the subject of the test.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}

/// A port on loopback on which nobody listens, and that nobody else of this process is given. Below those
/// that the system hands out to connections, which would take it before a server is there to listen.
pub(crate) fn free_port() -> SocketAddr {
    static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(fastrand::u32(..)));
    let ports = 12_000..32_000;
    let next = || ports.start + NEXT.fetch_add(1, Ordering::Relaxed) % (ports.end - ports.start);
    let free = |port: u32| {
        let socket = TcpListener::bind(("127.0.0.1", u16::try_from(port).ok()?)).ok()?;
        socket.local_addr().ok()
    };
    ports.clone().find_map(|_| free(next())).expect("loopback has a free port")
}

/// `len` bytes that no compressor shortens, the same for the same seed.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; len];
    random.fill(&mut bytes);
    bytes
}
