//! The keys of the contract, each with its default: the one list that reading, suggestions and the
//! check of `proxy.example.toml` share.
//!
//! No behaviour. A default is TOML text and is read like a value of the file, so that what is
//! documented and what holds cannot drift apart.

/// One key of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    /// Its name.
    pub(super) name: &'static str,
    /// Its default as TOML; [`NONE`] where leaving it out means something of its own, or is an error.
    pub(super) default: &'static str,
}

/// No default.
pub(super) const NONE: &str = "";

const fn key(name: &'static str, default: &'static str) -> Key {
    Key { name, default }
}

/// The tables of a file, in the order in which the example has them.
pub(super) const ROOT: &[Key] = &[
    key("server", NONE),
    key("admin", NONE),
    key("memory", NONE),
    key("redis", NONE),
    key("upstream", NONE),
    key("defaults", NONE),
    key("route", NONE),
];

/// `[server]`.
pub(super) const SERVER: &[Key] = &[
    key("listen", r#"["127.0.0.1:8080"]"#),
    key("workers", "0"),
    key("name", r#""forebay""#),
    key("trusted_proxies", "[]"),
    key("max_connections", "20000"),
    key("header_timeout", r#""15s""#),
    key("idle_timeout", r#""75s""#),
    key("drain_timeout", r#""30s""#),
    key("max_header_size", r#""32KiB""#),
    key("max_request_body", r#""1GiB""#),
    key("x_cache", "true"),
    key("purge_from", "[]"),
];

/// `[admin]`.
pub(super) const ADMIN: &[Key] = &[key("listen", r#""127.0.0.1:9090""#), key("token", NONE)];

/// `[memory]`.
pub(super) const MEMORY: &[Key] = &[key("max_size", r#""256MiB""#), key("max_object_size", r#""1MiB""#)];

/// `[redis]`.
pub(super) const REDIS: &[Key] = &[
    key("url", NONE),
    key("ca", NONE),
    key("prefix", r#""forebay""#),
    key("read_timeout", r#""50ms""#),
    key("write_timeout", r#""250ms""#),
    key("max_object_size", r#""8MiB""#),
    key("compress_above", r#""1KiB""#),
    key("lock_ttl", r#""5s""#),
    key("purge_grace", r#""10s""#),
];

/// `[upstream.NAME]`.
pub(super) const UPSTREAM: &[Key] = &[
    key("servers", NONE),
    key("host", r#""preserve""#),
    key("connect_timeout", r#""2s""#),
    key("first_byte_timeout", r#""15s""#),
    key("between_bytes_timeout", r#""15s""#),
    key("max_connections", "256"),
];

/// What only `[[route]]` has.
pub(super) const ROUTE: &[Key] =
    &[key("name", NONE), key("host", NONE), key("path", NONE), key("upstream", NONE)];

/// What `[[route]]` and `[defaults]` have.
pub(super) const CACHING: &[Key] = &[
    key("cache", "true"),
    key("ttl", NONE),
    key("origin_cache_control", r#""respect""#),
    key("min_ttl", r#""0s""#),
    key("max_ttl", r#""7d""#),
    key("ttl_by_status", "{}"),
    key("heuristic", "false"),
    key("stale_while_revalidate", r#""0s""#),
    key("stale_if_error", r#""0s""#),
    key("keep", r#""1h""#),
    key("early_refresh", "1.0"),
    key("client_cache_control", r#""ignore""#),
    key("cookies", r#""guard""#),
    key("set_cookie", r#""refuse""#),
    key("key", NONE),
    key("tags", "[]"),
    key("collapse_timeout", r#""3s""#),
    key("on_collapse_timeout", r#""fetch""#),
];

/// `key = { … }` of a route.
pub(super) const RECIPE: &[Key] = &[
    key("query_exclude", r#"["@tracking"]"#),
    key("query_include", "[]"),
    key("sort_query", "false"),
    key("headers", "[]"),
    key("cookies", "[]"),
];

/// The tables that have a key of this name, for a key that stands in the wrong one.
pub(super) fn tables_with(name: &str) -> impl Iterator<Item = &'static str> {
    [
        ("[server]", SERVER),
        ("[admin]", ADMIN),
        ("[memory]", MEMORY),
        ("[redis]", REDIS),
        ("[upstream.NAME]", UPSTREAM),
        ("[[route]]", ROUTE),
        ("[[route]] or [defaults]", CACHING),
        ("key = { … } of a route", RECIPE),
    ]
    .into_iter()
    .filter_map(move |(table, keys)| keys.iter().any(|k| k.name == name).then_some(table))
}
