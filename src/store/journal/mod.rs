//! The fleet's purge journal: how every proxy learns of every purge, and how what was fetched before a
//! purge can never be served after it was heard of.
//!
//! Decides: what is asked of the journal next, and what its answers do to the [`PurgeTable`]. Pure: time
//! is an argument, and what is asked is asked by others (`store::redis`), so that the whole protocol runs
//! under a simulation of many proxies, failovers and clocks.
//!
//! # What lies in Redis
//!
//! Four keys in one slot, none of which expires:
//!
//! | name | holds |
//! |---|---|
//! | `prefix:{journal}:state` | 0xFB, incarnation, its birth, the greatest number given, number and mark of the last purge |
//! | `prefix:{journal}:ids` | every purged id, scored with the number of its last purge |
//! | `prefix:{journal}:prefixes` | every purged prefix, likewise |
//! | `prefix:{journal}:log` | a stream of the last purges: what readers wait for |
//!
//! Scripts alone write them. The two tables are the truth; the stream is a doorbell that says what is new.
//! Each entry names the entry before it, by its
//! number and by a mark drawn at random (a server that forgot gives numbers again), so that whoever misses one knows (it reads the tables then), and
//! whoever knows one that the server has forgotten knows that too. Both tables hold the incarnation as a
//! member: should any of the four be evicted or flushed, a new incarnation begins.
//!
//! Numbers are a hybrid logical clock of the server ([`Sequence`]): its time, and never less than any
//! number that was given before or that any proxy has seen. They go on with time when nothing is purged,
//! so that stamps are never older than what the tables remember.
//!
//! # Invariants, beside those of [`super::purges`]
//!
//! * J1: a follower's stamp is `s` only if every purge numbered up to `s`, of this incarnation, is in its
//!   table. It moves to an entry's number when that entry is applied, and to the server's number when the
//!   server's last entry is the one applied last.
//! * J2: a purge is given a number greater than every stamp of the proxy that asks for it, and greater
//!   than every number that the server remembers.
//! * J3: a number that comes to be known late, below a stamp already handed out (a server that forgot and
//!   gave numbers again), raises the floor above that stamp: what was fetched so far is invalid.
//! * J4: an incarnation that begins raises the floor to its birth on every proxy, and above its own stamps
//!   on each: purges that were lost with the one before can have concerned anything.
//! * J5: a purge that a proxy knows of and the server has lost (a failover to a replica that lagged) is
//!   told again, under a new number, by every proxy that notices and finds it missing still.
//! * J6: a record out of Redis counts with the earlier of its stamp and the reader's own, and below
//!   everything that the reader purged and could not tell yet: who wrote it cannot have known of that.
//! * J7: a proxy that has not come to the end of a reading for [`HEARING`](super::purges::HEARING) uses
//!   nothing out of Redis, and out of memory what it fetched within its grace alone.
//!
//! # What follows
//!
//! After a purge is acknowledged with its number, no proxy serves the old response once a reading that it
//! began later has ended: milliseconds for those connected. One that is cut off stops at
//! `HEARING` + grace, whatever happens. A response is never served because of what was *not* heard.
//!
//! # When things fail
//!
//! | what | then |
//! |---|---|
//! | the connection breaks | the follower reads on from where it was; nothing is lost, nothing is dropped |
//! | the stream was trimmed, or evicted | an entry's predecessor is unknown, or nothing comes though the state names a later purge: the tables are read from the last known number on |
//! | an emptied server, an evicted table | a new incarnation (J4): every proxy starts afresh |
//! | failover to a replica that lagged | the state's last purge, or an entry's predecessor, is behind what is known, or bears another mark: told again (J5), tables read anew |
//! | the server's clock steps back | numbers go on by ones |
//! | the server's clock steps forward | numbers follow it, and wait there if it steps back |
//! | nothing can be written (full, replica) | purges are refused to whoever asks, and kept to be told; a full server is still followed, a read-only one is not believed |
//! | bytes that make no sense, or are not as they were sent (all that is said bears a sum, [`seal`]) | nothing of them is used; in the stream: the tables are read instead, in the state: a new incarnation; in a call: nothing is done |
//! | a purge while Redis is away | it holds here at once, and is told when Redis is back; whoever asked is told so |

mod follower;
mod known;
mod message;
#[cfg(test)]
mod simulation;

pub use self::follower::{Follower, Nonsense, Progress, Step, Table};
pub use self::message::{Entry, Incarnation, Look, Mark, PAGE, Page, id_bytes, mode_byte, seal, unsealed};

#[cfg(doc)]
use super::purges::PurgeTable;
#[cfg(doc)]
use crate::caching::stamp::Sequence;

/// Ids of one call to the server: more are told in several.
pub const MAX_CALL: usize = 1000;
/// Prefixes of one call.
pub const MAX_CALL_PREFIXES: usize = 50;
