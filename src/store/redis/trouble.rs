//! What is wrong with Redis, in words for whoever runs it.
//!
//! Decides: what a failure means, and that each reason is told once until Redis works again, however
//! many connections meet it. Never touches: what is done about it. Credentials are never told, whatever a
//! server writes back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use fred::error::{Error, ErrorKind};

use super::settings::{Server, Settings};
use crate::clock;

/// Different reasons that are told before Redis works again.
const REASONS: usize = 8;
/// A reason that was not met for so long is none any more; nor is one told twice in that time.
const CURRENT: Duration = Duration::from_secs(60);
/// Most characters of what the server or the library said.
const LONGEST: usize = 200;

/// The reasons of one process.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// And when each was told.
    reasons: Vec<(String, Instant)>,
    last: Option<(String, Instant)>,
}

impl Trouble {
    /// Tells what `error` means, unless that was told already.
    pub(super) fn tell(&self, settings: &Settings, error: &Error) {
        let why = in_words(settings, error);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock::monotonic();
        let new = told.reasons.len() < REASONS && told.reasons.iter().all(|(reason, _)| *reason != why);
        if new {
            told.reasons.push((why.clone(), now));
        }
        told.last = Some((why.clone(), now));
        drop(told);
        if new {
            tracing::warn!(server = %settings.server, %why, "Redis cannot be used as it should be");
        }
    }

    /// Redis works, for one connection at least: what is told from now on is news, but for what was told a
    /// moment ago, which others may be meeting still.
    pub(super) fn over(&self) {
        let now = clock::monotonic();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.last = None;
        told.reasons.retain(|(_, at)| now.saturating_duration_since(*at) < CURRENT);
    }

    /// What was met last, and not long ago.
    pub(super) fn now(&self) -> Option<String> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let (why, at) = told.last.as_ref()?;
        (clock::monotonic().saturating_duration_since(*at) < CURRENT).then(|| why.clone())
    }
}

/// What it means, and what was said.
fn in_words(settings: &Settings, error: &Error) -> String {
    let said = without_secrets(settings, plain(error.details()));
    match meaning(settings, error.kind(), error.details()) {
        Some(meaning) => format!("{meaning} ({said})"),
        None => said,
    }
}

fn meaning(settings: &Settings, kind: &ErrorKind, details: &str) -> Option<String> {
    let has = |what: &str| details.contains(what);
    Some(match details.split(' ').next() {
        Some("WRONGPASS") => "a user or password of redis.url is wrong".to_owned(),
        Some("NOAUTH") if settings.password.is_some() => {
            "the sentinels want sentinel_password, and redis.url has none".to_owned()
        }
        Some("NOAUTH") => "Redis wants a password, and redis.url has none".to_owned(),
        Some("NOPERM") => "the user of redis.url may not do all that forebay needs".to_owned(),
        _ if has("DB index is out of range") => {
            format!("there is no database {}, which redis.url names", settings.database)
        }
        _ if has("unknown command") && has("HELLO") => "the server is older than Redis 6".to_owned(),
        _ if has("unknown command") && has("SENTINEL") => {
            "redis.url says sentinels, and this server is none".to_owned()
        }
        _ if has("cluster support disabled") => {
            "redis.url says a cluster, and this server is part of none".to_owned()
        }
        _ if has("UnknownIssuer") => {
            "the server's certificate is from no authority that is trusted here, see redis.ca".to_owned()
        }
        _ if has("NotValidForName") => {
            "the server's certificate does not name the host by which it is reached".to_owned()
        }
        _ if has("InvalidContentType") => "the server does not speak TLS".to_owned(),
        _ => match (kind, &settings.server) {
            // That there is no such service is an answer that the library does not understand.
            (ErrorKind::Timeout, Server::Sentinel { service, .. }) => {
                format!("no answer in time; sentinels that know no service {service:?} give none")
            }
            (ErrorKind::Sentinel, _) if has("connect to all sentinel") => {
                "no sentinel is reached, or none takes the login of redis.url".to_owned()
            }
            (ErrorKind::Timeout, _) => "no answer in time".to_owned(),
            _ => return None,
        },
    })
}

