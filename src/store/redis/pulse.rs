//! A timer that is the next to go off for as long as commands are being sent.
//!
//! Decides: when it runs. Never touches: commands, or their time-outs.
//!
//! Whoever sets a timer that goes off before every other one that the event loop knew of when it last went
//! to sleep makes tokio wake the loop: a write to an eventfd, and a turn for nothing. Each command has a
//! time-out of its own, which is that timer whenever nothing else was under way, so that without this one
//! most commands cost a system call more than the library needs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// Pulses per time-out of a command.
const PER_TIMEOUT: u32 = 4;
/// More often than this, a pulse costs more than it spares.
const SHORTEST: Duration = Duration::from_millis(2);

/// Dropping it ends it.
pub(super) struct Pulse {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// A command was sent since the last pulse.
    is_wanted: AtomicBool,
    is_running: AtomicBool,
    begin: Notify,
}

impl Pulse {
    /// For commands of which none has less than `timeout`. Must be called on the runtime that they are sent
    /// on; where they have hardly any time, there is no pulse.
    pub(super) fn start(timeout: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let period = timeout / PER_TIMEOUT;
        let task = (period >= SHORTEST).then(|| tokio::spawn(Arc::clone(&shared).run(period)));
        Self { shared, task }
    }

    /// A command is being sent.
    pub(super) fn feel(&self) {
        self.shared.is_wanted.store(true, Ordering::Relaxed);
        if !self.shared.is_running.load(Ordering::Relaxed) {
            self.shared.begin.notify_one();
        }
    }
}

impl Shared {
    /// While nothing is sent it sleeps without a timer. Should a command come between the last look and the
    /// end, the next one begins anew.
    async fn run(self: Arc<Self>, period: Duration) {
        loop {
            self.begin.notified().await;
            self.is_running.store(true, Ordering::Relaxed);
            while self.is_wanted.swap(false, Ordering::Relaxed) {
                sleep(period).await;
            }
            self.is_running.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}
