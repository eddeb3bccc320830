//! A raw HTTP/1.1 client: exact bytes out, a judged answer in.

use std::net::{SocketAddr, TcpStream};

use super::message::{End, Framing, Head, Wire, latin1, reset};
use super::{Meeting, PATIENCE};

/// What came back, and how it ended.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
    pub(crate) framing: Framing,
    pub(crate) end: End,
    /// Statuses of the interim responses before it.
    pub(crate) interim: Vec<u16>,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The content as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// `X-Cache`, empty when there is none.
    pub(crate) fn x_cache(&self) -> &str {
        self.field("x-cache").unwrap_or_default()
    }

    /// The member of `Cache-Status` that is ours, the last one.
    pub(crate) fn cache_status(&self) -> String {
        let lines = self.head.all("cache-status").join(", ");
        lines.rsplit(", ").next().unwrap_or_default().to_owned()
    }

    /// Seconds of `Age`.
    pub(crate) fn age(&self) -> Option<u64> {
        self.field("age").map(|age| age.parse().expect("Age is a number"))
    }

    /// `ttl` of our member of `Cache-Status`.
    pub(crate) fn ttl(&self) -> Option<i64> {
        let status = self.cache_status();
        let ttl = status.split(';').find_map(|parameter| parameter.trim().strip_prefix("ttl="));
        ttl.map(|ttl| ttl.parse().expect("ttl is a number"))
    }

    /// Whether a client would take it for the whole answer.
    pub(crate) fn is_complete(&self) -> bool {
        self.end == End::Complete
    }

    /// Panics unless it is complete, with this status, `X-Cache` and content.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16, x_cache: &str, body: &str) {
        assert!(self.is_complete(), "ended {:?}: {self:?}", self.end);
        assert_eq!(
            (self.status, self.x_cache(), self.text().as_str()),
            (status, x_cache, body),
            "head: {}",
            latin1(&self.head.raw)
        );
    }
}

/// One connection. Reading waits at most [`PATIENCE`].
pub(crate) struct Client {
    wire: Wire,
}

impl Client {
    #[track_caller]
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a read timeout");
        stream.set_write_timeout(Some(PATIENCE)).expect("a write timeout");
        Self { wire: Wire::new(stream) }
    }

    /// Sends these bytes; a peer that does not want them any more is no failure of the test.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.wire.write(bytes.as_ref()).is_ok()
    }

    /// Says that nothing more will be sent, and stays to read.
    pub(crate) fn finish(&self) {
        self.wire.finish();
    }

    /// Goes away with a reset.
    pub(crate) fn reset(self) {
        reset(&self.wire.stream);
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.wire.stream
    }

    /// The next head, interim or final.
    #[track_caller]
    pub(crate) fn any_head(&mut self) -> Head {
        self.wire.head().unwrap_or_else(|end| panic!("no head: {end:?}"))
    }

    /// The head of the next answer: interim statuses, and the final head.
    pub(crate) fn head(&mut self) -> Result<(Vec<u16>, u16, Head), End> {
        let mut interim = Vec::new();
        loop {
            let head = self.wire.head()?;
            let status = status(&head).map_err(End::Malformed)?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            return Ok((interim, status, head));
        }
    }

    /// The answer to a GET, or why there is none.
    pub(crate) fn try_answer(&mut self) -> Result<Answer, End> {
        self.try_answer_to("GET")
    }

    /// The answer to a request with this method, or why there is none.
    pub(crate) fn try_answer_to(&mut self, method: &str) -> Result<Answer, End> {
        let head = self.head()?;
        self.content_after(method, head)
    }

    /// The answer whose head was read already.
    pub(crate) fn content_after(
        &mut self,
        method: &str,
        (interim, status, head): (Vec<u16>, u16, Head),
    ) -> Result<Answer, End> {
        let framing = framing(method, status, &head).map_err(End::Malformed)?;
        let (mut body, mut trailers) = (Vec::new(), Vec::new());
        let end = self.wire.content(framing, &mut trailers, |piece, _| body.extend_from_slice(piece));
        Ok(Answer { status, head, body, trailers, framing, end, interim })
    }

    /// The answer to a GET; panics when there is none.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().unwrap_or_else(|end| panic!("no answer: {end:?}"))
    }

    /// The answer to a request with this method; panics when there is none.
    #[track_caller]
    pub(crate) fn answer_to(&mut self, method: &str) -> Answer {
        self.try_answer_to(method).unwrap_or_else(|end| panic!("no answer to {method}: {end:?}"))
    }

    /// Content as it arrives, without framing: at least one byte, or why not.
    pub(crate) fn some(&mut self) -> Result<Vec<u8>, End> {
        self.wire.some()
    }

    /// Content as it arrives until `enough` of it did.
    #[track_caller]
    pub(crate) fn read_until(&mut self, enough: impl Fn(&str) -> bool) -> String {
        let mut text = String::new();
        while !enough(&text) {
            let piece = self.some().unwrap_or_else(|end| panic!("{end:?} after {text:?}"));
            text += &latin1(&piece);
        }
        text
    }

    /// Everything until the peer closes, and how.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        self.wire.rest()
    }
}

