//! The bytes of the protocol (RESP2), as far as reading records needs them.
//!
//! Decides: what is a whole answer, and what is none. Never touches: connections. Reading is total, and no
//! length that Redis names is made room for beyond the longest value there is. Nothing within a value is
//! ever read as protocol, and nothing nests. Pure.

use std::sync::LazyLock;

use bytes::{Buf, Bytes, BytesMut};

use crate::store::redis::LONGEST_VALUE;

/// The longest line: a length, or what Redis says in the place of a value.
const LONGEST_LINE: usize = 1024;
const END: &[u8] = b"\r\n";

/// An answer to a question of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// What lies there; empty where there is nothing.
    Value(Bytes),
    /// Why it is not said: the first word is its kind.
    Refused(String),
}

/// Bytes that are no answer to any question of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Reply {
    /// Takes the first answer off what has come; `None` while it is not whole.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Garbled> {
        let Some(line) = line(input)? else { return Ok(None) };
        let Some((kind, rest)) = line.split_first() else { return Err(Garbled) };
        let head = line.len() + END.len();
        match *kind {
            b'$' => {
                let Some(length) = length(rest)? else {
                    input.advance(head);
                    return Ok(Some(Self::Value(Bytes::new())));
                };
                let end = head + length;
                let Some(found) = input.get(end..end + END.len()) else { return Ok(None) };
                if found != END {
                    return Err(Garbled);
                }
                input.advance(head);
                let value = input.split_to(length).freeze();
                input.advance(END.len());
                Ok(Some(Self::Value(value)))
            }
            b'-' => {
                let why = String::from_utf8_lossy(rest).into_owned();
                input.advance(head);
                Ok(Some(Self::Refused(why)))
            }
            _ => Err(Garbled),
        }
    }

    /// Takes a `+OK` off what has come: what logging in and selecting a database are answered with.
    pub(super) fn take_ok(input: &mut BytesMut) -> Result<Option<()>, String> {
        let Some(line) = line(input).map_err(|Garbled| "not an answer of Redis".to_owned())? else {
            return Ok(None);
        };
        if line != b"+OK" {
            return Err(String::from_utf8_lossy(line).into_owned());
        }
        input.advance(b"+OK".len() + END.len());
        Ok(Some(()))
    }
}

/// How many bytes are known to be missing of the answer that has begun.
pub(super) fn missing(input: &[u8]) -> usize {
    let Ok(Some(line @ [b'$', digits @ ..])) = line(input) else { return 0 };
    let Ok(Some(length)) = length(digits) else { return 0 };
    (line.len() + END.len() + length + END.len()).saturating_sub(input.len())
}

/// `GETRANGE name 0 …`: of values longer than any of ours, whoever wrote them, only so much. `put_name` appends
/// the name.
pub(super) fn put_read(out: &mut Vec<u8>, put_name: impl FnOnce(&mut Vec<u8>)) {
    static RANGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut range = Vec::new();
        put_word(&mut range, b"0");
        put_word(&mut range, (LONGEST_VALUE - 1).to_string().as_bytes());
        range
    });
    out.extend_from_slice(b"*4\r\n$8\r\nGETRANGE\r\n");
    put_written(out, put_name);
    out.extend_from_slice(&RANGE);
}

/// A string that is written where it is to stand. Nearly all lengths are of two digits, for
/// which there is room before; Redis takes none with a zero before it.
fn put_written(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"$00\r\n");
    let begin = out.len();
    write(out);
    let length = out.len() - begin;
    match out.get_mut(begin - 4..begin - 2) {
        Some([tens, ones]) if (10..100).contains(&length) => {
            (*tens, *ones) = (b'0' + (length / 10) as u8, b'0' + (length % 10) as u8);
            out.extend_from_slice(END);
        }
        _ => {
            let word = out.split_off(begin);
            out.truncate(begin - b"$00\r\n".len());
            put_word(out, &word);
        }
    }
}

/// A script that answers `proof`; it names a key because users may be confined to some.
pub(super) fn put_echo(out: &mut Vec<u8>, name: &[u8], proof: &[u8]) {
    put(out, &[b"EVAL", b"return ARGV[1]", b"1", name, proof]);
}

/// A command, as an array of strings.
pub(super) fn put(out: &mut Vec<u8>, words: &[&[u8]]) {
    put_length(out, b'*', words.len());
    words.iter().for_each(|word| put_word(out, word));
}

fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    put_length(out, b'$', word.len());
    out.extend_from_slice(word);
    out.extend_from_slice(END);
}

fn put_length(out: &mut Vec<u8>, kind: u8, length: usize) {
    let (mut digits, mut at, mut left) = ([0_u8; 20], 20, length);
    while at == 20 || left > 0 {
        at -= 1;
        digits[at] = b'0' + (left % 10) as u8;
        left /= 10;
    }
    out.push(kind);
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(END);
}

/// The first line, without its end; `None` while it is not whole.
fn line(input: &[u8]) -> Result<Option<&[u8]>, Garbled> {
    let within = input.get(..LONGEST_LINE).unwrap_or(input);
    match memchr::memchr(b'\n', within) {
        Some(at) => match within.get(..at).and_then(|line| line.strip_suffix(b"\r")) {
            Some(line) => Ok(Some(line)),
            None => Err(Garbled),
        },
        None if within.len() == LONGEST_LINE => Err(Garbled),
        None => Ok(None),
    }
}

