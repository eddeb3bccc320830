//! A proxy that follows the journal: what it asks next, and what an answer does.
//!
//! Decides: see [the protocol](super). Never touches: connections. Whoever drives it asks what
//! [`Follower::next`] says and hands in the answer, or says that there is none ([`Follower::lost`]).

use std::collections::VecDeque;
use std::sync::Arc;

use super::known::Known;
use super::message::{Entry, Incarnation, Look, Mark, Page};
use crate::caching::stamp::{Purge, Sequence, Stamp};
use crate::semantics::UnixMillis;
use crate::store::purges::{PurgeTable, RETENTION};

/// How long readings may go on before the state is looked at again, in milliseconds.
const LOOK_EVERY: u64 = 1_000;

/// What to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// How the journal stands; its number is to be at least this.
    Look {
        /// The least that the server's number may be.
        least: Sequence,
    },
    /// A page of a table.
    Page {
        /// Which.
        of: Table,
        /// From which number on, inclusive.
        from: Sequence,
    },
    /// What was purged after this number, out of the stream.
    Read {
        /// The last entry known.
        after: Sequence,
        /// Whether to wait for something to come.
        wait: bool,
    },
}

/// The two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// Of ids.
    Ids,
    /// Of prefixes.
    Prefixes,
}

/// The answer cannot be: nothing of it was used, and the connection is not to be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonsense;

/// Where a follower stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The life of the journal that it follows.
    pub incarnation: Option<Incarnation>,
    /// The last entry applied.
    pub position: Sequence,
    /// The tables have been read.
    pub loaded: bool,
}

/// Follows the journal on behalf of one [`PurgeTable`].
#[derive(Debug)]
pub struct Follower {
    table: Arc<PurgeTable>,
    incarnation: Option<Incarnation>,
    /// The last entry applied.
    position: Sequence,
    /// Its mark.
    mark: Mark,
    /// What the server's number must reach before stamps outlive the floor.
    least: Sequence,
    /// Where to read the tables from, when they have to be read.
    reload: Option<Sequence>,
    stage: Stage,
    known: Known,
    /// The last purge known when the state was asked for: it must be in the answer.
    expected: Sequence,
    /// What the server's number had to reach then.
    wanted: Sequence,
    /// What the server has lost.
    untold: VecDeque<(Sequence, Purge)>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// How the journal stands has to be seen.
    Looking,
    /// A table is being read, after it was seen so.
    Loading { look: Look, asked: UnixMillis, of: Table, from: Sequence },
    /// There are entries to be read: the state said so.
    Fetching,
    /// They have been read, for all that the stream held.
    Fetched,
    /// There was nothing more to be read when the state was seen.
    Waiting { looked: UnixMillis },
}

impl Follower {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(table: Arc<PurgeTable>) -> Self {
        Self {
            table,
            incarnation: None,
            position: Sequence(0),
            mark: Mark::default(),
            least: Sequence(0),
            reload: Some(Sequence(1)),
            stage: Stage::Looking,
            known: Known::default(),
            expected: Sequence(0),
            wanted: Sequence(0),
            untold: VecDeque::new(),
        }
    }

    /// What to ask now.
    #[must_use]
    pub fn next(&mut self, now: UnixMillis) -> Step {
        match self.stage {
            Stage::Loading { of, from, .. } => return Step::Page { of, from },
            Stage::Fetching => return Step::Read { after: self.position, wait: false },
            // A clock that went back does not put off the next look.
            Stage::Waiting { looked } if looked <= now && now.since(looked) < LOOK_EVERY => {
                return Step::Read { after: self.position, wait: true };
            }
            Stage::Waiting { .. } | Stage::Looking | Stage::Fetched => {}
        }
        self.expected = self.position.max(self.known.last());
        self.wanted = self.least_number();
        Step::Look { least: self.wanted }
    }

    /// The state, asked for at `asked`.
    pub fn looked(&mut self, look: Look, asked: UnixMillis) {
        if self.incarnation != Some(look.incarnation) {
            self.begin(&look);
        }
        if self.reload.is_none() && look.last < self.expected {
            self.lost_by_server(look.last, self.expected);
        } else if self.reload.is_none() && look.last == self.position && look.mark != self.mark {
            // Its number was given twice: what came before it may differ as well.
            self.lost_by_server(self.known.forgotten(), self.expected);
        }
        if let Some(from) = self.reload {
            self.stage = Stage::Loading { look, asked, of: Table::Ids, from };
        } else if look.last > self.position {
            // Once it was read for, the stream does not have it: the tables do.
            self.stage = if matches!(self.stage, Stage::Fetched) {
                let from = self.position.next();
                self.reload = Some(from);
                Stage::Loading { look, asked, of: Table::Ids, from }
            } else {
                Stage::Fetching
            };
        } else {
            self.up_to_date(&look, asked);
        }
    }

