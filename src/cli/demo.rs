//! `forebay demo` and `forebay product-service`: see the main job done with nothing else installed.
//!
//! Decides: nothing; puts the product service and the proxy into one process and prints the tour.

use std::io::Write;
use std::net::SocketAddr;
use std::process::ExitCode;

use super::run::{Process, log_to_stderr};
use super::{DemoArgs, ProductServiceArgs};
use crate::config;
use crate::demo::{self, product_service, tour};
use crate::observe::access_log::Format;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs the demo until it is told to stop.
#[must_use]
pub fn run(args: &DemoArgs) -> ExitCode {
    log_to_stderr();
    match demo(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the product service alone until it is told to stop.
#[must_use]
pub fn product_service(args: &ProductServiceArgs) -> ExitCode {
    log_to_stderr();
    match product_service::run(args.listen) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("forebay: product service on {}: {error}", args.listen);
            ExitCode::FAILURE
        }
    }
}

fn demo(args: &DemoArgs) -> Result<(), Failure> {
    // Any free port: the proxy is what the visitor talks to.
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    listener.set_nonblocking(true)?;
    let origin = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("product-service".into()).spawn(move || {
        let served = runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let options = product_service::Options::default();
            product_service::serve(listener, options, std::future::pending()).await
        });
        if let Err(error) = served {
            tracing::error!(%error, "the product service has ended");
        }
    })?;
    let text = demo::config_text(args.listen, args.admin, origin, args.redis.as_deref());
    let rules =
        config::parse(&text, "demo.toml", &config::process_env).map_err(|problems| problems.to_string())?;
    let process = Process::start(rules, None, Format::Off)?;
    let shown =
        |address: Option<SocketAddr>| address.map_or_else(String::new, |address| format!("http://{address}"));
    let tour = tour::text(&shown(process.listening.first().copied()), &shown(process.admin));
    // Whoever closed standard output does not want the tour.
    let _ = writeln!(std::io::stdout(), "{tour}");
    Ok(process.until_stopped()?)
}
