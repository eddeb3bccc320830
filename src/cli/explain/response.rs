//! The response that is explained: a head as text, the way `curl -i` prints one.
//!
//! Decides: which text is a head. Never touches: what its fields mean.

use std::fs::File;
use std::io::Read;

use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::semantics::fields;

/// Larger texts are no head.
const MAX_HEAD: u64 = 1 << 20;

/// A final response's status and fields.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Head {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

impl Head {
    /// Reads what `--response` says: a head, `@file`, or `-` for standard input.
    ///
    /// # Errors
    /// What cannot be read, as a sentence that begins with the option.
    pub(super) fn given(argument: &str, input: &mut dyn Read) -> Result<Self, String> {
        let text = match argument.strip_prefix('@') {
            Some(path) => {
                let open = File::open(path).map_err(|error| format!("--response: {path}: {error}"))?;
                bounded(open).map_err(|error| format!("--response: {path}: {error}"))?
            }
            None if argument == "-" => {
                bounded(input).map_err(|error| format!("--response: standard input: {error}"))?
            }
            None => unescaped(argument).into_bytes(),
        };
        Self::parse(&text).map_err(|error| format!("--response: {error}"))
    }

    /// Reads a head. Lines end with LF or CRLF; what follows the first empty line is content and left
    /// alone, except that an interim response (1xx) is passed over, as is the answer of a proxy to
    /// CONNECT: both are what `curl -i` prints in front of the response itself.
    ///
    /// # Errors
    /// What is wrong, with the number of its line.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let mut lines = text
            .split(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
            .enumerate();
        let mut interim = None;
        loop {
            let Some((at, line)) = lines.find(|(_, line)| !line.is_empty()) else {
                return interim.ok_or_else(|| "there is no status line".to_owned());
            };
            let (status, reason) = status_line(line).ok_or_else(|| {
                format!("line {}: {} is no status line such as \"HTTP/1.1 200 OK\"", at + 1, shown(line))
            })?;
            let mut headers = HeaderMap::new();
            let mut ended = false;
            for (at, line) in lines.by_ref() {
                if line.is_empty() {
                    ended = true;
                    break;
                }
                let (name, value) =
                    field_line(line).map_err(|error| format!("line {}: {}: {error}", at + 1, shown(line)))?;
                headers
                    .try_append(name, value)
                    .map_err(|_| format!("line {}: there are too many fields", at + 1))?;
            }
            let tunnel = status == StatusCode::OK && reason.eq_ignore_ascii_case(b"connection established");
            let head = Self { status, headers };
            if !(ended && (status.is_informational() || tunnel)) {
                return Ok(head);
            }
            interim = Some(head);
        }
    }

    /// The content's length, where the head states it.
    pub(super) fn content_length(&self) -> Option<u64> {
        fields::sole(&self.headers, &CONTENT_LENGTH).and_then(|value| fields::digits(value.as_bytes()))
    }
}

/// `HTTP/1.1 200 OK`; the reason may be missing, the version is any (`HTTP/2 200`).
fn status_line(line: &[u8]) -> Option<(StatusCode, &[u8])> {
    let rest = line.strip_prefix(b"HTTP/")?;
    let mut words = rest.splitn(3, |byte| *byte == b' ');
    let version = words.next()?;
    let digits = version.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let status = StatusCode::from_bytes(words.next()?).ok()?;
    (digits && !version.is_empty()).then_some((status, words.next().unwrap_or_default()))
}

fn field_line(line: &[u8]) -> Result<(HeaderName, HeaderValue), &'static str> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err("folded lines are refused");
    }
    let colon = line.iter().position(|byte| *byte == b':').ok_or("no colon")?;
    let (name, value) = line.split_at(colon);
    let value = fields::trim_ows(value.get(1..).unwrap_or_default());
    let name = HeaderName::from_bytes(name).map_err(|_| "no field name before the colon")?;
    Ok((name, HeaderValue::from_bytes(value).map_err(|_| "a control character")?))
}

fn bounded(input: impl Read) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    input.take(MAX_HEAD + 1).read_to_end(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_HEAD {
        return Err("larger than 1MiB: not a head".to_owned());
    }
    Ok(text)
}

/// A shell makes it easier to write `\n` than a line feed: in a text without any, `\n` and `\r\n` are
/// ends of lines.
fn unescaped(text: &str) -> String {
    if text.contains('\n') { text.to_owned() } else { text.replace("\\r\\n", "\n").replace("\\n", "\n") }
}

