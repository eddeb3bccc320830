//! Which route a request belongs to: a table of hosts, each with a tree of path segments.
//!
//! Decides: precedence. Never touches: what a route says. No allocation, no lock, no await: one hash
//! look-up per label of a wildcard host and per segment of the path, however many routes there are.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::matcher::{HostPattern, MAX_HOST, PathPattern, Segment};

/// Selects among routes, known here by their numbers.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    exact: Map<Tree>,
    suffix: Map<Tree>,
    any: Tree,
}

/// Two routes that match exactly the same requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The route that was there first.
    pub first: usize,
    /// The route that could never be selected.
    pub second: usize,
}

impl Matcher {
    /// Adds route number `route`.
    ///
    /// # Errors
    /// [`Conflict`] when a route with the same host matches the same paths; nothing is added then.
    pub fn insert(&mut self, route: usize, host: &HostPattern, path: &PathPattern) -> Result<(), Conflict> {
        let tree = match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(name) => self.exact.entry(name.as_bytes().into()).or_default(),
            HostPattern::Suffix(name) => self.suffix.entry(name.as_bytes().into()).or_default(),
        };
        tree.insert(route, path).map_err(|first| Conflict { first, second: route })
    }

    /// The number of the route that a request belongs to; see [`super::Rules::select`].
    #[must_use]
    pub fn find(&self, authority: &str, path: &str) -> Option<usize> {
        self.find_by_host(authority, path).or_else(|| self.any.find(path))
    }

    fn find_by_host(&self, authority: &str, path: &str) -> Option<usize> {
        if self.exact.is_empty() && self.suffix.is_empty() {
            return None;
        }
        // A name that is longer than any host name cannot be configured either.
        let mut buffer = [0_u8; MAX_HOST];
        let name = host_name(authority);
        let host = buffer.get_mut(..name.len())?;
        host.copy_from_slice(name.as_bytes());
        host.make_ascii_lowercase();
        let host: &[u8] = host;

        if let Some(route) = self.exact.get(host).and_then(|tree| tree.find(path)) {
            return Some(route);
        }
        if self.suffix.is_empty() {
            return None;
        }
        let mut rest = host;
        while let Some(dot) = memchr::memchr(b'.', rest) {
            rest = rest.get(dot + 1..)?;
            if let Some(route) = self.suffix.get(rest).and_then(|tree| tree.find(path)) {
                return Some(route);
            }
        }
        None
    }
}

/// An authority without its port and without the root's dot.
pub(super) fn host_name(authority: &str) -> &str {
    let name = match authority.rsplit_once(':') {
        // The last colon of `[::1]` is not a port's.
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    };
    name.strip_suffix('.').unwrap_or(name)
}

/// The paths of one host, as a tree of segments; node 0 is the root.
#[derive(Clone, Debug)]
struct Tree {
    nodes: Vec<Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    fixed: Map<usize>,
    name: Option<usize>,
    /// The route whose `{*rest}` begins here.
    rest: Option<usize>,
    /// The route whose path ends here.
    end: Option<usize>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()] }
    }
}

impl Tree {
    fn insert(&mut self, route: usize, path: &PathPattern) -> Result<(), usize> {
        let mut at = 0;
        for segment in path.segments() {
            let fresh = self.nodes.len();
            let Some(node) = self.nodes.get_mut(at) else { return Ok(()) };
            let next = match segment {
                Segment::Fixed(text) => *node.fixed.entry(text.as_bytes().into()).or_insert(fresh),
                Segment::Name(_) => *node.name.get_or_insert(fresh),
                Segment::Rest(_) => return claim(&mut node.rest, route),
            };
            if next == fresh {
                self.nodes.push(Node::default());
            }
            at = next;
        }
        self.nodes.get_mut(at).map_or(Ok(()), |node| claim(&mut node.end, route))
    }

    fn find(&self, path: &str) -> Option<usize> {
        match path.as_bytes() {
            [b'/', path @ ..] => self.descend(0, Some(path)),
            // OPTIONS * (RFC 9110 9.3.7) asks about the whole server: the route for everything.
            b"*" => self.nodes.first()?.rest,
            _ => None,
        }
    }

