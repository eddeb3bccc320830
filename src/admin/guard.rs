//! Who may ask: the token, and what keeps a page in somebody's browser from asking in their place.
//!
//! Decides: whether a request is let in. Never touches: what it asks for.
//!
//! A listener on loopback without a token trusts whoever can reach it, and every web page that the
//! machine's user opens can reach it. Three rules keep such pages out: a name that could have been
//! pointed here by its owner (DNS rebinding) is no name of this listener; what another origin sends
//! is refused; and what changes anything must be JSON, which no form of a page can send and for
//! which a script of another origin would need a permission (CORS) that is never given.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName};

use crate::rules::settings::Secret;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request carries the configured token; compared without leaving early.
pub(super) fn has_token(headers: &HeaderMap, wanted: &Secret) -> bool {
    let given = headers.get(AUTHORIZATION).map(http::HeaderValue::as_bytes).unwrap_or_default();
    let (scheme, given) = given.split_at_checked(b"Bearer ".len()).unwrap_or_default();
    let wanted = wanted.expose().as_bytes();
    scheme.eq_ignore_ascii_case(b"Bearer ")
        && given.len() == wanted.len()
        && given.iter().zip(wanted).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

/// Why a request that a browser may have been made to send is refused; `None`: it is not.
///
/// `token`: it came with the token, which no page of another origin knows.
pub(super) fn foreign(headers: &HeaderMap, token: bool) -> Option<&'static str> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    if !token && host.is_some_and(|host| !is_own_name(host)) {
        return Some(
            "without a token this listener answers to addresses and to localhost alone, or any name pointed here \
             could speak for this machine's user; set admin.token to use another name",
        );
    }
    if headers.get(SEC_FETCH_SITE).is_some_and(|site| site != "same-origin" && site != "none") {
        return Some("requests of other sites' pages are refused");
    }
    let origin = headers.get(ORIGIN)?;
    let own =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    let same = own.zip(host).is_some_and(|(own, host)| own.eq_ignore_ascii_case(host));
    (!same).then_some("requests of other sites' pages are refused")
}

/// Whether the content is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// An address or `localhost`: names that nobody else can point here.
fn is_own_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    address.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn the_token_is_all_of_it() {
        let token = Secret::new("0123456789abcdef".to_owned());
        for (line, is) in [
            ("Bearer 0123456789abcdef", true),
            ("bearer 0123456789abcdef", true),
            ("Bearer 0123456789abcde", false),
            ("Bearer 0123456789abcdeff", false),
            ("Bearer 0123456789abcdeF", false),
            ("Basic 0123456789abcdef", false),
            ("Bearer", false),
            ("", false),
        ] {
            assert_eq!(has_token(&map(&[("authorization", line)]), &token), is, "{line}");
        }
        assert!(!has_token(&HeaderMap::new(), &token));
    }

    #[test]
    fn what_a_page_of_another_site_sends_is_refused() {
        let rows: &[(&[(&str, &str)], bool, bool)] = &[
            (&[], false, true),
            (&[("host", "127.0.0.1:9090")], false, true),
            (&[("host", "[::1]:9090")], false, true),
            (&[("host", "LOCALHOST:9090")], false, true),
            (&[("host", "admin.localhost.:9090")], false, true),
            (&[("host", "evil.example")], false, false),
            (&[("host", "localhost.evil.example:9090")], false, false),
            (&[("host", "127.0.0.1.evil.example")], false, false),
            (&[("host", "a b")], false, false),
            (&[("host", "admin.example")], true, true),
            (&[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1:9090")], false, true),
            (&[("host", "127.0.0.1:9090"), ("origin", "http://127.0.0.1:8080")], false, false),
            (&[("host", "127.0.0.1:9090"), ("origin", "null")], false, false),
            (&[("host", "admin.example"), ("origin", "https://evil.example")], true, false),
            (&[("host", "127.0.0.1:9090"), ("sec-fetch-site", "same-origin")], false, true),
            (&[("host", "127.0.0.1:9090"), ("sec-fetch-site", "none")], false, true),
            (&[("host", "127.0.0.1:9090"), ("sec-fetch-site", "cross-site")], false, false),
            (&[("host", "127.0.0.1:9090"), ("sec-fetch-site", "same-site")], false, false),
        ];
        for (lines, token, accepted) in rows {
            assert_eq!(foreign(&map(lines), *token).is_none(), *accepted, "{lines:?}");
        }
    }

    #[test]
    fn forms_cannot_say_that_they_are_json() {
        for (kind, is) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("text/plain", false),
            ("application/x-www-form-urlencoded", false),
            ("multipart/form-data; boundary=application/json", false),
            ("", false),
        ] {
            assert_eq!(is_json(&map(&[("content-type", kind)])), is, "{kind}");
        }
    }
}
