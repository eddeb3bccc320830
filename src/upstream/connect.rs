//! A connection to one server: name, TCP, TLS.
//!
//! Decides: which address is tried and for how long, whom TLS trusts. Never touches: HTTP, or which
//! server is asked. Cancelling [`connect`] closes whatever it had opened.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::UpstreamError;
use crate::clock;
use crate::rules::settings::UpstreamServer;

/// How many addresses of one name are tried for one connection.
const ADDRESSES: usize = 4;

/// The TLS that origins are spoken to with: the operating system's roots, HTTP/1.1 in ALPN.
///
/// Reads files: to be called once, at start. Certificates that do not parse are left out; what is
/// returned beside the configuration is one line for each problem, for the log.
///
/// # Errors
///
/// When not one root certificate can be read: nothing could be trusted.
pub fn native_tls() -> io::Result<(Arc<ClientConfig>, Vec<String>)> {
    let found = rustls_native_certs::load_native_certs();
    let mut problems: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
    let mut roots = RootCertStore::empty();
    let (added, ignored) = roots.add_parsable_certificates(found.certs);
    if ignored > 0 {
        problems.push(format!("{ignored} root certificates do not parse"));
    }
    if added == 0 {
        return Err(io::Error::other(format!("no root certificates: {}", problems.join("; "))));
    }
    Ok((tls_with(roots)?, problems))
}

/// The same, trusting `roots` alone.
///
/// # Errors
///
/// When the cryptography provider offers no usable protocol version, which is a build fault.
pub fn tls_with(roots: RootCertStore) -> io::Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Where one server is found; made once, so that connecting parses nothing.
#[derive(Clone)]
pub(super) struct Address {
    host: Host,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

#[derive(Clone)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Address {
    /// `tls` is needed for https servers alone.
    pub(super) fn new(server: &UpstreamServer, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let bare = server.host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(v6) => Host::Ip(IpAddr::V6(v6.parse::<Ipv6Addr>().map_err(io::Error::other)?)),
            None => match server.host.parse::<IpAddr>() {
                Ok(ip) => Host::Ip(ip),
                Err(_) => Host::Name(server.host.clone()),
            },
        };
        let tls = if server.tls {
            let config = tls.ok_or_else(|| io::Error::other("an https server without TLS configuration"))?;
            let name = match &host {
                Host::Ip(ip) => ServerName::from(*ip),
                Host::Name(name) => ServerName::try_from(name.clone()).map_err(io::Error::other)?,
            };
            Some((TlsConnector::from(Arc::clone(config)), name))
        } else {
            None
        };
        Ok(Self { host, port: server.port, tls })
    }

    async fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => {
                let found = tokio::net::lookup_host((name.as_str(), self.port)).await?;
                Ok(found.take(ADDRESSES).collect())
            }
        }
    }
}

/// Connects within `limit`, TLS included. What is left of the time is shared evenly among the addresses
/// left, so that one that swallows packets does not use up the next one's.
pub(super) async fn connect(address: &Address, limit: Duration) -> Result<Transport, UpstreamError> {
    let deadline = Instant::from_std(clock::monotonic() + limit);
    let addresses = timeout_at(deadline, address.resolve())
        .await
        .map_err(|_| UpstreamError::ConnectTimeout)?
        .map_err(|error| UpstreamError::Connect(Arc::new(error)))?;
    let mut outcome = Err(UpstreamError::Connect(Arc::new(io::Error::new(
        io::ErrorKind::NotFound,
        "the name has no address",
    ))));
    let count = addresses.len();
    for (index, at) in addresses.into_iter().enumerate() {
        let now = Instant::from_std(clock::monotonic());
        let left = deadline.saturating_duration_since(now);
        let share = u32::try_from(count - index).unwrap_or(1);
        outcome = match timeout_at(now + left / share, TcpStream::connect(at)).await {
            Ok(Ok(tcp)) => return secure(address, tcp, deadline).await,
            Ok(Err(error)) => {
                let told = io::Error::new(error.kind(), format!("{at}: {error}"));
                Err(UpstreamError::Connect(Arc::new(told)))
            }
            Err(_) => Err(UpstreamError::ConnectTimeout),
        };
    }
    outcome
}

async fn secure(address: &Address, tcp: TcpStream, deadline: Instant) -> Result<Transport, UpstreamError> {
    tcp.set_nodelay(true).map_err(|error| UpstreamError::Connect(Arc::new(error)))?;
    let Some((connector, name)) = &address.tls else {
        return Ok(Transport::Plain(tcp));
    };
    match timeout_at(deadline, connector.connect(name.clone(), tcp)).await {
        Ok(Ok(stream)) => Ok(Transport::Tls(Box::new(stream))),
        Ok(Err(error)) => Err(UpstreamError::Tls(Arc::new(error))),
        Err(_) => Err(UpstreamError::ConnectTimeout),
    }
}

