//! How a client is made: the only file that configures the client library.
//!
//! Decides: for each way in which Redis is run, how it is found, logged into, bounded in time and
//! reconnected to. Never touches: what is sent, or when a client is given up.

use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::types::config::{
    ClusterDiscoveryPolicy, Config, Options, ReconnectError, ReconnectPolicy, Server as FredServer,
    ServerConfig, TcpConfig, TlsConfig, TlsConnector, UnresponsiveConfig,
};
use fred::types::{Builder, RespVersion};

use super::authorities::Authorities;
use super::settings::{Node, Server, Settings};

/// What a client is for, as far as its settings depend on it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Class {
    /// A net under the budget of each command: the library drops those of whole families of commands
    /// without a word, and a command without any may never end.
    pub(super) longest_command: Duration,
    /// A connection that says nothing for so long after something was sent is given up; longer than any
    /// command that blocks.
    pub(super) longest_silence: Duration,
}

impl Class {
    /// For what requests wait for.
    pub(super) const fn requests(settings: &Settings) -> Self {
        Self { longest_command: settings.write_timeout, longest_silence: Duration::from_secs(1) }
    }
}

/// A client that is not connected yet: `connect` begins, and goes on trying for ever.
///
/// # Errors
/// When there is no TLS to be had, or the library refuses its settings.
pub(super) fn build(settings: &Settings, class: &Class) -> Result<Client, Error> {
    let tls = match &settings.server {
        Server::Tcp { tls, .. } | Server::Cluster { tls, .. } | Server::Sentinel { tls, .. } => *tls,
        Server::Unix { .. } => false,
    };
    let config = Config {
        version: RespVersion::RESP3,
        fail_fast: false,
        server: found_at(&settings.server),
        tls: if tls { Some(trusting(&settings.authorities)?) } else { None },
        database: (settings.database != 0).then_some(settings.database),
        username: settings.username.as_deref().map(inline),
        password: settings.password.as_deref().map(inline),
        ..Config::default()
    };
    let mut builder = Builder::from_config(config);
    // The first delay must not be zero: every other is a multiple of it.
    let mut policy = ReconnectPolicy::new_exponential(0, 50, 2_000, 2);
    policy.set_jitter(25);
    builder.set_policy(policy);
    builder.with_connection_config(|connection| {
        connection.connection_timeout = Duration::from_millis(500);
        connection.internal_command_timeout = Duration::from_secs(1);
        connection.max_command_attempts = 1;
        // Redirections are not followed. After MOVED the library looks at the cluster anew all the same, so
        // that the next command goes right. To follow ASK it would read, in the place of its own answer,
        // whatever comes next on a connection where others wait too; a command that is never sent twice it
        // does not follow, and ends.
        connection.max_redirections = 0;
        // Must stay 0: above it, one full queue stops the client for good.
        connection.max_command_buffer_len = 0;
        connection.unresponsive = UnresponsiveConfig {
            max_timeout: Some(class.longest_silence),
            interval: Duration::from_millis(250),
        };
        connection.tcp = TcpConfig {
            nodelay: Some(true),
            user_timeout: Some(Duration::from_millis(1_500)),
            ..TcpConfig::default()
        };
        connection.reconnect_errors = reconnect_errors(&settings.server);
    });
    builder.with_performance_config(|performance| {
        performance.default_command_timeout = class.longest_command;
        performance.broadcast_channel_capacity = 4_096;
        performance.max_feed_count = 200;
    });
    builder.build()
}

/// The options of a command that has this long, and is never sent twice.
pub(super) fn within(timeout: Duration) -> Options {
    Options { timeout: Some(timeout), max_attempts: Some(1), fail_fast: true, ..Options::default() }
}

/// A user or password as one word of an inline command: the library writes `HELLO 3 AUTH user password` as a
/// line that Redis splits at blanks and reads quotes in. (Logins at sentinels are sent as they are.)
fn inline(word: &str) -> String {
    let ends_or_quotes =
        |byte: u8| byte.is_ascii_whitespace() || byte.is_ascii_control() || matches!(byte, b'"' | b'\'');
    if !word.bytes().any(ends_or_quotes) {
        return word.to_owned();
    }
    let mut quoted = String::with_capacity(word.len() + 8);
    quoted.push('"');
    for letter in word.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            letter if letter.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(letter))),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

fn found_at(server: &Server) -> ServerConfig {
    let fred = |node: &Node| FredServer::new(node.host.clone(), node.port);
    match server {
        Server::Tcp { node, .. } => ServerConfig::Centralized { server: fred(node) },
        Server::Cluster { nodes, .. } => ServerConfig::Clustered {
            hosts: nodes.iter().map(fred).collect(),
            // The nodes last seen are asked as well: those of the configuration may all be gone.
            policy: ClusterDiscoveryPolicy::UseCache,
        },
        Server::Sentinel { sentinels, service, username, password, .. } => ServerConfig::Sentinel {
            hosts: sentinels.iter().map(fred).collect(),
            service_name: service.clone(),
            username: username.clone(),
            password: password.clone(),
        },
        Server::Unix { path } => ServerConfig::new_unix_socket(path.clone()),
    }
}

/// Errors after which the library connects anew, and fails everything under way: worth it only where
/// another server may be the right one by now.
fn reconnect_errors(server: &Server) -> Vec<ReconnectError> {
    match server {
        // There is no other server.
        Server::Tcp { .. } | Server::Unix { .. } => Vec::new(),
        // The master that was is a replica now, or comes up as one.
        Server::Sentinel { .. } => {
            vec![ReconnectError::ReadOnly, ReconnectError::MasterDown, ReconnectError::Loading]
        }
        Server::Cluster { .. } => vec![ReconnectError::ClusterDown, ReconnectError::ReadOnly],
    }
}

fn trusting(authorities: &Authorities) -> Result<TlsConfig, Error> {
    let config =
        authorities.client_config().map_err(|error| Error::new(ErrorKind::Tls, error.to_string()))?;
    Ok(TlsConfig::from(TlsConnector::from(config)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_one_word_of_a_line() {
        for (word, written) in [
            ("s3cr3t", "s3cr3t"),
            ("ünï☃", "ünï☃"),
            ("back\\slash", "back\\slash"),
            ("two words", "\"two words\""),
            ("a\"b", "\"a\\\"b\""),
            ("it's", "\"it's\""),
            ("a b\\c", "\"a b\\\\c\""),
            ("x\r\nFLUSHALL", "\"x\\x0d\\x0aFLUSHALL\""),
        ] {
            assert_eq!(inline(word), written, "{word:?}");
        }
    }
}
