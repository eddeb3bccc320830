//! Purging on request: what people ask to be invalidated, and what became of it.
//!
//! Decides: which purge ids a URL, a tag, a prefix, a host or everything is, whether it is hard or soft,
//! and how far the word got. Never touches: how it got there (`store::journal`), or who may ask (`admin`,
//! and for the PURGE method the life of a request).

use super::asked::Asked;
use super::forward::every_key_of;
use super::site::Shared;
pub use crate::caching::stamp::Mode;
use crate::caching::stamp::{self, PurgeId};
use crate::clock;
use crate::rules::Rules;

/// The longest tag, host, prefix or URL that is taken, in bytes.
pub const LONGEST: usize = 8 << 10;

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
    /// Its number in the journal, once the fleet was told.
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
    pub async fn purge(&self, rules: &Rules, purge: &Purge, source: Source) -> Result<Purged, InvalidPurge> {
        let mut hard = Vec::new();
        let mut soft = Vec::new();
        let (exact, wide) = match purge.mode {
            None => (Mode::Hard, Mode::Soft),
            Some(mode) => (mode, mode),
        };
        let mut add = |mode, id| if mode == Mode::Hard { hard.push(id) } else { soft.push(id) };
        for (at, url) in purge.urls.iter().enumerate() {
            let ids = url_ids(rules, url).map_err(|why| InvalidPurge { what: format!("urls[{at}]"), why })?;
            ids.into_iter().for_each(|id| add(exact, id));
        }
        for tag in &purge.tags {
            add(wide, PurgeId::tag(tag.as_bytes()));
        }
        for host in &purge.hosts {
            add(wide, PurgeId::host(host));
        }
        if purge.all {
            add(exact, PurgeId::ALL);
        }
        if let Some(_prefix) = purge.prefixes.first() {
            return Err(InvalidPurge { what: "prefixes[0]".to_owned(), why: "cannot be purged yet" });
        }
        self.metrics.purge("any", source.label());
        if !hard.is_empty() {
            self.purges.purge(&stamp::Purge::of_ids(Mode::Hard, hard), clock::wall());
        }
        if !soft.is_empty() {
            self.purges.purge(&stamp::Purge::of_ids(Mode::Soft, soft), clock::wall());
        }
        Ok(Purged { matched: 0, sequence: None, scope: Scope::Process })
    }
}

fn url_ids(rules: &Rules, url: &str) -> Result<Vec<PurgeId>, &'static str> {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let Some(rest) = rest else { return Err("is no absolute URL") };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(at);
    let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
    let path = target.split('?').next().unwrap_or_default();
    let Some(selected) = rules.select(authority, path) else { return Ok(Vec::new()) };
    let recipe = &selected.route.policy.key;
    let key = recipe
        .key(Asked::SCHEME, authority, &target, &http::HeaderMap::new())
        .map_err(|_| "is longer than any key")?;
    let every = every_key_of(recipe, authority, &target).map(|tag| PurgeId::tag(tag.as_bytes()));
    Ok(std::iter::once(PurgeId::key(key.hash)).chain(every).collect())
}
