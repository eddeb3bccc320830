//! `forebay run`: brings up tiers, listeners and workers, and takes them down again.
//!
//! Decides: the order of starting and stopping. Never touches: requests. Starts with Redis or an
//! origin down; says in one log line each which tiers and listeners are live.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::RunArgs;
use crate::admin::{Admin, Reload, Workers};
use crate::config;
use crate::observe::access_log::{AccessLog, Format};
use crate::proxy::{Instance, Proxy};
use crate::rules::Rules;
use crate::server::{self, Listeners, Running};
use crate::wire::Limits;

/// What went wrong while starting: what was to be had, and why it was not.
#[derive(Debug)]
pub struct StartError {
    what: String,
    source: Box<dyn std::error::Error + Send + Sync>,
}

impl StartError {
    fn new(what: impl Into<String>) -> impl FnOnce(Box<dyn std::error::Error + Send + Sync>) -> Self {
        let what = what.into();
        |source| Self { what, source }
    }
}

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.what, self.source)
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

/// Runs the proxy until it is told to stop.
#[must_use]
pub fn run(args: &RunArgs) -> ExitCode {
    log_to_stderr();
    let rules = match config::load(&args.config, &config::process_env) {
        Ok(rules) => rules,
        Err(problems) => {
            eprintln!("{problems}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &rules.warnings {
        tracing::warn!("{warning}");
    }
    let started = Process::start(rules, Some(args.config.clone()), args.access_log);
    match started.and_then(Process::until_stopped) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is said without `FOREBAY_LOG`.
const USUAL_LOG: &str = "info,fred=off";

/// A level, or what the library of the log makes of several for its targets; a word that is no level would
/// silence everything else.
fn filter(asked: &str) -> Option<EnvFilter> {
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    match asked {
        "" => Some(EnvFilter::new(USUAL_LOG)),
        asked if asked.split(',').all(|part| is_level(part.rsplit('=').next().unwrap_or(part))) => {
            EnvFilter::try_new(asked).ok()
        }
        _ => None,
    }
}

/// Diagnostics go to standard error, `FOREBAY_LOG` chooses how many (`info` without it).
pub(super) fn log_to_stderr() {
    let asked = std::env::var("FOREBAY_LOG").unwrap_or_default();
    let filter = filter(&asked).unwrap_or_else(|| {
        eprintln!("forebay: FOREBAY_LOG: {asked:?} is none of error, warn, info, debug: taken as info");
        EnvFilter::new(USUAL_LOG)
    });
    // A second call (in tests) keeps the first subscriber.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .try_init();
}

/// A running proxy.
pub(super) struct Process {
    runtime: tokio::runtime::Runtime,
    running: Running,
    stop: watch::Sender<bool>,
    reload: Arc<Reload>,
    log: AccessLog,
    /// How long requests that are under way may take at the end.
    drain_timeout: Duration,
    /// Where the public listeners really are.
    pub(super) listening: Vec<SocketAddr>,
    /// Where the admin listener really is.
    pub(super) admin: Option<SocketAddr>,
}

impl Process {
    /// Binds, starts the workers, and says so.
    ///
    /// # Errors
    /// When a listener, a thread or the access log cannot be had.
    pub(super) fn start(
        rules: Rules,
        config: Option<PathBuf>,
        access_log: Format,
    ) -> Result<Self, StartError> {
        let io = |what: &str| StartError::new(what.to_owned());
        let log = AccessLog::start(access_log).map_err(|e| io("access log")(e.into()))?;
        let workers_wanted = match rules.server.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let settings = server_settings(&rules, workers_wanted);
        // First: where it is taken, no connection was given to listeners that go away again.
        let admin_listener = match &rules.admin {
            Some(admin) => Some(
                std::net::TcpListener::bind(admin.listen)
                    .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
                    .map_err(|error| io(&format!("admin listening on {}", admin.listen))(error.into()))?,
            ),
            None => None,
        };
        let listeners = Listeners::bind(&settings.listen, workers_wanted)
            .map_err(|(address, error)| io(&format!("listening on {address}"))(error.into()))?;
        for address in listeners.shared() {
            tracing::warn!(%address, "another process listens here as well: connections are shared with it");
        }
        let listening = listeners.addresses().to_vec();
        tracing::info!("tiers: {}", rules.tiers_summary());
        let instance = Instance::new(rules, log.clone()).map_err(io("starting"))?;
        let instance = Arc::new(instance);
        follow_the_fleet(&instance).map_err(|error| io("journal thread")(error.into()))?;
        let workers = Arc::new(Workers::default());
        let (stop, stopping) = watch::channel(false);

        let make = {
            let (instance, workers) = (Arc::clone(&instance), Arc::clone(&workers));
            move |_index| {
                let proxy = Arc::new(ArcSwap::from(instance.worker()));
                workers.add(Arc::clone(&proxy));
                Worker(proxy)
            }
        };
        let opened = {
            let instance = Arc::clone(&instance);
            move |change| instance.shared.metrics.connections.add(change)
        };
        let running = server::serve(&settings, listeners, make, opened, &stopping)
            .map_err(|error| io("workers")(error.into()))?;
        workers.wait_for(workers_wanted);
        for address in &listening {
            tracing::info!(listener = %"proxy", %address, workers = workers_wanted, "listening");
        }

        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("admin")
            .enable_all()
            .build()
            .map_err(|error| io("admin thread")(error.into()))?;
        let reload = Arc::new(Reload::new(config, Arc::clone(&instance), Arc::clone(&workers)));
        let mut admin_address = None;
        if let Some(listener) = admin_listener {
            let address = listener.local_addr().map_err(|error| io("admin listener")(error.into()))?;
            let admin = Admin::new(instance, workers, Arc::clone(&reload));
            let guard = runtime.enter();
            let listener =
                tokio::net::TcpListener::from_std(listener).map_err(|e| io("admin listener")(e.into()))?;
            drop(guard);
            runtime.spawn(Arc::new(admin).serve(listener));
            tracing::info!(listener = %"admin", %address, "listening");
            admin_address = Some(address);
        }
        Ok(Self {
            drain_timeout: settings.drain_timeout,
            runtime,
            running,
            stop,
            reload,
            log,
            listening,
            admin: admin_address,
        })
    }

    /// Runs until SIGTERM or SIGINT, loading the configuration again at SIGHUP; then drains.
    ///
    /// # Errors
    /// When signals cannot be waited for.
    pub(super) fn until_stopped(self) -> Result<(), StartError> {
        let signals = |error: io::Error| StartError::new("signals")(error.into());
        self.runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(signals)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(signals)?;
            let mut hangup = signal(SignalKind::hangup()).map_err(signals)?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                    _ = hangup.recv() => {
                        let reload = Arc::clone(&self.reload);
                        // What came of it is in the log; a panic there must not end the process.
                        let _ = tokio::task::spawn_blocking(move || reload.run()).await;
                    }
                }
            }
        })?;
        let within = self.drain_timeout;
        tracing::info!(
            ?within,
            "stopping: no new connections, requests under way may finish; a second signal ends them"
        );
        let log = self.log.clone();
        self.runtime.spawn(async move {
            // One stop may send two: to the process, and to the group that it is in. Those that come meanwhile
            // are nobody's: what is listened to from then on begins anew.
            tokio::time::sleep(ONE_STOP).await;
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("stopped at once, by a second signal");
            log.finish(Duration::from_millis(500));
            std::process::exit(1);
        });
        // Nobody listens any more only if every worker has gone already.
        let _ = self.stop.send(true);
        self.running.join();
        self.log.finish(LAST_LINES);
        Ok(())
    }
}

