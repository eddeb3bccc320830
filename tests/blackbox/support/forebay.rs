//! The real binary: started with a configuration of its own, observed from outside, gone with the test.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use super::client::{self, Answer, Client};
use super::origin::Origin;
use super::redis::Redis;
use super::{eventually, until};

/// A configuration file in the making. Every listener is on a port the system chooses.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    server: String,
    admin: String,
    memory: String,
    redis: Option<String>,
    has_generous_budgets: bool,
    redis_is_up: bool,
    origin: SocketAddr,
    upstream: String,
    defaults: String,
    routes: String,
    count: usize,
}

impl Config {
    /// Two workers, the memory tier, and one route that sends every path to this origin.
    pub(crate) fn new(origin: &Origin) -> Self {
        Self::to(origin.address)
    }

    /// Like [`Config::new`], for an origin that is not scripted.
    pub(crate) fn to(origin: SocketAddr) -> Self {
        let empty = String::new;
        let (server, memory, upstream) = (empty(), empty(), empty());
        Self {
            server,
            admin: empty(),
            memory,
            redis: None,
            has_generous_budgets: false,
            redis_is_up: false,
            origin,
            upstream,
            defaults: empty(),
            routes: empty(),
            count: 0,
        }
    }

    /// A line of `[server]`.
    pub(crate) fn server(mut self, line: &str) -> Self {
        self.server += &format!("{line}\n");
        self
    }

    /// A line of `[admin]`.
    pub(crate) fn admin(mut self, line: &str) -> Self {
        self.admin += &format!("{line}\n");
        self
    }

    /// A line of `[memory]`.
    pub(crate) fn memory(mut self, line: &str) -> Self {
        self.memory += &format!("{line}\n");
        self
    }

    /// The memory tier off: every answer comes from Redis or from the origin.
    pub(crate) fn without_memory(self) -> Self {
        self.memory("max_size = \"0\"")
    }

    /// `[redis]` with this server.
    pub(crate) fn redis(self, redis: &Redis) -> Self {
        let mut config = self.redis_at(redis.address);
        config.has_generous_budgets = true;
        config.redis_is_up = true;
        config
    }

    /// `[redis]` with this URL, of a Redis that is up.
    pub(crate) fn redis_url(mut self, url: &str) -> Self {
        self.redis = Some(format!("url = \"{url}\"\n"));
        self.has_generous_budgets = true;
        self.redis_is_up = true;
        self
    }

    /// The contract's own time budgets for Redis: for tests of what happens when they run out.
    pub(crate) fn contract_budgets(mut self) -> Self {
        self.has_generous_budgets = false;
        self
    }

    /// `[redis]` with whatever listens there.
    pub(crate) fn redis_at(mut self, address: SocketAddr) -> Self {
        self.redis = Some(format!("url = \"redis://{address}/0\"\n"));
        self
    }

    /// A line of `[redis]`.
    pub(crate) fn redis_line(mut self, line: &str) -> Self {
        *self.redis.as_mut().expect("a [redis] table") += &format!("{line}\n");
        self
    }

    /// A line of `[upstream.origin]`.
    pub(crate) fn upstream(mut self, line: &str) -> Self {
        self.upstream += &format!("{line}\n");
        self
    }

    /// A line of `[defaults]`.
    pub(crate) fn defaults(mut self, line: &str) -> Self {
        self.defaults += &format!("{line}\n");
        self
    }

    /// A `[[route]]` of its own for this path (pattern), before the one for everything.
    pub(crate) fn route(mut self, path: &str, lines: &str) -> Self {
        self.count += 1;
        let name = format!("route-{}", self.count);
        self.routes +=
            &format!("[[route]]\nname = \"{name}\"\npath = \"{path}\"\nupstream = \"origin\"\n{lines}\n\n");
        self
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n{}\n", self.server);
        let _ = writeln!(text, "[admin]\nlisten = \"127.0.0.1:0\"\n{}", self.admin);
        let _ = writeln!(text, "[memory]\n{}", self.memory);
        if let Some(redis) = &self.redis {
            let _ = writeln!(text, "[redis]\n{redis}{}", self.budgets(redis));
        }
        let _ =
            writeln!(text, "[upstream.origin]\nservers = [\"http://{}\"]\n{}", self.origin, self.upstream);
        // Early refresh is a matter of chance, which only its own tests want.
        let chance = if self.defaults.contains("early_refresh") { "" } else { "early_refresh = 0.0\n" };
        let _ = writeln!(text, "[defaults]\n{chance}{}", self.defaults);
        text += &self.routes;
        text += "[[route]]\nname = \"rest\"\npath = \"/{*rest}\"\nupstream = \"origin\"\n";
        text
    }

