//! The fleet's lock from the leader's side: take it, wait for who holds it, renew it, release it.
//!
//! Only leaders of a process come here. Decides: nothing about HTTP; whether what another proxy has
//! stored answers this errand is the errand's verdict. A lock that cannot be had in time, or a Redis
//! that does not answer, never keeps anybody from the origin.

use std::sync::Arc;
use std::time::Duration;

use super::errand::Errand;
use super::lookup::{Candidate, Found, Reading, Selecting};
use crate::clock;
use crate::collapse::lease::{LONGEST_HELD, Patience};
use crate::observe::metrics::{Cause, Scope};
use crate::store::StoreKey;
use crate::store::redis::{LastWord, LockAttempt, LockToken, RedisStore, Said};

/// What became of asking for the fleet's lock.
#[derive(Debug)]
pub(super) enum Fleet {
    /// This errand fetches (with the lock, or without one when the fleet cannot be asked).
    Ours(Held),
    /// Another proxy has stored what was wanted.
    Theirs(Candidate),
    /// Another proxy found that this may not be shared.
    Alone,
}

/// A lock that is held, renewed until it is released.
#[derive(Debug)]
pub(super) enum Held {
    /// No lock: none is needed, or none could be had.
    None,
    /// The lock, and the task that renews it.
    Lock {
        /// Where.
        redis: Arc<RedisStore>,
        /// Of what.
        place: StoreKey,
        /// Ours and nobody else's.
        token: LockToken,
        /// Ends with this value.
        renewal: Renewal,
    },
}

/// Aborts the renewing task when dropped: a leader that dies leaves a lock that expires.
#[derive(Debug)]
pub(super) struct Renewal(tokio::task::JoinHandle<()>);

impl Drop for Renewal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Held {
    /// Gives the lock back, by comparing the token: never another's. Where there is nothing to share, with
    /// a word for those who wait.
    pub(super) async fn release(self, word: Option<LastWord>) {
        if let Self::Lock { redis, place, token, renewal } = self {
            drop(renewal);
            if !redis.unlock(&place, &token, word).await {
                give_back_later(redis, place, token, word);
            }
        }
    }
}

impl Errand {
    /// Takes the fleet's lock, or waits for what its holder stores.
    pub(super) async fn await_fleet(&self, place: &StoreKey) -> Fleet {
        let Some(redis) = self.proxy.redis.clone() else { return Fleet::Ours(Held::None) };
        let ttl = self.proxy.site.rules.redis.as_ref().map_or(Duration::from_secs(5), |redis| redis.lock_ttl);
        let token = LockToken::random();
        let mut patience = match self.cause {
            Cause::Refresh => Patience::unhurried(),
            _ => Patience::new(self.route.collapse_timeout),
        };
        let mut held_since = None;
        let mut heard: Option<Option<Said>> = None;
        let fleet = loop {
            if !redis.usable() {
                break Fleet::Ours(Held::None);
            }
            match redis.try_lock(place, &token, ttl).await {
                LockAttempt::Locked => {
                    let held = Held::Lock {
                        redis: Arc::clone(&redis),
                        place: place.clone(),
                        token,
                        renewal: renew(Arc::clone(&redis), place.clone(), token, ttl),
                    };
                    // Released between our look and our lock: look again, then fetch.
                    match self.stored_by_others().await {
                        Seen::Response(candidate) => {
                            held.release(None).await;
                            break Fleet::Theirs(candidate);
                        }
                        Seen::HitForMiss => {
                            held.release(None).await;
                            break Fleet::Alone;
                        }
                        Seen::Nothing => break Fleet::Ours(held),
                    }
                }
                LockAttempt::Unavailable => break Fleet::Ours(Held::None),
                LockAttempt::Doubtful => {
                    // Should it be ours after all, nobody is to wait for its end.
                    give_back_later(redis, place.clone(), token, None);
                    break Fleet::Ours(Held::None);
                }
                LockAttempt::Held => {}
            }
            let now = clock::monotonic();
            let waited = now.saturating_duration_since(*held_since.get_or_insert(now));
            let Some(delay) = patience.next(waited, fastrand::f64()) else { break Fleet::Ours(Held::None) };
            tokio::time::sleep(delay).await;
            let unanswered = redis.unanswered();
            let (seen, said) = tokio::join!(self.stored_by_others(), redis.last_word(place));
            let news = said.and_then(|said| news(&mut heard, said));
            match (seen, news) {
                (Seen::Response(candidate), _) => break Fleet::Theirs(candidate),
                (Seen::HitForMiss, _) | (Seen::Nothing, Some(LastWord::Alone)) => break Fleet::Alone,
                (Seen::Nothing, Some(LastWord::Failed)) => break Fleet::Ours(Held::None),
                (Seen::Nothing, None) if redis.unanswered() == unanswered => patience.answered(),
                // It may have been another's look that failed: then there is one fetch more than need be.
                (Seen::Nothing, None) if patience.unanswered() => {}
                (Seen::Nothing, None) => break Fleet::Ours(Held::None),
            }
        };
        let metrics = &self.proxy.shared.metrics;
        if let Some(since) = held_since {
            metrics.waited(Scope::Fleet, clock::monotonic().saturating_duration_since(since));
        }
        if matches!(fleet, Fleet::Theirs(_)) {
            metrics.collapsed(Scope::Fleet);
        }
        fleet
    }

