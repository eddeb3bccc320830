//! The `forebay` program: parses the command line and hands over.

use std::process::ExitCode;

use clap::Parser;
use forebay::cli::{self, Cli, Command};

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Check(args) => cli::check::run(&args),
        command @ (Command::Run(_) | Command::Demo(_) | Command::ProductService(_)) => {
            eprintln!("forebay: this build has no {command:?}");
            ExitCode::FAILURE
        }
    }
}
