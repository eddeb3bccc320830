//! One supervised connection to Redis, with another beside it for reading records.
//!
//! Decides: how commands are bounded in number, when the connection is probed, when its client is thrown
//! away for a new one. Never touches: what commands mean, or the settings of the client library.
//!
//! Requests never wait for recovery: while the breaker is open they are turned away by one atomic
//! load, and the supervisor alone probes. The library's own task may end for good, or hang in a
//! write that nobody reads: both are seen here, and answered by a new client.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use fred::clients::{Client, WithOptions};
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, FredResult, KeysInterface};
use fred::types::{ConnectHandle, Expiration, Key, Value};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::LONGEST_VALUE;
use super::breaker::{Breaker, Ended};
use super::chunks::all;
use super::counters::{CommandObserver, Counters, Failure};
use super::dial::{Class, build, within};
use super::keys::Names;
use super::lock::MAGIC;
use super::pipe::Pipe;
use super::pulse::Pulse;
use super::script::ECHO;
use super::settings::Settings;
use crate::boxed::in_place;
use crate::clock;
use crate::store::lock;

/// Commands of one connection that may be under way; the library has no working bound of its own.
const IN_FLIGHT: usize = 1024;
/// How often a connection that is down is looked at.
const DOWN_TICK: Duration = Duration::from_millis(50);
/// How often one that works is looked at, beside the events it sends.
const UP_TICK: Duration = Duration::from_secs(1);
/// Between throwing a client away and making a new one; twice that after each that never worked.
const REBUILD_DELAY: Duration = Duration::from_millis(500);
/// Doublings of that, at most.
const REBUILD_DOUBLINGS: u32 = 4;
/// A client that says it is connected and answers no probe for this long is thrown away.
const WEDGED: Duration = Duration::from_secs(3);
/// Rounds in a row in which some master of a cluster does not answer until Redis is left alone.
const BAD_ROUNDS: u8 = 2;
/// Between checks of a connection whose answers are in doubt.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How long the key that probes write lives, in milliseconds.
const PROBE_TTL: i64 = 60_000;

/// What the connections of one store share.
pub(super) struct Context {
    pub(super) settings: Arc<Settings>,
    pub(super) names: Names,
    pub(super) counters: Arc<Counters>,
    pub(super) observer: Arc<dyn CommandObserver>,
    /// Closed while Redis takes writes. A server that refuses them still answers reads.
    pub(super) writes: Breaker,
}

/// A client, with its time budgets applied once.
pub(super) struct Link {
    client: Client,
    /// For reads.
    pub(super) read: WithOptions<Client>,
    /// For writes, locks and scripts.
    pub(super) write: WithOptions<Client>,
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Records and locks.
    Hot,
    /// Chunks: its long replies delay nobody else's short ones.
    Bulk,
}

/// A connection and its supervisor, which ends (and the connection with it) when this is dropped.
pub(super) struct Line {
    shared: Arc<Shared>,
    supervisor: JoinHandle<()>,
    pulse: Pulse,
}

struct Shared {
    context: Arc<Context>,
    role: Role,
    breaker: Breaker,
    under_way: UnderWay,
    /// Where records are read while it is up; the library's connection does the rest.
    pipe: Option<Pipe>,
    link: ArcSwapOption<Link>,
    /// Microseconds of the last answered command, plus one; 0 = none yet.
    latency: AtomicU64,
    /// Whether the breaker was ever closed.
    worked: AtomicBool,
    /// A key whose answer was another's, or nonsense; looked into by the supervisor.
    doubted: Mutex<Option<Key>>,
    doubt: Notify,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

impl Line {
    /// Begins to connect; returns at once. Must be called on the runtime that is to drive it.
    pub(super) fn start(context: Arc<Context>, role: Role) -> Self {
        let pipe = match role {
            Role::Hot => Pipe::start(&context.settings),
            // What is long is not worth a connection of its own.
            Role::Bulk => None,
        };
        let pulse = Pulse::start(context.settings.read_timeout.min(context.settings.write_timeout));
        let shared = Arc::new(Shared {
            context,
            role,
            breaker: Breaker::unproven(clock::monotonic()),
            under_way: UnderWay::default(),
            pipe,
            link: ArcSwapOption::empty(),
            latency: AtomicU64::new(0),
            worked: AtomicBool::new(false),
            doubted: Mutex::default(),
            doubt: Notify::new(),
        });
        let supervisor = tokio::spawn(Arc::clone(&shared).watch_over());
        Self { shared, supervisor, pulse }
    }

