//! Purging on request: what people ask to be invalidated, and what became of it.
//!
//! Decides: which purge ids a URL, a tag, a prefix, a host or everything is, whether it is hard or soft,
//! and how far the word got. Never touches: how it got there (`store::journal`), or who may ask (`admin`,
//! and for the PURGE method the life of a request).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::asked::Asked;
use super::site::Shared;
pub use crate::caching::stamp::Mode;
use crate::caching::stamp::{self, PurgeId};
use crate::caching::url;
use crate::clock;
use crate::rules::Rules;
use crate::store::redis::Told;

/// The longest tag, host, prefix or URL that is taken, in bytes.
pub const LONGEST: usize = 8 << 10;
/// How long who purges waits to hear that the fleet was told.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be invalidated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purge {
    /// Absolute URLs: all variants of each, GET and HEAD.
    pub urls: Vec<String>,
    /// Tags, byte for byte.
    pub tags: Vec<String>,
    /// What URLs begin with: `http://shop.example/blog/`, or `/blog/` for every host.
    pub prefixes: Vec<String>,
    /// Hosts, without port.
    pub hosts: Vec<String>,
    /// Everything.
    pub all: bool,
    /// `None`: soft for tags, prefixes and hosts; hard for URLs and for everything.
    pub mode: Option<Mode>,
}

/// Who asked; a label of `forebay_purges_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// `POST /purge` on the admin listener.
    Admin,
    /// The PURGE method.
    Method,
}

impl Source {
    /// Its label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Method => "purge_method",
        }
    }
}

/// How far the word got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// This process, which is all there is: no Redis is configured.
    Process,
    /// Every proxy that reads the fleet's journal: those connected within milliseconds, the others before
    /// they answer from what they hold.
    Fleet,
    /// This process alone: the fleet could not be told now, and will be when Redis is back.
    Untold,
}

/// What a purge came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Responses in this process's memory tier that it concerned.
    pub matched: u64,
    /// Its number in the journal, once the fleet was told; `None` where there was nothing to tell.
    pub sequence: Option<u64>,
    /// How far the word got.
    pub scope: Scope,
}

/// A part of a [`Purge`] that says nothing that could be purged: nothing of it was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPurge {
    /// Where: `urls[3]`.
    pub what: String,
    /// Why, for people.
    pub why: &'static str,
}

impl std::fmt::Display for InvalidPurge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.what, self.why)
    }
}

impl std::error::Error for InvalidPurge {}

impl Shared {
    /// Invalidates, here before this returns and in the fleet as [`Purged::scope`] says. Nothing is
    /// carried out unless everything that is asked for makes sense.
    ///
    /// # Errors
    /// [`InvalidPurge`] names the first part that is not what it should be.
    pub async fn purge(
        self: &Arc<Self>,
        rules: &Rules,
        purge: &Purge,
        source: Source,
    ) -> Result<Purged, InvalidPurge> {
        let purges = compile(rules, purge)?;
        let prefixes = purges.iter().flat_map(|purge| &purge.prefixes).collect();
        if !self.purges.has_room(&prefixes, clock::wall()) {
            let why = "are more than can be remembered; purge by host or tag instead";
            return Err(InvalidPurge { what: "prefixes".to_owned(), why });
        }
        let kinds = [
            ("url", !purge.urls.is_empty()),
            ("tag", !purge.tags.is_empty()),
            ("prefix", !purge.prefixes.is_empty()),
            ("host", !purge.hosts.is_empty()),
            ("all", purge.all),
        ];
        for (kind, _) in kinds.into_iter().filter(|(_, named)| *named) {
            self.metrics.purge(kind, source.label());
        }
        // Every entry is looked at: not on an event loop that answers requests.
        let (shared, asked) = (Arc::clone(self), purges.clone());
        let count = move || asked.iter().map(|purge| shared.memory.concerned(purge)).sum();
        let matched = tokio::task::spawn_blocking(count).await.unwrap_or(0);
        let purges = self.purges.purge_each(purges, clock::wall());
        let (scope, sequence) = match &self.journal {
            None => (Scope::Process, None),
            // Of what no response can bear nobody need be told.
            Some(_) if purges.is_empty() => (Scope::Fleet, None),
            Some(journal) => match journal.tell(purges, PATIENCE).await {
                Told::Fleet(sequence) => (Scope::Fleet, Some(sequence.0)),
                Told::Later => (Scope::Untold, None),
            },
        };
        Ok(Purged { matched, sequence, scope })
    }
}

