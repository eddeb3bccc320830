//! A small HTTP/1.1 client for the commands that talk to a running proxy.
//!
//! Decides: how long a peer may take, and how much of an answer is read. Never touches: what is asked
//! for, or what an answer means. One connection, kept alive; whoever has it sends one request at a time.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::explain::Url;

/// To connect.
const CONNECT: Duration = Duration::from_secs(5);

/// Why there is no answer, for people.
pub(super) type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Where a listener of forebay is: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener(pub(super) Url);

impl FromStr for Listener {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url: Url = text.parse()?;
        if url.tls {
            return Err("forebay speaks http:// alone".to_owned());
        }
        if url.target != "/" {
            return Err(format!("give the listener alone: \"http://{}\"", url.authority));
        }
        Ok(Self(url))
    }
}

/// A connection to one server; dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    task: AbortHandle,
}

impl Connection {
    /// Connects to the host and port of a URL, without TLS.
    pub(super) async fn open(url: &Url) -> Result<Self, Failure> {
        let authority: Authority = url.authority.parse()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let connecting = TcpStream::connect((host, authority.port_u16().unwrap_or(80)));
        let stream = within(CONNECT, connecting).await??;
        stream.set_nodelay(true)?;
        let (sender, driver) = http1::handshake(TokioIo::new(stream)).await?;
        // What goes wrong reaches whoever waits for the answer.
        let task = tokio::spawn(async move { drop(driver.await) }).abort_handle();
        Ok(Self { sender, task })
    }

    /// Whether another request may be sent on it: the answer before was read to its end, and the
    /// server keeps the connection.
    pub(super) async fn is_reusable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request; the head of its answer has to come within `limit`.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        limit: Duration,
    ) -> Result<Response<Incoming>, Failure> {
        Ok(within(limit, self.sender.send_request(request)).await??)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The whole content of an answer, if it has at most `most` bytes and comes within `limit`.
pub(super) async fn content(body: Incoming, most: usize, limit: Duration) -> Result<Bytes, Failure> {
    Ok(within(limit, Limited::new(body, most).collect()).await??.to_bytes())
}

/// The same future with a limit on its time.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", limit.as_secs()));
    tokio::time::timeout(limit, future).await.map_err(late)
}

/// Whether time ran out: to try again would only take as long again.
pub(super) fn is_late(failure: &Failure) -> bool {
    failure.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// A failure with what is behind it, in one line.
pub(super) fn told(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = failure.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_an_address() {
        for text in ["http://127.0.0.1:9090", "http://admin.internal/", "http://[::1]:9090"] {
            assert!(text.parse::<Listener>().is_ok(), "{text}");
        }
        for (text, error) in [
            ("127.0.0.1:9090", "it has no scheme; did you mean \"http://127.0.0.1:9090\"?"),
            ("https://127.0.0.1:9090", "forebay speaks http:// alone"),
            ("http://a:9090/purge", "give the listener alone: \"http://a:9090\""),
        ] {
            assert_eq!(text.parse::<Listener>().unwrap_err(), error);
        }
    }
}
