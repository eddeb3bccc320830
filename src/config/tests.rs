//! What a configuration may say, and the exact words about what it may not.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::{Env, parse, schema};
use crate::caching::key::TRACKING;
use crate::caching::policy::{CookiePolicy, OriginCacheControl, Policy, SetCookiePolicy};
use crate::rules::Rules;
use crate::rules::route::OnCollapseTimeout;
use crate::rules::settings::{RedisServer, UpstreamHost};

const EXAMPLE: &str = include_str!("../../proxy.example.toml");
const SHOP: &str = "[upstream.shop]\nservers = [\"http://127.0.0.1:9000\"]\n";
const ALL: &str = "[[route]]\nname = \"all\"\npath = \"/{*rest}\"\nupstream = \"shop\"\n";

fn env(name: &str) -> Option<String> {
    let text = match name {
        "TOKEN" => "0123456789abcdef",
        "FOREBAY_ADMIN_TOKEN" => "a token for this test".split(' ').next()?,
        "EMPTY" => "",
        "WORKERS" => "4",
        "YES" => "true",
        "TTL" => "90s",
        "HOST" => "cache.internal",
        "CLUSTER" => "redis-cluster://a:1,b:2",
        "REDIS_PASSWORD" => "s3cr3t",
        _ => return None,
    };
    Some(text.to_owned())
}

fn good(text: &str) -> Rules {
    parse(text, "proxy.toml", &env).unwrap_or_else(|problems| panic!("{problems}\n---\n{text}"))
}

/// What is said about a text, without the file's name.
fn said(text: &str) -> String {
    let problems = match parse(text, "f", &env) {
        Ok(rules) => rules.warnings.join("\n"),
        Err(problems) => problems.to_string(),
    };
    problems
        .lines()
        .map(|line| line.strip_prefix("f:").unwrap_or(line).trim_start())
        .collect::<Vec<_>>()
        .join("\n")
}

/// Each row: lines of a table, and what is said; line 1 is the first of these lines. What is said of
/// the rest of the file is nothing.
fn table(rows: &[(&str, &str)]) {
    for (text, expected) in rows {
        let whole = format!("{text}\n{SHOP}{ALL}");
        assert_eq!(said(&whole), *expected, "---\n{whole}");
    }
}

/// The same for keys of a route, of which the first is on line 1.
fn route_table(rows: &[(&str, &str)]) {
    for (keys, expected) in rows {
        let whole = format!(
            "route = [{{ {keys}, name = \"all\", path = \"/{{*rest}}\", upstream = \"shop\" }}]\n{SHOP}"
        );
        assert_eq!(said(&whole), *expected, "---\n{whole}");
    }
}

#[test]
fn the_smallest_configuration_has_the_defaults_of_the_contract() {
    let rules = good(&format!("{SHOP}{ALL}"));
    let server = &rules.server;
    assert_eq!(server.listen, ["127.0.0.1:8080".parse().unwrap()]);
    assert_eq!((server.workers, server.name.as_str(), server.max_connections), (0, "forebay", 20_000));
    assert_eq!((server.trusted_proxies.len(), server.purge_from.len(), server.x_cache), (0, 0, true));
    assert_eq!(server.header_timeout, Duration::from_secs(15));
    assert_eq!(server.idle_timeout, Duration::from_secs(75));
    assert_eq!(server.drain_timeout, Duration::from_secs(30));
    assert_eq!((server.max_header_size, server.max_request_body), (32 << 10, 1 << 30));
    let admin = rules.admin.as_ref().unwrap();
    assert_eq!((admin.listen.to_string().as_str(), admin.token.is_none()), ("127.0.0.1:9090", true));
    assert_eq!((rules.memory.max_size, rules.memory.max_object_size), (256 << 20, 1 << 20));
    assert!(rules.redis.is_none());
    let shop = &rules.upstreams[0];
    assert_eq!(
        (shop.name.as_str(), &shop.host, shop.max_connections),
        ("shop", &UpstreamHost::Preserve, 256)
    );
    assert_eq!(shop.connect_timeout, Duration::from_secs(2));
    assert_eq!(shop.first_byte_timeout, Duration::from_secs(15));
    assert_eq!(shop.between_bytes_timeout, Duration::from_secs(15));
    let route = &rules.routes[0];
    assert_eq!((route.index, route.name.as_str(), route.upstream, route.tags.len()), (0, "all", 0, 0));
    assert_eq!(route.collapse_timeout, Duration::from_secs(3));
    assert_eq!(route.on_collapse_timeout, OnCollapseTimeout::Fetch);
    // The core's idea of the defaults and the contract's are the same.
    let mut expected = Policy { max_object_size: 1 << 20, ..Policy::default() };
    expected.key.query_exclude = TRACKING.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(route.policy, expected);
    assert_eq!(rules.warnings, [""; 0]);
}

