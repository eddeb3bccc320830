//! Barriers with a deadline: what replaces sleeping.

use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// Holds whoever waits until the test opens it. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<GateState>);

#[derive(Default)]
struct GateState {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn open(&self) {
        *self.0.open.lock().unwrap() = true;
        self.0.opened.notify_all();
    }

    /// Returns once the gate is open; panics when nobody opens it in time.
    #[track_caller]
    pub(crate) fn wait(&self) {
        let open = self.0.open.lock().unwrap();
        let (open, _) = self.0.opened.wait_timeout_while(open, PATIENCE, |open| !*open).unwrap();
        let is_open = *open;
        drop(open);
        assert!(is_open, "a gate stayed closed");
    }
}

/// Holds everybody until `size` of them are there, again and again. Clones are the same meeting.
#[derive(Clone)]
pub(crate) struct Meeting(Arc<MeetingState>);

struct MeetingState {
    size: usize,
    arrived: Mutex<usize>,
    changed: Condvar,
}

impl Meeting {
    pub(crate) fn of(size: usize) -> Self {
        Self(Arc::new(MeetingState { size, arrived: Mutex::new(0), changed: Condvar::new() }))
    }

    /// Returns once everybody of this round is there; panics when somebody never comes.
    #[track_caller]
    pub(crate) fn arrive(&self) {
        let mut arrived = self.0.arrived.lock().unwrap();
        *arrived += 1;
        let needed = arrived.div_ceil(self.0.size) * self.0.size;
        self.0.changed.notify_all();
        let (arrived, _) =
            self.0.changed.wait_timeout_while(arrived, PATIENCE, |arrived| *arrived < needed).unwrap();
        let count = *arrived;
        drop(arrived);
        assert!(count >= needed, "only {count} of {needed} came to the meeting");
    }
}
