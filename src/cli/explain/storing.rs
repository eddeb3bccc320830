//! What becomes of a response: each rule as the live path asks it, and the numbers of what is stored.
//!
//! Decides nothing: the verdict is `caching::storability::judge`'s, and everything told beside it comes
//! from the functions it calls.

use http::{HeaderMap, Method, header};

use super::later;
use super::request::Asked;
use super::response::Head;
use super::text::{Page, cited, moment, span, value};
use crate::caching::admission::{Admission, MethodClass};
use crate::caching::age;
use crate::caching::cache_control::{DeltaSeconds, ResponseDirectives};
use crate::caching::freshness::{self, Freshness, Source, Word};
use crate::caching::invalidation::{self, TargetUri};
use crate::caching::outcome::Reason;
use crate::caching::policy::Policy;
use crate::caching::stamp::Stamp;
use crate::caching::storability::{self, Exchange, QUESTIONS, Storability};
use crate::caching::stored::{StoredHead, Traits};
use crate::caching::vary::variant_hash;
use crate::caching::{tags, targeted, validation};
use crate::rules::Rules;
use crate::rules::route::Route;
use crate::semantics::{UnixMillis, fields};

/// What is known of the request when its response comes.
pub(super) struct Asking<'a> {
    pub(super) rules: &'a Rules,
    pub(super) route: &'a Route,
    /// The route's tags, expanded.
    pub(super) tags: Vec<String>,
    pub(super) asked: &'a Asked,
    pub(super) admission: &'a Admission,
    /// What stands for the URL; `None` where the key is too long.
    pub(super) url: Option<u128>,
    pub(super) now: UnixMillis,
}

/// Tells everything about a response.
pub(super) fn tell(page: &mut Page, asking: &Asking<'_>, response: &Head) {
    let Asking { route, asked, admission, .. } = asking;
    let policy = &route.policy;
    let target =
        TargetUri { scheme: Asked::SCHEME, authority: &asked.authority, path_and_query: &asked.target };
    describe(page, response, policy, asking.now);
    invalidates(page, &asked.method, target, response);

    // What is looked up is fetched by GET, without the client's own conditions, so that what comes is an
    // answer for everyone.
    let mut request = asked.headers.clone();
    let (method, facts) = match admission {
        Admission::Lookup(facts) => {
            if facts.range && facts.method == MethodClass::Get {
                validation::ask_for_part(&mut request);
            } else {
                validation::condition(&mut request, None, []);
            }
            (&Method::GET, facts)
        }
        Admission::Forward(_, facts) => (&asked.method, facts),
    };
    let Some(url) = asking.url else { return refused(page, Reason::KeyTooLong) };
    if let Admission::Forward(reason @ (Reason::RequestHasBody | Reason::RequestUpgrade), _) = admission {
        return refused(page, *reason);
    }
    let exchange = Exchange {
        method,
        facts,
        request: &request,
        target,
        host: &asked.authority,
        url,
        tags: &asking.tags,
        status: response.status,
        headers: &response.headers,
        content_length: response.content_length(),
        request_sent: asking.now,
        response_received: asking.now,
        stamp: Stamp::default(),
    };
    let verdict = storability::judge(&exchange, policy);
    questions(page, &exchange, policy, &verdict);
    match verdict {
        Storability::Store(head) => {
            stored(page, asking, &exchange, &head);
            later::tell(page, &head, facts, asked, policy);
        }
        Storability::Pass(reason) => refused(page, reason),
    }
}

/// What the response says, as it is read here.
fn describe(page: &mut Page, response: &Head, policy: &Policy, now: UnixMillis) {
    let mut headers = response.headers.clone();
    fields::remove_hop_by_hop(&mut headers);
    let word = Word::of(&headers);
    page.heading("Response", &format!("{}, received {}", response.status, moment(now)));
    governing_field(page, &headers);
    page.row("directives", &directives(&word.directives));

    let date = age::date_value(&headers, now);
    let found = freshness::lifetime(response.status, &headers, &word, date, policy);
    page.row("freshness", &lifetime(found, &word));
    let unbounded = Policy { min_ttl: 0, max_ttl: u64::MAX, ..policy.clone() };
    if let (Ok(bounded), Ok(stated)) =
        (found, freshness::lifetime(response.status, &headers, &word, date, &unbounded))
        && bounded.lifetime != stated.lifetime
    {
        let key = if bounded.lifetime > stated.lifetime { "min_ttl" } else { "max_ttl" };
        page.row(
            "",
            &format!(
                "{} is what was stated; {key} of the route says {}",
                span(stated.lifetime),
                span(bounded.lifetime)
            ),
        );
    }
    if freshness::is_overridden(response.status, policy) {
        page.row("", "origin_cache_control = \"override\": the route's word replaces the origin's");
    }
    let initial_age = age::corrected_initial_age(&headers, now, now);
    page.row("age", &format!("{} on arrival (RFC 9111 4.2.3)", span(initial_age)));
    if initial_age > age::age_value(&headers) {
        page.row("", "its Date lies in the past; leave Date out to explain it as received when it was sent");
    }
}

