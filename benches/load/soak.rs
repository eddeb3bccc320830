//! Everything at once, for long: popular keys and keys of their own, conditions, ranges, long bodies,
//! slow readers, clients that leave, connections that come and go. Every byte of every answer is compared
//! with what the origin would have sent.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::Failure;
use super::clients::{all, head_end, said};
use super::origin::{PIECE, json};

/// Keys that all want, the first ones most.
const KEYS: f64 = 50_000.0;
/// What bodies are as long as, by key.
const SIZES: [u64; 6] = [64, 700, 1_024, 4_096, 20_000, 65_536];
/// What slow readers read.
const LONG: u64 = 6 << 20;

/// Who does what; how many of each there are.
const CAST: [(Role, usize); 7] = [
    (Role::Reads, 24),
    (Role::Validates, 4),
    (Role::Ranges, 4),
    (Role::Misses, 4),
    (Role::Comes, 4),
    (Role::Leaves, 4),
    (Role::Dawdles, 8),
];

#[derive(Clone, Copy, Debug)]
enum Role {
    /// One popular key after another.
    Reads,
    /// The same with a condition that the stored response meets.
    Validates,
    /// A part of a popular key.
    Ranges,
    /// Keys that nobody else asks for.
    Misses,
    /// One request for each connection.
    Comes,
    /// Leaves before the answer, or in the middle of it.
    Leaves,
    /// Reads a long body slowly, sometimes not to its end.
    Dawdles,
}

#[derive(Default)]
struct Tally {
    requests: Cell<u64>,
    hits: Cell<u64>,
    bytes: Cell<u64>,
    /// Long bodies that broke off, as they may where Redis lost a piece of them: a client sees that.
    broken: Cell<u64>,
}

struct Place {
    to: String,
    body: Vec<u8>,
    until: Instant,
    tally: Tally,
}

pub(crate) async fn soak(to: &str, seconds: usize, seed: usize) -> Result<(), Failure> {
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let place = Rc::new(Place { to: to.to_owned(), body: json(PIECE), until, tally: Tally::default() });
    let mut tasks = JoinSet::new();
    for (kind, (role, count)) in CAST.into_iter().enumerate() {
        for number in 0..count {
            let place = Rc::clone(&place);
            let random = fastrand::Rng::with_seed((seed + kind * 1_000 + number) as u64);
            tasks.spawn_local(async move {
                let actor = Actor { place, random, socket: None, buffer: Vec::new(), number: 0 };
                actor.act(role).await.map_err(|error| format!("{role:?}: {}", said(&error)))
            });
        }
    }
    all(tasks).await?;
    let Tally { requests, hits, bytes, broken } = &place.tally;
    let (requests, hits, bytes, broken) = (requests.get(), hits.get(), bytes.get(), broken.get());
    println!("requests={requests} hits={hits} bytes={bytes} broken={broken}");
    Ok(())
}

struct Actor {
    place: Rc<Place>,
    random: fastrand::Rng,
    socket: Option<TcpStream>,
    buffer: Vec<u8>,
    number: u64,
}

/// A head: its status, its content's length, and the first byte's place in the body.
struct Answer {
    status: u16,
    length: u64,
    first: u64,
}

impl Actor {
    async fn act(mut self, role: Role) -> Result<(), Failure> {
        while Instant::now() < self.place.until {
            self.number += 1;
            match role {
                Role::Reads => self.read("", 200).await?,
                Role::Validates => self.read("If-None-Match: \"33a64df551425fcc\"\r\n", 304).await?,
                Role::Ranges => self.range().await?,
                Role::Misses => {
                    let path = format!("/b/1024/own-{}-{}", self.random.u64(..), self.number);
                    self.whole(&path, "", 200, 1024).await?;
                    pause(2).await;
                }
                Role::Comes => {
                    self.socket = None;
                    self.read("", 200).await?;
                    pause(5).await;
                }
                Role::Leaves => self.leave().await?,
                Role::Dawdles => self.dawdle().await?,
            }
        }
        Ok(())
    }

    /// A key by Zipf's law, and how long its body is.
    fn popular(&mut self) -> (String, u64) {
        // The inverse of the sum of 1/n, which is about a logarithm.
        let key = KEYS.powf(self.random.f64()) as u64;
        let size = SIZES[key as usize % SIZES.len()];
        (format!("/t/{size}/all,t{}/k{key}", key % 64), size)
    }

    async fn read(&mut self, field: &str, status: u16) -> Result<(), Failure> {
        let (path, size) = self.popular();
        self.whole(&path, field, status, size).await
    }

    async fn range(&mut self) -> Result<(), Failure> {
        let (path, size) = self.popular();
        let first = self.random.u64(0..size);
        let last = self.random.u64(first..size);
        let answer = self.ask(&path, &format!("Range: bytes={first}-{last}\r\n")).await?;
        if (answer.status, answer.first, answer.length) != (206, first, last - first + 1) {
            let Answer { status, first: from, length } = answer;
            return Err(format!("{path}: {first}-{last} of {size} is {status}: {length} from {from}").into());
        }
        self.body(&answer, answer.length, None).await
    }

