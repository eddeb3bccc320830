//! What an errand holds, and lets go of when it ends: its client, its flight, the fleet's lock.
//!
//! Decides: what those who wait for the lock are told where there is nothing to share. Never touches: the
//! answer.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{Landed, Leader, Obtained};
use crate::collapse::flight::Landing;
use crate::proxy::error::Failure;
use crate::proxy::lease::Held;
use crate::store::redis::LastWord;

/// What an errand must let go of when it ends: its flight, the fleet's lock, its client.
pub(super) struct Permits {
    pub(super) lead: Option<Leader>,
    held: Held,
    pub(super) reply: Reply,
    /// For those who wait for the lock, where there is nothing to share.
    word: Option<LastWord>,
}

impl Permits {
    pub(super) const fn new(lead: Option<Leader>, held: Held, reply: Reply) -> Self {
        Self { lead, held, reply, word: None }
    }

    pub(super) fn land(&mut self, landing: Landing<Arc<Landed>, Failure>) {
        self.word = match landing {
            Landing::Shared(_) => None,
            Landing::Alone => Some(LastWord::Alone),
            Landing::Failed(_) => Some(LastWord::Failed),
        };
        if let Some(lead) = &mut self.lead {
            lead.land(landing);
        }
    }

    /// What was to be shared is not there after all: it broke off, or could not be kept.
    pub(super) const fn shares_nothing(&mut self) {
        self.word = Some(LastWord::Failed);
    }

    /// The answer says nothing about that to another: the next one asks for all others.
    pub(super) const fn says_nothing(&mut self) {
        self.word = None;
    }

    /// Gives the lock back at once: others have nothing to wait for.
    pub(super) async fn release_lock(&mut self) {
        std::mem::replace(&mut self.held, Held::None).release(Some(LastWord::Alone)).await;
    }

    /// The flight first: who comes now finds the store; then the lock, for the other proxies.
    pub(super) async fn release(self) {
        drop(self.lead);
        self.held.release(self.word).await;
    }
}

/// The end of the channel to the client that caused the errand; it may be gone.
pub(super) struct Reply(pub(super) Option<oneshot::Sender<Obtained>>);

impl Reply {
    pub(super) fn send(&mut self, obtained: Obtained) {
        if let Some(reply) = self.0.take() {
            // A client that went away drops what it was owed: its reader, or the connection.
            let _ = reply.send(obtained);
        }
    }
}
