//! The server over loopback sockets, byte by byte, before a service that says little.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, watch};

use super::{App, Listeners, Running, Settings, serve};
use crate::wire::{self, AnswerHead, Connection, Limits, MAX_FIELDS, MAX_TARGET, Refusal};

/// Longer than anything here lasts that is to happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of an answer that no buffer between holds.
const LARGE: usize = 24 << 20;

// === The service ===

#[derive(Clone)]
struct Shop {
    /// Requests for `/wait` tell that they came, and wait for a permit each.
    came: Sender<()>,
    go: Arc<Semaphore>,
}

/// What the service says.
enum Content {
    /// This, of known length.
    Text(Option<Bytes>),
    /// One piece of unknown length, then an error.
    Broken(Option<Bytes>),
    /// The same piece for ever.
    Endless(Bytes),
    /// These pieces, of a length that is stated or not, and trailers.
    Pieces { pieces: Vec<&'static str>, stated: Option<u64>, trailers: Option<HeaderMap> },
}

#[derive(Debug)]
struct BrokenOff;

impl std::fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken off")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for Content {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        Poll::Ready(match self.get_mut() {
            Self::Text(text) => text.take().map(|text| Ok(Frame::data(text))),
            Self::Broken(piece) => Some(piece.take().map(Frame::data).ok_or(BrokenOff)),
            Self::Endless(piece) => Some(Ok(Frame::data(piece.clone()))),
            Self::Pieces { pieces, trailers, .. } if pieces.is_empty() => {
                trailers.take().map(|trailers| Ok(Frame::trailers(trailers)))
            }
            Self::Pieces { pieces, .. } => Some(Ok(Frame::data(Bytes::from(pieces.remove(0))))),
        })
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Broken(_) | Self::Endless(_) | Self::Pieces { stated: None, .. } => SizeHint::new(),
            Self::Pieces { stated: Some(length), .. } => SizeHint::with_exact(*length),
        }
    }
}

impl App for Shop {
    type Body = Content;

    async fn answer(
        &self,
        head: Box<Parts>,
        content: wire::Content,
        connection: Connection,
        refused: Option<Refusal>,
    ) -> (AnswerHead, Content) {
        if let Some(refusal) = refused {
            return text(refusal.status(), refusal.to_string());
        }
        assert!(connection.peer().is_loopback() && connection.local().ip().is_loopback());
        match head.uri.path() {
            "/wait" => {
                self.came.send(()).expect("the test listens");
                self.go.acquire().await.expect("open").forget();
                text(StatusCode::OK, "waited".into())
            }
            "/broken" => with(Content::Broken(Some(Bytes::from_static(b"half")))),
            "/endless" => with(Content::Endless(Bytes::from(vec![b'x'; 64 * 1024]))),
            "/pieces" => {
                let mut fields = HeaderMap::new();
                fields.insert("trailer", "sum".parse().expect("a value"));
                let mut trailers = HeaderMap::new();
                trailers.insert("sum", "7".parse().expect("a value"));
                trailers.insert("unannounced", "8".parse().expect("a value"));
                let pieces = vec!["one", "", "two"];
                let content = Content::Pieces { pieces, stated: None, trailers: Some(trailers) };
                (AnswerHead::of(StatusCode::OK, &fields), content)
            }
            "/longer" => with(Content::Pieces { pieces: vec!["longer"], stated: Some(5), trailers: None }),
            "/shorter" => with(Content::Pieces { pieces: vec!["short"], stated: Some(6), trailers: None }),
            "/large" => text(StatusCode::OK, "x".repeat(LARGE)),
            "/empty" => (AnswerHead::new(StatusCode::NO_CONTENT), Content::Text(None)),
            "/unread" => text(StatusCode::OK, "unread".into()),
            "/echo" => match content.collect().await {
                Ok(content) => {
                    text(StatusCode::OK, String::from_utf8_lossy(&content.to_bytes()).into_owned())
                }
                Err(_) => {
                    let status = connection.refusal().map_or(StatusCode::BAD_REQUEST, Refusal::status);
                    text(status, "broken off".into())
                }
            },
            "/upgrade" => {
                let Some(upgrade) = connection.tunnel() else {
                    return text(StatusCode::BAD_REQUEST, "too early".into());
                };
                tokio::spawn(async move {
                    let mut client = upgrade.await.expect("upgraded");
                    let mut buffer = [0; 1024];
                    loop {
                        let read = client.read(&mut buffer).await.expect("read");
                        if read == 0 {
                            return;
                        }
                        client.write_all(&buffer[..read]).await.expect("write");
                    }
                });
                let mut fields = HeaderMap::new();
                fields.insert("connection", "upgrade".parse().expect("a value"));
                fields.insert("upgrade", "echo".parse().expect("a value"));
                (AnswerHead::of(StatusCode::SWITCHING_PROTOCOLS, &fields), Content::Text(None))
            }
            path => {
                assert!(head.version <= Version::HTTP_11);
                text(StatusCode::OK, path.to_owned())
            }
        }
    }
}