#[test]
fn everything_that_can_be_said() {
    let rules = good(
        r#"
        server = { listen = ["0.0.0.0:80", "[::]:80"], workers = 2, name = "edge-1", trusted_proxies = ["10.0.0.0/8", "::1"],
                   max_connections = 10, header_timeout = "1s", idle_timeout = "2s", drain_timeout = "0s",
                   max_header_size = "8KiB", max_request_body = "0", x_cache = false, purge_from = ["127.0.0.1", "fd00::/8"] }
        [admin]
        listen = "0.0.0.0:9090"
        token = "${TOKEN}"
        [memory]
        max_size = "1GiB"
        max_object_size = "2MiB"
        [redis]
        url = "rediss://user:${REDIS_PASSWORD}@${HOST}:6380/3"
        prefix = "shop:eu"
        read_timeout = "20ms"
        write_timeout = "1s"
        max_object_size = "16MiB"
        compress_above = "0"
        lock_ttl = "10s"
        purge_grace = "1s"
        [upstream.a]
        servers = ["https://a.example", "http://[::1]:81"]
        host = "upstream"
        connect_timeout = "1s"
        first_byte_timeout = "1m"
        between_bytes_timeout = "1h"
        max_connections = 1
        [upstream.b]
        servers = ["http://b"]
        host = "B.example:8443"
        [defaults]
        ttl = "1m"
        key = { query_exclude = ["x", "@tracking"], cookies = ["lang"] }
        cookies = "ignore"
        [[route]]
        name = "one"
        host = "*.Shop.example"
        path = "/{id}"
        upstream = "b"
        origin_cache_control = "override"
        min_ttl = "1s"
        max_ttl = "1d"
        ttl_by_status = { 404 = "10s", 200 = "2m", 301 = "0" }
        heuristic = true
        stale_while_revalidate = "3s"
        stale_if_error = "4s"
        keep = "5s"
        early_refresh = 0
        client_cache_control = "respect"
        set_cookie = "strip"
        key = { query_exclude = ["utm_*"], query_include = ["q"], sort_query = true, headers = ["X-Tenant"] }
        collapse_timeout = "0s"
        on_collapse_timeout = "503"
        [[route]]
        name = "two"
        path = "/"
        upstream = "a"
        cookies = "guard"
        set_cookie = "share"
        on_collapse_timeout = "stale"
        "#,
    );
    assert_eq!(rules.warnings, [""; 0]);
    assert_eq!(rules.server.listen.len(), 2);
    assert_eq!(
        rules.server.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["10.0.0.0/8", "::1/128"]
    );
    assert_eq!((rules.server.max_request_body, rules.server.drain_timeout), (0, Duration::ZERO));
    assert_eq!(rules.admin.as_ref().unwrap().token.as_ref().unwrap().expose(), "0123456789abcdef");
    let redis = rules.redis.as_ref().unwrap();
    let server = RedisServer::Tcp { host: "cache.internal".to_owned(), port: 6380, tls: true };
    assert_eq!((&redis.server, redis.database, redis.username.as_deref()), (&server, 3, Some("user")));
    assert_eq!(redis.password.as_ref().unwrap().expose(), "s3cr3t");
    assert_eq!((redis.prefix.as_str(), redis.compress_above), ("shop:eu", 0));
    assert_eq!(
        rules.tiers_summary(),
        "memory 1GiB (objects up to 2MiB); redis rediss://cache.internal:6380/3 prefix shop:eu (objects up to 16MiB)"
    );
    assert!(!format!("{rules:?}").contains("s3cr3t"));
    assert_eq!(rules.upstreams[1].host, UpstreamHost::Name("b.example:8443".to_owned()));
    assert_eq!(rules.upstreams[0].servers[1].to_string(), "http://[::1]:81");

    let one = &rules.routes[0];
    assert_eq!(one.upstream, 1);
    assert_eq!(one.policy.ttl, Some(60_000), "from [defaults]");
    assert_eq!(one.policy.ttl_by_status, [(200, 120_000), (301, 0), (404, 10_000)]);
    assert_eq!((one.policy.min_ttl, one.policy.max_ttl), (1_000, 86_400_000));
    assert_eq!(
        (one.policy.stale_while_revalidate, one.policy.stale_if_error, one.policy.keep),
        (3_000, 4_000, 5_000)
    );
    assert_eq!(
        (one.policy.origin_cache_control, one.policy.early_refresh),
        (OriginCacheControl::Override, 0.0)
    );
    assert_eq!((one.policy.cookies, one.policy.set_cookie), (CookiePolicy::Ignore, SetCookiePolicy::Strip));
    assert_eq!(
        one.policy.key.query_exclude,
        ["utm_*"],
        "a route's part of the recipe replaces the default's"
    );
    assert_eq!(one.policy.key.cookies, ["lang"], "what the route does not name stays the default's");
    assert_eq!(one.policy.key.headers, ["x-tenant"]);
    assert_eq!(one.policy.max_object_size, 16 << 20, "the larger tier's");
    assert_eq!(
        (one.collapse_timeout, one.on_collapse_timeout),
        (Duration::ZERO, OnCollapseTimeout::Unavailable503)
    );
    let two = &rules.routes[1];
    assert_eq!(two.policy.key.query_exclude.len(), 1 + TRACKING.len());
    assert_eq!((two.policy.cookies, two.policy.set_cookie), (CookiePolicy::Guard, SetCookiePolicy::Share));

    let selected = rules.select("eu.shop.EXAMPLE:80", "/7").unwrap();
    assert_eq!((selected.route.name.as_str(), selected.params().get("id")), ("one", Some("7")));
    assert_eq!(rules.select("other.example", "/").unwrap().route.name, "two");
    assert!(rules.select("other.example", "/7").is_none());
}

