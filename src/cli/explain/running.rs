//! `forebay explain --admin URL`: what a running proxy holds for a request, told for people.
//!
//! Decides nothing: the proxy has judged; its answer is put into words. What it says comes from outside
//! and is printed as such.

use serde_json::Value;

use super::request::{Field, Url};
use super::text::{Page, span};
use crate::cli::ExplainArgs;
use crate::cli::admin_client::AdminClient;
use crate::cli::client::Listener;

/// Asks the proxy and tells what it answered.
///
/// # Errors
/// Why there is no answer.
pub(super) fn explain(admin: &Listener, args: &ExplainArgs) -> Result<String, String> {
    let client = AdminClient { at: admin, token: args.token.as_deref() };
    let told = client.get(&target(args))?;
    if !told.status.is_success() {
        return Err(told.refusal());
    }
    let answer =
        serde_json::from_str(&told.text).map_err(|_| "the admin listener did not answer with JSON")?;
    Ok(report(&answer))
}

/// `/explain` with this request as its query.
fn target(args: &ExplainArgs) -> String {
    let Url { tls, authority, target } = &args.url;
    let scheme = if *tls { "https" } else { "http" };
    let mut query = format!("/explain?url={}", encoded(format!("{scheme}://{authority}{target}").as_bytes()));
    query.push_str(&format!("&method={}", encoded(args.method.as_str().as_bytes())));
    for Field { name, value } in &args.fields {
        let line = [name.as_str().as_bytes(), b": ", value.as_bytes()].concat();
        query.push_str(&format!("&header={}", encoded(&line)));
    }
    query
}

