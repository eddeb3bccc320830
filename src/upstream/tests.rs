//! Both ends of an upstream on loopback: the origin is a script over a raw socket.
//!
//! Time limits that a test does not wait for are long; those it waits for are short, and being late
//! never fails a test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::{Body, Frame};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod arrival;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(40);
const OK_HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

// === The origin ===

struct Origin {
    listener: TcpListener,
    address: SocketAddr,
}

/// One connection as the origin sees it.
struct Heard {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl Origin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        Self { listener, address }
    }

    async fn accept(&self) -> Heard {
        let (stream, _) = in_time(self.listener.accept()).await.expect("accept");
        Heard { stream, unread: Vec::new() }
    }

    /// Whether nobody has connected beyond what was accepted.
    fn is_silent(&self) -> bool {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        self.listener.poll_accept(&mut cx).is_pending()
    }

    fn server(&self) -> UpstreamServer {
        UpstreamServer { tls: false, host: "127.0.0.1".to_owned(), port: self.address.port() }
    }

    fn upstream(&self) -> Upstream {
        self.upstream_with(|_| {})
    }

    fn upstream_with(&self, change: impl FnOnce(&mut UpstreamSettings)) -> Upstream {
        let mut settings = settings(vec![self.server()]);
        change(&mut settings);
        Upstream::new(UpstreamShared::new(settings, None).expect("settings"))
    }
}

impl Heard {
    /// One request head, up to its empty line.
    async fn head(&mut self) -> String {
        loop {
            if let Some(at) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..at + 4).collect();
                return String::from_utf8(head).expect("text");
            }
            assert!(self.more().await > 0, "the connection ended in a head: {:?}", self.unread);
        }
    }

    /// The next request head; `None` when the peer closes instead.
    async fn next_head(&mut self) -> Option<String> {
        while memchr::memmem::find(&self.unread, b"\r\n\r\n").is_none() {
            if self.more().await == 0 {
                return None;
            }
        }
        Some(self.head().await)
    }

    /// `length` bytes of a body.
    async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.more().await > 0, "the connection ended in a body");
        }
        self.unread.drain(..length).collect()
    }

    /// Everything until the peer closes or resets.
    async fn rest(&mut self) -> Vec<u8> {
        while self.more().await > 0 {}
        std::mem::take(&mut self.unread)
    }

    async fn more(&mut self) -> usize {
        in_time(self.stream.read_buf(&mut self.unread)).await.unwrap_or(0)
    }

    async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("the peer is there");
    }

    /// Answers one request.
    async fn serve(&mut self, answer: &str) -> String {
        let head = self.head().await;
        self.say(answer).await;
        head
    }

    /// Closes with a reset.
    fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).expect("linger");
    }
}

/// A script whose cue never comes fails instead of hanging.
async fn in_time<T>(cue: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG / 3, cue).await.expect("the cue never came")
}

fn settings(servers: Vec<UpstreamServer>) -> UpstreamSettings {
    UpstreamSettings {
        name: "shop".to_owned(),
        servers,
        host: UpstreamHost::Preserve,
        connect_timeout: LONG,
        first_byte_timeout: LONG,
        between_bytes_timeout: LONG,
        max_connections: 8,
    }
}

// === The request ===

fn request(method: &str, body: RequestBody) -> Request<RequestBody> {
    Request::builder().method(method).uri("/p?q").header("host", "shop.example").body(body).expect("request")
}

fn get() -> Request<RequestBody> {
    request("GET", RequestBody::Empty)
}

fn full(text: &'static str) -> RequestBody {
    RequestBody::boxed(Full::new(Bytes::from_static(text.as_bytes())))
}

async fn send_with(
    upstream: &Upstream,
    request: Request<RequestBody>,
    options: &SendOptions,
) -> Result<Answer<Head>, UpstreamError> {
    let (head, body) = request.into_parts();
    upstream.send(&head.into(), body, options).await
}

async fn send(upstream: &Upstream, request: Request<RequestBody>) -> Result<Answer<Head>, UpstreamError> {
    send_with(upstream, request, &SendOptions::default()).await
}

/// Sends and reads the answer to its end.
async fn fetch(upstream: &Upstream, request: Request<RequestBody>) -> Result<(u16, Bytes), UpstreamError> {
    let answer = send(upstream, request).await?;
    let status = answer.head.status.as_u16();
    Ok((status, answer.body.collect().await?.to_bytes()))
}

fn hello() -> (u16, Bytes) {
    (200, Bytes::from_static(b"hello"))
}

fn count(gauge: &std::sync::atomic::AtomicU64) -> u64 {
    gauge.load(Relaxed)
}

fn idle(upstream: &Upstream) -> usize {
    upstream.pools.iter().map(Pool::idle).sum()
}

// === Reuse ===

