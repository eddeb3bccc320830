//! The fleet's purge journal in Redis: who asks what [`Follower`] wants to know, and who tells purges.
//!
//! Decides: how long answers may take, when a connection is given up, and how purges are put together for
//! one call. Never touches: what an answer means (that is the [`Follower`]'s), or what is purged.
//!
//! Two tasks on the event loop where [`Journal::run`] runs, each with a connection of its own: the reader,
//! which waits for purges and would keep others from using it, and the teller. A connection that fails is
//! thrown away with its client: nothing is kept in it that could be lost. A fault of ours that ends the tasks
//! is no end of the journal: [`Journal::keep_running`] begins anew, and reads everything again.
//!
//! Cancelling a [`Journal::tell`] is safe: what was handed over is told, or kept to be told.

use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, FredResult};
use fred::types::{ConnectHandle, CustomCommand, Key, Value};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep, timeout};

use super::counters::{CommandObserver, Counters, Failure};
use super::dial::{Class, build};
use super::keys::Names;
use super::script::{LOOK, PAGE, Script, TELL, slot_of};
use super::settings::Settings;
use crate::caching::stamp::{Mode, Purge, PurgeId, Sequence, Stamp};
use crate::clock;
use crate::store::journal::{
    Entry, Follower, Look, MAX_CALL, MAX_CALL_PREFIXES, PAGE as PAGE_SIZE, Page, Progress, Step, Table,
    id_bytes, mode_byte, seal, unsealed,
};
use crate::store::lock;
use crate::store::purges::{HEARING, MAX_PREFIXES, PurgeTable, RETENTION};

/// How long a reading waits for something to come.
const WAIT: Duration = Duration::from_millis(500);
/// How long any answer of the journal may take, beside the waiting that was asked for.
const ANSWER: Duration = Duration::from_secs(1);
/// How long connecting may take for each node that may have to be tried.
const CONNECT: Duration = Duration::from_secs(2);
/// Between a reader's connection that failed and the next, at first; four times that at most.
const RETRY: Duration = Duration::from_millis(100);
/// How often a purge is told before it is kept for later.
const TRIES: usize = 3;
/// Entries of one reading.
const BATCH: usize = 500;
/// About how many entries the stream keeps. Who misses more reads the tables.
const LOG: usize = 10_000;
/// Between a fault that ended the following and its beginning anew, at first, and at most.
const RESTART: Duration = Duration::from_millis(50);
const LONGEST_RESTART: Duration = Duration::from_secs(5);
/// How long whoever purged waits for this proxy to have read it.
const ECHO: Duration = Duration::from_millis(250);
/// How often what was left untold is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// Purges handed over and not begun with.
const QUEUE: usize = 1024;
/// Ids that are kept to be told; more are told as "everything".
const MOST_UNTOLD: usize = 100_000;

/// A handle to the journal, for all workers.
pub struct Journal {
    settings: Arc<Settings>,
    names: Names,
    counters: Arc<Counters>,
    observer: Arc<dyn CommandObserver>,
    table: Arc<PurgeTable>,
    follower: Mutex<Follower>,
    untold: Mutex<Untold>,
    /// There is something to tell that nobody waits for.
    wake: Notify,
    /// The number that stamps have reached.
    reached: watch::Sender<Sequence>,
    orders: mpsc::Sender<Order>,
    /// Held by who runs.
    queue: tokio::sync::Mutex<mpsc::Receiver<Order>>,
    restarts: AtomicU64,
    /// The last state said that Redis is full.
    full: AtomicBool,
}

/// What one call tells.
#[derive(Clone, Debug)]
struct Call {
    purge: Purge,
    /// The number that makes telling it needless; zero = none does.
    below: Sequence,
    /// What it settles.
    numbers: Vec<Stamp>,
}

/// What became of telling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Every proxy that reads the journal learns of it under this number; this one has.
    Fleet(Sequence),
    /// Redis could not be told; it will be when it is back.
    Later,
}

/// How the journal stands, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalStatus {
    /// Where the reader is.
    pub progress: Progress,
    /// The number of the stamps given out now.
    pub sequence: Sequence,
    /// Whether the fleet's latest word is known.
    pub in_sync: bool,
    /// Milliseconds since the fleet was heard last.
    pub lag: Option<u64>,
    /// Ids waiting to be told.
    pub untold: usize,
    /// Ids remembered here.
    pub ids: usize,
    /// Redis has no memory left, so nothing can be purged.
    pub full: bool,
    /// How often following it ended in a fault of ours, and began anew.
    pub restarts: u64,
}

