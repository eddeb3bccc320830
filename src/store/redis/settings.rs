//! What the Redis tier is told at its start: plain data, no file format.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where Redis listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// On the network.
    Tcp {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Whether to speak TLS, trusting what the system trusts.
        tls: bool,
    },
    /// On a socket of this machine.
    Unix {
        /// Where the socket is.
        path: PathBuf,
    },
}

/// Never shows credentials.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                match host.contains(':') {
                    true => write!(f, "{scheme}://[{host}]:{port}"),
                    false => write!(f, "{scheme}://{host}:{port}"),
                }
            }
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Settings of the Redis tier.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where Redis listens.
    pub server: Server,
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
        let tcp = |host: &str, tls| Server::Tcp { host: host.to_owned(), port: 6379, tls };
        for (server, expected) in [
            (tcp("redis.example", false), "redis://redis.example:6379"),
            (tcp("redis.example", true), "rediss://redis.example:6379"),
            (tcp("::1", false), "redis://[::1]:6379"),
            (Server::Unix { path: "/run/redis.sock".into() }, "unix:///run/redis.sock"),
        ] {
            assert_eq!(server.to_string(), expected);
        }
    }
}