/// Which field's directives count, and why the others' do not.
fn governing_field(page: &mut Page, headers: &HeaderMap) {
    let chosen = targeted::targeted(headers).map(|(name, _)| name);
    let mut passed = false;
    for name in targeted::TARGETS.into_iter().filter(|name| headers.contains_key(*name)) {
        if chosen == Some(name) {
            passed = true;
            page.row("read", &format!("{name}, and neither Cache-Control nor Expires (RFC 9213 2.2)"));
        } else if passed {
            page.row("not read", &format!("{name}: the field above comes first (RFC 9213 2.2)"));
        } else {
            page.row("not read", &format!("{name}: empty, or no valid structured dictionary (RFC 9213 2.1)"));
        }
    }
}

/// Directives as they were understood.
fn directives(read: &ResponseDirectives) -> String {
    let lifetime = |name: &str, seconds: Option<DeltaSeconds>| {
        seconds.map(|seconds| match seconds {
            DeltaSeconds::Seconds(seconds) => format!("{name}={seconds}"),
            DeltaSeconds::Invalid => format!("{name} (cannot be read: counts as 0)"),
        })
    };
    let plain = |name: &str, said: bool| said.then(|| name.to_owned());
    let qualified = |name: &str, fields: &[header::HeaderName]| {
        let fields: Vec<&str> = fields.iter().map(header::HeaderName::as_str).collect();
        (!fields.is_empty()).then(|| format!("{name}=\"{}\"", fields.join(", ")))
    };
    let all = [
        lifetime("s-maxage", read.s_maxage),
        lifetime("max-age", read.max_age),
        plain("no-store", read.no_store),
        plain("no-cache", read.no_cache),
        qualified("no-cache", &read.no_cache_fields),
        plain("private", read.private),
        qualified("private", &read.private_fields),
        plain("public", read.public),
        plain("must-revalidate", read.must_revalidate),
        plain("proxy-revalidate", read.proxy_revalidate),
        plain("must-understand", read.must_understand),
        plain("no-transform", read.no_transform),
        plain("immutable", read.immutable),
        lifetime("stale-while-revalidate", read.stale_while_revalidate),
        lifetime("stale-if-error", read.stale_if_error),
    ];
    let said: Vec<String> = all.into_iter().flatten().collect();
    if said.is_empty() { "none".to_owned() } else { said.join(", ") }
}

fn lifetime(found: Result<Freshness, Reason>, word: &Word) -> String {
    match found {
        Ok(Freshness { lifetime, source, .. }) => {
            format!("{}, by {}", span(lifetime), origin_of(source, word))
        }
        Err(reason) => format!("none: {}", cited(reason)),
    }
}

fn origin_of(source: Source, word: &Word) -> &'static str {
    match source {
        Source::Targeted if word.directives.s_maxage.is_some() => {
            "s-maxage of the field above (RFC 9213 2.2)"
        }
        Source::Targeted => "max-age of the field above (RFC 9213 2.2)",
        Source::SMaxage => "s-maxage (RFC 9111 5.2.2.10)",
        Source::MaxAge => "max-age (RFC 9111 5.2.2.1)",
        Source::Expires => "Expires less Date (RFC 9111 5.3)",
        Source::RouteTtl => "the route's ttl",
        Source::StatusTtl => "the route's ttl_by_status",
        Source::Heuristic => "the heuristic: 10 % of the time since Last-Modified (RFC 9111 4.2.2)",
    }
}

fn invalidates(page: &mut Page, method: &Method, target: TargetUri<'_>, response: &Head) {
    let found = invalidation::targets(method, response.status, target, &response.headers);
    for path in &found.targets {
        page.row("invalidates", &format!("{path} (RFC 9111 4.4)"));
    }
    if !found.groups.is_empty() {
        let groups = response.headers.get_all(tags::CACHE_GROUP_INVALIDATION).iter().map(value);
        let groups: Vec<String> = groups.collect();
        page.row("invalidates", &format!("groups {} (RFC 9875 3)", groups.join(", ")));
    }
}

