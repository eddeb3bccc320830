//! Why a request belongs to one route and to none of the others.
//!
//! Decides: what to tell a person who asks. Never touches: a request on its way; `select` answers that
//! without looking at any route but the right one. Here every route is compared with the request, and
//! the property test holds the two to the same answer.

use std::cmp::Ordering;
use std::fmt;

use super::Rules;
use super::matcher::{HostPattern, PathPattern, Segment};
use super::route::Route;
use super::select::host_name;

/// Why a route was not selected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot<'r, 'p> {
    /// It matches, and the selected one has the same host and a more specific path.
    LessSpecificPath {
        /// The first segment in which they differ, from 1.
        segment: usize,
        /// What this route has there.
        has: &'r str,
        /// What the selected one has there.
        selected: &'r str,
    },
    /// It matches, and the selected one has a more specific host.
    LessSpecificHost {
        /// This route's host.
        has: &'r HostPattern,
        /// The selected one's.
        selected: &'r HostPattern,
    },
    /// It answers for this host, but not for this path.
    Path(Difference<'r, 'p>),
    /// It answers for another host.
    Host(&'r HostPattern),
}

/// Where a path ceases to match a route's; segments count from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference<'r, 'p> {
    /// The path has another text there.
    Text {
        /// Which segment.
        segment: usize,
        /// The route's text.
        expected: &'r str,
        /// The path's.
        found: &'p str,
    },
    /// The path has nothing between two slashes where the route has a `{name}`.
    Empty {
        /// Which segment.
        segment: usize,
    },
    /// The path ends before that segment.
    Ends {
        /// Which segment.
        segment: usize,
        /// What the route has there.
        expected: &'r str,
    },
    /// The path goes on with that segment, where the route has ended.
    GoesOn {
        /// Which segment.
        segment: usize,
    },
    /// The target is no path at all, such as the `*` of OPTIONS.
    NoPath,
}

/// A route that was not selected.
#[derive(Clone, Debug)]
pub struct Other<'r, 'p> {
    /// The route.
    pub route: &'r Route,
    /// Why not.
    pub why: WhyNot<'r, 'p>,
}

impl Rules {
    /// Every route but the selected one, the nearest first: those that match and are less specific,
    /// then those for the same host by how much of the path they share, then those for other hosts.
    ///
    /// Takes what [`Rules::select`] takes. Costs as much as there are routes: for people, not requests.
    #[must_use]
    pub fn others<'r, 'p>(&'r self, authority: &str, path: &'p str) -> Vec<Other<'r, 'p>> {
        let host = host_name(authority).to_ascii_lowercase();
        let selected = self.select(authority, path).map(|selected| selected.route);
        let others = self.routes.iter().filter(|route| selected.is_none_or(|own| own.index != route.index));
        let mut others: Vec<(Nearness, Other<'_, '_>)> = others
            .map(|route| {
                let (nearness, why) = why_not(route, selected, &host, path);
                (nearness, Other { route, why })
            })
            .collect();
        others.sort_by(|(a, _), (b, _)| b.cmp(a));
        others.into_iter().map(|(_, other)| other).collect()
    }
}

/// How near a route is to the request; the largest is the nearest.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Nearness {
    host: bool,
    path: bool,
    /// Segments that agree before the first that does not.
    agree: usize,
}

fn why_not<'r, 'p>(
    route: &'r Route,
    selected: Option<&'r std::sync::Arc<Route>>,
    host: &str,
    path: &'p str,
) -> (Nearness, WhyNot<'r, 'p>) {
    let on_host = answers_for(&route.host, host);
    let difference = difference(&route.path, path);
    let agree = match &difference {
        None => route.path.segments().len(),
        Some(Difference::NoPath) => 0,
        Some(
            Difference::Text { segment, .. }
            | Difference::Empty { segment }
            | Difference::Ends { segment, .. }
            | Difference::GoesOn { segment },
        ) => segment.saturating_sub(1),
    };
    let nearness = Nearness { host: on_host, path: difference.is_none(), agree };
    let why = match (on_host, difference, selected) {
        (true, None, Some(own)) if own.host != route.host => {
            WhyNot::LessSpecificHost { has: &route.host, selected: &own.host }
        }
        (true, None, Some(own)) => less_specific_path(&route.path, &own.path),
        (true, Some(difference), _) => WhyNot::Path(difference),
        // A route that matches is never passed over for none at all.
        (false, _, _) | (true, None, None) => WhyNot::Host(&route.host),
    };
    (nearness, why)
}