#[tokio::test]
async fn a_connection_is_used_again_after_a_clean_exchange() {
    for answer in [
        OK_HELLO,
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            for _ in 0..3 {
                peer.serve(answer).await;
            }
            assert!(origin.is_silent());
            peer
        };
        let client = async {
            for _ in 0..3 {
                assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello());
                assert_eq!(idle(&upstream), 1);
            }
        };
        tokio::join!(script, client);
        let gauges = upstream.shared().gauges();
        assert_eq!((count(&gauges.connects), count(&gauges.reuses)), (1, 2));
        assert_eq!((gauges.idle.load(Relaxed), gauges.busy.load(Relaxed)), (1, 0));
        drop(upstream);
    }
}

#[tokio::test]
async fn answers_without_content_leave_the_connection_usable() {
    for (method, answer) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\n\r\n"),
        ("POST", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(answer).await;
            peer.serve(OK_HELLO).await;
        };
        let client = async {
            let answer = send(&upstream, request(method, RequestBody::Empty)).await.expect("answer");
            assert!(answer.body.is_end_stream(), "{method}");
            assert_eq!(answer.body.size_hint().exact(), Some(0));
            assert_eq!(idle(&upstream), 1, "{method}: back before the body was even looked at");
            assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello());
        };
        tokio::join!(script, client);
        assert_eq!(count(&upstream.shared().gauges().connects), 1, "{method}");
    }
}

#[tokio::test]
async fn idle_connections_age_out() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve(OK_HELLO).await;
        peer
    };
    let (mut peer, answer) = tokio::join!(script, fetch(&upstream, get()));
    answer.expect("answer");
    let pool = upstream.pools.first().expect("a pool");
    assert!(pool.reap_after(IDLE_LIFETIME / 2), "it is looked at again");
    assert_eq!((idle(&upstream), upstream.shared().gauges().idle.load(Relaxed)), (1, 1));
    assert!(!pool.reap_after(IDLE_LIFETIME), "nothing is left to look at");
    assert_eq!((idle(&upstream), upstream.shared().gauges().idle.load(Relaxed)), (0, 0));
    assert_eq!(peer.rest().await, b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_never_cross() {
    let origin = Origin::start().await;
    let upstream = Arc::new(origin.upstream_with(|s| s.max_connections = 3));
    let echoing = tokio::spawn(async move {
        loop {
            let mut peer = origin.accept().await;
            tokio::spawn(async move {
                while let Some(head) = peer.next_head().await {
                    let target = head.split(' ').nth(1).expect("a target").to_owned();
                    // Some connections break off, some say too much, some are closed in between.
                    let excess = if target.ends_with('3') { "HTTP/1.1 200 OK\r\n\r\nevil" } else { "" };
                    let length = target.len() + usize::from(target.ends_with('5'));
                    let answer =
                        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{target}{excess}");
                    peer.stream.write_all(answer.as_bytes()).await.ok();
                    if target.ends_with('5') || target.ends_with('7') {
                        break;
                    }
                }
            });
        }
    });
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move {
                for number in 0..60 {
                    let target = format!("/{client}/{number}");
                    let mut request = get();
                    *request.uri_mut() = target.parse().expect("target");
                    match fetch(&upstream, request).await {
                        Ok((_, body)) => assert_eq!(body, target.as_bytes()),
                        Err(error) => assert!(
                            target.ends_with('5') || error.reason() == UpstreamError::Busy.reason(),
                            "{target}: {error:?}"
                        ),
                    }
                }
            })
        })
        .collect();
    for client in clients {
        client.await.expect("every answer is its own");
    }
    echoing.abort();
    let gauges = upstream.shared().gauges();
    assert!(count(&gauges.reuses) > 0);
    // A connection may still be settling; its slot comes back.
    while gauges.busy.load(Relaxed) != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_origin_that_speaks_first_is_refused() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut peer = origin.accept().await;
        peer.stream.write_all(b"220 mail.example ESMTP\r\n").await.ok();
        peer.rest().await
    };
    let (_, outcome) = tokio::join!(script, fetch(&upstream, get()));
    assert!(matches!(outcome, Err(UpstreamError::Protocol(_))), "{outcome:?}");
}

#[tokio::test]
async fn some_connections_are_not_used_again() {
    for (title, answer) in [
        ("close", "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"),
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 5\r\n\r\nhello"),
        (
            "excess",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        ),
        (
            "excess after chunks",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP/1.1 200",
        ),
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut first = origin.accept().await;
            first.serve(answer).await;
            let mut second = origin.accept().await;
            second.serve(OK_HELLO).await;
            (first, second)
        };
        let client = async {
            for _ in 0..2 {
                assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello(), "{title}");
            }
        };
        tokio::join!(script, client);
        assert_eq!(count(&upstream.shared().gauges().reuses), 0, "{title}");
    }
}

