//! The head that is forwarded, made from the head that was received.
//!
//! Decides: which fields go to the origin and with what values (RFC 9110 7.6, RFC 9112 3.2), and what a framing that
//! it is told looks like. Never touches: content, sockets, clocks, caching. Pure. What is forwarded as it came is
//! written as text at once ([`forwarded`]); a map is made of the same lines where somebody has more to do with them
//! ([`forwarded_fields`]).
//!
//! | clause | what becomes of it |
//! |---|---|
//! | RFC 9110 7.6.1: Connection and what it nominates | removed |
//! | RFC 9110 7.6.3: Via | our element appended |
//! | RFC 9110 10.1.1: Expect | removed: the server side has answered it |
//! | RFC 9110 10.1.4: TE | `trailers` alone is passed on |
//! | RFC 9110 7.8: Upgrade | passed on with its `Connection` option, HTTP/1.1 only |
//! | RFC 9112 3.2.2: absolute-form | origin-form, its authority becomes Host |
//! | RFC 9112 6: Content-Length, Transfer-Encoding | not copied |
//! | RFC 7239, X-Forwarded-* | ours replace them, unless a trusted proxy sent them |
//!
//! RFC 9110 7.6.2 (Max-Forwards) does not apply: TRACE is refused, and OPTIONS is for the origin.

use std::fmt;
use std::net::IpAddr;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, Request, Uri, Version, request::Parts};
use ipnet::IpNet;

use crate::semantics::fields;
use crate::wire::fields as text;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Our element of `Via` (RFC 9110 7.6.3), ready for each version a message may have come in.
#[derive(Clone, Debug)]
pub struct Via {
    http10: HeaderValue,
    http11: HeaderValue,
}

impl Via {
    /// The element that names this proxy `name`; `None` when that is no token.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        if !fields::is_token(name.as_bytes()) {
            return None;
        }
        let element = |version: &str| HeaderValue::try_from(format!("{version} {name}")).ok();
        Some(Self { http10: element("1.0")?, http11: element("1.1")? })
    }

    /// For a message received in `version`.
    pub(super) const fn element(&self, version: Version) -> &HeaderValue {
        if matches!(version, Version::HTTP_10) { &self.http10 } else { &self.http11 }
    }
}

/// How a request reached this proxy.
#[derive(Clone, Copy, Debug)]
pub struct Hop<'a> {
    /// The address it came from.
    pub peer: IpAddr,
    /// Whether that address is in `trusted_proxies`: see [`is_trusted`].
    pub trusted: bool,
    /// Whether it came over TLS.
    pub tls: bool,
    /// This proxy's name.
    pub via: &'a Via,
}

/// Whether `peer` is in `trusted_proxies`; an IPv4 address mapped into IPv6 is the IPv4 address.
#[must_use]
pub fn is_trusted(peer: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    let peer = peer.to_canonical();
    trusted_proxies.iter().any(|net| net.contains(&peer))
}

/// The request has no target that could be forwarded: authority-form, as of CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unforwardable;

impl fmt::Display for Unforwardable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request's target has no path")
    }
}

impl std::error::Error for Unforwardable {}

/// The head of a request as it goes out, but for its framing and for `Host`, which depend on what is sent and where to.
#[derive(Clone, Debug)]
pub struct RequestHead {
    method: Method,
    target: PathAndQuery,
    /// What the client meant.
    host: Option<HeaderValue>,
    /// All other lines.
    lines: Vec<u8>,
    /// The lines of `Trailer` among them.
    trailer: Vec<HeaderValue>,
    upgrades: bool,
}

/// Room for the lines of a usual request.
const ROOM: usize = 512;

/// How the content of a request is framed (RFC 9112 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    /// By its length.
    Length(u64),
    /// In chunks.
    Chunked,
}

impl RequestHead {
    fn new(method: Method, target: PathAndQuery, upgrades: bool) -> Self {
        let lines = Vec::with_capacity(ROOM);
        Self { method, target, host: None, lines, trailer: Vec::new(), upgrades }
    }