fn text(status: StatusCode, text: String) -> (AnswerHead, Content) {
    let text = Some(Bytes::from(text)).filter(|text| !text.is_empty());
    (AnswerHead::new(status), Content::Text(text))
}

fn with(content: Content) -> (AnswerHead, Content) {
    (AnswerHead::new(StatusCode::OK), content)
}

// === The server ===

struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    running: Option<Running>,
    came: Receiver<()>,
    go: Arc<Semaphore>,
    opened: Receiver<i64>,
}

fn settings() -> Settings {
    Settings {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        workers: 2,
        max_connections: 100,
        header_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        drain_timeout: PATIENCE,
        limits: Limits { max_head: 16 * 1024, max_body: 1000 },
    }
}

impl Server {
    fn start(settings: &Settings) -> Self {
        let listeners = Listeners::bind(&settings.listen, settings.workers).expect("bound");
        let address = listeners.addresses()[0];
        let (stop, stopping) = watch::channel(false);
        let (came, come) = channel();
        let (opened, opens) = channel();
        let go = Arc::new(Semaphore::new(0));
        let shop = Shop { came, go: Arc::clone(&go) };
        let make = move |_| shop.clone();
        // The channel is gone with the test.
        let tell = move |change| opened.send(change).unwrap_or_default();
        let running = serve(settings, listeners, make, tell, &stopping).expect("running");
        Self { address, stop, running: Some(running), came: come, go, opened: opens }
    }

    fn connect(&self) -> Client {
        let socket = TcpStream::connect(self.address).expect("connected");
        socket.set_read_timeout(Some(PATIENCE)).expect("set");
        socket.set_write_timeout(Some(PATIENCE)).expect("set");
        socket.set_nodelay(true).expect("set");
        Client { socket, read: Vec::new() }
    }

    fn begin_to_stop(&self) {
        self.stop.send(true).expect("workers listen");
    }

    fn join(&mut self) {
        self.running.take().expect("running").join();
    }

    /// Waits for a request for something that waits.
    fn came(&self) {
        self.came.recv_timeout(PATIENCE).expect("the request came");
    }

    /// Waits until a connection opened (1) or closed (-1).
    #[track_caller]
    fn changed(&self, change: i64) {
        assert_eq!(self.opened.recv_timeout(PATIENCE), Ok(change));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.send(true);
    }
}

// === The client ===

struct Client {
    socket: TcpStream,
    /// What was read and not yet taken.
    read: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    closes: bool,
    text: String,
}

fn ok(text: &str) -> Answer {
    Answer { status: 200, closes: false, text: text.to_owned() }
}

