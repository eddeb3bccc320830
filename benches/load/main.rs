//! What measures the proxy from outside: an origin that costs little, and the clients that `wrk` cannot
//! be. Not part of the product.
//!
//! ```text
//! load origin 127.0.0.1:0                            an origin; prints where it listens
//! load replay ADDR PREFIX COUNT [ORDER [FROM]]       each key once, or the keys of a file, 64 connections
//! load again ADDR PATH SECONDS FIELD                 one path, 64 connections, 304 allowed: wrk waits for
//!                                                    the content that a 304's Content-Length speaks of
//! load stampede PATH CLIENTS ADDR...                 all at once for one path, spread over the proxies
//! load idle ADDR PATH CONNECTIONS                    one request each, then silence until stdin closes
//! load slow ADDR PREFIX READERS BYTES/S SECONDS      a body of its own for each, read slowly
//! load pool REDIS CONNECTIONS TASKS SECONDS          GETs of so many tasks over so many connections
//! load soak ADDR SECONDS SEED                        everything at once, every byte compared
//! ```
//!
//! Every client prints one line of `name=value` pairs on standard output and ends with an error when a
//! single answer was not what it should be.

// Time is what is measured here.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

mod clients;
mod origin;
mod pool;
mod soak;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ended = runtime.block_on(tokio::task::LocalSet::new().run_until(async {
        match words[..] {
            ["origin", listen] => origin::serve(listen).await,
            ["replay", to, prefix, count] => clients::replay(to, prefix, number(count)?, None, 0).await,
            ["replay", to, prefix, count, order] => {
                clients::replay(to, prefix, number(count)?, Some(order), 0).await
            }
            ["replay", to, prefix, count, order, from] => {
                clients::replay(to, prefix, number(count)?, Some(order), number(from)?).await
            }
            ["again", to, path, seconds, field] => clients::again(to, path, number(seconds)?, field).await,
            ["stampede", path, clients, ref to @ ..] if !to.is_empty() => {
                clients::stampede(path, number(clients)?, to).await
            }
            ["idle", to, path, connections] => clients::idle(to, path, number(connections)?).await,
            ["slow", to, prefix, readers, rate, seconds] => {
                clients::slow(to, prefix, number(readers)?, number(rate)?, number(seconds)?).await
            }
            ["pool", redis, connections, tasks, seconds] => {
                pool::pool(redis, number(connections)?, number(tasks)?, number(seconds)?).await
            }
            ["soak", to, seconds, seed] => soak::soak(to, number(seconds)?, number(seed)?).await,
            _ => Err("origin | replay | again | stampede | idle | slow | pool | soak: see the top of benches/load/main.rs"
                .into()),
        }
    }));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What goes wrong ends the measurement.
pub(crate) type Failure = Box<dyn std::error::Error>;

fn number(text: &str) -> Result<usize, Failure> {
    text.parse().map_err(|_| format!("{text} is no number").into())
}
