//! Where Redis is, in all the ways in which people run it.
//!
//! Decides: which texts name a Redis, and how to log in. Never touches: the network, or files. Errors
//! never repeat a URL: it may hold a password.

use std::path::PathBuf;

use super::endpoint::host_port;
use super::problem::nearest;
use crate::rules::settings::{RedisServer, Secret};

/// Where Redis is and how to log in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RedisUrl {
    pub(super) server: RedisServer,
    pub(super) database: u8,
    pub(super) username: Option<String>,
    pub(super) password: Option<Secret>,
}

const SCHEMES: [&str; 7] =
    ["redis", "rediss", "redis-cluster", "rediss-cluster", "redis-sentinel", "rediss-sentinel", "unix"];
const ALL_SCHEMES: &str =
    "redis://, redis-cluster://, redis-sentinel://, their TLS forms (rediss…) or unix://";
const REDIS: u16 = 6379;
const SENTINEL: u16 = 26379;

/// Reads `url` of `[redis]`. Every form takes `user:password@` before the address, percent-encoded where
/// they hold one of `@ : / ? # %`, and every form but the cluster's the number of a database:
///
/// | form | TLS | what it is |
/// |---|---|---|
/// | `redis://host:port/0` | `rediss://` | one server |
/// | `redis-cluster://host:port,host:port` | `rediss-cluster://` | a cluster, found through any of these |
/// | `redis-sentinel://host:port,host:port/service?db=0` | `rediss-sentinel://` | whom these sentinels call the master |
/// | `unix:///path?db=0` | | one server on this machine |
pub(super) fn redis_url(text: &str) -> Result<RedisUrl, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err("not a URL; write redis://[user:password@]host[:port][/database]".to_owned());
    };
    match scheme {
        "redis" | "rediss" => one(rest, scheme == "rediss"),
        "redis-cluster" | "rediss-cluster" => cluster(rest, scheme == "rediss-cluster"),
        "redis-sentinel" | "rediss-sentinel" => sentinel(rest, scheme == "rediss-sentinel"),
        "unix" => unix(rest),
        _ => Err(match meant(scheme) {
            Some(meant) => format!("{scheme:?} is not a scheme of Redis; did you mean {meant}://?"),
            None => format!("{scheme:?} is not a scheme of Redis; use {ALL_SCHEMES}"),
        }),
    }
}

/// `[user:password@]host[:port][/database]`.
fn one(rest: &str, tls: bool) -> Result<RedisUrl, String> {
    let (login, address) = split_login(rest);
    let (authority, number) = address.split_once('/').unwrap_or((address, ""));
    if authority.contains(',') {
        let s = if tls { "s" } else { "" };
        return Err(format!(
            "several servers are written redis{s}-cluster:// or redis{s}-sentinel://, whichever they are"
        ));
    }
    let (host, port) = host_port(authority, REDIS)?;
    let (username, password) = credentials(login)?;
    Ok(RedisUrl {
        server: RedisServer::Tcp { host, port, tls },
        database: database(number)?,
        username,
        password,
    })
}

/// `[user:password@]host[:port],host[:port]`; a cluster has database 0 alone.
fn cluster(rest: &str, tls: bool) -> Result<RedisUrl, String> {
    let (login, address) = split_login(rest);
    let (authorities, number) = address.split_once('/').unwrap_or((address, ""));
    let nodes = nodes(authorities, REDIS)?;
    if database(number)? != 0 {
        return Err("a cluster has database 0 alone".to_owned());
    }
    let (username, password) = credentials(login)?;
    Ok(RedisUrl { server: RedisServer::Cluster { nodes, tls }, database: 0, username, password })
}

