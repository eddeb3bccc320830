//! The `forebay` program: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{self, Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => cli::check::run(&args),
        Command::Run(_) | Command::Demo(_) | Command::ProductService(_) => {
            eprintln!("forebay: this build only checks configurations");
            ExitCode::FAILURE
        }
    }
}
