//! `forebay purge`: asks a running proxy to invalidate, for the whole fleet.
//!
//! Decides: what is asked for, and the exit code. Never touches: what a purge does. Prints what the
//! API answered, as it answered.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use super::PurgeArgs;
use super::admin_client::AdminClient;

/// Purges; the answer goes to standard output, why it is none to standard error.
#[must_use]
pub fn run(args: &PurgeArgs) -> ExitCode {
    let client = AdminClient { at: &args.admin, token: args.token.as_deref() };
    let told = match client.post("/purge", &body(args)) {
        Ok(told) => told,
        Err(wrong) => {
            eprintln!("forebay: {wrong}");
            return ExitCode::FAILURE;
        }
    };
    let wrong = match told.status.is_success() {
        true if is_obeyed(&told.text) => None,
        true => Some(format!(
            "http://{} answers, but is no admin listener: nothing was purged",
            args.admin.0.authority
        )),
        false => Some(told.refusal()),
    };
    // Whoever closed standard output does not want the answer; the exit code is one, too.
    let _ = io::stdout().lock().write_all(super::plain(&told.text).as_bytes());
    match wrong {
        None => ExitCode::SUCCESS,
        Some(wrong) => {
            eprintln!("forebay: {wrong}");
            ExitCode::FAILURE
        }
    }
}

/// Whether this is what the purge API says when it has purged. Others say 200 to a POST as well: an origin,
/// through the public listener.
fn is_obeyed(text: &str) -> bool {
    let said: Value = serde_json::from_str(text).unwrap_or_default();
    said["scope"].is_string() && said["matched"].is_u64()
}

/// What the API is sent.
fn body(args: &PurgeArgs) -> Value {
    let mut body = serde_json::Map::new();
    for (name, list) in
        [("urls", &args.urls), ("tags", &args.tags), ("prefixes", &args.prefixes), ("hosts", &args.hosts)]
    {
        if !list.is_empty() {
            body.insert(name.to_owned(), json!(list));
        }
    }
    if args.all {
        body.insert("all".to_owned(), json!(true));
    }
    if let Some(mode) =
        [(args.hard, "hard"), (args.soft, "soft")].iter().find_map(|(is, mode)| is.then_some(mode))
    {
        body.insert("mode".to_owned(), json!(mode));
    }
    Value::Object(body)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn who_answers_a_purge() {
        assert!(is_obeyed(r#"{"matched":0,"scope":"fleet","sequence":7}"#));
        for text in ["hello /purge", "", "{}", r#"{"matched":1}"#, r#"{"scope":"fleet","matched":"1"}"#, "[]"]
        {
            assert!(!is_obeyed(text), "{text}");
        }
    }

    #[test]
    fn what_is_asked_for() {
        for (line, sent) in [
            ("--tag a --tag b --hard", json!({"tags": ["a", "b"], "mode": "hard"})),
            (
                "--url http://a/ --prefix /b/ --host c",
                json!({"urls": ["http://a/"], "prefixes": ["/b/"], "hosts": ["c"]}),
            ),
            ("--all --soft", json!({"all": true, "mode": "soft"})),
            ("--tag -x", json!({"tags": ["-x"]})),
        ] {
            let line = format!("forebay purge --admin http://127.0.0.1:9090 {line}");
            let Command::Purge(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
                panic!("purge")
            };
            assert_eq!(body(&args), sent, "{line}");
        }
        for line in ["", "--hard", "--tag a --hard --soft", "--all=yes"] {
            let line = format!("forebay purge --admin http://127.0.0.1:9090 {line}");
            let refused = Cli::try_parse_from(line.split_whitespace()).unwrap_err();
            assert_eq!(refused.exit_code(), 2, "{line}");
        }
    }
}
