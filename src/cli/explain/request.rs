//! The request that is explained, from the arguments of the command line.
//!
//! Decides: what a client that was given this URL and these fields would send, and which arguments no
//! client could send. Never touches: what follows from it.

use std::str::FromStr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::semantics::fields;

/// Longer targets are refused on the wire as well.
const MAX_TARGET: usize = 64 << 10;

/// An absolute URL, in the parts that a request carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// It says `https`.
    pub(in crate::cli) tls: bool,
    /// Host and port, without the port that is the scheme's own, as clients leave it out.
    pub(in crate::cli) authority: String,
    /// Path and query, byte for byte; begins with `/`.
    pub(in crate::cli) target: String,
}

impl FromStr for Url {
    type Err = String;

    /// The errors are ends of a sentence that begins with the text.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > MAX_TARGET {
            return Err("it is longer than any request target".to_owned());
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("it has no scheme; did you mean \"http://{text}\"?"));
        };
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(format!("{scheme}:// is not served; use http:// or https://")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        if let Some(bad) = rest.chars().find(|c| !c.is_ascii_graphic()) {
            return Err(format!("{bad:?} cannot stand in a URL; it must be percent-encoded"));
        }
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err("leave user and password out; say -H 'Authorization: ...'".to_owned());
        }
        let own_port = if tls { ":443" } else { ":80" };
        let authority = authority.strip_suffix(own_port).unwrap_or(authority);
        if Authority::from_str(authority).is_err() {
            return Err(format!("{authority:?} is no host"));
        }
        let slash = if target.starts_with('/') { "" } else { "/" };
        Ok(Self { tls, authority: authority.to_owned(), target: format!("{slash}{target}") })
    }
}

/// One field of the request: `name: value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    pub(in crate::cli) name: HeaderName,
    pub(in crate::cli) value: HeaderValue,
}

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once(':') else {
            return Err("it has no colon; a field is written 'name: value'".to_owned());
        };
        let name = HeaderName::from_str(name).map_err(|_| format!("{name:?} is no field name"))?;
        let value = HeaderValue::from_bytes(fields::trim_ows(value.as_bytes()))
            .map_err(|_| format!("the value of {name} has a control character"))?;
        Ok(Self { name, value })
    }
}

/// A request as the proxy takes it: what ends at this hop is read and gone.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) method: Method,
    /// The URL says `https`.
    pub(super) tls: bool,
    /// `Host` as it is sent.
    pub(super) authority: String,
    pub(super) target: String,
    /// End-to-end fields.
    pub(super) headers: HeaderMap,
    pub(super) has_body: bool,
    pub(super) upgrade: bool,
}

impl Asked {
    /// TLS towards clients ends before forebay: every request it sees is one of `http`.
    pub(super) const SCHEME: &'static str = "http";

    /// # Errors
    /// What about the fields no request could be.
    pub(super) fn new(method: Method, url: &Url, given: &[Field]) -> Result<Self, String> {
        let mut headers = HeaderMap::new();
        for field in given {
            headers.append(field.name.clone(), field.value.clone());
        }
        let authority = match (headers.get_all(HOST).iter().count(), headers.get(HOST)) {
            (0, _) => url.authority.clone(),
            (1, Some(host)) => match host.to_str().ok().filter(|host| Authority::from_str(host).is_ok()) {
                Some(host) => host.to_owned(),
                None => return Err("-H: the value of host is no host".to_owned()),
            },
            _ => return Err("-H: host is given more than once".to_owned()),
        };
        headers
            .insert(HOST, HeaderValue::from_str(&authority).map_err(|_| "the URL's host is no field value")?);
        let length =
            fields::sole(&headers, &CONTENT_LENGTH).and_then(|value| fields::digits(value.as_bytes()));
        let has_body = headers.contains_key(TRANSFER_ENCODING) || length.is_some_and(|length| length > 0);
        let upgrade = headers.contains_key(UPGRADE) && fields::has_token(&headers, &CONNECTION, "upgrade");
        fields::remove_hop_by_hop(&mut headers);
        Ok(Self { method, tls: url.tls, authority, target: url.target.clone(), headers, has_body, upgrade })
    }

    /// The target without its query: what routes match.
    pub(super) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn urls() {
        for (text, authority, target) in [
            ("http://shop.example/a?b=c", "shop.example", "/a?b=c"),
            ("HTTP://Shop.example:80", "Shop.example", "/"),
            ("https://shop.example:443?q#f", "shop.example", "/?q"),
            ("http://shop.example:443/", "shop.example:443", "/"),
            ("http://[::1]:8080/a%41//../b", "[::1]:8080", "/a%41//../b"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.authority.as_str(), url.target.as_str()), (authority, target), "{text}");
        }
        for (text, error) in [
            ("shop.example/a", "it has no scheme; did you mean \"http://shop.example/a\"?"),
            ("ftp://a/", "ftp:// is not served; use http:// or https://"),
            ("http:///a", "\"\" is no host"),
            ("http://a b/", "' ' cannot stand in a URL; it must be percent-encoded"),
            ("http://a/\u{e9}", "'\u{e9}' cannot stand in a URL; it must be percent-encoded"),
            ("http://u:p@a/", "leave user and password out; say -H 'Authorization: ...'"),
            ("http://a:b:c/", "\"a:b:c\" is no host"),
        ] {
            assert_eq!(text.parse::<Url>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn fields_of_a_request() {
        let field: Field = "Accept:  a, b ".parse().unwrap();
        assert_eq!((field.name.as_str(), field.value.as_bytes()), ("accept", &b"a, b"[..]));
        for (text, error) in [
            ("accept", "it has no colon; a field is written 'name: value'"),
            ("a b: c", "\"a b\" is no field name"),
            (": c", "\"\" is no field name"),
            ("a: b\r\nc: d", "the value of a has a control character"),
        ] {
            assert_eq!(text.parse::<Field>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn what_the_proxy_takes() {
        let url: Url = "http://a.example/x?y".parse().unwrap();
        let asked = |lines: &[&str]| {
            let given: Vec<Field> = lines.iter().map(|line| line.parse().unwrap()).collect();
            Asked::new(Method::GET, &url, &given)
        };
        let plain = asked(&["connection: x-a", "x-a: 1", "x-b: 2"]).unwrap();
        assert_eq!((plain.path(), plain.authority.as_str()), ("/x", "a.example"));
        assert!(!plain.headers.contains_key("x-a") && plain.headers.contains_key("x-b"));
        assert!(!plain.has_body && !plain.upgrade);
        let other = asked(&["host: B.example:8080", "content-length: 3"]).unwrap();
        assert_eq!((other.authority.as_str(), other.has_body), ("B.example:8080", true));
        assert!(!asked(&["content-length: 0"]).unwrap().has_body);
        assert!(asked(&["transfer-encoding: chunked"]).unwrap().has_body);
        assert!(asked(&["upgrade: websocket", "connection: Upgrade"]).unwrap().upgrade);
        assert!(!asked(&["upgrade: websocket"]).unwrap().upgrade);
        assert_eq!(asked(&["host: a", "host: b"]).unwrap_err(), "-H: host is given more than once");
        assert_eq!(asked(&["host: a/b"]).unwrap_err(), "-H: the value of host is no host");
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(https?://)?\\PC{0,40}") {
            if let Ok(url) = text.parse::<Url>() {
                prop_assert!(url.target.starts_with('/') && url.target.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(Asked::new(Method::GET, &url, &[]).is_ok());
            }
            let _ = text.parse::<Field>();
        }
    }
}
