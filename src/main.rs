//! The `forebay` program: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{self, Cli, Command};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(args) => cli::run::run(&args),
        Command::Check(args) => cli::check::run(&args),
        Command::Explain(args) => cli::explain::run(&args),
        Command::Purge(args) => cli::purge::run(&args),
        Command::Warm(args) => cli::warm::run(&args),
        Command::Demo(args) => cli::demo::run(&args),
        Command::ProductService(args) => cli::demo::product_service(&args),
    }
}