/// What is asked for, as the journal tells it: at most one hard and one soft purge.
fn compile(rules: &Rules, purge: &Purge) -> Result<Vec<stamp::Purge>, InvalidPurge> {
    let mut purges = [Mode::Hard, Mode::Soft].map(|mode| stamp::Purge::of_ids(mode, Vec::new()));
    // Where what names responses one by one is put, and where what names many.
    let (exact, wide) = match purge.mode {
        None => (0, 1),
        Some(Mode::Hard) => (0, 0),
        Some(Mode::Soft) => (1, 1),
    };
    each("urls", &purge.urls, |url| {
        purges[exact].ids.extend(url_id(rules, url)?);
        Ok(())
    })?;
    each("tags", &purge.tags, |tag| {
        purges[wide].ids.push(PurgeId::tag(tag.as_bytes()));
        Ok(())
    })?;
    each("hosts", &purge.hosts, |host| {
        is_host(host)?;
        purges[wide].ids.push(PurgeId::host(host));
        Ok(())
    })?;
    each("prefixes", &purge.prefixes, |prefix| {
        purges[wide].prefixes.push(prefix_text(prefix)?);
        Ok(())
    })?;
    if purge.all {
        purges[exact].ids.push(PurgeId::ALL);
    }
    Ok(purges.into_iter().filter(|purge| !purge.is_empty()).collect())
}

fn each(
    list: &str,
    parts: &[String],
    mut take: impl FnMut(&str) -> Result<(), &'static str>,
) -> Result<(), InvalidPurge> {
    for (at, part) in parts.iter().enumerate() {
        let taken = match part.len() {
            0 => Err("is empty"),
            1..=LONGEST => take(part),
            _ => Err("is too long"),
        };
        taken.map_err(|why| InvalidPurge { what: format!("{list}[{at}]"), why })?;
    }
    Ok(())
}

/// What stands for a URL, however it is spelt. Nothing can be stored of one that no route matches.
fn url_id(rules: &Rules, url: &str) -> Result<Option<PurgeId>, &'static str> {
    let (authority, rest) = split(url).ok_or("is no absolute URL (http://host/path)")?;
    let target = if rest.starts_with('/') { rest.to_owned() } else { format!("/{rest}") };
    let path = target.split('?').next().unwrap_or_default();
    let Some(selected) = rules.select(authority, path) else { return Ok(None) };
    let recipe = &selected.route.policy.key;
    let key = recipe.key(Asked::SCHEME, authority, &target, &http::HeaderMap::new());
    let key = key.map_err(|_| "is longer than any key")?;
    Ok(Some(PurgeId::url(recipe.url(Asked::SCHEME, authority, &target, &key))))
}

/// A host as `Host` has it, without a port: nothing else is ever found under it.
fn is_host(host: &str) -> Result<(), &'static str> {
    if host.contains(['/', '@', '?']) || host.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("is no host");
    }
    if host.contains('*') {
        return Err("has a wildcard, and hosts are purged one by one");
    }
    let is_literal = host.starts_with('[') && host.ends_with(']');
    match host.contains(':') && !is_literal {
        true if url::host(host) != host => Err("has a port, and hosts are purged whatever the port"),
        true => Err("is no host; an IPv6 address stands in brackets"),
        false => Ok(()),
    }
}

/// What keys begin with: of paths as it is, of URLs with the scheme that requests come with.
fn prefix_text(prefix: &str) -> Result<Bytes, &'static str> {
    if prefix.bytes().any(|byte| !byte.is_ascii_graphic()) {
        return Err("has bytes that no URL has");
    }
    if prefix.starts_with('/') {
        return Ok(Bytes::copy_from_slice(prefix.as_bytes()));
    }
    let (authority, rest) = split(prefix).ok_or("begins neither with a slash nor with http://host")?;
    let rest = if rest.is_empty() { "/" } else { rest };
    Ok(Bytes::from(format!("{}://{}{rest}", Asked::SCHEME, url::authority(authority))))
}