/// Every question up to the one that decided.
fn questions(page: &mut Page, x: &Exchange<'_>, policy: &Policy, verdict: &Storability) {
    let decided = match verdict {
        Storability::Store(_) => None,
        Storability::Pass(reason) => storability::decided_by(x, policy, *reason),
    };
    page.heading("Rules", "what would keep it out, in the order it is asked");
    for (at, reason) in QUESTIONS.iter().enumerate() {
        let mark = if decided == Some(at) { "YES" } else { "no" };
        page.question(mark, *reason);
        if decided == Some(at) {
            let left = QUESTIONS.len() - at - 1;
            if left > 0 {
                page.line(&format!("and {left} more questions that are not asked any more"));
            }
            return;
        }
    }
}

fn refused(page: &mut Page, reason: Reason) {
    page.heading("Stored", &format!("no: {}", cited(reason)));
    page.reason(reason);
}

/// The numbers of what is stored.
fn stored(page: &mut Page, asking: &Asking<'_>, x: &Exchange<'_>, head: &StoredHead) {
    let what = match head.part {
        Some(part) => format!("yes, as bytes {}-{} of {}", part.first, part.last, part.complete),
        None => "yes".to_owned(),
    };
    page.heading("Stored", &what);
    let remaining = u64::try_from(head.remaining(head.received)).unwrap_or(0);
    if head.traits.has(Traits::NO_CACHE) {
        page.row("fresh", "never without asking: no-cache (RFC 9111 5.2.2.4)");
    } else if remaining == 0 {
        page.row("fresh", "no: stale as soon as it is stored");
    } else {
        page.row(
            "fresh",
            &format!("for {}, until {}", span(remaining), moment(head.received.plus(remaining))),
        );
    }
    windows(page, head);
    let useless = head.useless_at();
    page.row("forgotten", &format!("after {}, at {}", span(useless.since(head.received)), moment(useless)));
    variant(page, x, head);
    tags_of(page, asking, x);
    // What is told above, and what every answer is given anew, is no loss.
    let told = |name: &&header::HeaderName| {
        tags::is_tag_field(name) || **name == header::AGE || **name == header::CONTENT_LENGTH
    };
    let left_out = x.headers.keys().filter(|name| head.field(name).is_none() && !told(name));
    let left_out: Vec<&str> = left_out.map(header::HeaderName::as_str).collect();
    if !left_out.is_empty() {
        page.row("without the fields", &left_out.join(", "));
    }
    page.row("in", &asking.rules.tiers_summary());
}

/// What it may still do once it is stale.
fn windows(page: &mut Page, head: &StoredHead) {
    if head.traits.has(Traits::MUST_REVALIDATE) {
        page.row("stale answers", "never: must-revalidate, proxy-revalidate or s-maxage (RFC 9111 4.2.4)");
    } else if head.traits.has(Traits::NO_CACHE) {
        page.row("stale answers", "never: no-cache (RFC 9111 4.2.4)");
    } else {
        page.row("stale, renewing", &format!("{} (RFC 5861 3)", window(head.stale_while_revalidate)));
        page.row("stale, origin failing", &format!("{} (RFC 5861 4)", window(head.stale_if_error)));
    }
    let kept = if head.traits.has(Traits::HAS_VALIDATOR) {
        format!("{}, to be validated (RFC 9111 4.3)", window(head.keep))
    } else {
        "no longer: it has no validator to ask with (RFC 9111 4.3.1)".to_owned()
    };
    page.row("kept", &kept);
}

fn window(millis: u64) -> String {
    if millis == 0 { "not at all".to_owned() } else { format!("for {} more", span(millis)) }
}

/// What it varies by, and this request's variant before it is hashed.
fn variant(page: &mut Page, x: &Exchange<'_>, head: &StoredHead) {
    if head.vary.is_empty() {
        page.row("answers", "every request for its key (RFC 9111 4.1)");
        return;
    }
    let hash = variant_hash(&head.vary, x.request);
    page.row("answers", &format!("variant {:016x} of its key (RFC 9111 4.1): requests with", hash.0));
    for name in &head.vary {
        let values: Vec<String> = x.request.get_all(name).iter().map(value).collect();
        let said = if values.is_empty() { "absent".to_owned() } else { values.join(", ") };
        page.row("", &format!("{name}: {said}"));
    }
}

fn tags_of(page: &mut Page, asking: &Asking<'_>, x: &Exchange<'_>) {
    for name in [tags::SURROGATE_KEY, tags::CACHE_TAG, tags::CACHE_GROUPS] {
        for line in x.headers.get_all(&name) {
            page.row("tags", &format!("{} ({name})", value(line)));
        }
    }
    if !asking.tags.is_empty() {
        page.row("tags", &format!("{} (the route's)", asking.tags.join(", ")));
    }
}
