//! The command line: what forebay can be asked to do, with an example for each.
//!
//! Decides: names, arguments and exit codes of commands. Never touches: what a command does; each
//! has a module of its own.

mod admin_client;
pub mod check;
mod client;
pub mod demo;
pub mod explain;
pub mod purge;
pub mod run;
pub mod warm;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand};
use http::Method;

pub use self::client::Listener;

use crate::observe::access_log::Format;

/// How every command ends.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or there are problems; what is wrong has been said
  2  the command line itself was not understood";

/// Examples of `purge`.
const PURGE_HELP: &str = "\
Examples:
  forebay purge --admin http://127.0.0.1:9090 --tag product:7 --tag lists
  forebay purge --admin http://127.0.0.1:9090 --url http://shop.example/api/products/7
  forebay purge --admin http://127.0.0.1:9090 --prefix /blog/ --hard

Exit codes:
  0  done: every proxy that is connected obeys
  1  refused, or the fleet could not be told; what is wrong has been said
  2  the command line itself was not understood";

/// Examples of `warm`.
const WARM_HELP: &str = "\
Examples:
  forebay warm --proxy http://127.0.0.1:8080 --file urls.txt
  forebay warm --proxy http://127.0.0.1:8080 --sitemap http://shop.example/sitemap.xml --concurrency 16

Exit codes:
  0  every page was answered
  1  some failed, or none was named; which and why has been said
  2  the command line itself was not understood";

/// Examples of `explain`.
const EXPLAIN_EXAMPLES: &str = "\
Examples:
  forebay explain --config proxy.toml http://shop.example/products/7
  forebay explain --config proxy.toml -H 'Cookie: sid=1' -H 'Accept-Encoding: gzip' http://shop.example/
  forebay explain --config proxy.toml --response 'HTTP/1.1 200 OK\\nCache-Control: max-age=60' http://shop.example/
  forebay explain --config proxy.toml --response @head.txt http://shop.example/
  curl -si http://127.0.0.1:9000/products/7 | forebay explain --config proxy.toml --response - http://shop.example/products/7
  forebay explain --admin http://127.0.0.1:9090 http://shop.example/products/7";

/// The command line, parsed.
#[derive(Debug, Parser)]
#[command(
    name = "forebay",
    version,
    about = "A caching reverse proxy that shares what it fetched with its whole fleet through Redis",
    after_help = EXIT_CODES,
    arg_required_else_help = true,
    disable_help_subcommand = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the proxy
    #[command(
        long_about = "Run the proxy.\n\nIt starts with Redis or an origin down, and says in one log line each which tiers and \
                      listeners it has. SIGHUP loads the configuration again, SIGTERM and SIGINT drain and end it. \
                      FOREBAY_LOG (error, warn, info, debug) chooses what is said on standard error.",
        after_help = "Example:\n  forebay run --config proxy.toml"
    )]
    Run(RunArgs),
    /// Check a configuration and print everything wrong with it
    #[command(
        long_about = "Check a configuration and print everything wrong with it.\n\nLoads everything that `run` would load \
                      and prints each problem with its file, line, key and the nearest valid name. Warnings alone are no \
                      failure: the exit code is 1 when there is an error, else 0.",
        after_help = "Example:\n  forebay check --config proxy.toml"
    )]
    Check(CheckArgs),
    /// Explain what would happen to a request, and to a response to it
    #[command(
        long_about = "Explain what would happen to a request, and to a response to it.\n\nBy --config it asks no network: the \
                      rules of the configuration, the cache key before it is hashed and, with --response, every caching \
                      rule in order with its section, how long the response would be stored, and what later requests \
                      would get. The response is taken as received this moment.\n\nBy --admin it asks a running proxy what \
                      its tiers hold for the request, and what it would do with it now.",
        after_help = EXPLAIN_EXAMPLES
    )]
    Explain(ExplainArgs),
    /// Invalidate what is stored, in the whole fleet
    #[command(
        long_about = "Invalidate what is stored, in the whole fleet.\n\nAsks the admin listener of any one of its proxies \
                      and prints its answer: how many responses it concerned there, the number of the purge, and how far \
                      the word got. Tags, prefixes and hosts are purged softly: what bears them is stale from then on, and \
                      may answer while it is renewed. URLs and everything are purged hard: never to be used again.",
        after_help = PURGE_HELP
    )]
    Purge(PurgeArgs),
    /// Fill the cache before visitors come
    #[command(
        long_about = "Fill the cache before visitors come.\n\nFetches every page of a list or a sitemap through the proxy \
                      and says what became of each: filled, already fresh, not stored and why, or failed. Of absolute \
                      addresses the host is sent to the proxy; a path is asked for by the proxy's own address. Where \
                      answers vary, say what visitors send: -H 'Accept-Encoding: gzip, deflate, br, zstd'.",
        after_help = WARM_HELP
    )]
    Warm(WarmArgs),
    /// Try it out: a demo origin with the proxy in front
    #[command(
        long_about = "Try it out: a demo origin with the proxy in front.\n\nStarts the product service and the proxy in one \
                      process, on an embedded memory tier or on the Redis given, and prints a guided tour of curl commands.",
        after_help = "Examples:\n  forebay demo\n  forebay demo --redis redis://127.0.0.1:6379/0"
    )]
    Demo(DemoArgs),
    /// Run the demo origin alone
    #[command(
        long_about = "Run the demo origin alone.\n\nA product service with deliberate costs, to put a proxy in front of; \
                      proxy.example.toml expects it at 127.0.0.1:9000.",
        after_help = "Example:\n  forebay product-service --listen 127.0.0.1:9000"
    )]
    ProductService(ProductServiceArgs),
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The configuration; proxy.example.toml documents every key
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
    /// One line per request on standard output
    #[arg(long, value_enum, default_value_t, value_name = "FORM", env = "FOREBAY_ACCESS_LOG")]
    pub access_log: Format,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration to check
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The configuration to explain by
    #[arg(long, short, value_name = "FILE", required_unless_present = "admin")]
    pub config: Option<PathBuf>,
    /// The admin listener of a running proxy: tell what it holds, and would do now
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "response"])]
    pub admin: Option<Listener>,
    /// Its token
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// The request's method
    #[arg(long, short = 'X', value_name = "METHOD", default_value = "GET")]
    pub method: Method,
    /// A field of the request; may be repeated
    #[arg(id = "header", long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub fields: Vec<explain::Field>,
    /// The head of a response: as text (lines may be parted by a backslash and an n), "@FILE", or "-"
    /// for standard input
    #[arg(long, value_name = "HEAD", allow_hyphen_values = true)]
    pub response: Option<String>,
    /// What is requested: an absolute http:// or https:// URL
    #[arg(value_name = "URL")]
    pub url: explain::Url,
}

