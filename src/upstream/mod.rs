//! Origins: one request there, one answer back, over connections that are kept.
//!
//! Decides: which server is asked over which connection, when a request may be sent twice, when an
//! origin has taken too long, and what counts as a whole answer. Never touches: routes, caching, what
//! a client is told. One [`Upstream`] per worker and configured upstream; what workers share about its
//! servers is an [`UpstreamShared`].
//!
//! # What holds
//!
//! - Nothing is sent twice, but for a GET, HEAD or OPTIONS without a body whose *reused* connection died
//!   before one byte of an answer (RFC 9110 9.2.2, RFC 9112 9.3.1): once, over a new connection. A
//!   request of which nothing was written is not sent twice by being sent elsewhere.
//! - A connection is used again only after both messages ended cleanly and nothing else was said on it.
//!   Whoever drops a future or an [`AnswerBody`] before its end cuts the connection off.
//! - A request's body that fails breaks the message off; it is never ended properly.
//! - An answer's body ends only where the origin ended it.
//!
//! # Who drives it
//!
//! No task belongs to a connection. An exchange owns it, and is driven by the task that waits: for the
//! answer's head in [`Upstream::send`], for its content in [`AnswerBody`]. Both directions go on at once, so
//! an upload that its answer has overtaken goes on as long as that answer is read, and no longer. Every
//! byte of an answer is read once, by [`crate::wire`].
//!
//! # Time
//!
//! `connect_timeout` covers name, TCP and TLS of one connect, and separately the wait in the queue.
//! `first_byte_timeout` runs until the answer's head is complete, from the moment the last bytes of
//! the request were handed to the connection. While the *client* is what an upload waits for, it stands
//! still; while the *origin* is (it takes no more bytes), it runs from the bytes it last took. So a slow
//! client is never an origin's fault, and an origin that stops reading is. `between_bytes_timeout` counts
//! the same way for the answer's body, and only while somebody waits for it: a slow reader is no fault
//! of the origin's either.

pub mod balance;
mod body;
mod connect;
mod error;
mod exchange;
mod patience;
mod pool;
mod receive;
pub mod request;
pub mod response;
mod server;
mod tunnel;
mod upload;

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use rustls::ClientConfig;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::balance::{Candidate, Standing};
use self::exchange::Exchange;
use self::pool::{Lease, Pool};
use self::receive::Received;
use self::request::RequestHead;
use self::response::Head;
use self::server::{ServerShared, Slot};
use self::upload::Upload;
use crate::boxed::in_place;
use crate::clock;
use crate::wire::{Awaited, ResponseFault};

pub use self::body::{AnswerBody, RequestBody};
pub use self::connect::{native_tls, tls_with};
pub use self::error::{BoxError, Source, UpstreamError};
pub use self::pool::IDLE_LIFETIME;
pub use self::server::{QUEUE_FACTOR, UpstreamGauges};
pub use self::tunnel::{Tunnel, TunnelIo};
pub use crate::rules::settings::{UpstreamHost, UpstreamServer, UpstreamSettings};

/// How many servers one request tries to connect to: each attempt may take a `connect_timeout`.
const CONNECT_ATTEMPTS: usize = 3;

/// Called with each 1xx head but 101, as it came, in order; must not block.
///
/// There are at most [`crate::wire::MAX_INTERIM`] of them, and together with the final head they are bounded at
/// 128 KiB: an origin that sends more is a protocol error.
pub type Informational = Arc<dyn Fn(&Head) + Send + Sync>;

/// What one request asks of the sending.
#[derive(Clone, Default)]
pub struct SendOptions {
    /// Receives informational answers.
    pub informational: Option<Informational>,
}

impl std::fmt::Debug for SendOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SendOptions").field("informational", &self.informational.is_some()).finish()
    }
}

/// A final answer, or a 101 that was asked for: as it came, or as [`Self::cleaned`] made it fit for others.
#[derive(Debug)]
pub struct Answer<H = http::response::Parts> {
    /// The head, read in one way only.
    pub head: H,
    /// The body; already at its end where there is none.
    pub body: AnswerBody,
    /// With a 101: the way out of HTTP.
    pub tunnel: Option<Tunnel>,
}

