//! The configuration that `forebay demo` runs on: the smallest one worth copying.

use std::net::SocketAddr;

/// The configuration as TOML: a proxy on `listen`, its admin listener on `admin`, the product
/// service at `origin`, and the Redis tier at `redis` where one is given.
///
/// The URL is quoted as TOML wants it; `${VAR}` inside it is read from the environment as in any
/// configuration.
#[must_use]
pub fn config_text(listen: SocketAddr, admin: SocketAddr, origin: SocketAddr, redis: Option<&str>) -> String {
    let redis = redis.map_or_else(
        || "# Without [redis] the memory tier is the whole cache.\n".to_owned(),
        |url| format!("[redis]\nurl = {}\n", toml::Value::from(url)),
    );
    format!(
        r#"[server]
listen = ["{listen}"]

[admin]
listen = "{admin}"

[memory]
max_size = "256MiB"

{redis}
[upstream.shop]
servers = ["http://{origin}"]

[defaults]                        # for every route below
stale_if_error = "10m"            # the shop is down: what is known answers for ten minutes more

[[route]]
name = "product"
path = "/api/products/{{id}}"
upstream = "shop"
ttl = "60s"                       # used only where the shop itself says nothing
stale_while_revalidate = "30s"

[[route]]
name = "lists"                    # /api/products and /api/search
path = "/api/{{*rest}}"
upstream = "shop"
key = {{ sort_query = true }}      # ?a=1&b=2 and ?b=2&a=1 are one entry

[[route]]
name = "images"
path = "/images/{{*rest}}"
upstream = "shop"
cookies = "ignore"                # a picture is the same for everybody

[[route]]
name = "events"
path = "/events"
upstream = "shop"
cache = false                     # forwarded as it grows

[[route]]
name = "site"                     # everything else, as the shop says
path = "/{{*rest}}"
upstream = "shop"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(redis: Option<&str>) -> toml::Table {
        let [listen, admin, origin] =
            ["127.0.0.1:8080", "[::1]:9090", "127.0.0.1:9000"].map(|address| address.parse().unwrap());
        config_text(listen, admin, origin, redis).parse().unwrap()
    }

    #[test]
    fn the_text_is_toml_and_says_what_it_was_told() {
        let config = text(None);
        assert_eq!(config["server"]["listen"][0].as_str(), Some("127.0.0.1:8080"));
        assert_eq!(config["admin"]["listen"].as_str(), Some("[::1]:9090"));
        assert_eq!(config["upstream"]["shop"]["servers"][0].as_str(), Some("http://127.0.0.1:9000"));
        assert!(!config.contains_key("redis"));
        assert_eq!(config["route"].as_array().map(Vec::len), Some(5));
    }

    #[test]
    fn the_readme_shows_this_text() {
        let [listen, admin, origin] = [8080, 9090, 9000].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let text = config_text(listen, admin, origin, None);
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&format!("```toml\n{text}```")), "README.md does not show:\n{text}");
    }

    #[test]
    fn a_redis_url_cannot_leave_its_quotes() {
        for url in ["redis://127.0.0.1:6379/0", "redis://:a\"b\\c@h/0", "x\"\n[admin]\nlisten = \"0.0.0.0:1"]
        {
            assert_eq!(text(Some(url))["redis"]["url"].as_str(), Some(url));
        }
    }
}
