//! `GET /explain`: what this proxy holds for a request, and what it would do with it now.
//!
//! Decides: how that is told. Never touches: the verdict, which is the life of a request's own
//! (`proxy::inspect`), or the origin, which is not asked.
//!
//! `url=` is the absolute URL, `method=` GET without it, `header=name: value` may be repeated; all of
//! them percent-encoded as forms are.

use http::header::HOST;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use serde_json::{Value, json};

use super::Admin;
use crate::caching::outcome::Reason;
use crate::caching::stored::{StoredResponse, Traits};
use crate::proxy::asked::Asked;
use crate::proxy::inspect::Inspection;
use crate::proxy::lookup::{Candidate, Found};
use crate::rules::Rules;
use crate::semantics::{UnixMillis, http_date};
use crate::store::Tier;

/// The most fields of a request.
const MAX_FIELDS: usize = 100;

/// What each property of a stored response is called.
const TRAITS: [(Traits, &str); 8] = [
    (Traits::MUST_REVALIDATE, "must-revalidate"),
    (Traits::NO_CACHE, "no-cache"),
    (Traits::ORIGIN_EXPLICIT, "fresh-by-the-origin"),
    (Traits::HAS_VALIDATOR, "has-validator"),
    (Traits::IMMUTABLE, "immutable"),
    (Traits::HEAD_ONLY, "head-only"),
    (Traits::SHARED_WITH_AUTHORIZATION, "shared-with-authorization"),
    (Traits::HEURISTIC, "heuristic"),
];

impl Admin {
    /// Explains the request that a query describes.
    pub(super) async fn explain(&self, query: &str) -> (StatusCode, Value) {
        let bad = |why: String| (StatusCode::BAD_REQUEST, json!({ "error": why }));
        let head = match request(query) {
            Ok(head) => head,
            Err(why) => return bad(why),
        };
        let unavailable = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, json!({ "error": why }));
        let Some((event_loop, proxy)) = self.workers.one() else {
            return unavailable("no worker is up");
        };
        // A worker's connection to Redis is used on the worker's own event loop.
        let looking = event_loop.spawn(async move {
            let asked = Asked::described(&proxy, head);
            let inspection = proxy.inspect(&asked).await;
            tell(&inspection, &asked, &proxy.site.rules)
        });
        match looking.await {
            Ok(told) => (StatusCode::OK, told),
            Err(_) => unavailable("the worker has ended"),
        }
    }
}

/// The request that a query describes, as if a client had sent it.
fn request(query: &str) -> Result<Parts, String> {
    let (mut url, mut method, mut fields) = (None, None, Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("{name}: is not percent-encoded UTF-8"))?;
        match name {
            "url" if url.is_none() => url = Some(value),
            "method" if method.is_none() => method = Some(value),
            "header" if fields.len() < MAX_FIELDS => fields.push(value),
            "header" => return Err(format!("header: more than {MAX_FIELDS}")),
            "url" | "method" => return Err(format!("{name}: is there twice; an & inside it is written %26")),
            _ => {
                let known = ["url", "method", "header"];
                let hint = crate::config::did_you_mean(name, known);
                let shown: String = name.chars().take(64).collect();
                return Err(format!("{shown:?}: is no parameter{hint}; an & inside the URL is written %26"));
            }
        }
    }
    let url = url.ok_or("url: is missing: /explain?url=http://shop.example/")?;
    let uri: Uri = url.parse().map_err(|error| format!("url: {error}"))?;
    let (Some("http" | "https"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("url: is no absolute URL, as http://shop.example/".to_owned());
    };
    if authority.as_str().contains('@') {
        return Err("url: leave user and password out".to_owned());
    }
    let method = match method {
        Some(method) => Method::from_bytes(method.as_bytes()).map_err(|_| "method: is none".to_owned())?,
        None => Method::GET,
    };
    // Clients leave out the port that is the scheme's own.
    let own_port = if uri.scheme_str() == Some("https") { ":443" } else { ":80" };
    let host = authority.as_str().strip_suffix(own_port).unwrap_or(authority.as_str());
    let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let mut request = Request::builder().method(method).uri(target).header(HOST, host);
    for field in fields {
        let (name, value) = field.split_once(':').ok_or("header: is written name: value")?;
        let name =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("header: {name:?} is no name"))?;
        if name == HOST {
            return Err("header: the host is the URL's".to_owned());
        }
        let value = HeaderValue::from_str(value.trim_matches([' ', '\t']))
            .map_err(|_| format!("header: the value of {name} has a control character"))?;
        request = request.header(name, value);
    }
    let (head, ()) = request.body(()).map_err(|error| error.to_string())?.into_parts();
    Ok(head)
}

