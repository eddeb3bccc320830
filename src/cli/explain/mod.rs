//! `forebay explain`: what would happen to a request, and to a response to it, and by which rules.
//!
//! Decides: what is told, and in which order. Never touches: the network (but for `--admin`, which asks
//! a running proxy), or any rule. Every verdict
//! is that of the functions the live path calls, with the same reasons; nothing is decided here that
//! is not decided there. The clock is read once, at the edge.

mod later;
mod request;
mod response;
mod running;
mod storing;
mod text;

use std::io::{self, Read, Write};
use std::process::ExitCode;

use http::header;

pub use self::request::{Field, Url};

use self::request::Asked;
use self::response::Head;
use self::storing::Asking;
use self::text::{Page, cited};
use super::ExplainArgs;
use crate::caching::admission::{Admission, MethodClass, RequestFacts, admit};
use crate::caching::key::PrimaryKey;
use crate::caching::outcome::Reason;
use crate::caching::policy::{ClientCacheControl, CookiePolicy, Policy};
use crate::clock;
use crate::config::{self, Env};
use crate::rules::{Rules, Selected};
use crate::semantics::UnixMillis;

/// Routes that were not selected are told up to this many, the nearest first.
const OTHER_ROUTES: usize = 6;

/// Explains to standard output; what cannot be read is said on standard error.
#[must_use]
pub fn run(args: &ExplainArgs) -> ExitCode {
    match explain(args, &config::process_env, &mut io::stdin().lock(), clock::wall()) {
        Ok(report) => match io::stdout().lock().write_all(report.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        },
        Err(wrong) => {
            eprintln!("{wrong}");
            ExitCode::FAILURE
        }
    }
}

/// # Errors
/// What is wrong with the configuration, the request or the response.
fn explain(
    args: &ExplainArgs,
    env: Env<'_>,
    input: &mut dyn Read,
    now: UnixMillis,
) -> Result<String, String> {
    if let Some(admin) = &args.admin {
        return running::explain(admin, args);
    }
    let Some(file) = &args.config else { return Err("give --config or --admin".to_owned()) };
    let rules = config::load(file, env).map_err(|problems| problems.to_string())?;
    let asked = Asked::new(args.method.clone(), &args.url, &args.fields)?;
    let response = args.response.as_deref().map(|given| Head::given(given, input)).transpose()?;
    Ok(report(&rules, &asked, response.as_ref(), now))
}

/// The whole report, in the order in which a request lives.
fn report(rules: &Rules, asked: &Asked, response: Option<&Head>, now: UnixMillis) -> String {
    let mut page = Page::default();
    page.heading(
        "Request",
        &format!("{} {}://{}{}", asked.method, Asked::SCHEME, asked.authority, asked.target),
    );
    if asked.tls {
        page.line("TLS towards clients ends before forebay: what it sees, and keys, is http.");
    }

    let selected = rules.select(&asked.authority, asked.path());
    routes(&mut page, rules, asked, selected);
    let Some(Selected { route, .. }) = selected else { return page.finish() };

    let policy = &route.policy;
    let key = policy.key.key(Asked::SCHEME, &asked.authority, &asked.target, &asked.headers).ok();
    tell_key(&mut page, key.as_ref());

    let admission = admit(&asked.method, asked.path(), &asked.headers, asked.has_body, asked.upgrade, policy);
    let refusal = match &admission {
        Admission::Forward(reason, _) => Some(*reason),
        Admission::Lookup(_) => key.is_none().then_some(Reason::KeyTooLong),
    };
    match refusal {
        Some(reason) => {
            page.heading("Cache", &format!("forwarded without a look-up: {}", cited(reason)));
            page.reason(reason);
        }
        None => page.heading("Cache", "looked up"),
    }
    if let Admission::Lookup(facts) = &admission {
        request_facts(&mut page, facts, asked, policy);
    }

    if let Some(response) = response {
        let params = selected.map(|selected| selected.params());
        let tags =
            route.tags.iter().filter_map(|tag| params.as_ref().map(|params| tag.expand(params))).collect();
        let url = key.map(|key| policy.key.url(Asked::SCHEME, &asked.authority, &asked.target, &key));
        let asking = Asking { rules, route, tags, asked, admission: &admission, url, now };
        storing::tell(&mut page, &asking, response);
    }
    page.finish()
}

fn routes(page: &mut Page, rules: &Rules, asked: &Asked, selected: Option<Selected<'_, '_>>) {
    match selected {
        Some(Selected { route, .. }) => {
            let upstream = rules.upstreams.get(route.upstream).map_or("", |upstream| upstream.name.as_str());
            page.heading(
                "Route",
                &format!("{}: {}, {}, to upstream {upstream}", route.name, route.host, route.path),
            );
        }
        None => {
            page.heading("Route", &format!("none: {}", cited(Reason::NoRoute)));
            page.reason(Reason::NoRoute);
        }
    }
    let others = rules.others(&asked.authority, asked.path());
    // One more route is told sooner than counted.
    let most = if others.len() == OTHER_ROUTES + 1 { others.len() } else { OTHER_ROUTES };
    for other in others.iter().take(most) {
        page.line(&format!("not {} ({}): {}", other.route.name, other.route.path, other.why));
    }
    if let Some(more @ 1..) = others.len().checked_sub(most) {
        page.line(&format!("nor any of {more} more, which are less near"));
    }
}

fn tell_key(page: &mut Page, key: Option<&PrimaryKey>) {
    match key {
        Some(key) => {
            let text = String::from_utf8_lossy(&key.text);
            let mut lines = text.split('\n');
            page.heading("Key", lines.next().unwrap_or_default());
            for line in lines {
                page.line(&format!("        {line}"));
            }
            page.row("hash", &format!("{:032x}", key.hash));
        }
        None => page.heading("Key", &format!("none: {}", cited(Reason::KeyTooLong))),
    }
}

/// What of the request is judged beside its key.
fn request_facts(page: &mut Page, facts: &RequestFacts, asked: &Asked, policy: &Policy) {
    if facts.method == MethodClass::Head {
        page.row("method", "the origin is asked by GET, so that its answer serves both");
    }
    if facts.has_cookie {
        page.row(
            "cookie",
            match policy.cookies {
                CookiePolicy::Guard => {
                    "reuses only what the origin itself made cacheable: cookies = \"guard\""
                }
                CookiePolicy::Ignore => "means nothing here: cookies = \"ignore\"",
                CookiePolicy::Bypass => "is forwarded: cookies = \"bypass\"",
            },
        );
    }
    if facts.has_authorization {
        page.row("authorization", "is given only what the origin lets be shared (RFC 9111 3.5)");
    }
    if facts.conditional {
        page.row("conditions", "are judged on the answer and not sent on (RFC 9111 4.3.2)");
    }
    if facts.range && facts.method == MethodClass::Get {
        page.row(
            "range",
            "is cut from what is stored; where nothing is, the part is asked for (RFC 9111 3.3)",
        );
    }
    let says =
        asked.headers.contains_key(header::CACHE_CONTROL) || asked.headers.contains_key(header::PRAGMA);
    match policy.client_cache_control {
        ClientCacheControl::Ignore if says => {
            page.row("cache-control", "of clients is ignored: client_cache_control = \"ignore\"");
        }
        ClientCacheControl::Respect if says => {
            page.row(
                "cache-control",
                "of clients counts (RFC 9111 5.2.1): client_cache_control = \"respect\"",
            );
        }
        ClientCacheControl::Ignore | ClientCacheControl::Respect => {}
    }
}

#[cfg(test)]
mod tests;
