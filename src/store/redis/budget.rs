//! How much memory calls under way, and what is read ahead, may hold.
//!
//! Decides whether a call goes ahead, by bytes: a number of calls bounds nothing when one may hold a
//! thousand times what another does. Never touches: the memory itself. Nothing waits here; a call that
//! does not fit is not made.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Bytes that all workers of a process may hold together.
const TOTAL: u32 = 64 << 20;
/// Bytes of one permit.
const UNIT: u32 = 1 << 10;

/// Bytes that may be held, handed out in parts.
#[derive(Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((TOTAL / UNIT) as usize)))
    }
}

impl Budget {
    /// A part that is given back when it is dropped; `None` when so much is not left. What is larger
    /// than the whole budget, because configuration asks for it, goes ahead alone.
    pub(super) fn take(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        self.0.try_acquire_many(units(bytes)).ok()
    }

    /// The same, for what outlives a call.
    pub(super) fn take_owned(&self, bytes: u64) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_many_owned(units(bytes)).ok()
    }
}

fn units(bytes: u64) -> u32 {
    let all = TOTAL / UNIT;
    u32::try_from(bytes.div_ceil(u64::from(UNIT))).unwrap_or(all).clamp(1, all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let budget = Budget::default();
        let most = budget.take(u64::from(TOTAL) - 1500).expect("room");
        assert!(budget.take(2000).is_none());
        let rest = budget.take(1024).expect("room");
        assert!(budget.take(0).is_none(), "nothing is free of charge");
        drop((most, rest));
        let larger = budget.take(u64::MAX).expect("alone");
        assert!(budget.take(1).is_none());
        drop(larger);
        assert!(budget.take(u64::from(TOTAL)).is_some());
    }
}
