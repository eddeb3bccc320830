//! `forebay warm`: fetches pages through a proxy, so that its cache has them before visitors come.
//!
//! Decides: what is fetched, how many at once, and what is told of it. Never touches: what the proxy
//! stores; its own word in `Cache-Status` is what counts (`tally`).
//!
//! One task reads addresses and hands them, one by one, to workers with a connection each: a list of
//! any length takes the memory of a few addresses. Everything runs on one thread but the reading of
//! files, which may block.

mod sitemap;
mod tally;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::sitemap::Sitemap;
use self::tally::{Fate, Tally};
use super::WarmArgs;
use super::client::{self, Connection, Failure, Listener, within};
use super::explain::{Field, Url};
use crate::clock;

/// For the head of an answer, and for each next piece of its content.
const PATIENCE: Duration = Duration::from_secs(60);
/// The largest sitemap: what sitemaps.org allows, and a little.
const SITEMAP: usize = 64 << 20;
/// The most sitemaps that are read, those that an index names included.
const SITEMAPS: usize = 50_000;
/// The longest line of a list.
const LINE: u64 = 64 << 10;
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// Warms up; the summary goes to standard output, what failed to standard error.
#[must_use]
pub fn run(args: &WarmArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("forebay: {error}");
            return ExitCode::FAILURE;
        }
    };
    let began = clock::monotonic();
    let tally = runtime.block_on(warm(args));
    eprint!("{}", super::plain(&tally.failures()));
    let took = clock::monotonic().saturating_duration_since(began);
    // Whoever closed standard output does not want the summary.
    let _ = io::stdout().lock().write_all(super::plain(&tally.summary(took)).as_bytes());
    match (tally.pages(), tally.failed()) {
        (0, _) => {
            eprintln!("forebay: nothing to fetch was named");
            ExitCode::FAILURE
        }
        (_, 0) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// What is fetched: an address as it was written, and the request it stands for.
#[derive(Debug)]
struct Page {
    written: String,
    url: Url,
}

/// What the tasks of one warm-up share.
#[derive(Debug)]
struct Work {
    proxy: Listener,
    fields: Vec<Field>,
    tally: Mutex<Tally>,
}

async fn warm(args: &WarmArgs) -> Tally {
    let work =
        Arc::new(Work { proxy: args.proxy.clone(), fields: args.fields.clone(), tally: Mutex::default() });
    let (found, pages) = mpsc::channel(usize::from(args.concurrency));
    let pages = Arc::new(tokio::sync::Mutex::new(pages));
    let mut tasks = JoinSet::new();
    for _ in 0..args.concurrency {
        tasks.spawn(fetch_all(Arc::clone(&work), Arc::clone(&pages)));
    }
    for file in args.files.clone() {
        let (work, found) = (Arc::clone(&work), found.clone());
        tasks.spawn_blocking(move || read_list(&work, &file, &found));
    }
    if !args.sitemaps.is_empty() {
        tasks.spawn(read_sitemaps(Arc::clone(&work), args.sitemaps.clone(), found.clone()));
    }
    // The channel ends with the last that reads addresses.
    drop(found);
    let mut tick = tokio::time::interval(TICK);
    let shows = io::stderr().is_terminal();
    loop {
        tokio::select! {
            ended = tasks.join_next() => match ended {
                None => break,
                Some(Err(error)) => work.failed("forebay", error.to_string()),
                Some(Ok(())) => {}
            },
            _ = tick.tick(), if shows => eprint!("\r\x1b[K{}", work.tally().progress()),
        }
    }
    if shows {
        eprint!("\r\x1b[K");
    }
    std::mem::take(&mut *work.tally())
}

impl Work {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, what: &str, why: String) {
        self.tally().count(what, Fate::Failed(why), 0);
    }

    /// The request that an address stands for; a path is one of the proxy's own address.
    fn page(&self, written: &str) -> Result<Page, String> {
        let own = &self.proxy.0.authority;
        let whole =
            if written.starts_with('/') { format!("http://{own}{written}") } else { written.to_owned() };
        Ok(Page { written: written.to_owned(), url: whole.parse()? })
    }

    /// Asks the proxy for a page, on the connection at hand or on another.
    async fn get(&self, at_hand: &mut Option<Connection>, url: &Url) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder().method(Method::GET).uri(&url.target);
        if let Some(headers) = request.headers_mut() {
            headers.insert(HOST, HeaderValue::from_str(&url.authority)?);
            headers.insert(
                USER_AGENT,
                HeaderValue::from_static(concat!("forebay-warm/", env!("CARGO_PKG_VERSION"))),
            );
            for Field { name, value } in &self.fields {
                if *name == HOST || *name == USER_AGENT {
                    headers.insert(name, value.clone());
                } else {
                    headers.append(name, value.clone());
                }
            }
        }
        let request = request.body(Full::new(Bytes::new()))?;
        if let Some(mut connection) = at_hand.take()
            && connection.is_reusable().await
        {
            match connection.send(request.clone(), PATIENCE).await {
                Ok(answer) => {
                    *at_hand = Some(connection);
                    return Ok(answer);
                }
                Err(failure) if client::is_late(&failure) => return Err(failure),
                Err(_) => {}
            }
        }
        // It was kept from an earlier page, and the proxy may have closed it: once more, on a new one.
        let mut connection = Connection::open(&self.proxy.0).await?;
        let answer = connection.send(request, PATIENCE).await?;
        *at_hand = Some(connection);
        Ok(answer)
    }

    /// Fetches a page to its end: a body that breaks off is not stored.
    async fn fetch(&self, at_hand: &mut Option<Connection>, url: &Url) -> Result<(Fate, u64), Failure> {
        let answer = self.get(at_hand, url).await?;
        let fate = Fate::of(answer.status(), answer.headers());
        let (mut body, mut bytes) = (answer.into_body(), 0_u64);
        while let Some(frame) = within(PATIENCE, body.frame()).await? {
            bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
        }
        Ok((fate, bytes))
    }
}

