//! Where other servers are: the URLs of origins and of Redis.
//!
//! Decides: which texts name a server. Never touches: the network; a name is resolved when it is
//! used, so that a proxy starts while its DNS is down. Errors never repeat a Redis URL: it may hold
//! a password.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use crate::rules::settings::{RedisServer, Secret, UpstreamServer};

/// Reads one of `servers`: `http://host[:port]` or `https://host[:port]`.
pub(super) fn upstream_server(text: &str) -> Result<UpstreamServer, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} has no scheme; did you mean \"http://{text}\"?"));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(format!("{scheme}:// is not spoken to origins; use http:// or https://")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "{text:?} has a path; a server is an authority, and requests keep their own path"
        ));
    }
    if authority.contains('@') {
        return Err("a server is written without credentials".to_owned());
    }
    let (host, port) = host_port(authority, UpstreamServer::default_port(tls))?;
    Ok(UpstreamServer { tls, host, port })
}

/// A Redis server and how to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RedisUrl {
    pub(super) server: RedisServer,
    pub(super) database: u8,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

/// Reads `url` of `[redis]`: `redis://`, `rediss://` or `unix://`.
pub(super) fn redis_url(text: &str) -> Result<RedisUrl, String> {
    const FORM: &str = "redis://[user:password@]host[:port][/database]";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("not a URL; write {FORM}"));
    };
    let tls = match scheme {
        "redis" => false,
        "rediss" => true,
        "unix" => return unix_url(rest),
        _ => return Err(format!("{scheme:?} is not a scheme of Redis; use redis://, rediss:// or unix://")),
    };
    let (login, address) = match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    };
    let (authority, number) = match address.split_once('/') {
        Some((authority, number)) => (authority, number),
        None => (address, ""),
    };
    let (host, port) = host_port(authority, 6379)?;
    let (username, password) = login.map_or(Ok((None, None)), credentials)?;
    Ok(RedisUrl {
        server: RedisServer::Tcp { host, port, tls },
        database: database(number)?,
        username,
        password,
    })
}

/// `unix:///path[?db=N]`.
fn unix_url(rest: &str) -> Result<RedisUrl, String> {
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, query),
        None => (rest, "db=0"),
    };
    if !path.starts_with('/') || path.len() < 2 {
        return Err("a socket is written with its absolute path: unix:///run/redis.sock".to_owned());
    }
    let Some(number) = query.strip_prefix("db=") else {
        return Err("after ? only db=N is known".to_owned());
    };
    Ok(RedisUrl {
        server: RedisServer::Unix(PathBuf::from(path)),
        database: database(number)?,
        username: None,
        password: None,
    })
}

fn database(text: &str) -> Result<u8, String> {
    match text {
        "" => Ok(0),
        text => text.parse().map_err(|_| "the database is not a number from 0 to 255".to_owned()),
    }
}

fn credentials(login: &str) -> Result<(Option<String>, Option<Secret>), String> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (login, None),
    };
    let some = |text: &str| if text.is_empty() { Ok(None) } else { percent_decoded(text).map(Some) };
    Ok((some(user)?, password.map_or(Ok(None), some)?.map(Secret::new)))
}

/// Text without its percent-encoding (RFC 3986 2.1).
fn percent_decoded(text: &str) -> Result<String, String> {
    let wrong = || "user or password has a % that begins no percent-encoding; write %25".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut left = text.bytes();
    while let Some(byte) = left.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || left.next().and_then(|b| char::from(b).to_digit(16)).ok_or_else(wrong);
        let value = digit()? * 16 + digit()?;
        bytes.push(u8::try_from(value).map_err(|_| wrong())?);
    }
    String::from_utf8(bytes).map_err(|_| "user or password is not UTF-8".to_owned())
}