/// A value as forms encode it.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.as_bytes();
    while let Some((first, rest)) = left.split_first() {
        left = rest;
        bytes.push(match first {
            b'+' => b' ',
            b'%' => {
                let (hex, rest) = left.split_at_checked(2)?;
                left = rest;
                let digit = |at: usize| char::from(*hex.get(at)?).to_digit(16);
                u8::try_from(digit(0)? << 4 | digit(1)?).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn tell(inspection: &Inspection, asked: &Asked, rules: &Rules) -> Value {
    let Inspection { route, key, tiers, verdict, reason } = inspection;
    let mut held = serde_json::Map::new();
    for tier in [Tier::Memory, Tier::Redis] {
        let found = tiers.iter().find(|(looked_at, _)| *looked_at == tier).map(|(_, found)| found);
        held.insert(
            tier.label().to_owned(),
            found.map_or_else(|| not_asked(tier, rules), |found| tell_found(found, asked.now)),
        );
    }
    json!({
        "request": {
            "method": asked.method().as_str(),
            "url": format!("{}://{}{}", Asked::SCHEME, asked.authority(), asked.target()),
        },
        "route": route.as_ref().map(|route| json!({
            "name": route.name,
            "host": route.host.to_string(),
            "path": route.path.to_string(),
            "upstream": rules.upstreams.get(route.upstream).map(|upstream| upstream.name.as_str()),
        })),
        "key": key.as_ref().map(|key| json!({
            "text": String::from_utf8_lossy(&key.text),
            "hash": format!("{:032x}", key.hash),
        })),
        "verdict": {
            "does": verdict.label(),
            "reason": reason.code(),
            "title": reason.title(),
            "fix": reason.fix(),
            "rule": rule(*reason),
        },
        "tiers": held,
    })
}

fn rule(reason: Reason) -> &'static str {
    if reason.rfc().is_empty() { "forebay" } else { reason.rfc() }
}

fn not_asked(tier: Tier, rules: &Rules) -> Value {
    let is_there = match tier {
        Tier::Memory => rules.memory.is_on(),
        Tier::Redis => rules.redis.is_some(),
    };
    json!({ "holds": if is_there { "not-asked" } else { "not-configured" } })
}

fn tell_found(found: &Found, now: UnixMillis) -> Value {
    let holds = match found {
        Found::Nothing => "nothing",
        Found::Purged => "purged",
        Found::NoVariant(_) => "no-variant",
        Found::HitForMiss => "hit-for-miss",
        Found::Response(_) | Found::Unreadable(_) => "response",
    };
    let mut told = json!({ "holds": holds });
    if let Some(index) = found.index() {
        told["variants"] = index.variants.len().into();
        let sets: Vec<Vec<&str>> =
            index.sets.iter().map(|set| set.iter().map(HeaderName::as_str).collect()).collect();
        told["vary"] = json!(sets);
    }
    if let Some(candidate) = found.candidate() {
        told["response"] = tell_response(candidate, now);
    }
    told
}

/// Lengths of time are seconds.
fn tell_response(candidate: &Candidate, now: UnixMillis) -> Value {
    let StoredResponse { head, body } = &*candidate.stored;
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let date = |at: UnixMillis| String::from_utf8_lossy(http_date::format(at).as_bytes()).into_owned();
    let traits: Vec<&str> =
        TRAITS.iter().filter(|(property, _)| head.traits.has(*property)).map(|(_, name)| *name).collect();
    let fields: Vec<[String; 2]> = head
        .fields
        .iter()
        .map(|(name, value)| [name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()])
        .collect();
    json!({
        "status": head.status.as_u16(),
        "bytes": body.length(),
        "received": date(head.received),
        "age": seconds(head.current_age(now)),
        "fresh_for": head.remaining(now) as f64 / 1000.0,
        "lifetime": seconds(head.lifetime),
        "stale_while_revalidate": seconds(head.stale_while_revalidate),
        "stale_if_error": seconds(head.stale_if_error),
        "forgotten_in": seconds(head.useless_at().since(now)),
        "cost": seconds(head.cost),
        "validity": match candidate.withdrawn.map(|withdrawn| withdrawn.reason) {
            None => "valid",
            Some(Reason::PurgesUnknown) => "unheard",
            Some(_) => "soft-purged",
        },
        "stale_since": candidate.withdrawn.map(|withdrawn| date(withdrawn.since)),
        "stamp": head.stamp.0,
        "purge_ids": head.ids.len(),
        "traits": traits,
        "part": head.part.map(|part| json!({ "first": part.first, "last": part.last, "complete": part.complete })),
        "fields": fields,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_query_describes_a_request() {
        let head = request(
            "url=http%3A%2F%2Fshop.example%3A80%2Fa%252f%3Fb%3Dc%26d&method=HEAD&header=accept%3A+text%2Fhtml&header=cookie:a=b",
        )
        .unwrap();
        assert_eq!(
            (&head.headers["host"], head.uri.to_string()),
            (&"shop.example".parse().unwrap(), "/a%2f?b=c&d".to_owned())
        );
        assert_eq!(head.method, Method::HEAD);
        assert_eq!(
            (&head.headers["accept"], &head.headers["cookie"]),
            (&"text/html".parse().unwrap(), &"a=b".parse().unwrap())
        );
        for (url, authority, target) in [
            ("https://shop.example:443", "shop.example", "/"),
            ("http://[::1]:8080/", "[::1]:8080", "/"),
            ("http://a?q", "a", "/?q"),
        ] {
            let head = request(&format!("url={url}")).unwrap();
            assert_eq!(
                (head.headers["host"].to_str().unwrap(), head.uri.to_string().as_str()),
                (authority, target),
                "{url}"
            );
        }
    }

    #[test]
    fn what_describes_none() {
        for (query, error) in [
            ("", "url: is missing: /explain?url=http://shop.example/"),
            ("url=/a", "url: is no absolute URL, as http://shop.example/"),
            ("url=ftp://a/", "url: is no absolute URL, as http://shop.example/"),
            ("url=http://u:p@a/", "url: leave user and password out"),
            ("url=http://a/%ff", "url: is not percent-encoded UTF-8"),
            ("url=http://a/%2", "url: is not percent-encoded UTF-8"),
            ("url=http://a/?b=c&d=e", "\"d\": is no parameter; an & inside the URL is written %26"),
            (
                "urls=http://a/",
                "\"urls\": is no parameter; did you mean \"url\"?; an & inside the URL is written %26",
            ),
            ("url=http://a/&url=http://b/", "url: is there twice; an & inside it is written %26"),
            ("url=http://a/&method=G%20T", "method: is none"),
            ("url=http://a/&header=a", "header: is written name: value"),
            ("url=http://a/&header=a%0ab:c", "header: \"a\\nb\" is no name"),
            ("url=http://a/&header=a:%0ab", "header: the value of a has a control character"),
            ("url=http://a/&header=host:b", "header: the host is the URL's"),
        ] {
            assert_eq!(request(query).unwrap_err(), error, "{query}");
        }
        let many = format!("url=http://a/{}", "&header=a:b".repeat(MAX_FIELDS + 1));
        assert_eq!(request(&many).unwrap_err(), "header: more than 100");
    }

    proptest! {
        #[test]
        fn nothing_panics(query in "(url=http://a)?[ -~]{0,60}", text in "\\PC{0,40}") {
            if let Ok(head) = request(&query) {
                prop_assert!(head.uri.to_string().starts_with('/'));
            }
            let _ = request(&text);
            let _ = request(&format!("url=http://a/{text}&header={text}&method={text}"));
        }
    }
}
