//! What the project's documents say, held against the project: clause tables, the README's table of
//! reasons, the example configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use forebay::caching::outcome::Reason;
use forebay::config;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a directory, with its text.
fn sources(directory: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut left = vec![root().join(directory)];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("UTF-8");
                found.push((path, text));
            }
        }
    }
    found.sort();
    found
}

/// One row of a clause table.
struct Row {
    file: PathBuf,
    clause: String,
    function: String,
    test: String,
}

/// The rows of every table in module documentation that begins with `clause | function | test`.
fn clause_tables(sources: &[(PathBuf, String)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (file, text) in sources {
        let mut inside = false;
        for line in text.lines() {
            let Some(cells) = line.strip_prefix("//! |").and_then(|line| line.trim_end().strip_suffix('|'))
            else {
                inside = false;
                continue;
            };
            let cells: Vec<&str> = cells.split('|').map(str::trim).collect();
            match cells[..] {
                ["clause", "function", "test"] => inside = true,
                ["---", "---", "---"] => {}
                [clause, function, test] if inside => rows.push(Row {
                    file: file.clone(),
                    clause: clause.to_owned(),
                    function: function.to_owned(),
                    test: test.to_owned(),
                }),
                _ => assert!(!inside, "{}: a row of {} cells: {line}", file.display(), cells.len()),
            }
        }
    }
    rows
}

/// What stands between backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// Names of functions marked as tests, doc comments and other attributes between allowed; and of those
/// that a macro makes a test of on either tier.
fn tests(sources: &[(PathBuf, String)]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sources {
        let mut marked = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                marked = true;
            } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
                if marked || rest.ends_with("(tiers: Tiers) {") {
                    names.extend(rest.split('(').next().map(str::to_owned));
                }
                marked = false;
            }
        }
    }
    names
}

#[test]
fn every_test_of_the_clause_tables_exists() {
    let source = sources("src");
    let mut known = tests(&source);
    known.extend(tests(&sources("tests")));
    let rows = clause_tables(&source);
    assert!(rows.len() > 200, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let at = format!("{}: {}", row.file.strip_prefix(root()).unwrap().display(), row.clause);
        for test in quoted(&row.test).filter(|name| !known.contains(*name)) {
            wrong.push(format!("{at}: no test is called {test}"));
        }
        let argued = row.test.strip_prefix("n/a: ").is_some_and(|why| why.len() > 10);
        if !argued && quoted(&row.test).next().is_none() {
            wrong.push(format!("{at}: neither a test nor \"n/a: why\""));
        }
        if row.function.is_empty() && !argued {
            wrong.push(format!("{at}: no function, and no \"n/a: why\""));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every section of RFC 9111 that has normative statements has rows, in the order of the document.
#[test]
fn the_table_of_rfc_9111_is_complete_in_its_sections() {
    let caching = vec![(
        root().join("src/caching/mod.rs"),
        fs::read_to_string(root().join("src/caching/mod.rs")).unwrap(),
    )];
    let number = |clause: &str| -> Vec<u32> {
        let section = clause.split([':', ' ']).next().unwrap_or_default();
        section.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    let rows = clause_tables(&caching);
    let sections: Vec<Vec<u32>> =
        rows.iter().map(|row| number(&row.clause)).filter(|n| !n.is_empty()).collect();
    assert!(sections.is_sorted(), "sections are out of order");
    for section in [
        "1.2.2", "2", "3", "3.1", "3.2", "3.3", "3.4", "3.5", "4", "4.1", "4.2", "4.2.1", "4.2.2", "4.2.3",
        "4.2.4", "4.3.1", "4.3.2", "4.3.3", "4.3.4", "4.3.5", "4.4", "5.1", "5.2", "5.2.1", "5.2.1.1",
        "5.2.1.2", "5.2.1.3", "5.2.1.4", "5.2.1.5", "5.2.1.6", "5.2.1.7", "5.2.2", "5.2.2.1", "5.2.2.2",
        "5.2.2.3", "5.2.2.4", "5.2.2.5", "5.2.2.6", "5.2.2.7", "5.2.2.8", "5.2.2.9", "5.2.2.10", "5.2.3",
        "5.3", "5.4", "5.5", "6", "7.1", "7.2", "7.3",
    ] {
        assert!(sections.contains(&number(section)), "no row for {section}");
    }
}

/// The file of a module, by its path from the crate's root.
fn module_file(path: &[&str]) -> Option<PathBuf> {
    let base = path.iter().fold(root().join("src"), |base, part| base.join(part));
    let candidates = [base.join("mod.rs"), base.with_extension("rs")];
    let lib = path.is_empty().then(|| root().join("src/lib.rs"));
    lib.into_iter().chain(candidates).find(|file| file.is_file())
}

/// The path of a module from the crate's root, by its file.
fn module_of(file: &Path) -> Vec<String> {
    let relative = file.strip_prefix(root().join("src")).expect("below src").with_extension("");
    let parts = relative.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// Whether `text` defines an item, a variant or a field of this name.
fn defines(text: &str, name: &str) -> bool {
    let item = ["fn ", "struct ", "enum ", "trait ", "const ", "static ", "type ", "mod "];
    text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")).any(|line| {
        let line = line
            .strip_prefix("pub ")
            .or_else(|| {
                line.split_once(") ")
                    .and_then(|(visibility, rest)| visibility.starts_with("pub(").then_some(rest))
            })
            .unwrap_or(line);
        let line =
            line.strip_prefix("const fn ").map_or_else(|| line.to_owned(), |rest| format!("fn {rest}"));
        let begins = |start: &str| {
            line.strip_prefix(start)
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '_'))
        };
        item.iter().any(|kind| begins(kind)) || begins("")
    })
}

#[test]
fn every_function_of_the_clause_tables_exists() {
    let source = sources("src");
    let mut wrong = Vec::new();
    for row in clause_tables(&source) {
        let own = module_of(&row.file);
        for link in quoted(&row.function) {
            let mut parts: Vec<&str> = link.trim_end_matches("()").split("::").collect();
            // From the crate's root, or from the module whose documentation it stands in.
            let mut path: Vec<&str> = if parts.first() == Some(&"crate") {
                parts.remove(0);
                Vec::new()
            } else {
                own.iter().map(String::as_str).collect()
            };
            while let Some(next) = parts.first() {
                let deeper: Vec<&str> = path.iter().copied().chain([*next]).collect();
                if module_file(&deeper).is_none() {
                    break;
                }
                path = deeper;
                parts.remove(0);
            }
            let text = module_file(&path).map(|file| fs::read_to_string(file).unwrap()).unwrap_or_default();
            // A member may be implemented in another file than its type.
            let implemented = |name: &str| {
                parts.first().is_some_and(|kind| {
                    let block = format!("impl {kind} {{");
                    source.iter().any(|(_, text)| text.contains(&block) && defines(text, name))
                })
            };
            for missing in parts.iter().filter(|name| !defines(&text, name) && !implemented(name)) {
                let file = row.file.strip_prefix(root()).unwrap().display();
                wrong.push(format!("{file}: {}: [`{link}`]: there is no {missing}", row.clause));
            }
        }
        let links = row.function.matches("[`").count();
        if links != quoted(&row.function).count() {
            wrong.push(format!("{}: {}: a function that is no link", row.file.display(), row.clause));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Text as it stands in a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}

#[test]
fn the_readme_tells_every_reason_in_its_own_words() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let told: BTreeMap<&str, &str> = readme
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| <a id=\"").and_then(|rest| Some((rest.split('"').next()?, line)))
        })
        .collect();
    let mut wrong = Vec::new();
    for reason in Reason::ALL {
        let code = reason.code();
        let rule = if reason.rfc().is_empty() { "forebay" } else { reason.rfc() };
        let row = format!(
            "| <a id=\"{code}\"></a>`{code}` | {} | {} | {rule} |",
            cell(reason.title()),
            cell(reason.fix())
        );
        match told.get(code) {
            Some(line) if *line == row => {}
            Some(line) => wrong.push(format!("{line}\n  should be\n{row}")),
            None => wrong.push(format!("there is no\n{row}")),
        }
    }
    let codes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
    wrong.extend(
        told.keys().filter(|code| !codes.contains(*code)).map(|code| format!("no reason is called {code}")),
    );
    assert!(wrong.is_empty(), "README.md:\n{}", wrong.join("\n"));
    // The order of the list is the order of the table.
    let order: Vec<usize> = Reason::ALL
        .iter()
        .filter_map(|reason| readme.find(&format!("<a id=\"{}\">", reason.code())))
        .collect();
    assert!(order.is_sorted(), "README.md: the reasons are not in the order of the list");
}

