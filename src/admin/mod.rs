//! The admin listener: dashboard, metrics, health, purging. Never on the public listener.
//!
//! Decides: which resources there are, who may ask for them (`guard`), and how large a request may
//! be. Never touches: the life of a client's request. It runs on a thread of its own, so that a
//! scrape costs the event loops nothing and is answered while they are busy.

mod dashboard;
mod explain;
mod guard;
mod purge;
mod reload;
mod status;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use self::reload::Reload;
pub use self::status::Workers;
use crate::clock;
use crate::proxy::Instance;

/// What is said of any other path.
const NOTHING_HERE: &str = "there is /, /status, /metrics, /live, /ready, /explain, /purge and /reload\n";

/// Connections served at once; more wait in the listener's queue.
const CONNECTIONS: usize = 64;

/// Contents of requests that are held in memory at once: they are the one thing here that is large.
const BODIES: usize = 4;

/// How long the content of a request may take to arrive, waiting for room included.
const PATIENCE: Duration = Duration::from_secs(30);

type Answer = Response<Full<Bytes>>;

/// What the admin listener tells about, and acts on.
#[derive(Debug)]
pub struct Admin {
    instance: Arc<Instance>,
    workers: Arc<Workers>,
    reload: Arc<Reload>,
    bodies: Semaphore,
    started: Instant,
}

/// What can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resource {
    Live,
    Ready,
    Metrics,
    Dashboard,
    Status,
    Explain,
    Purge,
    Reload,
}

impl Resource {
    fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/live" => Self::Live,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            "/" => Self::Dashboard,
            "/status" => Self::Status,
            "/explain" => Self::Explain,
            "/purge" => Self::Purge,
            "/reload" => Self::Reload,
            _ => return None,
        })
    }

    /// Probes come without a token; so does the dashboard's page, which holds nothing until it has one.
    const fn is_open(self) -> bool {
        matches!(self, Self::Live | Self::Ready | Self::Dashboard)
    }

    /// What scrapers and probes read, by whatever name they know this machine, is no secret of its
    /// user's; everything else is kept from pages in a browser.
    const fn is_guarded(self) -> bool {
        !matches!(self, Self::Live | Self::Ready | Self::Metrics)
    }

    /// Whether it changes something, and so is asked for by POST.
    const fn acts(self) -> bool {
        matches!(self, Self::Purge | Self::Reload)
    }
}

impl Admin {
    /// The admin listener's service for a process.
    #[must_use]
    pub fn new(instance: Arc<Instance>, workers: Arc<Workers>, reload: Arc<Reload>) -> Self {
        Self { instance, workers, reload, bodies: Semaphore::new(BODIES), started: clock::monotonic() }
    }

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
                    let admin = Arc::clone(&admin);
                    async move { Ok::<_, Infallible>(admin.answer(request).await) }
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

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Answer {
        let resource = Resource::at(request.uri().path());
        let headers = request.headers();
        let token = self.has_token(&request);
        if token == Some(false) && !resource.is_some_and(Resource::is_open) {
            let mut refused = text(StatusCode::UNAUTHORIZED, "a bearer token is needed here\n");
            refused.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return refused;
        }
        let Some(resource) = resource else {
            return text(StatusCode::NOT_FOUND, NOTHING_HERE);
        };
        let (allowed, words) = match resource.acts() {
            true => ("POST", "POST\n"),
            false => ("GET, HEAD", "GET or HEAD\n"),
        };
        if !allowed.split(", ").any(|method| request.method() == method) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, words);
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
            return refused;
        }
        if resource.is_guarded()
            && let Some(why) = guard::foreign(headers, token.is_some())
        {
            return wrong(StatusCode::FORBIDDEN, why);
        }
        if resource.acts() && !guard::is_json(headers) {
            return wrong(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send it with Content-Type: application/json");
        }
        match resource {
            Resource::Live => text(StatusCode::OK, "live\n"),
            Resource::Ready => json(StatusCode::OK, &self.ready()),
            Resource::Metrics => match self.instance.shared.metrics.render(&self.snapshot()) {
                Ok(series) => {
                    answer(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", Bytes::from(series))
                }
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            },
            Resource::Dashboard => dashboard::page(),
            Resource::Status => json(StatusCode::OK, &self.status()),
            Resource::Explain => {
                let (status, told) = self.explain(request.uri().query().unwrap_or_default()).await;
                json(status, &told)
            }
            Resource::Purge => match self.content(request, purge::MAX_BODY).await {
                Ok((body, _room)) => {
                    let (status, told) = self.purge(&body).await;
                    json(status, &told)
                }
                Err(refused) => refused,
            },
            Resource::Reload => self.load_again().await,
        }
    }

    /// The content of a request, with the room that it takes.
    async fn content(
        &self,
        request: Request<Incoming>,
        most: usize,
    ) -> Result<(Bytes, tokio::sync::SemaphorePermit<'_>), Answer> {
        let read = async {
            let room = self.bodies.acquire().await?;
            let content = Limited::new(request.into_body(), most).collect().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((content.to_bytes(), room))
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(content)) => Ok(content),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let why = format!("more than {most} bytes; send several requests");
                Err(wrong(StatusCode::PAYLOAD_TOO_LARGE, &why))
            }
            Ok(Err(error)) => Err(wrong(StatusCode::BAD_REQUEST, &error.to_string())),
            Err(_) => Err(wrong(StatusCode::REQUEST_TIMEOUT, "the content did not arrive in time")),
        }
    }

    /// `POST /reload`: as SIGHUP. 422 with every problem, and the configuration in force stays.
    async fn load_again(&self) -> Answer {
        let reload = Arc::clone(&self.reload);
        match tokio::task::spawn_blocking(move || reload.run()).await {
            Ok(Ok(needs_restart)) => {
                json(StatusCode::OK, &json!({ "loaded": true, "needs_restart": needs_restart }))
            }
            Ok(Err(problems)) => {
                json(StatusCode::UNPROCESSABLE_ENTITY, &json!({ "loaded": false, "problems": problems }))
            }
            Err(error) => wrong(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    /// Whether the request carries the token; `None` where none is configured.
    fn has_token(&self, request: &Request<Incoming>) -> Option<bool> {
        let site = self.instance.site.load();
        let token = site.rules.admin.as_ref()?.token.as_ref()?;
        Some(guard::has_token(request.headers(), token))
    }
}

/// What is wrong with a request, as JSON.
fn wrong(status: StatusCode, why: &str) -> Answer {
    json(status, &json!({ "error": why }))
}

fn text(status: StatusCode, words: &str) -> Answer {
    answer(status, "text/plain; charset=utf-8", Bytes::copy_from_slice(words.as_bytes()))
}

fn json(status: StatusCode, value: &Value) -> Answer {
    answer(status, "application/json", Bytes::from(format!("{value:#}\n")))
}

fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
