//! The settings of a process and its origins, resolved: plain data in units.
//!
//! Decides nothing. Never touches: how any of it is written in a file.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `[server]`: the public listeners and the limits on their clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// Addresses to listen on; at least one.
    pub listen: Vec<SocketAddr>,
    /// Event loops; 0 = one per core.
    pub workers: usize,
    /// Our token in `Cache-Status` (RFC 9211 2) and `Via` (RFC 9110 7.6.3).
    pub name: String,
    /// Whose `X-Forwarded-*` and `Forwarded` are kept; everybody else's are replaced.
    pub trusted_proxies: Vec<IpNet>,
    /// Client connections open at once, in all.
    pub max_connections: usize,
    /// Time to read one request head.
    pub header_timeout: Duration,
    /// How long an idle connection is kept.
    pub idle_timeout: Duration,
    /// How long a drain waits for requests under way.
    pub drain_timeout: Duration,
    /// Largest request head, in bytes.
    pub max_header_size: usize,
    /// Largest request body, in bytes.
    pub max_request_body: u64,
    /// Whether answers carry `X-Cache` beside `Cache-Status`.
    pub x_cache: bool,
    /// Who may send PURGE to the public listener.
    pub purge_from: Vec<IpNet>,
}

/// `[admin]`: the listener for metrics, health and invalidation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminSettings {
    /// Address to listen on; never one of [`ServerSettings::listen`].
    pub listen: SocketAddr,
    /// Bearer token; always there when `listen` is not a loopback address.
    pub token: Option<Secret>,
}

/// `[memory]`: the tier in the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes really held; 0 turns the tier off.
    pub max_size: u64,
    /// Largest body held, in bytes; never more than `max_size`.
    pub max_object_size: u64,
}

impl MemorySettings {
    /// Whether there is a memory tier at all.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        self.max_size > 0
    }
}

/// `[redis]`: the fleet's tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedisSettings {
    /// Where it is.
    pub server: RedisServer,
    /// File of the certificates that TLS trusts; `None`: what the system trusts.
    pub ca: Option<PathBuf>,
    /// Database number.
    pub database: u8,
    /// ACL user.
    pub username: Option<String>,
    /// Password.
    pub password: Option<Secret>,
    /// Beginning of every key; no key is ever written without it.
    pub prefix: String,
    /// Budget of one read.
    pub read_timeout: Duration,
    /// Budget of one write or script.
    pub write_timeout: Duration,
    /// Largest body stored, in bytes.
    pub max_object_size: u64,
    /// Bodies from this size on are compressed, in bytes.
    pub compress_above: u64,
    /// Life of the fleet lock between renewals.
    pub lock_ttl: Duration,
    /// How long the memory tier trusts what it fetched while the fleet's purges cannot be read.
    pub purge_grace: Duration,
}

impl RedisSettings {
    /// The URL without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> String {
        let scheme = if self.server.tls() { "rediss" } else { "redis" };
        let database = self.database;
        let list = |nodes: &[(String, u16)]| {
            let nodes: Vec<String> = nodes.iter().map(|(host, port)| format!("{host}:{port}")).collect();
            nodes.join(",")
        };
        match &self.server {
            RedisServer::Tcp { host, port, .. } => format!("{scheme}://{host}:{port}/{database}"),
            RedisServer::Cluster { nodes, .. } => format!("{scheme}-cluster://{}", list(nodes)),
            RedisServer::Sentinel { sentinels, service, .. } => {
                format!("{scheme}-sentinel://{}/{service}?db={database}", list(sentinels))
            }
            RedisServer::Unix(path) => format!("unix://{}?db={database}", path.display()),
        }
    }
}

/// Where Redis is, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RedisServer {
    /// `redis://` or, with TLS, `rediss://`.
    Tcp {
        /// Name or IP address; an IPv6 address in brackets.
        host: String,
        /// Port.
        port: u16,
        /// TLS.
        tls: bool,
    },
    /// `redis-cluster://` or, with TLS, `rediss-cluster://`.
    Cluster {
        /// Some of its nodes, at least one, hosts as above; they name the others.
        nodes: Vec<(String, u16)>,
        /// TLS, to all of them.
        tls: bool,
    },
    /// `redis-sentinel://` or, with TLS, `rediss-sentinel://`: a server that sentinels name.
    Sentinel {
        /// Some of the sentinels, at least one, hosts as above.
        sentinels: Vec<(String, u16)>,
        /// What they call the server.
        service: String,
        /// TLS, to sentinels and servers.
        tls: bool,
        /// ACL user at the sentinels.
        sentinel_username: Option<String>,
        /// Password at the sentinels.
        sentinel_password: Option<Secret>,
    },
    /// `unix://`, a socket in the file system.
    Unix(PathBuf),
}

impl RedisServer {
    /// Whether TLS is spoken.
    #[must_use]
    pub const fn tls(&self) -> bool {
        match self {
            Self::Tcp { tls, .. } | Self::Cluster { tls, .. } | Self::Sentinel { tls, .. } => *tls,
            Self::Unix(_) => false,
        }
    }
}

/// `[upstream.NAME]`: one origin, on one server or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The name routes call it by: a metric label.
    pub name: String,
    /// Its servers, at least one, balanced.
    pub servers: Vec<UpstreamServer>,
    /// What the forwarded `Host` is.
    pub host: UpstreamHost,
    /// Time to connect, TLS included.
    pub connect_timeout: Duration,
    /// Time from the request's last byte to the first byte of the answer.
    pub first_byte_timeout: Duration,
    /// Time between two reads of an answer's body.
    pub between_bytes_timeout: Duration,
    /// Connections per server and process.
    pub max_connections: usize,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamServer {
    /// `https://`.
    pub tls: bool,
    /// Name or IP address, lower case; an IPv6 address in brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl UpstreamServer {
    /// `host:port`, the port left out where it is the scheme's own: what `Host` carries.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == Self::default_port(self.tls) {
            self.host.clone()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// 443 for https, 80 for http.
    #[must_use]
    pub const fn default_port(tls: bool) -> u16 {
        if tls { 443 } else { 80 }
    }
}

impl fmt::Display for UpstreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

/// `host`: what the `Host` of a forwarded request is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum UpstreamHost {
    /// What the client sent.
    #[default]
    Preserve,
    /// The authority of the server that is asked.
    Upstream,
    /// This name.
    Name(String),
}

/// A credential: it is handed out on request and never shows in a log or a panic. Comparing two tells
/// reloads apart; a token from outside is compared in constant time by whoever checks it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The credential itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// Bytes, shown in the largest binary unit that divides them: `64KiB`, `1GiB`, `0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0");
        }
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{}B", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_shown_in_their_largest_unit() {
        for (bytes, shown) in [
            (0, "0"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1 << 30, "1GiB"),
            (1536, "1536B"),
            (5 << 40, "5TiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }

    #[test]
    fn a_secret_never_shows() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2".to_owned()))), "Some(Secret(..))");
    }

    #[test]
    fn an_authority_leaves_out_the_port_of_its_scheme() {
        let server = |tls, port| UpstreamServer { tls, host: "shop.example".to_owned(), port };
        assert_eq!(server(false, 80).to_string(), "http://shop.example");
        assert_eq!(server(true, 443).to_string(), "https://shop.example");
        assert_eq!(server(true, 80).to_string(), "https://shop.example:80");
    }
}