/// A value of a query, percent-encoded but for what needs it nowhere.
fn encoded(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// The answer in words.
fn report(answer: &Value) -> String {
    let mut page = Page::default();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let request = &answer["request"];
    page.heading("Request", &format!("{} {}", text(&request["method"]), text(&request["url"])));
    match &answer["route"] {
        Value::Null => page.heading("Route", "none"),
        route => page.heading(
            "Route",
            &format!(
                "{}: {}, {}, to upstream {}",
                text(&route["name"]),
                text(&route["host"]),
                text(&route["path"]),
                text(&route["upstream"])
            ),
        ),
    }
    if let Some(key) = answer["key"]["text"].as_str() {
        let mut lines = key.split('\n');
        page.heading("Key", lines.next().unwrap_or_default());
        for line in lines {
            page.line(&format!("        {line}"));
        }
        page.row("hash", &text(&answer["key"]["hash"]));
    }
    let verdict = &answer["verdict"];
    let does = match verdict["does"].as_str().unwrap_or_default() {
        "answer" => "answered from the cache",
        "answer-and-renew" => "answered stale, and renewed",
        "validate" => "answered once the origin has confirmed it",
        "fetch" => "fetched",
        "forward" => "forwarded without a look-up",
        "refuse" => "refused",
        other => other,
    };
    page.heading("Now", &format!("{does}: {} ({})", text(&verdict["reason"]), text(&verdict["rule"])));
    page.line(&text(&verdict["title"]));
    page.line(&text(&verdict["fix"]));
    for (tier, label) in [("memory", "Memory"), ("redis", "Redis")] {
        let held = &answer["tiers"][tier];
        page.heading(label, said_of(held["holds"].as_str().unwrap_or_default()));
        if let Some(sets) = held["vary"].as_array() {
            let sets: Vec<String> = sets.iter().map(names).collect();
            page.row("varies by", &format!("{} ({} variants)", sets.join("; or "), held["variants"]));
        }
        if held["response"].is_object() {
            response(&mut page, &held["response"]);
        }
    }
    page.finish()
}

fn said_of(holds: &str) -> &str {
    match holds {
        "response" => "holds a response",
        "nothing" => "holds nothing",
        "purged" => "held a response that was purged",
        "no-variant" => "holds variants, none for this request",
        "hit-for-miss" => "knows that the last response could not be shared",
        "not-asked" => "was not asked",
        "not-configured" => "is not configured",
        other => other,
    }
}

fn names(list: &Value) -> String {
    let names: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    names.join(", ")
}

fn response(page: &mut Page, response: &Value) {
    let seconds = |name: &str| response[name].as_f64().unwrap_or(0.0);
    let millis = |name: &str| (seconds(name).abs() * 1000.0).round() as u64;
    page.row("status", &format!("{}, {} bytes", response["status"], response["bytes"]));
    page.row("received", response["received"].as_str().unwrap_or_default());
    page.row("age", &span(millis("age")));
    let fresh = span(millis("fresh_for"));
    page.row(
        "fresh",
        &if seconds("fresh_for") > 0.0 { format!("for {fresh} more") } else { format!("until {fresh} ago") },
    );
    for (name, label) in
        [("stale_while_revalidate", "stale while renewed"), ("stale_if_error", "stale if it fails")]
    {
        if millis(name) > 0 {
            page.row(label, &format!("{} past freshness", span(millis(name))));
        }
    }
    page.row("forgotten", &format!("in {}", span(millis("forgotten_in"))));
    if let Some(since) = response["stale_since"].as_str() {
        let why = if response["validity"] == "unheard" { "purges not known since" } else { "purged softly" };
        page.row(why, since);
    }
    page.row("stamp", &format!("{}; {} ids can purge it", response["stamp"], response["purge_ids"]));
    let traits = names(&response["traits"]);
    if !traits.is_empty() {
        page.row("properties", &traits);
    }
    if response["part"].is_object() {
        let part = &response["part"];
        page.row("part", &format!("bytes {} to {} of {}", part["first"], part["last"], part["complete"]));
    }
    for field in response["fields"].as_array().into_iter().flatten() {
        let [name, value] = [0, 1].map(|at| field[at].as_str().unwrap_or_default());
        page.line(&format!("        {name}: {value}"));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn the_request_becomes_a_query() {
        let Command::Explain(args) = Cli::try_parse_from([
            "forebay",
            "explain",
            "--admin",
            "http://127.0.0.1:9090",
            "-X",
            "HEAD",
            "-H",
            "Accept: a&b",
            "http://shop.example:80/a?b=c&d=%20",
        ])
        .unwrap()
        .command
        else {
            panic!("explain")
        };
        assert_eq!(
            target(&args),
            "/explain?url=http%3A%2F%2Fshop.example%2Fa%3Fb%3Dc%26d%3D%2520&method=HEAD&header=accept%3A%20a%26b"
        );
    }

    #[test]
    fn configuration_or_a_running_proxy() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(drop).map_err(|e| e.exit_code());
        assert_eq!(parse("forebay explain --config a.toml http://a/"), Ok(()));
        for line in [
            "forebay explain http://a/",
            "forebay explain --config a.toml --admin http://127.0.0.1:9090 http://a/",
            "forebay explain --admin http://127.0.0.1:9090 --response - http://a/",
        ] {
            assert_eq!(parse(line), Err(2), "{line}");
        }
    }

    #[test]
    fn the_answer_is_told() {
        let answer = json!({
            "request": { "method": "GET", "url": "http://shop.example/p" },
            "route": { "name": "rest", "host": "any host", "path": "/{*rest}", "upstream": "shop" },
            "key": { "text": "http://shop.example/p\nheader accept:1:a", "hash": "0123" },
            "verdict": { "does": "validate", "reason": "stale", "title": "It was stale.", "fix": "Raise it.", "rule": "RFC 9111 4.2" },
            "tiers": {
                "memory": {
                    "holds": "response", "variants": 2, "vary": [["accept"], ["accept", "x-a"]],
                    "response": {
                        "status": 200, "bytes": 7, "received": "Sun, 06 Nov 1994 08:49:37 GMT", "age": 61.5, "fresh_for": -1.5,
                        "lifetime": 60.0, "stale_while_revalidate": 0.0, "stale_if_error": 600.0, "forgotten_in": 598.5,
                        "validity": "soft-purged", "stale_since": "Sun, 06 Nov 1994 08:50:00 GMT", "stamp": 12, "purge_ids": 4,
                        "traits": ["has-validator"], "part": null, "fields": [["etag", "\"a\u{1b}\""]],
                    },
                },
                "redis": { "holds": "not-configured" },
            },
        });
        let report = report(&answer);
        insta::assert_snapshot!(report, @r#"
        Request   GET http://shop.example/p

        Route     rest: any host, /{*rest}, to upstream shop

        Key       http://shop.example/p
                  header accept:1:a
          hash                   0123

        Now       answered once the origin has confirmed it: stale (RFC 9111 4.2)
          It was stale.
          Raise it.

        Memory    holds a response
          varies by              accept; or accept, x-a (2 variants)
          status                 200, 7 bytes
          received               Sun, 06 Nov 1994 08:49:37 GMT
          age                    61.500 s
          fresh                  until 1.500 s ago
          stale if it fails      10 min past freshness
          forgotten              in 9 min 58 s
          purged softly          Sun, 06 Nov 1994 08:50:00 GMT
          stamp                  12; 4 ids can purge it
          properties             has-validator
                  etag: "a\u{1b}"

        Redis     is not configured
        "#);
        // Whatever else comes is told as well as may be.
        for odd in [json!(null), json!([]), json!({ "tiers": { "memory": { "holds": 7, "response": {} } } })]
        {
            assert!(super::report(&odd).contains("Request"));
        }
    }
}
