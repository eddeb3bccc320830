//! `[server]`, `[admin]`, `[memory]` and `[redis]`: what a process is made of.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use toml::de::DeTable;

use crate::config::read::{At, Reading};
use crate::config::redis_url::redis_url;
use crate::config::schema;
use crate::config::value::{boolean, duration, number, size, text_as};
use crate::rules::settings::{AdminSettings, MemorySettings, RedisSettings, Secret, ServerSettings};

const MILLISECOND: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const KIB: u64 = 1 << 10;
const GIB: u64 = 1 << 30;
/// More than any machine has; keeps sums of sizes far from overflow.
const MOST: u64 = 16 << 40;

pub(super) fn server(r: &mut Reading<'_>, root: &DeTable<'_>) -> Option<At<ServerSettings>> {
    let s = r.table(root, "server", &[schema::SERVER])?;
    let listen = r.list(&s, "listen", text_as(socket_address));
    let workers = r.get(&s, "workers", number(0..=1024));
    let name = r.get(&s, "name", text_as(token));
    let trusted_proxies = r.list(&s, "trusted_proxies", text_as(network));
    let max_connections = r.get(&s, "max_connections", number(1..=10_000_000));
    let header_timeout = r.get(&s, "header_timeout", duration(MILLISECOND..=HOUR));
    let idle_timeout = r.get(&s, "idle_timeout", duration(MILLISECOND..=HOUR * 24));
    let drain_timeout = r.get(&s, "drain_timeout", duration(Duration::ZERO..=HOUR * 24));
    // A target alone may take 8 KiB.
    let max_header_size = r.get(&s, "max_header_size", size(8 * KIB..=KIB * KIB));
    let max_request_body = r.get(&s, "max_request_body", size(0..=MOST));
    let x_cache = r.get(&s, "x_cache", boolean);
    let purge_from = r.list(&s, "purge_from", text_as(network));

    if let Some(listen) = &listen {
        if listen.value.is_empty() {
            r.error(listen, "at least one address is needed");
        }
        for (n, address) in listen.value.iter().enumerate() {
            let earlier = listen.value.iter().take(n);
            if address.value.port() != 0 && earlier.into_iter().any(|e| e.value == address.value) {
                r.error(address, format!("{} is there twice", address.value));
            }
        }
    }
    for network in trusted_proxies.iter().flat_map(|list| &list.value) {
        if network.value.prefix_len() == 0 {
            r.warning(network, format!("{} trusts every client to say who it is", network.value));
        }
    }
    for network in purge_from.iter().flat_map(|list| &list.value) {
        if network.value.prefix_len() == 0 {
            r.warning(network, format!("{} lets every client purge", network.value));
        }
    }
    let listen = listen?;
    Some(At {
        span: listen.span,
        key: listen.key,
        given: listen.given,
        value: ServerSettings {
            listen: values(listen.value),
            workers: workers?.value,
            name: name?.value,
            trusted_proxies: values(trusted_proxies?.value),
            max_connections: max_connections?.value,
            header_timeout: header_timeout?.value,
            idle_timeout: idle_timeout?.value,
            drain_timeout: drain_timeout?.value,
            max_header_size: usize::try_from(max_header_size?.value).ok()?,
            max_request_body: max_request_body?.value,
            x_cache: x_cache?.value,
            purge_from: values(purge_from?.value),
        },
    })
}

pub(super) fn admin(
    r: &mut Reading<'_>,
    root: &DeTable<'_>,
    server: Option<&At<ServerSettings>>,
) -> Option<Option<AdminSettings>> {
    let s = r.table(root, "admin", &[schema::ADMIN])?;
    let listen =
        r.get(&s, "listen", text_as(|t| if t == "off" { Ok(None) } else { socket_address(t).map(Some) }));
    let token = r.optional(&s, "token", text_as(bearer));
    let (listen, token) = (listen?, token?);
    let Some(address) = listen.value else { return Some(None) };
    let taken = server.into_iter().flat_map(|s| &s.value.listen).find(|public| overlap(**public, address));
    if let Some(public) = taken {
        r.error(
            &listen,
            format!("{address} is the public listener's ({public}); the admin listener has its own"),
        );
        return None;
    }
    if !address.ip().is_loopback() && token.is_none() {
        r.error(
            &listen,
            format!("{address} can be reached from elsewhere, so that a token is needed: admin.token"),
        );
        return None;
    }
    if let Some(token) = token.as_ref().filter(|t| t.value.len() < 16) {
        r.warning(token, "a token of less than 16 characters can be guessed");
    }
    Some(Some(AdminSettings { listen: address, token: token.map(|t| Secret::new(t.value)) }))
}