    /// Whether commands are let through. One atomic load.
    pub(super) fn usable(&self) -> bool {
        self.shared.breaker.lets_through()
    }

    /// Whether commands were ever let through.
    pub(super) fn has_worked(&self) -> bool {
        self.shared.worked.load(Ordering::Relaxed)
    }

    pub(super) fn breaker(&self) -> &Breaker {
        &self.shared.breaker
    }

    /// Whether the client says that it is connected.
    pub(super) fn connected(&self) -> bool {
        self.shared.link.load().as_ref().is_some_and(|link| link.client.is_connected())
    }

    /// How long the last answered command took.
    pub(super) fn latency(&self) -> Option<Duration> {
        let stored = self.shared.latency.load(Ordering::Relaxed);
        stored.checked_sub(1).map(Duration::from_micros)
    }

    /// Something was answered for this key that was not written there. Either it lies there, which is no
    /// fault of the connection; or answers have come to belong to other commands, one lost or one too many,
    /// and will for as long as the connection lives: the supervisor finds out.
    pub(super) fn doubt(&self, name: Key) {
        *lock(&self.shared.doubted) = Some(name);
        self.shared.doubt.notify_one();
    }

    /// Sends one command if the breaker and the bound on commands under way let it; counts it, times
    /// it, and tells the breaker how it ended. `call` must use [`Link::read`] or [`Link::write`],
    /// which bound its time.
    ///
    /// # Errors
    /// Why there is no answer; counted already.
    pub(super) async fn run<T, F, A>(&self, command: &'static str, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Arc<Link>) -> A,
        A: Future<Output = FredResult<T>>,
    {
        let sending = self.begin()?;
        let link = self.link()?;
        self.shared.context.counters.sent();
        self.pulse.feel();
        // The library's futures are of many kilobytes, which whatever waits for them would carry and copy.
        let result = in_place(|| call(link)).await;
        self.end(command, &sending, result)
    }

    /// Reads a value, of which no more than [`LONGEST_VALUE`] bytes whoever wrote it: `GET` would buffer
    /// half a gibibyte. Both take the same time, here and in Redis, measured from 1 KiB to 200 KiB. What
    /// holds for [`Self::run`] holds here.
    ///
    /// `put_name` appends the name of the key: where the pipe reads, nothing else is made of it.
    pub(super) async fn read(
        &self,
        command: &'static str,
        put_name: impl Fn(&mut Vec<u8>),
    ) -> Result<Bytes, Failure> {
        let sending = self.begin()?;
        let counters = &self.shared.context.counters;
        let until = sending.begun + self.shared.context.settings.read_timeout;
        let asked = self.shared.pipe.as_ref().and_then(|pipe| pipe.ask(&put_name, until));
        let was_asked = asked.is_some();
        if was_asked {
            counters.sent();
        }
        let answer = match asked {
            Some(asked) => asked.await.ok(),
            None => None,
        };
        let result = match answer {
            Some(answer) => answer,
            // Where the pipe cannot answer, the library reads.
            None => match self.link() {
                Ok(link) => {
                    if !was_asked {
                        counters.sent();
                    }
                    let mut name = Vec::new();
                    put_name(&mut name);
                    self.pulse.feel();
                    in_place(|| link.read.getrange(name.as_slice(), 0, LONGEST_VALUE - 1)).await
                }
                Err(_) if was_asked => Err(Error::new(ErrorKind::IO, "lost with its connection")),
                Err(failure) => return Err(failure),
            },
        };
        self.end(command, &sending, result)
    }

    fn begin(&self) -> Result<Sending<'_>, Failure> {
        let shared = &*self.shared;
        if !shared.breaker.lets_through() {
            return Err(Failure::NotAsked);
        }
        let Some(place) = shared.under_way.take() else {
            shared.context.counters.failed(Failure::Saturated);
            return Err(Failure::Saturated);
        };
        Ok(Sending { begun: clock::monotonic(), _place: place })
    }