    async fn stored_by_others(&self) -> Seen {
        let now = clock::wall();
        let by = Selecting::Sent(&self.request.headers);
        match self.proxy.look_in_redis(&self.key, by, Reading::Own, now).await {
            Found::HitForMiss => Seen::HitForMiss,
            found => self.reusable(found, now).map_or(Seen::Nothing, Seen::Response),
        }
    }
}

/// What a look at the last word tells that the looks before it did not: what was said before this one waited
/// was not said to it.
fn news(heard: &mut Option<Option<Said>>, said: Option<Said>) -> Option<LastWord> {
    let before = heard.replace(said)?;
    said.filter(|_| before != said).map(|said| said.word)
}

/// Goes on trying to give back a lock that Redis did not answer for, until it has expired: who wants it
/// then would wait for a holder that is long done. The lock's life bounds how many do this at once.
fn give_back_later(redis: Arc<RedisStore>, place: StoreKey, token: LockToken, word: Option<LastWord>) {
    tokio::spawn(async move {
        let expires = clock::monotonic() + redis.lock_ttl();
        while clock::monotonic() < expires {
            tokio::time::sleep(GIVE_BACK_AGAIN).await;
            if redis.usable() && redis.unlock(&place, &token, word).await {
                return;
            }
        }
    });
}

/// Between attempts to give a lock back.
const GIVE_BACK_AGAIN: Duration = Duration::from_millis(100);

enum Seen {
    Nothing,
    HitForMiss,
    Response(Candidate),
}

/// Renews at a third of the lock's life, while the errand lives and for a minute at most.
fn renew(redis: Arc<RedisStore>, place: StoreKey, token: LockToken, ttl: Duration) -> Renewal {
    Renewal(tokio::spawn(async move {
        let step = (ttl / 3).max(Duration::from_millis(50));
        let mut held = Duration::ZERO;
        while held < LONGEST_HELD {
            tokio::time::sleep(step).await;
            held += step;
            // Where Redis did not say, there may be time for another attempt.
            if redis.renew(&place, &token, ttl).await == Some(false) {
                return;
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_while_one_waits_is_news() {
        let said = |word| Some(LockToken::random().said(word));
        let (old, new, newer) = (said(LastWord::Alone), said(LastWord::Failed), said(LastWord::Failed));
        let mut heard = None;
        assert_eq!(news(&mut heard, old), None, "it was there before");
        assert_eq!(news(&mut heard, old), None);
        assert_eq!(news(&mut heard, new), Some(LastWord::Failed));
        assert_eq!(news(&mut heard, newer), Some(LastWord::Failed), "another's");
        assert_eq!(news(&mut heard, None), None, "it is forgotten");
        let mut heard = None;
        assert_eq!(news(&mut heard, None), None);
        assert_eq!(news(&mut heard, old), Some(LastWord::Alone));
    }
}
