//! The wire (RFC 9112): which bytes of a connection are one message, and which are refused.
//!
//! What two parsers could read in two ways is how requests are smuggled and caches poisoned, so every byte
//! is read once, here, on both sides, and only what has exactly one reading goes on. Bytes in, verdicts and
//! messages out; never touches sockets, timers, or what a message means.
//!
//! | wire rule | here | test |
//! |---|---|---|
//! | RFC 9112 2.2: lines end in CR LF | `request`, `response` | `rfc9112_2_2_lines_end_in_crlf` |
//! | RFC 9112 3: request line, versions, targets | `head` | `rfc9112_3_request_lines` |
//! | RFC 9112 3.2: exactly one valid Host | `head` | `rfc9112_3_2_exactly_one_host` |
//! | RFC 9112 5: field lines | `grammar` | `rfc9112_5_field_lines` |
//! | RFC 9112 6: one framing | `head`, `response` | `rfc9112_6_one_framing`, `rfc9112_6_3_one_length` |
//! | RFC 9112 7.1: chunks | `chunked` | `rfc9112_7_1_chunks` |

pub(crate) mod answer;
mod chunked;
mod connection;
pub(crate) mod content;
pub(crate) mod fields;
pub(crate) mod framed;
mod grammar;
mod head;
mod interim;
mod lines;
mod request;
mod response;
mod upgrade;

pub use answer::AnswerHead;
pub use connection::Connection;
pub use content::{BrokenContent, Content};
pub(crate) use grammar::whole_head;
pub use head::{MAX_FIELDS, MAX_METHOD, MAX_TARGET};
pub use interim::Interim;
pub use lines::FieldLines;
pub use request::{Limits, ReadHead, RequestReader};
pub use response::{Awaited, MAX_INTERIM, ResponseFault};
pub(crate) use response::{Next, ResponseHead, ResponseScanner, Then};
pub use upgrade::{Duplex, NotUpgraded, Upgrade};

use http::StatusCode;

/// Why a request is refused, in the order in which a message is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The request line cannot be read.
    RequestLine,
    /// A version other than 1.0 and 1.1.
    Version,
    /// CONNECT, TRACE: never forwarded (RFC 9110 9.3.6, 9.3.8).
    Method,
    /// The target has bytes or a form that no request may have.
    Target,
    /// The target is longer than [`MAX_TARGET`].
    TargetTooLong,
    /// A field line cannot be read: bare CR or LF, NUL, folding, blanks before the colon.
    FieldLine,
    /// The head is larger, or has more fields, than allowed.
    HeadTooLarge,
    /// `Host` is missing, repeated, invalid, or contradicts the target.
    Host,
    /// The length of the content is ambiguous, or its chunks are malformed.
    Framing,
    /// An upgrade to HTTP/2 without TLS.
    UpgradeToHttp2,
    /// More content than allowed.
    BodyTooLarge,
    /// The head, or the next bytes of the content, did not arrive in time.
    Timeout,
}

impl Refusal {
    /// Every refusal, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::RequestLine,
        Self::Version,
        Self::Method,
        Self::Target,
        Self::TargetTooLong,
        Self::FieldLine,
        Self::HeadTooLarge,
        Self::Host,
        Self::Framing,
        Self::UpgradeToHttp2,
        Self::BodyTooLarge,
        Self::Timeout,
    ];

    /// The status a client is told.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::RequestLine
            | Self::Target
            | Self::FieldLine
            | Self::Host
            | Self::Framing
            | Self::UpgradeToHttp2 => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::RequestLine => "the request line cannot be read",
            Self::Version => "the HTTP version is not supported",
            Self::Method => "the method is refused",
            Self::Target => "the request target is invalid",
            Self::TargetTooLong => "the request target is too long",
            Self::FieldLine => "a field line is malformed",
            Self::HeadTooLarge => "the request head is too large",
            Self::Host => "Host is missing, repeated, invalid or contradicted",
            Self::Framing => "the length of the content is ambiguous or malformed",
            Self::UpgradeToHttp2 => "upgrades to HTTP/2 are refused",
            Self::BodyTooLarge => "the content is too large",
            Self::Timeout => "the request did not arrive in time",
        })
    }
}

impl std::error::Error for Refusal {}
