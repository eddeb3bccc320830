//! The PURGE method, and what whoever purges is told.
//!
//! Decides: who may send PURGE to the public listener, and with which status and words a purge is
//! answered there and on the admin listener. Never touches: what a purge does (`purge`).

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use ipnet::IpNet;
use serde_json::{Value, json};

use super::answer::Fields;
use super::asked::{Asked, Outcome};
use super::deliver::{Content, Reply};
use super::error::Failure;
use super::purge::{InvalidPurge, Mode, Purge, Purged, Scope, Source};
use super::{Proxy, Shared, Site};
use crate::caching::outcome::CacheResult;

/// Whether a request is a PURGE. Methods are case-sensitive (RFC 9110 9.1).
#[must_use]
pub(super) fn is_purge(method: &Method) -> bool {
    method.as_str() == "PURGE"
}

/// Purges, and says what became of it. A purge that has begun goes on to its end, though whoever asked
/// for it may be gone by then.
pub async fn carry_out(
    shared: Arc<Shared>,
    site: Arc<Site>,
    purge: Purge,
    source: Source,
) -> (StatusCode, Value) {
    let purged = tokio::spawn(async move { shared.purge(&site.rules, &purge, source).await });
    match purged.await {
        Ok(Ok(purged)) => told(&purged),
        Ok(Err(invalid)) => (StatusCode::BAD_REQUEST, refused(&invalid)),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, json!({ "error": error.to_string() })),
    }
}

/// What a purge came to: 200 once everybody who had to be told was, 503 where the fleet could not be.
fn told(purged: &Purged) -> (StatusCode, Value) {
    let (status, scope, message) = match purged.scope {
        Scope::Process => (StatusCode::OK, "process", None),
        Scope::Fleet => (StatusCode::OK, "fleet", None),
        Scope::Untold => (
            StatusCode::SERVICE_UNAVAILABLE,
            "untold",
            Some(
                "purged in this proxy alone: Redis could not be told, and other proxies may go on with what they \
                 hold; ask again",
            ),
        ),
    };
    let mut answer = json!({ "matched": purged.matched, "sequence": purged.sequence, "scope": scope });
    if let Some(message) = message {
        answer["message"] = message.into();
    }
    (status, answer)
}

/// What is told of a purge that was not carried out, none of it.
fn refused(invalid: &InvalidPurge) -> Value {
    json!({ "error": invalid.to_string(), "where": invalid.what })
}

/// Whether this peer is in one of the networks of `purge_from`. Only who really connects counts:
/// what `X-Forwarded-For` says was written by somebody else.
fn may_purge(peer: IpAddr, purge_from: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    purge_from.iter().any(|network| network.contains(&peer))
}

impl Proxy {
    /// Purges the URL of a PURGE, hard: all its variants, for GET and HEAD. Fields and content of the
    /// request mean nothing.
    pub(super) async fn purge_method(self: &Arc<Self>, asked: &Asked) -> Reply {
        let rules = &self.site.rules;
        let outcome = Outcome::new(CacheResult::Purge, None);
        if !may_purge(asked.client, &rules.server.purge_from) {
            return self.fail(asked, None, Failure::PURGE_REFUSED, outcome);
        }
        let url = format!("{}://{}{}", Asked::SCHEME, asked.authority(), asked.target());
        let purge = Purge { urls: vec![url], mode: Some(Mode::Hard), ..Purge::default() };
        let (shared, site) = (Arc::clone(&self.shared), Arc::clone(&self.site));
        let (status, answer) = carry_out(shared, site, purge, Source::Method).await;
        let route = rules.select(asked.authority(), asked.path()).map(|selected| selected.route.index);
        let mut headers = HeaderMap::with_capacity(4);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        let content = Content::Whole(Bytes::from(format!("{answer}\n")));
        self.finish(asked, route, status, Fields::Map(headers), content, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_connects_from_a_listed_network_may_purge() {
        let networks: Vec<IpNet> = ["10.1.0.0/16", "fd00::/8"].map(|n| n.parse().unwrap()).to_vec();
        for (peer, may) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd12::1", true),
            ("::1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(may_purge(peer.parse().unwrap(), &networks), may, "{peer}");
        }
        assert!(!may_purge("127.0.0.1".parse().unwrap(), &[]), "nobody by default");
    }

    #[test]
    fn methods_are_case_sensitive() {
        for (method, is) in [("PURGE", true), ("purge", false), ("PURGEX", false), ("GET", false)] {
            assert_eq!(is_purge(&Method::from_bytes(method.as_bytes()).unwrap()), is, "{method}");
        }
    }

    #[test]
    fn a_fleet_that_was_not_told_is_never_a_200() {
        let purged = |scope| Purged { matched: 3, sequence: None, scope };
        for (scope, status, label) in
            [(Scope::Process, 200, "process"), (Scope::Fleet, 200, "fleet"), (Scope::Untold, 503, "untold")]
        {
            let (answered, json) = told(&purged(scope));
            assert_eq!(
                (answered.as_u16(), &json["scope"], &json["matched"]),
                (status, &label.into(), &3.into())
            );
            assert_eq!(json.get("message").is_some(), status != 200, "{json}");
            assert!(json.as_object().is_some_and(|object| object.contains_key("sequence")));
        }
    }
}
