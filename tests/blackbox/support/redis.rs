//! A real `redis-server` that can be paused, killed and brought back on the same port.

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::forebay::signal;
use super::resp::{Resp, Value};
use super::{eventually, free_port};

/// The server's program: `redis-server`, or what the environment names in its place.
fn program() -> String {
    std::env::var("REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned())
}

/// A server without persistence on a port of its own, gone with the test.
pub(crate) struct Redis {
    pub(crate) address: SocketAddr,
    options: Vec<String>,
    child: Option<Child>,
    directory: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// Started with these options of the command line as well.
    pub(crate) fn with(options: &[&str]) -> Self {
        let mut redis = Self::absent();
        redis.options = options.iter().map(|option| (*option).to_owned()).collect();
        redis.restart();
        redis
    }

    /// A place where a server will be later.
    pub(crate) fn absent() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { address: free_port(), options: Vec::new(), child: None, directory }
    }

    /// Its own directory.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Starts the server (again), empty, on the same port.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let port = self.address.port().to_string();
        let mut command = Command::new(program());
        if let Some(("--sentinel", settings)) =
            self.options.first().map(String::as_str).zip(self.options.get(1))
        {
            // A sentinel keeps what it learns in its file.
            let file = self.directory.path().join("sentinel.conf");
            let network = format!("bind 127.0.0.1\nport {port}\ndir {}\n", self.directory.path().display());
            std::fs::write(&file, network + settings).expect("a file for a sentinel");
            command.arg(file).arg("--sentinel");
        } else {
            command.args(["--bind", "127.0.0.1", "--port", &port, "--save", "", "--appendonly", "no"]);
            command.args(["--databases", "2", "--dir"]).arg(self.directory.path()).args(&self.options);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut spawn = move || {
            command.spawn().unwrap_or_else(|error| {
                panic!(
                    "{} does not start ({error}): install it with `apt-get install redis-server`",
                    program()
                )
            })
        };
        self.child = Some(spawn());
        let mut attempts = 1;
        eventually("redis-server answers PING", || {
            let child = self.child.as_mut()?;
            if let Some(status) = child.try_wait().expect("our child") {
                // For a moment its port may be that of somebody's connection.
                attempts += 1;
                assert!(attempts < 500, "redis-server ended with {status:?}");
                self.child = Some(spawn());
                return None;
            }
            let mut connection = Resp::to(self.address).ok()?;
            connection.command(&["PING"]).ok().filter(|reply| *reply == Value::Text("PONG".to_owned()))
        });
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    /// The server hangs: connections stay, nothing answers.
    pub(crate) fn pause(&self) {
        signal(self.pid(), "STOP");
    }

    pub(crate) fn resume(&self) {
        signal(self.pid(), "CONT");
    }

    /// `kill -9`, and everything in it is lost.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Runs one command on a connection of its own.
    #[track_caller]
    pub(crate) fn command<A: AsRef<[u8]>>(&self, arguments: &[A]) -> Value {
        let mut connection = Resp::to(self.address).expect("redis-server accepts");
        connection.command(arguments).expect("redis-server answers")
    }

    /// Every key of the first database with its kind (`string`, `zset`, …), but for the journal's. The test
    /// may use KEYS.
    #[track_caller]
    pub(crate) fn keys(&self) -> BTreeMap<String, String> {
        self.all_keys().into_iter().filter(|(key, _)| !key.contains(":{journal}:")).collect()
    }

    /// The same with those of the journal.
    #[track_caller]
    pub(crate) fn all_keys(&self) -> BTreeMap<String, String> {
        let mut connection = Resp::to(self.address).expect("redis-server accepts");
        let mut ask = |arguments: &[&[u8]]| connection.command(arguments).expect("redis-server answers");
        let Value::Array(keys) = ask(&[b"KEYS", b"*"]) else { panic!("KEYS answers with an array") };
        let keys = keys.into_iter().filter_map(Value::bytes);
        keys.map(|key| {
            let kind = ask(&[b"TYPE", &key]).bytes().unwrap_or_default();
            (String::from_utf8_lossy(&key).into_owned(), String::from_utf8_lossy(&kind).into_owned())
        })
        .collect()
    }

    /// The strings: records, chunks, locks, markers.
    #[track_caller]
    pub(crate) fn strings(&self) -> BTreeMap<String, Vec<u8>> {
        let mut connection = Resp::to(self.address).expect("redis-server accepts");
        let mut get = |key: &str| connection.command(&["GET", key]).expect("redis-server answers").bytes();
        let keys = self.keys().into_iter().filter(|(_, kind)| kind == "string");
        keys.filter_map(|(key, _)| Some((key.clone(), get(&key)?))).collect()
    }

    /// Follows every command from now on.
    pub(crate) fn monitor(&self) -> Monitor {
        let mut connection = Resp::to(self.address).expect("redis-server accepts");
        connection.command(&["MONITOR"]).expect("MONITOR");
        let stream = connection.descriptor().expect("a second descriptor");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let reader = std::thread::spawn(move || {
            while let Ok(line) = connection.line() {
                log.lock().unwrap().push(line);
            }
        });
        Monitor { stream, lines, reader: Some(reader) }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.child.is_some() {
            // A stopped process does not die of anything but SIGKILL, which this is.
            self.kill();
        }
    }
}

/// The log of a server's commands while the test runs.
pub(crate) struct Monitor {
    stream: TcpStream,
    lines: Arc<Mutex<Vec<String>>>,
    reader: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Every command so far, as MONITOR writes it.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// The names of the commands so far, in capitals, those inside scripts too.
    pub(crate) fn names(&self) -> Vec<String> {
        let lines = self.lines();
        let words = lines.iter().filter_map(|line| line.split_once("] \"")?.1.split('"').next());
        words.map(str::to_ascii_uppercase).collect()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
