//! `forebay check`: loads everything `run` would load and prints every problem.
//!
//! Decides: the report and the exit code. Never touches: listeners, origins or Redis; a
//! configuration is right or wrong whether or not they are up.

use std::io::{self, Write};
use std::process::ExitCode;

use super::CheckArgs;
use crate::config::{self, Env};
use crate::rules::Rules;
use crate::store::redis::Authorities;

/// Checks a configuration; the report goes to standard output.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    match report(args, &config::process_env, &load_authorities, &mut io::stdout().lock()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) | Err(_) => ExitCode::FAILURE,
    }
}

/// Whether the configuration is good. Fails only where the report cannot be written.
fn report(
    args: &CheckArgs,
    env: Env<'_>,
    authorities: &dyn Fn() -> SystemAuthorities,
    out: &mut dyn Write,
) -> io::Result<bool> {
    let rules = match config::load(&args.config, env) {
        Ok(rules) => rules,
        Err(problems) => {
            writeln!(out, "{problems}")?;
            return Ok(false);
        }
    };
    for warning in &rules.warnings {
        writeln!(out, "{warning}")?;
    }
    if let Some(upstream) = rules.upstreams.iter().find(|u| u.servers.iter().any(|s| s.tls)) {
        let file = args.config.display();
        let found = authorities();
        if found.certificates == 0 {
            writeln!(
                out,
                "{file}: upstream.{}: no certificate authority of this system could be loaded, so that https:// cannot be verified",
                upstream.name
            )?;
            for error in found.errors {
                writeln!(out, "{file}: upstream.{}: {error}", upstream.name)?;
            }
            return Ok(false);
        }
        for error in found.errors {
            writeln!(out, "{file}: warning: upstream.{}: {error}", upstream.name)?;
        }
    }
    if let Some(redis) = rules.redis.as_ref().filter(|redis| redis.server.tls()) {
        let file = args.config.display();
        match &redis.ca {
            Some(ca) => {
                if let Err(error) = Authorities::of_file(ca) {
                    writeln!(out, "{file}: redis.ca: {error}")?;
                    return Ok(false);
                }
            }
            None if authorities().certificates == 0 => {
                writeln!(
                    out,
                    "{file}: redis.url: no certificate authority of this system could be loaded, so that the server cannot be verified; redis.ca names a file of one"
                )?;
                return Ok(false);
            }
            None => {}
        }
    }
    writeln!(out, "{}", summary(&rules))?;
    Ok(true)
}

fn summary(rules: &Rules) -> String {
    let count = |n: usize, noun: &str| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") };
    let listen: Vec<String> = rules.server.listen.iter().map(ToString::to_string).collect();
    let admin = rules.admin.as_ref().map_or_else(|| "off".to_owned(), |admin| admin.listen.to_string());
    format!(
        "ok: {}, {}; {}; listening on {}, admin {admin}",
        count(rules.routes.len(), "route"),
        count(rules.upstreams.len(), "upstream"),
        rules.tiers_summary(),
        listen.join(", "),
    )
}

/// What this system trusts.
struct SystemAuthorities {
    certificates: usize,
    errors: Vec<String>,
}

fn load_authorities() -> SystemAuthorities {
    let loaded = rustls_native_certs::load_native_certs();
    SystemAuthorities {
        certificates: loaded.certs.len(),
        errors: loaded.errors.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The verdict, and the report without the directory.
    fn check(text: &str, certificates: usize, errors: &[&str]) -> (bool, String) {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("proxy.toml");
        fs::write(&config, text).unwrap();
        let errors: Vec<String> = errors.iter().map(|e| (*e).to_owned()).collect();
        let authorities = || SystemAuthorities { certificates, errors: errors.clone() };
        let mut out = Vec::new();
        let good = report(&CheckArgs { config }, &|_| None, &authorities, &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        (good, out.replace(&format!("{}/", dir.path().display()), ""))
    }

    fn with_server(server: &str) -> String {
        format!(
            "[upstream.shop]\nservers = [\"{server}\"]\n[[route]]\nname = \"all\"\npath = \"/{{*rest}}\"\nupstream = \"shop\"\n"
        )
    }

    #[test]
    fn a_good_configuration() {
        let (good, out) = check(&with_server("http://127.0.0.1:9000"), 0, &[]);
        assert!(good);
        assert_eq!(
            out,
            "ok: 1 route, 1 upstream; memory 256MiB (objects up to 1MiB); redis not configured; \
             listening on 127.0.0.1:8080, admin 127.0.0.1:9090\n"
        );
    }

    #[test]
    fn warnings_are_no_failure() {
        let text = with_server("http://127.0.0.1:9000") + "cache = false\nttl = \"5s\"\n";
        let (good, out) = check(&text, 0, &[]);
        assert!(good);
        let first = out.lines().next().unwrap();
        assert_eq!(first, "proxy.toml:8: warning: route.ttl: has no effect: this route says cache = false");
    }

    #[test]
    fn every_problem_is_printed() {
        let text = with_server("ftp://x") + "tttl = \"5s\"\nkeep = 5\n";
        let (good, out) = check(&text, 0, &[]);
        assert!(!good);
        assert_eq!(
            out,
            "proxy.toml:2: upstream.shop.servers: ftp:// is not spoken to origins; use http:// or https://\n\
             proxy.toml:7: route.tttl: unknown key; did you mean \"ttl\"?\n\
             proxy.toml:8: route.keep: expected a duration, found the integer 5; did you mean \"5s\"?\n"
        );
    }

    #[test]
    fn redis_over_tls_needs_authorities() {
        let text = with_server("http://127.0.0.1:9000") + "[redis]\nurl = \"rediss-cluster://a\"\n";
        let (good, out) = check(&text, 0, &[]);
        assert!(!good);
        assert_eq!(
            out,
            "proxy.toml: redis.url: no certificate authority of this system could be loaded, so that the server \
             cannot be verified; redis.ca names a file of one\n"
        );
        let (good, out) = check(&text, 1, &[]);
        assert!(good && out.contains("redis rediss-cluster://a:6379 prefix"), "{out}");
        let (good, out) = check(&(text + "ca = \"/nowhere/ca.pem\"\n"), 1, &[]);
        assert!(!good);
        assert!(out.starts_with("proxy.toml: redis.ca: /nowhere/ca.pem cannot be read: "), "{out}");
        let plain = with_server("http://127.0.0.1:9000") + "[redis]\nurl = \"redis://a\"\n";
        assert!(check(&plain, 0, &[]).0);
    }

    #[test]
    fn https_needs_authorities() {
        let text = with_server("https://shop.example");
        let (good, out) = check(&text, 0, &["cannot read /etc/ssl"]);
        assert!(!good);
        assert_eq!(
            out,
            "proxy.toml: upstream.shop: no certificate authority of this system could be loaded, so that https:// cannot be verified\n\
             proxy.toml: upstream.shop: cannot read /etc/ssl\n"
        );
        let (good, out) = check(&text, 3, &["one bad file"]);
        assert!(good);
        assert!(out.starts_with("proxy.toml: warning: upstream.shop: one bad file\nok: "), "{out}");
        let (good, out) = check(&with_server("http://shop.example"), 0, &["not asked"]);
        assert!(good && out.starts_with("ok: "), "{out}");
    }
}
