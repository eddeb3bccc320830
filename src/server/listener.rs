//! Listening sockets: one per address and worker, sharing the port.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, per listener.
const BACKLOG: i32 = 4096;

/// The listeners of all workers, bound and not yet served.
#[derive(Debug)]
pub struct Listeners {
    addresses: Vec<SocketAddr>,
    shared: Vec<SocketAddr>,
    per_worker: Vec<Vec<TcpListener>>,
}

impl Listeners {
    /// Binds every address once per worker. Port 0 is chosen once and shared by the workers.
    ///
    /// # Errors
    /// The address that could not be bound, and why.
    pub fn bind(listen: &[SocketAddr], workers: usize) -> Result<Self, (SocketAddr, io::Error)> {
        // Looked at before any is bound: one of ours may stand for another.
        let is_shared = |address: &&SocketAddr| address.port() != 0 && !is_free(**address);
        let shared = listen.iter().filter(is_shared).copied().collect();
        let mut addresses = Vec::new();
        let mut per_worker: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
        for wanted in listen {
            let mut address = *wanted;
            for listeners in &mut per_worker {
                let listener = bind(address).map_err(|error| (address, error))?;
                address = listener.local_addr().map_err(|error| (address, error))?;
                listeners.push(listener);
            }
            addresses.push(address);
        }
        Ok(Self { addresses, shared, per_worker })
    }

    /// Those at which another process of this user listens as well: the system gives connections to either.
    #[must_use]
    pub fn shared(&self) -> &[SocketAddr] {
        &self.shared
    }

    /// The addresses really bound.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(super) fn into_workers(self) -> Vec<Vec<TcpListener>> {
        self.per_worker
    }
}

/// Whether nobody listens there, as far as can be seen.
fn is_free(address: SocketAddr) -> bool {
    let alone = socket(address).and_then(|socket| socket.bind(&address.into()));
    !alone.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

/// A socket that a connection of before does not keep from being bound.
fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    Ok(socket)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