/// What became of telling one call.
enum One {
    Told(Sequence),
    /// Redis did not answer.
    Untold,
    /// Redis holds as many prefixes as it may.
    NoRoom,
}

/// Purges of one caller, and where the answer goes.
struct Order {
    purges: Vec<Call>,
    reply: oneshot::Sender<Told>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl Journal {
    /// The journal that feeds `table`; nothing happens before [`Self::run`].
    #[must_use]
    pub fn new(
        settings: Arc<Settings>,
        table: Arc<PurgeTable>,
        counters: Arc<Counters>,
        observer: Arc<dyn CommandObserver>,
    ) -> Self {
        let (orders, queue) = mpsc::channel(QUEUE);
        Self {
            names: Names::new(&settings.prefix),
            settings,
            counters,
            observer,
            follower: Mutex::new(Follower::new(Arc::clone(&table))),
            table,
            untold: Mutex::default(),
            wake: Notify::new(),
            reached: watch::Sender::new(Sequence(0)),
            orders,
            queue: tokio::sync::Mutex::new(queue),
            restarts: AtomicU64::new(0),
            full: AtomicBool::new(false),
        }
    }

    /// Reads and tells until it is dropped. A second call, while the first goes on, ends at once.
    pub async fn run(&self) {
        let Ok(mut queue) = self.queue.try_lock() else { return };
        tokio::join!(self.read_on(), self.tell_on(&mut queue));
    }

    /// Runs on this thread for as long as the process does: should it panic, it is counted, what was being
    /// told is told again, and after a pause everything is read anew. Ends when `runtime` cannot run it.
    pub fn keep_running(&self, runtime: &Runtime) {
        let mut pause = RESTART;
        loop {
            let begun = clock::monotonic();
            let ended = catch_unwind(AssertUnwindSafe(|| runtime.block_on(self.run())));
            if ended.is_ok() {
                return;
            }
            self.restarts.fetch_add(1, Ordering::Relaxed);
            // What it was doing is not known: what a new one does not know, it asks.
            *lock(&self.follower) = Follower::new(Arc::clone(&self.table));
            self.wake.notify_one();
            let ran = clock::monotonic().saturating_duration_since(begun);
            pause = if ran > LONGEST_RESTART { RESTART } else { (pause * 2).min(LONGEST_RESTART) };
            tracing::error!(
                ?pause,
                "following the purge journal ended in a fault of forebay: it begins anew"
            );
            std::thread::sleep(pause);
        }
    }

    /// Tells the fleet of purges that hold in this process already, each under the number that it has here
    /// ([`PurgeTable::purge`]), and settles them. Ends when this process's stamps have
    /// outlived them too, so that what is fetched afterwards is kept; or, with the telling going on, when
    /// `patience` is over.
    pub async fn tell(&self, purges: Vec<(Purge, Stamp)>, patience: Duration) -> Told {
        let purges = together(purges);
        let (reply, told) = oneshot::channel();
        if let Err(refused) = self.orders.try_send(Order { purges, reply }) {
            let (mpsc::error::TrySendError::Full(order) | mpsc::error::TrySendError::Closed(order)) = refused;
            order.purges.into_iter().for_each(|call| lock(&self.untold).keep(call));
            self.wake.notify_one();
            return Told::Later;
        }
        let told = timeout(patience, told).await.ok().and_then(Result::ok).unwrap_or(Told::Later);
        if let Told::Fleet(sequence) = told {
            self.reach(sequence, ECHO).await;
        }
        told
    }

    /// Waits until the fleet was heard for the first time, for as long as `patience`.
    pub async fn first_heard(&self, patience: Duration) {
        self.reach(Sequence(1), patience).await;
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let now = clock::wall();
        let untold = {
            let untold = lock(&self.untold);
            untold.ids + untold.being_told
        };
        JournalStatus {
            progress: lock(&self.follower).progress(),
            sequence: self.table.stamp().sequence(),
            in_sync: self.table.in_sync(now),
            lag: self.table.lag(now),
            untold,
            ids: self.table.ids(),
            full: self.full.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
        }
    }

    async fn reach(&self, sequence: Sequence, patience: Duration) {
        let mut reached = self.reached.subscribe();
        // Whether it was reached or not, whoever waits goes on.
        let _ = timeout(patience, reached.wait_for(|reached| *reached >= sequence)).await;
    }
}

// === The reader ===

impl Journal {
    async fn read_on(&self) {
        let mut failures: u32 = 0;
        let mut heard = clock::monotonic();
        loop {
            let connected = {
                // Where one node of many hangs, this takes its time; that nothing is heard shows meanwhile.
                let mut connecting = pin!(self.connect(WAIT + ANSWER));
                loop {
                    match timeout(ANSWER, connecting.as_mut()).await {
                        Ok(connected) => break connected,
                        Err(_) => self.note_silence(heard),
                    }
                }
            };
            let ended = match connected {
                Ok(line) => {
                    let ended = self.follow(&line, &mut heard).await;
                    lock(&self.follower).lost();
                    ended
                }
                Err(failure) => failure,
            };
            self.counters.failed(ended);
            failures = if self.table.in_sync(clock::wall()) { 0 } else { failures.saturating_add(1) };
            if failures == 1 {
                tracing::warn!(server = %self.settings.server, why = ?ended,
                    "the purge journal cannot be read");
            }
            self.note_silence(heard);
            sleep(RETRY * failures.clamp(1, 4)).await;
        }
    }

