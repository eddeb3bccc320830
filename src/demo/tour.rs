//! The guided tour: commands that show, one by one, what the proxy does, and work when pasted.

/// The tour as text for a terminal: a proxy at `proxy_url`, its admin listener at `admin_url`, both
/// without a slash at the end. Every line that is not a command begins with `#`.
///
/// The commands need a POSIX shell, curl and an xargs with `-P`; each can be repeated.
#[must_use]
pub fn text(proxy_url: &str, admin_url: &str) -> String {
    format!(
        r#"# Paste what follows into another terminal; Ctrl-C in this one ends the demo.

# 1. Twice the same: MISS from the shop, then HIT from memory, with its Age.
curl -si {proxy_url}/api/products/1
curl -si {proxy_url}/api/products/1

# 2. HEAD is answered from what GET brought.
curl -sI {proxy_url}/api/products/1

# 3. Who has it already gets 304 and no bytes.
etag=$(curl -sI {proxy_url}/api/products/1 | tr -d '\r' | awk 'tolower($1) == "etag:" {{ print $2 }}')
curl -s -o /dev/null -w '%{{http_code}}\n' -H "If-None-Match: $etag" {proxy_url}/api/products/1

# 4. A hundred at once on a page nobody asked before: "slow" goes up by one.
curl -s {proxy_url}/stats | grep slow
key=$(date +%s); seq 100 | xargs -P 100 -I@ curl -s -o /dev/null "{proxy_url}/slow?seconds=1&key=$key"
curl -s {proxy_url}/stats | grep slow

# 5. A private page is never shared: each user sees their own, and no answer is a HIT.
curl -si -b user=ana {proxy_url}/me
curl -si -b user=ben {proxy_url}/me

# 6. A page that sets a cookie is not stored, though it claims to be cacheable.
curl -si "{proxy_url}/login?user=ana"

# 7. A new price: the change passes through, and the next answer shows it.
curl -s -X PUT -d '{{"price": 19.99}}' {proxy_url}/api/products/1
curl -si {proxy_url}/api/products/1

# 8. A page that fails every third time: the last good answer stands in. Watch X-Cache.
for i in 1 2 3 4 5 6; do curl -si {proxy_url}/flaky | grep -iE '^(HTTP|x-cache|cache-status)'; sleep 1.1; done

# 9. Purge one product; the next answer is fetched. What the proxy holds is told before and after.
curl -s "{admin_url}/explain?url={proxy_url}/api/products/1" | grep -E '"(does|reason|holds)"'
curl -s -H 'Content-Type: application/json' -d '{{"urls": ["{proxy_url}/api/products/1"]}}' {admin_url}/purge
curl -s "{admin_url}/explain?url={proxy_url}/api/products/1" | grep -E '"(does|reason|holds)"'
curl -si {proxy_url}/api/products/1

# 10. What the shop was asked, what the proxy counted, and which tiers are live. All of it, as it happens,
# in a browser: {admin_url}/
curl -s {proxy_url}/stats
curl -s {admin_url}/metrics | grep '^forebay_requests_total'
curl -s {admin_url}/ready
"#
    )
}

/// The paths below `proxy_url` that a tour's GET commands name, with a number for each variable.
#[cfg(test)]
pub(super) fn paths(tour: &str, proxy_url: &str) -> Vec<String> {
    let commands = tour.lines().filter(|line| !line.starts_with('#') && !line.contains("-X PUT"));
    commands
        .flat_map(|line| line.split(proxy_url).skip(1))
        .map(|rest| {
            let end = rest.find([' ', '"', ')']).unwrap_or(rest.len());
            rest[..end].replace("$key", "1").replace("seconds=1", "seconds=0")
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_a_comment_or_a_command() {
        for line in text("http://127.0.0.1:8080", "http://127.0.0.1:9090").lines() {
            let known = ["#", "curl ", "etag=$(", "key=$(", "for i in "];
            assert!(line.is_empty() || known.iter().any(|start| line.starts_with(start)), "{line}");
        }
    }

    #[test]
    fn paths_are_found() {
        let tour = text("http://shop.test", "http://admin.test");
        let paths = paths(&tour, "http://shop.test");
        assert_eq!(paths.first().map(String::as_str), Some("/api/products/1"));
        assert!(paths.contains(&"/slow?seconds=0&key=1".to_owned()), "{paths:?}");
        assert!(!paths.iter().any(|path| path.contains("metrics")));
    }
}
