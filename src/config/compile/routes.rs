//! `[defaults]` and `[[route]]`: which requests go where, and what caching means for them.

use std::collections::HashMap;
use std::time::Duration;

use http::HeaderName;
use toml::de::DeTable;

use crate::caching::key::{KeyRecipe, TRACKING};
use crate::caching::policy::{ClientCacheControl, CookiePolicy, OriginCacheControl, Policy, SetCookiePolicy};
use crate::config::problem::did_you_mean;
use crate::config::read::{At, Reading, Section};
use crate::config::schema;
use crate::config::units::Shown;
use crate::config::value::{boolean, duration, fraction, one_of, text, text_as};
use crate::rules::matcher::{HostPattern, PathPattern};
use crate::rules::route::{OnCollapseTimeout, Route, TagTemplate};
use crate::rules::select::{Conflict, Matcher};
use crate::rules::settings::UpstreamSettings;

/// 2^31 seconds: where RFC 9111 1.2.2 lets delta-seconds end.
const FOREVER: Duration = Duration::from_secs(1 << 31);
/// Statuses that no route rule stores, with the reason.
const NEVER_BY_RULE: &[(u16, &str)] = &[
    (206, "it is a part of an answer"),
    (304, "it is no answer of its own"),
    (400, "it reflects one request"),
    (405, "it reflects one request"),
    (412, "it reflects one request's conditions"),
    (414, "it reflects one request"),
    (416, "it reflects one request's range"),
    (431, "it reflects one request"),
];

pub(super) fn routes(
    r: &mut Reading<'_>,
    root: &DeTable<'_>,
    upstreams: &[(At<String>, Option<UpstreamSettings>)],
) -> Option<(Vec<Route>, Matcher)> {
    let defaults = r.table(root, "defaults", &[schema::CACHING]);
    if let Some(defaults) = &defaults {
        // Once by themselves, so that a wrong default is told even where no route uses it.
        let _ = caching(r, defaults);
    }
    let defaults = defaults.unwrap_or_else(|| Section::absent("defaults", &[schema::CACHING]));

    let Some((key, value)) = root.get_key_value("route") else {
        r.found.error_of_file("there is no [[route]], so that nothing would be served");
        return None;
    };
    let Some(list) = value.get_ref().as_array() else {
        r.found.error(&key.span(), "route", "routes are an array of tables: write [[route]]");
        return None;
    };

    let mut routes = Vec::with_capacity(list.len());
    let mut seen = Seen { names: HashMap::new(), lines: Vec::new(), matcher: Matcher::default() };
    let mut used = vec![false; upstreams.len()];
    for (index, item) in list.iter().enumerate() {
        let Some(table) = item.get_ref().as_table() else {
            r.found.error(&item.span(), "route", "routes are an array of tables: write [[route]]");
            routes.push(None);
            continue;
        };
        r.unknown_keys("route", table, &[schema::ROUTE, schema::CACHING]);
        let own = Section::new("route", table, item.span(), &[schema::ROUTE, schema::CACHING]);
        routes.push(route(r, index, own, &defaults, upstreams, &mut used, &mut seen));
    }
    for ((upstream, settings), used) in upstreams.iter().zip(used) {
        if !used && settings.is_some() {
            r.warning(upstream, "no route uses it");
        }
    }
    let routes = routes.into_iter().collect::<Option<_>>()?;
    Some((routes, seen.matcher))
}

/// What earlier routes have taken.
struct Seen {
    /// Names, and the line each is at.
    names: HashMap<String, usize>,
    /// Of each route that was given to the matcher, by number: name and line of its path.
    lines: Vec<(usize, String, usize)>,
    matcher: Matcher,
}