    fn note_silence(&self, heard: std::time::Instant) {
        if clock::monotonic().saturating_duration_since(heard) >= Duration::from_millis(HEARING) {
            self.table.hears_nothing();
        }
    }

    /// Asks and hands in answers until one does not come. Returns why.
    async fn follow(&self, line: &Line, heard: &mut std::time::Instant) -> Failure {
        let mut looks = 0;
        let mut silent = true;
        loop {
            let asked = clock::wall();
            let begun = clock::monotonic();
            let step = lock(&self.follower).next(asked);
            looks = if matches!(step, Step::Look { .. }) { looks + 1 } else { 0 };
            if looks > 2 {
                // It sees, again and again, what it cannot use: at leisure.
                sleep(RETRY).await;
            }
            match self.take(line, step, asked).await {
                Ok(()) => {}
                Err(failure) => return failure,
            }
            if self.table.in_sync(clock::wall()) {
                *heard = begun;
                if std::mem::take(&mut silent) {
                    self.counters.trouble.over();
                    tracing::info!(ids = self.table.ids(), "the purge journal is read");
                    self.wake.notify_one();
                }
            }
            self.reached.send_if_modified(|reached| {
                let sequence = self.table.stamp().sequence();
                std::mem::replace(reached, sequence) != sequence
            });
            self.keep_what_was_lost();
        }
    }

    async fn take(
        &self,
        line: &Line,
        step: Step,
        asked: crate::semantics::UnixMillis,
    ) -> Result<(), Failure> {
        let nonsense = |_| Failure::Protocol;
        match step {
            Step::Look { least } => {
                let reply =
                    self.script(line, "journal_look", &LOOK, &self.keys(), self.beginning(least)).await?;
                let look = Look::decode(&reply).ok_or(Failure::Protocol)?;
                self.full.store(look.full, Ordering::Relaxed);
                lock(&self.follower).looked(look, asked);
                Ok(())
            }
            Step::Page { of, from } => {
                let [state, ids, prefixes, _] = self.keys();
                let table = if of == Table::Ids { ids } else { prefixes };
                let arguments = vec![Value::from(decimal(from)), Value::from(PAGE_SIZE.to_string())];
                let reply = self.script(line, "journal_page", &PAGE, &[state, table], arguments).await?;
                let page = Page::decode(&reply, of == Table::Ids).ok_or(Failure::Protocol)?;
                lock(&self.follower).paged(&page, clock::wall()).map_err(nonsense)
            }
            Step::Read { after, wait } => {
                let value = self.read(line, after, wait).await?;
                let read = entries(&value)
                    .is_some_and(|entries| lock(&self.follower).read(&entries, clock::wall()).is_ok());
                if !read {
                    // The stream holds what nobody of ours wrote: the tables are read instead.
                    self.counters.failed(Failure::Protocol);
                    lock(&self.follower).unreadable();
                    sleep(RETRY).await;
                }
                Ok(())
            }
        }
    }