pub(super) fn memory(r: &mut Reading<'_>, root: &DeTable<'_>) -> Option<MemorySettings> {
    let s = r.table(root, "memory", &[schema::MEMORY])?;
    let max_size = r.get(&s, "max_size", size(0..=MOST));
    let object = r.get(&s, "max_object_size", size(1..=GIB));
    let (max_size, object) = (max_size?, object?);
    let mut max_object_size = object.value;
    if max_size.value > 0 && object.value > max_size.value {
        if object.given {
            r.error(&object, "is more than memory.max_size, the whole tier");
            return None;
        }
        max_object_size = max_size.value;
    }
    if max_size.value == 0 && object.given {
        r.warning(&object, "has no effect: memory.max_size turns this tier off");
    }
    Some(MemorySettings { max_size: max_size.value, max_object_size })
}

pub(super) fn redis(r: &mut Reading<'_>, root: &DeTable<'_>) -> Option<Option<RedisSettings>> {
    let s = r.table(root, "redis", &[schema::REDIS])?;
    if !root.contains_key("redis") {
        return Some(None);
    }
    let url = r.get(&s, "url", text_as(redis_url));
    let ca = r.optional(&s, "ca", text_as(absolute_path));
    let prefix = r.get(&s, "prefix", text_as(key_prefix));
    let second = Duration::from_secs(1);
    let read_timeout = r.get(&s, "read_timeout", duration(MILLISECOND..=second * 10));
    let write_timeout = r.get(&s, "write_timeout", duration(MILLISECOND..=second * 60));
    let max_object_size = r.get(&s, "max_object_size", size(1..=GIB));
    let compress_above = r.get(&s, "compress_above", size(0..=GIB));
    let lock_ttl = r.get(&s, "lock_ttl", duration(Duration::from_millis(100)..=second * 600));
    if let (Some(lock), Some(write)) = (&lock_ttl, &write_timeout)
        && lock.value < write.value * 2
    {
        r.error(lock, "must be at least twice redis.write_timeout, or the lock runs out while it is renewed");
    }
    let purge_grace = r.get(&s, "purge_grace", duration(Duration::ZERO..=second * 3600));
    let (url, ca) = (url?.value, ca?);
    if let Some(ca) = ca.as_ref().filter(|_| !url.server.tls()) {
        // Whoever names an authority believes that TLS is spoken, passwords and all.
        r.error(ca, "is for TLS, which redis.url does not speak: rediss://, rediss-cluster:// or rediss-sentinel:// do");
        return None;
    }
    Some(Some(RedisSettings {
        server: url.server,
        ca: ca.map(|ca| ca.value),
        database: url.database,
        username: url.username,
        password: url.password,
        prefix: prefix?.value,
        read_timeout: read_timeout?.value,
        write_timeout: write_timeout?.value,
        max_object_size: max_object_size?.value,
        compress_above: compress_above?.value,
        lock_ttl: lock_ttl?.value,
        purge_grace: purge_grace?.value,
    }))
}

fn values<T>(list: Vec<At<T>>) -> Vec<T> {
    list.into_iter().map(|at| at.value).collect()
}

/// Whether two listeners would take each other's connections.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let all = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || all(one) || all(other))
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let port = text.strip_prefix(':').unwrap_or(text);
        if port.parse::<u16>().is_ok() {
            return format!(
                "{text:?} has no address; did you mean \"127.0.0.1:{port}\" or \"0.0.0.0:{port}\"?"
            );
        }
        if text.parse::<IpAddr>().is_ok() {
            return format!("{text:?} has no port");
        }
        match text.strip_prefix("localhost:") {
            Some(port) => format!("{text:?} is a name, not an address; did you mean \"127.0.0.1:{port}\"?"),
            None => {
                format!("{text:?} is not an address and port such as \"127.0.0.1:8080\" or \"[::]:8080\"")
            }
        }
    })
}

fn network(text: &str) -> Result<IpNet, String> {
    let single = text.parse::<IpAddr>().map(IpNet::from);
    let network = single.or_else(|_| text.parse::<IpNet>());
    network.map_err(|_| format!("{text:?} is not a network such as \"10.0.0.0/8\" or \"fd00::/8\""))
}

/// What is a token both of structured fields (RFC 8941 3.3.4) and of HTTP (RFC 9110 5.6.2).
fn token(text: &str) -> Result<String, String> {
    let valid = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if valid {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is not a token: a letter, then letters, digits and -._~ up to 64 in all"))
}

/// Never repeats what was written: it is a secret.
fn bearer(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty: anybody would be let in".to_owned());
    }
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err("has a character that no Authorization field can carry: visible ASCII only".to_owned());
    }
    Ok(text.to_owned())
}

/// A file that is the same wherever the process was started.
fn absolute_path(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() {
        return Ok(path);
    }
    Err(format!("{text:?} is not an absolute path such as \"/etc/forebay/redis-ca.pem\""))
}

/// `{` and `}` are kept out because a Redis Cluster reads them.
fn key_prefix(text: &str) -> Result<String, String> {
    let valid = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/'));
    if valid {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no prefix: 1 to 64 letters, digits and - _ . : /"))
}
