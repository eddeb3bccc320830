//! The access log: one line per request, as text or JSON, on standard output.
//!
//! A request never waits for its line: it is appended to what its worker has pending, and a thread writes
//! that out every few milliseconds, so that lines are in order for each worker and nearly so for all; when
//! the reader of the log is too slow, lines are given up and counted.
//! Whatever came from a client is escaped, so that no request can forge a line (`line`).

mod line;

use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use http::{Method, StatusCode};

use self::line::Second;
use super::cells::Cells;
use crate::caching::outcome::{CacheResult, Reason};
use crate::semantics::UnixMillis;

/// Bytes that may be pending for each worker.
const PENDING: usize = 1 << 20;
/// What a worker's pending lines are not shrunk below.
const KEPT: usize = 64 << 10;
/// Between two writings: the thread that writes costs the workers one awakening of it, and not one a line.
const GATHER: Duration = Duration::from_millis(10);

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// No access log.
    Off,
    /// `key=value` pairs a person can read.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What a line tells.
#[derive(Clone, Debug)]
pub struct Line<'a> {
    /// When the request's head was read.
    pub at: UnixMillis,
    /// The client's address.
    pub client: IpAddr,
    /// Request method.
    pub method: &'a Method,
    /// Authority the request was for.
    pub host: &'a str,
    /// Request target as it came.
    pub target: &'a str,
    /// Final status sent.
    pub status: StatusCode,
    /// Bytes of content sent.
    pub bytes: u64,
    /// Route name.
    pub route: &'a str,
    /// How the cache answered.
    pub result: CacheResult,
    /// Why.
    pub reason: Option<Reason>,
    /// Tier that answered.
    pub tier: Option<&'static str>,
    /// From the request's head to the last byte.
    pub total: Duration,
    /// From sending the upstream request to its response head, if one was sent.
    pub origin: Option<Duration>,
    /// Whether the answer broke off before its end.
    pub broken: bool,
}

/// Handle of the log; cheap to clone. What is pending when the last one goes is still written.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: Format,
    open: Option<Arc<Open>>,
}

/// Ends the writing thread when it is dropped.
#[derive(Debug)]
struct Open(Arc<Queue>);

#[derive(Debug, Default)]
struct Queue {
    pending: Cells<Mutex<Pending>>,
    dropped: AtomicU64,
    writer: OnceLock<Thread>,
    /// Whether the writer has to be woken.
    asleep: AtomicBool,
    /// Nothing more will come.
    closing: AtomicBool,
    /// Nothing more will be written.
    over: Mutex<bool>,
    ended: Condvar,
}

/// The lines of one worker.
#[derive(Debug, Default)]
struct Pending {
    text: String,
    second: Second,
}

impl AccessLog {
    /// Starts the writing thread (none when the log is off).
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(format: Format) -> std::io::Result<Self> {
        Self::onto(format, std::io::stdout())
    }

    fn onto(format: Format, mut out: impl Write + Send + 'static) -> std::io::Result<Self> {
        if format == Format::Off {
            return Ok(Self { format, open: None });
        }
        let queue = Arc::<Queue>::default();
        let writing = Arc::clone(&queue);
        let thread = thread::Builder::new().name("access-log".into()).spawn(move || {
            writing.write(&mut out);
            *lock(&writing.over) = true;
            writing.ended.notify_all();
        })?;
        // Before anybody can record a line.
        let _ = queue.writer.set(thread.thread().clone());
        Ok(Self { format, open: Some(Arc::new(Open(queue))) })
    }