    async fn read(&self, line: &Line, after: Sequence, wait: bool) -> Result<Value, Failure> {
        let [_, _, _, log] = self.keys();
        let mut arguments = vec![Value::from("COUNT"), Value::from(BATCH.to_string())];
        if wait {
            arguments.extend([Value::from("BLOCK"), Value::from(WAIT.as_millis().to_string())]);
        }
        arguments.extend([Value::from("STREAMS"), Value::Bytes(log.inner().clone())]);
        arguments.push(Value::from(format!("{}-0", after.0)));
        let command = CustomCommand::new_static("XREAD", slot_of(&log), wait);
        self.answer("journal_read", line.client.custom::<Value, _>(command, arguments)).await
    }

    fn keep_what_was_lost(&self) {
        let mut lost = Vec::new();
        {
            let mut follower = lock(&self.follower);
            lost.extend(std::iter::from_fn(|| follower.take_untold()));
        }
        if !lost.is_empty() {
            tracing::warn!(purges = lost.len(), "Redis has lost purges: they are told again");
            let mut untold = lock(&self.untold);
            let calls = lost.into_iter().map(|(below, purge)| Call { purge, below, numbers: Vec::new() });
            calls.for_each(|call| untold.keep(call));
            drop(untold);
            self.wake.notify_one();
        }
    }
}

// === The teller ===

/// What Redis has to be told, and nobody waits for.
#[derive(Debug, Default)]
struct Untold {
    calls: VecDeque<Call>,
    ids: usize,
    /// Those that have been taken to be told now, and may come back.
    being_told: usize,
}

impl Untold {
    fn keep(&mut self, call: Call) {
        self.ids += call.len();
        match self.calls.back_mut() {
            Some(last) if last.takes(&call) => last.add(call),
            _ => self.calls.push_back(call),
        }
        if self.ids > MOST_UNTOLD {
            let purge = Purge::of_ids(Mode::Hard, vec![PurgeId::ALL]);
            let numbers = self.calls.drain(..).flat_map(|call| call.numbers).collect();
            self.calls = VecDeque::from([Call { purge, below: Sequence(0), numbers }]);
            self.ids = 1;
        }
    }

    fn take(&mut self) -> VecDeque<Call> {
        self.ids = 0;
        std::mem::take(&mut self.calls)
    }
}

/// Calls being told: what is left of them when this is dropped, however that comes, stays untold.
struct Left<'a> {
    untold: &'a Mutex<Untold>,
    calls: VecDeque<Call>,
}

impl<'a> Left<'a> {
    /// All there is.
    fn of(untold: &'a Mutex<Untold>) -> Self {
        let mut held = lock(untold);
        let calls = held.take();
        held.being_told = calls.iter().map(Call::len).sum();
        Self { untold, calls }
    }
}

impl Drop for Left<'_> {
    fn drop(&mut self) {
        let mut untold = lock(self.untold);
        untold.being_told = 0;
        self.calls.drain(..).for_each(|call| untold.keep(call));
    }
}

impl Call {
    /// Ids and prefixes in it.
    fn len(&self) -> usize {
        self.purge.ids.len() + self.purge.prefixes.len()
    }

    /// Whether both can be one.
    fn takes(&self, other: &Self) -> bool {
        let ids_alone = self.purge.prefixes.is_empty() && other.purge.prefixes.is_empty();
        let same = self.purge.mode == other.purge.mode && self.below == other.below;
        same && ids_alone && self.purge.ids.len() + other.purge.ids.len() <= MAX_CALL
    }

    fn add(&mut self, other: Self) {
        self.purge.ids.extend(other.purge.ids);
        self.numbers.extend(other.numbers);
    }
}