/// Of the debug format of system errors the message alone; of an error that repeats what was sent, what
/// comes before that.
fn plain(details: &str) -> &str {
    let message = details.split_once("message: \"").and_then(|(_, rest)| rest.split('"').next());
    let details = message.filter(|_| details.starts_with("Os {")).unwrap_or(details);
    details.split(", with args beginning with").next().unwrap_or(details).trim()
}

fn without_secrets(settings: &Settings, said: &str) -> String {
    let of_sentinels = match &settings.server {
        Server::Sentinel { password, .. } => password.as_ref(),
        Server::Tcp { .. } | Server::Cluster { .. } | Server::Unix { .. } => None,
    };
    let mut said = said.to_owned();
    for secret in settings.password.iter().chain(of_sentinels).filter(|secret| !secret.is_empty()) {
        said = said.replace(secret.as_str(), "…");
    }
    said.chars().filter(|character| !character.is_control()).take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::super::authorities::Authorities;
    use super::super::settings::Node;
    use super::*;

    fn settings(server: Server) -> Settings {
        Settings {
            server,
            authorities: Authorities::System,
            database: 7,
            username: Some("forebay".to_owned()),
            password: Some("s3cr3t".to_owned()),
            prefix: "forebay".to_owned(),
            read_timeout: Duration::from_millis(50),
            write_timeout: Duration::from_millis(250),
            max_object_size: 1,
            compress_above: 1,
            lock_ttl: Duration::from_secs(5),
        }
    }

    fn one() -> Settings {
        settings(Server::Tcp { node: Node { host: "a".to_owned(), port: 1 }, tls: false })
    }

    #[test]
    fn what_failures_mean() {
        let sentinels = || {
            settings(Server::Sentinel {
                sentinels: vec![Node { host: "a".to_owned(), port: 1 }],
                service: "shop".to_owned(),
                tls: false,
                username: None,
                password: Some("of-sentinels".to_owned()),
            })
        };
        for (settings, kind, details, expected) in [
            (
                one(),
                ErrorKind::Auth,
                "WRONGPASS invalid username-password pair or user is disabled.",
                "a user or password of redis.url is wrong (WRONGPASS invalid username-password pair or user is disabled.)",
            ),
            (
                one(),
                ErrorKind::Unknown,
                "ERR DB index is out of range",
                "there is no database 7, which redis.url names (ERR DB index is out of range)",
            ),
            (
                one(),
                ErrorKind::IO,
                "Os { code: 111, kind: ConnectionRefused, message: \"Connection refused\" }",
                "Connection refused",
            ),
            (
                sentinels(),
                ErrorKind::Auth,
                "NOAUTH Authentication required.",
                "the sentinels want sentinel_password, and redis.url has none (NOAUTH Authentication required.)",
            ),
            (one(), ErrorKind::Timeout, "Request timed out.", "no answer in time (Request timed out.)"),
            (
                sentinels(),
                ErrorKind::Timeout,
                "of-sentinels timed out",
                "no answer in time; sentinels that know no service \"shop\" give none (… timed out)",
            ),
            // Servers that know no HELLO repeat what they were sent.
            (
                one(),
                ErrorKind::Unknown,
                "ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `forebay`, `s3cr3t`, ",
                "the server is older than Redis 6 (ERR unknown command `HELLO`)",
            ),
            (one(), ErrorKind::Unknown, "ERR no\r\nsuch s3cr3t", "ERR nosuch …"),
        ] {
            assert_eq!(in_words(&settings, &Error::new(kind, details)), expected);
        }
        let long = "x".repeat(10_000);
        assert_eq!(in_words(&one(), &Error::new(ErrorKind::Unknown, long)).len(), LONGEST);
    }

    #[test]
    fn reasons_are_bounded_and_over_when_it_works() {
        let trouble = Trouble::default();
        assert_eq!(trouble.now(), None);
        for n in 0..100 {
            trouble.tell(&one(), &Error::new(ErrorKind::Unknown, n.to_string()));
        }
        assert_eq!(trouble.now().as_deref(), Some("99"));
        assert_eq!(trouble.told.lock().unwrap().reasons.len(), REASONS);
        trouble.over();
        assert_eq!(trouble.now(), None);
        // What was told a moment ago is not told again.
        assert_eq!(trouble.told.lock().unwrap().reasons.len(), REASONS);
    }
}