/// A connected stream.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// What came on a connection that ought to be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// Bytes nobody asked for.
    Bytes,
    /// The end of the stream.
    End,
}

impl Transport {
    /// Asks the socket itself whether nothing lies unread, whatever the event loop has heard of so far: an
    /// event loop under load learns of a closed connection only after the next request was written to it.
    pub(super) fn is_silent(&mut self) -> bool {
        // A TLS record may be a session ticket: only reading it tells.
        if let Self::Tls(_) = self
            && self.poll_said(&mut Context::from_waker(Waker::noop())).is_ready()
        {
            return false;
        }
        let (tcp, tls) = match self {
            Self::Plain(tcp) => (&*tcp, false),
            Self::Tls(stream) => (stream.get_ref().0, true),
        };
        let mut byte = [std::mem::MaybeUninit::uninit(); 1];
        match socket2::SockRef::from(tcp).peek(&mut byte) {
            Ok(count) => count > 0 && tls,
            Err(error) => matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        }
    }

    /// Waits for what ought not to come, without asking a socket that the event loop has heard nothing of.
    /// Whatever comes, the connection is of no use any more.
    pub(super) fn poll_said(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Said>> {
        let mut byte = [0];
        let mut byte = ReadBuf::new(&mut byte);
        ready!(Pin::new(self).poll_read(cx, &mut byte))?;
        Poll::Ready(Ok(if byte.filled().is_empty() { Said::End } else { Said::Bytes }))
    }

    /// Reads behind what `buffer` holds, as much as it has room for; nothing more is there at the end.
    pub(super) fn poll_append(&mut self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<io::Result<()>> {
        // A future of one read, that holds nothing of its own.
        pin!(self.read_buf(buffer)).poll(cx).map_ok(|_| ())
    }

    /// Says that nothing more will be sent, where that takes no waiting.
    pub(super) fn close(&mut self) {
        if let Self::Tls(stream) = self {
            let _ = Pin::new(stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    fn server(tls: bool, host: &str, port: u16) -> UpstreamServer {
        UpstreamServer { tls, host: host.to_owned(), port }
    }

    #[test]
    fn addresses_are_made_or_refused_once() {
        let tls = tls_with(RootCertStore::empty()).expect("tls");
        for (host, https, good) in [
            ("127.0.0.1", false, true),
            ("[::1]", false, true),
            ("[::1", false, true), // a name that will not resolve
            ("[nonsense]", false, false),
            ("shop.example", true, true),
            ("[::1]", true, true),
            ("no name at all", true, false),
        ] {
            assert_eq!(Address::new(&server(https, host, 1), Some(&tls)).is_ok(), good, "{host}");
        }
        assert!(Address::new(&server(true, "shop.example", 443), None).is_err());
    }

    #[tokio::test]
    async fn a_refused_connect_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let address = Address::new(&server(false, "127.0.0.1", port), None).expect("address");
        let error = connect(&address, Duration::from_secs(5)).await.expect_err("refused");
        assert!(matches!(error, UpstreamError::Connect(_)), "{error:?}");
    }

    #[tokio::test]
    async fn a_handshake_that_never_answers_is_a_connect_timeout() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let tls = tls_with(RootCertStore::empty()).expect("tls");
        let address = Address::new(&server(true, "127.0.0.1", port), Some(&tls)).expect("address");
        let error = connect(&address, Duration::from_millis(50)).await.expect_err("silence");
        assert!(matches!(error, UpstreamError::ConnectTimeout), "{error:?}");
    }

    #[tokio::test]
    async fn the_socket_tells_what_lies_unread() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let port = listener.local_addr().expect("address").port();
        let address = Address::new(&server(false, "127.0.0.1", port), None).expect("address");
        for said in [Said::Bytes, Said::End] {
            let mut transport = connect(&address, Duration::from_secs(5)).await.expect("connects");
            let (mut peer, _) = listener.accept().await.expect("accepts");
            assert!(transport.is_silent());
            let mut cx = Context::from_waker(Waker::noop());
            assert!(transport.poll_said(&mut cx).is_pending());
            if said == Said::Bytes {
                peer.write_all(b"x").await.expect("writes");
            } else {
                drop(peer);
            }
            let Transport::Plain(tcp) = &transport else { panic!("not TLS") };
            tcp.readable().await.expect("readable");
            assert!(!transport.is_silent());
            let heard = std::future::poll_fn(|cx| transport.poll_said(cx)).await;
            assert_eq!(heard.expect("readable"), said);
        }
    }
}