/// Purges in as few calls as there may be, in their order; each settles its number with its last part.
fn together(purges: Vec<(Purge, Stamp)>) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    for (purge, number) in purges {
        let of = |ids: &[PurgeId], prefixes: &[Bytes]| {
            let purge = Purge { mode: purge.mode, ids: ids.to_vec(), prefixes: prefixes.to_vec() };
            Call { purge, below: Sequence(0), numbers: Vec::new() }
        };
        let ids = purge.ids.chunks(MAX_CALL).map(|ids| of(ids, &[]));
        let prefixes = purge.prefixes.chunks(MAX_CALL_PREFIXES).map(|prefixes| of(&[], prefixes));
        for call in ids.chain(prefixes) {
            match calls.last_mut() {
                Some(last) if last.takes(&call) => last.add(call),
                _ => calls.push(call),
            }
        }
        if let Some(last) = calls.last_mut() {
            last.numbers.push(number);
        }
    }
    calls
}

impl Journal {
    async fn tell_on(&self, queue: &mut mpsc::Receiver<Order>) {
        let mut line: Option<Line> = None;
        let mut orders = Vec::new();
        loop {
            tokio::select! {
                count = queue.recv_many(&mut orders, 64) => if count == 0 { return },
                () = self.wake.notified() => {}
                () = sleep(AGAIN), if lock(&self.untold).ids > 0 => {}
            }
            // What was left untold comes first.
            {
                let mut untold = lock(&self.untold);
                let calls = orders.iter_mut().flat_map(|order: &mut Order| order.purges.drain(..));
                calls.for_each(|call| untold.keep(call));
            }
            let told =
                if self.table.in_sync(clock::wall()) { self.tell_all(&mut line).await } else { Told::Later };
            for order in orders.drain(..) {
                // Whoever asked may have gone.
                let _ = order.reply.send(told);
            }
        }
    }

    /// Tells all that is untold; what cannot be told stays so.
    async fn tell_all(&self, line: &mut Option<Line>) -> Told {
        let mut left = Left::of(&self.untold);
        if left.calls.is_empty() && line.is_none() {
            // The fleet was just heard. Connecting takes a while: before the first purge, not during it.
            *line = self.connect(self.settings.write_timeout).await.ok();
        }
        let mut told = Told::Later;
        while let Some(call) = left.calls.front_mut() {
            let sequence = match self.tell_one(line, &call.purge, call.below).await {
                One::Told(sequence) => sequence,
                One::Untold => return Told::Later,
                One::NoRoom => {
                    // It must not stand in the way of those behind it until there is room, for days.
                    tracing::warn!("too many prefixes are purged already: hosts are purged in their place");
                    call.purge.widen();
                    continue;
                }
            };
            call.numbers.iter().for_each(|number| self.table.settle(*number));
            left.calls.pop_front();
            told = Told::Fleet(sequence);
        }
        told
    }

    async fn tell_one(&self, line: &mut Option<Line>, purge: &Purge, below: Sequence) -> One {
        for _ in 0..TRIES {
            if line.is_none() {
                *line = self.connect(self.settings.write_timeout).await.ok();
            }
            let Some(open) = line.as_ref() else { continue };
            let least = lock(&self.follower).least_number();
            let mut arguments = self.beginning(least);
            arguments.extend([
                Value::from(mode_byte(purge.mode)),
                Value::from(decimal(below)),
                Value::Bytes(id_bytes(&purge.ids)),
                Value::from(RETENTION.to_string()),
                Value::from((2 * MAX_PREFIXES).to_string()),
                Value::from(LOG.to_string()),
                Value::Bytes(Bytes::copy_from_slice(&fastrand::u64(1..).to_be_bytes())),
            ]);
            arguments.extend(purge.prefixes.iter().map(|prefix| Value::Bytes(prefix.clone())));
            let reply = self.script(open, "journal_tell", &TELL, &self.keys(), arguments).await;
            let number = reply.and_then(|reply| {
                let number = std::str::from_utf8(&reply).ok().and_then(|number| number.parse::<i64>().ok());
                number.ok_or(Failure::Protocol)
            });
            match number.map(u64::try_from) {
                Ok(Ok(number)) => {
                    let sequence = Sequence(number).min(Sequence::LAST);
                    if number > 0 {
                        lock(&self.follower).told(purge, sequence, clock::wall());
                    }
                    return One::Told(if number > 0 { sequence } else { below });
                }
                Ok(Err(_)) => return One::NoRoom,
                Err(failure) => {
                    self.counters.failed(failure);
                    *line = None;
                }
            }
        }
        One::Untold
    }
}

// === Talking to Redis ===