#[test]
fn tiers_can_be_off() {
    let rules = good(&format!("memory.max_size = \"0\"\nadmin.listen = \"off\"\n{SHOP}{ALL}"));
    assert!(rules.admin.is_none() && !rules.memory.is_on());
    assert_eq!(rules.routes[0].policy.max_object_size, 0);
    assert_eq!(rules.tiers_summary(), "memory off; redis not configured");
    assert_eq!(
        rules.warnings,
        ["proxy.toml: warning: memory.max_size is \"0\" and there is no [redis]: nothing is cached"]
    );
    let rules = good(&format!("memory.max_size = \"512KiB\"\n{SHOP}{ALL}"));
    assert_eq!(rules.memory.max_object_size, 512 << 10, "the default gives way to a smaller tier");
}

#[test]
fn the_environment_fills_in_any_value() {
    let rules = good(&format!(
        "server.workers = \"${{WORKERS}}\"\nserver.x_cache = \"${{YES}}\"\nserver.name = \"edge-${{WORKERS}}-${{YES}}\"\n\
         defaults.ttl = \"${{TTL}}\"\n{SHOP}{ALL}"
    ));
    assert_eq!((rules.server.workers, rules.server.name.as_str()), (4, "edge-4-true"));
    assert_eq!(rules.routes[0].policy.ttl, Some(90_000));
    table(&[
        ("admin.token = \"${MISSING}\"", "1: admin.token: the environment variable MISSING is not set"),
        ("admin.token = \"${EMPTY}\"", "1: admin.token: is empty: anybody would be let in"),
        ("admin.token = \"${\"", "1: admin.token: has a ${ without its }"),
        ("admin.token = \"${A B}\"", "1: admin.token: \"A B\" is not the name of an environment variable"),
        ("admin.token = \"${1A}\"", "1: admin.token: \"1A\" is not the name of an environment variable"),
        ("server.workers = \"4\"", "1: server.workers: expected a whole number, found the string \"4\""),
        (
            "server.workers = \"${HOST}\"",
            "1: server.workers: expected a whole number, found the string \"${HOST}\"",
        ),
    ]);
}

#[test]
fn misspelt_and_misplaced_keys() {
    table(&[
        ("[serer]", "1: serer: unknown key; did you mean \"server\"?"),
        ("[[routes]]\nname = 1", "1: routes: unknown key; did you mean \"route\"?"),
        ("colour = 1", "1: colour: unknown key"),
        ("listen = \"x\"", "1: listen: unknown key; it belongs in [server]"),
        ("server.listn = []", "1: server.listn: unknown key; did you mean \"listen\"?"),
        ("server.Workers = 1", "1: server.Workers: unknown key; did you mean \"workers\"?"),
        ("[admin]\nport = 1", "2: admin.port: unknown key"),
        ("[memory]\nsize = \"1GiB\"", "2: memory.size: unknown key"),
        ("[memory]\nmax_sise = \"1GiB\"", "2: memory.max_sise: unknown key; did you mean \"max_size\"?"),
        ("[memory]\nprefix = \"x\"", "2: memory.prefix: unknown key; it belongs in [redis]"),
        ("[redis]\nurl = \"redis://a\"\ntimeout = \"1s\"", "3: redis.timeout: unknown key"),
        (
            "[redis]\nurls = \"redis://a\"",
            "1: redis: \"url\" is missing\n2: redis.urls: unknown key; did you mean \"url\"?",
        ),
        ("[defaults]\npath = \"/\"", "2: defaults.path: unknown key; it belongs in [[route]]"),
        (
            "[defaults]\nkey = { query_exlude = [] }",
            "2: defaults.key.query_exlude: unknown key; did you mean \"query_exclude\"?",
        ),
        (
            "[upstream.shop2]\nserver = []",
            "1: upstream.shop2: \"servers\" is missing\n2: upstream.shop2.server: unknown key; did you mean \"servers\"?",
        ),
    ]);
    route_table(&[
        ("tttl = \"5s\"", "1: route.tttl: unknown key; did you mean \"ttl\"?"),
        ("servers = []", "1: route.servers: unknown key; it belongs in [upstream.NAME]"),
        ("cached = true", "1: route.cached: unknown key; did you mean \"cache\"?"),
        ("tag = []", "1: route.tag: unknown key; did you mean \"tags\"?"),
        ("key.header = []", "1: route.key.header: unknown key; did you mean \"headers\"?"),
    ]);
}