impl Answer<Head> {
    /// Without the fields that end at this hop, and with those that are left in a map.
    ///
    /// # Errors
    ///
    /// [`UpstreamError::Protocol`] for a field that no map takes: the wire lets none of them through.
    pub fn cleaned(self, via: &request::Via) -> Result<Answer, UpstreamError> {
        let Self { mut head, body, tunnel } = self;
        head.clean(via);
        let head = head.into_parts().ok_or_else(|| UpstreamError::protocol(ResponseFault::FieldLine))?;
        Ok(Answer { head, body, tunnel })
    }
}

/// What all workers share about one upstream: slots, health, gauges.
pub struct UpstreamShared {
    settings: UpstreamSettings,
    /// `host = "name"`.
    host_name: Option<HeaderValue>,
    servers: Vec<Arc<ServerShared>>,
    gauges: Arc<UpstreamGauges>,
    /// Half of all slots: what renewals may have.
    renewals: Arc<Semaphore>,
}

/// The right to renew one response that nobody waits for; dropping it lets another in.
#[derive(Debug)]
pub struct Renewal(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

impl UpstreamShared {
    /// Prepares an upstream; connects to nothing. `tls` is needed where a server is https.
    ///
    /// # Errors
    ///
    /// For a server or host name that cannot stand in a URL, an https server without `tls`, or no
    /// server at all.
    pub fn new(settings: UpstreamSettings, tls: Option<&Arc<ClientConfig>>) -> std::io::Result<Arc<Self>> {
        let gauges = Arc::<UpstreamGauges>::default();
        let share = |server| {
            ServerShared::new(server, tls, settings.max_connections, Arc::clone(&gauges)).map(Arc::new)
        };
        let servers = settings.servers.iter().map(share).collect::<Result<Vec<_>, _>>()?;
        if servers.is_empty() {
            return Err(std::io::Error::other("an upstream without servers"));
        }
        let host_name = match &settings.host {
            UpstreamHost::Preserve | UpstreamHost::Upstream => None,
            UpstreamHost::Name(name) => Some(HeaderValue::from_str(name).map_err(std::io::Error::other)?),
        };
        let slots = settings.max_connections.saturating_mul(servers.len());
        let renewals = Arc::new(Semaphore::new((slots / 2).clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Arc::new(Self { settings, host_name, servers, gauges, renewals }))
    }

    /// The settings it was made from.
    #[must_use]
    pub const fn settings(&self) -> &UpstreamSettings {
        &self.settings
    }

    /// What is to be exported about it.
    #[must_use]
    pub const fn gauges(&self) -> &Arc<UpstreamGauges> {
        &self.gauges
    }
}

impl std::fmt::Debug for UpstreamShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamShared").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// One worker's way to an upstream. Its connections live on the runtime that sends through it.
pub struct Upstream {
    shared: Arc<UpstreamShared>,
    pools: Vec<Pool>,
}

impl Upstream {
    /// One worker's connections to `shared`; none yet.
    #[must_use]
    pub fn new(shared: Arc<UpstreamShared>) -> Self {
        let pools = shared.servers.iter().map(|server| Pool::new(Arc::clone(server))).collect();
        Self { shared, pools }
    }

    /// The name routes call it by.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.settings.name
    }

    /// Room to renew what is stored behind an answer that was given already, `None` when there is none now.
    /// However much is stale at once, half of the connections are left to those who wait.
    #[must_use]
    pub fn room_to_renew(&self) -> Option<Renewal> {
        Arc::clone(&self.shared.renewals).try_acquire_owned().ok().map(Renewal)
    }

    /// What it shares with other workers.
    #[must_use]
    pub const fn shared(&self) -> &Arc<UpstreamShared> {
        &self.shared
    }

    /// Sends a request, framed for its `body` and to whom it is sent, and waits for the answer's head. One that
    /// asks for an upgrade ([`request::asks_for_upgrade`]) may be answered 101.
    ///
    /// Cancel safe in the sense of RFC 9112 9.5: a dropped future cuts the connection off.
    ///
    /// # Errors
    ///
    /// See [`UpstreamError`]; with [`UpstreamError::nothing_was_sent`], not one byte left.
    pub async fn send(
        &self,
        head: &RequestHead,
        body: RequestBody,
        options: &SendOptions,
    ) -> Result<Answer<Head>, UpstreamError> {
        let repeatable =
            body.is_empty() && matches!(*head.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let (lease, authority) = match self.at_hand() {
            Ok(at_hand) => at_hand,
            // Whoever finds a connection at hand does not carry the room that connecting needs.
            Err(chosen) => in_place(|| self.lease(Reuse::Allowed, chosen)).await?,
        };
        let reused = lease.is_reused();
        match self.exchange(lease, head, self.host(head, authority), body, options).await {
            Err(Failed { came_to: CameTo::Silence, .. }) if repeatable && reused => {
                self.shared.gauges.retries.fetch_add(1, Relaxed);
                let (lease, authority) = in_place(|| self.lease(Reuse::Refused, None)).await?;
                let host = self.host(head, authority);
                let again = self.exchange(lease, head, host, RequestBody::Empty, options).await;
                again.map_err(|failed| failed.error)
            }
            outcome => outcome.map_err(|failed| failed.error),
        }
    }

    /// An idle connection to a server that has a slot, as nearly every request finds one: nothing is waited for. Else
    /// the server that was chosen, with a slot of it, where it had one.
    fn at_hand(&self) -> Result<(Lease, &HeaderValue), Option<(usize, Slot)>> {
        let (index, pool) = self.choose(&[]).ok_or(None)?;
        let slot = pool.server().try_slot().ok_or(None)?;
        match pool.reuse(slot) {
            Ok(lease) => Ok((lease, &pool.server().authority)),
            Err(slot) => Err(Some((index, slot))),
        }
    }

    /// A connection to one of the servers. One that cannot be connected to is followed by another:
    /// nothing was sent.
    /// `chosen` is a server that has none idle, and whose slot is held.
    async fn lease(
        &self,
        reuse: Reuse,
        mut chosen: Option<(usize, Slot)>,
    ) -> Result<(Lease, &HeaderValue), UpstreamError> {
        let settings = &self.shared.settings;
        let mut tried = Vec::new();
        let mut failure = UpstreamError::Busy;
        while tried.len() < CONNECT_ATTEMPTS {
            let held = chosen.take().and_then(|(index, slot)| Some((index, self.pools.get(index)?, slot)));
            let (index, pool, slot) = match held {
                Some(held) => held,
                None => {
                    let Some((index, pool)) = self.choose(&tried) else { break };
                    self.slot(index, pool, &tried).await?
                }
            };
            let slot = match reuse {
                Reuse::Allowed => match pool.reuse(slot) {
                    Ok(lease) => return Ok((lease, &pool.server().authority)),
                    Err(slot) => slot,
                },
                Reuse::Refused => slot,
            };
            self.note_probe(pool.server());
            match pool.connect(slot, settings.connect_timeout).await {
                Ok(lease) => {
                    if pool.server().health().succeeded() {
                        let (upstream, server) = (self.name(), pool.server().shown());
                        tracing::info!(upstream, server, "connections to a server work again");
                    }
                    return Ok((lease, &pool.server().authority));
                }
                Err(error) => {
                    if pool.server().health().failed(clock::monotonic()) {
                        let (upstream, server) = (self.name(), pool.server().shown());
                        let error = error.in_full();
                        tracing::warn!(upstream, server, %error, "a server cannot be connected to: others are asked first");
                    }
                    failure = error;
                    tried.push(index);
                }
            }
        }
        Err(failure)
    }

    fn choose(&self, tried: &[usize]) -> Option<(usize, &Pool)> {
        let now = if self.pools.len() > 1 { Some(clock::monotonic()) } else { None };
        let candidate = |index: usize| match (self.pools.get(index), now) {
            (Some(pool), Some(now)) => Candidate {
                outstanding: pool.server().outstanding(),
                standing: pool.server().health().standing(now),
            },
            _ => Candidate { outstanding: 0, standing: Standing::Up },
        };
        let index = balance::choose(self.pools.len(), candidate, tried, |below| fastrand::usize(..below))?;
        Some((index, self.pools.get(index)?))
    }

    /// A slot of the chosen server; of another one that is up and has one, rather than wait; else in turn.
    async fn slot<'a>(
        &'a self,
        index: usize,
        pool: &'a Pool,
        tried: &[usize],
    ) -> Result<(usize, &'a Pool, Slot), UpstreamError> {
        if let Some(slot) = pool.server().try_slot() {
            return Ok((index, pool, slot));
        }
        for (other, candidate) in self.pools.iter().enumerate() {
            let now = clock::monotonic();
            if other == index
                || tried.contains(&other)
                || candidate.server().health().standing(now) != Standing::Up
            {
                continue;
            }
            if let Some(slot) = candidate.server().try_slot() {
                return Ok((other, candidate, slot));
            }
        }
        let slot = pool.server().slot_in_turn(self.shared.settings.connect_timeout).await?;
        Ok((index, pool, slot))
    }

    /// A connect to a server in back-off is its probe: others avoid it until the outcome is known.
    fn note_probe(&self, server: &ServerShared) {
        let now = clock::monotonic();
        let mut health = server.health();
        if health.standing(now) != Standing::Up {
            health.probe_begins(now);
        }
    }

    /// What `Host` says to a server of this authority.
    fn host<'a>(&'a self, head: &'a RequestHead, authority: &'a HeaderValue) -> &'a HeaderValue {
        match (&self.shared.settings.host, &self.shared.host_name) {
            (UpstreamHost::Upstream, _) => authority,
            (UpstreamHost::Name(_), Some(name)) => name,
            // An HTTP/1.0 client may have sent none; HTTP/1.1 has to have one (RFC 9112 3.2).
            (UpstreamHost::Preserve | UpstreamHost::Name(_), _) => head.host().unwrap_or(authority),
        }
    }

    /// One request and the head of its answer, over one connection.
    async fn exchange(
        &self,
        lease: Lease,
        head: &RequestHead,
        host: &HeaderValue,
        body: RequestBody,
        options: &SendOptions,
    ) -> Result<Answer<Head>, Failed> {
        let awaited = Awaited { head: *head.method() == Method::HEAD, upgrade: head.upgrades() };
        let began = clock::monotonic();
        let mut exchange = Exchange::new(lease, Upload::new(head, host, body, began), awaited);
        let limit = self.shared.settings.first_byte_timeout;
        let interim = |head: &Head| {
            if let Some(told) = &options.informational {
                told(head);
            }
        };
        let received = poll_fn(|cx| match exchange.poll_head(cx, interim) {
            Poll::Ready(received) => Poll::Ready(Some(received)),
            Poll::Pending => exchange.poll_exhausted(cx, limit, began).map(|()| None),
        })
        .await;
        match received {
            Some(Ok(received)) => self.answered(exchange, received).map_err(Failed::heard),
            Some(Err(error)) if exchange.is_unheard() => Err(Failed { error, came_to: CameTo::Silence }),
            Some(Err(error)) => Err(Failed::heard(error)),
            None => Err(Failed::heard(UpstreamError::FirstByteTimeout)),
        }
    }

    fn answered(&self, exchange: Exchange, mut received: Received) -> Result<Answer<Head>, UpstreamError> {
        let Some(head) = received.head.take() else { return Err(UpstreamError::protocol("no head")) };
        if head.status != StatusCode::SWITCHING_PROTOCOLS {
            let body = AnswerBody::new(received, exchange, self.shared.settings.between_bytes_timeout);
            return Ok(Answer { head, body, tunnel: None });
        }
        match exchange.into_tunnel(received.content) {
            Some(tunnel) => Ok(Answer { head, body: AnswerBody::none(), tunnel: Some(tunnel) }),
            None => Err(UpstreamError::protocol(ResponseFault::UnaskedSwitch)),
        }
    }
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Whether a connection that was used before will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reuse {
    Allowed,
    /// One was dead already: only a new one will do.
    Refused,
}

/// An exchange without an answer.
struct Failed {
    error: UpstreamError,
    came_to: CameTo,
}

/// What a failed exchange had come to, which decides whether there may be another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CameTo {
    /// The request may have been written; not one byte of an answer came.
    Silence,
    /// More than that, or waiting for more is over.
    Something,
}

impl Failed {
    const fn heard(error: UpstreamError) -> Self {
        Self { error, came_to: CameTo::Something }
    }
}

#[cfg(test)]
mod tests;