    fn link(&self) -> Result<Arc<Link>, Failure> {
        self.shared.link.load_full().ok_or(Failure::NotAsked)
    }

    fn end<T>(
        &self,
        command: &'static str,
        sending: &Sending<'_>,
        result: FredResult<T>,
    ) -> Result<T, Failure> {
        let shared = &*self.shared;
        let now = clock::monotonic();
        let took = now.saturating_duration_since(sending.begun);
        shared.context.observer.observe(command, took);
        match result {
            Ok(value) => {
                shared.breaker.ended(Ended::Answered, now);
                shared.answered_in(took);
                Ok(value)
            }
            Err(error) => {
                let failure = Failure::of(&error);
                let counters = &shared.context.counters;
                counters.failed(failure);
                if failure == Failure::NotPermitted {
                    counters.trouble.tell(&shared.context.settings, &error);
                }
                shared.learn(failure, now);
                Err(failure)
            }
        }
    }
}

/// A command under way.
struct Sending<'l> {
    begun: Instant,
    _place: Place<'l>,
}

/// How many commands are under way: at most [`IN_FLIGHT`]. Nobody waits for a place, so it need not know who.
#[derive(Debug, Default)]
struct UnderWay(AtomicUsize);

/// One of them, until it is dropped.
#[derive(Debug)]
struct Place<'u>(&'u UnderWay);

impl UnderWay {
    fn take(&self) -> Option<Place<'_>> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let place = Place(self);
        (before < IN_FLIGHT).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

// === The supervisor ===

/// Why a client was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lost {
    /// The library's task is over.
    Ended,
    /// It says that it is connected, and nothing is answered.
    Wedged,
    /// Answers belong to other commands.
    OutOfStep,
}

/// A client and the library's task that drives it: dropping this ends both.
struct Running {
    link: Arc<Link>,
    task: ConnectHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Shared {
    fn answered_in(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX - 1);
        self.latency.store(micros.saturating_add(1), Ordering::Relaxed);
    }

    fn learn(&self, failure: Failure, now: Instant) {
        match failure.ended() {
            None => self.breaker.trip(now),
            Some(how) => self.breaker.ended(how, now),
        }
        if failure.refuses_writes() {
            self.context.writes.trip(now);
        }
    }

    /// The supervisor, and another in its place should it ever panic: without one, a breaker that is open
    /// stays open.
    async fn watch_over(self: Arc<Self>) {
        loop {
            // Ends with this task, whoever aborts it.
            let mut supervisor = JoinSet::new();
            supervisor.spawn(Arc::clone(&self).supervise());
            supervisor.join_next().await;
            self.link.store(None);
            self.breaker.trip(clock::monotonic());
            tracing::error!(role = ?self.role, "the supervisor of a Redis connection is replaced");
            sleep(REBUILD_DELAY).await;
        }
    }

    async fn supervise(self: Arc<Self>) {
        let mut in_vain: u32 = 0;
        loop {
            match self.dial() {
                Ok(mut running) => {
                    self.link.store(Some(Arc::clone(&running.link)));
                    let (lost, has_worked) = self.watch(&mut running).await;
                    // One that ended at once is refused by the library, whose reason is in the log.
                    let refused = lost == Lost::Ended && !has_worked;
                    in_vain = if refused { in_vain.saturating_add(1) } else { 0 };
                    if !refused {
                        tracing::warn!(server = %self.context.settings.server, role = ?self.role, ?lost,
                            "the Redis client is replaced");
                    }
                }
                Err(error) => {
                    in_vain = in_vain.saturating_add(1);
                    self.context.counters.failed(Failure::of(&error));
                    self.tell(&error);
                }
            }
            self.link.store(None);
            self.breaker.trip(clock::monotonic());
            sleep(REBUILD_DELAY * 2_u32.pow(in_vain.saturating_sub(1).min(REBUILD_DOUBLINGS))).await;
        }
    }

