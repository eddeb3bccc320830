//! An origin that costs as little as it can: it shares its core with the load.
//!
//! | target | answer |
//! |---|---|
//! | `/b/SIZE/…` | SIZE bytes of JSON, fresh for an hour, with an entity tag; 304 where that is asked |
//! | `/t/SIZE/TAG,TAG/…` | the same, tagged with these in `Surrogate-Key` |
//! | `/n/SIZE/…` | SIZE bytes that nobody may store |
//! | `/slow/MS/SIZE/…` | like `/b`, after that many milliseconds |
//! | `/brief/SECONDS/MS/SIZE/…` | the same, fresh for that many seconds and without an entity tag |
//! | `/-/counts` | `requests=… connections=…` until now, this one left out |

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::Failure;

/// A piece of every body; longer ones repeat it.
pub(crate) const PIECE: usize = 64 << 10;

#[derive(Default)]
struct Counts {
    requests: Cell<u64>,
    connections: Cell<u64>,
}

pub(crate) async fn serve(listen: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(listen).await?;
    println!("{}", listener.local_addr()?);
    let counts = Rc::new(Counts::default());
    let body: Rc<[u8]> = json(PIECE).into();
    loop {
        let Ok((socket, _)) = listener.accept().await else {
            // Out of descriptors: connections that leave will mend it.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (counts, body) = (Rc::clone(&counts), Rc::clone(&body));
        tokio::task::spawn_local(async move {
            counts.connections.set(counts.connections.get() + 1);
            // A proxy that goes away needs no answer.
            let _ = answer_all(socket, &counts, &body).await;
        });
    }
}

/// Looks like the answers of a product service, and compresses like them.
pub(crate) fn json(length: usize) -> Vec<u8> {
    let mut text = b"[".to_vec();
    let mut id = 7_u64;
    while text.len() < length {
        let noise = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let item = format!(
            "{{\"id\":{id},\"name\":\"Product {id}\",\"price\":{}.{:02},\"sku\":\"{noise:016x}\",\"inStock\":true}},",
            noise % 900,
            noise % 100
        );
        text.extend_from_slice(item.as_bytes());
        id += 1;
    }
    text.truncate(length);
    text
}

async fn answer_all(mut socket: TcpStream, counts: &Counts, body: &[u8]) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(4096);
    let mut out = Vec::with_capacity(8192);
    loop {
        let end = loop {
            if let Some(end) = memchr::memmem::find(&buffer, b"\r\n\r\n") {
                break end + 4;
            }
            if socket.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let (wanted, has_tag) = read(&buffer[..end]);
        buffer.drain(..end);
        let mut left = 0;
        out.clear();
        match wanted {
            Wanted::Counts => {
                let text = format!(
                    "requests={} connections={}\n",
                    counts.requests.get(),
                    counts.connections.get().saturating_sub(1)
                );
                put(
                    &mut out,
                    &format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
                        text.len()
                    ),
                );
            }
            Wanted::Body { size, stored, delay, tags, seconds } => {
                counts.requests.set(counts.requests.get() + 1);
                if delay > 0 {
                    tokio::time::sleep(Duration::from_millis(delay)).await;
                }
                let status = if stored && has_tag { "304 Not Modified" } else { "200 OK" };
                put(&mut out, "HTTP/1.1 ");
                put(&mut out, status);
                put(&mut out, "\r\nServer: shop\r\nDate: ");
                put(&mut out, &date());
                put(&mut out, "\r\n");
                if !tags.is_empty() {
                    put(&mut out, &format!("Surrogate-Key: {}\r\n", tags.replace(',', " ")));
                }
                match seconds {
                    Some(seconds) => put(&mut out, &format!("Cache-Control: max-age={seconds}\r\n")),
                    None => put(&mut out, if stored { STORED } else { NOT_STORED }),
                }
                if status.starts_with('2') {
                    put(&mut out, &format!("Content-Length: {size}\r\n\r\n"));
                    left = size;
                    let first = left.min(body.len());
                    out.extend_from_slice(&body[..first]);
                    left -= first;
                } else {
                    put(&mut out, "\r\n");
                }
            }
            Wanted::Unknown => {
                put(
                    &mut out,
                    "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nCache-Control: no-store\r\n\r\n",
                );
            }
        }
        socket.write_all(&out).await?;
        while left > 0 {
            let piece = left.min(body.len());
            socket.write_all(&body[..piece]).await?;
            left -= piece;
        }
    }
}

const STORED: &str = "Content-Type: application/json\r\nCache-Control: public, max-age=3600\r\n\
    ETag: \"33a64df551425fcc\"\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    X-Content-Type-Options: nosniff\r\nX-Request-Cost: 12\r\n";
const NOT_STORED: &str = "Content-Type: application/json\r\nCache-Control: no-store\r\n\
    X-Content-Type-Options: nosniff\r\nX-Request-Cost: 12\r\n";

enum Wanted {
    Body { size: usize, stored: bool, delay: u64, tags: String, seconds: Option<u64> },
    Counts,
    Unknown,
}

fn read(head: &[u8]) -> (Wanted, bool) {
    let text = String::from_utf8_lossy(head);
    let target = text.split(' ').nth(1).unwrap_or_default();
    let has_tag = text.lines().any(|line| line.to_ascii_lowercase().starts_with("if-none-match:"));
    let parts: Vec<&str> = target.split('/').skip(1).collect();
    let body = |size: &str, stored, delay: &str, tags: &str| match (size.parse(), delay.parse()) {
        (Ok(size), Ok(delay)) => Wanted::Body { size, stored, delay, tags: tags.to_owned(), seconds: None },
        _ => Wanted::Unknown,
    };
    let wanted = match parts[..] {
        ["-", "counts"] => Wanted::Counts,
        ["b", size, ..] => body(size, true, "0", ""),
        ["t", size, tags, ..] => body(size, true, "0", tags),
        ["n", size, ..] => body(size, false, "0", ""),
        ["slow", delay, size, ..] => body(size, true, delay, ""),
        ["brief", seconds, delay, size, ..] => match (body(size, false, delay, ""), seconds.parse()) {
            (Wanted::Body { size, stored, delay, tags, .. }, Ok(seconds)) => {
                Wanted::Body { size, stored, delay, tags, seconds: Some(seconds) }
            }
            _ => Wanted::Unknown,
        },
        _ => Wanted::Unknown,
    };
    (wanted, has_tag)
}

fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

thread_local! {
    static DATE: std::cell::RefCell<(u64, String)> = const { std::cell::RefCell::new((0, String::new())) };
}

/// The date, written once a second.
fn date() -> String {
    let now = SystemTime::now();
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(at, text)| {
        if *at != seconds {
            *at = seconds;
            *text = httpdate::fmt_http_date(now);
        }
        text.clone()
    })
}
