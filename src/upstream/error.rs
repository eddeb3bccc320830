//! Why an upstream gave no answer, or not the whole of one.
//!
//! Decides: the closed list of failures, the reason and the status each one is reported with. Never
//! touches: the response a client is shown for it (that is `proxy::error`).

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;

use http::StatusCode;

use crate::caching::outcome::Reason;

/// Any error, as bodies and sockets give it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// What lies under an [`UpstreamError`]: for logs alone, shared because a failed fill has many readers.
pub type Source = Arc<dyn StdError + Send + Sync>;

/// Why there is no answer, or why it broke off.
#[derive(Clone, Debug)]
pub enum UpstreamError {
    /// No connection: refused, unreachable, or the name does not resolve. Nothing was sent.
    Connect(Source),
    /// No connection within `connect_timeout`, TLS included. Nothing was sent.
    ConnectTimeout,
    /// The TLS handshake failed, the certificate included. Nothing was sent.
    Tls(Source),
    /// Every connection is taken and the queue is full, or waiting in it took too long.
    /// Nothing was sent.
    Busy,
    /// No complete response head within `first_byte_timeout` after the request was sent.
    FirstByteTimeout,
    /// The answer's body paused for longer than `between_bytes_timeout`.
    BetweenBytesTimeout,
    /// The origin closed or reset the connection before the answer was complete.
    Reset(Source),
    /// What the origin sent is not an HTTP/1 response that can be forwarded (RFC 9112 6.3, 7.1).
    Protocol(Source),
    /// The request's own body failed: the client went away, or its framing was refused. The source
    /// is the body's error, to be downcast by whoever made that body.
    ClientBody(Source),
}

impl UpstreamError {
    /// The reason that logs, metrics and `Cache-Status` report.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        match self {
            Self::Connect(_) | Self::ConnectTimeout => Reason::OriginConnect,
            Self::Tls(_) => Reason::OriginTls,
            Self::Busy => Reason::OriginBusy,
            Self::FirstByteTimeout => Reason::OriginFirstByteTimeout,
            Self::BetweenBytesTimeout => Reason::OriginBetweenBytesTimeout,
            Self::Reset(_) => Reason::OriginReset,
            Self::Protocol(_) => Reason::OriginProtocol,
            Self::ClientBody(_) => Reason::ClientGone,
        }
    }

    /// The status a client is answered with, where nothing was answered yet (RFC 9110 15.6).
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Connect(_) | Self::Tls(_) | Self::Reset(_) | Self::Protocol(_) => StatusCode::BAD_GATEWAY,
            Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::ConnectTimeout | Self::FirstByteTimeout | Self::BetweenBytesTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::ClientBody(_) => StatusCode::BAD_REQUEST,
        }
    }

    /// Whether not one byte of the request left for the origin.
    #[must_use]
    pub const fn nothing_was_sent(&self) -> bool {
        matches!(self, Self::Connect(_) | Self::ConnectTimeout | Self::Tls(_) | Self::Busy)
    }

    /// With what lies under it, for logs: which rule an answer broke, what the socket said.
    pub fn in_full(&self) -> impl fmt::Display {
        struct InFull<'a>(&'a UpstreamError);
        impl fmt::Display for InFull<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)?;
                self.0.cause().map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
        }
        InFull(self)
    }

    /// What lies under it.
    #[must_use]
    pub const fn cause(&self) -> Option<&Source> {
        match self {
            Self::Connect(s) | Self::Tls(s) | Self::Reset(s) | Self::Protocol(s) | Self::ClientBody(s) => {
                Some(s)
            }
            Self::ConnectTimeout | Self::Busy | Self::FirstByteTimeout | Self::BetweenBytesTimeout => None,
        }
    }

    pub(super) fn protocol(fault: impl Into<BoxError>) -> Self {
        Self::Protocol(Arc::from(fault.into()))
    }

    /// A failure of the connection while bytes were exchanged.
    pub(super) fn from_io(error: io::Error) -> Self {
        match error.kind() {
            // Bytes came that TLS cannot read, as opposed to bytes that did not come.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Protocol(Arc::new(error)),
            _ => Self::Reset(Arc::new(error)),
        }
    }
}

impl fmt::Display for UpstreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect(_) => "no connection to the origin",
            Self::ConnectTimeout => "no connection to the origin within connect_timeout",
            Self::Tls(_) => "TLS with the origin failed",
            Self::Busy => "every connection to the origin is taken",
            Self::FirstByteTimeout => "no answer within first_byte_timeout",
            Self::BetweenBytesTimeout => "the answer paused for longer than between_bytes_timeout",
            Self::Reset(_) => "the origin broke off",
            Self::Protocol(_) => "the origin's answer is not valid HTTP/1",
            Self::ClientBody(_) => "the request's body broke off",
        })
    }
}

impl StdError for UpstreamError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause().map(|source| &**source as &(dyn StdError + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_reason_and_status() {
        let source = || -> Source { Arc::new(std::io::Error::other("x")) };
        for (error, reason, status, unsent) in [
            (UpstreamError::Connect(source()), Reason::OriginConnect, 502, true),
            (UpstreamError::ConnectTimeout, Reason::OriginConnect, 504, true),
            (UpstreamError::Tls(source()), Reason::OriginTls, 502, true),
            (UpstreamError::Busy, Reason::OriginBusy, 503, true),
            (UpstreamError::FirstByteTimeout, Reason::OriginFirstByteTimeout, 504, false),
            (UpstreamError::BetweenBytesTimeout, Reason::OriginBetweenBytesTimeout, 504, false),
            (UpstreamError::Reset(source()), Reason::OriginReset, 502, false),
            (UpstreamError::Protocol(source()), Reason::OriginProtocol, 502, false),
            (UpstreamError::ClientBody(source()), Reason::ClientGone, 400, false),
        ] {
            assert_eq!(error.reason(), reason, "{error}");
            assert_eq!(error.status().as_u16(), status, "{error}");
            assert_eq!(error.nothing_was_sent(), unsent, "{error}");
            assert_eq!(StdError::source(&error).is_some(), error.cause().is_some());
            assert_eq!(error.in_full().to_string().ends_with(": x"), error.cause().is_some());
        }
    }
}
