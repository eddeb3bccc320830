//! The product service: a small shop over HTTP/1.1, slow on purpose, to stand behind a proxy.
//!
//! Decides: connections, their limits and their end. What the shop says is in `endpoints`. Never
//! touches: the proxy. Whoever drops the future of [`serve`] drops every connection with it.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::endpoints::Shop;

/// Connections at once; more wait in the listener's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take for a request's head, and stay idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(60);
/// How long running answers have to end once the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the service waits when the system has no more sockets to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How the product service runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What each kind of answer costs.
    pub cost: Cost,
}

/// How long the shop thinks before it answers: what a cache in front of it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// One product, one page, one change.
    pub page: Duration,
    /// A list.
    pub list: Duration,
    /// A search.
    pub search: Duration,
    /// A picture.
    pub file: Duration,
    /// From one server-sent event to the next; at least a millisecond.
    pub event_interval: Duration,
}

impl Default for Cost {
    /// Tens of milliseconds, as a page made from a database takes; one event a second.
    fn default() -> Self {
        Self {
            page: Duration::from_millis(30),
            list: Duration::from_millis(50),
            search: Duration::from_millis(80),
            file: Duration::from_millis(20),
            event_interval: Duration::from_secs(1),
        }
    }
}

impl Cost {
    /// Nothing is slow but what a request itself asks to be: for tests.
    pub const NONE: Self = Self {
        page: Duration::ZERO,
        list: Duration::ZERO,
        search: Duration::ZERO,
        file: Duration::ZERO,
        event_interval: Duration::from_millis(1),
    };
}

/// Runs the product service on `address` until it is told to end (SIGINT, SIGTERM).
///
/// Builds a runtime of its own, so it must not be called inside one.
///
/// # Errors
/// The address cannot be listened on, or the system refuses what a runtime needs.
pub fn run(address: SocketAddr) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(address).await?;
        let end = termination()?;
        tracing::info!(address = %listener.local_addr()?, "product service listens");
        serve(listener, Options::default(), end).await
    })
}

/// Serves the shop on `listener` until `shutdown` is ready; answers that are under way then have
/// three seconds to end. Must run inside a tokio runtime with its timer and its network enabled.
///
/// # Errors
/// The listener itself fails; a connection that fails concerns nobody else.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let shop = Arc::new(Shop::new(options.cost));
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let (stop, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    let ended = loop {
        tokio::select! {
            () = &mut shutdown => break Ok(()),
            // Reaped as they end, so that the set holds the living alone.
            Some(_) = connections.join_next() => {}
            accepted = accept(&listener, &permits) => match accepted {
                Ok((stream, permit)) => {
                    connections.spawn(converse(stream, Arc::clone(&shop), stopped.clone(), permit));
                }
                Err(error) => break Err(error),
            },
        }
    };
    drop(listener);
    shop.stop();
    drop(stop);
    // Past the time limit the set is dropped, and what is left in it with it.
    let drained = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::debug!(connections = connections.len(), "product service leaves answers unfinished");
    }
    ended
}