#[tokio::test]
async fn bytes_on_an_idle_connection_answer_nobody() {
    // The event loop does not get to hear of the bytes before the next request: the socket is asked.
    for stray in ["HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", ""] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut first = origin.accept().await;
            first.serve(OK_HELLO).await;
            first
        };
        let (mut first, answer) = tokio::join!(script, fetch(&upstream, get()));
        assert_eq!(answer.expect("answer"), hello());
        assert_eq!(idle(&upstream), 1);
        first.say(stray).await;
        if stray.is_empty() {
            drop(first);
        }
        let script = async { origin.accept().await.serve(OK_HELLO).await };
        // Not idempotent, and sent all the same: of the first attempt nothing was written.
        let (head, answer) = tokio::join!(script, fetch(&upstream, request("POST", full("abc"))));
        assert!(head.starts_with("POST /p?q HTTP/1.1\r\n"));
        assert_eq!(answer.expect("answer"), hello());
    }
}

#[tokio::test]
async fn a_get_on_a_dead_connection_is_repeated_once_and_a_post_is_not() {
    for (method, repeated) in
        [("GET", true), ("HEAD", true), ("OPTIONS", true), ("POST", false), ("DELETE", false)]
    {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut first = origin.accept().await;
            first.serve(OK_HELLO).await;
            first.head().await;
            drop(first);
            if repeated {
                // The second connection dies the same way: there is no third.
                origin.accept().await.head().await;
            }
        };
        let client = async {
            fetch(&upstream, get()).await.expect("answer");
            fetch(&upstream, request(method, RequestBody::Empty)).await.expect_err("dead")
        };
        let ((), error) = tokio::join!(script, client);
        assert!(matches!(error, UpstreamError::Reset(_)), "{method}: {error:?}");
        assert!(origin.is_silent(), "{method}");
        assert_eq!(count(&upstream.shared().gauges().retries), u64::from(repeated), "{method}");
    }
}

#[tokio::test]
async fn a_get_that_heard_one_byte_is_not_repeated() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut first = origin.accept().await;
        first.serve(OK_HELLO).await;
        first.serve("H").await;
    };
    let client = async {
        fetch(&upstream, get()).await.expect("answer");
        fetch(&upstream, get()).await.expect_err("broken off")
    };
    let ((), error) = tokio::join!(script, client);
    assert!(matches!(error, UpstreamError::Reset(_) | UpstreamError::Protocol(_)), "{error:?}");
    assert!(origin.is_silent());
}

#[tokio::test]
async fn a_get_with_a_body_is_not_repeated() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut first = origin.accept().await;
        first.serve(OK_HELLO).await;
        first.head().await;
        first.body(3).await;
    };
    let client = async {
        fetch(&upstream, get()).await.expect("answer");
        fetch(&upstream, request("GET", full("abc"))).await.expect_err("dead")
    };
    let ((), error) = tokio::join!(script, client);
    assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
    assert!(origin.is_silent());
}

#[tokio::test]
async fn an_answer_that_is_dropped_takes_its_connection_with_it() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.max_connections = 1);
    let script = async {
        let mut first = origin.accept().await;
        first.serve("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").await;
        assert_eq!(first.rest().await, b"");
        origin.accept().await.serve(OK_HELLO).await;
    };
    let client = async {
        let answer = send(&upstream, get()).await.expect("head");
        drop(answer);
        // The slot is free again, and the rest of the answer is nobody's.
        assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello());
    };
    tokio::join!(script, client);
}

#[tokio::test]
async fn an_answer_before_the_end_of_its_request_cuts_the_upload_off() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let (mut upload, body) = Channel::<Bytes, Infallible>::new(1);
    let script = async {
        let mut first = origin.accept().await;
        first.head().await;
        first.body(8).await;
        first.say(OK_HELLO).await;
        assert_eq!(first.rest().await, b"", "no last chunk");
    };
    let client = async {
        upload.send_data(Bytes::from_static(b"abc")).await.expect("room");
        let answer = fetch(&upstream, request("POST", RequestBody::boxed(body))).await.expect("answer");
        assert_eq!(answer, hello());
        assert_eq!(upstream.shared().gauges().busy.load(Relaxed), 0, "at once, not once it has settled");
    };
    tokio::join!(script, client);
    assert_eq!(idle(&upstream), 0);
    drop(upload);
}

// === What is whole, and what is not ===