    /// Its method.
    pub(super) const fn method(&self) -> &Method {
        &self.method
    }

    /// Whose content a client means.
    pub(super) const fn host(&self) -> Option<&HeaderValue> {
        self.host.as_ref()
    }

    /// The trailer fields that it announces.
    pub(super) fn trailers(&self) -> Vec<HeaderName> {
        text::announced(self.trailer.iter().map(HeaderValue::as_bytes))
    }

    /// Whether it asks to leave HTTP.
    pub(super) const fn upgrades(&self) -> bool {
        self.upgrades
    }

    /// All of it, to the end of its last line.
    pub(super) fn write(&self, out: &mut Vec<u8>, host: &HeaderValue, framing: Framing) {
        out.extend_from_slice(self.method.as_str().as_bytes());
        out.push(b' ');
        let target = self.target.as_str();
        // An absolute-form may have had a query alone.
        if !target.starts_with(['/', '*']) {
            out.push(b'/');
        }
        out.extend_from_slice(target.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\n");
        text::put(out, &header::HOST, host.as_bytes());
        out.extend_from_slice(&self.lines);
        match framing {
            Framing::Length(length) => {
                text::put(out, &header::CONTENT_LENGTH, itoa::Buffer::new().format(length).as_bytes());
            }
            Framing::Chunked => text::put(out, &header::TRANSFER_ENCODING, b"chunked"),
            // RFC 9110 8.6: a method that gives content a meaning says that there is none.
            Framing::None if matches!(self.method, Method::POST | Method::PUT | Method::PATCH) => {
                text::put(out, &header::CONTENT_LENGTH, b"0");
            }
            Framing::None => {}
        }
    }
}

impl From<Parts> for RequestHead {
    /// A head whose fields are in a map; what it says of framing is left out.
    fn from(head: Parts) -> Self {
        let upgrades = asks_for_upgrade(Version::HTTP_11, &head.headers);
        let target = head.uri.into_parts().path_and_query;
        let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
        let mut to = Self::new(head.method, target, upgrades);
        for (name, value) in &head.headers {
            if !matches!(*name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING) {
                to.field(name, value);
            }
        }
        to
    }
}

/// Where the lines of a forwarded head go.
trait Lines {
    fn line(&mut self, name: &HeaderName, value: &[u8]);

    fn field(&mut self, name: &HeaderName, value: &HeaderValue);
}

impl Lines for RequestHead {
    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        text::put(&mut self.lines, name, value);
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            header::HOST => self.host = Some(value.clone()),
            header::TRAILER => {
                self.trailer.push(value.clone());
                self.line(name, value.as_bytes());
            }
            _ => self.line(name, value.as_bytes()),
        }
    }
}

impl Lines for HeaderMap {
    fn line(&mut self, name: &HeaderName, value: &[u8]) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            self.append(name, value);
        }
    }

    fn field(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.append(name, value.clone());
    }
}

/// The head to forward for a request that came with `method`, `target`, `version` and `fields`.
///
/// The target is forwarded byte for byte (an absolute-form's path and query, that is); `Host` is what
/// the client meant, and `Upstream::send` replaces it where `host` in the configuration says so.
///
/// # Errors
///
/// [`Unforwardable`] for a target without a path.
pub fn forwarded(
    method: Method,
    target: &Uri,
    version: Version,
    fields: &HeaderMap,
    hop: &Hop<'_>,
) -> Result<RequestHead, Unforwardable> {
    let path = target.path_and_query().ok_or(Unforwardable)?.clone();
    let mut head = RequestHead::new(method, path, asks_for_upgrade(version, fields));
    forward(target, version, fields, hop, &mut head)?;
    Ok(head)
}

/// The same with its fields in a map: for whoever changes them, or looks at them.
///
/// # Errors
///
/// [`Unforwardable`] for a target without a path.
pub fn forwarded_fields(
    method: Method,
    target: &Uri,
    version: Version,
    fields: &HeaderMap,
    hop: &Hop<'_>,
) -> Result<Parts, Unforwardable> {
    let path = target.path_and_query().ok_or(Unforwardable)?.clone();
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = Uri::from(path);
    // And those that this hop adds.
    parts.headers = HeaderMap::with_capacity(fields.len() + 4);
    forward(target, version, fields, hop, &mut parts.headers)?;
    Ok(parts)
}

