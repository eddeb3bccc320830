//! One request head, line by line.
//!
//! Decides: whether each line has exactly one reading (RFC 9112 2.2, 3, 5), and how the content that
//! follows is framed (6). Remembers only what later lines can contradict, and of that only where it
//! stands: nothing is copied.

use std::ops::Range;

use super::Refusal;
use super::grammar::{
    field, is_host, is_path_and_query, is_value, length, token_length, trim, without_default_port,
};

/// The longest method, in bytes: twice the longest that is registered.
pub const MAX_METHOD: usize = 32;
/// The longest request target, in bytes.
pub const MAX_TARGET: usize = 8 * 1024;
/// The most field lines in a head.
pub const MAX_FIELDS: u16 = 100;

/// How the content of a request is framed.
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
    is_begun: bool,
    http_10: bool,
    /// Length of the method, and of the target behind it and a blank.
    method: usize,
    target: usize,
    chunked: bool,
    fields: u16,
    length: Option<u64>,
    /// The authority of an absolute-form target: where it stands in the head.
    authority: Option<Range<usize>>,
    /// The value of Host: where it stands in the head.
    host: Option<Range<usize>>,
}

impl Head {
    /// Reads the line that ends before the LF at `end` of `head`, and begins at `start`; `Some` when it
    /// was the head's last. `head` begins with the head's first byte; `tell` is told name and value of a
    /// field line.
    pub(super) fn line(
        &mut self,
        head: &[u8],
        start: usize,
        end: usize,
        tell: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>,
    ) -> Result<Option<Framing>, Refusal> {
        let line = head.get(start..end).unwrap_or_default();
        if !self.is_begun {
            self.request_line(line)?;
            self.is_begun = true;
            return Ok(None);
        }
        // A bare LF ends no line: RFC 9112 2.2 lets a recipient accept it, and two would disagree.
        let line = line.strip_suffix(b"\r").ok_or(Refusal::FieldLine)?;
        if line.is_empty() {
            return self.end(head).map(Some);
        }
        let (name, value) = field(line).ok_or(Refusal::FieldLine)?;
        self.field(head, name, trim(value), tell)?;
        Ok(None)
    }