#[tokio::test]
async fn an_answer_cut_short_is_an_error() {
    for (title, answer, reset) in [
        ("length", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", false),
        ("no last chunk", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", false),
        (
            "half a last chunk",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
            false,
        ),
        ("reset in a length", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", true),
        ("reset in chunks", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
        ("reset without framing", "HTTP/1.1 200 OK\r\n\r\nhello", true),
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let (heard, said) = tokio::sync::oneshot::channel::<()>();
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(answer).await;
            said.await.expect("the client heard it");
            if reset { peer.reset() } else { drop(peer) }
        };
        let client = async {
            let mut answer = send(&upstream, get()).await.expect("head");
            let first = answer.body.frame().await.expect("a frame").expect("data");
            assert_eq!(first.into_data().expect("data"), "hello");
            heard.send(()).expect("the origin is there");
            answer.body.frame().await
        };
        let ((), last) = tokio::join!(script, client);
        let error = last.expect("not an end").expect_err("an error");
        assert!(matches!(error, UpstreamError::Reset(_)), "{title}: {error:?}");
        assert_eq!(idle(&upstream), 0, "{title}");
    }
}

#[tokio::test]
async fn a_close_ends_an_answer_without_framing() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async { origin.accept().await.serve("HTTP/1.1 200 OK\r\n\r\nhello").await };
    let (_, answer) = tokio::join!(script, fetch(&upstream, get()));
    assert_eq!(answer.expect("answer"), hello());
    assert_eq!(idle(&upstream), 0);
}

#[tokio::test]
async fn no_answer_at_all() {
    for reset in [false, true] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            if reset { peer.reset() } else { drop(peer) }
        };
        let ((), answer) = tokio::join!(script, fetch(&upstream, get()));
        let error = answer.expect_err("no answer");
        assert!(matches!(error, UpstreamError::Reset(_)), "{error:?}");
        assert!(origin.is_silent(), "a new connection is not retried");
    }
}

#[tokio::test]
async fn answers_that_could_be_read_in_two_ways() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\ncontent-length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: identity\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/2 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbad name: x\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx-folded: a\r\n b\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "hello",
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(answer).await;
            peer.rest().await;
        };
        let ((), outcome) = tokio::join!(script, fetch(&upstream, get()));
        let error = outcome.expect_err(answer);
        assert!(matches!(error, UpstreamError::Protocol(_)), "{answer:?}: {error:?}");
        assert_eq!(idle(&upstream), 0);
    }
}

#[tokio::test]
async fn bad_chunks_break_the_answer() {
    for chunk in [
        "x\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "0x5\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX\r\n",
        "fffffffffffffffff\r\nhello",
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"))
                .await;
            peer.rest().await;
        };
        let ((), outcome) = tokio::join!(script, fetch(&upstream, get()));
        let error = outcome.expect_err(chunk);
        assert!(matches!(error, UpstreamError::Protocol(_)), "{chunk:?}: {error:?}");
    }
}

#[tokio::test]
async fn trailers_come_through() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n";
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve(answer).await;
        peer
    };
    let client = async { send(&upstream, get()).await.expect("head").body.collect().await.expect("body") };
    let (_peer, body) = tokio::join!(script, client);
    assert_eq!(body.trailers().expect("trailers").get("x-sum").expect("x-sum"), "7");
    assert_eq!(body.to_bytes(), "hello");
    assert_eq!(idle(&upstream), 1);
}

// === The request on the wire ===

#[tokio::test]
async fn requests_are_framed_anew() {
    for (method, body, fields, sent) in [
        ("GET", RequestBody::Empty, "", ""),
        ("DELETE", RequestBody::Empty, "", ""),
        ("POST", RequestBody::Empty, "content-length: 0", ""),
        ("POST", full("abc"), "content-length: 3", "abc"),
        ("GET", full("abc"), "content-length: 3", "abc"),
        ("POST", unknown_length("abc"), "transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
        ("GET", unknown_length("abc"), "transfer-encoding: chunked", "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let script = async {
            let mut peer = origin.accept().await;
            let head = peer.head().await;
            let body = peer.body(sent.len()).await;
            peer.say(OK_HELLO).await;
            (peer, head, String::from_utf8(body).expect("text"))
        };
        let mut request = request(method, body);
        request.headers_mut().insert("content-length", HeaderValue::from_static("77"));
        let ((_peer, head, body), answer) = tokio::join!(script, fetch(&upstream, request));
        assert_eq!(answer.expect("answer"), hello());
        let framing: Vec<_> =
            head.lines().filter(|l| l.starts_with("content-length") || l.starts_with("transfer")).collect();
        assert_eq!(framing.join("\n"), fields, "{method}");
        assert_eq!(body, sent, "{method}");
        assert_eq!(idle(&upstream), 1, "{method}");
    }
}

fn unknown_length(text: &'static str) -> RequestBody {
    let (mut upload, body) = Channel::<Bytes, Infallible>::new(1);
    upload.try_send(Frame::data(Bytes::from_static(text.as_bytes()))).expect("room");
    RequestBody::boxed(body)
}

#[tokio::test]
async fn host_is_what_the_configuration_says() {
    for (policy, sent, expected) in [
        (UpstreamHost::Preserve, Some("shop.example"), "host: shop.example"),
        (UpstreamHost::Preserve, None, "host: 127.0.0.1:PORT"),
        (UpstreamHost::Upstream, Some("shop.example"), "host: 127.0.0.1:PORT"),
        (UpstreamHost::Name("inner.example".to_owned()), Some("shop.example"), "host: inner.example"),
    ] {
        let origin = Origin::start().await;
        let upstream = origin.upstream_with(|s| s.host = policy.clone());
        let mut request = get();
        if sent.is_none() {
            request.headers_mut().clear();
        }
        let script = async { origin.accept().await.serve(OK_HELLO).await };
        let (head, answer) = tokio::join!(script, fetch(&upstream, request));
        answer.expect("answer");
        let expected = expected.replace("PORT", &origin.address.port().to_string());
        assert_eq!(
            head.lines().filter(|l| l.starts_with("host:")).collect::<Vec<_>>(),
            [expected],
            "{policy:?}"
        );
    }
}

#[tokio::test]
async fn a_request_body_that_fails_breaks_the_message_off() {
    for (title, length) in [("chunked", None), ("length", Some(9))] {
        let origin = Origin::start().await;
        let upstream = origin.upstream();
        let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
        let body = match length {
            None => RequestBody::boxed(body),
            Some(length) => RequestBody::boxed(http_body_util::Limited::new(Sized { body, length }, 100)),
        };
        let expected = if length.is_some() { "abc" } else { "3\r\nabc\r\n" };
        let script = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            assert_eq!(peer.body(expected.len()).await, expected.as_bytes());
            peer
        };
        let client = fetch(&upstream, request("POST", body));
        let rest = async {
            upload.send_data(Bytes::from_static(b"abc")).await.expect("room");
            let mut peer = script.await;
            upload.abort("the client went away".into());
            peer.rest().await
        };
        let (outcome, rest) = tokio::join!(client, rest);
        assert_eq!(rest, b"", "{title}: nothing that looks like an end");
        let error = outcome.expect_err("broken off");
        assert!(matches!(error, UpstreamError::ClientBody(_)), "{title}: {error:?}");
        assert_eq!(error.cause().expect("source").to_string(), "the client went away");
    }
}

