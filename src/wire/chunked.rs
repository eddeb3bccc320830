//! Chunked content (RFC 9112 7.1), read strictly.
//!
//! Decides: where the content ends. Sizes are hexadecimal digits and nothing else: no sign, no `0x`,
//! no blank; every line ends in CR LF. Extensions and trailers are bounded over the whole message.

use super::Refusal;
use super::head::split_field;

/// Digits of one chunk size.
const MAX_DIGITS: u8 = 15;
/// Bytes of chunk extensions in one message.
const MAX_EXTENSIONS: usize = 4 * 1024;
/// Bytes of trailer lines in one message.
const MAX_TRAILERS: usize = 8 * 1024;

/// Where in a chunked message the reader stands.
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    at: At,
    size: u64,
    digits: u8,
    extensions: usize,
    trailers: usize,
    /// Bytes of content so far.
    total: u64,
    /// The trailer line being read.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
}

impl Chunked {
    pub(super) const fn new() -> Self {
        Self { at: At::Size, size: 0, digits: 0, extensions: 0, trailers: 0, total: 0, line: Vec::new() }
    }

    /// Reads on; how many of `bytes` belong to this message, and whether it has ended.
    pub(super) fn read(&mut self, bytes: &[u8], max_body: u64) -> Result<(usize, bool), Refusal> {
        let mut read = 0;
        while let Some(rest) = bytes.get(read..).filter(|rest| !rest.is_empty()) {
            if self.at == At::Data {
                let step = usize::try_from(self.size).unwrap_or(usize::MAX).min(rest.len());
                self.size -= step as u64;
                read += step;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            let Some(&byte) = rest.first() else { break };
            read += 1;
            if self.byte(byte, max_body)? {
                return Ok((read, true));
            }
        }
        Ok((read, false))
    }

    fn byte(&mut self, byte: u8, max_body: u64) -> Result<bool, Refusal> {
        self.at = match (self.at, byte) {
            (At::Size, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Size, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Refusal::Framing)?;
                self.digits += 1;
                if self.digits > MAX_DIGITS {
                    return Err(Refusal::Framing);
                }
                self.size = self.size << 4 | u64::from(digit);
                At::Size
            }
            (At::Extension, b'\r') => At::SizeLf,
            (At::Extension, 0x20..=0x7e | b'\t') => {
                self.extensions += 1;
                if self.extensions > MAX_EXTENSIONS {
                    return Err(Refusal::Framing);
                }
                At::Extension
            }
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                self.total = self.total.saturating_add(self.size);
                if self.total > max_body {
                    return Err(Refusal::BodyTooLarge);
                }
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::Trailer, b'\n') => return Err(Refusal::Framing),
            (At::Trailer, byte) => {
                self.trailers += 1;
                if self.trailers > MAX_TRAILERS {
                    return Err(Refusal::HeadTooLarge);
                }
                self.line.push(byte);
                At::Trailer
            }
            (At::TrailerLf, b'\n') => {
                if self.line.is_empty() {
                    return Ok(true);
                }
                split_field(&self.line)?;
                self.line.clear();
                At::Trailer
            }
            _ => return Err(Refusal::Framing),
        };
        Ok(false)
    }
}
