//! The last purges that this proxy knows of: what it can tell again when a server has lost them.
//!
//! Decides: how many are remembered. Never touches: whether they were lost.

use std::collections::VecDeque;

use crate::caching::stamp::{Mode, Purge, PurgeId, Sequence};

/// The most purges remembered. A failover loses what a replica lags behind: seconds.
const MOST: usize = 4096;
/// The most ids and prefixes in them, each of at most 8 KiB and mostly 8 bytes.
const MOST_IDS: usize = 32 << 10;

/// Purges by number, ascending.
#[derive(Debug, Default)]
pub(super) struct Known {
    purges: VecDeque<(Sequence, Purge)>,
    ids: usize,
    /// The greatest number that had to be forgotten.
    forgotten: Sequence,
}

impl Known {
    /// The greatest number.
    pub(super) fn last(&self) -> Sequence {
        self.purges.back().map_or(self.forgotten, |(sequence, _)| *sequence)
    }

    /// The greatest number that had to be forgotten; zero = none had.
    pub(super) const fn forgotten(&self) -> Sequence {
        self.forgotten
    }

    /// Remembers a purge; one of the same number is the same purge.
    pub(super) fn add(&mut self, sequence: Sequence, purge: &Purge) {
        let at = self.purges.partition_point(|(held, _)| *held < sequence);
        if self.purges.get(at).is_some_and(|(held, _)| *held == sequence) {
            return;
        }
        self.ids += weight(purge);
        self.purges.insert(at, (sequence, purge.clone()));
        while self.purges.len() > MOST || self.ids > MOST_IDS {
            let Some((sequence, purge)) = self.purges.pop_front() else { break };
            self.ids -= weight(&purge);
            self.forgotten = self.forgotten.max(sequence);
        }
    }

    /// What was purged with a number greater than `after` and not greater than `until`; everything, where
    /// some of that is forgotten.
    pub(super) fn between(&self, after: Sequence, until: Sequence) -> Vec<(Sequence, Purge)> {
        if self.forgotten > after {
            return vec![(until.max(self.forgotten), Purge::of_ids(Mode::Hard, vec![PurgeId::ALL]))];
        }
        let within = |sequence: &Sequence| *sequence > after && *sequence <= until;
        self.purges.iter().filter(|(sequence, _)| within(sequence)).cloned().collect()
    }

    /// Forgets all: what was purged in another life of the journal.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn weight(purge: &Purge) -> usize {
    1 + purge.ids.len() + purge.prefixes.iter().map(|prefix| 8 + prefix.len() / 8).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purge(id: u64) -> Purge {
        Purge::of_ids(Mode::Soft, vec![PurgeId(id)])
    }

    #[test]
    fn what_is_remembered_is_told_by_number() {
        let mut known = Known::default();
        assert_eq!(known.last(), Sequence(0));
        for n in [5, 3, 9, 3] {
            known.add(Sequence(n), &purge(n));
        }
        assert_eq!(known.last(), Sequence(9));
        assert_eq!(
            known.between(Sequence(3), Sequence(9)),
            [(Sequence(5), purge(5)), (Sequence(9), purge(9))]
        );
        assert_eq!(known.between(Sequence(9), Sequence(9)), []);
        assert_eq!(known.between(Sequence(0), Sequence(3)), [(Sequence(3), purge(3))]);
    }

    #[test]
    fn what_is_forgotten_may_have_been_anything() {
        let mut known = Known::default();
        for n in 1..=5000 {
            known.add(Sequence(n), &purge(n));
        }
        assert!(known.purges.len() == MOST && known.ids <= MOST_IDS);
        let kept = Sequence(5000 - MOST as u64);
        assert_eq!(known.between(kept, Sequence(5000)).len(), MOST);
        let everything = Purge::of_ids(Mode::Hard, vec![PurgeId::ALL]);
        assert_eq!(known.between(Sequence(kept.0 - 1), Sequence(5000)), [(Sequence(5000), everything)]);
        known.add(Sequence(6000), &Purge::of_ids(Mode::Hard, vec![PurgeId(0); MOST_IDS]));
        assert!(known.purges.is_empty(), "more than there is room for");
        assert_eq!(known.last(), Sequence(6000));
    }
}
