//! What stands in for Redis, and lies: it speaks RESP, hands commands on to a real server, and answers
//! some of them in its own way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// Which commands are answered wrongly. What opens a connection (`HELLO`, `CLIENT`, `INFO`, `PING`) never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Commands {
    /// `GET`, `GETRANGE`, `XREAD`.
    Reads,
    /// `SET`, `UNLINK` and scripts.
    Writes,
    /// Both.
    All,
}

impl Commands {
    fn include(self, name: &[u8]) -> bool {
        let reads = [&b"GET"[..], b"GETRANGE", b"XREAD"].contains(&name);
        let writes = [&b"SET"[..], b"UNLINK", b"EVAL", b"EVALSHA"].contains(&name);
        match self {
            Self::Reads => reads,
            Self::Writes => writes,
            Self::All => reads || writes,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// The truth.
    None,
    /// These bytes; the real server does not see the command.
    Say(Commands, Vec<u8>),
    /// The first half of what the real server says, and then nothing any more on that connection.
    Half(Commands),
    /// As [`Self::Half`], and the connection is closed.
    Cut(Commands),
    /// To a reading of a record, what the reading of another one got before.
    Swap,
    /// One more answer in front of the real one: once for each connection, so that all later answers on it
    /// belong to the command before.
    Extra,
    /// No answer: once for each connection, so that all later answers on it belong to the command after.
    Swallow,
}

impl Lie {
    /// This line to these commands.
    pub(crate) fn line(commands: Commands, line: &str) -> Self {
        Self::Say(commands, format!("{line}\r\n").into_bytes())
    }
}

/// A server at `address` in front of a real one.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    lie: Mutex<Lie>,
    /// The last record that was read, for [`Lie::Swap`].
    last: Mutex<Vec<u8>>,
    streams: Mutex<Vec<TcpStream>>,
    over: AtomicBool,
}

impl StandIn {
    pub(crate) fn for_server(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            target,
            lie: Mutex::new(Lie::None),
            last: Mutex::default(),
            streams: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.over.load(Ordering::Acquire) {
                    return;
                }
                let Ok(second) = stream.try_clone() else { continue };
                accepting.streams.lock().unwrap().push(second);
                let shared = Arc::clone(&accepting);
                std::thread::spawn(move || {
                    // Whatever ends it, the proxy sees the connection close.
                    let _ = serve(&shared, &stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared }
    }

    /// From now on, this.
    pub(crate) fn tell(&self, lie: Lie) {
        *self.shared.lie.lock().unwrap() = lie;
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        for stream in self.shared.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection: a command, its answer, the next.
fn serve(shared: &Shared, client: &TcpStream) -> std::io::Result<()> {
    let server = TcpStream::connect(shared.target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut commands, mut replies) = (BufReader::new(client), BufReader::new(&server));
    let (mut client, mut to_server) = (client, &server);
    // Each connection is put out of step once.
    let mut shifted = false;
    loop {
        let mut command = Vec::new();
        let name = frame(&mut commands, &mut command)?;
        let lie = shared.lie.lock().unwrap().clone();
        let record = name == b"GETRANGE";
        if let Lie::Say(which, words) = &lie
            && which.include(&name)
        {
            client.write_all(words)?;
            continue;
        }
        to_server.write_all(&command)?;
        let mut reply = Vec::new();
        frame(&mut replies, &mut reply)?;
        match lie {
            Lie::Half(which) | Lie::Cut(which) if which.include(&name) => {
                client.write_all(&reply[..reply.len() / 2])?;
                if matches!(lie, Lie::Cut(_)) {
                    return Ok(());
                }
                // Nothing any more; what the proxy says is read, so that it sees no full buffer.
                let mut rest = [0; 4 << 10];
                while commands.read(&mut rest)? > 0 {}
                return Ok(());
            }
            Lie::Swap if record && reply.len() > LEAST => {
                let before = std::mem::replace(&mut *shared.last.lock().unwrap(), reply.clone());
                let words = if before.is_empty() { &reply } else { &before };
                client.write_all(words)?;
            }
            Lie::Extra if record && reply.len() > LEAST && !shifted => {
                shifted = true;
                client.write_all(&[reply.as_slice(), &reply].concat())?;
            }
            Lie::Swallow if record && reply.len() > LEAST && !shifted => {
                shifted = true;
            }
            _ => client.write_all(&reply)?,
        }
    }
}

/// A reply longer than this is a record.
const LEAST: usize = 64;

/// Reads one frame of RESP2 or RESP3 as it is into `bytes`; gives the first bulk string in it, which of a
/// command is its name, in capitals.
fn frame(reader: &mut impl BufRead, bytes: &mut Vec<u8>) -> std::io::Result<Vec<u8>> {
    let begun = bytes.len();
    reader.read_until(b'\n', bytes)?;
    let line = bytes[begun..].to_vec();
    let Some((kind, rest)) = line.strip_suffix(b"\r\n").and_then(|line| line.split_first()) else {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let number = || {
        let text = String::from_utf8_lossy(rest);
        text.parse::<i64>().map_err(|_| std::io::Error::other(format!("not a length: {text}")))
    };
    let parts = match kind {
        b'$' | b'=' | b'!' => {
            let Ok(length) = usize::try_from(number()?) else { return Ok(Vec::new()) };
            let begun = bytes.len();
            bytes.resize(begun + length + 2, 0);
            reader.read_exact(&mut bytes[begun..])?;
            return Ok(bytes[begun..begun + length].to_ascii_uppercase());
        }
        b'*' | b'~' | b'>' => number()?,
        b'%' => number()? * 2,
        _ => return Ok(Vec::new()),
    };
    let mut first = Vec::new();
    for part in 0..parts {
        let text = frame(reader, bytes)?;
        if part == 0 {
            first = text;
        }
    }
    Ok(first)
}