    /// Watches one client until it is lost. Returns how it was, and whether it ever worked.
    async fn watch(&self, running: &mut Running) -> (Lost, bool) {
        let link = Arc::clone(&running.link);
        let mut errors = link.client.error_rx();
        let mut reconnects = link.client.reconnect_rx();
        let mut was_connected = false;
        let mut silent_since: Option<Instant> = None;
        let (mut has_worked, mut worked_before) = (false, false);
        let (mut round_at, mut bad_rounds) = (clock::monotonic(), 0);
        let mut checked: Option<Instant> = None;
        loop {
            let pause = if was_connected { self.next_probe() } else { DOWN_TICK };
            tokio::select! {
                biased;
                ended = &mut running.task => {
                    if let Ok(Err(error)) = ended {
                        self.tell(&error);
                    }
                    return (Lost::Ended, has_worked);
                }
                // A lagging receiver has missed errors, which is an error.
                error = errors.recv() => {
                    self.breaker.trip(clock::monotonic());
                    self.leave_pipe();
                    if let Ok((error, _)) = error {
                        self.tell(&error);
                    }
                }
                _ = reconnects.recv() => {
                    self.leave_pipe();
                    self.breaker.hasten(clock::monotonic());
                }
                () = self.doubt.notified() => {
                    let now = clock::monotonic();
                    let due = checked.is_none_or(|at| now.saturating_duration_since(at) >= CHECK_EVERY);
                    let doubted = lock(&self.doubted).take().filter(|_| due);
                    if let Some(name) = doubted {
                        checked = Some(now);
                        if let Some(pipe) = &self.pipe {
                            pipe.prove(&name, now + self.context.settings.read_timeout);
                        }
                        if self.is_out_of_step(&link, name).await {
                            return (Lost::OutOfStep, has_worked);
                        }
                    }
                }
                () = sleep(pause) => {}
            }
            let connected = link.client.is_connected();
            let now = clock::monotonic();
            if !connected {
                self.breaker.trip(now);
                silent_since = None;
            } else if !was_connected {
                self.breaker.hasten(now);
            }
            was_connected = connected;
            if !connected {
                continue;
            }
            if self.breaker.begin_probe(now) {
                match self.probe(&link).await {
                    Some(Failure::Timeout) => {
                        let since = *silent_since.get_or_insert(now);
                        if clock::monotonic().saturating_duration_since(since) >= WEDGED {
                            return (Lost::Wedged, has_worked);
                        }
                    }
                    _ => silent_since = None,
                }
            }
            let works = self.usable();
            if works && !worked_before {
                has_worked = true;
                self.context.counters.trouble.over();
            }
            worked_before = works;
            if self.usable() && now.saturating_duration_since(round_at) >= UP_TICK {
                round_at = now;
                bad_rounds = if self.cluster_answers(&link).await { 0 } else { bad_rounds + 1 };
                if bad_rounds >= BAD_ROUNDS {
                    self.breaker.trip(clock::monotonic());
                    bad_rounds = 0;
                }
            }
            if self.role == Role::Hot && self.usable() && self.context.writes.begin_probe(now) {
                self.probe_writes(&link).await;
            }
        }
    }

    fn usable(&self) -> bool {
        self.breaker.lets_through()
    }

    /// Where the library's connection has been to another server, records are no longer read from the one
    /// that it left.
    fn leave_pipe(&self) {
        if let Some(pipe) = &self.pipe {
            pipe.leave();
        }
    }

    fn next_probe(&self) -> Duration {
        let now = clock::monotonic();
        let own = self.breaker.next_probe(now);
        let writes = match self.role {
            Role::Hot if self.usable() => self.context.writes.next_probe(now),
            _ => None,
        };
        own.into_iter().chain(writes).min().unwrap_or(UP_TICK).min(UP_TICK)
    }

    /// Says why there is no connection.
    fn tell(&self, error: &Error) {
        self.context.counters.trouble.tell(&self.context.settings, error);
    }

    /// What probes read and write: one key, or one with each master of a cluster.
    ///
    /// One master that hangs is one share of all requests that wait for nothing, while the answers of the
    /// others keep the breaker from seeing time-outs in a row; and the library leaves a master that others
    /// replaced only when nothing is sent to it any more. So a cluster works while all of it does.
    fn probe_keys(&self, link: &Link) -> Vec<Key> {
        let names = &self.context.names;
        let Some(routing) = link.client.cached_cluster_state() else { return vec![names.probe()] };
        let keys = names.probes(&routing.unique_primary_nodes(), |slot| routing.get_server(slot));
        if keys.is_empty() { vec![names.probe()] } else { keys }
    }

