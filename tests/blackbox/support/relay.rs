//! A TCP relay that breaks what passes through it: for the network between proxy and Redis.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::message::reset;

/// What happens to bytes on their way, from the moment it is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// They pass.
    None,
    /// Each piece passes this much later.
    Delay(Duration),
    /// They vanish; connections stay open.
    Blackhole,
    /// Every connection is reset, new ones too.
    Reset,
}

/// A relay between whoever connects to `address` and one target.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    fault: Mutex<Fault>,
    streams: Mutex<Vec<TcpStream>>,
}

impl Shared {
    fn fault(&self) -> Fault {
        *self.fault.lock().unwrap()
    }
}

impl Relay {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared { fault: Mutex::new(Fault::None), streams: Mutex::new(Vec::new()) });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.fault() == Fault::Reset {
                    reset(&client);
                    continue;
                }
                let Ok(server) = TcpStream::connect(target) else { continue };
                let pairs = [(&client, &server), (&server, &client)];
                for (from, to) in pairs {
                    let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { continue };
                    let shared = Arc::clone(&accepting);
                    std::thread::spawn(move || carry(&shared, from, to));
                }
                accepting.streams.lock().unwrap().extend([client, server]);
            }
        });
        Self { address, shared }
    }

    /// From now on, this.
    pub(crate) fn set(&self, fault: Fault) {
        *self.shared.fault.lock().unwrap() = fault;
        if fault == Fault::Reset {
            for stream in self.shared.streams.lock().unwrap().drain(..) {
                reset(&stream);
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Fault::Reset);
    }
}

fn carry(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut piece = [0; 16 << 10];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        match shared.fault() {
            Fault::None => {}
            Fault::Delay(time) => std::thread::sleep(time),
            Fault::Blackhole => continue,
            Fault::Reset => break,
        }
        if to.write_all(&piece[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
