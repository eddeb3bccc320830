//! What the scripted origin answers, when it answers properly.

use std::time::{Duration, UNIX_EPOCH};

/// A well-formed answer: status, fields in order, content, framing. `Date` is there unless taken out.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    fields: Vec<(String, String)>,
    body: Vec<u8>,
    framing: Delimiter,
    date: bool,
}

#[derive(Clone, Copy, Debug)]
enum Delimiter {
    Length,
    Chunked,
    Close,
    Nothing,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, fields: Vec::new(), body: Vec::new(), framing: Delimiter::Length, date: true }
    }

    /// 200 with this content.
    pub(crate) fn ok(body: impl AsRef<[u8]>) -> Self {
        Self::new(200).body(body)
    }

    /// 304: no content and nothing that says how long it would be.
    pub(crate) fn not_modified() -> Self {
        Self { framing: Delimiter::Nothing, ..Self::new(304) }
    }

    pub(crate) fn field(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// A `Cache-Control` line.
    pub(crate) fn cache(self, directives: &str) -> Self {
        self.field("Cache-Control", directives)
    }

    pub(crate) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// Content in chunks of at most 7 bytes.
    pub(crate) fn chunked(mut self) -> Self {
        self.framing = Delimiter::Chunked;
        self
    }

    /// Content that ends where the connection does.
    pub(crate) fn close_delimited(mut self) -> Self {
        self.framing = Delimiter::Close;
        self
    }

    pub(crate) fn without_date(mut self) -> Self {
        self.date = false;
        self
    }

    pub(crate) fn closes(&self) -> bool {
        matches!(self.framing, Delimiter::Close)
            || self.fields.iter().any(|(n, v)| n.eq_ignore_ascii_case("connection") && v.contains("close"))
    }

    /// Start line and fields, with the empty line.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut text = format!("HTTP/1.1 {} Scripted\r\n", self.status);
        if self.date {
            let now = UNIX_EPOCH + Duration::from_millis(forebay::clock::wall().0);
            text += &format!("Date: {}\r\n", httpdate::fmt_http_date(now));
        }
        for (name, value) in &self.fields {
            text += &format!("{name}: {value}\r\n");
        }
        match self.framing {
            Delimiter::Length => text += &format!("Content-Length: {}\r\n", self.body.len()),
            Delimiter::Chunked => text += "Transfer-Encoding: chunked\r\n",
            Delimiter::Close => text += "Connection: close\r\n",
            Delimiter::Nothing => {}
        }
        text += "\r\n";
        text.into_bytes()
    }

    /// The content as it goes over the wire.
    pub(crate) fn content(&self) -> Vec<u8> {
        if !matches!(self.framing, Delimiter::Chunked) {
            return self.body.clone();
        }
        let mut bytes = Vec::new();
        for chunk in self.body.chunks(7) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}