/// A worker: fetches pages until there are no more.
async fn fetch_all(work: Arc<Work>, pages: Arc<tokio::sync::Mutex<mpsc::Receiver<Page>>>) {
    let mut connection = None;
    loop {
        let page = pages.lock().await.recv().await;
        let Some(Page { written, url }) = page else { return };
        match work.fetch(&mut connection, &url).await {
            Ok((fate, bytes)) => work.tally().count(&written, fate, bytes),
            Err(failure) => {
                // What is left of its answer is in the way of the next.
                connection = None;
                work.failed(&written, client::told(&failure));
            }
        }
    }
}

/// Hands on the addresses of a file, or of standard input.
fn read_list(work: &Work, file: &Path, found: &mpsc::Sender<Page>) {
    let name = file.display().to_string();
    let mut reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(BufReader::new(io::stdin()))
    } else {
        match File::open(file) {
            Ok(open) => Box::new(BufReader::new(open)),
            Err(error) => return work.failed(&name, error.to_string()),
        }
    };
    for number in 1_u64.. {
        let mut line = Vec::new();
        match reader.by_ref().take(LINE).read_until(b'\n', &mut line) {
            Ok(0) => return,
            Ok(_) if line.len() as u64 == LINE => {
                return work.failed(&name, format!("line {number} is longer than any address"));
            }
            Ok(_) => {}
            Err(error) => return work.failed(&name, error.to_string()),
        }
        let line = String::from_utf8_lossy(&line);
        // A byte order mark is what some editors begin a file with.
        let written = if number == 1 { line.trim_start_matches('\u{feff}') } else { &line };
        let written = written.trim();
        if written.is_empty() || written.starts_with('#') {
            continue;
        }
        match work.page(written) {
            // Nobody fetches any more only if every worker has failed for good.
            Ok(page) => {
                if found.blocking_send(page).is_err() {
                    return;
                }
            }
            Err(why) => work.failed(&format!("{name}:{number}"), why),
        }
    }
}

/// Hands on the addresses of sitemaps, which are fetched through the proxy as everything is; those that
/// an index names are read too, each once.
async fn read_sitemaps(work: Arc<Work>, sitemaps: Vec<String>, found: mpsc::Sender<Page>) {
    let mut connection = None;
    let mut seen: HashSet<String> = sitemaps.iter().cloned().collect();
    let mut left: Vec<String> = sitemaps.into_iter().rev().collect();
    while let Some(written) = left.pop() {
        let read = async {
            let page = work.page(&written)?;
            let answer = work.get(&mut connection, &page.url).await?;
            if !answer.status().is_success() {
                return Err(Failure::from(format!("answered {}", answer.status().as_u16())));
            }
            let content = client::content(answer.into_body(), SITEMAP, PATIENCE * 5).await?;
            Ok(Sitemap::read(&content, SITEMAP)?)
        };
        let sitemap = match read.await {
            Ok(sitemap) => sitemap,
            Err(failure) => {
                connection = None;
                work.failed(&written, client::told(&failure));
                continue;
            }
        };
        for address in sitemap.sitemaps.into_iter().rev() {
            if seen.len() >= SITEMAPS {
                work.failed(&written, format!("names more than {SITEMAPS} sitemaps"));
                break;
            }
            if seen.insert(address.clone()) {
                left.push(address);
            }
        }
        for address in sitemap.pages {
            match work.page(&address) {
                Ok(page) => {
                    if found.send(page).await.is_err() {
                        return;
                    }
                }
                Err(why) => work.failed(&address, why),
            }
        }
    }
}