    /// Whether the next line that ends may be a field line.
    pub(super) const fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Reads a field line of `head` that is a good one.
    pub(super) fn field(
        &mut self,
        head: &[u8],
        name: &[u8],
        value: &[u8],
        tell: &mut impl FnMut(&[u8], &[u8]) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if self.fields == MAX_FIELDS {
            return Err(Refusal::HeadTooLarge);
        }
        self.fields += 1;
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.is_some() || !is_host(value) {
                    return Err(Refusal::Host);
                }
                self.host = Some(place(head, value));
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => refuse_http2(value)?,
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length(value)?,
            14 if name.eq_ignore_ascii_case(b"http2-settings") => return Err(Refusal::UpgradeToHttp2),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding(value)?,
            _ => {}
        }
        tell(name, value)
    }

    /// What can be told of the beginning of a line whose end has not come: it will not become right by
    /// waiting. Never tells what the whole line would not.
    pub(super) fn beginning(&self, line: &[u8]) -> Result<(), Refusal> {
        if !self.is_begun {
            return match method_and_rest(line) {
                Ok((_, rest)) if target_length(rest) > MAX_TARGET => Err(Refusal::TargetTooLong),
                Ok(_) => Ok(()),
                Err(refusal) => Err(refusal),
            };
        }
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if is_value(line) { Ok(()) } else { Err(Refusal::FieldLine) }
    }

    /// What a head is that has come to the largest size and not to its end.
    pub(super) const fn too_large(&self) -> Refusal {
        if self.is_begun { Refusal::HeadTooLarge } else { Refusal::TargetTooLong }
    }

    /// RFC 9112 3: `method SP request-target SP HTTP-version`, each exactly so.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let (method, rest) = method_and_rest(line)?;
        let end = target_length(rest);
        if end > MAX_TARGET {
            return Err(Refusal::TargetTooLong);
        }
        let (target, rest) = rest.split_at_checked(end).ok_or(Refusal::RequestLine)?;
        (self.method, self.target) = (method.len(), target.len());
        let version = rest.strip_prefix(b" ").ok_or(Refusal::RequestLine)?;
        self.http_10 = match version {
            b"HTTP/1.1\r" => false,
            b"HTTP/1.0\r" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor, b'\r']
                if major.is_ascii_digit() && minor.is_ascii_digit() =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::RequestLine),
        };
        if matches!(method, b"CONNECT" | b"TRACE") {
            return Err(Refusal::Method);
        }
        match target {
            [b'/', ..] if is_path_and_query(target) => Ok(()),
            b"*" if method == b"OPTIONS" => Ok(()),
            [b'/' | b'*', ..] => Err(Refusal::Target),
            _ => self.absolute(method.len() + 1, target),
        }
    }

    /// RFC 9112 3.2.2: absolute-form, `http` alone; no user information (RFC 9110 4.2.4). The target
    /// begins at `at` of the request line.
    fn absolute(&mut self, at: usize, target: &[u8]) -> Result<(), Refusal> {
        let (scheme, rest) = target.split_at_checked(7).ok_or(Refusal::Target)?;
        if !scheme.eq_ignore_ascii_case(b"http://") {
            return Err(Refusal::Target);
        }
        let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (authority, rest) = rest.split_at_checked(end).ok_or(Refusal::Target)?;
        // The URI parser behind this one takes no percent in an authority.
        if !is_host(authority) || memchr::memchr(b'%', authority).is_some() {
            return Err(Refusal::Host);
        }
        if !is_path_and_query(rest) {
            return Err(Refusal::Target);
        }
        let begin = at + scheme.len();
        self.authority = Some(begin..begin + end);
        Ok(())
    }

    /// RFC 9112 6.2, 6.3: digits alone, one value; the same value twice is refused as well, since no
    /// sender has a reason for it.
    fn content_length(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || self.chunked {
            return Err(Refusal::Framing);
        }
        self.length = Some(length(value).ok_or(Refusal::Framing)?);
        Ok(())
    }

    /// RFC 9112 6.1: a lone `chunked` on HTTP/1.1, and no Content-Length.
    fn transfer_encoding(&mut self, value: &[u8]) -> Result<(), Refusal> {
        if self.length.is_some() || self.chunked || self.http_10 || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Refusal::Framing);
        }
        self.chunked = true;
        Ok(())
    }

    /// How many field lines it has.
    pub(super) const fn fields(&self) -> u16 {
        self.fields
    }

    /// Whether it is of HTTP/1.0.
    pub(super) const fn is_http_10(&self) -> bool {
        self.http_10
    }

    /// Method and target of `head`, which is whole.
    pub(super) fn parts<'h>(&self, head: &'h [u8]) -> (&'h [u8], &'h [u8]) {
        let begin = self.method + 1;
        let target = head.get(begin..begin + self.target);
        (head.get(..self.method).unwrap_or_default(), target.unwrap_or_default())
    }

    fn end(&self, head: &[u8]) -> Result<Framing, Refusal> {
        let text = |place: &Range<usize>| head.get(place.clone()).unwrap_or_default();
        match (&self.authority, &self.host) {
            // RFC 9112 3.2.2: the authority of the target holds; a Host that differs contradicts it.
            (Some(authority), Some(host)) => {
                let (authority, host) = (text(authority), text(host));
                if !without_default_port(authority).eq_ignore_ascii_case(without_default_port(host)) {
                    return Err(Refusal::Host);
                }
            }
            (_, None) if !self.http_10 => return Err(Refusal::Host),
            _ => {}
        }
        Ok(if self.chunked { Framing::Chunked } else { Framing::Length(self.length.unwrap_or(0)) })
    }
}

/// The method, and what follows the blank behind it; nothing follows where the line is not so long yet.
fn method_and_rest(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let (method, rest) = line.split_at_checked(token_length(line)).ok_or(Refusal::RequestLine)?;
    match rest {
        _ if method.len() > MAX_METHOD => Err(Refusal::RequestLine),
        [] => Ok((method, rest)),
        [b' ', rest @ ..] if !method.is_empty() => Ok((method, rest)),
        _ => Err(Refusal::RequestLine),
    }
}

/// How long the target at the beginning of `rest` is, as far as it has come.
fn target_length(rest: &[u8]) -> usize {
    memchr::memchr(b' ', rest).unwrap_or(rest.len())
}

/// Where `value`, a part of `head`, stands in it.
fn place(head: &[u8], value: &[u8]) -> Range<usize> {
    let start = (value.as_ptr() as usize).saturating_sub(head.as_ptr() as usize);
    start..start + value.len()
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
