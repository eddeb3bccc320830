//! A TCP relay that breaks what passes through it: for the network between proxy and Redis.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use ::forebay::clock::monotonic;

use super::message::reset;

/// What happens to bytes on their way, from the moment it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They pass.
    None,
    /// Each piece passes this much later.
    Delay(Duration),
    /// Each piece passes a few bytes at a time, with this pause after each.
    Drip(Duration),
    /// They vanish; connections stay open, and new ones are taken.
    Blackhole,
    /// Connections open at this moment hang for good, whatever is set later, and nobody is told; new ones
    /// work: the peer was replaced, or a box on the way has forgotten them.
    HalfOpen,
    /// Every connection is reset, new ones too.
    Reset,
    /// One bit is flipped in one byte of every piece whose number this divides, in turn among the first
    /// bytes, where the framing is, and anywhere. The same pieces are bent in the same places.
    Corrupt { every: usize, seed: u64 },
}

/// A relay between whoever connects to `address` and one target.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    streams: Mutex<Vec<TcpStream>>,
    /// Connections from before this one hang.
    forgotten: AtomicUsize,
    accepted: AtomicUsize,
    over: AtomicBool,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }

    /// Whether this connection hangs for good: its descriptors stay open in the list, so that nobody sees
    /// an end.
    fn has_forgotten(&self, number: usize) -> bool {
        number < self.forgotten.load(Ordering::Acquire)
    }
}

impl Relay {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            fault: Mutex::new(Fault::None),
            streams: Mutex::new(Vec::new()),
            forgotten: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.over.load(Ordering::Acquire) {
                    return;
                }
                if accepting.fault() == Fault::Reset {
                    reset(&client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                let number = accepting.accepted.fetch_add(1, Ordering::AcqRel);
                let _ = (client.set_nodelay(true), server.set_nodelay(true));
                for (way, (from, to)) in [(&client, &server), (&server, &client)].into_iter().enumerate() {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = Arc::clone(&accepting);
                    std::thread::spawn(move || carry(&shared, from, to, number, way));
                }
                accepting.streams.lock().unwrap().extend([client, server]);
            }
        });
        Self { address, shared }
    }

    /// From now on, this.
    pub(crate) fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        match fault {
            Fault::HalfOpen => {
                self.shared.forgotten.store(self.shared.accepted.load(Ordering::Acquire), Ordering::Release);
            }
            Fault::Reset => {
                for stream in self.shared.streams.lock().unwrap().drain(..) {
                    reset(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                }
            }
            _ => {}
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        self.set(Fault::Reset);
        let _ = TcpStream::connect(self.address);
    }
}

/// Moves bytes one way of one connection until an end closes: one thread takes them in, so that what is
/// delayed delays nothing behind it, and another hands them on.
fn carry(shared: &Arc<Shared>, mut from: TcpStream, to: TcpStream, number: usize, way: usize) {
    let (pieces, queue) = mpsc::channel();
    let (handing, both) = (Arc::clone(shared), from.try_clone());
    std::thread::spawn(move || {
        hand_on(&handing, queue, &to, number, way);
        if !handing.has_forgotten(number) {
            let _ = (to.shutdown(Shutdown::Both), both.map(|from| from.shutdown(Shutdown::Both)));
        }
    });
    let mut piece = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if shared.has_forgotten(number) || pieces.send((monotonic(), piece[..length].to_vec())).is_err() {
            return;
        }
    }
}

/// Ends when there is nothing more to come, or nobody to take it.
fn hand_on(
    shared: &Shared,
    queue: mpsc::Receiver<(Instant, Vec<u8>)>,
    mut to: &TcpStream,
    number: usize,
    way: usize,
) {
    for (at, (came, mut piece)) in (1_usize..).zip(queue) {
        if shared.has_forgotten(number) {
            return;
        }
        let passed = match shared.fault() {
            Fault::None | Fault::HalfOpen => to.write_all(&piece),
            Fault::Delay(time) => {
                std::thread::sleep((came + time).saturating_duration_since(monotonic()));
                to.write_all(&piece)
            }
            Fault::Drip(pause) => piece.chunks(DROP).try_for_each(|drop| {
                // The rest goes at once when the fault is over.
                if matches!(shared.fault(), Fault::Drip(_)) {
                    std::thread::sleep(pause);
                }
                to.write_all(drop)
            }),
            Fault::Blackhole => continue,
            Fault::Reset => return,
            Fault::Corrupt { every, seed } => {
                if at.is_multiple_of(every) {
                    bend(&mut piece, seed ^ (number * 2 + way) as u64, at / every);
                }
                to.write_all(&piece)
            }
        };
        if passed.is_err() {
            return;
        }
    }
}

/// Bytes that drip at once.
const DROP: usize = 16;

/// Flips one bit of a piece: for every second `turn` in its framing.
fn bend(piece: &mut [u8], seed: u64, turn: usize) {
    let mut random = fastrand::Rng::with_seed(seed.wrapping_add((turn as u64) << 32));
    let within = if turn.is_multiple_of(2) { piece.len().min(6) } else { piece.len() };
    piece[random.usize(..within)] ^= 1 << random.u8(..8);
}
