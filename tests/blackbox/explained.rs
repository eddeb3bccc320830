//! `forebay explain` says beforehand what the proxy then does: many requests and responses, put together by
//! chance from what clients and origins send, explained and lived.

use crate::support::*;

/// The configuration's routes: `/NAME/…` each.
const ROUTES: [(&str, &str); 6] = [
    ("plain", ""),
    ("ttl", "ttl = \"50s\""),
    ("override", "ttl = \"50s\"\norigin_cache_control = \"override\""),
    ("clients", "heuristic = true\nclient_cache_control = \"respect\"\ncookies = \"bypass\""),
    (
        "strip",
        "ttl_by_status = { 404 = \"10s\", 500 = \"5s\" }\nset_cookie = \"strip\"\ncookies = \"ignore\"\nmin_ttl = \"5s\"\nmax_ttl = \"100s\"",
    ),
    ("share", "set_cookie = \"share\"\nttl = \"30s\"\nstale_while_revalidate = \"20s\"\nkeep = \"0s\""),
];

const STATUSES: [u16; 20] =
    [200, 200, 200, 200, 200, 200, 203, 203, 204, 299, 301, 302, 400, 403, 404, 410, 418, 500, 501, 503];

/// Lines of responses; an empty one is none.
const RESPONSES: [&[&str]; 8] = [
    &[
        "",
        "Cache-Control: max-age=60",
        "Cache-Control: s-maxage=30, max-age=5",
        "Cache-Control: no-store",
        "Cache-Control: private",
        "Cache-Control: no-cache",
        "Cache-Control: public, must-revalidate",
        "Cache-Control: max-age=0",
        "Cache-Control: MAX-AGE=\"40\", stale-while-revalidate=15",
        "Cache-Control: must-understand, max-age=20",
        "Cache-Control: max-age=x",
        "Cache-Control: max-age=99999999999",
        "Cache-Control: no-cache=\"x-a\", max-age=9",
    ],
    &[
        "",
        "",
        "",
        "CDN-Cache-Control: max-age=44",
        "Forebay-Cache-Control: no-store",
        "CDN-Cache-Control: max-age=\"x\"",
    ],
    &["", "", "", "Expires: 0", "Expires: Thu, 01 Dec 2044 16:00:00 GMT", "Expires: soon"],
    &["", "", "", "Age: 7", "Age: 70", "Age: x", "Age: 7, 8"],
    &["", "ETag: \"a\"", "ETag: W/\"b\"", "ETag: none", "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"],
    &["", "", "Vary: Accept", "Vary: *", "Vary: X-A, Accept-Language", "Vary: x, *"],
    &["", "", "", "Set-Cookie: a=b", "Pragma: no-cache", "Surrogate-Key: a b"],
    &["", "Content-Range: bytes 0-3/4", "Content-Range: bytes 0-3/10"],
];

/// Lines of requests.
const REQUESTS: [&[&str]; 4] = [
    &["", "", "", "Cookie: s=1"],
    &["", "", "", "Authorization: Basic x"],
    &[
        "",
        "",
        "",
        "Cache-Control: no-cache",
        "Cache-Control: no-store",
        "Cache-Control: max-age=5",
        "Pragma: no-cache",
    ],
    &["", "", "", "Range: bytes=0-3", "If-None-Match: \"a\"", "Accept-Language: de"],
];

/// What one case is made of.
struct Case {
    target: String,
    method: &'static str,
    request: Vec<&'static str>,
    status: u16,
    response: Vec<&'static str>,
}