/// The length of a value; `None` where there is none.
fn length(digits: &[u8]) -> Result<Option<usize>, Garbled> {
    if digits == b"-1" {
        return Ok(None);
    }
    if digits.is_empty() || digits.len() > 9 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Garbled);
    }
    let length = digits.iter().fold(0, |length, digit| length * 10 + usize::from(digit - b'0'));
    if length <= LONGEST_VALUE { Ok(Some(length)) } else { Err(Garbled) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bytes: &[u8]) -> (Result<Option<Reply>, Garbled>, usize) {
        let mut input = BytesMut::from(bytes);
        let reply = Reply::take(&mut input);
        (reply, input.len())
    }

    #[test]
    fn answers() {
        let value = |text: &'static [u8]| Ok(Some(Reply::Value(Bytes::from_static(text))));
        let refused = |text: &str| Ok(Some(Reply::Refused(text.to_owned())));
        let too_long = format!("${}\r\n", LONGEST_VALUE + 1);
        let long_line = [b"-".as_slice(), &[b'x'; LONGEST_LINE]].concat();
        let table: &[(&[u8], Result<Option<Reply>, Garbled>, usize)] = &[
            (b"$3\r\nabc\r\n$1", value(b"abc"), 2),
            (b"$0\r\n\r\n", value(b""), 0),
            (b"$-1\r\nx", value(b""), 1),
            (b"$5\r\n-ERR\n\r\n", value(b"-ERR\n"), 0),
            (b"-WRONGTYPE Operation\r\n$", refused("WRONGTYPE Operation"), 1),
            (b"-\xff\r\n", refused("\u{fffd}"), 0),
            // Not whole.
            (b"", Ok(None), 0),
            (b"$", Ok(None), 1),
            (b"$3\r", Ok(None), 3),
            (b"$3\r\nabc\r", Ok(None), 8),
            // No answers.
            (b"$3\r\nabcd\r\n", Err(Garbled), 10),
            (b"$\r\n", Err(Garbled), 3),
            (b"$-2\r\n", Err(Garbled), 5),
            (b"$1x\r\n", Err(Garbled), 5),
            (b"$3\n", Err(Garbled), 3),
            (b"$9999999999\r\n", Err(Garbled), 13),
            (too_long.as_bytes(), Err(Garbled), too_long.len()),
            (&long_line, Err(Garbled), long_line.len()),
            (b"\r\n", Err(Garbled), 2),
            (b":7\r\n", Err(Garbled), 4),
            (b"+OK\r\n", Err(Garbled), 5),
            (b"*1\r\n$1\r\na\r\n", Err(Garbled), 11),
            (b"%1\r\n", Err(Garbled), 4),
            (b"HTTP/1.1 400 Bad Request\r\n", Err(Garbled), 26),
        ];
        for (bytes, reply, left) in table {
            assert_eq!(taken(bytes), (reply.clone(), *left), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn logging_in() {
        let ok = |bytes: &[u8]| Reply::take_ok(&mut BytesMut::from(bytes));
        assert_eq!(ok(b"+OK\r\n"), Ok(Some(())));
        assert_eq!(ok(b"+O"), Ok(None));
        assert_eq!(ok(b"-WRONGPASS no\r\n"), Err("-WRONGPASS no".to_owned()));
        assert_eq!(ok(b"+OK\n"), Err("not an answer of Redis".to_owned()));
    }

    #[test]
    fn questions() {
        let mut out = Vec::new();
        put_read(&mut out, |out| out.extend_from_slice(b"k\r\n"));
        let last = (LONGEST_VALUE - 1).to_string();
        let expected =
            format!("*4\r\n$8\r\nGETRANGE\r\n$3\r\nk\r\n\r\n$1\r\n0\r\n${}\r\n{last}\r\n", last.len());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        for (length, digits) in
            [(0, "0"), (9, "9"), (10, "10"), (54, "54"), (99, "99"), (100, "100"), (1234, "1234")]
        {
            let (mut out, name) = (Vec::new(), "n".repeat(length));
            put_read(&mut out, |out| out.extend_from_slice(name.as_bytes()));
            let expected = format!("*4\r\n$8\r\nGETRANGE\r\n${digits}\r\n{name}\r\n$1\r\n0\r\n");
            assert!(out.starts_with(expected.as_bytes()), "{}", out.escape_ascii());
        }
        let mut out = Vec::new();
        put(&mut out, &[b"", &[b'x'; 100]]);
        assert!(out.starts_with(b"*2\r\n$0\r\n\r\n$100\r\nx"), "{}", out.escape_ascii());
    }

    #[test]
    fn what_is_missing() {
        for (bytes, expected) in [
            (b"".as_slice(), 0),
            (b"$", 0),
            (b"$5\r\nab", 5),
            (b"$100\r\nab", 100),
            (b"$1\r\na\r\n", 0),
            (b"$-1\r\n", 0),
            (b"$9999999999\r\n", 0),
            (b"-ERR\r\n", 0),
        ] {
            assert_eq!(missing(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        /// However its bytes arrive, an answer is the same.
        #[test]
        fn pieces(values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), cut in 1_usize..9) {
            let mut bytes = Vec::new();
            for value in &values {
                put_length(&mut bytes, b'$', value.len());
                bytes.extend_from_slice(value);
                bytes.extend_from_slice(END);
            }
            let (mut input, mut read) = (BytesMut::new(), Vec::new());
            for piece in bytes.chunks(cut) {
                input.extend_from_slice(piece);
                while let Some(reply) = Reply::take(&mut input).unwrap() {
                    read.push(reply);
                }
            }
            let expected: Vec<_> = values.into_iter().map(|value| Reply::Value(value.into())).collect();
            prop_assert_eq!(read, expected);
            prop_assert!(input.is_empty());
        }

        /// Whatever comes, nothing panics, and nothing is taken off that was no answer.
        #[test]
        fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let (reply, left) = taken(&bytes);
            prop_assert_eq!(left < bytes.len(), matches!(reply, Ok(Some(_))));
        }
    }
}
