//! The clients.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Failure;

/// Connections of a replay.
const CONNECTIONS: usize = 64;

/// A keep-alive connection.
struct Client {
    socket: TcpStream,
    buffer: Vec<u8>,
    /// One more field line, with its end.
    field: String,
}

impl Client {
    async fn connect(to: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(to).await.map_err(|error| format!("{to}: {error}"))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket, buffer: Vec::new(), field: String::new() })
    }

    async fn ask(&mut self, path: &str) -> Result<(), Failure> {
        let field = &self.field;
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\nAccept: */*\r\n{field}\r\n");
        Ok(self.socket.write_all(request.as_bytes()).await?)
    }

    /// Reads a head; what of the body came with it stays in the buffer. The length of the body.
    async fn head(&mut self) -> Result<u64, Failure> {
        let end = head_end(&mut self.socket, &mut self.buffer).await?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        if !self.field.is_empty() && head.starts_with("http/1.1 304") {
            // Whatever Content-Length it has is that of a 200 (RFC 9110 8.6).
            self.buffer.drain(..end);
            return Ok(0);
        }
        if !head.starts_with("http/1.1 200") {
            return Err(format!("not 200: {}", head.lines().next().unwrap_or_default()).into());
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse().ok())
            .ok_or_else(|| format!("an answer without Content-Length: {head}"))?;
        self.buffer.drain(..end);
        Ok(length)
    }

    /// Reads a whole answer.
    async fn answer(&mut self) -> Result<u64, Failure> {
        let length = self.head().await?;
        let mut left = length.checked_sub(self.buffer.len() as u64).ok_or("more than the body")?;
        self.buffer.clear();
        while left > 0 {
            self.buffer.clear();
            self.buffer.reserve(64 << 10);
            let read = self.socket.read_buf(&mut self.buffer).await? as u64;
            if read == 0 {
                return Err("a body that ended early".into());
            }
            left = left.checked_sub(read).ok_or("more than the body")?;
        }
        self.buffer.clear();
        Ok(length)
    }
}

/// Reads until a whole head is in the buffer, and where it ends. An `UnexpectedEof` where the server closes
/// before that.
pub(crate) async fn head_end(socket: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<usize> {
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n") {
            return Ok(end + 4);
        }
        buffer.reserve(4096);
        if socket.read_buf(buffer).await? == 0 {
            let fault = "the connection was closed before an answer";
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, fault));
        }
    }
}

/// Waits for all, and fails with the first that failed.
pub(crate) async fn all(mut tasks: JoinSet<Result<(), String>>) -> Result<(), Failure> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

pub(crate) fn said(error: &Failure) -> String {
    error.to_string()
}

/// Asks for `count` keys, each the path `prefix` and a number: counted up from `from`, or read from
/// place `from` of `order`, a file of little endian 32-bit numbers. Counts connections that the server closed
/// in the place of an answer; what was asked there is asked again.
pub(crate) async fn replay(
    to: &str,
    prefix: &str,
    count: usize,
    order: Option<&str>,
    from: usize,
) -> Result<(), Failure> {
    let order = order.map(std::fs::read).transpose()?;
    let next = Rc::new(Cell::new(from));
    let closed = Rc::new(Cell::new(0_u64));
    let latencies = Rc::new(RefCell::new(Vec::with_capacity(count)));
    let order: Option<Rc<[u8]>> = order.map(Into::into);
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS.min(count) {
        let (next, order, latencies) = (Rc::clone(&next), order.clone(), Rc::clone(&latencies));
        let closed = Rc::clone(&closed);
        let (to, prefix) = (to.to_owned(), prefix.to_owned());
        tasks.spawn_local(async move {
            let run = async {
                let mut client = Client::connect(&to).await?;
                loop {
                    let place = next.get();
                    if place >= from + count {
                        return Ok(());
                    }
                    next.set(place + 1);
                    let key = match &order {
                        None => place as u64,
                        Some(order) => {
                            let bytes =
                                order.get(place * 4..place * 4 + 4).ok_or("the order is too short")?;
                            u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                        }
                    };
                    let asked = Instant::now();
                    let path = format!("{prefix}{key}");
                    client.ask(&path).await?;
                    if let Err(error) = client.answer().await {
                        // Some servers close connections as they make room in their cache.
                        let error = error.downcast::<std::io::Error>()?;
                        if error.kind() != std::io::ErrorKind::UnexpectedEof {
                            return Err(error.into());
                        }
                        closed.set(closed.get() + 1);
                        client = Client::connect(&to).await?;
                        client.ask(&path).await?;
                        client.answer().await?;
                    }
                    let took = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
                    latencies.borrow_mut().push(took);
                }
            };
            run.await.map_err(|error| said(&error))
        });
    }
    all(tasks).await?;
    print!("closed={} ", closed.get());
    say(latencies.take(), began.elapsed());
    Ok(())
}

/// Asks for one path for so many seconds, with one field more; 304 is an answer.
pub(crate) async fn again(to: &str, path: &str, seconds: usize, field: &str) -> Result<(), Failure> {
    let latencies = Rc::new(RefCell::new(Vec::new()));
    let began = Instant::now();
    let until = began + Duration::from_secs(seconds as u64);
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let latencies = Rc::clone(&latencies);
        let (to, path, field) = (to.to_owned(), path.to_owned(), format!("{field}\r\n"));
        tasks.spawn_local(async move {
            let run = async {
                let mut client = Client::connect(&to).await?;
                client.field = field;
                loop {
                    let asked = Instant::now();
                    if asked >= until {
                        return Ok(());
                    }
                    client.ask(&path).await?;
                    client.answer().await?;
                    let took = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
                    latencies.borrow_mut().push(took);
                }
            };
            run.await.map_err(|error| said(&error))
        });
    }
    all(tasks).await?;
    say(latencies.take(), began.elapsed());
    Ok(())
}

/// One line: how many, in what time, and their latencies in microseconds.
pub(crate) fn say(mut latencies: Vec<u32>, took: Duration) {
    latencies.sort_unstable();
    let at = |part: f64| latencies.get((latencies.len() as f64 * part) as usize).copied().unwrap_or(0);
    println!(
        "requests={} seconds={:.6} p50_us={} p99_us={}",
        latencies.len(),
        took.as_secs_f64(),
        at(0.50),
        at(0.99)
    );
}

/// Connects everybody, then sends everybody's request, and takes down when each was answered.
pub(crate) async fn stampede(path: &str, clients: usize, to: &[&str]) -> Result<(), Failure> {
    let mut connected = Vec::with_capacity(clients);
    for (index, to) in (0..clients).zip(to.iter().cycle()) {
        connected.push(Client::connect(to).await.map_err(|error| format!("client {index}: {error}"))?);
    }
    let ends = Rc::new(RefCell::new(Vec::with_capacity(clients)));
    let began = Instant::now();
    for client in &mut connected {
        client.ask(path).await?;
    }
    let sent = began.elapsed();
    let mut tasks = JoinSet::new();
    for mut client in connected {
        let ends = Rc::clone(&ends);
        tasks.spawn_local(async move {
            client.answer().await.map_err(|error| said(&error))?;
            ends.borrow_mut().push(began.elapsed());
            Ok(())
        });
    }
    all(tasks).await?;
    let ends = ends.take();
    let ms = |time: Option<&Duration>| time.map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!(
        "clients={clients} sent_ms={:.1} first_ms={:.1} last_ms={:.1}",
        sent.as_secs_f64() * 1e3,
        ms(ends.iter().min()),
        ms(ends.iter().max())
    );
    Ok(())
}

/// Opens connections with one request each and keeps them until standard input ends.
pub(crate) async fn idle(to: &str, path: &str, connections: usize) -> Result<(), Failure> {
    let mut held = Vec::with_capacity(connections);
    for _ in 0..connections {
        let mut client = Client::connect(to).await?;
        client.ask(path).await?;
        client.answer().await?;
        client.buffer = Vec::new();
        held.push(client);
    }
    println!("connections={connections}");
    let (closed, closing) = tokio::sync::oneshot::channel();
    // Whoever started this closes the pipe, or has died.
    std::thread::spawn(move || {
        let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut Vec::new());
        let _ = closed.send(());
    });
    let _ = closing.await;
    let mut lost = 0;
    for client in &held {
        if matches!(client.socket.try_read(&mut [0]), Ok(0)) {
            lost += 1;
        }
    }
    if lost > 0 {
        return Err(format!("{lost} of {connections} connections were closed while idle").into());
    }
    Ok(())
}

/// Reads a body of its own per reader, `rate` bytes a second each, for so many seconds, or to its end.
pub(crate) async fn slow(
    to: &str,
    prefix: &str,
    readers: usize,
    rate: usize,
    seconds: usize,
) -> Result<(), Failure> {
    const PIECE: usize = 64 << 10;
    let pause = Duration::from_secs_f64(PIECE as f64 / rate.max(1) as f64);
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let read = Rc::new(Cell::new(0_u64));
    let mut tasks = JoinSet::new();
    for reader in 0..readers {
        let (to, path, read) = (to.to_owned(), format!("{prefix}{reader}"), Rc::clone(&read));
        tasks.spawn_local(async move {
            let run = async {
                let mut client = Client::connect(&to).await?;
                client.ask(&path).await?;
                let mut left = client.head().await?.saturating_sub(client.buffer.len() as u64);
                let mut piece = vec![0; PIECE];
                let mut tick = tokio::time::interval(pause);
                while left > 0 && Instant::now() < until {
                    tick.tick().await;
                    let most = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
                    client.socket.read_exact(&mut piece[..most]).await?;
                    left -= most as u64;
                    read.set(read.get() + most as u64);
                }
                Ok::<_, Failure>(())
            };
            run.await.map_err(|error| said(&error))
        });
    }
    all(tasks).await?;
    println!("readers={readers} bytes={}", read.get());
    Ok(())
}
