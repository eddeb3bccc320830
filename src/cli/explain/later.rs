//! What later requests for a stored response are answered with, and from when on.
//!
//! Decides: at which moments to ask. Never touches: the answers; every one is the verdict of
//! `caching::reuse` for that moment, as the live path asks for it.

use http::{HeaderMap, HeaderValue, Method, header};

use super::request::Asked;
use super::text::{Page, cited, span, value};
use crate::caching::admission::{Admission, RequestFacts, admit};
use crate::caching::cache_control::{DeltaSeconds, MaxStale};
use crate::caching::outcome::Reason;
use crate::caching::policy::Policy;
use crate::caching::reuse::{self, Reuse};
use crate::caching::stored::StoredHead;
use crate::caching::validation;
use crate::semantics::UnixMillis;

/// What a request gets from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    /// Milliseconds after the response was received.
    pub(super) from: u64,
    pub(super) verdict: Verdict,
}

/// What a stored response is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is there; `stands_in`: it answers where the origin fails.
    Held { reuse: Reuse, stands_in: bool },
    /// No rule could reuse it any more.
    Forgotten,
}

impl Verdict {
    fn at(head: &StoredHead, facts: &RequestFacts, policy: &Policy, now: UnixMillis) -> Self {
        if now >= head.useless_at() {
            return Self::Forgotten;
        }
        Self::Held {
            reuse: reuse::judge(head, facts, policy, now),
            stands_in: reuse::stale_if_error(head, facts, policy, now),
        }
    }
}

/// The phases of a stored response, for requests with these facts; the first begins at its receipt.
pub(super) fn phases(head: &StoredHead, facts: &RequestFacts, policy: &Policy) -> Vec<Phase> {
    let mut phases: Vec<Phase> = Vec::new();
    for (from, asked) in moments(head, facts) {
        let verdict = Verdict::at(head, facts, policy, head.received.plus(asked));
        if phases.last().is_none_or(|last| last.verdict != verdict) {
            phases.push(Phase { from, verdict });
        }
    }
    phases
}

/// The moments at which a verdict may change: the ends of every period that the response or the
/// request names. Each as it is told and as it is asked: a period whose last millisecond still counts
/// is over in the one after.
fn moments(head: &StoredHead, facts: &RequestFacts) -> Vec<(u64, u64)> {
    let fresh = u64::try_from(head.remaining(head.received)).unwrap_or(0);
    let directives = &facts.directives;
    let millis = |seconds: Option<DeltaSeconds>| seconds.map_or(0, DeltaSeconds::millis);
    let max_stale = match directives.max_stale {
        Some(MaxStale::Within(limit)) => limit.millis(),
        Some(MaxStale::Any) | None => 0,
    };
    // A response that arrived stale is some way into its windows already.
    let stale = head.initial_age.saturating_sub(head.lifetime);
    let after_fresh = |window: u64| fresh.saturating_add(window).saturating_sub(stale);
    let ends = [
        0,
        fresh,
        after_fresh(head.stale_while_revalidate),
        after_fresh(head.stale_if_error),
        after_fresh(millis(directives.stale_if_error)),
        after_fresh(max_stale),
        fresh.saturating_sub(millis(directives.min_fresh)),
        millis(directives.max_age).saturating_sub(head.initial_age),
        head.useless_at().since(head.received),
    ];
    let mut moments: Vec<(u64, u64)> =
        ends.iter().flat_map(|end| [(*end, *end), (*end, end.saturating_add(1))]).collect();
    moments.sort_unstable_by_key(|(_, asked)| *asked);
    moments
}

/// What the same request gets, now and later; then what others get meanwhile.
pub(super) fn tell(page: &mut Page, head: &StoredHead, facts: &RequestFacts, asked: &Asked, policy: &Policy) {
    page.heading("Later", "the same request again");
    for Phase { from, verdict } in phases(head, facts, policy) {
        let when = if from == 0 { "now".to_owned() } else { format!("after {}", span(from)) };
        page.row(&when, &told(verdict, head));
    }
    let other = |method: &Method, name: Option<header::HeaderName>| {
        let mut headers = asked.headers.clone();
        if let Some(name) = name {
            headers.insert(name, HeaderValue::from_static("x"));
        }
        match admit(method, asked.path(), &headers, false, false, policy) {
            Admission::Lookup(facts) => told(Verdict::at(head, &facts, policy, head.received), head),
            Admission::Forward(reason, _) => format!("{}: forwarded without a look-up", cited(reason)),
        }
    };
    page.heading("Others", "meanwhile, a request");
    page.row("with Cookie", &other(&asked.method, Some(header::COOKIE)));
    page.row("with Authorization", &other(&asked.method, Some(header::AUTHORIZATION)));
    let (method, label) =
        if asked.method == Method::HEAD { (Method::GET, "by GET") } else { (Method::HEAD, "by HEAD") };
    page.row(label, &other(&method, None));
}