/// Whether a pattern covers a host name: lower case, no port, no dot at the end.
fn answers_for(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Any => true,
        HostPattern::Exact(name) => name == host,
        HostPattern::Suffix(name) => {
            host.strip_suffix(name.as_str()).is_some_and(|label| label.ends_with('.'))
        }
    }
}

/// Where `path` ceases to match; `None` where it never does.
fn difference<'r, 'p>(pattern: &'r PathPattern, path: &'p str) -> Option<Difference<'r, 'p>> {
    let Some(inner) = path.strip_prefix('/') else {
        // As in `select`: `OPTIONS *` asks for the route for everything.
        let for_everything = path == "*" && matches!(pattern.segments().first(), Some(Segment::Rest(_)));
        return (!for_everything).then_some(Difference::NoPath);
    };
    let mut parts = inner.split('/');
    for (at, segment) in pattern.segments().iter().enumerate() {
        let number = at + 1;
        let part = parts.next();
        match (segment, part) {
            (Segment::Rest(_), Some(_)) => return None,
            (Segment::Fixed(text), Some(part)) if text == part => {}
            (Segment::Fixed(text), Some(part)) => {
                return Some(Difference::Text { segment: number, expected: text, found: part });
            }
            (Segment::Name(_), Some("")) => return Some(Difference::Empty { segment: number }),
            (Segment::Name(_), Some(_)) => {}
            (_, None) => {
                return Some(Difference::Ends { segment: number, expected: segment_text(pattern, at) });
            }
        }
    }
    parts.next().map(|_| Difference::GoesOn { segment: pattern.segments().len() + 1 })
}

/// Both match the same path, so that they differ first where one is more specific.
fn less_specific_path<'r>(route: &'r PathPattern, selected: &'r PathPattern) -> WhyNot<'r, 'static> {
    let rank = |segment: &Segment| match segment {
        Segment::Fixed(_) => 0,
        Segment::Name(_) => 1,
        Segment::Rest(_) => 2,
    };
    let pairs = route.segments().iter().zip(selected.segments());
    let at = pairs.take_while(|(a, b)| rank(a).cmp(&rank(b)) == Ordering::Equal).count();
    WhyNot::LessSpecificPath {
        segment: at + 1,
        has: segment_text(route, at),
        selected: segment_text(selected, at),
    }
}

/// A segment as it was written.
fn segment_text(pattern: &PathPattern, at: usize) -> &str {
    pattern.as_str().split('/').nth(at + 1).unwrap_or_default()
}

impl fmt::Display for WhyNot<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LessSpecificPath { segment, has, selected } => write!(
                f,
                "matches, but is less specific: segment {segment} is {has:?}, where the selected route has {selected:?}"
            ),
            Self::LessSpecificHost { has, selected } => {
                write!(
                    f,
                    "matches, but is less specific: it answers for {has}, the selected route for {selected}"
                )
            }
            Self::Path(difference) => difference.fmt(f),
            Self::Host(host) => write!(f, "answers for {host}"),
        }
    }
}