/// The authority of an absolute URL, and what follows it, without a fragment. Whatever the scheme:
/// requests may have lost theirs to who took TLS off them.
fn split(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return None;
    }
    let rest = rest.split('#').next().unwrap_or_default();
    let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let sound = !authority.is_empty() && !authority.contains('@');
    (sound && url.bytes().all(|byte| byte.is_ascii_graphic())).then_some((authority, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn rules() -> Rules {
        let text = "
            [upstream.a]
            servers = [\"http://127.0.0.1:1\"]
            [[route]]
            name = \"by-language\"
            path = \"/l/{*rest}\"
            upstream = \"a\"
            key = { headers = [\"accept-language\"] }
            [[route]]
            name = \"rest\"
            path = \"/{*rest}\"
            upstream = \"a\"
            key = { query_exclude = [\"utm_*\"] }
        ";
        config::parse(text, "test.toml", &|_| None).expect("rules")
    }

    fn compiled(purge: &Purge) -> Result<Vec<stamp::Purge>, InvalidPurge> {
        compile(&rules(), purge)
    }

    fn urls(urls: &[&str]) -> Purge {
        Purge { urls: urls.iter().map(|url| (*url).to_owned()).collect(), ..Purge::default() }
    }

    #[test]
    fn a_url_is_its_key_however_it_is_written() {
        let ids = |url: &str| compiled(&urls(&[url])).expect("a purge")[0].ids.clone();
        let plain = ids("http://shop.example/a?x=1");
        assert_eq!(plain.len(), 1);
        for same in [
            "https://shop.example/a?x=1",
            "HTTP://shop.example/a?x=1&utm_id=7#top",
            "http://SHOP.example:80/%61?x=1",
            "https://shop.example:443/a?x=1",
        ] {
            assert_eq!(ids(same), plain, "{same}");
        }
        assert_ne!(ids("http://shop.example:8080/a?x=1"), plain);
        assert_eq!(ids("http://shop.example"), ids("http://shop.example/"));
        assert_eq!(ids("http://shop.example/l/a").len(), 1, "whatever the fields in its key");
        for (url, why) in [
            ("/a", "is no absolute URL (http://host/path)"),
            ("http:///a", "is no absolute URL (http://host/path)"),
            ("http://user@shop.example/", "is no absolute URL (http://host/path)"),
            ("http://shop.example/a b", "is no absolute URL (http://host/path)"),
            ("", "is empty"),
        ] {
            let refused = InvalidPurge { what: "urls[1]".to_owned(), why };
            assert_eq!(compiled(&urls(&["http://shop.example/", url])), Err(refused), "{url}");
        }
    }

    #[test]
    fn urls_are_purged_hard_and_what_is_wide_softly_unless_somebody_says_otherwise() {
        let text = |text: &str| vec![text.to_owned()];
        let purge = Purge {
            urls: text("http://a/"),
            tags: text("t"),
            prefixes: text("/p"),
            hosts: text("a"),
            all: true,
            mode: None,
        };
        let by_default = compiled(&purge).expect("purges");
        assert_eq!(
            by_default.iter().map(|p| (p.mode, p.ids.len())).collect::<Vec<_>>(),
            [(Mode::Hard, 2), (Mode::Soft, 2)]
        );
        assert_eq!(by_default[1].prefixes, [Bytes::from("/p")]);
        for mode in [Mode::Hard, Mode::Soft] {
            let all = compiled(&Purge { mode: Some(mode), ..purge.clone() }).expect("purges");
            assert!(all.len() == 1 && all[0].mode == mode && all[0].ids.len() == 4, "{all:?}");
        }
        assert_eq!(compiled(&Purge::default()), Ok(Vec::new()), "nothing is asked for");
    }

    #[test]
    fn a_prefix_never_reaches_beyond_its_host() {
        for (prefix, expected) in [
            ("/blog/", Ok("/blog/")),
            ("https://shop.example", Ok("http://shop.example/")),
            ("http://Shop.example:80/b", Ok("http://shop.example/b")),
            ("shop.example/", Err("begins neither with a slash nor with http://host")),
            ("/a b", Err("has bytes that no URL has")),
        ] {
            assert_eq!(prefix_text(prefix), expected.map(Bytes::from), "{prefix}");
        }
    }

    #[test]
    fn what_no_response_is_found_under_is_no_host() {
        for host in ["shop.example", "SHOP.example", "[::1]", "shop.example."] {
            assert_eq!(is_host(host), Ok(()), "{host}");
        }
        let port = Err("has a port, and hosts are purged whatever the port");
        let brackets = Err("is no host; an IPv6 address stands in brackets");
        for (host, refused) in [
            ("shop.example:8080", port),
            ("[::1]:80", port),
            ("fe80::z", brackets),
            ("::1", port),
            ("*.shop.example", Err("has a wildcard, and hosts are purged one by one")),
            ("http://shop.example", Err("is no host")),
        ] {
            assert_eq!(is_host(host), refused, "{host}");
        }
    }
}