/// Reads `host[:port]`, an IPv6 address in brackets; the host comes back in lower case.
pub(super) fn host_port(authority: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 && port_digits(authority) => port,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let valid = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.len() <= 253
                && host.split('.').all(|label| {
                    !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                })
        }
    };
    if !valid {
        let hint = if authority.parse::<Ipv6Addr>().is_ok() {
            "; an IPv6 address is written in brackets"
        } else {
            ""
        };
        return Err(format!("the host is neither a name nor an address{hint}"));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// `parse` takes a plus sign for part of a number; a port has none.
fn port_digits(authority: &str) -> bool {
    authority.rsplit(':').next().is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins() {
        for (text, shown, port) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", 9000),
            ("https://Shop.example/", "https://shop.example", 443),
            ("HTTP://shop.example", "http://shop.example", 80),
            ("http://[::1]:9000", "http://[::1]:9000", 9000),
            ("http://[::1]", "http://[::1]", 80),
            ("http://a_b-c", "http://a_b-c", 80),
        ] {
            let server = upstream_server(text).unwrap();
            assert_eq!((server.to_string().as_str(), server.port), (shown, port), "{text}");
        }
        for (text, error) in [
            ("shop:9000", "\"shop:9000\" has no scheme; did you mean \"http://shop:9000\"?"),
            ("ftp://shop", "ftp:// is not spoken to origins; use http:// or https://"),
            (
                "http://shop/api",
                "\"http://shop/api\" has a path; a server is an authority, and requests keep their own path",
            ),
            ("http://user:pw@shop", "a server is written without credentials"),
            ("http://", "the host is missing"),
            ("http://:80", "the host is missing"),
            ("http://shop:0", "the port is not a number from 1 to 65535"),
            ("http://shop:", "the port is not a number from 1 to 65535"),
            ("http://shop:+80", "the port is not a number from 1 to 65535"),
            ("http://shop:99999", "the port is not a number from 1 to 65535"),
            ("http://a b", "the host is neither a name nor an address"),
            ("http://a..b", "the host is neither a name nor an address"),
            ("http://[::g]", "the host is neither a name nor an address"),
            (
                "http://fe80::1",
                "the host is neither a name nor an address; an IPv6 address is written in brackets",
            ),
        ] {
            assert_eq!(upstream_server(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn redis_urls() {
        let tcp = |host: &str, port, tls| RedisServer::Tcp { host: host.to_owned(), port, tls };
        for (text, server, database, username, password) in [
            ("redis://127.0.0.1:6379/0", tcp("127.0.0.1", 6379, false), 0, None, None),
            ("redis://cache", tcp("cache", 6379, false), 0, None, None),
            ("redis://cache/", tcp("cache", 6379, false), 0, None, None),
            ("rediss://cache:6380/3", tcp("cache", 6380, true), 3, None, None),
            ("redis://:pw@cache", tcp("cache", 6379, false), 0, None, Some("pw")),
            ("redis://user:p%40w%2f%25@cache/1", tcp("cache", 6379, false), 1, Some("user"), Some("p@w/%")),
            ("redis://user:a@b@cache", tcp("cache", 6379, false), 0, Some("user"), Some("a@b")),
            ("redis://[::1]:6379", tcp("[::1]", 6379, false), 0, None, None),
            ("unix:///run/redis.sock", RedisServer::Unix("/run/redis.sock".into()), 0, None, None),
            ("unix:///run/redis.sock?db=2", RedisServer::Unix("/run/redis.sock".into()), 2, None, None),
        ] {
            let expected = RedisUrl {
                server,
                database,
                username: username.map(str::to_owned),
                password: password.map(|p: &str| Secret::new(p.to_owned())),
            };
            assert_eq!(redis_url(text), Ok(expected), "{text}");
        }
        for (text, error) in [
            ("", "not a URL; write redis://[user:password@]host[:port][/database]"),
            ("localhost:6379", "not a URL; write redis://[user:password@]host[:port][/database]"),
            ("http://cache", "\"http\" is not a scheme of Redis; use redis://, rediss:// or unix://"),
            ("redis://", "the host is missing"),
            ("redis://cache:x", "the port is not a number from 1 to 65535"),
            ("redis://cache/x", "the database is not a number from 0 to 255"),
            ("redis://u:%4@cache", "user or password has a % that begins no percent-encoding; write %25"),
            ("redis://u:%ff@cache", "user or password is not UTF-8"),
            ("unix://run/redis.sock", "a socket is written with its absolute path: unix:///run/redis.sock"),
            ("unix:///run/redis.sock?x=1", "after ? only db=N is known"),
        ] {
            assert_eq!(redis_url(text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_error_tells_a_password(text in "\\PC{0,40}") {
            let _ = upstream_server(&text);
            let _ = redis_url(&text);
            if let Err(error) = redis_url(&format!("redis://user:s3cr3t%{text}@cache:x")) {
                prop_assert!(!error.contains("s3cr3t"));
            }
        }
    }
}