/// The lines that are forwarded.
fn forward(
    target: &Uri,
    version: Version,
    fields: &HeaderMap,
    hop: &Hop<'_>,
    to: &mut impl Lines,
) -> Result<(), Unforwardable> {
    let meant = match target.authority() {
        // User information never leaves: it would be a credential in a name (RFC 9110 4.2.4).
        Some(authority) => {
            let host = authority.as_str().rsplit('@').next().unwrap_or_default();
            Some(HeaderValue::from_str(host).map_err(|_| Unforwardable)?)
        }
        None => None,
    };
    let host = meant.as_ref().or_else(|| fields.get(header::HOST));
    if let Some(host) = host {
        to.field(&header::HOST, host);
    }
    let nominated = fields::nominated(fields);
    for (name, value) in fields {
        let ends_here = match *name {
            header::HOST | header::CONTENT_LENGTH | header::EXPECT => true,
            // What the content ends with is for the next hop to know too.
            header::TRAILER => false,
            _ => {
                fields::is_hop_by_hop(name)
                    || nominated.as_ref().is_some_and(|nominated| nominated.contains(name))
                    || is_replaced(name, hop.trusted)
            }
        };
        if !ends_here {
            to.field(name, value);
        }
    }
    let upgrade = asks_for_upgrade(version, fields);
    if upgrade {
        fields.get_all(header::UPGRADE).iter().for_each(|value| to.field(&header::UPGRADE, value));
    }
    let trailers = fields::has_token(fields, &header::TE, "trailers");
    if trailers {
        to.line(&header::TE, b"trailers");
    }
    match (trailers, upgrade) {
        (true, true) => to.line(&header::CONNECTION, b"te, upgrade"),
        (true, false) => to.line(&header::CONNECTION, b"te"),
        (false, true) => to.line(&header::CONNECTION, b"upgrade"),
        (false, false) => {}
    }
    add_addresses(fields, host, hop, to);
    to.field(&header::VIA, hop.via.element(version));
    Ok(())
}

/// Whether a field about where a request came from is not the client's to say: all of them, unless a trusted proxy
/// sent them; the list of addresses goes on as one line in any case.
fn is_replaced(name: &HeaderName, trusted: bool) -> bool {
    let is_claim = name.as_str().starts_with("x-forwarded-") || *name == header::FORWARDED;
    is_claim && (!trusted || *name == X_FORWARDED_FOR)
}

/// Whether what the origin sees of a field may differ from what the client sent, so that a `Vary`
/// that names it speaks of [`forwarded_fields`]' value: fields of this proxy's own, and those it takes out.
#[must_use]
pub fn is_rewritten(name: &HeaderName) -> bool {
    // Of those who are not trusted, every X-Forwarded field goes.
    let claimed = name.as_str().starts_with("x-forwarded-");
    claimed
        || matches!(
            name.as_str(),
            "via"
                | "forwarded"
                | "host"
                | "te"
                | "connection"
                | "upgrade"
                | "trailer"
                | "expect"
                | "content-length"
                | "keep-alive"
                | "proxy-connection"
                | "transfer-encoding"
                | "proxy-authorization"
        )
}

/// Whether a request asks to leave HTTP (RFC 9110 7.8): `Connection: upgrade` and an `Upgrade`.
/// HTTP/1.0 clients cannot.
#[must_use]
pub fn asks_for_upgrade(version: Version, fields: &HeaderMap) -> bool {
    version == Version::HTTP_11
        && fields.contains_key(header::UPGRADE)
        && fields::has_token(fields, &header::CONNECTION, "upgrade")
}

