//! Files: loading one, and keeping the last good rules when a later version is refused.
//!
//! Decides: what is in force. Never touches: tiers, connections or requests under way: a request
//! keeps the rules it began with, by holding its `Arc`.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Env, Problems, parse};
use crate::rules::Rules;

/// Larger files are no configuration: ten thousand routes take a tenth of this.
const MAX_FILE: u64 = 16 << 20;

/// Loads a configuration file.
///
/// # Errors
/// Everything that is wrong with it, or why it cannot be read.
pub fn load(path: &Path, env: Env<'_>) -> Result<Rules, Problems> {
    let file = path.display().to_string();
    let refused = |message: String| Problems::of_file(&file, message);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|open| open.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(|error| refused(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(refused("is larger than 16MiB: not a configuration".to_owned()));
    }
    match String::from_utf8(bytes) {
        Ok(text) => parse(&text, &file, env),
        Err(error) => {
            Err(refused(format!("is not UTF-8, from byte {} on", error.utf8_error().valid_up_to())))
        }
    }
}

/// The rules in force, replaced as a whole and only by good ones.
#[derive(Debug)]
pub struct Live {
    path: Option<PathBuf>,
    rules: ArcSwap<Rules>,
}

impl Live {
    /// Rules and the file they came from, if they came from one.
    #[must_use]
    pub fn new(rules: Rules, path: Option<PathBuf>) -> Self {
        Self { path, rules: ArcSwap::from_pointee(rules) }
    }

    /// The rules in force now; whoever holds them keeps them.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// Loads the file again and, if it is good, puts it in force. Answers the tables whose changes a
    /// running process cannot follow; these keep the values they started with.
    ///
    /// # Errors
    /// What is wrong with the file; the rules in force stay.
    pub fn reload(&self, env: Env<'_>) -> Result<Vec<&'static str>, Problems> {
        let Some(path) = &self.path else {
            return Err(Problems::of_file(
                "forebay",
                "was not started from a file: there is nothing to reload".to_owned(),
            ));
        };
        let mut next = load(path, env)?;
        let now = self.rules.load();
        let ignored = now.needs_restart(&next);
        next.keep_process_settings(&now);
        self.rules.store(Arc::new(next));
        Ok(ignored)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const GOOD: &str = "[upstream.shop]\nservers = [\"http://127.0.0.1:9000\"]\n[[route]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\n";

    #[test]
    fn the_last_good_rules_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("proxy.toml");
        fs::write(&path, GOOD).unwrap();
        let env: Env<'_> = &|_| None;
        let live = Live::new(load(&path, env).unwrap(), Some(path.clone()));
        let before = live.rules();
        assert_eq!(before.routes[0].policy.ttl, None);

        fs::write(&path, format!("{GOOD}tttl = \"5s\"\n")).unwrap();
        let problems = live.reload(env).unwrap_err().to_string();
        assert_eq!(problems, format!("{}:7: route.tttl: unknown key; did you mean \"ttl\"?", path.display()));
        assert!(Arc::ptr_eq(&before, &live.rules()));

        fs::write(&path, format!("server.workers = 3\n{GOOD}ttl = \"5s\"\n")).unwrap();
        assert_eq!(live.reload(env).unwrap(), ["[server]"]);
        assert_eq!(live.rules().routes[0].policy.ttl, Some(5_000));
        assert_eq!(live.rules().server.workers, 0, "what a process cannot change stays as it started");
        assert_eq!(before.routes[0].policy.ttl, None, "a request under way keeps its rules");
    }

    #[test]
    fn files_that_are_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        let env: Env<'_> = &|_| None;
        let path = dir.path().join("absent.toml");
        let error = load(&path, env).unwrap_err().to_string();
        assert_eq!(
            error,
            format!("{}: cannot be read: No such file or directory (os error 2)", path.display())
        );

        let path = dir.path().join("binary.toml");
        fs::write(&path, b"a = \"\xff\"").unwrap();
        let error = load(&path, env).unwrap_err().to_string();
        assert_eq!(error, format!("{}: is not UTF-8, from byte 5 on", path.display()));

        let path = dir.path().join("huge.toml");
        File::create(&path).unwrap().set_len(MAX_FILE + 1).unwrap();
        let error = load(&path, env).unwrap_err().to_string();
        assert_eq!(error, format!("{}: is larger than 16MiB: not a configuration", path.display()));
    }

    #[test]
    fn rules_without_a_file_are_not_reloaded() {
        let env: Env<'_> = &|_| None;
        let live = Live::new(parse(GOOD, "demo", env).unwrap(), None);
        assert_eq!(
            live.reload(env).unwrap_err().to_string(),
            "forebay: was not started from a file: there is nothing to reload"
        );
    }
}