/// Starts reading and telling the fleet's purges, on a thread of its own: busy event loops do not delay a
/// purge. Waits until they are known, but not for a Redis that is down.
fn follow_the_fleet(instance: &Instance) -> io::Result<()> {
    let Some(journal) = instance.shared.journal.clone() else { return Ok(()) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (known, wait) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
        let waiting = std::sync::Arc::clone(&journal);
        runtime.spawn(async move {
            waiting.first_heard(FIRST_HEARING).await;
            // Nobody waits any more if starting has failed meanwhile.
            let _ = known.send(());
        });
        journal.keep_running(&runtime);
    })?;
    // It ends with the process: what a thread has not told by then is lost with the process's memory.
    let _ = wait.recv();
    Ok(())
}

/// How long a start waits for the fleet's purges.
const FIRST_HEARING: Duration = Duration::from_millis(500);
/// How long the end waits for whoever reads the access log.
const LAST_LINES: Duration = Duration::from_secs(5);
/// Signals that come within this time are of one stop.
const ONE_STOP: Duration = Duration::from_secs(1);

/// The service of one worker: the proxy in force when a request comes.
#[derive(Clone)]
struct Worker(Arc<ArcSwap<Proxy>>);

impl server::App for Worker {
    type Body = crate::proxy::deliver::Delivery;

    fn answer(
        &self,
        head: Box<http::request::Parts>,
        content: crate::wire::Content,
        connection: crate::wire::Connection,
        refused: Option<crate::wire::Refusal>,
    ) -> impl Future<Output = crate::proxy::deliver::Reply> + Send {
        self.0.load_full().handle(head, content, connection, refused)
    }
}

fn server_settings(rules: &Rules, workers: usize) -> server::Settings {
    let server = &rules.server;
    server::Settings {
        listen: server.listen.clone(),
        workers,
        max_connections: server.max_connections,
        header_timeout: server.header_timeout,
        idle_timeout: server.idle_timeout,
        drain_timeout: server.drain_timeout,
        limits: Limits { max_head: server.max_header_size, max_body: server.max_request_body },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_chooses_how_much_is_said() {
        for asked in
            ["", "error", "WARN", "info", "debug", "off", "info,fred=off", "forebay::proxy=debug,warn"]
        {
            assert!(filter(asked).is_some(), "{asked}");
        }
        for asked in ["foo", "verbose", "info,foo", "forebay=loud", ","] {
            assert!(filter(asked).is_none(), "{asked}");
        }
    }
}
