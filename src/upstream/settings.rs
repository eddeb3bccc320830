//! What an upstream is made of, resolved: plain data in units.
//!
//! Decides nothing. Never touches: how any of it is written in a file.

use std::time::Duration;

/// `[upstream.NAME]`: one origin, on one server or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamSettings {
    /// The name routes call it by: a metric label.
    pub name: String,
    /// Its servers, at least one, balanced.
    pub servers: Vec<UpstreamServer>,
    /// What the forwarded `Host` is.
    pub host: UpstreamHost,
    /// Time to connect, TLS included; also the patience of a request that queues for a connection.
    pub connect_timeout: Duration,
    /// Time from the request's last byte to the whole head of the answer.
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
