//! How many instructions the proxy executes for one request, counted by valgrind's callgrind: a figure that
//! a busy machine does not change. With `--check`, an error where a path needs more than its budget.
//!
//! ```text
//! benches/instructions/run            counts, and prints what it counted
//! benches/instructions/run --check    and fails where a budget is exceeded
//! ```
//!
//! The program runs twice for each path, with few and with many requests on one connection: the difference
//! leaves out what starting costs. What the kernel does is not counted, nor are its waits.

// An origin says what time it is.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

/// A path, and the most instructions that one request of it may take. Processors differ in the
/// instructions that libraries choose for them: there is a tenth of room above what was counted here.
const BUDGETS: [(&str, &str, u64); 4] = [
    ("hit, 1 KiB", "GET /hit HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n", 15_000),
    (
        "conditional hit (304)",
        "GET /hit HTTP/1.1\r\nHost: shop.example\r\nIf-None-Match: \"33a64df551425fcc\"\r\n\r\n",
        16_100,
    ),
    (
        "forwarded, 1 KiB",
        "GET /n/x HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
        31_500,
    ),
    ("miss that is stored, 1 KiB", "", 97_100),
];
const FEW: u64 = 1_000;
const MANY: u64 = 4_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let check = std::env::args().any(|argument| argument == "--check");
    match run(check) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<bool, Failure> {
    let program = program()?;
    let origin = origin()?;
    let folder = std::env::temp_dir().join(format!("forebay-instructions-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let mut within = true;
    println!("| path | instructions per request | budget |\n|---|---:|---:|");
    for (path, request, budget) in BUDGETS {
        let few = count(&program, &folder, origin, request, FEW)?;
        let many = count(&program, &folder, origin, request, MANY)?;
        let each = many.saturating_sub(few) / (MANY - FEW);
        let verdict = if each <= budget { "" } else { ": EXCEEDED" };
        within &= each <= budget;
        println!("| {path} | {each} | {budget}{verdict} |");
    }
    std::fs::remove_dir_all(&folder)?;
    Ok(within || !check)
}

/// The program that was built for release in the folder of this one, `target/debug/examples` or so.
fn program() -> Result<PathBuf, Failure> {
    let here = std::env::current_exe()?;
    match here.ancestors().nth(3).map(|target| target.join("release/forebay")) {
        Some(program) if program.is_file() => Ok(program),
        _ => Err("no program beside this one: cargo build --release first".into()),
    }
}

/// Instructions of a whole run with so many requests.
fn count(
    program: &Path,
    folder: &Path,
    origin: SocketAddr,
    request: &str,
    requests: u64,
) -> Result<u64, Failure> {
    let listen = free()?;
    let config = folder.join("proxy.toml");
    let totals = folder.join("callgrind.out");
    std::fs::write(
        &config,
        format!(
            "[server]\nlisten = [\"{listen}\"]\nworkers = 1\n[upstream.origin]\nservers = [\"http://{origin}\"]\n\
             [[route]]\nname = \"n\"\npath = \"/n/{{*rest}}\"\nupstream = \"origin\"\ncache = false\n\
             [[route]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"origin\"\n"
        ),
    )?;
    let child = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", totals.display()))
        .arg(program)
        .args(["run", "--access-log", "off", "--config"])
        .arg(&config)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("valgrind: {error}"))?;
    let mut running = Running(child);
    let mut client = running.connect(listen)?;
    for number in 0..requests {
        let fresh = format!(
            "GET /miss/{number} HTTP/1.1\r\nHost: shop.example\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n"
        );
        client.get_mut().write_all(if request.is_empty() { &fresh } else { request }.as_bytes())?;
        let (status, length) = head(&mut client)?;
        let length = if status == 304 { 0 } else { length };
        let read = std::io::copy(&mut client.by_ref().take(length), &mut std::io::sink())?;
        // The first one stores; after it, each must be what is measured.
        if read != length || !matches!(status, 200 | 304) {
            return Err(format!("request {number} was answered {status} with {read} bytes").into());
        }
    }
    drop(client);
    running.end()?;
    let text = std::fs::read_to_string(&totals)?;
    let total =
        text.lines().find_map(|line| line.strip_prefix("totals: ")).ok_or("callgrind wrote no totals")?;
    Ok(total.trim().parse()?)
}

/// Status and Content-Length of the answer that begins here.
fn head(client: &mut BufReader<TcpStream>) -> Result<(u16, u64), Failure> {
    let (mut status, mut length, mut line) = (0, 0, String::new());
    loop {
        line.clear();
        if client.read_line(&mut line)? == 0 {
            return Err("the proxy closed the connection".into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if text.is_empty() {
            return Ok((status, length));
        }
        if let Some(rest) = text.strip_prefix("http/1.1 ") {
            status = rest.get(..3).unwrap_or_default().parse()?;
        } else if let Some(value) = text.strip_prefix("content-length:") {
            length = value.trim().parse()?;
        }
    }
}

/// The proxy under valgrind; killed should it not end.
struct Running(Child);

impl Running {
    fn connect(&mut self, to: SocketAddr) -> Result<BufReader<TcpStream>, Failure> {
        // Valgrind makes the start slow; how slow nobody knows.
        for _ in 0..600 {
            if let Ok(client) = TcpStream::connect(to) {
                client.set_nodelay(true)?;
                client.set_read_timeout(Some(Duration::from_secs(60)))?;
                return Ok(BufReader::new(client));
            }
            if self.0.try_wait()?.is_some() {
                let mut said = String::new();
                self.0.stderr.take().map(|mut stderr| stderr.read_to_string(&mut said)).transpose()?;
                return Err(format!("the proxy ended while it started: {said}").into());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err("the proxy did not listen within a minute".into())
    }

    fn end(mut self) -> Result<(), Failure> {
        let pid = self.0.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status()?;
        if !killed.success() {
            return Err("the proxy could not be told to end".into());
        }
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the proxy ended with {status}").into()) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// An origin in threads of its own: a kibibyte that may be stored for an hour, or below `/n/` not at all.
fn origin() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            std::thread::spawn(move || answer(socket));
        }
    });
    Ok(address)
}

fn answer(socket: TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut client = BufReader::new(socket);
    let mut line = String::new();
    let mut stored = true;
    loop {
        line.clear();
        if client.read_line(&mut line)? == 0 {
            return Ok(());
        }
        if line.starts_with("GET ") {
            stored = !line.starts_with("GET /n/");
        }
        if line != "\r\n" {
            continue;
        }
        let date = httpdate::fmt_http_date(std::time::SystemTime::now());
        let control = if stored { "public, max-age=3600" } else { "no-store" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nServer: shop\r\nDate: {date}\r\n\
             Content-Type: application/json\r\nCache-Control: {control}\r\nETag: \"33a64df551425fcc\"\r\n\
             Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nX-Content-Type-Options: nosniff\r\n\
             Content-Length: 1024\r\n\r\n"
        );
        let mut all = head.into_bytes();
        all.resize(all.len() + 1024, b'x');
        client.get_mut().write_all(&all)?;
    }
}