fn route(
    r: &mut Reading<'_>,
    index: usize,
    own: Section<'_, '_>,
    defaults: &Section<'_, '_>,
    upstreams: &[(At<String>, Option<UpstreamSettings>)],
    used: &mut [bool],
    seen: &mut Seen,
) -> Option<Route> {
    let name = r.get(&own, "name", text_as(label));
    let host =
        r.optional(&own, "host", text_as(|t| HostPattern::parse(t).map_err(|e| format!("{t:?}: {e}"))));
    let path = r.get(&own, "path", text_as(|t| PathPattern::parse(t).map_err(|e| format!("{t:?}: {e}"))));
    if let Some((path, meant)) = path.as_ref().and_then(|path| Some((path, path.value.habit()?))) {
        r.warning(path, format!("\"{}\" is meant literally; did you mean {meant}?", path.value));
    }
    let upstream = r.get(&own, "upstream", text);

    if let Some(name) = &name {
        let line = r.found.line(&name.span);
        match seen.names.get(&name.value) {
            Some(first) => {
                r.error(name, format!("{:?} is also the name of the route at line {first}", name.value));
            }
            None => {
                seen.names.insert(name.value.clone(), line);
            }
        }
    }
    let upstream = upstream.and_then(|at| {
        let number = upstreams.iter().position(|(name, _)| name.value == at.value);
        match number.and_then(|n| used.get_mut(n)) {
            Some(used) => *used = true,
            None => {
                let hint = did_you_mean(&at.value, upstreams.iter().map(|(name, _)| name.value.as_str()));
                r.error(&at, format!("there is no [upstream.{}]{hint}", at.value));
            }
        }
        number
    });
    if let (Some(host), Some(path)) = (&host, &path) {
        let any = HostPattern::Any;
        let pattern = host.as_ref().map_or(&any, |at| &at.value);
        let shown = name.as_ref().map_or_else(String::new, |n| n.value.clone());
        seen.lines.push((index, shown, r.found.line(&path.span)));
        if let Err(Conflict { first, .. }) = seen.matcher.insert(index, pattern, &path.value)
            && let Some((_, name, line)) = seen.lines.iter().find(|(number, ..)| *number == first)
        {
            r.error(path, format!("matches the same requests as the route {name:?} at line {line}"));
        }
    }

    let cached = own.clone();
    let section = own.over(defaults);
    let compiled = caching(r, &section);
    let path = path.map(|at| at.value);
    let tags = tags(r, &section, path.as_ref());
    let Caching { policy, collapse_timeout, on_collapse_timeout } = compiled?;
    if !policy.cache {
        for (key, span) in cached.own_keys() {
            if key != "cache" && schema::CACHING.iter().any(|k| k.name == key) {
                r.found.warning(
                    &span,
                    &format!("route.{key}"),
                    "has no effect: this route says cache = false",
                );
            }
        }
    }
    Some(Route {
        index,
        name: name?.value,
        host: host?.map_or(HostPattern::Any, |at| at.value),
        path: path?,
        upstream: upstream?,
        policy,
        tags: tags?,
        collapse_timeout,
        on_collapse_timeout,
    })
}

fn tags(r: &mut Reading<'_>, s: &Section<'_, '_>, path: Option<&PathPattern>) -> Option<Vec<TagTemplate>> {
    let tags = r.list(s, "tags", text)?;
    let path = path?;
    let mut templates = Vec::new();
    for tag in &tags.value {
        match TagTemplate::parse(&tag.value, path) {
            Ok(template) => templates.push(Some(template)),
            Err(message) => {
                r.error(tag, message);
                templates.push(None);
            }
        }
    }
    templates.into_iter().collect()
}

/// The caching keys of a route; `policy.max_object_size` is not theirs and stays 0.
struct Caching {
    policy: Policy,
    collapse_timeout: Duration,
    on_collapse_timeout: OnCollapseTimeout,
}