impl Client {
    fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).expect("sent");
    }

    /// Reads more; `false` at the end.
    fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = self.socket.read(&mut buffer).expect("read");
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }

    fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.read.split_off(end + 4);
                let head = std::mem::replace(&mut self.read, rest);
                return String::from_utf8(head).expect("a head");
            }
            assert!(self.more(), "the connection ended before an answer: {:?}", self.read);
        }
    }

    fn answer(&mut self) -> Answer {
        let head = self.head().to_lowercase();
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
        };
        let length: usize = field("content-length:").map_or(0, |length| length.parse().expect("a length"));
        while self.read.len() < length {
            assert!(self.more(), "the connection ended within an answer: {head}");
        }
        let rest = self.read.split_off(length);
        let text = String::from_utf8(std::mem::replace(&mut self.read, rest)).expect("text");
        Answer {
            status: head[9..12].parse().expect("a status"),
            closes: field("connection:").is_some_and(|value| value == "close"),
            text,
        }
    }

    /// Reads to the end, in whichever way it comes; what came before it.
    fn rest(&mut self) -> (Vec<u8>, std::io::Result<()>) {
        let end = self.socket.read_to_end(&mut self.read).map(drop);
        (std::mem::take(&mut self.read), end)
    }

    /// The connection was closed in order, and nothing more came.
    #[track_caller]
    fn closed(&mut self) {
        let (rest, end) = self.rest();
        assert!(end.is_ok() && rest.is_empty(), "{end:?} after {:?}", String::from_utf8_lossy(&rest));
    }

    /// The connection was reset after this.
    #[track_caller]
    fn reset(&mut self) -> Vec<u8> {
        let (rest, end) = self.rest();
        assert_eq!(end.expect_err("no orderly end").kind(), ErrorKind::ConnectionReset);
        rest
    }
}

fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: shop.example\r\n\r\n")
}

fn post(fields: &str, content: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: shop.example\r\n{fields}\r\n\r\n{content}")
}

// === What may pass ===