fn told(verdict: Verdict, head: &StoredHead) -> String {
    match verdict {
        Verdict::Held { reuse: Reuse::Fresh, .. } => {
            format!("{}: answered from the cache", cited(Reason::Fresh))
        }
        Verdict::Held { reuse: Reuse::StaleWhileRevalidate, .. } => {
            format!("{}: answered stale, and renewed", cited(Reason::StaleWhileRevalidate))
        }
        Verdict::Held { reuse: Reuse::Validate(reason), stands_in } => {
            let failing = if stands_in {
                format!("; if the origin fails, {}: answered stale", cited(Reason::StaleIfError))
            } else {
                String::new()
            };
            format!("{}: {}{failing}", cited(reason), question(head))
        }
        Verdict::Held { reuse: Reuse::Unusable(reason), .. } => format!("{}: fetched anew", cited(reason)),
        Verdict::Forgotten => format!("{}: fetched anew", cited(Reason::NothingStored)),
    }
}

/// How the origin is asked about it.
fn question(head: &StoredHead) -> String {
    let mut headers = HeaderMap::new();
    validation::condition(&mut headers, Some(head), []);
    let conditions: Vec<String> = [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE]
        .iter()
        .filter_map(|name| headers.get(name).map(|set| format!("{name}: {}", value(set))))
        .collect();
    if conditions.is_empty() {
        "fetched anew".to_owned()
    } else {
        format!("the origin is asked with {}", conditions.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;
    use crate::caching::cache_control::RequestDirectives;
    use crate::caching::policy::ClientCacheControl;
    use crate::caching::stamp::Stamp;
    use crate::caching::stored::{Fields, Traits};

    fn head(
        initial_age: u64,
        lifetime: u64,
        renew: u64,
        error: u64,
        keep: u64,
        traits: Traits,
    ) -> StoredHead {
        StoredHead {
            status: StatusCode::OK,
            fields: Fields::default(),
            trailers: Vec::new(),
            received: UnixMillis(1_000_000),
            initial_age,
            lifetime,
            stale_while_revalidate: renew,
            stale_if_error: error,
            keep,
            cost: 0,
            traits,
            stamp: Stamp(0),
            ids: Vec::new(),
            vary: Vec::new(),
            part: None,
        }
    }

    fn at(phases: &[Phase], after: u64) -> Option<Verdict> {
        // A period is told by its last millisecond: what follows begins after it.
        phases.iter().rev().find(|phase| phase.from < after || phase.from == 0).map(|phase| phase.verdict)
    }

    #[test]
    fn rfc_5861_3_and_4_one_phase_after_another() {
        let traits = Traits::ORIGIN_EXPLICIT.with(Traits::HAS_VALIDATOR);
        let head = head(10_000, 60_000, 30_000, 600_000, 3_600_000, traits);
        let froms: Vec<u64> = phases(&head, &RequestFacts::default(), &Policy::default())
            .iter()
            .map(|phase| phase.from)
            .collect();
        assert_eq!(froms, [0, 50_000, 80_000, 650_000, 3_650_000]);
    }

    proptest! {
        /// Whenever it is asked, the phase that is told for that moment is the verdict of that moment.
        #[test]
        fn what_is_told_is_what_is_judged(
            initial_age in 0_u64..30, lifetime in 0_u64..30, renew in 0_u64..30, error in 0_u64..30, keep in 0_u64..60,
            traits in 0_u32..256,
            max_age in prop::option::of(0_u32..30), min_fresh in prop::option::of(0_u32..30),
            max_stale in prop::option::of(prop::option::of(0_u32..30)), stale_if_error in prop::option::of(0_u32..30),
            after in 0_u64..100_000,
        ) {
            let second = 1000;
            let head = head(
                initial_age * second, lifetime * second, renew * second, error * second, keep * second, Traits(traits),
            );
            let directives = RequestDirectives {
                max_age: max_age.map(DeltaSeconds::Seconds),
                min_fresh: min_fresh.map(DeltaSeconds::Seconds),
                max_stale: max_stale.map(|limit| limit.map_or(MaxStale::Any, |s| MaxStale::Within(DeltaSeconds::Seconds(s)))),
                stale_if_error: stale_if_error.map(DeltaSeconds::Seconds),
                ..RequestDirectives::default()
            };
            let facts = RequestFacts { directives, ..RequestFacts::default() };
            let policy = Policy { client_cache_control: ClientCacheControl::Respect, ..Policy::default() };
            let phases = phases(&head, &facts, &policy);
            prop_assert_eq!(phases.first().map(|phase| phase.from), Some(0));
            prop_assert!(phases.windows(2).all(|pair| pair[0].verdict != pair[1].verdict && pair[0].from <= pair[1].from));
            // Within a second no period ends but at its beginning, which is asked about on its own.
            prop_assume!(after % 1000 > 1);
            let judged = Verdict::at(&head, &facts, &policy, head.received.plus(after));
            prop_assert_eq!(at(&phases, after), Some(judged), "{:?}", phases);
        }
    }
}
