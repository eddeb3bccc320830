//! Chunked content (RFC 9112 7.1), read strictly.
//!
//! Decides: which bytes are content and where it ends. Sizes are hexadecimal digits and nothing else: no
//! sign, no `0x`, no blank; every line ends in CR LF. Extensions and trailers are bounded over the whole
//! message. Holds no bytes but those of the trailer section.

use super::grammar::{is_token_byte, is_value_byte};
use super::head::MAX_FIELDS;

/// Digits of one chunk size, leading zeros included.
const MAX_DIGITS: u8 = 15;
/// Bytes of chunk extensions in one message.
const MAX_EXTENSIONS: u16 = 4 * 1024;
/// Bytes of trailer lines in one message; there are no more lines than a head may have.
const MAX_TRAILERS: u16 = 8 * 1024;

/// Why chunked content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be read.
    Malformed,
    /// A trailer line cannot be read.
    TrailerLine,
    /// More trailers than anyone needs.
    TrailersTooLarge,
    /// More content than allowed.
    TooLarge,
}

/// Where in a chunked message the reader stands.
#[derive(Clone, Debug)]
pub(crate) struct Chunked {
    at: At,
    digits: u8,
    extensions: u16,
    trailers: u16,
    trailer_lines: u16,
    /// Of the chunk: what its line said, then how much of it is left.
    size: u64,
    /// How much content may still come.
    room: u64,
    /// The trailer section, as far as it has come.
    section: Vec<u8>,
}

/// What the next bytes of a message are: some of its framing, and behind it some of its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Bytes of framing.
    pub(crate) framing: usize,
    /// Bytes of content behind them; what follows is to be shown again.
    pub(crate) content: usize,
    /// The message has ended with them.
    pub(crate) ended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer line, or of the empty line that ends the message.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    EndLf,
}

impl Chunked {
    /// At the beginning of content of at most `room` bytes.
    pub(super) const fn new(room: u64) -> Self {
        Self {
            at: At::Size,
            digits: 0,
            extensions: 0,
            trailers: 0,
            trailer_lines: 0,
            size: 0,
            room,
            section: Vec::new(),
        }
    }

    /// Reads on, to the end of `bytes` or of the first piece of content in them.
    pub(super) fn piece(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        let mut framing = 0;
        while let Some((byte, _)) = bytes.get(framing..).and_then(<[u8]>::split_first) {
            if self.at == At::Data {
                let left = bytes.len() - framing;
                let content = usize::try_from(self.size).unwrap_or(usize::MAX).min(left);
                self.size -= content as u64;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                return Ok(Piece { framing, content, ended: false });
            }
            framing += 1;
            if self.at == At::EndLf && *byte == b'\n' {
                return Ok(Piece { framing, content: 0, ended: true });
            }
            self.at = self.step(*byte)?;
        }
        Ok(Piece { framing, content: 0, ended: false })
    }

    /// The lines of the trailer section, each with its end, once the message has ended.
    pub(super) fn trailer_section(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.section)
    }

    fn step(&mut self, byte: u8) -> Result<At, Fault> {
        match (self.at, byte) {
            (At::Size, b'\r') if self.digits > 0 => Ok(At::SizeLf),
            (At::Size, b';') if self.digits > 0 => Ok(At::Extension),
            (At::Size, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or(Fault::Malformed)?;
                if self.digits == MAX_DIGITS {
                    return Err(Fault::Malformed);
                }
                self.digits += 1;
                self.size = self.size << 4 | u64::from(digit);
                Ok(At::Size)
            }
            (At::Extension, b'\r') => Ok(At::SizeLf),
            (At::Extension, byte) if is_value_byte(byte) => {
                if self.extensions == MAX_EXTENSIONS {
                    return Err(Fault::Malformed);
                }
                self.extensions += 1;
                Ok(At::Extension)
            }
            (At::SizeLf, b'\n') => {
                self.digits = 0;
                self.room = self.room.checked_sub(self.size).ok_or(Fault::TooLarge)?;
                Ok(if self.size == 0 { At::Trailer } else { At::Data })
            }
            (At::DataCr, b'\r') => Ok(At::DataLf),
            (At::DataLf, b'\n') => Ok(At::Size),
            (At::Trailer, b'\r') => Ok(At::EndLf),
            (At::Trailer, byte) if is_token_byte(byte) => {
                if self.trailer_lines == MAX_FIELDS {
                    return Err(Fault::TrailersTooLarge);
                }
                self.trailer_lines += 1;
                self.trailer(At::TrailerName, byte)
            }
            (At::TrailerName, byte) if is_token_byte(byte) => self.trailer(At::TrailerName, byte),
            (At::TrailerName, b':') => self.trailer(At::TrailerValue, byte),
            (At::TrailerValue, b'\r') => {
                self.section.extend_from_slice(b"\r\n");
                Ok(At::TrailerLf)
            }
            (At::TrailerValue, byte) if is_value_byte(byte) => self.trailer(At::TrailerValue, byte),
            (At::TrailerLf, b'\n') => Ok(At::Trailer),
            (At::Trailer | At::TrailerName | At::TrailerValue | At::TrailerLf, _) => Err(Fault::TrailerLine),
            _ => Err(Fault::Malformed),
        }
    }

    fn trailer(&mut self, next: At, byte: u8) -> Result<At, Fault> {
        if self.trailers == MAX_TRAILERS {
            return Err(Fault::TrailersTooLarge);
        }
        self.trailers += 1;
        self.section.push(byte);
        Ok(next)
    }
}