#[test]
fn every_refusal_is_answered_and_nothing_behind_it() {
    let server = Server::start(&settings());
    let behind = get("/behind");
    for (refusal, request) in [
        (Refusal::RequestLine, "GET / HTTP/1.1\nHost: a\n\n".to_owned()),
        (Refusal::RequestLine, "\u{16}\u{3}\u{1}\0".to_owned()),
        (Refusal::Version, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
        (Refusal::Method, "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".to_owned()),
        (Refusal::Method, "TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned()),
        (Refusal::Target, get("/a#b")),
        (Refusal::TargetTooLong, get(&format!("/{}", "x".repeat(MAX_TARGET)))),
        (Refusal::FieldLine, "GET / HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n".to_owned()),
        (Refusal::HeadTooLarge, format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000))),
        (Refusal::Host, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (Refusal::Framing, post("Content-Length: 3\r\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        (Refusal::UpgradeToHttp2, "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n".to_owned()),
        (Refusal::BodyTooLarge, post("Content-Length: 1001", "")),
    ] {
        let mut client = server.connect();
        client.send(request.clone() + &behind);
        client.socket.shutdown(Shutdown::Write).expect("shut");
        let expected = Answer { status: refusal.status().as_u16(), closes: true, text: refusal.to_string() };
        assert_eq!(client.answer(), expected, "{request:?}");
        client.closed();
    }
}

#[test]
fn heads_may_come_byte_by_byte() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    for byte in
        format!("\r\n{}{}", get("/1"), post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n")).bytes()
    {
        client.send([byte]);
    }
    assert_eq!((client.answer(), client.answer()), (ok("/1"), ok("abc")));
    let mut bad = server.connect();
    for byte in "GET / HTTP/1.1\r\nHost: a\r\nHost:".bytes() {
        bad.send([byte]);
    }
    bad.send(" b\r\n\r\n");
    assert_eq!((bad.answer().status, bad.rest().0), (400, vec![]));
}

#[test]
fn pipelined_requests_are_answered_in_order_the_refused_one_too() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    let good: String = (0..40).map(|n| get(&format!("/{n}"))).collect();
    client.send(get("/wait") + &good + "GET /bad HTTP/1.1\r\n\r\n" + &get("/never"));
    server.came();
    server.go.add_permits(1);
    assert_eq!(client.answer(), ok("waited"));
    for n in 0..40 {
        assert_eq!(client.answer(), ok(&format!("/{n}")));
    }
    assert_eq!((client.answer().status, client.rest().0), (400, vec![]));
}

#[test]
fn a_client_cannot_pass_for_a_refused_request() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send("GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n");
    assert_eq!(client.answer(), Answer { closes: true, ..ok("/") });
    client.closed();
}

#[test]
fn content_is_refused_in_the_middle() {
    let server = Server::start(&settings());
    for (content, status) in [("3\r\nabcd\r\n0\r\n\r\n", 400), ("3\r\nabc\r\n3e6\r\n", 413)] {
        let mut client = server.connect();
        // The request before is not harmed by what comes in one piece with it.
        client.send(get("/1") + &post("Transfer-Encoding: chunked", content) + &get("/behind"));
        assert_eq!(client.answer(), ok("/1"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.closes), (status, true), "{content:?}");
        client.socket.shutdown(Shutdown::Write).expect("shut");
        client.closed();
    }
}

#[test]
fn limits_are_met_exactly() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    let head = "GET /fields HTTP/1.1\r\nHost: a\r\n";
    client.send(format!("{head}{}\r\n", "X: y\r\n".repeat(usize::from(MAX_FIELDS) - 1)));
    assert_eq!(client.answer(), ok("/fields"));
    let space = settings().limits.max_head - head.len() - "X: \r\n\r\n".len();
    client.send(format!("{head}X: {}\r\n\r\n", "x".repeat(space)).repeat(3));
    for _ in 0..3 {
        assert_eq!(client.answer(), ok("/fields"));
    }
    let target = format!("/{}", "x".repeat(MAX_TARGET - 1));
    client.send(get(&target));
    assert_eq!(client.answer(), ok(&target));
    let content = "x".repeat(1000);
    client.send(post("Content-Length: 1000", &content));
    assert_eq!(client.answer(), ok(&content));
}

// === How long a client may be silent ===