    /// Depth is bounded by the longest pattern, and each node is visited at most once.
    fn descend(&self, at: usize, path: Option<&[u8]>) -> Option<usize> {
        let node = self.nodes.get(at)?;
        let Some(path) = path else { return node.end };
        let (segment, after) = match memchr::memchr(b'/', path) {
            Some(slash) => (path.get(..slash)?, path.get(slash + 1..)),
            None => (path, None),
        };
        node.fixed
            .get(segment)
            .and_then(|&next| self.descend(next, after))
            .or_else(|| node.name.filter(|_| !segment.is_empty()).and_then(|next| self.descend(next, after)))
            .or(node.rest)
    }
}

fn claim(place: &mut Option<usize>, route: usize) -> Result<(), usize> {
    match *place {
        Some(first) => Err(first),
        None => {
            *place = Some(route);
            Ok(())
        }
    }
}

type Map<T> = HashMap<Box<[u8]>, T, BuildHasherDefault<ShortHasher>>;

/// xxh3 without a key: the names in these maps are the operator's, so that nobody outside can make
/// them collide.
#[derive(Default)]
struct ShortHasher(u64);

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    fn write_usize(&mut self, n: usize) {
        // The length that slices hash in front of their bytes.
        self.0 ^= n as u64;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matcher(routes: &[(&str, &str)]) -> Matcher {
        let mut matcher = Matcher::default();
        for (number, (host, path)) in routes.iter().enumerate() {
            let host = if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() };
            matcher.insert(number, &host, &PathPattern::parse(path).unwrap()).unwrap();
        }
        matcher
    }

    #[test]
    fn the_most_specific_path_wins_and_no_branch_is_a_dead_end() {
        let routes = [
            ("", "/"),                        // 0
            ("", "/{*rest}"),                 // 1
            ("", "/api/products"),            // 2
            ("", "/api/products/{id}"),       // 3
            ("", "/api/products/new"),        // 4
            ("", "/api/{kind}/{id}/reviews"), // 5
            ("", "/api/products/{id}/"),      // 6
            ("", "/images/{*file}"),          // 7
            ("", "/{lang}/about"),            // 8
        ];
        let matcher = matcher(&routes);
        for (path, route) in [
            ("/", 0),
            ("/x", 1),
            ("//", 1),
            ("/api", 1),
            ("/api/", 1),
            ("/api/products", 2),
            ("/api/products/7", 3),
            ("/api/products/new", 4),
            ("/api/products/news", 3),
            // The fixed branch "products/new" ends early: the wildcard beside it is tried.
            ("/api/products/new/reviews", 5),
            ("/api/products/7/reviews", 5),
            ("/api/users/7/reviews", 5),
            ("/api/products/7/", 6),
            // A {name} is never empty.
            ("/api/products/", 1),
            ("/api/products//reviews", 1),
            ("/images", 1),
            ("/images/", 7),
            ("/images/a/b.png", 7),
            ("/de/about", 8),
            ("/de/about/", 1),
            // Raw bytes: case, encoding and dots count.
            ("/API/products", 1),
            ("/api/%70roducts", 1),
            ("/images/../api/products", 7),
            ("*", 1),
        ] {
            assert_eq!(matcher.find("a", path), Some(route), "{path}");
        }
        assert_eq!(matcher.find("a", ""), None);
        assert_eq!(matcher.find("a", "api"), None);
    }

    #[test]
    fn the_most_specific_host_wins() {
        let routes = [
            ("", "/{*rest}"),               // 0
            ("shop.example", "/"),          // 1
            ("*.shop.example", "/{*rest}"), // 2
            ("*.example", "/{*rest}"),      // 3
            ("eu.shop.example", "/only"),   // 4
            ("[::1]", "/{*rest}"),          // 5
            ("", "/only/any/host"),         // 6
        ];
        let matcher = matcher(&routes);
        for (host, path, route) in [
            ("shop.example", "/", 1),
            ("SHOP.example:8080", "/", 1),
            ("shop.example.", "/", 1),
            ("shop.example.:443", "/", 1),
            // The exact host has no such path: the next best host answers.
            ("shop.example", "/x", 3),
            ("eu.shop.example", "/only", 4),
            ("eu.shop.example", "/x", 2),
            ("a.b.shop.example", "/x", 2),
            ("other.example", "/only/any/host", 3),
            ("example", "/x", 0),
            ("notshop.example", "/", 3),
            ("xshop.example.org", "/", 0),
            ("[::1]", "/", 5),
            ("[::1]:8080", "/", 5),
            ("", "/x", 0),
            (":80", "/x", 0),
            ("org", "/only/any/host", 6),
        ] {
            assert_eq!(matcher.find(host, path), Some(route), "{host} {path}");
        }
        let long = format!("{}shop.example", "a.".repeat(40_000));
        assert_eq!(matcher.find(&long, "/"), Some(0));
    }

    #[test]
    fn no_host_no_route() {
        let matcher = matcher(&[("shop.example", "/{*rest}")]);
        assert_eq!(matcher.find("other.example", "/"), None);
        assert_eq!(matcher.find("", "/"), None);
    }

    #[test]
    fn routes_that_match_the_same_requests_conflict() {
        for (first, second, same) in [
            (("", "/a"), ("", "/a"), true),
            (("", "/{a}"), ("", "/{b}"), true),
            (("", "/{*a}"), ("", "/{*b}"), true),
            (("Shop.example", "/a"), ("shop.example.", "/a"), true),
            (("", "/a"), ("", "/a/"), false),
            (("", "/{a}"), ("", "/{*a}"), false),
            (("", "/a"), ("shop.example", "/a"), false),
            (("*.example", "/a"), ("a.example", "/a"), false),
        ] {
            let mut matcher = Matcher::default();
            let mut insert = |number, (host, path): (&str, &str)| {
                let host = if host.is_empty() { HostPattern::Any } else { HostPattern::parse(host).unwrap() };
                matcher.insert(number, &host, &PathPattern::parse(path).unwrap())
            };
            insert(0, first).unwrap();
            let expected = if same { Err(Conflict { first: 0, second: 1 }) } else { Ok(()) };
            assert_eq!(insert(1, second), expected, "{first:?} {second:?}");
        }
    }

    /// Precedence by comparing every route with every path: slow, and plainly what the contract says.
    fn slow(routes: &[PathPattern], path: &str) -> Option<usize> {
        let inner = path.strip_prefix('/')?;
        let parts: Vec<&str> = inner.split('/').collect();
        let rank = |pattern: &PathPattern| {
            let mut ranks = Vec::new();
            for (at, segment) in pattern.segments().iter().enumerate() {
                match (segment, parts.get(at)) {
                    (Segment::Fixed(text), Some(part)) if text == part => ranks.push(0),
                    (Segment::Name(_), Some(part)) if !part.is_empty() => ranks.push(1),
                    (Segment::Rest(_), Some(_)) => {
                        ranks.push(2);
                        return Some(ranks);
                    }
                    _ => return None,
                }
            }
            (pattern.segments().len() == parts.len()).then_some(ranks)
        };
        let ranked = routes.iter().enumerate().filter_map(|(n, p)| Some((rank(p)?, n)));
        ranked.min().map(|(_, number)| number)
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_comparing_every_route(
            patterns in proptest::collection::vec("(/(a|b|N|)){1,4}(/\\{\\*r\\})?", 1..12),
            paths in proptest::collection::vec("(/(a|b|c|)){1,5}", 1..20),
        ) {
            let mut matcher = Matcher::default();
            let mut kept = Vec::new();
            for pattern in patterns {
                // Names differ by place: the same name twice in one pattern is an error of its own.
                let named = pattern.split('N').enumerate().fold(String::new(), |text, (n, part)| {
                    if n == 0 { part.to_owned() } else { format!("{text}{{p{n}}}{part}") }
                });
                let pattern = PathPattern::parse(&named).unwrap();
                if matcher.insert(kept.len(), &HostPattern::Any, &pattern).is_ok() {
                    kept.push(pattern);
                }
            }
            for path in paths {
                prop_assert_eq!(matcher.find("h", &path), slow(&kept, &path), "{} in {:?}", path, kept);
            }
        }
    }
}