/// Arguments of `purge`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true))]
pub struct PurgeArgs {
    /// The admin listener of one of the fleet's proxies
    #[arg(long, value_name = "URL")]
    pub admin: Listener,
    /// Its token
    #[arg(long, value_name = "TOKEN", env = "FOREBAY_ADMIN_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// An absolute URL: all variants, GET and HEAD; may be repeated
    #[arg(long = "url", value_name = "URL", group = "what")]
    pub urls: Vec<String>,
    /// All that bears this tag; may be repeated
    #[arg(long = "tag", value_name = "TAG", group = "what", allow_hyphen_values = true)]
    pub tags: Vec<String>,
    /// All URLs that begin so: http://shop.example/blog/, or /blog/ on every host; may be repeated
    #[arg(long = "prefix", value_name = "PREFIX", group = "what")]
    pub prefixes: Vec<String>,
    /// All of this host; may be repeated
    #[arg(long = "host", value_name = "HOST", group = "what")]
    pub hosts: Vec<String>,
    /// Everything
    #[arg(long, group = "what")]
    pub all: bool,
    /// Never to be used again, not even while it is renewed
    #[arg(long, conflicts_with = "soft")]
    pub hard: bool,
    /// Stale, URLs and everything too
    #[arg(long)]
    pub soft: bool,
}

/// Arguments of `warm`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("pages").required(true).multiple(true))]
pub struct WarmArgs {
    /// The proxy
    #[arg(long, value_name = "URL")]
    pub proxy: Listener,
    /// A list with an absolute address or a path on each line, # before remarks; "-" is standard input;
    /// may be repeated
    #[arg(long = "file", value_name = "FILE", group = "pages", allow_hyphen_values = true)]
    pub files: Vec<PathBuf>,
    /// A sitemap or an index of sitemaps, packed with gzip or not, fetched through the proxy too; may be repeated
    #[arg(long = "sitemap", value_name = "URL", group = "pages")]
    pub sitemaps: Vec<String>,
    /// Pages that are fetched at once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub concurrency: u16,
    /// A field of the requests; may be repeated
    #[arg(id = "header", long = "header", short = 'H', value_name = "NAME: VALUE")]
    pub fields: Vec<explain::Field>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where the dashboard, metrics and health are
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9090")]
    pub admin: SocketAddr,
    /// Use this Redis as well: a URL as in `[redis] url` of a configuration
    #[arg(long, value_name = "URL")]
    pub redis: Option<String>,
}

/// Arguments of `product-service`.
#[derive(Debug, Args)]
pub struct ProductServiceArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR")]
    pub listen: SocketAddr,
}

/// Text from a peer as a terminal may show it: lines stay, other control characters do not.
fn plain(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_control() && letter != '\n' {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_command_has_an_example() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.clone().render_long_help().to_string();
            assert!(help.contains(&format!("  forebay {}", sub.get_name())), "{help}");
        }
        assert!(command.render_help().to_string().contains("Exit codes:"));
    }

    #[test]
    fn arguments() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        let Command::Run(run) = parse("forebay run --config a.toml").unwrap().command else { panic!("run") };
        assert_eq!(run.config, PathBuf::from("a.toml"));
        let Command::Demo(demo) = parse("forebay demo").unwrap().command else { panic!("demo") };
        assert_eq!((demo.listen.port(), demo.admin.port(), demo.redis), (8080, 9090, None));
        let Command::ProductService(service) =
            parse("forebay product-service --listen [::1]:0").unwrap().command
        else {
            panic!("product-service")
        };
        assert_eq!(service.listen.to_string(), "[::1]:0");
        for (line, kind) in [
            ("forebay", ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand),
            ("forebay run", ErrorKind::MissingRequiredArgument),
            ("forebay chekc --config a", ErrorKind::InvalidSubcommand),
            ("forebay demo --listen nowhere", ErrorKind::ValueValidation),
            ("forebay --version", ErrorKind::DisplayVersion),
        ] {
            assert_eq!(parse(line).unwrap_err().kind(), kind, "{line}");
        }
        assert_eq!(parse("forebay chekc").unwrap_err().exit_code(), 2);
    }
}
