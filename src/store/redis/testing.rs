//! A real `redis-server` for tests, on an unused port of the loopback interface.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::clock;

/// Longest anything in these tests may take to come true.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server of one test; it ends with the value.
pub(super) struct RedisServer {
    pub(super) port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// A port where nothing listens yet.
    pub(super) fn absent() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        Self { port: listener.local_addr().expect("an address").port(), child: None }
    }

    /// Runs and answers.
    pub(super) fn running() -> Self {
        let mut server = Self::absent();
        server.start();
        server
    }

    /// Starts on the same port, empty, and waits until it answers.
    pub(super) fn start(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let program = std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
        let child = Command::new(program)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--loglevel", "warning"])
            .current_dir(std::env::temp_dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("redis-server (Debian package `redis-server`) is needed by this test: {error}")
            });
        self.child = Some(child);
        let deadline = clock::monotonic() + PATIENCE;
        while self.try_command(&["PING"]).is_none_or(|reply| !reply.starts_with("+PONG")) {
            assert!(clock::monotonic() < deadline, "redis-server does not answer on port {}", self.port);
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }

    /// Stops it where it is: connections stay open, nothing answers.
    pub(super) fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let child = self.child.as_ref().expect("it runs");
        let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// The raw reply to one command, on a connection of its own.
    pub(super) fn command<B: AsRef<[u8]>>(&self, arguments: &[B]) -> String {
        self.try_command(arguments).expect("an answer")
    }

    fn try_command<B: AsRef<[u8]>>(&self, arguments: &[B]) -> Option<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        let mut request = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            request.extend_from_slice(format!("${}\r\n", argument.as_ref().len()).as_bytes());
            request.extend_from_slice(argument.as_ref());
            request.extend_from_slice(b"\r\n");
        }
        stream.write_all(&request).ok()?;
        // QUIT makes the end of the reply the end of the stream.
        stream.write_all(b"*1\r\n$4\r\nQUIT\r\n").ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        let reply = reply.strip_suffix(b"+OK\r\n")?;
        Some(String::from_utf8_lossy(reply).into_owned())
    }

    /// All keys there are.
    pub(super) fn keys(&self) -> Vec<String> {
        let reply = self.command(&["KEYS", "*"]);
        reply.lines().skip(1).filter(|line| !line.starts_with('$')).map(str::to_owned).collect()
    }

    /// The one key that ends so.
    pub(super) fn key(&self, matches: impl Fn(&str) -> bool) -> String {
        let mut keys = self.keys().into_iter().filter(|key| matches(key));
        let key = keys.next().expect("such a key");
        assert_eq!(keys.next(), None, "one such key");
        key
    }

    /// Milliseconds left; -1 = for ever, -2 = no such key.
    pub(super) fn ttl(&self, key: &str) -> i64 {
        let reply = self.command(&["PTTL", key]);
        reply.trim().trim_start_matches(':').parse().expect("an integer")
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A stopped process takes SIGKILL too.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Looks every few milliseconds until it is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = clock::monotonic() + PATIENCE;
    while !is_so() {
        assert!(clock::monotonic() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
