//! One HTTP/1.1 message off a socket, and how it ended: strict, since this reader judges the proxy.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

/// How a message, or the wait for one, ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was framed to its end; for a message delimited by closing, the close was clean.
    Complete,
    /// The peer closed cleanly where a message could have begun.
    Closed,
    /// The peer closed in the middle.
    Short,
    /// The peer reset the connection.
    Reset,
    /// Nothing came in time.
    Stalled,
    /// What came is not HTTP/1.1.
    Malformed(String),
}

/// What delimits the content of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    None,
    Length(u64),
    Chunked,
    Close,
}

/// Start line and fields. Values keep their bytes: one `char` per byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) raw: Vec<u8>,
}

impl Head {
    /// Parses a head that ends with an empty line; lines end with CRLF and nothing else.
    pub(crate) fn parse(raw: Vec<u8>) -> Result<Self, String> {
        let text = latin1(&raw);
        let lines = text.strip_suffix("\r\n\r\n").ok_or("a head without an empty line")?;
        let mut lines = lines.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        let mut fields = Vec::new();
        for line in lines {
            let (name, value) =
                line.split_once(':').ok_or_else(|| format!("a line without colon: {line:?}"))?;
            let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
            if name.is_empty() || !name.chars().all(token) {
                return Err(format!("a bad field name: {name:?}"));
            }
            if value.contains(['\r', '\n', '\0']) {
                return Err(format!("a control in a value: {line:?}"));
            }
            fields.push((name.to_ascii_lowercase(), value.trim_matches([' ', '\t']).to_owned()));
        }
        if start.contains(['\r', '\n', '\0']) {
            return Err(format!("a control in the start line: {start:?}"));
        }
        Ok(Self { start, fields, raw })
    }

    /// The first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str()).collect()
    }

    /// The framing that the fields state; `otherwise` when they state none. Ambiguity is an error.
    pub(crate) fn framing(&self, otherwise: Framing) -> Result<Framing, String> {
        match (self.all("transfer-encoding").as_slice(), self.all("content-length").as_slice()) {
            ([], []) => Ok(otherwise),
            ([coding], []) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            ([], [length]) if !length.is_empty() && length.bytes().all(|b| b.is_ascii_digit()) => {
                length.parse().map(Framing::Length).map_err(|_| format!("too long: {length}"))
            }
            (codings, lengths) => Err(format!("ambiguous framing: {codings:?} {lengths:?}")),
        }
    }
}

/// Bytes as text, one `char` per byte, so that nothing is lost.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}

/// A socket and what was read from it beyond the last message.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// No more will be sent; what the peer sends can still be read.
    pub(crate) fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Reads one head, up to its empty line.
    pub(crate) fn head(&mut self) -> Result<Head, End> {
        let mut searched = 0;
        loop {
            let from = searched.max(3) - 3;
            if let Some(at) = self.buffer[from..].windows(4).position(|four| four == b"\r\n\r\n") {
                let raw: Vec<u8> = self.buffer.drain(..from + at + 4).collect();
                return Head::parse(raw).map_err(End::Malformed);
            }
            searched = self.buffer.len();
            if let Err(end) = self.more() {
                return Err(if end == End::Short && self.buffer.is_empty() { End::Closed } else { end });
            }
        }
    }

    /// Reads content to its end and hands it to `take`, piece by piece, each with its raw form.
    /// Trailer fields go into `trailers`.
    pub(crate) fn content(
        &mut self,
        framing: Framing,
        trailers: &mut Vec<(String, String)>,
        mut take: impl FnMut(&[u8], &[u8]),
    ) -> End {
        let result = match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.exactly(length, &mut |piece| take(piece, piece)),
            Framing::Chunked => self.chunks(trailers, &mut take),
            Framing::Close => loop {
                let piece = std::mem::take(&mut self.buffer);
                take(&piece, &piece);
                match self.more() {
                    Ok(()) => {}
                    Err(End::Short) => break Ok(()),
                    Err(end) => break Err(end),
                }
            },
        };
        result.err().unwrap_or(End::Complete)
    }

    /// Everything until the peer closes, and how it did: `Closed` or `Reset` (or `Stalled`).
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.more() {
                Ok(()) => {}
                Err(End::Short) => return (std::mem::take(&mut self.buffer), End::Closed),
                Err(end) => return (std::mem::take(&mut self.buffer), end),
            }
        }
    }

    /// At least one byte, or why not.
    pub(crate) fn some(&mut self) -> Result<Vec<u8>, End> {
        if self.buffer.is_empty() {
            self.more()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    fn chunks(
        &mut self,
        trailers: &mut Vec<(String, String)>,
        take: &mut impl FnMut(&[u8], &[u8]),
    ) -> Result<(), End> {
        loop {
            let line = self.line()?;
            take(&[], &line);
            let text = latin1(&line);
            let digits = text.trim_end_matches("\r\n").split(';').next().unwrap_or_default();
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(End::Malformed(format!("a bad chunk size: {text:?}")));
            }
            let size = u64::from_str_radix(digits, 16).map_err(|_| End::Malformed(text.clone()))?;
            if size == 0 {
                break;
            }
            self.exactly(size, &mut |piece| take(piece, piece))?;
            let line = self.line()?;
            take(&[], &line);
            if line != b"\r\n" {
                return Err(End::Malformed("a chunk longer than its size".to_owned()));
            }
        }
        loop {
            let line = self.line()?;
            take(&[], &line);
            if line == b"\r\n" {
                return Ok(());
            }
            let text = latin1(&line);
            let Some((name, value)) = text.split_once(':') else {
                return Err(End::Malformed(format!("a bad trailer: {text:?}")));
            };
            trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn exactly(&mut self, length: u64, take: &mut impl FnMut(&[u8])) -> Result<(), End> {
        let mut left = length;
        while left > 0 {
            if self.buffer.is_empty() {
                self.more()?;
            }
            let now = self.buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            take(&self.buffer[..now]);
            self.buffer.drain(..now);
            left -= now as u64;
        }
        Ok(())
    }

    fn line(&mut self) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                return Ok(self.buffer.drain(..at + 2).collect());
            }
            self.more()?;
        }
    }

    fn more(&mut self) -> Result<(), End> {
        let mut piece = [0; 16 << 10];
        match self.stream.read(&mut piece) {
            Ok(0) => Err(End::Short),
            Ok(length) => {
                self.buffer.extend_from_slice(&piece[..length]);
                Ok(())
            }
            Err(error) => Err(match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => End::Stalled,
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted => {
                    End::Reset
                }
                _ => End::Malformed(error.to_string()),
            }),
        }
    }
}

/// Closes so that the peer sees a reset, not an end.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(std::time::Duration::ZERO));
    // The reset goes out when the last descriptor of this socket is closed; a shutdown would send FIN.
}