/// The beginning of a line, quoted.
fn shown(line: &[u8]) -> String {
    const MOST: usize = 60;
    let text = String::from_utf8_lossy(line);
    let mut short: String = text.chars().take(MOST).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("{short:?}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<(u16, Vec<String>), String> {
        Head::given(text, &mut std::io::empty()).map(|head| {
            let line = |(name, value): (&HeaderName, &HeaderValue)| {
                format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))
            };
            (head.status.as_u16(), head.headers.iter().map(line).collect())
        })
    }

    #[test]
    fn heads_as_people_have_them() {
        let plain = Ok((200, vec!["cache-control: max-age=60".to_owned(), "vary: a".to_owned()]));
        for text in [
            "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nVary: a\r\n\r\n",
            "HTTP/1.1 200 OK\nCache-Control:max-age=60 \nVary:\ta",
            "HTTP/1.1 200 OK\\r\\nCache-Control: max-age=60\\nVary: a",
            "\nHTTP/2 200 \nCache-Control: max-age=60\nVary: a\n\nbody: not a field\n",
            "HTTP/1.1 103 Early Hints\nLink: x\n\nHTTP/1.0 200\nCache-Control: max-age=60\nVary: a\n",
            "HTTP/1.1 200 Connection established\n\nHTTP/3 200\nCache-Control: max-age=60\nVary: a\n",
        ] {
            assert_eq!(read(text), plain, "{text:?}");
        }
        assert_eq!(
            read("HTTP/1.1 599\nA: 1\nB:\nA: 2"),
            Ok((599, vec!["a: 1".into(), "a: 2".into(), "b: ".into()]))
        );
        for text in ["HTTP/1.1 103 Early Hints\nLink: x", "HTTP/1.1 103 Early Hints\nLink: x\n\n\n"] {
            assert_eq!(read(text), Ok((103, vec!["link: x".into()])));
        }
        // With a line feed in it, what looks like an escape is part of a value.
        assert_eq!(read("HTTP/1.1 200 OK\nA: b\\nc"), Ok((200, vec!["a: b\\nc".into()])));
    }

    #[test]
    fn what_is_no_head() {
        for (text, error) in [
            ("", "there is no status line"),
            ("\n\n", "there is no status line"),
            ("200 OK", "line 1: \"200 OK\" is no status line such as \"HTTP/1.1 200 OK\""),
            (
                "Cache-Control: a",
                "line 1: \"Cache-Control: a\" is no status line such as \"HTTP/1.1 200 OK\"",
            ),
            ("HTTP/1.1 20 OK", "line 1: \"HTTP/1.1 20 OK\" is no status line such as \"HTTP/1.1 200 OK\""),
            ("HTTP/ 200", "line 1: \"HTTP/ 200\" is no status line such as \"HTTP/1.1 200 OK\""),
            ("HTTP/1.1 200 OK\nA: 1\n B", "line 3: \" B\": folded lines are refused"),
            ("HTTP/1.1 200 OK\nnothing", "line 2: \"nothing\": no colon"),
            ("HTTP/1.1 200 OK\nA : 1", "line 2: \"A : 1\": no field name before the colon"),
            ("HTTP/1.1 200 OK\nA: \u{1}", "line 2: \"A: \\u{1}\": a control character"),
            ("@/nonexistent/head", "/nonexistent/head: No such file or directory (os error 2)"),
        ] {
            assert_eq!(read(text), Err(format!("--response: {error}")), "{text:?}");
        }
        let long = format!("HTTP/1.1 200 OK\n{}", "x".repeat(100));
        assert_eq!(read(&long), Err(format!("--response: line 2: \"{}...\": no colon", "x".repeat(60))));
    }

    #[test]
    fn files_and_standard_input() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("head");
        std::fs::write(&path, b"HTTP/1.1 404 Not Found\nA: \xff\n").unwrap();
        let head = Head::given(&format!("@{}", path.display()), &mut std::io::empty()).unwrap();
        assert_eq!((head.status, head.headers["a"].as_bytes()), (StatusCode::NOT_FOUND, &b"\xff"[..]));
        let head = Head::given("-", &mut &b"HTTP/1.1 204 x\r\n\r\n"[..]).unwrap();
        assert_eq!(head.status, StatusCode::NO_CONTENT);
        let error = Head::given("-", &mut std::io::repeat(b'x')).unwrap_err();
        assert_eq!(error, "--response: standard input: larger than 1MiB: not a head");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(tail in prop::collection::vec(any::<u8>(), 0..200), status_line: bool) {
            let mut text = if status_line { b"HTTP/1.1 200 OK\n".to_vec() } else { Vec::new() };
            text.extend(tail);
            let _ = Head::parse(&text);
        }
    }
}