/// `[user:password@]host[:port],host[:port]/service[?db=N&sentinel_user=U&sentinel_password=P]`.
fn sentinel(rest: &str, tls: bool) -> Result<RedisUrl, String> {
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (login, address) = split_login(rest);
    let (authorities, service) = address.split_once('/').unwrap_or((address, ""));
    let sentinels = nodes(authorities, SENTINEL)?;
    if service.is_empty() || service.contains('/') {
        return Err(
            "the service is missing: redis-sentinel://host:port,host:port/service, as the sentinels call it"
                .to_owned(),
        );
    }
    let mut number = 0;
    let (mut sentinel_username, mut sentinel_password) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("db", value)) => number = database(value)?,
            Some(("sentinel_user", value)) => sentinel_username = some(value)?,
            Some(("sentinel_password", value)) => sentinel_password = some(value)?.map(Secret::new),
            _ => return Err("after ? only db, sentinel_user and sentinel_password are known".to_owned()),
        }
    }
    if sentinel_username.is_some() && sentinel_password.is_none() {
        return Err("sentinel_user needs sentinel_password".to_owned());
    }
    let (username, password) = credentials(login)?;
    let service = percent_decoded(service, "the service")?;
    let server = RedisServer::Sentinel { sentinels, service, tls, sentinel_username, sentinel_password };
    Ok(RedisUrl { server, database: number, username, password })
}

/// `[user:password@]/path[?db=N]`.
fn unix(rest: &str) -> Result<RedisUrl, String> {
    // A path may hold an @ itself; a login ends where the path begins.
    let (login, rest) = match rest.find("@/") {
        Some(at) if !rest.starts_with('/') => (rest.get(..at), rest.get(at + 1..).unwrap_or_default()),
        _ => (None, rest),
    };
    let (path, query) = rest.split_once('?').unwrap_or((rest, "db=0"));
    if !path.starts_with('/') || path.len() < 2 {
        return Err("a socket is written with its absolute path: unix:///run/redis.sock".to_owned());
    }
    let Some(number) = query.strip_prefix("db=") else {
        return Err("after ? only db=N is known".to_owned());
    };
    let (username, password) = credentials(login)?;
    Ok(RedisUrl {
        server: RedisServer::Unix(PathBuf::from(path)),
        database: database(number)?,
        username,
        password,
    })
}

/// The scheme that was probably meant: other clients spell the same things in other ways.
fn meant(scheme: &str) -> Option<&'static str> {
    let scheme = scheme.to_ascii_lowercase().replace(['+', '_', '.'], "-").replace("valkey", "redis");
    let tls = scheme.contains("rediss") || scheme.contains("tls") || scheme.contains("ssl");
    if scheme.contains("cluster") {
        return Some(if tls { "rediss-cluster" } else { "redis-cluster" });
    }
    if scheme.contains("sentinel") {
        return Some(if tls { "rediss-sentinel" } else { "redis-sentinel" });
    }
    if scheme.contains("unix") || scheme.contains("socket") {
        return Some("unix");
    }
    if tls && scheme.contains("redis") {
        return Some("rediss");
    }
    nearest(&scheme, SCHEMES)
}

fn split_login(rest: &str) -> (Option<&str>, &str) {
    match rest.rsplit_once('@') {
        Some((login, address)) => (Some(login), address),
        None => (None, rest),
    }
}

fn nodes(authorities: &str, default_port: u16) -> Result<Vec<(String, u16)>, String> {
    authorities.split(',').map(|authority| host_port(authority, default_port)).collect()
}

fn database(text: &str) -> Result<u8, String> {
    match text {
        "" => Ok(0),
        text if text.bytes().all(|b| b.is_ascii_digit()) => {
            text.parse().map_err(|_| "the database is not a number from 0 to 255".to_owned())
        }
        _ => Err("the database is not a number from 0 to 255".to_owned()),
    }
}

fn credentials(login: Option<&str>) -> Result<(Option<String>, Option<Secret>), String> {
    let Some(login) = login else { return Ok((None, None)) };
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let (user, password) = (some(user)?, some(password)?);
    // The protocol has no login without a password: it would silently be none at all.
    if user.is_some() && password.is_none() {
        return Err("the user has no password; write user:password@".to_owned());
    }
    Ok((user, password.map(Secret::new)))
}

fn some(text: &str) -> Result<Option<String>, String> {
    if text.is_empty() { Ok(None) } else { percent_decoded(text, "user or password").map(Some) }
}