/// `X-Forwarded-*` and `Forwarded` of this hop: behind those that a trusted proxy sent.
fn add_addresses(fields: &HeaderMap, host: Option<&HeaderValue>, hop: &Hop<'_>, to: &mut impl Lines) {
    let peer = hop.peer.to_canonical();
    let scheme = if hop.tls { "https" } else { "http" };
    let is_told = |name: &HeaderName| hop.trusted && fields.contains_key(name);
    if is_told(&header::FORWARDED) {
        let node = match peer {
            IpAddr::V4(v4) => format!("for={v4};proto={scheme}"),
            IpAddr::V6(v6) => format!("for=\"[{v6}]\";proto={scheme}"),
        };
        to.line(&header::FORWARDED, node.as_bytes());
    }
    if is_told(&X_FORWARDED_FOR) {
        to.line(&X_FORWARDED_FOR, &list_of(fields.get_all(X_FORWARDED_FOR).iter(), peer));
    } else {
        to.line(&X_FORWARDED_FOR, Node::of(peer).text());
    }
    if !is_told(&X_FORWARDED_PROTO) {
        to.line(&X_FORWARDED_PROTO, scheme.as_bytes());
    }
    if let Some(host) = host.filter(|_| !is_told(&X_FORWARDED_HOST)) {
        to.field(&X_FORWARDED_HOST, host);
    }
}

/// Addresses and one more, on the one line that many origins read.
fn list_of<'a>(told: impl Iterator<Item = &'a HeaderValue>, member: IpAddr) -> Vec<u8> {
    let mut joined = Vec::new();
    for line in told {
        if !line.is_empty() {
            joined.extend_from_slice(line.as_bytes());
            joined.extend_from_slice(b", ");
        }
    }
    joined.extend_from_slice(Node::of(member).text());
    joined
}

/// An address as text.
struct Node {
    text: [u8; 39],
    length: usize,
}

impl Node {
    fn of(address: IpAddr) -> Self {
        let mut node = Self { text: [0; 39], length: 0 };
        match address {
            // Each request has one: by hand, for a tenth of what the formatter takes.
            IpAddr::V4(v4) => {
                for (at, octet) in v4.octets().into_iter().enumerate() {
                    if at > 0 {
                        node.put(b".");
                    }
                    let digits = [octet / 100, octet / 10 % 10, octet % 10].map(|digit| b'0' + digit);
                    node.put(match octet {
                        0..=9 => &digits[2..],
                        10..=99 => &digits[1..],
                        100..=255 => &digits,
                    });
                }
            }
            // As text it is no longer than 39 bytes: an IPv4 address in it has become one of its own.
            IpAddr::V6(v6) => node.put(v6.to_string().as_bytes()),
        }
        node
    }

    fn put(&mut self, piece: &[u8]) {
        if let Some(room) = self.text.get_mut(self.length..self.length + piece.len()) {
            room.copy_from_slice(piece);
            self.length += piece.len();
        }
    }