#[test]
fn values_of_the_wrong_type() {
    table(&[
        ("server = 1", "1: server: expected a table, [server], found an integer"),
        (
            "server.listen = \"a\"",
            "1: server.listen: expected an array, found a string; did you mean [\"a\"]?",
        ),
        ("server.listen = [1]", "1: server.listen: expected a string, found the integer 1"),
        ("server.listen = [[]]", "1: server.listen: expected a string, found an array"),
        ("server.workers = 1.5", "1: server.workers: expected a whole number, found the number 1.5"),
        (
            "server.workers = 99999999999999999999",
            "1: server.workers: 99999999999999999999 is too large a number",
        ),
        ("server.x_cache = 1", "1: server.x_cache: expected true or false, found the integer 1"),
        (
            "server.header_timeout = 15",
            "1: server.header_timeout: expected a duration, found the integer 15; did you mean \"15s\"?",
        ),
        (
            "server.header_timeout = true",
            "1: server.header_timeout: expected a duration such as \"30s\", found true",
        ),
        (
            "memory.max_size = 0",
            "1: memory.max_size: expected a size, found the integer 0; did you mean \"0\"?",
        ),
        (
            "memory.max_size = 2024-01-01",
            "1: memory.max_size: expected a size such as \"64KiB\", found a datetime",
        ),
        ("defaults.key = 1", "1: defaults.key: expected a table, { … }, found an integer"),
        (
            "defaults.ttl_by_status = \"10s\"",
            "1: defaults.ttl_by_status: expected a table, { … }, found a string",
        ),
    ]);
    assert_eq!(
        said(&format!("upstream = 1\n{ALL}")),
        "1: upstream: expected tables, [upstream.NAME]\n5: route.upstream: there is no [upstream.shop]"
    );
    assert_eq!(
        said(&format!("[upstream]\nservers = []\n{ALL}")),
        "2: upstream.servers: an upstream has a name: write [upstream.NAME] above its keys\n\
         6: route.upstream: there is no [upstream.shop]"
    );
    for (text, expected) in [
        ("", "there is no [[route]], so that nothing would be served"),
        ("route = 1", "1: route: routes are an array of tables: write [[route]]"),
        ("route = [1]", "1: route: routes are an array of tables: write [[route]]"),
        ("[route]\nname = \"a\"", "1: route: routes are an array of tables: write [[route]]"),
    ] {
        assert_eq!(said(text), expected);
    }
}