/// A body that states a length.
struct Sized {
    body: Channel<Bytes, BoxError>,
    length: u64,
}

impl Body for Sized {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn size_hint(&self) -> http_body::SizeHint {
        http_body::SizeHint::with_exact(self.length)
    }
}

#[tokio::test]
async fn a_request_body_that_fails_during_the_answer_breaks_the_answer() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let (mut upload, body) = Channel::<Bytes, BoxError>::new(1);
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
        peer.rest().await
    };
    let client = async {
        upload.send_data(Bytes::from_static(b"abc")).await.expect("room");
        let mut answer = send(&upstream, request("POST", RequestBody::boxed(body))).await.expect("head");
        assert!(answer.body.frame().await.expect("a frame").is_ok());
        upload.abort("the client went away".into());
        answer.body.frame().await.expect("not an end").expect_err("an error")
    };
    let (rest, error) = tokio::join!(script, client);
    assert_eq!(rest, b"3\r\nabc\r\n");
    assert!(matches!(error, UpstreamError::ClientBody(_)), "{error:?}");
}

// === Time ===

#[tokio::test]
async fn no_first_byte() {
    for head in ["", "HTTP/1.1 200 O", "HTTP/1.1 103 Early Hints\r\n\r\n"] {
        let origin = Origin::start().await;
        let upstream = origin.upstream_with(|s| s.first_byte_timeout = SHORT);
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve(head).await;
            peer.rest().await
        };
        let (rest, outcome) = tokio::join!(script, fetch(&upstream, get()));
        assert!(matches!(outcome, Err(UpstreamError::FirstByteTimeout)), "{head:?}: {outcome:?}");
        assert_eq!(rest, b"", "the connection is closed");
    }
}

#[tokio::test]
async fn a_slow_client_is_not_the_origins_fault() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.first_byte_timeout = SHORT);
    let (mut upload, body) = Channel::<Bytes, Infallible>::new(1);
    let client = fetch(&upstream, request("POST", RequestBody::boxed(body)));
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        // The client takes its time, several limits of it.
        tokio::time::sleep(SHORT * 4).await;
        upload.send_data(Bytes::from_static(b"abc")).await.expect("room");
        drop(upload);
        peer.body(13).await;
        peer.say(OK_HELLO).await;
    };
    let (outcome, ()) = tokio::join!(client, script);
    assert_eq!(outcome.expect("answer"), hello());
}

#[tokio::test]
async fn an_origin_that_takes_no_more_bytes_is_at_fault() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.first_byte_timeout = SHORT);
    let script = async { origin.accept().await };
    let big = Bytes::from(vec![b'x'; 64 << 20]);
    let body = RequestBody::boxed(Full::new(big));
    let (_peer, outcome) = tokio::join!(script, fetch(&upstream, request("POST", body)));
    assert!(matches!(outcome, Err(UpstreamError::FirstByteTimeout)), "{outcome:?}");
}

