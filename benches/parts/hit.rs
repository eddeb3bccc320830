//! A whole hit: a request's bytes in, an answer's bytes out, over a socket of this machine, with the
//! proxy on a thread of this process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use forebay::config;
use forebay::observe::access_log::{AccessLog, Format};
use forebay::proxy::deliver::{Delivery, Reply};
use forebay::proxy::{Instance, Proxy};
use forebay::server::{self, App, Listeners, Running, Settings};
use forebay::wire::{Connection, Content, Limits, Refusal};
use http::request::Parts;
use tokio::sync::watch;

const REQUEST: &[u8] = b"GET /hit HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n";

#[derive(Clone)]
struct Worker(Arc<Proxy>);

impl App for Worker {
    type Body = Delivery;

    fn answer(
        &self,
        head: Box<Parts>,
        content: Content,
        connection: Connection,
        refused: Option<Refusal>,
    ) -> impl Future<Output = Reply> + Send {
        Arc::clone(&self.0).handle(head, content, connection, refused)
    }
}

struct Started {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    running: Running,
}

fn start(origin: SocketAddr) -> Started {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[upstream.origin]\nservers = [\"http://{origin}\"]\n\
         [[route]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n"
    );
    let rules = config::parse(&text, "bench.toml", &|_| None).unwrap();
    let settings = Settings {
        listen: rules.server.listen.clone(),
        workers: 1,
        max_connections: 100,
        header_timeout: Duration::from_secs(15),
        idle_timeout: Duration::from_secs(75),
        drain_timeout: Duration::from_secs(1),
        limits: Limits { max_head: 32 << 10, max_body: 1 << 20 },
    };
    let listeners = Listeners::bind(&settings.listen, 1).unwrap();
    let address = listeners.addresses()[0];
    let instance = Instance::new(rules, AccessLog::start(Format::Off).unwrap()).unwrap();
    let (stop, stopping) = watch::channel(false);
    let make = move |_| Worker(instance.worker());
    let running = server::serve(&settings, listeners, make, |_| {}, &stopping).unwrap();
    Started { address, stop, running }
}

/// Answers a kibibyte that may be stored for an hour.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let mut client = BufReader::new(socket);
            let mut line = String::new();
            while client.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let head = "HTTP/1.1 200 OK\r\nCache-Control: public, max-age=3600\r\nETag: \"33a64df551425fcc\"\r\n\
                        Content-Type: application/json\r\nContent-Length: 1024\r\nConnection: close\r\n\r\n";
            client.get_mut().write_all(&[head.as_bytes(), &[b'x'; 1024]].concat()).unwrap();
        }
    });
    address
}

/// Asks, and reads the whole answer; its head.
fn ask(socket: &mut TcpStream, answer: &mut Vec<u8>) -> usize {
    socket.write_all(REQUEST).unwrap();
    answer.clear();
    loop {
        let mut piece = [0; 4096];
        let read = socket.read(&mut piece).unwrap();
        assert!(read > 0, "the proxy closed");
        answer.extend_from_slice(&piece[..read]);
        let head = memchr::memmem::find(answer, b"\r\n\r\n").map(|end| end + 4);
        if let Some(head) = head
            && answer.len() == head + 1024
        {
            return head;
        }
    }
}

pub(super) fn hit(c: &mut Criterion) {
    let started = start(origin());
    let mut socket = TcpStream::connect(started.address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut answer = Vec::new();
    ask(&mut socket, &mut answer);
    c.bench_function("hit, 1 KiB, there and back", |b| b.iter(|| ask(&mut socket, &mut answer)));
    let head = ask(&mut socket, &mut answer);
    assert!(String::from_utf8_lossy(&answer[..head]).contains("; hit;"), "that was no hit");
    drop(socket);
    started.stop.send(true).unwrap();
    started.running.join();
}