    async fn whole(&mut self, path: &str, field: &str, status: u16, size: u64) -> Result<(), Failure> {
        let answer = self.ask(path, field).await?;
        if answer.status != status || (status == 200 && answer.length != size) {
            return Err(format!("{path}: {} with {} bytes", answer.status, answer.length).into());
        }
        let length = if status == 304 { 0 } else { size };
        self.body(&answer, length, None).await
    }

    async fn leave(&mut self) -> Result<(), Failure> {
        let long = self.random.bool();
        let (path, _) = self.popular();
        let path = if long { format!("/b/{LONG}/long-{}", self.random.u8(..4)) } else { path };
        if long {
            let answer = self.ask(&path, "").await?;
            let wanted = answer.length.min(self.random.u64(1..LONG));
            self.long_body(&answer, wanted, None).await?;
        } else {
            self.send(&path, "").await?;
        }
        self.socket = None;
        pause(10).await;
        Ok(())
    }

    async fn dawdle(&mut self) -> Result<(), Failure> {
        // Some fit into Redis, and into no memory tier; some are nobody's to store.
        let kind = if self.random.bool() { 'b' } else { 'n' };
        let path = format!("/{kind}/{LONG}/long-{}", self.random.u8(..4));
        let answer = self.ask(&path, "").await?;
        if (answer.status, answer.length) != (200, LONG) {
            return Err(format!("{path}: {} with {} bytes", answer.status, answer.length).into());
        }
        let wanted = if self.random.u8(..4) == 0 { self.random.u64(1..LONG) } else { LONG };
        let pace = Duration::from_millis(self.random.u64(1..40));
        self.long_body(&answer, wanted, Some(pace)).await?;
        if wanted < LONG {
            self.socket = None;
        }
        Ok(())
    }

    /// A body that may break off, but not be wrong.
    async fn long_body(
        &mut self,
        answer: &Answer,
        wanted: u64,
        pace: Option<Duration>,
    ) -> Result<(), Failure> {
        match self.body(answer, wanted, pace).await {
            Err(error) if error.is::<std::io::Error>() => {
                self.place.tally.broken.set(self.place.tally.broken.get() + 1);
                self.socket = None;
                Ok(())
            }
            ended => ended,
        }
    }

    async fn send(&mut self, path: &str, field: &str) -> Result<(), Failure> {
        self.place.tally.requests.set(self.place.tally.requests.get() + 1);
        if self.socket.is_none() {
            let socket = TcpStream::connect(&self.place.to).await?;
            socket.set_nodelay(true)?;
            self.socket = Some(socket);
            self.buffer.clear();
        }
        let request = format!("GET {path} HTTP/1.1\r\nHost: bench.example\r\n{field}\r\n");
        let socket = self.socket.as_mut().ok_or("no socket")?;
        Ok(socket.write_all(request.as_bytes()).await?)
    }

    async fn ask(&mut self, path: &str, field: &str) -> Result<Answer, Failure> {
        self.send(path, field).await?;
        let socket = self.socket.as_mut().ok_or("no socket")?;
        let end = head_end(socket, &mut self.buffer).await.map_err(|error| format!("{path}: {error}"))?;
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
        let value = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let status = head.get(9..12).unwrap_or_default().parse()?;
        let length = value("content-length:").unwrap_or("0").parse()?;
        let range = value("content-range: bytes ").and_then(|range| range.split('-').next());
        let first = range.unwrap_or("0").parse()?;
        let hit = value("cache-status:").is_some_and(|status| status.contains("; hit"));
        self.place.tally.hits.set(self.place.tally.hits.get() + u64::from(hit));
        self.buffer.drain(..end);
        Ok(Answer { status, length, first })
    }

    /// Reads and compares so many bytes, with a pause after each 64 KiB of a slow reader.
    async fn body(&mut self, answer: &Answer, wanted: u64, pace: Option<Duration>) -> Result<(), Failure> {
        let socket = self.socket.as_mut().ok_or("no socket")?;
        let mut at = answer.first;
        let end = answer.first + wanted;
        loop {
            let here = (self.buffer.len() as u64).min(end - at) as usize;
            for byte in &self.buffer[..here] {
                if *byte != self.place.body[at as usize % PIECE] {
                    return Err(format!("byte {at} is not the origin's").into());
                }
                at += 1;
            }
            self.buffer.drain(..here);
            if at == end {
                break;
            }
            if let Some(pace) = pace {
                tokio::time::sleep(pace).await;
            }
            self.buffer.reserve(PIECE);
            if socket.read_buf(&mut self.buffer).await? == 0 {
                let fault = format!("a body ended at {at} of {end}");
                return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, fault).into());
            }
        }
        self.place.tally.bytes.set(self.place.tally.bytes.get() + wanted);
        Ok(())
    }
}

async fn pause(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