fn caching(r: &mut Reading<'_>, s: &Section<'_, '_>) -> Option<Caching> {
    let length = || duration(Duration::ZERO..=FOREVER);
    let cache = r.get(s, "cache", boolean);
    let ttl = r.optional(s, "ttl", length());
    let words = [("respect", OriginCacheControl::Respect), ("override", OriginCacheControl::Override)];
    let origin_cache_control = r.get(s, "origin_cache_control", one_of(&words));
    let min_ttl = r.get(s, "min_ttl", length());
    let max_ttl = r.get(s, "max_ttl", length());
    let ttl_by_status = ttl_by_status(r, s);
    let heuristic = r.get(s, "heuristic", boolean);
    let stale_while_revalidate = r.get(s, "stale_while_revalidate", length());
    let stale_if_error = r.get(s, "stale_if_error", length());
    let keep = r.get(s, "keep", length());
    let early_refresh = r.get(s, "early_refresh", fraction(0.0..=10.0));
    let words = [("ignore", ClientCacheControl::Ignore), ("respect", ClientCacheControl::Respect)];
    let client_cache_control = r.get(s, "client_cache_control", one_of(&words));
    let words =
        [("guard", CookiePolicy::Guard), ("ignore", CookiePolicy::Ignore), ("bypass", CookiePolicy::Bypass)];
    let cookies = r.get(s, "cookies", one_of(&words));
    let words = [
        ("refuse", SetCookiePolicy::Refuse),
        ("strip", SetCookiePolicy::Strip),
        ("share", SetCookiePolicy::Share),
    ];
    let set_cookie = r.get(s, "set_cookie", one_of(&words));
    let key = recipe(r, s);
    let patience = duration(Duration::ZERO..=Duration::from_secs(600));
    let collapse_timeout = r.get(s, "collapse_timeout", patience);
    let words = [
        ("fetch", OnCollapseTimeout::Fetch),
        ("stale", OnCollapseTimeout::Stale),
        ("503", OnCollapseTimeout::Unavailable503),
    ];
    let on_collapse_timeout = r.get(s, "on_collapse_timeout", one_of(&words));

    let (ttl, max_ttl, min_ttl, by_status) = (ttl?, max_ttl?, min_ttl?, ttl_by_status?);
    let origin_cache_control = origin_cache_control?;
    // Values of [defaults] are told apart from a route's own by their keys; the relation between two
    // of them is judged where a route has both, since a route may replace either.
    if s.path != "defaults" {
        bounds(r, ttl.as_ref(), &min_ttl, &max_ttl, &by_status);
        let says_nothing = ttl.is_none() && by_status.is_empty();
        if origin_cache_control.value == OriginCacheControl::Override && says_nothing {
            r.error(
                &origin_cache_control,
                "\"override\" needs a ttl or ttl_by_status to put in the origin's place",
            );
        }
    }
    let cookies = cookies?.value;
    let (key, named) = key?;
    if !named.value.is_empty() && cookies == CookiePolicy::Bypass {
        r.warning(&named, "has no effect: this route says cookies = \"bypass\"");
    }
    let policy = Policy {
        cache: cache?.value,
        ttl: ttl.map(|at| millis(at.value)),
        ttl_by_status: by_status.into_iter().map(|(status, at)| (status, millis(at.value))).collect(),
        min_ttl: millis(min_ttl.value),
        max_ttl: millis(max_ttl.value),
        origin_cache_control: origin_cache_control.value,
        heuristic: heuristic?.value,
        stale_while_revalidate: millis(stale_while_revalidate?.value),
        stale_if_error: millis(stale_if_error?.value),
        keep: millis(keep?.value),
        early_refresh: early_refresh?.value,
        client_cache_control: client_cache_control?.value,
        cookies,
        set_cookie: set_cookie?.value,
        key,
        max_object_size: 0,
    };
    Some(Caching {
        policy,
        collapse_timeout: collapse_timeout?.value,
        on_collapse_timeout: on_collapse_timeout?.value,
    })
}

fn bounds(
    r: &mut Reading<'_>,
    ttl: Option<&At<Duration>>,
    min_ttl: &At<Duration>,
    max_ttl: &At<Duration>,
    by_status: &[(u16, At<Duration>)],
) {
    let most = || {
        let default = if max_ttl.given { "" } else { ", the default" };
        format!("is more than max_ttl ({}{default})", Shown(max_ttl.value))
    };
    if min_ttl.value > max_ttl.value {
        // Where only one of the two was written, that is the one to change.
        let told = if min_ttl.given { min_ttl } else { max_ttl };
        r.error(told, format!("min_ttl ({}) {}", Shown(min_ttl.value), most()));
    }
    let stated = ttl.into_iter().chain(by_status.iter().map(|(_, at)| at));
    for at in stated {
        if at.value > max_ttl.value {
            r.error(at, format!("{} {}", Shown(at.value), most()));
        } else if at.value < min_ttl.value && at.value > Duration::ZERO {
            r.warning(at, format!("has no effect: min_ttl ({}) is more", Shown(min_ttl.value)));
        }
    }
}

