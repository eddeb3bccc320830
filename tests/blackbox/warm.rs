//! `forebay warm`: what is fetched, how many at once, and what is said of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::support::*;

/// Runs the command against a proxy with a list of these lines; exit code, standard output, standard error.
#[track_caller]
fn warm(proxy: std::net::SocketAddr, lines: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("urls.txt");
    std::fs::write(&list, lines).unwrap();
    let (proxy, list) = (format!("http://{proxy}"), list.to_string_lossy().into_owned());
    let mut arguments = vec!["warm", "--proxy", &proxy];
    if !lines.is_empty() {
        arguments.extend(["--file", &list]);
    }
    arguments.extend(more);
    let done = command(&arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.code(), text(&done.stdout), text(&done.stderr))
}

/// The lines of a summary after its first, blanks made one.
fn summary(text: &str) -> Vec<String> {
    text.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn every_page_is_fetched_and_its_fate_told() {
    let origin = Origin::start();
    origin.versions("/p/*", "max-age=60");
    origin.reply("/private", Reply::ok("x").cache("private"));
    origin.reply("/cookie", Reply::ok("x").field("Set-Cookie", "a=b").cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    assert_eq!(proxy.get("/p/known").x_cache(), "MISS");
    let lines = "\u{feff}# the shop\nhttp://shop.example/p/known\n\n  http://shop.example/p/1  \r\nhttps://shop.example/p/2?a=b#c\n\
                 /p/by-path\nhttp://shop.example/private\nhttp://shop.example/cookie\nhttp://shop.example/cookie";
    let (code, out, err) = warm(proxy.address, lines, &[]);
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert!(out.starts_with("7 pages, "), "{out}");
    assert_eq!(
        summary(&out),
        ["filled 3", "already fresh 1", "not stored 3 set-cookie 2, private 1", "failed 0"]
    );
    for target in ["/p/1", "/p/2?a=b"] {
        assert_eq!(proxy.get(target).x_cache(), "HIT", "{target} for the visitors of its host");
    }
    let (code, out, err) =
        warm(proxy.address, "http://shop.example/p/1\n/missing\nno-address\nftp://a/\n", &[]);
    assert_eq!(code, Some(1), "{out}");
    assert_eq!(summary(&out), ["filled 0", "already fresh 1", "not stored 0", "failed 3"]);
    for failure in
        ["/missing: answered 404", "urls.txt:3: it has no scheme", "urls.txt:4: ftp:// is not served"]
    {
        assert!(err.contains(failure), "{failure}: {err}");
    }
}

#[test]
fn sitemaps_and_their_indexes_are_read_through_the_proxy() {
    let origin = Origin::start();
    origin.versions("/p/*", "max-age=60");
    let xml = |body: &str| Reply::ok(body).field("Content-Type", "application/xml").cache("no-store");
    let entry = |kind: &str, path: &str| format!("<{kind}><loc>http://shop.example{path}</loc></{kind}>");
    origin.reply(
        "/sitemap.xml",
        xml(&format!(
            "<?xml version='1.0'?><sitemapindex>{}{}{}</sitemapindex>",
            entry("sitemap", "/one.xml"),
            entry("sitemap", "/two.txt"),
            // One that names itself is read once.
            entry("sitemap", "/sitemap.xml"),
        )),
    );
    let pages: String = (0..40).map(|n| entry("url", &format!("/p/{n}?a=1&amp;b=2"))).collect();
    origin.reply("/one.xml", xml(&format!("<urlset>{pages}</urlset>")));
    origin.reply("/two.txt", Reply::ok("http://shop.example/p/last\n").cache("no-store"));
    let proxy = Config::new(&origin).start();
    let sitemap = ["--sitemap", "http://shop.example/sitemap.xml"];
    for fate in ["filled 41", "already fresh 41"] {
        let (code, out, err) = warm(proxy.address, "", &sitemap);
        assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
        assert!(summary(&out).contains(&fate.to_owned()), "{fate}: {out}");
    }
    assert_eq!(proxy.get("/p/39?a=1&b=2").x_cache(), "HIT");
    origin.reply("/broken.xml", xml("<urlset><url>"));
    for (sitemap, says) in [
        ("http://shop.example/broken.xml", "is XML that ends in its middle"),
        ("http://shop.example/none.xml", "answered 404"),
    ] {
        let (code, _, err) = warm(proxy.address, "", &["--sitemap", sitemap]);
        assert_eq!(code, Some(1));
        assert!(err.contains(&format!("{sitemap}: {says}")), "{err}");
    }
}

#[test]
fn as_many_at_once_as_asked_for_each_on_a_connection_that_is_kept() {
    // In the proxy's place, to see what it would see.
    let peer = Origin::start();
    let (meeting, at_once, most) =
        (Meeting::of(3), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most_seen = Arc::clone(&most);
    peer.on("/p/*", move |exchange| {
        let now = at_once.fetch_add(1, Ordering::SeqCst) + 1;
        most_seen.fetch_max(now, Ordering::SeqCst);
        meeting.arrive();
        at_once.fetch_sub(1, Ordering::SeqCst);
        exchange.reply(&Reply::ok("x").field("Cache-Status", "p; fwd=uri-miss; stored"));
    });
    let lines: String = (0..12).map(|n| format!("http://shop.example/p/{n}\n")).collect();
    let fields = ["-H", "Accept-Encoding: gzip", "-H", "X-A: 1", "-H", "X-A: 2"];
    let (code, out, err) = warm(peer.address, &lines, &[&["--concurrency", "3"][..], &fields].concat());
    assert_eq!((code, err.as_str()), (Some(0), ""), "{out}");
    assert_eq!(most.load(Ordering::SeqCst), 3);
    assert_eq!(peer.connections(), 3);
    for seen in peer.seen() {
        assert_eq!((seen.method.as_str(), seen.field("host")), ("GET", Some("shop.example")));
        assert_eq!(seen.field("accept-encoding"), Some("gzip"));
        assert_eq!(seen.head.all("x-a"), ["1", "2"]);
    }
}

#[test]
fn a_peer_that_closes_or_breaks_off_is_told_and_the_rest_goes_on() {
    let peer = Origin::start();
    let stored = || Reply::ok("content").field("Cache-Status", "p; fwd=uri-miss; stored");
    peer.reply("/closes/*", stored().close_delimited());
    // Announced to be kept, and closed all the same: the next page is asked for again.
    peer.on("/vanishes/*", move |exchange| {
        exchange.reply(&stored());
        exchange.close();
    });
    peer.bytes(
        "/short",
        "HTTP/1.1 200 OK\r\nCache-Status: p; fwd=uri-miss; stored\r\nContent-Length: 9\r\n\r\nshort",
    );
    peer.bytes("/nonsense", "what?\r\n\r\n");
    let lines = "/closes/1\n/closes/2\n/vanishes/1\n/vanishes/2\n/short\n/nonsense\n/closes/3\n";
    let (code, out, err) = warm(peer.address, lines, &["--concurrency", "1"]);
    assert_eq!(
        (code, summary(&out)[0].as_str(), summary(&out)[3].as_str()),
        (Some(1), "filled 5", "failed 2"),
        "{err}"
    );
    assert!(err.contains("/short: ") && err.contains("/nonsense: "), "{err}");
    let (code, _, err) = warm(free_port(), "/p\n", &[]);
    assert_eq!(code, Some(1));
    assert!(err.contains("/p: ") && err.contains("refused"), "{err}");
    let (code, _, err) = warm(peer.address, "# nothing\n", &[]);
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("nothing to fetch was named"), "{err}");
    assert_eq!(warm(peer.address, "", &[]).0, Some(2));
    assert_eq!(warm(peer.address, "/p\n", &["--concurrency", "0"]).0, Some(2));
}