#[test]
fn values_that_cannot_be_meant() {
    table(&[
        ("server.listen = []", "1: server.listen: at least one address is needed"),
        (
            "server.listen = [\n\"127.0.0.1:80\",\n\"127.0.0.1:80\"]",
            "3: server.listen: 127.0.0.1:80 is there twice",
        ),
        (
            "server.listen = [\"8080\"]",
            "1: server.listen: \"8080\" has no address; did you mean \"127.0.0.1:8080\" or \"0.0.0.0:8080\"?",
        ),
        (
            "server.listen = [\":8080\"]",
            "1: server.listen: \":8080\" has no address; did you mean \"127.0.0.1:8080\" or \"0.0.0.0:8080\"?",
        ),
        (
            "server.listen = [\"localhost:80\"]",
            "1: server.listen: \"localhost:80\" is a name, not an address; did you mean \"127.0.0.1:80\"?",
        ),
        ("server.listen = [\"127.0.0.1\"]", "1: server.listen: \"127.0.0.1\" has no port"),
        (
            "server.listen = [\"shop:80\"]",
            "1: server.listen: \"shop:80\" is not an address and port such as \"127.0.0.1:8080\" or \"[::]:8080\"",
        ),
        ("server.workers = -1", "1: server.workers: -1 is less than 0, the least allowed"),
        ("server.workers = 5000", "1: server.workers: 5000 is more than 1024, the most allowed"),
        (
            "server.name = \"two words\"",
            "1: server.name: \"two words\" is not a token: a letter, then letters, digits and -._~ up to 64 in all",
        ),
        (
            "server.trusted_proxies = [\"10.0.0.0/33\"]",
            "1: server.trusted_proxies: \"10.0.0.0/33\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ),
        (
            "server.purge_from = [\"10.0.0.1/64\"]",
            "1: server.purge_from: \"10.0.0.1/64\" is not a network such as \"10.0.0.0/8\" or \"fd00::/8\"",
        ),
        (
            "server.purge_from = [\"127.0.0.1\", \"::/0\"]",
            "1: warning: server.purge_from: ::/0 lets every client purge",
        ),
        (
            "server.trusted_proxies = [\"0.0.0.0/0\"]",
            "1: warning: server.trusted_proxies: 0.0.0.0/0 trusts every client to say who it is",
        ),
        ("server.max_connections = 0", "1: server.max_connections: 0 is less than 1, the least allowed"),
        (
            "server.header_timeout = \"0s\"",
            "1: server.header_timeout: \"0ms\" is less than \"1ms\", the least allowed",
        ),
        (
            "server.header_timeout = \"2h\"",
            "1: server.header_timeout: \"2h\" is more than \"1h\", the most allowed",
        ),
        (
            "server.max_header_size = \"4KiB\"",
            "1: server.max_header_size: \"4KiB\" is less than \"8KiB\", the least allowed",
        ),
        (
            "server.max_request_body = \"1GB\"",
            "1: server.max_request_body: \"1GB\" has no unit that is known here; did you mean \"1GiB\"?",
        ),
        (
            "admin.listen = \"127.0.0.1:8080\"",
            "1: admin.listen: 127.0.0.1:8080 is the public listener's (127.0.0.1:8080); the admin listener has its own",
        ),
        (
            "admin.listen = \"0.0.0.0:8080\"\nadmin.token = \"${TOKEN}\"",
            "1: admin.listen: 0.0.0.0:8080 is the public listener's (127.0.0.1:8080); the admin listener has its own",
        ),
        (
            "admin.listen = \"0.0.0.0:9090\"",
            "1: admin.listen: 0.0.0.0:9090 can be reached from elsewhere, so that a token is needed: admin.token",
        ),
        (
            "admin.token = \"short\"",
            "1: warning: admin.token: a token of less than 16 characters can be guessed",
        ),
        (
            "admin.token = \"pass word\"",
            "1: admin.token: has a character that no Authorization field can carry: visible ASCII only",
        ),
        (
            "memory.max_size = \"1MiB\"\nmemory.max_object_size = \"2MiB\"",
            "2: memory.max_object_size: is more than memory.max_size, the whole tier",
        ),
        (
            "memory.max_size = \"99TiB\"",
            "1: memory.max_size: \"99TiB\" is more than \"16TiB\", the most allowed",
        ),
        ("[redis]", "1: redis: \"url\" is missing"),
        (
            "redis.url = \"cache:6379\"",
            "1: redis.url: not a URL; write redis://[user:password@]host[:port][/database]",
        ),
        (
            "redis.url = \"redis://:${REDIS_PASSWORD}@cache:x\"",
            "1: redis.url: the port is not a number from 1 to 65535",
        ),
        (
            "redis.url = \"redis://a\"\nredis.prefix = \"\"",
            "2: redis.prefix: \"\" is no prefix: 1 to 64 letters, digits and - _ . : /",
        ),
        (
            "redis.url = \"redis://a\"\nredis.prefix = \"a{b}\"",
            "2: redis.prefix: \"a{b}\" is no prefix: 1 to 64 letters, digits and - _ . : /",
        ),
        (
            "redis.url = \"redis://a\"\nredis.read_timeout = \"1m\"",
            "2: redis.read_timeout: \"1m\" is more than \"10s\", the most allowed",
        ),
        (
            "redis.url = \"redis://a\"\nredis.lock_ttl = \"400ms\"",
            "2: redis.lock_ttl: must be at least twice redis.write_timeout, or the lock runs out while it is renewed",
        ),
        (
            "[upstream.\"a b\"]\nservers = [\"http://a\"]",
            "1: upstream.a b: \"a b\" is no name: 1 to 64 letters, digits and - _ .",
        ),
        ("[upstream.b]\nservers = []", "2: upstream.b.servers: at least one server is needed"),
        (
            "[upstream.b]\nservers = [\"http://a\", \"http://a:80\"]",
            "2: upstream.b.servers: http://a is there twice",
        ),
        (
            "[upstream.b]\nservers = [\"http://localhost:8080\"]",
            "2: upstream.b.servers: 127.0.0.1:8080 is this proxy itself (server.listen): requests would go in circles",
        ),
        (
            "[upstream.b]\nservers = [\"http://a\"]\nhost = \"preserved\"",
            "3: upstream.b.host: \"preserved\" is probably no host; did you mean \"preserve\"?",
        ),
        (
            "[upstream.b]\nservers = [\"http://a\"]\nhost = \"a b\"",
            "3: upstream.b.host: \"a b\" is not \"preserve\", \"upstream\" or a host name",
        ),
        // A wrong default is said once, however many routes there are.
        (
            "defaults.ttl = \"10\"\n[[route]]\nname = \"b\"\npath = \"/b\"\nupstream = \"shop\"",
            "1: defaults.ttl: \"10\" has no unit; did you mean \"10s\"?",
        ),
    ]);
    route_table(&[
        (
            "cookies = \"gaurd\"",
            "1: route.cookies: \"gaurd\" is not one of \"guard\", \"ignore\", \"bypass\"; did you mean \"guard\"?",
        ),
        (
            "set_cookie = true",
            "1: route.set_cookie: expected one of \"refuse\", \"strip\", \"share\", found true",
        ),
        (
            "origin_cache_control = \"ignore\"",
            "1: route.origin_cache_control: \"ignore\" is not one of \"respect\", \"override\"",
        ),
        (
            "on_collapse_timeout = 503",
            "1: route.on_collapse_timeout: expected one of \"fetch\", \"stale\", \"503\", found the integer 503",
        ),
        ("early_refresh = -1", "1: route.early_refresh: -1 is less than 0, the least allowed"),
        ("early_refresh = inf", "1: route.early_refresh: inf is more than 10, the most allowed"),
        ("early_refresh = nan", "1: route.early_refresh: nan is no number that could be meant"),
        (
            "max_ttl = \"99999d\"",
            "1: route.max_ttl: \"99999d\" is more than \"2147483648s\", the most allowed",
        ),
        (
            "ttl_by_status = { 42 = \"1s\", abc = \"1s\", 100 = \"1s\", 2000 = \"1s\" }",
            "1: route.ttl_by_status.100: \"100\" is not a final status, from 200 to 599\n1: route.ttl_by_status.2000: \"2000\" is not a final status, from 200 to 599\n1: route.ttl_by_status.42: \"42\" is not a final status, from 200 to 599\n1: route.ttl_by_status.abc: \"abc\" is not a final status, from 200 to 599",
        ),
        (
            "ttl_by_status = { 304 = \"1s\", 404 = 10 }",
            "1: route.ttl_by_status.304: a 304 is never stored by a route's rule: it is no answer of its own\n1: route.ttl_by_status.404: expected a duration, found the integer 10; did you mean \"10s\"?",
        ),
        (
            "key = { headers = [\"a b\"], cookies = [\"a;b\"] }",
            "1: route.key.cookies: \"a;b\" is not a cookie's name\n1: route.key.headers: \"a b\" is not a field name",
        ),
        (
            "key = { query_exclude = [\"@traking\"] }",
            "1: route.key.query_exclude: there is no list \"@traking\"; did you mean \"@tracking\"?",
        ),
        (
            "key = { query_include = [\"\", \"a*b\", \"a=b\"] }",
            "1: route.key.query_include: \"a*b\": a * can only stand at the end\n1: route.key.query_include: \"a=b\": '=' is never part of a parameter's name as it is sent\n1: route.key.query_include: a parameter's name is empty",
        ),
        (
            "key = { headers = [\"Cookie\"] }",
            "1: warning: route.key.headers: makes a key of every cookie there is; name the ones that matter in key.cookies",
        ),
    ]);
}

#[test]
fn tags_take_what_the_path_has() {
    route_table(&[
        ("tags = []", ""),
        ("tags = [\"all\", \"below:{rest}\"]", ""),
        ("tags = [\"product:{id}\"]", "1: route.tags: the path has no {id}"),
        ("tags = [\"a b\"]", "1: route.tags: a tag cannot contain ' '"),
        ("tags = \"a\"", "1: route.tags: expected an array, found a string; did you mean [\"a\"]?"),
    ]);
    table(&[
        ("defaults.tags = [\"shop\"]", ""),
        ("defaults.tags = [\"of:{id}\"]", "1: defaults.tags: the path has no {id}"),
    ]);
}

#[test]
fn values_that_contradict_each_other() {
    route_table(&[
        ("ttl = \"30d\"", "1: route.ttl: 30d is more than max_ttl (7d, the default)"),
        ("ttl = \"2m\", max_ttl = \"1m\"", "1: route.ttl: 2m is more than max_ttl (1m)"),
        (
            "ttl_by_status = { 404 = \"8d\" }",
            "1: route.ttl_by_status.404: 8d is more than max_ttl (7d, the default)",
        ),
        ("min_ttl = \"2m\", max_ttl = \"1m\"", "1: route.min_ttl: min_ttl (2m) is more than max_ttl (1m)"),
        ("ttl = \"1s\", min_ttl = \"1m\"", "1: warning: route.ttl: has no effect: min_ttl (1m) is more"),
        (
            "origin_cache_control = \"override\"",
            "1: route.origin_cache_control: \"override\" needs a ttl or ttl_by_status to put in the origin's place",
        ),
        (
            "cache = false, stale_if_error = \"1m\", keep = \"1s\"",
            "1: warning: route.keep: has no effect: this route says cache = false\n1: warning: route.stale_if_error: has no effect: this route says cache = false",
        ),
        (
            "cookies = \"bypass\", key = { cookies = [\"a\"] }",
            "1: warning: route.key.cookies: has no effect: this route says cookies = \"bypass\"",
        ),
    ]);
    // Both in [defaults]: judged where a route has both, told once, at the key to change.
    table(&[
        ("[defaults]\nttl = \"2m\"\nmax_ttl = \"1m\"", "2: defaults.ttl: 2m is more than max_ttl (1m)"),
        ("[defaults]\ncache = false\nttl = \"2m\"", ""),
    ]);
    let replaced = format!("[defaults]\nttl = \"30d\"\n{SHOP}{ALL}max_ttl = \"60d\"\n");
    assert_eq!(said(&replaced), "");
}

#[test]
fn routes_that_cannot_both_be_meant() {
    let two = |first: &str, second: &str| said(&format!("{SHOP}[[route]]\n{first}\n[[route]]\n{second}\n"));
    let a = "name = \"a\"\npath = \"/{id}\"\nupstream = \"shop\"";
    assert_eq!(
        two(a, "name = \"a\"\npath = \"/b\"\nupstream = \"shop\""),
        "8: route.name: \"a\" is also the name of the route at line 4"
    );
    assert_eq!(
        two(a, "name = \"b\"\npath = \"/{other}\"\nupstream = \"shop\""),
        "9: route.path: matches the same requests as the route \"a\" at line 5"
    );
    assert_eq!(two(a, "name = \"b\"\npath = \"/{id}\"\nupstream = \"shop\"\nhost = \"shop.example\""), "");
    assert_eq!(
        two(a, "name = \"b c\"\npath = \"b\"\nupstream = \"shpo\"\nhost = \"a:1\""),
        "8: route.name: \"b c\" is no name: 1 to 64 letters, digits and - _ .\n\
         9: route.path: \"b\": a path begins with /\n\
         10: route.upstream: there is no [upstream.shpo]; did you mean \"shop\"?\n\
         11: route.host: \"a:1\": a host is written without a port; ports are ignored when routes are chosen"
    );
    assert_eq!(
        two(a, "cache = true"),
        "7: route: \"name\" is missing\n7: route: \"path\" is missing\n7: route: \"upstream\" is missing"
    );
}

#[test]
fn redis_in_every_form() {
    table(&[
        ("redis.url = \"${CLUSTER}\"", ""),
        ("redis.url = \"redis-sentinel://a:1,b/shop\"", ""),
        (
            "redis.url = \"rediss+cluster://a\"",
            "1: redis.url: \"rediss+cluster\" is not a scheme of Redis; did you mean rediss-cluster://?",
        ),
        (
            "redis.url = \"sentinel://a/shop\"",
            "1: redis.url: \"sentinel\" is not a scheme of Redis; did you mean redis-sentinel://?",
        ),
        (
            "redis.url = \"rediss://a\"\nredis.ca = \"ca.pem\"",
            "2: redis.ca: \"ca.pem\" is not an absolute path such as \"/etc/forebay/redis-ca.pem\"",
        ),
        (
            "redis.url = \"redis-cluster://a\"\nredis.ca = \"/ca.pem\"",
            "2: redis.ca: is for TLS, which redis.url does not speak: rediss://, rediss-cluster:// or rediss-sentinel:// do",
        ),
    ]);
    for (url, address) in [
        ("redis-cluster://u:s3cr3t@a:1,[::1]", "redis-cluster://a:1,[::1]:6379"),
        ("rediss-cluster://a", "rediss-cluster://a:6379"),
        (
            "rediss-sentinel://u:s3cr3t@a:1,b/shop?sentinel_password=s3cr3t",
            "rediss-sentinel://a:1,b:26379/shop?db=0",
        ),
        ("unix://u:s3cr3t@/run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
    ] {
        let rules = good(&format!("redis.url = \"{url}\"\n{SHOP}{ALL}"));
        assert_eq!(rules.redis.as_ref().unwrap().address(), address);
        assert!(!format!("{rules:?} {}", rules.tiers_summary()).contains("s3cr3t"));
    }
    let rules = good(&format!("redis.url = \"rediss://a\"\nredis.ca = \"/a/ca.pem\"\n{SHOP}{ALL}"));
    assert_eq!(rules.redis.unwrap().ca.unwrap(), std::path::Path::new("/a/ca.pem"));
}

#[test]
fn syntax_errors_are_told_all_at_once() {
    assert_eq!(
        said("a = \n[server\nworkers == 1\n[server]\nname = \"a\"\nname = \"b\"\n"),
        "1: not valid TOML: string values must be quoted, expected literal string\n\
         2: not valid TOML: unclosed table, expected `]`\n\
         3: not valid TOML: extra `=`, expected nothing\n\
         3: not valid TOML: unexpected key or value, expected newline, `#`\n\
         6: not valid TOML: duplicate key \"name\""
    );
}

#[test]
fn every_problem_is_told_at_once() {
    let text = "[server]\nlisten = [\"8080\"]\nworkers = \"many\"\nheadr_timeout = \"1s\"\n\n\
                [upstream.shop]\nservers = [\"http://127.0.0.1:9000\", \"shop\"]\n\n\
                [[route]]\nname = \"a\"\npath = \"/\"\nupstream = \"shpo\"\ntttl = \"5s\"\nkeep = 5\n";
    assert_eq!(
        parse(text, "proxy.toml", &env).unwrap_err().to_string(),
        "proxy.toml:2: server.listen: \"8080\" has no address; did you mean \"127.0.0.1:8080\" or \"0.0.0.0:8080\"?\n\
         proxy.toml:3: server.workers: expected a whole number, found the string \"many\"\n\
         proxy.toml:4: server.headr_timeout: unknown key; did you mean \"header_timeout\"?\n\
         proxy.toml:7: upstream.shop.servers: \"shop\" has no scheme; did you mean \"http://shop\"?\n\
         proxy.toml:12: route.upstream: there is no [upstream.shpo]; did you mean \"shop\"?\n\
         proxy.toml:13: route.tttl: unknown key; did you mean \"ttl\"?\n\
         proxy.toml:14: route.keep: expected a duration, found the integer 5; did you mean \"5s\"?"
    );
}

/// Every key that the example shows, by table: its value, and whether it is commented out.
fn shown(example: &str) -> BTreeMap<(String, String), (String, bool)> {
    let mut keys = BTreeMap::new();
    let mut table = String::new();
    for line in example.lines() {
        let live = !line.starts_with('#');
        let line = line.trim_start_matches('#');
        if let Some(name) = line.strip_prefix('[') {
            table = name.trim_matches(['[', ']']).to_owned();
        } else if let Some((key, value)) = line.split_once(" = ")
            && !line.starts_with(' ')
        {
            keys.entry((table.clone(), key.to_owned())).or_insert((value.to_owned(), live));
        }
    }
    keys
}

#[test]
fn the_example_documents_every_key_with_its_default() {
    let shown = shown(EXAMPLE);
    for (table, keys) in [
        ("server", schema::SERVER),
        ("admin", schema::ADMIN),
        ("memory", schema::MEMORY),
        ("redis", schema::REDIS),
        ("upstream.shop", schema::UPSTREAM),
        ("defaults", schema::CACHING),
        ("defaults.key", schema::RECIPE),
        ("route", schema::ROUTE),
    ] {
        for key in keys {
            if key.name == "key" {
                continue; // The table defaults.key.
            }
            let found = shown.get(&(table.to_owned(), key.name.to_owned()));
            assert!(found.is_some(), "{table}.{}", key.name);
            if let Some((value, _)) = found.filter(|_| key.default != schema::NONE) {
                assert_eq!(value, key.default, "{table}.{}", key.name);
            }
        }
    }
    // One line of why stands above each.
    let lines: Vec<&str> = EXAMPLE.lines().collect();
    for pair in lines.windows(2) {
        let [before, line] = pair else { continue };
        let documents = line.strip_prefix('#').is_some_and(|l| l.contains(" = ") && !l.starts_with(' '));
        assert!(!documents || before.starts_with('#'), "{line}");
    }
}

#[test]
fn the_example_runs_as_it_is_and_with_everything_uncommented() {
    let rules = good(EXAMPLE);
    assert_eq!(rules.warnings, [""; 0]);
    assert!(rules.redis.is_none());
    assert_eq!(rules.upstreams[0].servers[0].to_string(), "http://127.0.0.1:9000");
    for (path, route) in [
        ("/api/products", "products"),
        ("/api/products/1", "product"),
        ("/api/search", "search"),
        ("/images/1/large", "images"),
        ("/me", "account"),
        ("/health", "health"),
        ("/", "rest"),
        ("/events", "rest"),
    ] {
        assert_eq!(rules.select("127.0.0.1:8080", path).unwrap().route.name, route, "{path}");
    }

    let uncommented: Vec<&str> = EXAMPLE
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| !l.is_empty() && !l.starts_with(' ')).unwrap_or(line))
        .collect();
    // An authority without TLS is an error, so that it needs the URL's other form.
    let rules = good(&uncommented.join("\n").replacen("\"redis://", "\"rediss://", 1));
    assert!(rules.redis.is_some() && rules.admin.is_some_and(|admin| admin.token.is_some()));
}