#[tokio::test]
async fn no_further_byte() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.between_bytes_timeout = SHORT);
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello").await;
        peer.rest().await
    };
    let (rest, outcome) = tokio::join!(script, fetch(&upstream, get()));
    assert!(matches!(outcome, Err(UpstreamError::BetweenBytesTimeout)), "{outcome:?}");
    assert_eq!(rest, b"", "the connection is closed");
}

#[tokio::test]
async fn a_slow_reader_is_not_the_origins_fault() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.between_bytes_timeout = SHORT);
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello").await;
        peer
    };
    let client = async {
        let mut answer = send(&upstream, get()).await.expect("head");
        assert!(answer.body.frame().await.expect("a frame").is_ok());
        answer
    };
    let (mut peer, mut answer) = tokio::join!(script, client);
    tokio::time::sleep(SHORT * 3).await;
    peer.say("world").await;
    let last = answer.body.frame().await.expect("a frame").expect("no timeout");
    assert_eq!(last.into_data().expect("data"), "world");
    assert!(answer.body.frame().await.is_none());
}

#[tokio::test]
async fn a_reader_that_stalls_stalls_the_origin() {
    const ALL: usize = 256 << 20;
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let written = AtomicUsize::new(0);
    let stalled = tokio::sync::Notify::new();
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve(&format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n")).await;
        let block = vec![b'x'; 64 << 10];
        let mut left = ALL;
        while left > 0 {
            let part = block.get(..left.min(block.len())).expect("in range");
            let write = peer.stream.write(part);
            tokio::pin!(write);
            let wrote = match tokio::time::timeout(SHORT * 5, write.as_mut()).await {
                Ok(wrote) => wrote,
                Err(_) => {
                    stalled.notify_one();
                    write.await
                }
            };
            let wrote = wrote.expect("the peer is there");
            written.fetch_add(wrote, Relaxed);
            left -= wrote;
        }
        peer
    };
    let client = async {
        let mut answer = send(&upstream, get()).await.expect("head");
        assert_eq!(answer.body.size_hint().exact(), Some(ALL as u64));
        stalled.notified().await;
        // What the kernel's own buffers hold, and little more.
        assert!(written.load(Relaxed) < ALL / 8, "{}", written.load(Relaxed));
        let mut got = 0;
        while let Some(frame) = answer.body.frame().await {
            let data = frame.expect("data").into_data().expect("data");
            assert!(data.len() <= 1 << 20);
            got += data.len();
        }
        assert_eq!(got, ALL);
    };
    let (_peer, ()) = tokio::join!(script, client);
    assert_eq!(idle(&upstream), 1);
}

// === Slots ===

#[tokio::test]
async fn the_queue_is_bounded_and_serves_in_turn() {
    let origin = Origin::start().await;
    let upstream = Arc::new(origin.upstream_with(|s| s.max_connections = 1));
    let order = Arc::new(Mutex::new(Vec::new()));
    let held = {
        let client = send(&upstream, get());
        let script = async {
            let mut peer = origin.accept().await;
            peer.serve("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
            peer
        };
        tokio::join!(client, script)
    };
    let (answer, mut peer) = (held.0.expect("head"), held.1);
    let mut waiting = Vec::new();
    for number in 0..QUEUE_FACTOR {
        let (upstream, order) = (Arc::clone(&upstream), Arc::clone(&order));
        waiting.push(tokio::spawn(async move {
            let answer = fetch(&upstream, get()).await;
            order.lock().expect("lock").push(number);
            answer
        }));
    }
    let gauges = Arc::clone(upstream.shared().gauges());
    while gauges.queued.load(Relaxed) < i64::try_from(QUEUE_FACTOR).expect("small") {
        tokio::task::yield_now().await;
    }
    // Full: refused at once, whatever the patience.
    assert!(matches!(fetch(&upstream, get()).await, Err(UpstreamError::Busy)));
    assert_eq!(count(&gauges.refusals), 1);
    // One of those waiting gives up: its place is free again.
    waiting.remove(1).abort();
    while gauges.queued.load(Relaxed) == i64::try_from(QUEUE_FACTOR).expect("small") {
        tokio::task::yield_now().await;
    }
    peer.say("hello").await;
    assert_eq!(answer.body.collect().await.expect("body").to_bytes(), "hello");
    let script = async {
        for _ in 0..waiting.len() {
            peer.serve(OK_HELLO).await;
        }
    };
    script.await;
    for task in waiting {
        assert_eq!(task.await.expect("task").expect("answer"), hello());
    }
    assert_eq!(*order.lock().expect("lock"), [0, 2, 3]);
    assert_eq!(count(&gauges.connects), 1);
    assert_eq!((gauges.queued.load(Relaxed), gauges.busy.load(Relaxed)), (0, 0));
}

#[tokio::test]
async fn the_queue_is_bounded_in_time() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| {
        s.max_connections = 1;
        s.connect_timeout = Duration::from_millis(300);
    });
    let script = async {
        let mut peer = origin.accept().await;
        peer.serve("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await;
        peer
    };
    let (_peer, held) = tokio::join!(script, send(&upstream, get()));
    let _held = held.expect("head");
    assert!(matches!(fetch(&upstream, get()).await, Err(UpstreamError::Busy)));
    assert_eq!(upstream.shared().gauges().queued.load(Relaxed), 0);
}

