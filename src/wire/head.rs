//! One request head, line by line.
//!
//! Decides: whether each line has exactly one reading (RFC 9112 2.2, 3, 5), and how the content that
//! follows is framed (6). Remembers only what later lines can contradict.

use super::Refusal;

/// The longest request target, in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// The most field lines in a head: hyper's own bound, told apart here so that it is 431.
pub const MAX_FIELDS: usize = 100;

/// What may stand before a target that is still to be told from one that is too long.
const LONGEST_METHOD: usize = 64;

/// How the content of a message is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// By length; zero when there is none.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// What is known of a head whose end has not been seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Head {
    line: Line,
    http_10: bool,
    /// Authority of an absolute-form target.
    authority: Option<Box<[u8]>>,
    host: Option<Box<[u8]>>,
    length: Option<u64>,
    chunked: bool,
    fields: usize,
}

/// Which line comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Line {
    /// The request line; one empty line before it is passed over (RFC 9112 2.2).
    #[default]
    First,
    /// The same, after an empty line.
    FirstAfterEmpty,
    /// A field line, or the empty line that ends the head.
    Field,
}

impl Head {
    /// Whether a line that is already `length` bytes long, and has no end, can still become right.
    pub(super) fn outgrown(&self, length: usize) -> Option<Refusal> {
        (self.line != Line::Field && length > MAX_TARGET + LONGEST_METHOD).then_some(Refusal::TargetTooLong)
    }

    /// Reads one line, without its CRLF; `Some` when it was the head's last.
    pub(super) fn line(&mut self, line: &[u8]) -> Result<Option<Framing>, Refusal> {
        match self.line {
            Line::First if line.is_empty() => {
                self.line = Line::FirstAfterEmpty;
                Ok(None)
            }
            Line::First | Line::FirstAfterEmpty => {
                self.request_line(line)?;
                self.line = Line::Field;
                Ok(None)
            }
            Line::Field if line.is_empty() => self.end().map(Some),
            Line::Field => {
                self.fields += 1;
                if self.fields > MAX_FIELDS {
                    return Err(Refusal::HeadTooLarge);
                }
                self.field_line(line)?;
                Ok(None)
            }
        }
    }

    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::RequestLine);
        };
        if method.is_empty() || !method.iter().all(|byte| is_token_byte(*byte)) {
            return Err(Refusal::RequestLine);
        }
        self.http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        };
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Refusal::Method);
        }
        self.target(method, target)
    }

    fn target(&mut self, method: &[u8], target: &[u8]) -> Result<(), Refusal> {
        if target.len() > MAX_TARGET {
            return Err(Refusal::TargetTooLong);
        }
        if !target.iter().all(|byte| is_target_byte(*byte)) {
            return Err(Refusal::Target);
        }
        match target {
            [b'/', ..] => Ok(()),
            b"*" if method == b"OPTIONS" => Ok(()),
            _ => {
                let rest = strip_scheme(target).ok_or(Refusal::Target)?;
                let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
                let (authority, _) = rest.split_at_checked(end).ok_or(Refusal::Target)?;
                if !is_host(authority) {
                    return Err(Refusal::Host);
                }
                self.authority = Some(authority.into());
                Ok(())
            }
        }
    }

    fn field_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (name, value) = split_field(line)?;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => self.host(value),
            7 if name.eq_ignore_ascii_case(b"upgrade") => refuse_http2(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value),
            14 if name.eq_ignore_ascii_case(b"http2-settings") => Err(Refusal::UpgradeToHttp2),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value),
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.host.is_some() || !is_host(value) {
            return Err(Refusal::Host);
        }
        self.host = Some(value.into());
        Ok(())
    }

    /// RFC 9112 6.2, 6.3: digits alone, one value; the same value twice is refused as well, since no
    /// sender has a reason for it.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || value.is_empty() || value.len() > 19 {
            return Err(Refusal::Framing);
        }
        let mut length: u64 = 0;
        for byte in value {
            if !byte.is_ascii_digit() {
                return Err(Refusal::Framing);
            }
            // Nineteen digits fit in 64 bits.
            length = length * 10 + u64::from(byte - b'0');
        }
        self.length = Some(length);
        Ok(())
    }

    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.chunked || self.http_10 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Framing);
        }
        self.chunked = true;
        Ok(())
    }

    fn end(&self) -> Result<Framing, Refusal> {
        match (&self.authority, &self.host) {
            // RFC 9112 3.2: the authority of the target holds; a Host that differs is a contradiction.
            (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
                return Err(Refusal::Host);
            }
            (_, None) if !self.http_10 => return Err(Refusal::Host),
            _ => {}
        }
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(Refusal::Framing),
            (true, None) => Ok(Framing::Chunked),
            (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
        }
    }
}