    /// What Redis may take, where the test does not say. On a busy machine the contract's budgets of
    /// milliseconds are a test of the machine.
    fn budgets(&self, redis: &str) -> String {
        // A lock's life bounds what a write may take.
        let write = if redis.contains("lock_ttl") { "500ms" } else { "2s" };
        [("read_timeout", "2s"), ("write_timeout", write)]
            .into_iter()
            .filter(|(name, _)| self.has_generous_budgets && !redis.contains(name))
            .map(|(name, time)| format!("{name} = \"{time}\"\n"))
            .collect()
    }

    /// Starts the binary and waits until it is ready; with a Redis that is up, until it is in use.
    #[track_caller]
    pub(crate) fn start(self) -> Forebay {
        let proxy = Forebay::run(&self.text());
        if self.redis_is_up {
            until("Redis is in use", || proxy.uses_redis());
        }
        proxy
    }
}

/// What `forebay check` says about this file.
pub(crate) fn check(config: &str) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, config).expect("a configuration file");
    let mut command = binary();
    command.args(["check", "--config"]).arg(&file);
    command.output().expect("the binary runs")
}

/// The binary with these arguments, to its end.
pub(crate) fn command(arguments: &[&str]) -> Output {
    binary().args(arguments).output().expect("the binary runs")
}

/// What `forebay explain` says of this file with these arguments.
pub(crate) fn explain(config: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("proxy.toml");
    std::fs::write(&file, config).expect("a configuration file");
    let mut command = binary();
    command.args(["explain", "--config"]).arg(&file).args(arguments);
    command.output().expect("the binary runs")
}

fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    // Nothing of the surroundings may change what a test sees.
    command.env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// A running proxy. Dropping it kills it, and fails the test when it ever panicked.
pub(crate) struct Forebay {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    log: Log,
    readers: Vec<JoinHandle<()>>,
    directory: TempDir,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Forebay {
    /// Starts `forebay run` with this file and waits until it is ready.
    pub(crate) fn run(config: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("proxy.toml");
        std::fs::write(&file, config).expect("a configuration file");
        let file = file.to_string_lossy().into_owned();
        Self::command(&["run", "--config", &file], directory, config)
    }

    /// Starts `forebay demo` on ports that the system chooses and waits until it is ready.
    pub(crate) fn demo() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self::command(&["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"], directory, "")
    }

    fn command(arguments: &[&str], directory: TempDir, config: &str) -> Self {
        let mut command = binary();
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary starts");
        let log = Log::default();
        let readers = vec![
            follow(child.stdout.take().expect("stdout"), &log),
            follow(child.stderr.take().expect("stderr"), &log),
        ];
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut proxy = Self { address: unknown, admin: unknown, child, log, readers, directory };
        proxy.address = proxy.listener("proxy", config);
        proxy.admin = proxy.listener("admin", config);
        let admin = proxy.admin;
        eventually("/ready answers 200", || {
            (client::get(admin, "/ready", "Connection: close\r\n").status == 200).then_some(())
        });
        proxy
    }