/// One request on a connection of its own; the method is the first word of `bytes`.
#[track_caller]
pub(crate) fn send(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Answer {
    let bytes = bytes.as_ref();
    let method = latin1(bytes.split(|&b| b == b' ').next().unwrap_or_default());
    let mut client = Client::to(address);
    client.send(bytes);
    client.answer_to(&method)
}

/// GET of this target on a connection of its own, with these field lines (each with its CRLF).
#[track_caller]
pub(crate) fn get(address: SocketAddr, target: &str, lines: &str) -> Answer {
    send(address, request("GET", target, lines))
}

/// A request without content to the host every test uses.
pub(crate) fn request(method: &str, target: &str, lines: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: shop.example\r\n{lines}\r\n")
}

/// `count` clients at once: all connect, all send, then `sent` runs, then all read. Panics where there
/// is no answer.
///
/// A few threads drive many sockets, so that a thousand clients cost no thousand threads.
pub(crate) fn fan_out(
    addresses: &[SocketAddr],
    count: usize,
    bytes: impl Fn(usize) -> String + Sync,
    sent: impl FnOnce(),
) -> Vec<Answer> {
    let answers = try_fan_out(addresses, count, bytes, sent);
    answers.into_iter().map(|answer| answer.unwrap_or_else(|end| panic!("no answer: {end:?}"))).collect()
}

/// As [`fan_out`]; a connection that ended before a head says why.
pub(crate) fn try_fan_out(
    addresses: &[SocketAddr],
    count: usize,
    bytes: impl Fn(usize) -> String + Sync,
    sent: impl FnOnce(),
) -> Vec<Result<Answer, End>> {
    let threads = count.min(16);
    let meeting = Meeting::of(threads + 1);
    std::thread::scope(|scope| {
        let (meeting, bytes) = (&meeting, &bytes);
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                scope.spawn(move || {
                    let mine = (0..count).skip(thread).step_by(threads);
                    let mut clients: Vec<_> =
                        mine.map(|i| (i, Client::to(addresses[i % addresses.len()]))).collect();
                    meeting.arrive();
                    for (i, client) in &mut clients {
                        client.send(bytes(*i));
                    }
                    meeting.arrive();
                    clients.into_iter().map(|(i, mut client)| (i, client.try_answer())).collect::<Vec<_>>()
                })
            })
            .collect();
        meeting.arrive();
        meeting.arrive();
        sent();
        let mut answers: Vec<_> =
            workers.into_iter().flat_map(|worker| worker.join().expect("a client")).collect();
        answers.sort_by_key(|(i, _)| *i);
        answers.into_iter().map(|(_, answer)| answer).collect()
    })
}

fn status(head: &Head) -> Result<u16, String> {
    let mut words = head.start.splitn(3, ' ');
    let version = words.next().unwrap_or_default();
    let status = words.next().and_then(|status| status.parse().ok());
    match status {
        Some(status) if matches!(version, "HTTP/1.1" | "HTTP/1.0") && (100..1000).contains(&status) => {
            Ok(status)
        }
        _ => Err(format!("a bad status line: {:?}", head.start)),
    }
}

fn framing(method: &str, status: u16, head: &Head) -> Result<Framing, String> {
    let stated = head.framing(Framing::Close)?;
    let none = method == "HEAD" || (100..200).contains(&status) || matches!(status, 204 | 304);
    Ok(if none { Framing::None } else { stated })
}