/// A connection of the journal's own; it ends with the value.
struct Line {
    client: Client,
    task: ConnectHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Journal {
    async fn connect(&self, answers: Duration) -> Result<Line, Failure> {
        // A reading that waits is silent for as long as it waits.
        let class =
            Class { longest_command: answers, longest_silence: answers.max(Duration::from_secs(1)) * 2 };
        let failed = |error: Error| {
            self.counters.trouble.tell(&self.settings, &error);
            Failure::of(&error)
        };
        let client = build(&self.settings, &class).map_err(failed)?;
        let task = client.connect();
        let line = Line { client, task };
        // The library tries one node after another, and those that hang take the longest.
        let nodes = u32::try_from(self.settings.server.nodes()).unwrap_or(u32::MAX);
        match timeout(CONNECT.saturating_mul(nodes), line.client.wait_for_connect()).await {
            Ok(Ok(())) => Ok(line),
            Ok(Err(error)) => Err(failed(error)),
            Err(_) => Err(Failure::Timeout),
        }
    }

    fn keys(&self) -> [Key; 4] {
        ["state", "ids", "prefixes", "log"].map(|what| self.names.journal(what))
    }

    /// What every script that may begin a new life of the journal is told.
    fn beginning(&self, least: Sequence) -> Vec<Value> {
        let life = fastrand::u128(..).to_be_bytes();
        vec![Value::Bytes(Bytes::copy_from_slice(&life)), Value::from(decimal(least))]
    }

    async fn script(
        &self,
        line: &Line,
        command: &'static str,
        script: &Script,
        keys: &[Key],
        mut arguments: Vec<Value>,
    ) -> Result<Bytes, Failure> {
        let parts = keys.iter().map(Key::as_bytes).chain(arguments.iter().filter_map(bytes));
        let seal = seal(parts);
        arguments.push(Value::from(seal.as_str()));
        let send = |verb, all| self.answer(command, line.client.custom::<Value, _>(verb, all));
        let reply = script.run(keys, &arguments, send).await?;
        let reply = bytes(&reply).and_then(|reply| unsealed(reply, &seal));
        reply.map(Bytes::copy_from_slice).ok_or(Failure::Protocol)
    }

    async fn answer(
        &self,
        command: &'static str,
        call: impl Future<Output = FredResult<Value>>,
    ) -> Result<Value, Failure> {
        self.counters.sent();
        let begun = clock::monotonic();
        // The library has a time-out of its own; this one holds should its task hang.
        let result = timeout(WAIT + 2 * ANSWER, call).await;
        self.observer.observe(command, clock::monotonic().saturating_duration_since(begun));
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => {
                let failure = Failure::of(&error);
                // What connecting meets is told by whoever reconnects; a script is sent again.
                if matches!(failure, Failure::NotPermitted | Failure::Other) {
                    self.counters.trouble.tell(&self.settings, &error);
                }
                Err(failure)
            }
            Err(_) => Err(Failure::Timeout),
        }
    }
}

fn decimal(sequence: Sequence) -> String {
    sequence.0.to_string()
}

fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) => Some(bytes),
        Value::String(text) => Some(text.as_bytes()),
        _ => None,
    }
}

/// What XREAD answers: nothing, or one stream and its entries, in a map (RESP3) or an array of pairs.
fn entries(value: &Value) -> Option<Vec<Entry>> {
    let stream = match value {
        Value::Null => return Some(Vec::new()),
        Value::Map(streams) => streams.iter().next().map(|(_, entries)| entries.clone())?,
        Value::Array(streams) => match streams.first()? {
            Value::Array(pair) => pair.get(1)?.clone(),
            // One stream, as the library flattens it.
            _ => streams.get(1)?.clone(),
        },
        _ => return None,
    };
    let Value::Array(stream) = stream else { return None };
    stream
        .iter()
        .map(|entry| {
            let Value::Array(entry) = entry else { return None };
            let [id, Value::Array(fields)] = entry.as_slice() else { return None };
            let fields: Option<Vec<&[u8]>> = fields.iter().map(bytes).collect();
            let fields = fields?;
            let (pairs, rest) = fields.as_chunks::<2>();
            let pairs = pairs.iter().map(|[name, value]| (*name, *value));
            Entry::decode(bytes(id)?, pairs).filter(|_| rest.is_empty())
        })
        .collect()
}
