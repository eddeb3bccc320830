//! `[upstream.NAME]`: the origins.

use std::net::SocketAddr;
use std::time::Duration;

use toml::de::DeTable;

use crate::config::endpoint;
use crate::config::problem::nearest;
use crate::config::read::{At, Reading, Section};
use crate::config::schema;
use crate::config::value::{duration, number, text_as};
use crate::rules::settings::{ServerSettings, UpstreamHost, UpstreamServer, UpstreamSettings};

/// Every upstream with the place of its name; the settings are `None` where they have been reported,
/// so that a route that names it is not reported as well.
pub(super) fn upstreams(
    r: &mut Reading<'_>,
    root: &DeTable<'_>,
    server: Option<&At<ServerSettings>>,
) -> Vec<(At<String>, Option<UpstreamSettings>)> {
    let Some((key, value)) = root.get_key_value("upstream") else { return Vec::new() };
    let Some(table) = value.get_ref().as_table() else {
        r.found.error(&key.span(), "upstream", "expected tables, [upstream.NAME]");
        return Vec::new();
    };
    let mut upstreams = Vec::new();
    for (name, value) in table.iter() {
        let path = format!("upstream.{}", name.get_ref());
        let at = At { value: name.get_ref().clone().into_owned(), span: name.span(), key: path, given: true };
        let settings = match value.get_ref().as_table() {
            Some(table) => {
                r.unknown_keys(&at.key, table, &[schema::UPSTREAM]);
                let section = Section::new(&at.key, table, name.span(), &[schema::UPSTREAM]);
                upstream(r, &at, &section, server)
            }
            None => {
                // `[upstream] servers = …`: the name was forgotten.
                let message = match nearest(&at.value, schema::UPSTREAM.iter().map(|k| k.name)) {
                    Some(_) => "an upstream has a name: write [upstream.NAME] above its keys".to_owned(),
                    None => format!("expected a table, [{}]", at.key),
                };
                r.error(&at, message);
                None
            }
        };
        upstreams.push((at, settings));
    }
    upstreams
}

fn upstream(
    r: &mut Reading<'_>,
    name: &At<String>,
    s: &Section<'_, '_>,
    server: Option<&At<ServerSettings>>,
) -> Option<UpstreamSettings> {
    let mut good = super::routes::label(&name.value).map_err(|message| r.error(name, message)).is_ok();
    let millisecond = Duration::from_millis(1);
    let hour = Duration::from_secs(3600);
    let servers = r.list(s, "servers", text_as(endpoint::upstream_server));
    let host = r.get(s, "host", text_as(host));
    let connect_timeout = r.get(s, "connect_timeout", duration(millisecond..=hour));
    let first_byte_timeout = r.get(s, "first_byte_timeout", duration(millisecond..=hour * 24));
    let between_bytes_timeout = r.get(s, "between_bytes_timeout", duration(millisecond..=hour * 24));
    let max_connections = r.get(s, "max_connections", number(1..=65_535));

    if let Some(servers) = &servers {
        if servers.value.is_empty() {
            r.error(servers, "at least one server is needed");
            good = false;
        }
        for (n, at) in servers.value.iter().enumerate() {
            if servers.value.iter().take(n).any(|earlier| earlier.value == at.value) {
                r.error(at, format!("{} is there twice", at.value));
                good = false;
            }
            let listen = server.into_iter().flat_map(|s| &s.value.listen);
            if let Some(own) = listen.into_iter().find(|own| is_at(&at.value, **own)) {
                r.error(
                    at,
                    format!("{own} is this proxy itself (server.listen): requests would go in circles"),
                );
                good = false;
            }
        }
    }
    let servers: Vec<UpstreamServer> = servers?.value.into_iter().map(|at| at.value).collect();
    let settings = UpstreamSettings {
        name: name.value.clone(),
        servers,
        host: host?.value,
        connect_timeout: connect_timeout?.value,
        first_byte_timeout: first_byte_timeout?.value,
        between_bytes_timeout: between_bytes_timeout?.value,
        max_connections: max_connections?.value,
    };
    good.then_some(settings)
}

fn host(text: &str) -> Result<UpstreamHost, String> {
    match text {
        "preserve" => Ok(UpstreamHost::Preserve),
        "upstream" => Ok(UpstreamHost::Upstream),
        name => match endpoint::host_port(name, 80) {
            Ok(_) => match nearest(name, ["preserve", "upstream"]) {
                Some(near) => Err(format!("{name:?} is probably no host; did you mean {near:?}?")),
                None => Ok(UpstreamHost::Name(name.to_ascii_lowercase())),
            },
            Err(_) => Err(format!("{name:?} is not \"preserve\", \"upstream\" or a host name")),
        },
    }
}

/// Whether a server is written as the address that this process listens on.
fn is_at(server: &UpstreamServer, own: SocketAddr) -> bool {
    let written: Result<SocketAddr, _> = format!("{}:{}", server.host, server.port).parse();
    match written {
        Ok(address) => {
            address == own
                || (address.port() == own.port() && own.ip().is_unspecified() && address.ip().is_loopback())
        }
        Err(_) => {
            server.host == "localhost"
                && server.port == own.port()
                && (own.ip().is_loopback() || own.ip().is_unspecified())
        }
    }
}