#[test]
fn a_slow_head_is_told_so() {
    let server = Server::start(&Settings { header_timeout: Duration::from_millis(200), ..settings() });
    let mut client = server.connect();
    client.send(get("/1") + "GET /2 HT");
    assert_eq!((client.answer(), client.answer().status), (ok("/1"), 408));
    client.socket.shutdown(Shutdown::Write).expect("shut");
    client.closed();
    // Time runs from the first byte of a head, however many come.
    let mut fields = server.connect();
    fields.send("GET / HTTP/1.1\r\n");
    let mut socket = fields.socket.try_clone().expect("cloned");
    let trickling = std::thread::spawn(move || {
        while socket.write_all(b"X: y\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    assert_eq!(fields.answer().status, 408);
    drop(fields);
    trickling.join().expect("ended");
}

#[test]
fn an_idle_connection_is_closed_in_silence_and_a_waiting_one_is_not() {
    let server = Server::start(&Settings { idle_timeout: Duration::from_millis(200), ..settings() });
    let mut fresh = server.connect();
    fresh.closed();
    let mut client = server.connect();
    client.send(get("/wait"));
    server.came();
    std::thread::sleep(Duration::from_millis(400));
    server.go.add_permits(1);
    assert_eq!(client.answer(), ok("waited"));
    client.send(get("/1"));
    assert_eq!(client.answer(), ok("/1"));
    client.closed();
}

#[test]
fn the_time_of_a_head_is_its_own_however_long_the_connection_was_idle() {
    let idle_timeout = Duration::from_millis(400);
    let server = Server::start(&Settings { idle_timeout, ..settings() });
    let mut client = server.connect();
    std::thread::sleep(idle_timeout / 2);
    client.send("GET /slow HTTP/1.1\r\n");
    std::thread::sleep(idle_timeout);
    client.send("Host: a\r\n\r\n");
    assert_eq!(client.answer(), ok("/slow"));
}

#[test]
fn content_that_stops_coming_is_told_so() {
    let server = Server::start(&Settings { idle_timeout: Duration::from_millis(200), ..settings() });
    let mut client = server.connect();
    client.send(post("Content-Length: 10", "half"));
    assert_eq!(client.answer().status, 408);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let server = Server::start(&Settings { idle_timeout: Duration::from_millis(200), ..settings() });
    let mut client = server.connect();
    client.send(get("/endless"));
    server.changed(1);
    server.changed(-1);
    client.reset();
}

// === How a connection ends ===

#[test]
fn a_client_that_takes_little_at_a_time_gets_everything() {
    let idle_timeout = Duration::from_secs(1);
    let server = Server::start(&Settings { idle_timeout, ..settings() });
    let mut client = server.connect();
    socket2::SockRef::from(&client.socket).set_recv_buffer_size(128 * 1024).expect("set");
    // Slowly for longer than anyone may take nothing, and of one piece: buffers hold a sixth of it at most.
    client.send(get("/large"));
    let mut left = LARGE;
    client.head();
    left -= client.read.len();
    let begun = crate::clock::monotonic();
    let mut piece = vec![0; 96 * 1024];
    while left > 0 {
        let read = client.socket.read(&mut piece).expect("the connection goes on");
        assert!(read > 0, "{left} bytes are missing");
        left -= read;
        if crate::clock::monotonic() < begun + idle_timeout * 5 / 2 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn who_has_said_all_is_answered_all() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send(get("/wait") + &get("/1") + &get("/2"));
    client.socket.shutdown(Shutdown::Write).expect("shut");
    server.came();
    server.go.add_permits(1);
    assert_eq!((client.answer(), client.answer(), client.answer()), (ok("waited"), ok("/1"), ok("/2")));
    client.closed();
}

#[test]
fn rfc9112_9_6_what_is_not_read_ends_the_connection_and_the_answer_says_so() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send(post("Content-Length: 1000", "").replace("/echo", "/unread"));
    assert_eq!(client.answer(), Answer { closes: true, ..ok("unread") });
    // What has come by then is passed over.
    let mut client = server.connect();
    client.send(post("Content-Length: 3", "abc").replace("/echo", "/wait"));
    server.came();
    server.go.add_permits(1);
    assert_eq!(client.answer(), ok("waited"));
    client.send(get("/next"));
    assert_eq!(client.answer(), ok("/next"));
}

#[test]
fn many_small_chunks_are_one_upload() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    let chunks = "1;x\r\na\r\n".repeat(500) + "0\r\n\r\n";
    client.send(post("Transfer-Encoding: chunked", &chunks) + &get("/next"));
    assert_eq!((client.answer(), client.answer()), (ok(&"a".repeat(500)), ok("/next")));
    let lines = "b:\r\n".repeat(usize::from(MAX_FIELDS) + 1);
    client.send(post("Transfer-Encoding: chunked", &format!("0\r\n{lines}\r\n")));
    assert_eq!(client.answer().status, 431);
}

#[test]
fn an_answer_that_breaks_off_is_reset() {
    let server = Server::start(&settings());
    for version in ["1.0", "1.1"] {
        let mut client = server.connect();
        client.send(format!("GET /broken HTTP/{version}\r\nHost: a\r\n\r\n"));
        client.reset();
    }
}

#[test]
fn an_answer_before_the_end_of_an_upload_arrives() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send(post("Content-Length: 1000", "").replace("/echo", "/early"));
    assert_eq!(client.answer().text, "/early");
    // The client goes on for a while before it looks.
    client.send("x".repeat(900));
    client.socket.shutdown(Shutdown::Write).expect("shut");
    client.closed();
}

#[test]
fn http_1_0_connections_end_with_their_answer() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send("GET /old HTTP/1.0\r\n\r\n");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.0 200"), "{head}");
    assert_eq!(client.rest().0, b"/old");
}

