//! The series as figures: what `/status` and the dashboard show without a Prometheus server.
//!
//! Decides: how series are summed up. Never touches: counting. Reads the very series that `/metrics`
//! exposes, so that the two cannot disagree.

use std::collections::BTreeMap;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;

use super::Metrics;
use crate::caching::outcome::Reason;

/// Counts by one label.
pub type ByLabel = BTreeMap<String, u64>;

/// What happened so far.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// What happened on each route that was asked for.
    pub routes: BTreeMap<String, RouteFigures>,
    /// Requests that waited for another's fetch and were answered by it, by scope.
    pub collapsed: ByLabel,
    /// Purges by kind and source.
    pub purges: Vec<(String, String, u64)>,
    /// Answers that were no plain hits, by reason.
    pub reasons: Vec<(Reason, u64)>,
    /// Whether the last load of the configuration succeeded.
    pub last_reload_succeeded: bool,
    /// Connections of clients that are open now.
    pub connections: i64,
}

/// What happened on one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteFigures {
    /// Answers by result.
    pub results: ByLabel,
    /// Requests to the origin by cause.
    pub origin_fetches: ByLabel,
    /// Responses that were not stored, by reason.
    pub not_stored: ByLabel,
}

impl RouteFigures {
    /// Answers in all.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.results.values().sum()
    }

    /// Of the requests that were looked up, the share that was answered without waiting for the
    /// origin; `None` before there were any.
    #[must_use]
    pub fn hit_ratio(&self) -> Option<f64> {
        let count = |results: &[&str]| -> u64 { results.iter().filter_map(|r| self.results.get(*r)).sum() };
        let (hits, others) = (count(&["hit", "stale"]), count(&["revalidated", "miss"]));
        (hits + others > 0).then(|| hits as f64 / (hits + others) as f64)
    }

    /// Adds another route's figures to these.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.results, &other.results),
            (&mut self.origin_fetches, &other.origin_fetches),
            (&mut self.not_stored, &other.not_stored),
        ] {
            for (label, count) in theirs {
                *mine.entry(label.clone()).or_default() += count;
            }
        }
    }
}

impl Metrics {
    /// The series as figures. Costs as much as a scrape.
    #[must_use]
    pub fn figures(&self) -> Figures {
        let mut figures = Figures {
            last_reload_succeeded: self.last_reload.get() == 1,
            connections: self.connections.get(),
            ..Figures::default()
        };
        let routes = &mut figures.routes;
        each(&self.requests, ["route", "result"], |[route, result], count| {
            *routes.entry(route).or_default().results.entry(result).or_default() += count;
        });
        each(&self.origin_fetches, ["route", "cause"], |[route, cause], count| {
            *routes.entry(route).or_default().origin_fetches.entry(cause).or_default() += count;
        });
        each(&self.not_stored, ["route", "reason"], |[route, reason], count| {
            *routes.entry(route).or_default().not_stored.entry(reason).or_default() += count;
        });
        each(&self.collapsed, ["scope"], |[scope], count| {
            *figures.collapsed.entry(scope).or_default() += count;
        });
        each(&self.purges, ["kind", "source"], |[kind, source], count| {
            figures.purges.push((kind, source, count));
        });
        figures.reasons = self.reasons.counted();
        figures
    }
}

/// Tells every series of a counter by the values of these labels.
fn each<const N: usize>(counter: &impl Collector, labels: [&str; N], mut tell: impl FnMut([String; N], u64)) {
    for family in counter.collect() {
        let family: MetricFamily = family;
        for metric in family.get_metric() {
            let value = |name: &str| {
                let pair = metric.get_label().iter().find(|pair| pair.name() == name);
                pair.map_or_else(String::new, |pair| pair.value().to_owned())
            };
            // Counters count whole things.
            tell(labels.map(value), metric.get_counter().get_value() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Method, StatusCode};

    use super::*;
    use crate::caching::outcome::CacheResult;
    use crate::observe::metrics::{Cause, Scope};

    #[test]
    fn figures_are_the_series_summed_up() {
        let metrics = Metrics::new().expect("series");
        let route = metrics.route("product");
        let answered = |method: &Method, status: u16, result| {
            let status = StatusCode::from_u16(status).expect("a status");
            metrics.request(&route, method, status, result, Duration::ZERO);
        };
        assert_eq!(metrics.figures().routes.len(), 0);
        for (method, status, result) in [
            (Method::GET, 200, CacheResult::Hit),
            (Method::HEAD, 200, CacheResult::Hit),
            (Method::GET, 304, CacheResult::Stale),
            (Method::GET, 404, CacheResult::Miss),
            (Method::POST, 200, CacheResult::Bypass),
            (Method::GET, 502, CacheResult::Error),
        ] {
            answered(&method, status, result);
        }
        metrics.origin_fetch(&route, Cause::Miss);
        metrics.not_stored(&route, Reason::Private);
        metrics.collapsed(Scope::Fleet);
        metrics.purge("tag", "admin");
        metrics.reasons.count(Reason::Private);
        metrics.reloaded(false);
        let figures = metrics.figures();
        let product = &figures.routes["product"];
        assert_eq!(product.requests(), 6);
        assert_eq!(product.hit_ratio(), Some(0.75), "bypass and error were not looked up");
        assert_eq!(product.results["hit"], 2);
        assert_eq!((product.origin_fetches["miss"], product.not_stored["private"]), (1, 1));
        assert_eq!((figures.collapsed["fleet"], figures.collapsed["process"]), (1, 0));
        assert_eq!(figures.purges, [("tag".to_owned(), "admin".to_owned(), 1)]);
        assert_eq!(figures.reasons, [(Reason::Private, 1)]);
        assert!(!figures.last_reload_succeeded);
        let mut twice = product.clone();
        twice.add(product);
        assert_eq!((twice.requests(), twice.hit_ratio()), (12, Some(0.75)));
        assert_eq!(RouteFigures::default().hit_ratio(), None);
    }
}