#[tokio::test]
async fn slots_are_shared_by_workers_and_connections_are_not() {
    let origin = Origin::start().await;
    let one = origin.upstream_with(|s| s.max_connections = 1);
    let other = Upstream::new(Arc::clone(one.shared()));
    let script = async {
        let mut first = origin.accept().await;
        first.serve(OK_HELLO).await;
        // The second worker opens its own; the first is asked to close the idle one it keeps.
        let mut second = origin.accept().await;
        second.serve(OK_HELLO).await;
        assert_eq!(first.rest().await, b"");
    };
    let client = async {
        assert_eq!(fetch(&one, get()).await.expect("answer"), hello());
        assert_eq!(idle(&one), 1);
        assert_eq!(fetch(&other, get()).await.expect("answer"), hello());
    };
    tokio::join!(script, client);
    assert_eq!(idle(&one), 0);
}

#[tokio::test]
async fn a_cancelled_request_frees_its_slot_and_closes_its_connection() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.max_connections = 1);
    let mut peer = tokio::select! {
        _ = fetch(&upstream, get()) => panic!("nobody answered"),
        peer = async {
            let mut peer = origin.accept().await;
            peer.head().await;
            peer
        } => peer,
    };
    assert_eq!(peer.rest().await, b"");
    let script = async { origin.accept().await.serve(OK_HELLO).await };
    let (_, answer) = tokio::join!(script, fetch(&upstream, get()));
    assert_eq!(answer.expect("answer"), hello());
    assert_eq!(upstream.shared().gauges().busy.load(Relaxed), 0);
}

// === Servers ===

#[tokio::test]
async fn a_server_that_cannot_be_connected_to_is_followed_by_another() {
    let origin = Origin::start().await;
    let closed = Origin::start().await.server();
    let shared = UpstreamShared::new(settings(vec![closed, origin.server()]), None).expect("settings");
    let upstream = Upstream::new(shared);
    let script = async {
        let mut peer = origin.accept().await;
        for _ in 0..20 {
            let head = peer.serve(OK_HELLO).await;
            assert!(head.starts_with("POST"));
        }
    };
    let client = async {
        for _ in 0..20 {
            let answer = fetch(&upstream, request("POST", RequestBody::Empty)).await;
            assert_eq!(answer.expect("answer"), hello());
        }
    };
    tokio::join!(script, client);
    // Found out at most once: the server is avoided after that.
    assert!(count(&upstream.shared().gauges().connect_failures) <= 1);
}

#[tokio::test]
async fn no_server_at_all() {
    let closed = [Origin::start().await.server(), Origin::start().await.server()];
    let shared = UpstreamShared::new(settings(closed.to_vec()), None).expect("settings");
    let upstream = Upstream::new(shared);
    for _ in 0..3 {
        // Also while both are in back-off: being avoided is a preference.
        let error = fetch(&upstream, get()).await.expect_err("nobody is there");
        assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");
    }
    let gauges = upstream.shared().gauges();
    assert_eq!((count(&gauges.connect_failures), gauges.busy.load(Relaxed)), (6, 0));
}

#[test]
fn what_cannot_be_an_upstream() {
    assert!(UpstreamShared::new(settings(Vec::new()), None).is_err());
    let server = |tls, host: &str| UpstreamServer { tls, host: host.to_owned(), port: 1 };
    assert!(UpstreamShared::new(settings(vec![server(true, "shop.example")]), None).is_err());
    assert!(UpstreamShared::new(settings(vec![server(false, "a\nb")]), None).is_err());
}

// === Beyond one answer ===

#[tokio::test]
async fn informational_answers_are_passed_on() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let early = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
        let mut peer = origin.accept().await;
        peer.serve(&format!("{early}{OK_HELLO}")).await;
        peer
    };
    let heard = Arc::new(Mutex::new(Vec::new()));
    let callback = {
        let heard = Arc::clone(&heard);
        move |head: &Head| {
            let has_link = head.fields.values(b"link").next().is_some();
            heard.lock().expect("lock").push((head.status.as_u16(), has_link));
        }
    };
    let options = SendOptions { informational: Some(Arc::new(callback)) };
    let (_peer, answer) = tokio::join!(script, send_with(&upstream, get(), &options));
    assert_eq!(answer.expect("answer").body.collect().await.expect("body").to_bytes(), "hello");
    assert_eq!(*heard.lock().expect("lock"), [(103, true), (102, false)]);
    assert_eq!(idle(&upstream), 1);
}

