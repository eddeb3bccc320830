//! The admin listener: `/metrics`, `/live`, `/ready`. Never on the public listener.
//!
//! Decides: who may ask (a bearer token, where one is configured; probes need none) and what each
//! resource says. Never touches: the life of a client's request. It runs on a thread of its own, so
//! that a scrape costs the event loops nothing and is answered while they are busy.

mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::status::Workers;
use crate::proxy::Instance;

/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;

/// What the admin listener tells about.
#[derive(Debug)]
pub struct Admin {
    /// The process's proxy.
    pub instance: Arc<Instance>,
    /// What each worker brought along.
    pub workers: Arc<Workers>,
}

impl Admin {
    /// Serves until the future is dropped.
    ///
    /// # Errors
    /// Never ends by itself but for a listener that cannot accept at all.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) -> std::io::Result<Infallible> {
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return Err(std::io::Error::other("the admin listener has closed"));
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin listener could not accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let admin = Arc::clone(&self);
            tokio::spawn(async move {
                let service = service_fn(|request| {
                    let response = admin.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let served = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(Duration::from_secs(15))
                    .max_buf_size(16 * 1024)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = served {
                    tracing::debug!(%error, "an admin connection ended early");
                }
                drop(permit);
            });
        }
    }

    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        if !matches!(path, "/live" | "/ready") && !self.may_ask(request) {
            let mut refused = text(StatusCode::UNAUTHORIZED, "a bearer token is needed here\n");
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refused;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refused;
        }
        match path {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => json(&self.ready()),
            "/metrics" => match self.instance.shared.metrics.render(&self.snapshot()) {
                Ok(series) => {
                    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(series))
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            _ => text(StatusCode::NOT_FOUND, "there is /metrics, /live and /ready\n"),
        }
    }

    /// Whether the request carries the configured token; compared without leaving early.
    fn may_ask(&self, request: &Request<Incoming>) -> bool {
        let site = self.instance.site.load();
        let Some(token) = site.rules.admin.as_ref().and_then(|admin| admin.token.as_ref()) else {
            return true;
        };
        let given = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
            .unwrap_or_default();
        let wanted = token.expose().as_bytes();
        given.len() == wanted.len() && given.iter().zip(wanted).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

fn text(status: StatusCode, words: &str) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(words.as_bytes()))
}

fn json(value: &serde_json::Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", Bytes::from(format!("{value:#}\n")))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
