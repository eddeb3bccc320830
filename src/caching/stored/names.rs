//! Numbers that stand for the names of fields in records.
//!
//! Decides: which names have one. Never touches: values. Reading a name that is spelt takes two hundred
//! instructions, and a response has eight of them.
//!
//! A number means the same for as long as records of this version are read: names are added at the end, and
//! none is taken away or moves without a new version.

use std::collections::HashMap;
use std::sync::LazyLock;

use http::HeaderName;
use http::header::{
    ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, AGE, ALLOW, ALT_SVC, AUTHORIZATION,
    CACHE_CONTROL, CACHE_STATUS, CDN_CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LANGUAGE,
    CONTENT_LENGTH, CONTENT_LOCATION, CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY_REPORT_ONLY,
    CONTENT_TYPE, COOKIE, DATE, ETAG, EXPIRES, HOST, LAST_MODIFIED, LINK, LOCATION, ORIGIN, PRAGMA, REFERER,
    REFERRER_POLICY, REFRESH, RETRY_AFTER, SERVER, SET_COOKIE, STRICT_TRANSPORT_SECURITY, TRAILER,
    USER_AGENT, VARY, VIA, WARNING, X_CONTENT_TYPE_OPTIONS, X_DNS_PREFETCH_CONTROL, X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
};

use super::lines::Kind;

/// Stands before a name that is spelt.
pub const SPELT: u8 = 0;

/// The first has number 1.
static NAMES: [HeaderName; 87] = [
    ACCEPT,
    ACCEPT_CHARSET,
    ACCEPT_ENCODING,
    ACCEPT_LANGUAGE,
    ACCEPT_RANGES,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD,
    AGE,
    ALLOW,
    ALT_SVC,
    AUTHORIZATION,
    CACHE_CONTROL,
    CACHE_STATUS,
    CDN_CACHE_CONTROL,
    CONTENT_DISPOSITION,
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_LOCATION,
    CONTENT_SECURITY_POLICY,
    CONTENT_SECURITY_POLICY_REPORT_ONLY,
    CONTENT_TYPE,
    COOKIE,
    DATE,
    ETAG,
    EXPIRES,
    HOST,
    LAST_MODIFIED,
    LINK,
    LOCATION,
    ORIGIN,
    PRAGMA,
    REFERER,
    REFERRER_POLICY,
    REFRESH,
    RETRY_AFTER,
    SERVER,
    SET_COOKIE,
    STRICT_TRANSPORT_SECURITY,
    TRAILER,
    USER_AGENT,
    VARY,
    VIA,
    WARNING,
    X_CONTENT_TYPE_OPTIONS,
    X_DNS_PREFETCH_CONTROL,
    X_FRAME_OPTIONS,
    X_XSS_PROTECTION,
    HeaderName::from_static("accept-ch"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("critical-ch"),
    HeaderName::from_static("cross-origin-embedder-policy"),
    HeaderName::from_static("cross-origin-opener-policy"),
    HeaderName::from_static("cross-origin-resource-policy"),
    HeaderName::from_static("deprecation"),
    HeaderName::from_static("nel"),
    HeaderName::from_static("origin-agent-cluster"),
    HeaderName::from_static("permissions-policy"),
    HeaderName::from_static("report-to"),
    HeaderName::from_static("reporting-endpoints"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("sec-gpc"),
    HeaderName::from_static("server-timing"),
    HeaderName::from_static("sourcemap"),
    HeaderName::from_static("sunset"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("timing-allow-origin"),
    HeaderName::from_static("x-amz-request-id"),
    HeaderName::from_static("x-cache"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-generator"),
    HeaderName::from_static("x-permitted-cross-domain-policies"),
    HeaderName::from_static("x-powered-by"),
    HeaderName::from_static("x-ratelimit-limit"),
    HeaderName::from_static("x-ratelimit-remaining"),
    HeaderName::from_static("x-ratelimit-reset"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-robots-tag"),
    HeaderName::from_static("x-runtime"),
    HeaderName::from_static("x-trace-id"),
    HeaderName::from_static("x-ua-compatible"),
];

/// The number of a name; `None` where it is to be spelt.
#[must_use]
pub fn number(name: &HeaderName) -> Option<u8> {
    static NUMBERS: LazyLock<HashMap<&HeaderName, u8>> = LazyLock::new(|| NAMES.iter().zip(1..).collect());
    NUMBERS.get(name).copied()
}

/// The name that a number stands for; `None` where none does.
#[must_use]
pub fn name(number: u8) -> Option<HeaderName> {
    NAMES.get(usize::from(number).checked_sub(1)?).cloned()
}

/// How a line begins whose name has a number, and what the name says of the line; `None` where none has it.
pub(super) fn beginning(number: u8) -> Option<&'static (Box<[u8]>, Kind)> {
    static BEGINNINGS: LazyLock<Box<[(Box<[u8]>, Kind)]>> = LazyLock::new(|| {
        let beginning = |name: &HeaderName| {
            let name = name.as_str().as_bytes();
            ([name, b": "].concat().into(), Kind::of(name))
        };
        NAMES.iter().map(beginning).collect()
    });
    BEGINNINGS.get(usize::from(number).checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_number() {
        for (at, known) in NAMES.iter().enumerate() {
            let number = number(known).expect("a number");
            assert_eq!(usize::from(number), at + 1, "{known} is there twice");
            assert_eq!(name(number).as_ref(), Some(known));
            let (line, kind) = beginning(number).expect("a beginning");
            assert_eq!(**line, *format!("{known}: ").as_bytes());
            assert_eq!(*kind, Kind::of(known.as_str().as_bytes()));
        }
        assert_eq!((name(SPELT), beginning(SPELT)), (None, None));
        assert_eq!((NAMES.len() + 1..=255).filter_map(|n| name(n as u8)).next(), None);
        assert_eq!(number(&HeaderName::from_static("x-none")), None);
    }

    /// Records of this version mean these names: a change here is a new version.
    #[test]
    fn numbers_stay() {
        let text: Vec<&str> = NAMES.iter().map(HeaderName::as_str).collect();
        assert_eq!(xxhash_rust::xxh3::xxh3_64(text.join("\n").as_bytes()), 16_093_520_336_173_951_655);
    }
}