impl fmt::Display for Difference<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { segment, expected, found } => {
                write!(f, "the path differs at segment {segment}: {found:?} is not {expected:?}")
            }
            Self::Empty { segment } => {
                write!(f, "the path differs at segment {segment}: it is empty, and a {{name}} never is")
            }
            Self::Ends { segment, expected } => {
                write!(f, "the path ends before segment {segment}, which is {expected:?}")
            }
            Self::GoesOn { segment } => {
                write!(f, "the path goes on: the route ends before segment {segment}")
            }
            Self::NoPath => f.write_str("the target is no path"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config;

    /// Rules with these hosts and paths, and routes named by their numbers. Conflicts are left out.
    fn rules(routes: &[(&str, &str)]) -> Rules {
        let mut text = "[upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n".to_owned();
        for (number, (host, path)) in routes.iter().enumerate() {
            text.push_str(&format!("[[route]]\nname = \"r{number}\"\npath = \"{path}\"\nupstream = \"u\"\n"));
            if !host.is_empty() {
                text.push_str(&format!("host = \"{host}\"\n"));
            }
        }
        config::parse(&text, "test", &|_| None).unwrap()
    }

    fn told(rules: &Rules, authority: &str, path: &str) -> Vec<String> {
        let others = rules.others(authority, path);
        others.iter().map(|other| format!("{}: {}", other.route.name, other.why)).collect()
    }

    #[test]
    fn each_other_route_has_its_reason_and_the_nearest_comes_first() {
        let rules = rules(&[
            ("", "/{*rest}"),
            ("", "/api/products/{id}"),
            ("", "/api/products/new"),
            ("", "/api/{kind}/new"),
            ("", "/api/products/new/reviews"),
            ("", "/api/products"),
            ("", "/api/users/{id}"),
            ("*.example", "/api/{*rest}"),
            ("shop.example", "/images/{*file}"),
            ("other.example", "/api/products/new"),
        ]);
        assert_eq!(
            told(&rules, "Shop.test:8080", "/api/products/new"),
            [
                "r1: matches, but is less specific: segment 3 is \"{id}\", where the selected route has \"new\"",
                "r3: matches, but is less specific: segment 2 is \"{kind}\", where the selected route has \"products\"",
                "r0: matches, but is less specific: segment 1 is \"{*rest}\", where the selected route has \"api\"",
                "r4: the path ends before segment 4, which is \"reviews\"",
                "r5: the path goes on: the route ends before segment 3",
                "r6: the path differs at segment 2: \"products\" is not \"users\"",
                "r9: answers for other.example",
                "r7: answers for *.example",
                "r8: answers for shop.example",
            ]
        );
        assert_eq!(
            told(&rules, "shop.example.", "/api/products//"),
            [
                "r0: matches, but is less specific: it answers for any host, the selected route for *.example",
                "r1: the path differs at segment 3: it is empty, and a {name} never is",
                "r2: the path differs at segment 3: \"\" is not \"new\"",
                "r3: the path differs at segment 3: \"\" is not \"new\"",
                "r4: the path differs at segment 3: \"\" is not \"new\"",
                "r5: the path goes on: the route ends before segment 3",
                "r6: the path differs at segment 2: \"products\" is not \"users\"",
                "r8: the path differs at segment 1: \"api\" is not \"images\"",
                "r9: answers for other.example",
            ]
        );
    }

    #[test]
    fn no_route_at_all() {
        let rules = rules(&[("shop.example", "/a"), ("", "/b")]);
        assert_eq!(
            told(&rules, "other.example", "/c"),
            ["r1: the path differs at segment 1: \"c\" is not \"b\"", "r0: answers for shop.example"]
        );
    }

    proptest! {
        /// The comparison of every route and the tree of `select` say the same: a route is told to be less
        /// specific exactly where it matches, and where any matches, one is selected.
        #[test]
        fn it_agrees_with_selection(
            patterns in prop::collection::vec(("|a\\.x|\\*\\.x|b\\.a\\.x", "(/(a|b|N|)){1,3}(/\\{\\*r\\})?"), 1..10),
            requests in prop::collection::vec(("a\\.x|b\\.a\\.x|x|c\\.x:80", "(/(a|b|c|)){1,4}"), 1..10),
        ) {
            let mut seen = std::collections::HashSet::new();
            let mut kept: Vec<(String, String)> = Vec::new();
            for (host, path) in patterns {
                // Names differ by place, so that two patterns conflict exactly when they are equal.
                let named = path.split('N').enumerate().fold(String::new(), |text, (n, part)| {
                    if n == 0 { part.to_owned() } else { format!("{text}{{p{n}}}{part}") }
                });
                if seen.insert((host.clone(), named.clone())) {
                    kept.push((host, named));
                }
            }
            let pairs: Vec<(&str, &str)> = kept.iter().map(|(h, p)| (h.as_str(), p.as_str())).collect();
            let rules = rules(&pairs);
            for (authority, path) in &requests {
                let selected = rules.select(authority, path);
                let host = host_name(authority);
                let matches = |route: &Route| answers_for(&route.host, host) && difference(&route.path, path).is_none();
                prop_assert_eq!(selected.is_some(), rules.routes.iter().any(|route| matches(route)));
                prop_assert!(selected.is_none_or(|selected| matches(selected.route)));
                let others = rules.others(authority, path);
                prop_assert_eq!(others.len() + usize::from(selected.is_some()), rules.routes.len());
                for other in others {
                    let told = matches!(other.why, WhyNot::LessSpecificPath { .. } | WhyNot::LessSpecificHost { .. });
                    prop_assert_eq!(told, matches(other.route));
                    if let (WhyNot::LessSpecificPath { has, selected, .. }, true) = (&other.why, told) {
                        prop_assert_ne!(has, selected);
                    }
                }
            }
        }
    }
}