/// Sorted by status.
fn ttl_by_status(r: &mut Reading<'_>, s: &Section<'_, '_>) -> Option<Vec<(u16, At<Duration>)>> {
    let mut list = Vec::new();
    for (code, value) in r.entries(s, "ttl_by_status")? {
        let status = status(&code.value).map_err(|message| r.error(&code, message)).ok();
        let place = At { value: (), span: code.span.clone(), key: code.key.clone(), given: true };
        let ttl = r.value(place, value.get_ref(), duration(Duration::ZERO..=FOREVER));
        list.push(status.zip(ttl));
    }
    let mut list: Vec<(u16, At<Duration>)> = list.into_iter().collect::<Option<_>>()?;
    list.sort_by_key(|(status, _)| *status);
    Some(list)
}

fn status(text: &str) -> Result<u16, String> {
    let digits = text.len() == 3 && text.bytes().all(|b| b.is_ascii_digit());
    let status = text.parse().ok().filter(|s| digits && (200..=599).contains(s));
    let status = status.ok_or_else(|| format!("{text:?} is not a final status, from 200 to 599"))?;
    match NEVER_BY_RULE.iter().find(|(never, _)| *never == status) {
        Some((_, why)) => Err(format!("a {status} is never stored by a route's rule: {why}")),
        None => Ok(status),
    }
}

/// A recipe; its cookies as they were read, with their place.
fn recipe(r: &mut Reading<'_>, section: &Section<'_, '_>) -> Option<(KeyRecipe, At<Vec<At<String>>>)> {
    let s = r.inner_table(section, "key", &[schema::RECIPE])?;
    let query_exclude = r.list(&s, "query_exclude", text_as(parameters));
    let query_include = r.list(&s, "query_include", text_as(parameters));
    let sort_query = r.get(&s, "sort_query", boolean);
    let headers = r.list(&s, "headers", text_as(header));
    let cookies = r.list(&s, "cookies", text_as(cookie));
    for at in headers.iter().flat_map(|list| &list.value) {
        if at.value == http::header::COOKIE {
            r.warning(at, "makes a key of every cookie there is; name the ones that matter in key.cookies");
        }
    }
    let flat = |list: Option<At<Vec<At<Vec<String>>>>>| -> Option<Vec<String>> {
        Some(list?.value.into_iter().flat_map(|at| at.value).collect())
    };
    let recipe = KeyRecipe {
        query_exclude: flat(query_exclude)?,
        query_include: flat(query_include)?,
        sort_query: sort_query?.value,
        headers: headers?.value.into_iter().map(|at| at.value).collect(),
        cookies: cookies.as_ref()?.value.iter().map(|at| at.value.clone()).collect(),
    };
    Some((recipe, cookies?))
}

/// The name of a route or upstream: a metric label and a log field.
pub(super) fn label(text: &str) -> Result<String, String> {
    let valid = !text.is_empty()
        && text.len() <= 64
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if valid {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no name: 1 to 64 letters, digits and - _ ."))
}

/// A query parameter, a beginning (`utm_*`), or `@tracking` for the list of that name.
fn parameters(text: &str) -> Result<Vec<String>, String> {
    if let Some(name) = text.strip_prefix('@') {
        return match name {
            "tracking" => Ok(TRACKING.iter().map(|&name| name.to_owned()).collect()),
            _ => Err(format!("there is no list {text:?}{}", did_you_mean(text, ["@tracking"]))),
        };
    }
    if text.is_empty() {
        return Err("a parameter's name is empty".to_owned());
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_graphic() || matches!(c, '&' | '=' | '#')) {
        return Err(format!("{text:?}: {bad:?} is never part of a parameter's name as it is sent"));
    }
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        return Err(format!("{text:?}: a * can only stand at the end"));
    }
    Ok(vec![text.to_owned()])
}

fn header(text: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a field name"))
}

/// A cookie's name is a token (RFC 6265 4.1.1).
fn cookie(text: &str) -> Result<String, String> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{text:?} is not a cookie's name")),
    }
}

fn millis(length: Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}