/// Text without its percent-encoding (RFC 3986 2.1).
fn percent_decoded(text: &str, what: &str) -> Result<String, String> {
    let wrong = || format!("{what} has a % that begins no percent-encoding; write %25");
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
    String::from_utf8(bytes).map_err(|_| format!("{what} is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> RedisServer {
        RedisServer::Tcp { host: host.to_owned(), port, tls }
    }

    fn cluster_of(nodes: &[(&str, u16)], tls: bool) -> RedisServer {
        RedisServer::Cluster { nodes: owned(nodes), tls }
    }

    fn sentinel_of(nodes: &[(&str, u16)], service: &str, tls: bool) -> RedisServer {
        RedisServer::Sentinel {
            sentinels: owned(nodes),
            service: service.to_owned(),
            tls,
            sentinel_username: None,
            sentinel_password: None,
        }
    }

    fn owned(nodes: &[(&str, u16)]) -> Vec<(String, u16)> {
        nodes.iter().map(|(host, port)| ((*host).to_owned(), *port)).collect()
    }

    #[test]
    fn forms() {
        for (text, server, database, username, password) in [
            ("redis://127.0.0.1:6379/0", tcp("127.0.0.1", 6379, false), 0, None, None),
            ("redis://cache", tcp("cache", 6379, false), 0, None, None),
            ("redis://cache/", tcp("cache", 6379, false), 0, None, None),
            ("rediss://cache:6380/3", tcp("cache", 6380, true), 3, None, None),
            ("redis://:pw@cache", tcp("cache", 6379, false), 0, None, Some("pw")),
            ("redis://user:p%40w%2f%25@cache/1", tcp("cache", 6379, false), 1, Some("user"), Some("p@w/%")),
            ("redis://user:a@b@cache", tcp("cache", 6379, false), 0, Some("user"), Some("a@b")),
            ("redis://user:a:b@cache", tcp("cache", 6379, false), 0, Some("user"), Some("a:b")),
            ("redis://[::1]:6379", tcp("[::1]", 6379, false), 0, None, None),
            ("redis-cluster://a:1,b:2", cluster_of(&[("a", 1), ("b", 2)], false), 0, None, None),
            ("redis-cluster://a,B/", cluster_of(&[("a", 6379), ("b", 6379)], false), 0, None, None),
            (
                "rediss-cluster://u:p%2Cw@a,[::1]:2/0",
                cluster_of(&[("a", 6379), ("[::1]", 2)], true),
                0,
                Some("u"),
                Some("p,w"),
            ),
            (
                "redis-sentinel://a:1,b/mymaster",
                sentinel_of(&[("a", 1), ("b", 26379)], "mymaster", false),
                0,
                None,
                None,
            ),
            (
                "rediss-sentinel://u:p@a/my%2Fmaster?db=4",
                sentinel_of(&[("a", 26379)], "my/master", true),
                4,
                Some("u"),
                Some("p"),
            ),
            ("unix:///run/redis.sock", RedisServer::Unix("/run/redis.sock".into()), 0, None, None),
            ("unix:///run/redis.sock?db=2", RedisServer::Unix("/run/redis.sock".into()), 2, None, None),
            ("unix:///run/a@/b.sock", RedisServer::Unix("/run/a@/b.sock".into()), 0, None, None),
            (
                "unix://u:p%2f@/run/redis.sock?db=1",
                RedisServer::Unix("/run/redis.sock".into()),
                1,
                Some("u"),
                Some("p/"),
            ),
        ] {
            let expected = RedisUrl {
                server,
                database,
                username: username.map(str::to_owned),
                password: password.map(|p: &str| Secret::new(p.to_owned())),
            };
            assert_eq!(redis_url(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn sentinels_have_a_login_of_their_own() {
        let url =
            redis_url("redis-sentinel://u:p@a/m?sentinel_user=s%3a&db=1&sentinel_password=t%26").unwrap();
        let RedisServer::Sentinel { sentinel_username, sentinel_password, .. } = url.server else {
            panic!("sentinels")
        };
        assert_eq!((sentinel_username.as_deref(), url.database), (Some("s:"), 1));
        assert_eq!(sentinel_password.unwrap().expose(), "t&");
        assert_eq!((url.username.as_deref(), url.password.unwrap().expose()), (Some("u"), "p"));
    }

    #[test]
    fn what_is_wrong() {
        const ONE: &str = "not a URL; write redis://[user:password@]host[:port][/database]";
        const SERVICE: &str =
            "the service is missing: redis-sentinel://host:port,host:port/service, as the sentinels call it";
        for (text, error) in [
            ("", ONE),
            ("localhost:6379", ONE),
            ("redis://", "the host is missing"),
            ("redis://cache:x", "the port is not a number from 1 to 65535"),
            ("redis://cache/x", "the database is not a number from 0 to 255"),
            ("redis://cache/+1", "the database is not a number from 0 to 255"),
            ("redis://cache/256", "the database is not a number from 0 to 255"),
            ("redis://u:%4@cache", "user or password has a % that begins no percent-encoding; write %25"),
            ("redis://u:%ff@cache", "user or password is not UTF-8"),
            ("redis://user@cache", "the user has no password; write user:password@"),
            (
                "redis://a:1,b:2",
                "several servers are written redis-cluster:// or redis-sentinel://, whichever they are",
            ),
            (
                "rediss://a:1,b:2/0",
                "several servers are written rediss-cluster:// or rediss-sentinel://, whichever they are",
            ),
            ("redis-cluster://", "the host is missing"),
            ("redis-cluster://a:1,", "the host is missing"),
            ("redis-cluster://a:1,b:0", "the port is not a number from 1 to 65535"),
            ("redis-cluster://a/1", "a cluster has database 0 alone"),
            ("redis-sentinel://a:1", SERVICE),
            ("redis-sentinel://a:1/", SERVICE),
            ("redis-sentinel://a:1/m/0", SERVICE),
            ("redis-sentinel:///m", "the host is missing"),
            (
                "redis-sentinel://a/m?database=1",
                "after ? only db, sentinel_user and sentinel_password are known",
            ),
            ("redis-sentinel://a/m?sentinel_user=s", "sentinel_user needs sentinel_password"),
            ("unix://run/redis.sock", "a socket is written with its absolute path: unix:///run/redis.sock"),
            ("unix:///run/redis.sock?x=1", "after ? only db=N is known"),
        ] {
            assert_eq!(redis_url(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn a_misspelt_scheme_is_told_the_nearest() {
        for (scheme, nearest) in [
            ("REDIS", "redis"),
            ("reddis", "redis"),
            ("valkey", "redis"),
            ("valkeys", "rediss"),
            ("redis+tls", "rediss"),
            ("redis+ssl", "rediss"),
            ("rediss+cluster", "rediss-cluster"),
            ("redis_cluster", "redis-cluster"),
            ("cluster", "redis-cluster"),
            ("sentinel", "redis-sentinel"),
            ("redis+sentinel", "redis-sentinel"),
            ("rediss+sentinel", "rediss-sentinel"),
            ("redis-socket", "unix"),
            ("unixs", "unix"),
        ] {
            assert_eq!(
                redis_url(&format!("{scheme}://a:1/b")).unwrap_err(),
                format!("{scheme:?} is not a scheme of Redis; did you mean {nearest}://?")
            );
        }
        assert_eq!(
            redis_url("http://cache").unwrap_err(),
            "\"http\" is not a scheme of Redis; use redis://, redis-cluster://, redis-sentinel://, \
             their TLS forms (rediss…) or unix://"
        );
    }

    proptest! {
        #[test]
        fn no_text_panics_and_no_error_tells_a_password(text in "\\PC{0,40}") {
            let _ = redis_url(&text);
            for scheme in SCHEMES {
                let _ = redis_url(&format!("{scheme}://{text}"));
                for wrong in [format!("{scheme}://user:s3cr3t%{text}@cache:x"), format!("{scheme}://u:s3cr3t@{text}")] {
                    if let Err(error) = redis_url(&wrong) {
                        prop_assert!(!error.contains("s3cr3t"));
                    }
                }
            }
        }
    }
}