#[test]
fn rfc9112_9_3_http_1_0_connections_stay_where_that_is_asked_for() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    for n in 0..2 {
        client.send(format!("GET /{n} HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n"));
        let head = client.head();
        assert!(head.contains("\r\nconnection: keep-alive\r\n"), "{head}");
        while client.read.len() < 2 {
            assert!(client.more());
        }
        assert_eq!(std::mem::take(&mut client.read), format!("/{n}").as_bytes());
    }
    // What is of unknown length can end with the connection alone.
    client.send("GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = client.head();
    assert!(head.contains("\r\nconnection: close\r\n") && !head.contains("chunked"), "{head}");
    assert_eq!(client.rest().0, b"onetwo");
}

#[test]
fn rfc9112_7_1_content_of_unknown_length_is_chunked_with_the_trailers_that_were_announced() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send(get("/pieces"));
    let head = client.head();
    assert!(
        head.contains("\r\ntransfer-encoding: chunked\r\n") && !head.contains("content-length"),
        "{head}"
    );
    let content = b"3\r\none\r\n3\r\ntwo\r\n0\r\nsum: 7\r\n\r\n";
    while client.read.len() < content.len() {
        assert!(client.more());
    }
    assert_eq!(std::mem::take(&mut client.read), content);
    client.send(get("/next"));
    assert_eq!(client.answer(), ok("/next"));
}

#[test]
fn content_of_another_length_than_was_said_is_reset() {
    let server = Server::start(&settings());
    for (target, most) in [("/longer", &b""[..]), ("/shorter", b"short")] {
        let mut client = server.connect();
        client.send(get(target));
        let rest = client.reset();
        let content =
            rest.windows(4).position(|end| end == b"\r\n\r\n").map_or(&[][..], |at| &rest[at + 4..]);
        assert!(most.starts_with(content), "{target}: {content:?}");
    }
}

#[test]
fn rfc9110_6_4_1_answers_without_content_have_none() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    client.send(get("/pieces").replace("GET", "HEAD") + &get("/empty") + &get("/next"));
    let head = client.head();
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    let head = client.head();
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n") && !head.contains("content-length"), "{head}");
    assert_eq!(client.answer(), ok("/next"));
}

#[test]
fn rfc9110_10_1_1_who_expects_a_100_has_one_once_its_content_is_wanted() {
    let server = Server::start(&settings());
    let expecting = post("Expect: 100-Continue\r\nContent-Length: 3", "");
    let mut client = server.connect();
    client.send(&expecting);
    assert_eq!(client.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("abc");
    assert_eq!(client.answer(), ok("abc"));
    // Not where it is there already, not for content that nobody wants, not in HTTP/1.0.
    client.send(expecting.clone() + "abc");
    assert_eq!(client.answer(), ok("abc"));
    client.send(expecting.replace("/echo", "/unread"));
    assert_eq!(client.answer(), Answer { closes: true, ..ok("unread") });
    client.closed();
    let mut old = server.connect();
    old.send(expecting.replace("HTTP/1.1", "HTTP/1.0"));
    old.send("abc");
    assert!(old.head().starts_with("HTTP/1.0 200"));
}

#[test]
fn content_that_nobody_wanted_is_passed_over_where_it_is_here() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    let unread = post("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n\r\n").replace("/echo", "/unread");
    client.send(unread + &get("/next"));
    assert_eq!((client.answer(), client.answer()), (ok("unread"), ok("/next")));
}