fn cases(count: usize) -> Vec<Case> {
    let mut chance = noise(4, count * 32).into_iter().map(usize::from);
    let mut one_of = move |most: usize| chance.next().expect("enough of it") % most;
    (0..count)
        .map(|nth| {
            let (route, _) = ROUTES[one_of(ROUTES.len())];
            let status = STATUSES[one_of(STATUSES.len())];
            let mut lines = |from: &[&[&'static str]]| -> Vec<&'static str> {
                let picked = from.iter().map(|lines| lines[one_of(lines.len())]);
                picked.filter(|line| !line.is_empty()).collect()
            };
            let (mut response, request) = (lines(&RESPONSES), lines(&REQUESTS));
            // A part is what is asked for, as a rule.
            let ranged = request.iter().any(|line| line.starts_with("Range"));
            let status = if ranged { 206 } else { status };
            response.retain(|line| status == 206 || !line.starts_with("Content-Range"));
            let method = if ranged { "GET" } else { ["GET", "GET", "GET", "HEAD"][one_of(4)] };
            Case { target: format!("/{route}/{nth}"), method, request, status, response }
        })
        .collect()
}

/// What the report says under a heading, its first line.
fn heading<'r>(report: &'r str, name: &str) -> &'r str {
    report.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

/// Seconds of a report's span, as in `1 h 1 min`.
fn seconds(span: &str) -> i64 {
    let words: Vec<&str> = span.split([' ', ',']).collect();
    let unit = |unit: &str| match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3_600,
        _ => 86_400,
    };
    words.chunks(2).map_while(|pair| Some(pair.first()?.parse::<i64>().ok()? * unit(pair.get(1)?))).sum()
}

#[test]
fn what_is_explained_is_what_happens() {
    let origin = Origin::start();
    let cases = cases(160);
    for case in &cases {
        let mut reply =
            Reply::new(case.status).body(if case.status == 204 { "" } else { "body" }).without_date();
        for line in &case.response {
            let (name, value) = line.split_once(": ").expect("a line");
            reply = reply.field(name, value);
        }
        // Nobody is sent a part who did not ask for one.
        let whole = Reply::new(200).body("the whole body").cache("max-age=60");
        origin.on(&case.target, move |exchange| match exchange.head().field("range") {
            None if reply.head().starts_with(b"HTTP/1.1 206") => exchange.reply(&whole),
            _ => exchange.reply(&reply),
        });
    }
    let mut config = Config::new(&origin);
    for (name, lines) in ROUTES {
        config = config.route(&format!("/{name}/{{*rest}}"), lines);
    }
    let text = config.text();
    let proxy = config.start();
    for Case { target, method, request, status, response } in &cases {
        let head = format!("HTTP/1.1 {status} X\\n{}", response.join("\\n"));
        let url = format!("http://shop.example{target}");
        let mut arguments = vec!["-X", method, "--response", &head];
        request.iter().for_each(|line| arguments.extend(["-H", line]));
        arguments.push(&url);
        let said = explain(&text, &arguments);
        let report = String::from_utf8_lossy(&said.stdout).into_owned();
        let lines: String = request.iter().map(|line| format!("{line}\r\n")).collect();
        let first = proxy.request(method, target, &lines);
        let fetched = origin.count(target);
        let again = proxy.request(method, target, &lines);
        let live = format!(
            "{method} {request:?}, {status} {response:?}: {} then {}\n{report}",
            first.cache_status(),
            again.cache_status()
        );

        let stored = heading(&report, "Stored");
        assert!(stored.starts_with("yes") || stored.starts_with("no"), "{live}");
        assert_eq!(stored.starts_with("yes"), first.cache_status().contains("; stored"), "{live}");
        if let Some(reason) = stored.strip_prefix("no: ").filter(|_| heading(&report, "Cache") == "looked up")
        {
            let reason = reason.split(' ').next().unwrap_or_default();
            assert!(first.cache_status().ends_with(&format!("detail={reason}")), "{live}");
        }
        let rows = || report.lines().map(str::trim);
        if let Some(fresh) = rows().find_map(|row| row.strip_prefix("fresh ")?.trim().strip_prefix("for ")) {
            let (told, left) = (seconds(fresh), first.ttl().expect("a lifetime"));
            assert!((told - left).abs() <= 5, "{told} and {left}: {live}");
        }
        if let Some(now) = rows().find_map(|row| row.strip_prefix("now  ")) {
            let answered = now.split("; if").next().unwrap_or_default();
            let answered =
                answered.contains("answered from the cache") || answered.contains("answered stale");
            assert_eq!(answered, origin.count(target) == fetched, "{live}");
            let reason = now.trim().split(' ').next().unwrap_or_default();
            assert!(answered || again.cache_status().contains(&format!("detail={reason}")), "{live}");
        }
    }
}