    /// A page of a table.
    ///
    /// # Errors
    /// [`Nonsense`] for one that was not asked for, or that leads nowhere.
    pub fn paged(&mut self, page: &Page, now: UnixMillis) -> Result<(), Nonsense> {
        let Stage::Loading { look, asked, of, from } = self.stage else { return Err(Nonsense) };
        if page.incarnation != look.incarnation {
            self.stage = Stage::Looking;
            return Ok(());
        }
        let first = page.purges.first().map_or(from, |(sequence, _)| *sequence);
        let last = page.purges.last().map_or(from, |(sequence, _)| *sequence);
        if first < from || (page.full && last <= from) {
            return Err(Nonsense);
        }
        for (sequence, purge) in &page.purges {
            let news = self.table.recall(purge, *sequence, now);
            self.floor_above(*sequence, news, self.table.stamp());
        }
        self.stage = match of {
            _ if page.full => Stage::Loading { look, asked, of, from: last },
            Table::Ids => {
                Stage::Loading { look, asked, of: Table::Prefixes, from: self.reload.unwrap_or(from) }
            }
            Table::Prefixes => {
                self.reload = None;
                (self.position, self.mark) = (look.last, look.mark);
                self.up_to_date(&look, asked);
                return Ok(());
            }
        };
        Ok(())
    }

    /// What the stream held, as far as it was read.
    ///
    /// # Errors
    /// [`Nonsense`] for entries that were not asked for.
    pub fn read(&mut self, entries: &[Entry], now: UnixMillis) -> Result<(), Nonsense> {
        if !matches!(self.stage, Stage::Fetching | Stage::Waiting { .. }) {
            return Err(Nonsense);
        }
        for entry in entries {
            if entry.sequence <= self.position {
                return Err(Nonsense);
            }
            if entry.before > self.position {
                // Entries are missing: the tables have what they said.
                self.reload = Some(self.position.next());
                break;
            }
            if entry.before < self.position {
                self.lost_by_server(entry.before, self.position.max(self.known.last()));
            } else if entry.mark_before != self.mark {
                self.lost_by_server(self.known.forgotten(), self.position.max(self.known.last()));
            }
            if self.reload.is_none() {
                let (news, stamp) = self.table.apply_next(&entry.purge, entry.sequence, now);
                self.floor_above(entry.sequence, news, stamp);
                self.known.add(entry.sequence, &entry.purge);
            } else {
                self.told(&entry.purge, entry.sequence, now);
            }
            (self.position, self.mark) = (entry.sequence, entry.mark);
        }
        if self.reload.is_some() {
            self.stage = Stage::Looking;
            return Ok(());
        }
        self.stage = match self.stage {
            Stage::Fetching => Stage::Fetched,
            _ if self.table.stamp().sequence() < self.least => Stage::Looking,
            stage => stage,
        };
        Ok(())
    }

    /// What the stream held cannot be read, or was [`Nonsense`]: what it should have said is in the tables.
    pub const fn unreadable(&mut self) {
        self.stage = Stage::Fetched;
    }

    /// There is no answer: the connection is gone.
    pub fn lost(&mut self) {
        self.stage = Stage::Looking;
    }

    /// A purge was given a number: it holds here from now on, and becomes part of stamps when everything
    /// before it has been read.
    pub fn told(&mut self, purge: &Purge, sequence: Sequence, now: UnixMillis) {
        let news = self.table.apply(purge, sequence, now);
        self.floor_above(sequence, news, self.table.stamp());
        self.known.add(sequence, purge);
    }

    /// What the server has lost and has to be told again (J5), unless something of the number or a later
    /// one says the same by then.
    pub fn take_untold(&mut self) -> Option<(Sequence, Purge)> {
        self.untold.pop_front()
    }

    /// The least number that a new purge, or the server, may have (J2): no less than any number known
    /// here, of which some may be gone from the server.
    #[must_use]
    pub fn least_number(&self) -> Sequence {
        self.table.stamp().max(self.table.highest()).sequence()
    }

    /// Where it stands.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { incarnation: self.incarnation, position: self.position, loaded: self.reload.is_none() }
    }

    /// Another life of the journal than the one that was followed, or the first (J4).
    fn begin(&mut self, look: &Look) {
        let horizon = Sequence::at(UnixMillis(look.now.0.saturating_sub(RETENTION)));
        let mut floor = look.born.max(horizon);
        if self.incarnation.is_some() {
            floor = floor.max(self.least_number().next());
        }
        self.raise(floor);
        self.incarnation = Some(look.incarnation);
        (self.position, self.mark) = (Sequence(0), Mark::default());
        self.reload = Some(Sequence(1));
        self.known.clear();
        self.untold.clear();
    }

    /// The server does not have what was purged with numbers after `after`: tell it again, and see what it
    /// may have given the same numbers to.
    fn lost_by_server(&mut self, after: Sequence, until: Sequence) {
        self.untold.extend(self.known.between(after, until));
        self.reload = Some(Sequence(1));
        self.position = self.position.min(after);
    }

    /// News with a number below a stamp that was handed out before them: what bears the stamp may be older
    /// than the purge (J3).
    fn floor_above(&mut self, sequence: Sequence, news: bool, stamp: Stamp) {
        let stamp = stamp.sequence();
        if news && sequence <= stamp {
            self.raise(stamp.next());
        }
    }

    fn raise(&mut self, floor: Sequence) {
        self.table.raise_floor(floor);
        self.least = self.least.max(floor);
    }

    /// Every purge there is, is known.
    fn up_to_date(&mut self, look: &Look, asked: UnixMillis) {
        self.table.advance(look.sequence);
        if look.sequence < self.wanted.max(self.least) {
            // Its number could not be raised: stamps would not outlive the floor.
            self.stage = Stage::Looking;
            return;
        }
        self.table.has_heard(asked);
        self.stage = Stage::Waiting { looked: asked };
    }
}