#[test]
fn every_default_can_be_read() {
    for keys in
        [schema::SERVER, schema::ADMIN, schema::MEMORY, schema::REDIS, schema::UPSTREAM, schema::CACHING]
    {
        for key in keys.iter().filter(|key| key.default != schema::NONE) {
            assert!(toml::de::DeValue::parse(key.default).is_ok(), "{}", key.name);
        }
    }
}

#[test]
fn ten_thousand_routes_compile() {
    let mut text = SHOP.to_owned();
    for n in 0..10_000 {
        text.push_str(&format!("[[route]]\nname = \"r{n}\"\npath = \"/r{n}/{{id}}\"\nupstream = \"shop\"\n"));
    }
    let rules = good(&text);
    let selected = rules.select("shop.example", "/r9999/7").unwrap();
    assert_eq!((selected.route.name.as_str(), selected.params().get("id")), ("r9999", Some("7")));
}

fn never_panics(text: &str) {
    let env: Env<'_> = &env;
    if let Err(problems) = parse(text, "f", env) {
        assert!(problems.has_errors(), "refused without an error: {text:?}");
        assert!(!problems.to_string().is_empty());
    }
}

#[test]
fn hostile_shapes_do_not_panic() {
    for text in [
        "[".repeat(100_000),
        "a = ".to_owned() + &"[".repeat(100_000),
        "a = ".to_owned() + &"{a=".repeat(100_000),
        "a.".repeat(100_000) + "a = 1",
        format!("x = \"{}\"", "${".repeat(10_000)),
        format!("{} = 1", "k".repeat(1_000_000)),
        "\u{feff}[server]\r\nworkers = 1\r\n".to_owned(),
        "\0".to_owned(),
        "[[route]]\n".repeat(10_000),
    ] {
        never_panics(&text);
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        never_panics(&text);
    }

    /// The example with pieces cut out, doubled and put elsewhere: mostly TOML, mostly wrong.
    #[test]
    fn no_shuffled_configuration_panics(
        cuts in proptest::collection::vec((0_usize..4_000, 0_usize..120, 0_usize..4_000), 0..12),
        junk in "[\\[\\]{}=\"#.,a-z0-9$ \n]{0,20}",
    ) {
        let mut bytes: Vec<char> = EXAMPLE.replace('#', "").chars().collect();
        for (from, length, to) in cuts {
            let from = from.min(bytes.len());
            let piece: Vec<char> = bytes.drain(from..(from + length).min(bytes.len())).collect();
            let to = to.min(bytes.len());
            bytes.splice(to..to, piece.into_iter().chain(junk.chars()));
        }
        never_panics(&bytes.into_iter().collect::<String>());
    }

    /// Each value of a valid file replaced by something else.
    #[test]
    fn no_value_panics(
        key in proptest::sample::select(schema::CACHING).prop_map(|key| key.name),
        value in "(\"\\$\\{[A-Z]{0,5}\\}?\"|\"[a-z0-9*{}@%:/.-]{0,12}\"|-?[0-9]{1,22}(\\.[0-9])?|true|\\[\"[a-z{}]{0,5}\", 1\\]|\\{ [0-9a-z]{1,4} = \"[0-9]{1,20}s\" \\}|nan|1979-05-27)",
    ) {
        never_panics(&format!("{SHOP}{ALL}{key} = {value}\n"));
    }
}