/// The next connection, and the permit it holds while it lives. Nothing is lost when it is dropped.
async fn accept(
    listener: &TcpListener,
    permits: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(permits).acquire_owned().await.map_err(io::Error::other)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok((stream, permit)),
            Err(error) if concerns_one_connection(&error) => {}
            Err(error) if is_shortage(&error) => sleep(ACCEPT_PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

/// Serves one connection to its end; once `stopped` closes, to the end of its current answer.
async fn converse(
    stream: TcpStream,
    shop: Arc<Shop>,
    mut stopped: watch::Receiver<()>,
    _permit: OwnedSemaphorePermit,
) {
    // Without it an answer's last segment waits for an acknowledgement; its failure costs just that.
    let _ = stream.set_nodelay(true);
    let service = service_fn(|request| {
        let shop = Arc::clone(&shop);
        async move { Ok::<_, Infallible>(shop.answer(request).await) }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(64 << 10)
            .serve_connection(TokioIo::new(stream), service)
    );
    // An error here is a client that went away or spoke no HTTP: hyper has answered what it could.
    let _ = tokio::select! {
        result = &mut connection => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
}

/// A connection that died in the queue.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// No file descriptors or memory for now: ENOMEM, ENFILE, EMFILE, ENOBUFS on Linux.
fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

/// Ready once the process is told to end.
fn termination() -> io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use http::{HeaderMap, Method, Request, StatusCode};
    use http_body_util::{BodyExt, Full};
    use hyper::body::Incoming;
    use hyper::client::conn::http1 as client;
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::super::payload::download_byte;
    use super::super::tour;
    use super::*;

    /// A product service on a loopback socket, without its delays.
    struct Running {
        address: SocketAddr,
        stop: oneshot::Sender<()>,
        service: JoinHandle<io::Result<()>>,
    }

    struct Reply {
        status: u16,
        headers: HeaderMap,
        body: Bytes,
    }

    impl Running {
        async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (stop, stopped) = oneshot::channel();
            let service = tokio::spawn(serve(listener, Options { cost: Cost::NONE }, async {
                let _ = stopped.await;
            }));
            Self { address, stop, service }
        }

        /// Sends one request on a connection of its own; its body is still under way.
        async fn send(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (mut sender, connection) = client::handshake(TokioIo::new(stream)).await.unwrap();
            let connection = tokio::spawn(connection);
            let mut request = Request::builder().method(method).uri(path).header("host", "shop.example");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).unwrap();
            let response = sender.send_request(request).await.unwrap();
            Answer { response, _connection: connection, _sender: sender }
        }

        async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Reply {
            let answer = self.send(method, path, fields, body).await;
            let (head, body) = answer.response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { status: head.status.as_u16(), headers: head.headers, body }
        }

        async fn get(&self, path: &str) -> Reply {
            self.ask("GET", path, &[], "").await
        }

        async fn stats(&self, name: &str) -> u64 {
            self.get("/stats").await.json()[name].as_u64().unwrap()
        }

        async fn stop(self) {
            self.stop.send(()).unwrap();
            self.service.await.unwrap().unwrap();
        }
    }

    /// A response whose connection lives as long as it.
    struct Answer {
        response: http::Response<Incoming>,
        _connection: JoinHandle<hyper::Result<()>>,
        _sender: client::SendRequest<Full<Bytes>>,
    }

    impl Reply {
        fn field(&self, name: &str) -> &str {
            self.headers.get(name).map_or("", |value| value.to_str().unwrap())
        }

        fn json(&self) -> serde_json::Value {
            serde_json::from_slice(&self.body).unwrap()
        }
    }

    #[tokio::test]
    async fn a_product_has_freshness_validators_and_tags() {
        let shop = Running::start().await;
        let product = shop.get("/api/products/1").await;
        assert_eq!(product.status, 200);
        assert_eq!(product.json()["id"], 1);
        assert_eq!(product.field("content-type"), "application/json");
        assert_eq!(product.field("cache-control"), "public, max-age=60, stale-while-revalidate=30");
        assert_eq!(product.field("surrogate-key"), "product:1 category:kitchen catalogue");
        assert_eq!(product.field("vary"), "Accept-Encoding");
        assert!(httpdate::parse_http_date(product.field("date")).is_ok());
        assert!(httpdate::parse_http_date(product.field("last-modified")).is_ok());

        let head = shop.ask("HEAD", "/api/products/1", &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["etag", "last-modified", "content-type", "content-length", "cache-control"] {
            assert!(!head.field(name).is_empty(), "{name}");
            assert_eq!(head.field(name), product.field(name), "{name}");
        }

        for (name, value) in
            [("if-none-match", product.field("etag")), ("if-modified-since", product.field("last-modified"))]
        {
            let known = shop.ask("GET", "/api/products/1", &[(name, value)], "").await;
            assert_eq!((known.status, known.body.len()), (304, 0), "{name}");
            assert_eq!(known.field("etag"), product.field("etag"));
            assert_eq!(known.field("cache-control"), product.field("cache-control"));
        }
        shop.stop().await;
    }

    #[tokio::test]
    async fn a_new_price_is_new_content_and_the_old_price_s_tag_comes_back_with_it() {
        let shop = Running::start().await;
        let before = shop.get("/api/products/7").await;
        let changed = shop.ask("PUT", "/api/products/7", &[], r#"{"price": 19.99}"#).await;
        assert_eq!((changed.status, changed.json()["price"].as_f64()), (200, Some(19.99)));
        let after = shop.get("/api/products/7").await;
        assert_eq!(after.json()["price"], 19.99);
        assert_ne!(after.field("etag"), before.field("etag"));
        assert_ne!(after.field("last-modified"), before.field("last-modified"));
        assert_eq!(changed.field("etag"), after.field("etag"));

        // A change that was made on the strength of the old content is refused.
        let fields = [("if-match", before.field("etag"))];
        let late = shop.ask("PATCH", "/api/products/7", &fields, r#"{"price": 1}"#).await;
        assert_eq!(late.status, 412);
        let fields = [("if-match", after.field("etag"))];
        assert_eq!(shop.ask("POST", "/api/products/7", &fields, r#"{"price": 1}"#).await.status, 200);
        assert_eq!(shop.get("/api/products/7").await.json()["price"], 1.0);
        shop.stop().await;
    }

    #[tokio::test]
    async fn lists_and_searches_say_what_they_show() {
        let shop = Running::start().await;
        let list = shop
            .get("/api/products?category=toys&min_price=20&max_price=90.5&sort=-price&per_page=5&page=2")
            .await;
        let content = list.json();
        let products = content["products"].as_array().unwrap();
        assert_eq!(products.len(), 5);
        assert!(products.iter().all(|product| product["category"] == "toys"));
        let expected: Vec<_> = ["catalogue".to_owned(), "category:toys".to_owned()]
            .into_iter()
            .chain(products.iter().map(|product| format!("product:{}", product["id"])))
            .collect();
        assert_eq!(list.field("surrogate-key"), expected.join(" "));

        let found = shop.get("/api/search?q=Tea%20towel").await;
        assert_eq!(found.json()["products"].as_array().unwrap().len(), 6);
        shop.stop().await;
    }

    #[tokio::test]
    async fn bad_input_is_told_what_is_wrong() {
        let shop = Running::start().await;
        let long = format!("{{\"price\": 1{}}}", " ".repeat(5_000));
        for (method, path, body, status, words) in [
            ("GET", "/api/products/481", "", 404, "ids run from 1 to 480"),
            ("GET", "/api/products/x", "", 404, "/ lists what there is"),
            ("GET", "/images/0.png", "", 404, "ids run from 1 to 480"),
            ("GET", "/api/products?category=cars", "", 400, "there are kitchen, garden"),
            ("GET", "/api/products?min_price=cheap", "", 400, "min_price must be a price"),
            ("GET", "/api/products?min_price=9&max_price=8", "", 400, "above max_price"),
            ("GET", "/api/products?sort=size", "", 400, "there are id, price"),
            ("GET", "/api/products?per_page=101", "", 400, "from 1 to 100"),
            ("GET", "/api/products?page=0", "", 400, "from 1 to 10000"),
            ("GET", "/api/products?page=1&page=2", "", 400, "more than once"),
            ("GET", "/api/search", "", 400, "1 to 64 characters"),
            ("GET", "/login?user=a%0d%0ab", "", 400, "1 to 32 letters"),
            ("GET", "/slow?seconds=31", "", 400, "from 0 to 30"),
            ("DELETE", "/api/products/1", "", 405, "DELETE"),
            ("PUT", "/api/search?q=x", "", 405, "PUT"),
            ("PUT", "/api/products/481", r#"{"price": 1}"#, 404, "ids run from 1 to 480"),
            ("PUT", "/api/products/1", "", 400, "expected"),
            ("PUT", "/api/products/1", r#"{"price": "1"}"#, 400, "expected"),
            ("PUT", "/api/products/1", r#"{"prize": 1}"#, 400, "expected"),
            ("PUT", "/api/products/1", r#"{"price": -1}"#, 400, "at most two decimals"),
            ("PUT", "/api/products/1", r#"{"price": 1e300}"#, 400, "at most two decimals"),
            ("PUT", "/api/products/1", r#"{"price": 1.234}"#, 400, "at most two decimals"),
            ("PUT", "/api/products/1", &long, 413, "4096 bytes"),
        ] {
            let reply = shop.ask(method, path, &[], body).await;
            assert_eq!(reply.status, status, "{method} {path} {body}");
            let error = reply.json();
            assert!(error["error"].as_str().unwrap().contains(words), "{method} {path}: {error}");
            assert_eq!(error["status"], status);
        }
        let refused = shop.ask("DELETE", "/api/products/1", &[], "").await;
        assert_eq!(refused.field("allow"), "GET, HEAD, OPTIONS, PUT, PATCH, POST");
        let options = shop.ask("OPTIONS", "/me", &[], "").await;
        assert_eq!((options.status, options.field("allow")), (204, "GET, HEAD, OPTIONS"));
        shop.stop().await;
    }

    #[tokio::test]
    async fn private_pages_are_one_user_s_and_never_twice_the_same() {
        let shop = Running::start().await;
        let mut visits = BTreeSet::new();
        for user in ["ana", "ben", "ana"] {
            let page = shop.ask("GET", "/me", &[("cookie", &format!("user={user}"))], "").await;
            assert_eq!(page.json()["user"], user);
            assert_eq!(page.field("cache-control"), "private, max-age=60");
            assert_eq!(page.field("vary"), "Cookie");
            visits.insert(page.json()["visit"].as_u64());
        }
        assert_eq!(visits.len(), 3);
        let login = shop.get("/login?user=ana").await;
        assert_eq!(login.field("set-cookie"), "user=ana; Path=/; HttpOnly; SameSite=Lax");
        assert_eq!(login.field("cache-control"), "public, max-age=60");
        shop.stop().await;
    }

    #[tokio::test]
    async fn flaky_fails_every_third_time() {
        let shop = Running::start().await;
        let mut statuses = Vec::new();
        for _ in 0..6 {
            statuses.push(shop.get("/flaky").await.status);
        }
        assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
        shop.stop().await;
    }

    #[tokio::test]
    async fn a_download_is_whole_and_the_same_byte_for_byte() {
        let shop = Running::start().await;
        let file = shop.get("/downloads/brochure.bin").await;
        assert_eq!(file.field("content-length"), "8388608");
        assert_eq!(file.body.len(), 8 << 20);
        assert!(file.body.iter().zip(0..).all(|(byte, at)| *byte == download_byte(at)));
        let head = shop.ask("HEAD", "/downloads/film.bin", &[], "").await;
        assert_eq!((head.field("content-length"), head.body.len()), ("67108864", 0));
        let known = [("if-none-match", file.field("etag"))];
        assert_eq!(shop.ask("GET", "/downloads/brochure.bin", &known, "").await.status, 304);
        let image = shop.get("/images/9.png").await;
        assert_eq!(image.field("content-type"), "image/png");
        assert!(image.body.len() > 40 << 10);
        shop.stop().await;
    }

    #[tokio::test]
    async fn events_come_one_by_one_and_end_when_the_service_stops() {
        let shop = Running::start().await;
        let mut answer = shop.send("GET", "/events", &[], "").await;
        assert_eq!(answer.response.status(), StatusCode::OK);
        assert_eq!(answer.response.headers()["content-type"], "text/event-stream");
        let mut received = String::new();
        while received.matches("\n\n").count() < 3 {
            let frame = answer.response.body_mut().frame().await.unwrap().unwrap();
            received += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        assert!(received.starts_with("id: 1\nevent: stock\ndata: {"), "{received}");
        assert!(received.contains("\n\nid: 2\nevent: stock\n"), "{received}");
        shop.stop().await;
        // The stream came to a proper end: its client sees no error.
        while let Some(frame) = answer.response.body_mut().frame().await {
            assert!(frame.is_ok());
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_endpoint() {
        let shop = Running::start().await;
        for path in ["/api/products/1", "/api/products/2", "/slow?seconds=0", "/nowhere", "/health"] {
            shop.get(path).await;
        }
        shop.ask("PUT", "/api/products/1", &[], r#"{"price": 5}"#).await;
        for (name, expected) in
            [("product", 2), ("product_change", 1), ("slow", 1), ("unknown", 1), ("health", 1), ("search", 0)]
        {
            assert_eq!(shop.stats(name).await, expected, "{name}");
        }
        shop.stop().await;
    }

    #[tokio::test]
    async fn what_must_not_be_stored_says_so() {
        let shop = Running::start().await;
        for path in ["/health", "/stats", "/nowhere"] {
            assert_eq!(shop.get(path).await.field("cache-control"), "no-store", "{path}");
        }
        assert_eq!(shop.get("/api/products/999").await.field("cache-control"), "public, max-age=10");
        shop.stop().await;
    }

    #[tokio::test]
    async fn every_page_the_tour_and_the_index_name_exists() {
        let shop = Running::start().await;
        for path in tour::paths(&tour::text("http://shop.test", "http://admin.test"), "http://shop.test") {
            let reply = shop.get(&path).await;
            assert_eq!(reply.status, 200, "{path}");
        }
        let index = shop.get("/").await.json();
        for path in index["endpoints"].as_object().unwrap().keys() {
            let path = match path.as_str() {
                "/api/search?q=" => "/api/search?q=lamp".to_owned(),
                "/downloads/{name}" => "/downloads/price-list.bin".to_owned(),
                "/login?user=" => "/login?user=ana".to_owned(),
                "/slow?seconds=" => "/slow?seconds=0".to_owned(),
                "/events" => continue,
                other => other.replace("{id}", "1"),
            };
            assert_eq!(shop.get(&path).await.status, 200, "{path}");
        }
        shop.stop().await;
    }

    #[tokio::test]
    async fn what_is_not_http_is_refused_and_harms_nobody() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let shop = Running::start().await;
        let mut stream = TcpStream::connect(shop.address).await.unwrap();
        stream.write_all(b"\x16\x03\x01 hello\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 400 "));
        assert_eq!(shop.ask(Method::GET.as_str(), "/health", &[], "").await.status, 200);
        shop.stop().await;
    }
}
