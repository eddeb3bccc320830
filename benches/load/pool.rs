//! How many connections to Redis one event loop should have: the proxy has one. GETs in a closed loop, by
//! the client library that the proxy uses, on one thread.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fred::clients::Client;
use fred::interfaces::{ClientLike, KeysInterface};
use fred::types::config::{Config, Options, ServerConfig};
use fred::types::{Builder, RespVersion};
use tokio::task::JoinSet;

use super::Failure;
use super::clients::{all, said, say};

/// Keys that are read in turn.
const KEYS: usize = 1_000;
/// What lies under each.
const VALUE: usize = 1_024;

/// `tasks` tasks, each of which reads one key after another over one of `connections` connections.
pub(crate) async fn pool(
    server: &str,
    connections: usize,
    tasks: usize,
    seconds: usize,
) -> Result<(), Failure> {
    let mut clients = Vec::with_capacity(connections);
    for _ in 0..connections.max(1) {
        clients.push(connect(server).await?);
    }
    // No text: the first byte is that of the proxy's records.
    let value = Bytes::from([&[0xFB], &[b'x'; VALUE - 1][..]].concat());
    for key in 0..KEYS {
        clients[0].set::<(), _, _>(format!("bench:{key}"), value.clone(), None, None, false).await?;
    }
    let took = Rc::new(RefCell::new(Vec::new()));
    let (began, before) = (Instant::now(), on_cpu()?);
    let until = began + Duration::from_secs(seconds as u64);
    let mut reading = JoinSet::new();
    for task in 0..tasks {
        let options = Options { timeout: Some(Duration::from_secs(5)), ..Options::default() };
        let client = clients[task % clients.len()].with_options(&options);
        let took = Rc::clone(&took);
        reading.spawn_local(async move {
            let mut key = task * 7;
            loop {
                let asked = Instant::now();
                if asked >= until {
                    return Ok(());
                }
                key = (key + 1) % KEYS;
                let found: Option<Bytes> =
                    client.get(format!("bench:{key}")).await.map_err(|error| said(&error.into()))?;
                if found.map(|found| found.len()) != Some(VALUE) {
                    return Err(format!("bench:{key} is not what was written"));
                }
                took.borrow_mut().push(u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX));
            }
        });
    }
    all(reading).await?;
    let (seconds, cpu, took) = (began.elapsed(), on_cpu()? - before, took.take());
    print!("cpu_us={:.3} ", cpu.as_secs_f64() * 1e6 / took.len() as f64);
    say(took, seconds);
    Ok(())
}

async fn connect(server: &str) -> Result<Client, Failure> {
    let (host, port) = server.rsplit_once(':').ok_or("the server is no HOST:PORT")?;
    let config = Config {
        version: RespVersion::RESP3,
        server: ServerConfig::new_centralized(host, port.parse()?),
        ..Config::default()
    };
    let client = Builder::from_config(config).build()?;
    client.init().await?;
    Ok(client)
}

/// For how long this thread was on a CPU.
fn on_cpu() -> Result<Duration, Failure> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    Ok(Duration::from_nanos(told.split(' ').next().unwrap_or_default().parse()?))
}