    /// Reads from wherever requests read. Returns what went wrong, time-outs first.
    async fn read_probes(&self, link: &Link) -> Option<Failure> {
        let reads = self.probe_keys(link).into_iter().map(|key| link.read.get::<Option<Bytes>, _>(key));
        let failures = all(reads).await.into_iter().filter_map(|read| Some(Failure::of(&read.err()?)));
        // Whoever says that a slot is elsewhere is there.
        let failures = failures.filter(|failure| *failure != Failure::Redirected);
        failures.reduce(|one, other| if one == Failure::Timeout { one } else { other })
    }

    /// Whether every master of a cluster answers; what is no cluster is seen by its requests.
    async fn cluster_answers(&self, link: &Link) -> bool {
        if link.client.cached_cluster_state().is_none() {
            return true;
        }
        let failure = self.read_probes(link).await;
        if let Some(failure) = failure {
            self.context.counters.failed(failure);
        }
        failure.is_none()
    }

    /// Reads as requests read. Returns what went wrong.
    async fn probe(&self, link: &Link) -> Option<Failure> {
        let begun = clock::monotonic();
        let failure = self.read_probes(link).await;
        let now = clock::monotonic();
        match failure {
            None => self.answered_in(now.saturating_duration_since(begun)),
            Some(failure) => self.context.counters.failed(failure),
        }
        self.breaker.probed(failure.is_none(), now);
        if self.usable() {
            self.worked.store(true, Ordering::Relaxed);
        }
        failure
    }

    /// Writes as requests write. Any failure leaves writes off.
    async fn probe_writes(&self, link: &Link) {
        let writes = self.probe_keys(link).into_iter().map(|key| {
            let expiry = Some(Expiration::PX(PROBE_TTL));
            link.write.set::<(), _, _>(key, Bytes::from_static(&[MAGIC]), expiry, None, false)
        });
        let results = all(writes).await;
        let now = clock::monotonic();
        let failures: Vec<_> =
            results.iter().filter_map(|result| result.as_ref().err()).map(Failure::of).collect();
        for failure in &failures {
            self.context.counters.failed(*failure);
            self.learn(*failure, now);
        }
        self.context.writes.probed(failures.is_empty(), now);
    }

    /// Asks what has only one right answer, of the server that this key is on. One that does not come says
    /// nothing.
    async fn is_out_of_step(&self, link: &Link, name: Key) -> bool {
        let mut question = fastrand::u128(..).to_be_bytes();
        question[0] = MAGIC;
        let question = Bytes::copy_from_slice(&question);
        let send = |verb, all| async move {
            link.write.custom::<Value, Value>(verb, all).await.map_err(|error| Failure::of(&error))
        };
        match ECHO.run(&[name], &[Value::Bytes(question.clone())], send).await {
            Ok(answer) => answer != Value::Bytes(question),
            Err(failure) => failure == Failure::Protocol,
        }
    }

    /// Makes a client and begins to connect it.
    fn dial(&self) -> Result<Running, Error> {
        let settings = &self.context.settings;
        let client = build(settings, &Class::requests(settings))?;
        let link = Arc::new(Link {
            read: client.with_options(&within(settings.read_timeout)),
            write: client.with_options(&within(settings.write_timeout)),
            client,
        });
        // `connect`, not `init`: it goes on trying when Redis is down at the start.
        let task = link.client.connect();
        Ok(Running { link, task })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_under_way_are_bounded_and_end() {
        let under_way = UnderWay::default();
        let mut places: Vec<_> = (0..IN_FLIGHT).map(|_| under_way.take().expect("room")).collect();
        for _ in 0..3 {
            assert!(under_way.take().is_none());
        }
        places.pop();
        assert!(under_way.take().is_some());
        drop(places);
        assert_eq!(under_way.0.load(Ordering::Relaxed), 0);
    }
}
