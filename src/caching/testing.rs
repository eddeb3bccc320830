//! What the tests of this module share: header maps, stored heads and exchanges in few words.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::admission::RequestFacts;
use super::invalidation::TargetUri;
use super::policy::{ClientCacheControl, Policy};
use super::stamp::Stamp;
use super::storability::{self, Exchange, Storability};
use super::stored::{Fields, StoredHead, Traits};
use crate::semantics::UnixMillis;

/// Sun, 06 Nov 1994 08:49:37 GMT, the date of every exchange here.
pub(super) const NOW: UnixMillis = UnixMillis(784_111_777_000);
pub(super) const NOW_TEXT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
pub(super) const HOUR_AGO: &str = "Sun, 06 Nov 1994 07:49:37 GMT";
pub(super) const HOUR_LATER: &str = "Sun, 06 Nov 1994 09:49:37 GMT";

pub(super) type Lines<'a> = &'a [(&'a str, &'a str)];

pub(super) fn map(lines: Lines<'_>) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

/// Fresh for 60 s from [`NOW`].
pub(super) fn head() -> StoredHead {
    StoredHead {
        status: StatusCode::OK,
        fields: Fields::default(),
        trailers: Vec::new(),
        received: NOW,
        initial_age: 0,
        lifetime: 60_000,
        stale_while_revalidate: 0,
        stale_if_error: 0,
        keep: 0,
        cost: 0,
        traits: Traits::ORIGIN_EXPLICIT,
        stamp: Stamp(1),
        ids: Vec::new(),
        vary: Vec::new(),
        part: None,
    }
}

/// A GET of `http://shop.example/a?b`, answered at [`NOW`], with these fields.
#[derive(Clone)]
pub(super) struct Case {
    pub(super) method: &'static str,
    pub(super) request: HeaderMap,
    pub(super) status: u16,
    pub(super) response: HeaderMap,
    pub(super) content_length: Option<u64>,
    pub(super) received: UnixMillis,
    pub(super) tags: Vec<String>,
    pub(super) policy: Policy,
}

impl Case {
    pub(super) fn new(status: u16, response: Lines<'_>) -> Self {
        Self {
            method: "GET",
            request: HeaderMap::new(),
            status,
            response: map(response),
            content_length: None,
            received: NOW,
            tags: Vec::new(),
            policy: Policy::default(),
        }
    }

    pub(super) fn method(mut self, method: &'static str) -> Self {
        self.method = method;
        self
    }

    pub(super) fn request(mut self, lines: Lines<'_>) -> Self {
        self.request = map(lines);
        self
    }

    pub(super) fn policy(mut self, policy: &Policy) -> Self {
        self.policy = policy.clone();
        self
    }

    pub(super) fn received(mut self, received: UnixMillis) -> Self {
        self.received = received;
        self
    }

    /// Hands the exchange to `judge`, with its policy.
    pub(super) fn with<T>(&self, judge: impl FnOnce(&Exchange<'_>, &Policy) -> T) -> T {
        let method = Method::from_bytes(self.method.as_bytes()).unwrap();
        let facts = RequestFacts::read(&method, &self.request, &self.policy);
        let exchange = Exchange {
            method: &method,
            facts: &facts,
            request: &self.request,
            target: TargetUri { scheme: "http", authority: "shop.example", path_and_query: "/a?b" },
            host: "shop.example",
            url: 7,
            tags: &self.tags,
            status: StatusCode::from_u16(self.status).unwrap(),
            headers: &self.response,
            content_length: self.content_length,
            request_sent: self.received,
            response_received: self.received,
            stamp: Stamp(42),
        };
        judge(&exchange, &self.policy)
    }

    pub(super) fn judge(&self) -> Storability {
        self.with(storability::judge)
    }

    /// The stored head; panics with the reason when it is not stored.
    pub(super) fn stored(&self) -> StoredHead {
        match self.judge() {
            Storability::Store(head) => *head,
            Storability::Pass(reason) => panic!("not stored: {reason:?}"),
        }
    }
}

/// A policy that honours request directives.
pub(super) fn respecting_clients() -> Policy {
    Policy { client_cache_control: ClientCacheControl::Respect, ..Policy::default() }
}

/// The facts of a request with these fields.
pub(super) fn facts(method: &str, lines: Lines<'_>, policy: &Policy) -> RequestFacts {
    RequestFacts::read(&Method::from_bytes(method.as_bytes()).unwrap(), &map(lines), policy)
}
