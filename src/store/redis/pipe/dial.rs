//! How the connection for records is made.
//!
//! Decides: which servers it may be made to, and what is said before the first question. Never touches: the
//! client library, or when a connection is made.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::reply::{self, Reply};
use crate::store::redis::keys::Names;
use crate::store::redis::settings::{Node, Server, Settings};

/// Time to connect, to log in and to be answered once.
const PATIENCE: Duration = Duration::from_millis(500);

/// Where to connect to, and what to say there.
pub(super) struct Dial {
    settings: Arc<Settings>,
    place: Place,
    /// Made at the first attempt: it reads the system's certificates.
    tls: Option<TlsConnector>,
}

enum Place {
    Tcp { node: Node, tls: bool },
    Unix(PathBuf),
}

impl Dial {
    /// `None` where the configuration does not say which server it is.
    pub(super) fn of(settings: &Arc<Settings>) -> Option<Self> {
        let place = match &settings.server {
            Server::Tcp { node, tls } => Place::Tcp { node: node.clone(), tls: *tls },
            Server::Unix { path } => Place::Unix(path.clone()),
            Server::Cluster { .. } | Server::Sentinel { .. } => return None,
        };
        Some(Self { settings: Arc::clone(settings), place, tls: None })
    }

    /// A connection that has answered as records will be answered.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn connect(&mut self) -> io::Result<Stream> {
        let connecting = async {
            let mut stream = self.reach().await?;
            self.greet(&mut stream).await?;
            Ok(stream)
        };
        timeout(PATIENCE, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn reach(&mut self) -> io::Result<Stream> {
        let (node, tls) = match &self.place {
            Place::Unix(path) => return Ok(Stream::Unix(UnixStream::connect(path).await?)),
            Place::Tcp { node, tls } => (node, *tls),
        };
        let connected = TcpStream::connect((node.host.as_str(), node.port)).await?;
        connected.set_nodelay(true)?;
        if !tls {
            return Ok(Stream::Tcp(connected));
        }
        let name = ServerName::try_from(node.host.clone()).map_err(io::Error::other)?;
        let connector = match &self.tls {
            Some(connector) => connector,
            None => {
                let config = self.settings.authorities.client_config().map_err(io::Error::other)?;
                self.tls.insert(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(Stream::Tls(Box::new(connector.connect(name, connected).await?)))
    }

    /// Logs in, selects the database, and reads something: a server that is loading, or does not let us read, is
    /// no place to ask.
    async fn greet(&self, stream: &mut Stream) -> io::Result<()> {
        let Settings { username, password, database, prefix, .. } = &*self.settings;
        let (mut words, mut oks) = (Vec::new(), 0);
        if let Some(password) = password {
            match username {
                Some(user) => reply::put(&mut words, &[b"AUTH", user.as_bytes(), password.as_bytes()]),
                None => reply::put(&mut words, &[b"AUTH", password.as_bytes()]),
            }
            oks += 1;
        }
        if *database != 0 {
            reply::put(&mut words, &[b"SELECT", database.to_string().as_bytes()]);
            oks += 1;
        }
        let probe = Names::new(prefix).probe();
        reply::put_read(&mut words, |out| out.extend_from_slice(probe.as_bytes()));
        stream.write_all(&words).await?;
        stream.flush().await?;
        let mut input = BytesMut::new();
        while oks > 0 {
            match Reply::take_ok(&mut input).map_err(io::Error::other)? {
                Some(()) => oks -= 1,
                None => more(stream, &mut input).await?,
            }
        }
        loop {
            match Reply::take(&mut input) {
                Ok(None) => more(stream, &mut input).await?,
                // Nothing else was asked for.
                Ok(Some(Reply::Value(_))) if input.is_empty() => return Ok(()),
                Ok(Some(Reply::Refused(why))) => return Err(io::Error::other(why)),
                Ok(Some(_)) | Err(_) => return Err(io::Error::other("not an answer of Redis")),
            }
        }
    }
}

async fn more(stream: &mut Stream, input: &mut BytesMut) -> io::Result<()> {
    match stream.read_buf(input).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

impl fmt::Display for Dial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.server.fmt(f)
    }
}

/// A connection to a server, however it is reached.
pub(super) enum Stream {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
