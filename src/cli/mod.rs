//! The command line: what forebay can be asked to do, with an example for each.
//!
//! Decides: names, arguments and exit codes of commands. Never touches: what a command does; each
//! has a module of its own.

pub mod check;
pub mod demo;
pub mod explain;
pub mod run;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use http::Method;

use crate::observe::access_log::Format;

/// How every command ends.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  it failed, or there are problems; what is wrong has been said
  2  the command line itself was not understood";

/// Examples of `explain`.
const EXPLAIN_EXAMPLES: &str = "\
Examples:
  forebay explain --config proxy.toml http://shop.example/products/7
  forebay explain --config proxy.toml -H 'Cookie: sid=1' -H 'Accept-Encoding: gzip' http://shop.example/
  forebay explain --config proxy.toml --response 'HTTP/1.1 200 OK\\nCache-Control: max-age=60' http://shop.example/
  forebay explain --config proxy.toml --response @head.txt http://shop.example/
  curl -si http://127.0.0.1:9000/products/7 | forebay explain --config proxy.toml --response - http://shop.example/products/7";

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
        long_about = "Explain what would happen to a request, and to a response to it.\n\nAsks no network: the rules of the \
                      configuration, the cache key before it is hashed and, with --response, every caching rule in order \
                      with its section, how long the response would be stored, and what later requests would get. The \
                      response is taken as received this moment.",
        after_help = EXPLAIN_EXAMPLES
    )]
    Explain(ExplainArgs),
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
    #[arg(long, short, value_name = "FILE")]
    pub config: PathBuf,
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

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the proxy listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where metrics and health are
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
