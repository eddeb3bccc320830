//! The architecture as a test: imports point down only, clocks are read in one place, and no command
//! that walks or empties a whole Redis database is ever sent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops where it is")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Which modules each module may name, besides itself. What is not here does not exist, so that a new
/// module is a decision and not an accident.
///
/// `main, cli -> server -> admin -> proxy -> store, collapse, upstream, observe` (those four never each
/// other), `config -> rules -> caching -> semantics`, and `wire` on semantics alone. A module may name
/// everything below it. `clock` and `boxed` may be named by whoever has effects, never by the pure core.
const MAY_NAME: &[(&str, &[&str])] = &[
    ("semantics", &[]),
    ("clock", &["semantics"]),
    ("boxed", &[]),
    ("wire", &["semantics"]),
    ("caching", &["semantics"]),
    ("rules", &["caching", "semantics"]),
    ("config", &["rules", "caching", "semantics"]),
    ("store", &["rules", "config", "caching", "semantics", "clock", "boxed"]),
    ("collapse", &["rules", "config", "caching", "semantics", "clock"]),
    ("upstream", &["wire", "rules", "config", "caching", "semantics", "clock", "boxed"]),
    ("observe", &["rules", "config", "caching", "semantics", "clock"]),
    (
        "proxy",
        &[
            "store",
            "collapse",
            "upstream",
            "observe",
            "wire",
            "config",
            "rules",
            "caching",
            "semantics",
            "clock",
            "boxed",
        ],
    ),
    (
        "admin",
        &[
            "proxy",
            "store",
            "collapse",
            "upstream",
            "observe",
            "wire",
            "config",
            "rules",
            "caching",
            "semantics",
            "clock",
            "boxed",
        ],
    ),
    (
        "server",
        &[
            "admin",
            "proxy",
            "store",
            "collapse",
            "upstream",
            "observe",
            "wire",
            "config",
            "rules",
            "caching",
            "semantics",
            "clock",
            "boxed",
        ],
    ),
    // The demo's shop is an origin like any other: it knows nothing of the proxy before it.
    ("demo", &["semantics", "clock"]),
    (
        "cli",
        &[
            "demo",
            "server",
            "admin",
            "proxy",
            "store",
            "collapse",
            "upstream",
            "observe",
            "wire",
            "config",
            "rules",
            "caching",
            "semantics",
            "clock",
            "boxed",
        ],
    ),
    (
        "main",
        &[
            "cli",
            "demo",
            "server",
            "admin",
            "proxy",
            "store",
            "collapse",
            "upstream",
            "observe",
            "wire",
            "config",
            "rules",
            "caching",
            "semantics",
            "clock",
            "boxed",
        ],
    ),
];

/// Every source file with its text, comments taken out.
fn sources() -> Vec<(PathBuf, String)> {
    fn walk(directory: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !is_tests(&path) {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path, without_comments(&text)));
            }
        }
    }
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 10, "the sources are where they were");
    found
}

/// Files that hold tests and nothing else.
fn is_tests(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == "tests.rs" || name == "testing.rs")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The text without line comments (and so without documentation). A `//` in a string goes too, which
/// can only hide an address.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// The text before its unit tests, which may borrow from anywhere.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]\nmod ").next().unwrap_or_default()
}

/// The module that a file belongs to: the first part of its path below `src`.
fn module_of(path: &Path) -> String {
    let below = path.strip_prefix(root()).unwrap();
    let first = below.components().next().unwrap().as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a text names after `crate::` or `forebay::`, also in braces.
fn named(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for root in ["crate::", "forebay::"] {
        for (at, _) in text.match_indices(root) {
            let before = text[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &text[at + root.len()..];
            if let Some(list) = rest.strip_prefix('{') {
                for part in top_level(list) {
                    names.insert(identifier(part));
                }
            } else {
                names.insert(identifier(rest));
            }
        }
    }
    names.remove("");
    names
}

/// The comma-separated members of a use list, up to its closing brace.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                parts.push(&list[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts
}

fn identifier(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_point_down_only() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module_of(&path);
        if module == "lib" {
            continue;
        }
        let Some(may) = allowed.get(module.as_str()) else {
            wrong.push(format!("{} belongs to no known module", path.display()));
            continue;
        };
        for name in named(without_tests(&text)) {
            // What begins with a capital or is a macro lives in the crate root.
            let is_module = allowed.contains_key(name.as_str()) || root().join(&name).is_dir();
            if is_module && name != module && !may.contains(&name.as_str()) {
                wrong.push(format!("{}: `{module}` may not name `{name}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_itself_has_no_cycle_and_siblings_stay_apart() {
    let allowed: BTreeMap<&str, &[&str]> = MAY_NAME.iter().copied().collect();
    for (module, may) in &allowed {
        for below in *may {
            assert!(!allowed[below].contains(module), "{module} and {below} name each other");
            for further in allowed[below] {
                assert!(may.contains(further), "{module} stands above {below} but not above {further}");
            }
        }
    }
    for siblings in
        [["store", "collapse"], ["store", "upstream"], ["collapse", "observe"], ["upstream", "observe"]]
    {
        assert!(!allowed[siblings[0]].contains(&siblings[1]) && !allowed[siblings[1]].contains(&siblings[0]));
    }
}

#[test]
fn only_the_clock_reads_clocks() {
    for (path, text) in sources() {
        if module_of(&path) == "clock" {
            continue;
        }
        for reading in ["Instant::now", "SystemTime::now", "UNIX_EPOCH.elapsed"] {
            assert!(!text.contains(reading), "{} reads a clock: {reading}", path.display());
        }
        let module = module_of(&path);
        if matches!(module.as_str(), "semantics" | "caching" | "rules" | "config") {
            assert!(
                !without_tests(&text).contains("clock::"),
                "{}: time is an argument here",
                path.display()
            );
        }
    }
}

#[test]
fn no_command_walks_or_empties_a_database() {
    for (path, text) in sources() {
        let text = without_tests(&text).to_ascii_lowercase();
        let in_store = module_of(&path) == "store";
        // Nobody may name these; `scan` and `keys` are ordinary words outside the store.
        let everywhere = ["flushdb", "flushall", "swapdb", "randomkey"].as_slice();
        let commands = if in_store { &[everywhere, &["scan", "keys"]].concat() } else { everywhere };
        for command in commands {
            // As a command's name in a literal, alone or with arguments, or in a script.
            for literal in [format!("\"{command}\""), format!("\"{command} "), format!("'{command}'")] {
                assert!(!text.contains(&literal), "{}: {literal}", path.display());
            }
            // As a call of the client library; `keys()` is what every map has.
            if in_store && *command != "keys" {
                for call in [format!(".{command}("), format!(".{command}_cluster(")] {
                    assert!(!text.contains(&call), "{}: {call}", path.display());
                }
            }
        }
        assert!(in_store || !text.contains("fred::"), "{}: fred stays behind the store", path.display());
    }
}

#[test]
fn the_reader_of_imports_reads_them() {
    let text = "use crate::caching::{self, key::X};\nuse crate::{store::A, upstream::{b, c}, proxy};\nlet x = crate::clock::wall();\n\
                pub(in crate::rules) fn f() {}\nother_crate::admin::x();";
    let names: Vec<_> = named(text).into_iter().collect();
    assert_eq!(names, ["caching", "clock", "proxy", "rules", "store", "upstream"]);
    assert_eq!(without_comments("a // crate::b\n/// crate::c\nd"), "a \n\nd");
}
