//! Where other servers are: the URLs of origins, and hosts with ports.
//!
//! Decides: which texts name a server. Never touches: the network; a name is resolved when it is
//! used, so that a proxy starts while its DNS is down. Redis has more forms: `redis_url`.

use std::net::Ipv6Addr;

use crate::rules::settings::UpstreamServer;

/// Reads one of `servers`: `http://host[:port]` or `https://host[:port]`.
pub(super) fn upstream_server(text: &str) -> Result<UpstreamServer, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} has no scheme; did you mean \"http://{text}\"?"));
    };
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(format!("{scheme}:// is not spoken to origins; use http:// or https://")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!(
            "{text:?} has a path; a server is an authority, and requests keep their own path"
        ));
    }
    if authority.contains('@') {
        return Err("a server is written without credentials".to_owned());
    }
    let (host, port) = host_port(authority, UpstreamServer::default_port(tls))?;
    Ok(UpstreamServer { tls, host, port })
}

/// Reads `host[:port]`, an IPv6 address in brackets; the host comes back in lower case.
pub(super) fn host_port(authority: &str, default_port: u16) -> Result<(String, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let port = match port {
        None => default_port,
        Some(port) => match port.parse() {
            Ok(port) if port > 0 && port_digits(authority) => port,
            _ => return Err("the port is not a number from 1 to 65535".to_owned()),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".to_owned());
    }
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let valid = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            host.len() <= 253
                && host.split('.').all(|label| {
                    !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
                })
        }
    };
    if !valid {
        let hint = if authority.parse::<Ipv6Addr>().is_ok() {
            "; an IPv6 address is written in brackets"
        } else {
            ""
        };
        return Err(format!("the host is neither a name nor an address{hint}"));
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// `parse` takes a plus sign for part of a number; a port has none.
fn port_digits(authority: &str) -> bool {
    authority.rsplit(':').next().is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn origins() {
        for (text, shown, port) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", 9000),
            ("https://Shop.example/", "https://shop.example", 443),
            ("HTTP://shop.example", "http://shop.example", 80),
            ("http://[::1]:9000", "http://[::1]:9000", 9000),
            ("http://[::1]", "http://[::1]", 80),
            ("http://a_b-c", "http://a_b-c", 80),
        ] {
            let server = upstream_server(text).unwrap();
            assert_eq!((server.to_string().as_str(), server.port), (shown, port), "{text}");
        }
        for (text, error) in [
            ("shop:9000", "\"shop:9000\" has no scheme; did you mean \"http://shop:9000\"?"),
            ("ftp://shop", "ftp:// is not spoken to origins; use http:// or https://"),
            (
                "http://shop/api",
                "\"http://shop/api\" has a path; a server is an authority, and requests keep their own path",
            ),
            ("http://user:pw@shop", "a server is written without credentials"),
            ("http://", "the host is missing"),
            ("http://:80", "the host is missing"),
            ("http://shop:0", "the port is not a number from 1 to 65535"),
            ("http://shop:", "the port is not a number from 1 to 65535"),
            ("http://shop:+80", "the port is not a number from 1 to 65535"),
            ("http://shop:99999", "the port is not a number from 1 to 65535"),
            ("http://a b", "the host is neither a name nor an address"),
            ("http://a..b", "the host is neither a name nor an address"),
            ("http://[::g]", "the host is neither a name nor an address"),
            (
                "http://fe80::1",
                "the host is neither a name nor an address; an IPv6 address is written in brackets",
            ),
        ] {
            assert_eq!(upstream_server(text).unwrap_err(), error, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = upstream_server(&text);
        }
    }
}