/// A field line's name and value, the value without the blanks around it. Also what trailers are.
pub(super) fn split_field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::FieldLine)?;
    let (name, rest) = line.split_at_checked(colon).ok_or(Refusal::FieldLine)?;
    let value = rest.get(1..).unwrap_or_default();
    // A blank before the colon, and a folded line, both show as a byte that no name has.
    if name.is_empty() || !name.iter().all(|byte| is_token_byte(*byte)) {
        return Err(Refusal::FieldLine);
    }
    if !value.iter().all(|byte| is_value_byte(*byte)) {
        return Err(Refusal::FieldLine);
    }
    Ok((name, trim(value)))
}

fn refuse_http2(value: &[u8]) -> Result<(), Refusal> {
    let asks = |protocol: &[u8]| {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        name.eq_ignore_ascii_case(b"h2c") || name.eq_ignore_ascii_case(b"h2")
    };
    if value.split(|byte| *byte == b',').any(|protocol| asks(trim(protocol))) {
        return Err(Refusal::UpgradeToHttp2);
    }
    Ok(())
}

fn strip_scheme(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = target.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"http://").then_some(rest)
}

/// `host [":" port]` of RFC 3986 3.2.2 without user information; never empty.
fn is_host(value: &[u8]) -> bool {
    let (host, port) = match value {
        [b'[', ..] => {
            let Some(end) = memchr::memchr(b']', value) else { return false };
            let (literal, rest) = value.split_at(end + 1);
            let inner = literal.get(1..end).unwrap_or_default();
            let port = match rest {
                [] => &[][..],
                [b':', port @ ..] => port,
                _ => return false,
            };
            let is_address =
                std::str::from_utf8(inner).is_ok_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
            if !is_address {
                return false;
            }
            return is_port(port);
        }
        _ => match memchr::memchr(b':', value) {
            Some(colon) => (value.get(..colon), value.get(colon + 1..)),
            None => (Some(value), Some(&[][..])),
        },
    };
    let (Some(host), Some(port)) = (host, port) else { return false };
    !host.is_empty() && host.iter().all(|byte| is_reg_name_byte(*byte)) && is_port(port)
}

/// Empty, or a number a port can have.
fn is_port(port: &[u8]) -> bool {
    port.is_empty()
        || port.len() <= 5
            && port.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
}

fn trim(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let Some(start) = value.iter().position(|byte| !is_blank(byte)) else { return &[] };
    let end = value.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    value.get(start..end).unwrap_or_default()
}

const TOKEN: u8 = 1;
const TARGET: u8 = 2;
const REG_NAME: u8 = 4;

/// Byte classes in one table, so that a head is read with one look-up a byte.
static CLASSES: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        let b = byte as u8;
        let unreserved = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let sub_delim =
            matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            )
        {
            table[byte] |= TOKEN;
        }
        // A fragment is never sent (RFC 9112 3.2.1); the rest of printable ASCII is what clients send.
        if b != b'#' {
            table[byte] |= TARGET;
        }
        if unreserved || sub_delim || b == b'%' {
            table[byte] |= REG_NAME;
        }
        byte += 1;
    }
    table
}

fn is_token_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TOKEN != 0
}

fn is_target_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & TARGET != 0
}

fn is_reg_name_byte(byte: u8) -> bool {
    CLASSES[usize::from(byte)] & REG_NAME != 0
}

/// Visible bytes, blanks and obs-text; no control byte but the tab (RFC 9110 5.5).
const fn is_value_byte(byte: u8) -> bool {
    byte >= 0x20 && byte != 0x7f || byte == b'\t'
}
