//! Interim responses (RFC 9110 15.2) on their way to a client: from whoever hears of them, through the
//! connection's outbox, to the task that writes them.
//!
//! Decides: that an interim response goes out before the final one of its request or not at all, and
//! how much may wait. Never touches: which ones are passed on, and what stands in them.
//!
//! The connection takes what waits while no other message has begun, and all of it before a final
//! response.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::{Connection, fields};

/// Bytes of interim responses that may wait for a client; what comes on top of them is dropped.
const MOST: usize = 64 * 1024;

/// The outbox of one connection.
#[derive(Debug, Default)]
pub(super) struct Relay {
    /// Whether an interim response may come. Most requests never ask for any: they pay this one load.
    open: AtomicBool,
    outbox: Mutex<Outbox>,
}

#[derive(Debug, Default)]
struct Outbox {
    /// The request whose interim responses are taken in.
    request: Option<u64>,
    waiting: Vec<u8>,
    /// The connection, to be told that something waits.
    connection: Option<Waker>,
}

/// The way for interim responses to the client of one request; good for nothing once it is answered.
#[derive(Clone, Debug)]
pub struct Interim {
    connection: Connection,
    request: u64,
}

impl Interim {
    pub(super) fn new(connection: Connection, request: u64) -> Self {
        connection.relay_state().begin(request);
        Self { connection, request }
    }

    /// Hands an interim response over. `fields` are fit for this hop. Never waits; dropped where the
    /// request has been answered, and where the client is far behind.
    pub fn send(&self, status: StatusCode, fields: &HeaderMap) {
        self.connection.relay_state().push(self.request, status, fields);
    }
}

impl Relay {
    fn begin(&self, request: u64) {
        self.lock().request = Some(request);
        self.open.store(true, Relaxed);
    }

    fn push(&self, request: u64, status: StatusCode, fields: &HeaderMap) {
        let mut outbox = self.lock();
        if outbox.request != Some(request) {
            return;
        }
        let head = head(status, fields);
        if outbox.waiting.len().saturating_add(head.len()) > MOST {
            return;
        }
        outbox.waiting.extend_from_slice(&head);
        let connection = outbox.connection.take();
        drop(outbox);
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// What is to be written now; where nothing is, the task is woken when something comes.
    pub(super) fn take(&self, cx: &Context<'_>) -> Option<Bytes> {
        if !self.open.load(Relaxed) {
            return None;
        }
        let mut outbox = self.lock();
        if outbox.waiting.is_empty() {
            outbox.connection = Some(cx.waker().clone());
            return None;
        }
        Some(Bytes::from(std::mem::take(&mut outbox.waiting)))
    }

    /// What is still to be written, all of it; nothing is taken in any more: the final response goes out.
    pub(super) fn end(&self) -> Option<Bytes> {
        if !self.open.load(Relaxed) {
            return None;
        }
        self.open.store(false, Relaxed);
        let waiting = std::mem::take(&mut *self.lock()).waiting;
        (!waiting.is_empty()).then(|| Bytes::from(waiting))
    }

    /// Nothing that can panic runs under the lock.
    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A head without content (RFC 9112 4).
fn head(status: StatusCode, map: &HeaderMap) -> Vec<u8> {
    let mut head = Vec::with_capacity(256);
    fields::put_status_line(&mut head, status);
    fields::put_all(&mut head, map);
    head.extend_from_slice(b"\r\n");
    head
}

#[cfg(test)]
mod tests {

    use http::HeaderValue;

    use super::*;

    const HINTS: &[u8] = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n";

    fn connection() -> Connection {
        let address = "192.0.2.1:80".parse().expect("an address");
        Connection::new(address, address)
    }

    fn hints(interim: &Interim) {
        let mut fields = HeaderMap::new();
        fields.insert("link", HeaderValue::from_static("</a>"));
        interim.send(StatusCode::EARLY_HINTS, &fields);
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    #[test]
    fn rfc9110_15_2_before_the_final_response_or_not_at_all() {
        let connection = connection();
        connection.begin(false);
        assert_eq!(connection.interim(&cx()), None, "nobody has asked for any");
        let interim = connection.relay();
        assert_eq!(connection.interim(&cx()), None);
        hints(&interim);
        hints(&interim);
        assert_eq!(connection.interim(&cx()).as_deref(), Some(&[HINTS, HINTS].concat()[..]));
        hints(&interim);
        assert_eq!(connection.last_interim().as_deref(), Some(HINTS), "it goes after those before it");
        assert_eq!(connection.last_interim(), None);
        hints(&interim);
        assert_eq!(connection.interim(&cx()), None, "too late");
        connection.begin(false);
        let next = connection.relay();
        hints(&interim);
        assert_eq!(connection.interim(&cx()), None, "another request's");
        hints(&next);
        assert_eq!(connection.interim(&cx()).as_deref(), Some(HINTS));
    }

    #[test]
    fn what_waits_is_bounded() {
        let connection = connection();
        connection.begin(false);
        let interim = connection.relay();
        for _ in 0..MOST {
            hints(&interim);
        }
        let waiting = connection.interim(&cx()).expect("some");
        assert!(waiting.len() <= MOST && waiting.len().is_multiple_of(HINTS.len()), "{}", waiting.len());
    }
}
