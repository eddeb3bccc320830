//! What the Redis tier is told at its start: plain data, no file format.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::authorities::Authorities;

/// A host and a port of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name or address, IPv6 without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Where Redis listens, and how it is run.
#[derive(Clone, PartialEq, Eq)]
pub enum Server {
    /// One server on the network.
    Tcp {
        /// Where it listens.
        node: Node,
        /// Whether to speak TLS.
        tls: bool,
    },
    /// A Redis Cluster.
    Cluster {
        /// Some of its nodes, at least one: they name the others.
        nodes: Vec<Node>,
        /// Whether to speak TLS to all of them.
        tls: bool,
    },
    /// The server that sentinels call the master of a service.
    Sentinel {
        /// Some of the sentinels, at least one.
        sentinels: Vec<Node>,
        /// The service.
        service: String,
        /// Whether to speak TLS, to sentinels and servers.
        tls: bool,
        /// ACL user at the sentinels; `None` = the default user.
        username: Option<String>,
        /// Its password there; `None`: sentinels ask for no login.
        password: Option<String>,
    },
    /// One server, on a socket of this machine.
    Unix {
        /// Where the socket is.
        path: PathBuf,
    },
}

/// Never shows credentials.
impl Server {
    /// How many nodes are named, any of which may be asked where Redis is.
    #[must_use]
    pub fn nodes(&self) -> usize {
        match self {
            Self::Tcp { .. } | Self::Unix { .. } => 1,
            Self::Cluster { nodes, .. } => nodes.len(),
            Self::Sentinel { sentinels, .. } => sentinels.len(),
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { node, tls } => write!(f, "{}://{node}", scheme(*tls)),
            Self::Cluster { nodes, tls } => write!(f, "{}-cluster://{}", scheme(*tls), list(nodes)),
            Self::Sentinel { sentinels, service, tls, .. } => {
                write!(f, "{}-sentinel://{}/{service}", scheme(*tls), list(sentinels))
            }
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Never shows credentials.
impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

const fn scheme(tls: bool) -> &'static str {
    if tls { "rediss" } else { "redis" }
}

fn list(nodes: &[Node]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Settings of the Redis tier.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where Redis listens.
    pub server: Server,
    /// What TLS trusts.
    pub authorities: Authorities,
    /// Number of the database.
    pub database: u8,
    /// ACL user; `None` = the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// What every key of ours begins with; a `:` follows it.
    pub prefix: String,
    /// Time budget of one read.
    pub read_timeout: Duration,
    /// Time budget of one write, lock or script.
    pub write_timeout: Duration,
    /// Longest body to write or read, in bytes.
    pub max_object_size: u64,
    /// Bodies above this many bytes are compressed.
    pub compress_above: u64,
    /// How long a fleet lock lives unless it is renewed.
    pub lock_ttl: Duration,
}

/// Without the password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("server", &self.server)
            .field("authorities", &self.authorities)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("password", &self.password.as_ref().map(|_| ".."))
            .field("prefix", &self.prefix)
            .field("read_timeout", &self.read_timeout)
            .field("write_timeout", &self.write_timeout)
            .field("max_object_size", &self.max_object_size)
            .field("compress_above", &self.compress_above)
            .field("lock_ttl", &self.lock_ttl)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_url() {
        let node = |host: &str| Node { host: host.to_owned(), port: 6379 };
        let tcp = |host: &str, tls| Server::Tcp { node: node(host), tls };
        let sentinel = Server::Sentinel {
            sentinels: vec![node("a"), node("b")],
            service: "shop".to_owned(),
            tls: true,
            username: Some("user".to_owned()),
            password: Some("s3cr3t".to_owned()),
        };
        assert!(!format!("{sentinel:?}").contains("s3cr3t"));
        for (server, expected) in [
            (
                Server::Cluster { nodes: vec![node("a"), node("::1")], tls: false },
                "redis-cluster://a:6379,[::1]:6379",
            ),
            (sentinel, "rediss-sentinel://a:6379,b:6379/shop"),
            (tcp("redis.example", false), "redis://redis.example:6379"),
            (tcp("redis.example", true), "rediss://redis.example:6379"),
            (tcp("::1", false), "redis://[::1]:6379"),
            (Server::Unix { path: "/run/redis.sock".into() }, "unix:///run/redis.sock"),
        ] {
            assert_eq!(server.to_string(), expected);
        }
    }
}