/// Reasons that no test from outside can bring about, and why.
const NOT_FROM_OUTSIDE: &[(Reason, &str)] = &[(Reason::Internal, "takes a defect of the proxy itself")];

#[test]
fn every_reason_has_a_black_box_test_that_names_it() {
    let tests: String = sources("tests/blackbox").into_iter().map(|(_, text)| text).collect();
    for reason in Reason::ALL {
        let code = reason.code();
        // As a whole string, or at the end of one: `detail=` and the like.
        let named = tests.contains(&format!("\"{code}\"")) || tests.contains(&format!("={code}\""));
        match NOT_FROM_OUTSIDE.iter().find(|(exempt, _)| exempt == reason) {
            Some((_, why)) => assert!(!named, "{code} {why}, and yet a test names it"),
            None => assert!(named, "no test of tests/blackbox names {code}"),
        }
    }
}

#[test]
fn links_inside_the_readme_lead_somewhere() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let headings: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix('#').map(|rest| rest.trim_start_matches('#').trim()))
        .map(|heading| {
            let kept = heading.to_lowercase().replace(' ', "-");
            kept.chars().filter(|letter| letter.is_alphanumeric() || *letter == '-').collect()
        })
        .collect();
    for link in readme.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        if let Some(anchor) = link.strip_prefix('#') {
            let there = headings.contains(anchor) || readme.contains(&format!("<a id=\"{anchor}\">"));
            assert!(there, "README.md: {link} leads nowhere");
        } else if !link.contains("://") {
            assert!(root().join(link).exists(), "README.md: {link} does not exist");
        }
    }
}

#[test]
fn the_example_configuration_loads() {
    let path = root().join("proxy.example.toml");
    let rules = config::load(&path, &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(rules.warnings.is_empty(), "{:?}", rules.warnings);
    assert!(!rules.routes.is_empty());
}
