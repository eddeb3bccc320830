//! What workers do not share: each has a cell of its own, and who reads goes through them all.
//!
//! Memory that several cores write to travels between them at every write, which costs a busy proxy more
//! than what is written there. Decides: which cell a thread has. Never touches: what lies in it.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread::available_parallelism;

/// How many there are: threads beyond so many share them.
static COUNT: LazyLock<usize> = LazyLock::new(|| available_parallelism().map_or(1, usize::from).min(16));

thread_local! {
    static OWN: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Relaxed) % *COUNT
    };
}

/// One value for each worker.
#[derive(Debug)]
pub(super) struct Cells<T>(Box<[Cell<T>]>);

/// In cache lines of its own: two, since processors fetch them in pairs.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Cell<T>(T);

impl<T: Default> Default for Cells<T> {
    fn default() -> Self {
        Self((0..*COUNT).map(|_| Cell::default()).collect())
    }
}

impl<T> Cells<T> {
    /// That of this thread.
    pub(super) fn own(&self) -> &T {
        // A thread on its way out has none of its own any more.
        let own = OWN.try_with(|own| *own).unwrap_or(0);
        &self.0[own % self.0.len()].0
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|cell| &cell.0)
    }
}