#[tokio::test]
async fn a_flood_of_informational_answers_is_cut_off() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        let early = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(1000);
        let mut said = 0;
        while peer.stream.write_all(early.as_bytes()).await.is_ok() {
            said += early.len();
            assert!(said < 64 << 20, "nobody minds");
        }
    };
    let ((), outcome) = tokio::join!(script, fetch(&upstream, get()));
    assert!(matches!(outcome, Err(UpstreamError::Protocol(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_large_head_and_body_at_once_are_no_flood() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let script = async {
        let mut peer = origin.accept().await;
        peer.head().await;
        let tags = "tag ".repeat(16_000);
        let body = "x".repeat(8 << 20);
        peer.say(format!(
            "HTTP/1.1 200 OK\r\nsurrogate-key: {tags}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        peer
    };
    let (_peer, outcome) = tokio::join!(script, fetch(&upstream, get()));
    assert_eq!(outcome.expect("answer").1.len(), 8 << 20);
    assert_eq!(idle(&upstream), 1);
}

#[tokio::test]
async fn an_upgrade_that_was_asked_for_becomes_a_tunnel() {
    let origin = Origin::start().await;
    let upstream = origin.upstream_with(|s| s.max_connections = 1);
    let mut request = get();
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    let script = async {
        let mut peer = origin.accept().await;
        let head = peer
            .serve("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nwelcome")
            .await;
        assert!(
            head.contains("\r\nupgrade: echo\r\n") && head.contains("\r\nconnection: upgrade\r\n"),
            "{head}"
        );
        assert_eq!(peer.body(4).await, b"ping");
        peer.say("pong, HTTP/1.1 is over\r\n\r\n").await;
        assert_eq!(peer.rest().await, b"");
    };
    let client = async {
        let answer = send(&upstream, request).await.expect("answer");
        assert_eq!(answer.head.status, StatusCode::SWITCHING_PROTOCOLS);
        assert!(answer.body.is_end_stream());
        let mut tunnel = answer.tunnel.expect("a tunnel").open();
        let mut got = [0; 7];
        tunnel.read_exact(&mut got).await.expect("welcome");
        assert_eq!(&got, b"welcome");
        tunnel.write_all(b"ping").await.expect("writes");
        let mut got = [0; 26];
        tunnel.read_exact(&mut got).await.expect("pong");
        assert_eq!(&got, b"pong, HTTP/1.1 is over\r\n\r\n");
        // The tunnel is a request in flight for as long as it lives.
        assert_eq!(upstream.shared().gauges().busy.load(Relaxed), 1);
    };
    tokio::join!(script, client);
    assert_eq!(upstream.shared().gauges().busy.load(Relaxed), 0);
}

#[tokio::test]
async fn an_upgrade_may_be_declined() {
    let origin = Origin::start().await;
    let upstream = origin.upstream();
    let mut request = get();
    request.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
    request.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
    let script = async { origin.accept().await.serve(OK_HELLO).await };
    let (_, answer) = tokio::join!(script, fetch(&upstream, request));
    assert_eq!(answer.expect("answer"), hello());
}

// === TLS ===

#[tokio::test]
async fn tls_trusts_its_roots_alone() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("certificate");
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("root");

    let listener = TcpListener::bind("localhost:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    let settings = settings(vec![UpstreamServer { tls: true, host: "localhost".to_owned(), port }]);
    let upstream_with = |roots| {
        let tls = tls_with(roots).expect("tls");
        Upstream::new(UpstreamShared::new(settings.clone(), Some(&tls)).expect("settings"))
    };

    let upstream = upstream_with(roots);
    let script = async {
        let (tcp, _) = listener.accept().await.expect("accept");
        let mut stream = acceptor.accept(tcp).await.expect("handshake");
        assert_eq!(stream.get_ref().1.server_name(), Some("localhost"));
        assert_eq!(stream.get_ref().1.alpn_protocol(), None);
        for _ in 0..2 {
            let mut unread = Vec::new();
            while !unread.ends_with(b"\r\n\r\n") {
                assert!(stream.read_buf(&mut unread).await.expect("reads") > 0);
            }
            stream.write_all(OK_HELLO.as_bytes()).await.expect("writes");
        }
        stream
    };
    let client = async {
        for _ in 0..2 {
            assert_eq!(fetch(&upstream, get()).await.expect("answer"), hello());
        }
    };
    let (stream, ()) = tokio::join!(script, client);
    assert_eq!(count(&upstream.shared().gauges().reuses), 1);
    drop(stream);

    let upstream = upstream_with(rustls::RootCertStore::empty());
    let script = async {
        let (tcp, _) = listener.accept().await.expect("accept");
        assert!(acceptor.accept(tcp).await.is_err());
    };
    let ((), outcome) = tokio::join!(script, fetch(&upstream, get()));
    assert!(matches!(outcome, Err(UpstreamError::Tls(_))), "{outcome:?}");
}