    fn text(&self) -> &[u8] {
        self.text.get(..self.length).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_octet_is_written_as_the_formatter_would() {
        for octet in 0..=255 {
            let address = IpAddr::from([octet, 0, 255, octet]);
            assert_eq!(list_of([].iter(), address), address.to_string().as_bytes());
            let told = [
                HeaderValue::from_static("::1"),
                HeaderValue::from_static(""),
                HeaderValue::from_static("a, b"),
            ];
            let list = format!("::1, a, b, {address}");
            assert_eq!(list_of(told.iter(), address), list.as_bytes());
        }
        for address in [[0xffff; 8], [0xfd00, 0, 0, 0, 0, 0, 0xa, 1]].map(IpAddr::from) {
            assert_eq!(Node::of(address).text(), address.to_string().as_bytes());
        }
    }

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).expect("name"),
                HeaderValue::from_str(value).expect("value"),
            );
        }
        fields
    }

    fn run(
        target: &str,
        version: Version,
        lines: &[(&str, &str)],
        trusted: bool,
    ) -> Result<Parts, Unforwardable> {
        let via = Via::new("forebay").expect("a token");
        let hop = Hop { peer: IpAddr::from([192, 0, 2, 7]), trusted, tls: false, via: &via };
        let (target, fields) = (target.parse().expect("target"), map(lines));
        let parts = forwarded_fields(Method::GET, &target, version, &fields, &hop)?;
        // As text, at once or from the map, it is the same.
        let text = |head: &RequestHead| {
            let mut text = Vec::new();
            let host = head.host().cloned().unwrap_or_else(|| HeaderValue::from_static("nobody"));
            head.write(&mut text, &host, Framing::None);
            let mut lines: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            lines.sort();
            (lines, head.upgrades(), head.trailers())
        };
        let at_once = forwarded(Method::GET, &target, version, &fields, &hop)?;
        assert_eq!(text(&at_once), text(&RequestHead::from(parts.clone())));
        Ok(parts)
    }

    /// Every line of the forwarded head, sorted, without what every request gets.
    fn forwarded_lines(version: Version, lines: &[(&str, &str)], trusted: bool) -> Vec<String> {
        let parts = run("/", version, lines, trusted).expect("forwardable");
        let mut out: Vec<_> =
            parts.headers.iter().map(|(n, v)| format!("{n}: {}", v.to_str().expect("text"))).collect();
        out.retain(|line| {
            ![
                "via: 1.1 forebay",
                "x-forwarded-for: 192.0.2.7",
                "x-forwarded-proto: http",
                "host: shop.example",
            ]
            .contains(&line.as_str())
                && line != "x-forwarded-host: shop.example"
        });
        out.sort();
        out
    }

    #[test]
    fn rfc_9111_4_1_every_field_that_may_differ_is_known_to() {
        let names = [
            "host",
            "via",
            "forwarded",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "te",
            "trailer",
            "connection",
            "upgrade",
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "transfer-encoding",
            "expect",
            "content-length",
            "accept",
            "accept-encoding",
            "accept-language",
            "cookie",
            "authorization",
            "user-agent",
            "origin",
            "range",
            "x-custom",
            "max-forwards",
            "x-real-ip",
        ];
        for trusted in [false, true] {
            for name in names {
                let lines = [("host", "shop.example"), ("connection", "te, upgrade"), (name, "trailers")];
                let lines = if name == "host" { &lines[..1] } else { &lines[..] };
                let parts = run("/", Version::HTTP_11, lines, trusted).expect("forwardable");
                let (before, after) = (map(lines), parts.headers);
                for name in before.keys().chain(after.keys()).filter(|name| !is_rewritten(name)) {
                    let values =
                        |fields: &HeaderMap| fields.get_all(name).iter().cloned().collect::<Vec<_>>();
                    assert_eq!(values(&before), values(&after), "{name}");
                }
            }
        }
    }

    #[test]
    fn fields_by_clause() {
        const HOST: (&str, &str) = ("host", "shop.example");
        for (title, lines, expected) in [
            (
                "nothing special",
                &[("accept", "*/*"), ("cookie", "a=b")][..],
                &["accept: */*", "cookie: a=b"][..],
            ),
            (
                "7.6.1 hop-by-hop",
                &[("keep-alive", "timeout=5"), ("proxy-authorization", "Basic x"), ("a", "1")],
                &["a: 1"],
            ),
            (
                "7.6.1 nominated",
                &[("connection", "X-Secret, close"), ("x-secret", "1"), ("a", "1")],
                &["a: 1"],
            ),
            ("ours cannot be nominated", &[("connection", "host, x-forwarded-for, via")], &[]),
            ("framing is not copied", &[("content-length", "5")], &[]),
            ("nor this one", &[("transfer-encoding", "chunked"), ("trailer", "x-sum")], &["trailer: x-sum"]),
            ("10.1.1 Expect", &[("expect", "100-continue")], &[]),
            (
                "10.1.4 TE",
                &[("te", "deflate;q=0.5, Trailers"), ("connection", "TE")],
                &["connection: te", "te: trailers"],
            ),
            ("10.1.4 TE without trailers", &[("te", "deflate"), ("connection", "te")], &[]),
            (
                "7.8 Upgrade",
                &[
                    ("connection", "keep-alive, Upgrade"),
                    ("upgrade", "websocket"),
                    ("sec-websocket-version", "13"),
                ],
                &["connection: upgrade", "sec-websocket-version: 13", "upgrade: websocket"],
            ),
            ("7.8 Upgrade without the option", &[("upgrade", "websocket")], &[]),
            ("7.8 the option without Upgrade", &[("connection", "upgrade")], &[]),
            (
                "claims are replaced",
                &[
                    ("x-forwarded-for", "10.0.0.1"),
                    ("forwarded", "for=10.0.0.1"),
                    ("x-forwarded-port", "1"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "evil.example"),
                ],
                &[],
            ),
            ("several lines stay several", &[("x-a", "1"), ("x-a", "2")], &["x-a: 1", "x-a: 2"]),
        ] {
            let lines: Vec<_> = std::iter::once(HOST).chain(lines.iter().copied()).collect();
            assert_eq!(forwarded_lines(Version::HTTP_11, &lines, false), expected, "{title}");
        }
    }

    #[test]
    fn a_trusted_proxy_is_believed_and_appended_to() {
        let lines = [
            ("host", "shop.example"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "www.shop.example"),
            ("x-forwarded-port", "443"),
            ("forwarded", "for=203.0.113.9;proto=https"),
            ("connection", "x-forwarded-for"),
        ];
        assert_eq!(
            forwarded_lines(Version::HTTP_11, &lines, true),
            [
                "forwarded: for=192.0.2.7;proto=http",
                "forwarded: for=203.0.113.9;proto=https",
                "x-forwarded-for: 203.0.113.9, 10.0.0.1, 192.0.2.7",
                "x-forwarded-host: www.shop.example",
                "x-forwarded-port: 443",
                "x-forwarded-proto: https",
            ]
        );
    }

    #[test]
    fn rfc9110_7_6_3_via() {
        let via = |version, lines: &[(&str, &str)]| {
            let parts = run("/", version, lines, false).expect("forwardable");
            parts
                .headers
                .get_all("via")
                .iter()
                .map(|v| v.to_str().expect("text").to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(via(Version::HTTP_11, &[]), ["1.1 forebay"]);
        assert_eq!(via(Version::HTTP_10, &[]), ["1.0 forebay"]);
        assert_eq!(via(Version::HTTP_11, &[("via", "1.0 fred, 1.1 p")]), ["1.0 fred, 1.1 p", "1.1 forebay"]);
        assert!(Via::new("not a token").is_none() && Via::new("").is_none() && Via::new("a\r\nb").is_none());
    }

    #[test]
    fn rfc9112_3_2_targets() {
        for (target, uri, host) in [
            ("/a/%2e%2E//b?x=%20&y#", "/a/%2e%2E//b?x=%20&y", "shop.example"),
            ("/a?", "/a?", "shop.example"),
            ("*", "*", "shop.example"),
            ("http://other.example:81/p?q", "/p?q", "other.example:81"),
            ("http://user:secret@other.example/p", "/p", "other.example"),
            ("http://other.example?q=1", "/?q=1", "other.example"),
        ] {
            let parts = run(target, Version::HTTP_11, &[("host", "shop.example")], false).expect(target);
            assert_eq!(parts.uri.to_string(), uri, "{target}");
            assert_eq!(parts.headers.get(header::HOST).expect("host"), host, "{target}");
            assert_eq!(parts.version, Version::HTTP_11);
        }
        assert_eq!(run("other.example:443", Version::HTTP_11, &[], false).err(), Some(Unforwardable));
    }

    #[test]
    fn http_1_0_clients_cannot_upgrade() {
        let lines = [("host", "shop.example"), ("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(forwarded_lines(Version::HTTP_10, &lines, false), ["via: 1.0 forebay"]);
    }

    #[test]
    fn trust_is_by_network() {
        let nets = ["10.0.0.0/8".parse().expect("net"), "2001:db8::/32".parse().expect("net")];
        for (peer, trusted) in [
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8::1", true),
            ("::1", false),
        ] {
            assert_eq!(is_trusted(peer.parse().expect("address"), &nets), trusted, "{peer}");
        }
        assert!(!is_trusted(IpAddr::from([10, 0, 0, 1]), &[]));
    }
}