    /// The address that the process says this listener has.
    fn listener(&mut self, name: &str, config: &str) -> SocketAddr {
        eventually(&format!("a log line with listener={name}"), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("forebay ended with {status}:\n{}\n--- with\n{config}", self.log().join("\n"));
            }
            self.log().iter().find_map(|line| {
                let ours = line.contains("listening") && value(line, "listener").as_deref() == Some(name);
                if ours { value(line, "address")?.parse().ok() } else { None }
            })
        })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        client::get(self.address, target, "")
    }

    /// GET with these field lines, each with its CRLF.
    #[track_caller]
    pub(crate) fn get_with(&self, target: &str, lines: &str) -> Answer {
        client::get(self.address, target, lines)
    }

    /// POST of JSON to the admin listener.
    #[track_caller]
    pub(crate) fn post(&self, target: &str, json: &serde_json::Value) -> Answer {
        self.post_with(target, "", &json.to_string())
    }

    /// POST of this content, said to be JSON, with these field lines, to the admin listener.
    #[track_caller]
    pub(crate) fn post_with(&self, target: &str, lines: &str, content: &str) -> Answer {
        let (admin, length) = (self.admin, content.len());
        client::send(
            admin,
            format!(
                "POST {target} HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\
                 {lines}\r\n{content}"
            ),
        )
    }

    /// Purges through the admin listener and gives what it answered; panics unless it was carried out.
    #[track_caller]
    pub(crate) fn purge(&self, what: &serde_json::Value) -> serde_json::Value {
        let answer = self.post("/purge", what);
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// What `/ready` says of it.
    #[track_caller]
    pub(crate) fn ready(&self) -> serde_json::Value {
        client::get(self.admin, "/ready", "Connection: close\r\n").json()
    }

    /// Whether every worker uses Redis, and the fleet's purges are known: else nothing is read from it.
    #[track_caller]
    pub(crate) fn uses_redis(&self) -> bool {
        let ready = self.ready();
        let workers = ready["tiers"]["redis"]["workers"].as_array().cloned().unwrap_or_default();
        let works = |worker: &serde_json::Value| {
            worker["connected"] == true
                && worker["breaker"] == "closed"
                && worker["write_breaker"] == "closed"
        };
        ready["journal"]["in_sync"] == true && !workers.is_empty() && workers.iter().all(works)
    }

    /// Whether it reads the journal of purges.
    #[track_caller]
    pub(crate) fn in_sync(&self) -> bool {
        self.ready()["journal"]["in_sync"] == true
    }

    /// The content of the configuration file from now on; nobody has loaded it yet.
    pub(crate) fn configure(&self, config: &str) {
        std::fs::write(self.directory.path().join("proxy.toml"), config).expect("a configuration file");
    }

    /// A request without content.
    #[track_caller]
    pub(crate) fn request(&self, method: &str, target: &str, lines: &str) -> Answer {
        client::send(self.address, client::request(method, target, lines))
    }

    /// These bytes as one request.
    #[track_caller]
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        client::send(self.address, bytes)
    }

    pub(crate) fn connect(&self) -> Client {
        Client::to(self.address)
    }

    /// The sum of every series of this name whose labels include these.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut sum = 0.0;
        for line in self.metrics().lines().filter(|line| !line.starts_with('#')) {
            let Some((series, number)) = line.rsplit_once(' ') else { continue };
            let (metric, set) = series.split_once('{').unwrap_or((series, "}"));
            let has = |(label, wanted): &(&str, &str)| {
                let pair = format!("{label}=\"{wanted}\"");
                set.starts_with(&pair) || set.contains(&format!(",{pair}"))
            };
            if metric == name && labels.iter().all(has) {
                sum += number.parse::<f64>().unwrap_or_else(|_| panic!("not a number: {line}"));
            }
        }
        sum
    }

    /// The exposition of `/metrics`.
    #[track_caller]
    pub(crate) fn metrics(&self) -> String {
        let answer = client::get(self.admin, "/metrics", "");
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Everything the process wrote so far, line by line, without colours.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
        kib << 10
    }

    /// Asks the process to end, and does not wait.
    pub(crate) fn terminate(&self) {
        signal(self.pid(), "TERM");
    }

    /// Waits until the process has ended by itself.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", || self.child.try_wait().expect("our child"))
    }
}

impl Drop for Forebay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        let log = self.log().join("\n");
        if std::thread::panicking() {
            eprintln!("--- what forebay wrote\n{log}\n---");
        } else {
            assert!(!log.contains("panicked"), "forebay panicked:\n{log}");
        }
    }
}

/// Sends a signal to a process of this test.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh");
    assert!(status.success(), "kill -{name} {pid}");
}

fn follow(stream: impl Read + Send + 'static, log: &Log) -> JoinHandle<()> {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            log.lock().unwrap().push(plain(&String::from_utf8_lossy(&line)));
        }
    })
}

/// The line without terminal escapes.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' {
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else {
            text.push(character);
        }
    }
    text
}

/// The value of `key=value` in a log line, quoted or not.
pub(crate) fn value(line: &str, key: &str) -> Option<String> {
    let pair = line.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
    Some(pair.trim_matches('"').to_owned())
}