#[test]
fn a_tunnel_begins_with_the_101_and_counts_as_a_connection() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    server.changed(1);
    client.send("GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    assert!(client.head().starts_with("HTTP/1.1 101"));
    let anything = b"\0\n\nGET / HTTP/9.9\r\n\r\n";
    client.send(anything);
    while client.read.len() < anything.len() {
        assert!(client.more());
    }
    assert_eq!(client.read, anything);
    assert!(server.opened.try_recv().is_err(), "the tunnel is open");
    client.read.clear();
    client.socket.shutdown(Shutdown::Write).expect("shut");
    client.closed();
    server.changed(-1);
}

#[test]
fn what_was_refused_behind_an_upgrade_never_enters_a_tunnel() {
    let server = Server::start(&settings());
    let mut client = server.connect();
    let upgrade = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    client.send(upgrade.to_owned() + "\0early");
    assert_eq!(client.answer(), Answer { status: 400, closes: false, text: "too early".into() });
    assert_eq!((client.answer().status, client.rest().0), (400, vec![]));
}

// === Many connections, and none ===

#[test]
fn a_full_room_makes_place_for_who_waits() {
    let server = Server::start(&Settings { max_connections: 1, ..settings() });
    let mut idle = server.connect();
    idle.send(get("/1"));
    assert_eq!(idle.answer(), ok("/1"));
    // Between requests: closed. Under way: finished, and then closed.
    let mut busy = server.connect();
    busy.send(get("/wait"));
    idle.closed();
    server.came();
    let mut waiting = server.connect();
    waiting.send(get("/2"));
    server.changed(1);
    server.changed(-1);
    server.changed(1);
    // The first answer given while somebody waits is the connection's last.
    loop {
        server.go.add_permits(1);
        let answer = busy.answer();
        assert_eq!(answer.text, "waited");
        if answer.closes {
            break;
        }
        busy.send(get("/wait"));
        server.came();
    }
    busy.closed();
    assert_eq!(waiting.answer(), ok("/2"));
}

#[test]
fn draining_finishes_what_is_under_way_and_closes_the_rest() {
    let mut server = Server::start(&settings());
    let (mut busy, mut idle, mut slow) = (server.connect(), server.connect(), server.connect());
    idle.send(get("/1"));
    assert_eq!(idle.answer(), ok("/1"));
    busy.send(get("/wait"));
    slow.send("GET /slow HTTP/1.1\r\n");
    server.came();
    server.begin_to_stop();
    idle.closed();
    // A head that has begun is heard to its end.
    slow.send("Host: a\r\n\r\n");
    assert_eq!(slow.answer(), Answer { closes: true, ..ok("/slow") });
    slow.closed();
    server.go.add_permits(1);
    assert_eq!(busy.answer(), Answer { closes: true, ..ok("waited") });
    busy.closed();
    server.join();
    assert!(TcpStream::connect(server.address).is_err(), "nobody listens");
}

#[test]
fn who_was_in_the_queue_when_the_process_stopped_is_answered() {
    let server = Server::start(&settings());
    // The kernel has told each that it is connected; which of them were accepted, nobody knows.
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    server.begin_to_stop();
    for client in &mut clients {
        client.send(get("/queued"));
    }
    for client in &mut clients {
        assert_eq!(client.answer().text, "/queued");
    }
}

#[test]
fn what_is_open_after_the_drain_time_is_reset() {
    let mut server = Server::start(&Settings { drain_timeout: Duration::from_millis(100), ..settings() });
    let mut client = server.connect();
    client.send("GET /endless HTTP/1.0\r\n\r\n");
    client.head();
    server.begin_to_stop();
    server.join();
    client.reset();
}

#[test]
fn every_worker_listens() {
    // With so many connections, the kernel gives each of two listeners some.
    let server = Server::start(&Settings { workers: 4, ..settings() });
    let mut clients: Vec<Client> = (0..64).map(|_| server.connect()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/{n}")));
        assert_eq!(client.answer(), ok(&format!("/{n}")));
    }
}
