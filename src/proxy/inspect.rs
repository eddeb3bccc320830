//! What a running proxy holds for a request, looked at and not answered.
//!
//! Decides nothing: what is found and judged is what the life of a request would find and judge now.
//! Never touches: the origin, the counts of look-ups, or what the tiers hold.

use std::sync::Arc;

use super::asked::Asked;
use super::lookup::{Found, Selecting};
use super::{Proxy, Verdict, judge};
use crate::caching::admission::{Admission, admit};
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::Reason;
use crate::caching::vary::VariantHash;
use crate::rules::route::Route;
use crate::semantics::UnixMillis;
use crate::store::{Record, StoreKey, Tier};

/// What would become of a request at this moment, and what that rests on.
#[derive(Debug)]
pub struct Inspection {
    /// The route; `None` where none matches.
    pub route: Option<Arc<Route>>,
    /// The key; `None` without a route, and where it would be too long.
    pub key: Option<PrimaryKey>,
    /// What each tier that was looked at holds.
    pub tiers: Vec<(Tier, Found)>,
    /// What would be done.
    pub verdict: Expected,
    /// Why.
    pub reason: Reason,
}

/// What would be done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Answered with what is stored.
    Answer,
    /// The same, and renewed behind the answer.
    AnswerAndRenew,
    /// Answered once the origin has confirmed what is stored.
    Validate,
    /// Fetched.
    Fetch,
    /// Forwarded without a look-up.
    Forward,
    /// Refused.
    Refuse,
}

impl Expected {
    /// Its name.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::AnswerAndRenew => "answer-and-renew",
            Self::Validate => "validate",
            Self::Fetch => "fetch",
            Self::Forward => "forward",
            Self::Refuse => "refuse",
        }
    }
}

impl Proxy {
    /// Looks at both tiers. Must run on this worker's event loop, as everything that asks its Redis.
    pub async fn inspect(&self, asked: &Asked) -> Inspection {
        let Some(selected) = self.site.rules.select(asked.authority(), asked.path()) else {
            let (verdict, reason) = (Expected::Refuse, Reason::NoRoute);
            return Inspection { route: None, key: None, tiers: Vec::new(), verdict, reason };
        };
        let route = Arc::clone(selected.route);
        let policy = &route.policy;
        let by = Selecting::Asked(asked);
        let in_key = self.fields_named(by, &policy.key.headers);
        let key = policy.key.key(Asked::SCHEME, asked.authority(), asked.target(), in_key).ok();
        let mut tiers = Vec::with_capacity(2);
        if let Some(key) = &key {
            tiers.push((Tier::Memory, self.held_in_memory(key, by, asked.now)));
            if let Some(found) = self.held_in_redis(key, by, asked.now).await {
                tiers.push((Tier::Redis, found));
            }
        }
        let admission =
            admit(asked.method(), asked.path(), asked.headers(), asked.has_body, asked.upgrades(), policy);
        let (verdict, reason) = match (&admission, &key) {
            (Admission::Forward(reason, _), _) => (Expected::Forward, *reason),
            (_, None) => (Expected::Forward, Reason::KeyTooLong),
            (Admission::Lookup(facts), Some(_)) => {
                // As the life of a request has it: Redis only when memory does not answer.
                let mut found = Found::Nothing;
                let mut verdict = judge(&found, facts, &route, asked);
                for (_, held) in &tiers {
                    if verdict.wants_more() {
                        found = found.or_better(held.clone());
                        verdict = judge(&found, facts, &route, asked);
                    }
                }
                match verdict {
                    Verdict::Fresh(_) => (Expected::Answer, Reason::Fresh),
                    Verdict::StaleWhileRevalidate(_) => {
                        (Expected::AnswerAndRenew, Reason::StaleWhileRevalidate)
                    }
                    Verdict::Validate(_) | Verdict::Fetch(_) if facts.only_if_cached() => {
                        (Expected::Refuse, Reason::OnlyIfCached)
                    }
                    Verdict::Validate(reason) => (Expected::Validate, reason),
                    Verdict::Fetch(reason) => (Expected::Fetch, reason),
                }
            }
        };
        Inspection { route: Some(route), key, tiers, verdict, reason }
    }

    fn held_in_memory(&self, key: &PrimaryKey, by: Selecting<'_>, now: UnixMillis) -> Found {
        self.selected(by, now, |variant| {
            let held = self.shared.memory.peek(key.hash, variant, &key.text, now)?;
            Some((held.record, held.validity))
        })
    }

    /// `None` where Redis is not asked.
    async fn held_in_redis(&self, key: &PrimaryKey, by: Selecting<'_>, now: UnixMillis) -> Option<Found> {
        let redis = self.readable(now)?;
        let place = |variant| StoreKey { primary: key.hash, variant, text: key.text.clone() };
        let primary = self.get(redis, &place(None), now).await;
        let mut variant: Option<(VariantHash, Option<Record>)> = None;
        if let Some(Record::Index(index)) = &primary
            && let Some(selected) = index.select(self.fields(by, index), now).first()
        {
            variant = Some((selected.hash, self.get(redis, &place(Some(selected.hash)), now).await));
        }
        let found = self.selected(by, now, |asked| match asked {
            None => primary.clone().map(|record| self.with_validity(record, &key.text, now)),
            Some(hash) => {
                let (_, record) = variant.as_ref().filter(|(selected, _)| *selected == hash)?;
                record.clone().map(|record| self.with_validity(record, &key.text, now))
            }
        });
        Some(found.in_tier(Tier::Redis))
    }
}
