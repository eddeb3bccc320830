//! Content, taken out of its framing (RFC 9112 6.3, 7.1), the same way on both sides.
//!
//! Decides: which of a connection's bytes are content, and where it ends. Bytes in, places out: nothing is
//! copied.

use http::HeaderMap;

use super::FieldLines;
pub(crate) use super::chunked::Piece;
use super::chunked::{Chunked, Fault};

/// Where in the content of one message its reader stands.
#[derive(Clone, Debug)]
pub(crate) enum Framed {
    /// Of known length: how much of it is left.
    Length(u64),
    /// In chunks.
    Chunked(Box<Chunked>),
    /// Whatever comes until the connection ends.
    UntilClose,
}

impl Framed {
    /// In chunks, of which the content is `room` bytes at most.
    pub(crate) fn chunked(room: u64) -> Self {
        Self::Chunked(Box::new(Chunked::new(room)))
    }

    /// Bytes that are still to come, where that is known.
    pub(crate) const fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Whether the end of the connection is the proper end of the content.
    pub(crate) const fn ends_with_connection(&self) -> bool {
        matches!(self, Self::UntilClose)
    }

    /// Reads on, to the end of `bytes` or of the first piece of content in them.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> Result<Piece, Fault> {
        match self {
            Self::Length(left) => {
                let content = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= content as u64;
                Ok(Piece { framing: 0, content, ended: *left == 0 })
            }
            Self::Chunked(chunked) => chunked.piece(bytes),
            Self::UntilClose => Ok(Piece { framing: 0, content: bytes.len(), ended: false }),
        }
    }

    /// The trailer fields, once the message has ended; `None` where there are none.
    pub(crate) fn trailers(&mut self) -> Option<HeaderMap> {
        let Self::Chunked(chunked) = self else { return None };
        let section = chunked.trailer_section();
        if section.is_empty() { None } else { FieldLines::read(&section)?.into_map() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All content of `bytes` in pieces of `step` bytes as they arrive, how many bytes the message took,
    /// and its trailers.
    fn taken(mut framed: Framed, bytes: &[u8], step: usize) -> (Vec<u8>, usize, Option<HeaderMap>) {
        let (mut content, mut read) = (Vec::new(), 0);
        for arrived in bytes.chunks(step) {
            let mut at = 0;
            while at < arrived.len() {
                let piece = framed.next(&arrived[at..]).expect("well framed");
                let begin = at + piece.framing;
                content.extend_from_slice(&arrived[begin..begin + piece.content]);
                at = begin + piece.content;
                if piece.ended {
                    return (content, read + at, framed.trailers());
                }
            }
            read += arrived.len();
        }
        (content, read, framed.trailers())
    }

    #[test]
    fn rfc9112_7_1_content_however_it_arrives() {
        let chunks = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nSum: 1\r\nsum:\t2 \r\n\r\nGET";
        for step in 1..=chunks.len() {
            let (content, read, trailers) = taken(Framed::chunked(1000), chunks, step);
            assert_eq!(content, b"abc0123456789", "{step}");
            assert_eq!(read, chunks.len() - 3, "{step}");
            let trailers = trailers.expect("some");
            let values: Vec<_> = trailers.get_all("sum").iter().map(|value| value.as_bytes()).collect();
            assert_eq!(values, [b"1", b"2"]);
            let (content, read, trailers) = taken(Framed::Length(5), b"abcdeGET", step);
            assert_eq!((&content[..], read, trailers), (&b"abcde"[..], 5, None), "{step}");
            let (content, ..) = taken(Framed::UntilClose, b"abcdeGET", step);
            assert_eq!(content, b"abcdeGET");
        }
    }

    #[test]
    fn rfc9112_7_1_faults_show_behind_what_came_before_them() {
        let mut framed = Framed::chunked(1000);
        let piece = framed.next(b"3\r\nabcX").expect("a piece");
        assert_eq!(piece, Piece { framing: 3, content: 3, ended: false });
        assert_eq!(framed.next(b"X"), Err(Fault::Malformed));
        assert_eq!(Framed::chunked(2).next(b"3\r\n"), Err(Fault::TooLarge));
    }
}