    /// Whether lines are wanted at all.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.open.is_some()
    }

    /// Notes a line; never waits for its reader.
    pub fn record(&self, line: &Line<'_>) {
        let Some(open) = &self.open else { return };
        let queue = &open.0;
        let mut pending = lock(queue.pending.own());
        if pending.text.len() >= PENDING {
            queue.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let Pending { text, second } = &mut *pending;
        match self.format {
            Format::Json => line::json(text, second, line),
            Format::Text | Format::Off => line::text(text, second, line),
        }
        drop(pending);
        // The writer says that it sleeps before it looks for the last time: the lock that both take orders them.
        if queue.asleep.load(Ordering::Relaxed) && queue.asleep.swap(false, Ordering::Relaxed) {
            queue.wake();
        }
    }

    /// Lines given up so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| open.0.dropped.load(Ordering::Relaxed))
    }

    /// Waits until what is pending is written, but no longer than `patience`: whoever reads the log may have
    /// stopped to. Lines that come afterwards are lost.
    pub fn finish(&self, patience: Duration) {
        let Some(open) = &self.open else { return };
        open.0.close();
        let over = lock(&open.0.over);
        drop(open.0.ended.wait_timeout_while(over, patience, |over| !*over));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Queue {
    fn wake(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.wake();
    }

    /// Writes lines until nothing more will come; a closed standard output ends the log, never the proxy.
    fn write(&self, out: &mut impl Write) {
        let mut batch = String::new();
        loop {
            // Read before the last look: what was recorded before the end is written.
            let closing = self.closing.load(Ordering::Acquire);
            let mut wrote = false;
            for pending in self.pending.all() {
                std::mem::swap(&mut lock(pending).text, &mut batch);
                wrote |= !batch.is_empty();
                if out.write_all(batch.as_bytes()).is_err() {
                    return;
                }
                batch.clear();
                batch.shrink_to(KEPT);
            }
            if (wrote && out.flush().is_err()) || closing {
                return;
            }
            if !wrote {
                // Once more after it was said that this sleeps: a line may have come before.
                if !self.asleep.swap(true, Ordering::Relaxed) {
                    continue;
                }
                thread::park();
            }
            self.asleep.store(false, Ordering::Relaxed);
            if !self.closing.load(Ordering::Acquire) {
                thread::park_timeout(GATHER);
            }
        }
    }
}

/// What a thread that panicked while it appended has left is a line that is cut short, at worst.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Hands on what is written, piece by piece; fails when nobody wants it any more.
    struct Pieces(Sender<String>);

    impl Write for Pieces {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let text = String::from_utf8(bytes.to_vec()).map_err(std::io::Error::other)?;
            self.0.send(text).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn log() -> (AccessLog, Receiver<String>) {
        let (pieces, written) = channel();
        (AccessLog::onto(Format::Text, Pieces(pieces)).expect("a thread"), written)
    }

    fn record(log: &AccessLog, target: &str) {
        log.record(&line::tests::line(target));
    }

    #[test]
    fn every_line_is_written_once() {
        let (log, written) = log();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let log = log.clone();
                scope.spawn(move || (0..500).for_each(|n| record(&log, &format!("/{thread}/{n}."))));
            }
        });
        log.finish(Duration::from_secs(30));
        let text: String = written.try_iter().collect();
        assert_eq!(text.lines().count(), 4_000);
        for line in (0..8).flat_map(|thread| (0..500).map(move |n| format!("/{thread}/{n}."))) {
            assert_eq!(text.matches(&line).count(), 1, "{line}");
        }
        assert_eq!(log.dropped(), 0);
    }

    #[test]
    fn a_line_that_comes_while_the_writer_sleeps_wakes_it() {
        let (log, written) = log();
        let Some(open) = &log.open else { panic!("it is on") };
        for n in 0..200 {
            let target = format!("/{n}.");
            while !open.0.asleep.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            record(&log, &target);
            let text = written.recv_timeout(Duration::from_secs(30)).expect("a line");
            assert!(text.contains(&target), "{text}");
        }
        drop(log);
        assert!(written.recv().is_err(), "the thread ends with the last handle");
    }

    #[test]
    fn lines_are_given_up_and_counted_when_nobody_reads() {
        let (log, written) = log();
        drop(written);
        let target = "x".repeat(1_000);
        let enough = 2 * PENDING / target.len();
        // Whoever writes is gone with the first line, or will be: what is pending is bounded either way.
        (0..enough).for_each(|_| record(&log, &target));
        log.finish(Duration::from_secs(30));
        (0..enough).for_each(|_| record(&log, &target));
        assert!(log.dropped() > 0);
        let Some(open) = &log.open else { panic!("it is on") };
        assert!(open.0.pending.all().all(|pending| lock(pending).text.len() < PENDING + 4_096));
    }

    #[test]
    fn a_log_that_is_off_is_none() {
        let log = AccessLog::start(Format::Off).expect("nothing to start");
        assert!(!log.enabled());
        record(&log, "/");
        log.finish(Duration::from_secs(30));
        assert_eq!(log.dropped(), 0);
    }
}
