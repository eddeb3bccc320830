//! The admin listener, the access log, the command's life: how forebay is seen from outside.

use std::net::TcpStream;

use crate::support::*;

#[test]
fn live_and_ready_answer_with_redis_up_and_down() {
    let (origin, mut redis) = (Origin::start(), Redis::start());
    let proxy = Config::new(&origin).redis(&redis).start();
    for up in [true, false] {
        if !up {
            redis.kill();
        }
        assert_eq!(get(proxy.admin, "/live", "").status, 200);
        let ready = get(proxy.admin, "/ready", "");
        assert_eq!((ready.status, ready.is_complete()), (200, true));
        assert!(ready.field("content-type").is_some_and(|value| value.starts_with("application/json")));
        let json: serde_json::Value = serde_json::from_slice(&ready.body).expect("JSON");
        let text = json.to_string();
        assert!(text.contains("memory") && text.contains("redis"), "{text}");
    }
    let alone = Config::new(&origin).start();
    let json: serde_json::Value = serde_json::from_slice(&get(alone.admin, "/ready", "").body).expect("JSON");
    assert!(json.to_string().contains("memory"), "{json}");
}

#[test]
fn the_admin_listener_is_not_the_public_one() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("from the origin").cache("no-store"));
    let proxy = Config::new(&origin).start();
    for path in ["/metrics", "/ready", "/live", "/status", "/purge"] {
        assert_eq!(proxy.get(path).text(), "from the origin", "{path} belongs to the site");
    }
    for (bytes, statuses) in [
        (request("GET", "/nothing", ""), [404].as_slice()),
        (request("POST", "/metrics", "Content-Length: 0\r\n"), &[405, 404]),
        (request("GET", "/../etc/passwd", ""), &[404, 400]),
    ] {
        let answer = send(proxy.admin, bytes);
        assert!(statuses.contains(&answer.status), "{}", answer.status);
    }
    let mut client = Client::to(proxy.admin);
    client.send("nonsense\r\n\r\n");
    client.finish();
    let (rest, _) = client.rest();
    assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&rest));
    assert_eq!(get(proxy.admin, "/live", "").status, 200);
}

#[test]
fn metrics_count_what_happened() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    origin.reply("/private", Reply::ok("content").cache("private"));
    let proxy = Config::new(&origin).route("/fresh", "cache = false").start();
    for (target, times) in [("/p", 4), ("/private", 2), ("/fresh", 3)] {
        for _ in 0..times {
            proxy.get(target);
        }
    }
    for (labels, count) in [
        ([("result", "hit"), ("route", "rest")], 3.0),
        ([("result", "miss"), ("route", "rest")], 3.0),
        ([("result", "bypass"), ("route", "route-1")], 3.0),
        ([("method", "GET"), ("code", "200")], 6.0),
    ] {
        until(&format!("{labels:?} is {count}"), || proxy.metric("forebay_requests_total", &labels) == count);
    }
    let lookups =
        |result| proxy.metric("forebay_cache_lookups_total", &[("tier", "memory"), ("result", result)]);
    assert_eq!(lookups("hit"), 3.0);
    assert!(lookups("miss") >= 2.0);
    assert_eq!(proxy.metric("forebay_not_stored_total", &[("route", "rest")]), 2.0);
    assert_eq!(proxy.metric("forebay_origin_fetches_total", &[]), 6.0);
    assert!(proxy.metric("forebay_cache_bytes", &[("tier", "memory")]) >= 7.0);
    assert!(proxy.metric("forebay_cache_entries", &[("tier", "memory")]) >= 1.0);
    assert_eq!(proxy.metric("forebay_request_duration_seconds_count", &[]), 9.0);
    assert_eq!(proxy.metric("forebay_build_info", &[]), 1.0);
}

#[test]
fn every_series_is_there_and_no_label_is_a_users() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply(
        "*",
        Reply::ok("content ".repeat(1000)).field("Content-Type", "text/plain").cache("max-age=60"),
    );
    let proxy = Config::new(&origin).redis(&redis).start();
    for n in 0..50 {
        let target = format!("/tenant-{n}?token=secret{n}");
        proxy.send(format!("GET {target} HTTP/1.1\r\nHost: tenant-{n}.example\r\n\r\n"));
        proxy.request(&format!("TENANT{n}"), &target, "Content-Length: 0\r\n");
    }
    let text = proxy.metrics();
    for name in [
        "requests_total",
        "request_duration_seconds",
        "cache_lookups_total",
        "cache_bytes",
        "cache_entries",
        "evictions_total",
        "collapsed_total",
        "lock_wait_seconds",
        "origin_fetches_total",
        "origin_duration_seconds",
        "upstream_connections",
        "redis_command_duration_seconds",
        "redis_breaker_state",
        "compression_bytes_total",
        "connections",
        "build_info",
    ] {
        assert!(text.contains(&format!("# TYPE forebay_{name} ")), "forebay_{name} is missing:\n{text}");
    }
    for word in ["tenant", "TENANT", "secret", "token"] {
        assert!(!text.contains(word), "{word} is in\n{text}");
    }
    let series = text.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 1500, "{series} series");
}

#[test]
fn the_access_log_has_a_line_per_request_with_route_result_and_reason() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    let proxy = Config::new(&origin).route("/raw", "cache = false").start();
    proxy.get("/p");
    proxy.get("/p");
    proxy.get("/raw");
    let lines = |route: &str, result: &str| {
        let (route, result) = (format!("route={route}"), format!("result={result}"));
        let has = |line: &&String| {
            let words: Vec<_> =
                line.split_whitespace().map(|word| word.replace('"', "").to_lowercase()).collect();
            words.contains(&route) && words.contains(&result)
        };
        proxy.log().iter().filter(has).count()
    };
    for (route, result) in [("rest", "miss"), ("rest", "hit"), ("route-1", "bypass")] {
        until(&format!("a line for {route} {result}"), || lines(route, result) == 1);
    }
}

#[test]
fn no_request_forges_a_line_of_the_log() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("x"));
    let proxy = Config::new(&origin).start();
    let forged = "%0aforged=line%0d%0aforged=line";
    proxy.get_with(
        &format!("/{forged}"),
        &format!("User-Agent: \u{9b}31m{forged}\r\nReferer: a\tforged=line\r\n"),
    );
    proxy.get("/done");
    until("the last request is logged", || proxy.metric("forebay_requests_total", &[]) >= 2.0);
    assert!(proxy.log().iter().all(|line| !line.trim_start().starts_with("forged")), "{:?}", proxy.log());
}

#[test]
fn sigterm_lets_what_began_end() {
    let origin = Origin::start();
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/p", move |exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nfirst");
        held.wait();
        exchange.send("other");
    });
    let mut proxy = Config::new(&origin).start();
    let mut idle = proxy.connect();
    idle.send(request("GET", "/idle", ""));
    assert_eq!(idle.answer().status, 404);
    let mut busy = proxy.connect();
    busy.send(request("GET", "/p", ""));
    busy.read_until(|text| text.ends_with("first"));
    proxy.terminate();
    assert_eq!(idle.rest(), (Vec::new(), End::Closed), "idle connections end at once");
    until("nobody listens any more", || TcpStream::connect(proxy.address).is_err());
    gate.open();
    assert_eq!(busy.read_until(|text| text.len() >= 5), "other");
    assert_eq!(busy.rest(), (Vec::new(), End::Closed));
    assert!(proxy.ended().success());
}

#[test]
fn a_second_signal_ends_what_the_first_waits_for() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        exchange.hang_up();
    });
    let mut proxy = Config::new(&origin).server("drain_timeout = \"1h\"").start();
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    origin.wait_count("/p", 1);
    proxy.terminate();
    // What comes at once is of the same stop.
    proxy.terminate();
    until("it drains", || proxy.log().iter().any(|line| line.contains("stopping")));
    pass(std::time::Duration::from_millis(1_500));
    assert!(!proxy.log().iter().any(|line| line.contains("stopped at once")));
    proxy.terminate();
    assert_eq!(proxy.ended().code(), Some(1));
    assert!(client.try_answer().is_err());
}

#[test]
fn a_server_that_is_down_is_told_once_and_so_is_its_return() {
    let origin = Origin::start();
    origin.reply("/*", Reply::ok("x").cache("no-store"));
    let gone = free_port();
    let text = Config::new(&origin).text();
    let both = format!("servers = [\"http://{gone}\", \"http://");
    let proxy = Forebay::run(&text.replacen("servers = [\"http://", &both, 1));
    let told = |words: &str| {
        let of_it = |line: &&String| line.contains(words) && line.contains(&gone.to_string());
        proxy.log().iter().filter(of_it).count()
    };
    until("it is told", || {
        assert_eq!(proxy.get("/p").status, 200, "the other answers");
        told("cannot be connected to") == 1
    });
    let back = std::net::TcpListener::bind(gone).unwrap();
    until("its return is told", || {
        // Whoever is sent there gets no answer in time, or a reset; that is not the subject.
        let mut client = proxy.connect();
        client.send(request("GET", "/p", ""));
        pass(std::time::Duration::from_millis(20));
        told("work again") == 1
    });
    drop(back);
    assert_eq!(told("cannot be connected to"), 1);
}

#[test]
fn a_port_that_another_process_shares_is_told() {
    let origin = Origin::start();
    let one = Config::new(&origin).start();
    let shared =
        |proxy: &Forebay| proxy.log().iter().any(|line| line.contains("another process listens here"));
    let text = Config::new(&origin).text().replacen("127.0.0.1:0", &one.address.to_string(), 1);
    let two = Forebay::run(&text);
    until("it is told", || shared(&two));
    assert!(!shared(&one));
}

#[test]
fn draining_ends_when_its_time_is_over() {
    let origin = Origin::start();
    origin.on("/p", |exchange| {
        exchange.hang_up();
    });
    let mut proxy = Config::new(&origin).server("drain_timeout = \"500ms\"").start();
    let mut client = proxy.connect();
    client.send(request("GET", "/p", ""));
    origin.wait_count("/p", 1);
    proxy.terminate();
    proxy.ended();
    assert!(!client.try_answer().is_ok_and(|answer| answer.status == 200));
}

#[test]
fn the_start_says_which_tiers_and_listeners_are_live() {
    let (origin, redis) = (Origin::start(), Redis::absent());
    let proxy = Config::new(&origin).redis_at(redis.address).start();
    for word in ["memory", "redis", "listener=proxy", "listener=admin"] {
        until(word, || proxy.log().iter().any(|line| line.contains(word)));
    }
}

#[test]
fn the_status_tells_what_happened_and_what_is_live() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    origin.reply("/private", Reply::ok("content").cache("private"));
    let proxy = Config::new(&origin).redis(&redis).route("/raw", "cache = false").start();
    for target in ["/p", "/p", "/p", "/private", "/raw"] {
        proxy.get(target);
    }
    let status = eventually("all five are counted", || {
        let status = ask(&proxy, "/status", "").json();
        let is_whole = status["total"]["requests"] == 5 && status["tiers"]["redis"]["live"] == true;
        // A request's reason is counted behind it.
        let is_whole = is_whole && status["reasons"].to_string().contains("route-not-cached");
        is_whole.then_some(status)
    });
    assert_eq!(status["total"]["results"], serde_json::json!({ "hit": 2, "miss": 2, "bypass": 1 }));
    assert_eq!(status["total"]["hit_ratio"], 0.5);
    assert_eq!(status["total"]["not_stored"]["private"], 1);
    let rest = &status["routes"][0];
    assert_eq!((&rest["name"], &rest["requests"]), (&"rest".into(), &4.into()));
    assert_eq!(status["routes"][1]["origin_fetches"]["bypass"], 1);
    let reasons: Vec<_> =
        status["reasons"].as_array().unwrap().iter().map(|reason| &reason["reason"]).collect();
    for reason in ["nothing-stored", "private", "route-not-cached"] {
        assert!(reasons.contains(&&reason.into()), "{reasons:?}");
    }
    assert_eq!(status["tiers"]["memory"]["live"], true);
    assert_eq!(
        (&status["tiers"]["redis"]["configured"], &status["tiers"]["redis"]["live"]),
        (&true.into(), &true.into())
    );
    assert_eq!(status["upstreams"][0]["name"], "origin");
    assert_eq!(status["configuration"]["last_reload_succeeded"], true);
    assert!(status["uptime_seconds"].as_f64().is_some_and(|up| up > 0.0));
}

/// GET from the admin listener by its address, with these field lines.
#[track_caller]
fn ask(proxy: &Forebay, target: &str, lines: &str) -> Answer {
    send(proxy.admin, format!("GET {target} HTTP/1.1\r\nHost: {}\r\n{lines}\r\n", proxy.admin))
}

#[test]
fn the_dashboard_needs_nothing_from_elsewhere_and_no_token_until_it_shows_something() {
    let origin = Origin::start();
    let proxy = Config::new(&origin).admin("token = \"0123456789abcdef\"").start();
    let page = ask(&proxy, "/", "");
    assert_eq!((page.status, page.field("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.field("content-security-policy").expect("a policy").to_owned();
    for part in ["default-src 'none'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    // The policy lets run what the page holds, and nothing else.
    let text = String::from_utf8(page.body).expect("UTF-8");
    for element in ["script", "style"] {
        let after = text.split_once(&format!("<{element}>")).expect(element).1;
        let inside = after.split_once(&format!("</{element}>")).expect(element).0;
        let digest = ring::digest::digest(&ring::digest::SHA256, inside.as_bytes());
        let allowed = policy.split(&format!("{element}-src 'sha256-")).nth(1).expect(element);
        assert_eq!(base64_decoded(allowed.split('\'').next().expect("a hash")), digest.as_ref(), "{element}");
    }
    assert_eq!(ask(&proxy, "/status", "").status, 401);
    assert_eq!(ask(&proxy, "/status", "Authorization: Bearer 0123456789abcdef\r\n").status, 200);
    // With the token the listener may have any name; without, only its own.
    assert_eq!(get(proxy.admin, "/status", "Authorization: Bearer 0123456789abcdef\r\n").status, 200);
    let open = Config::new(&origin).start();
    assert_eq!(ask(&open, "/status", "").status, 200);
    for target in ["/", "/status", "/explain?url=http://a/"] {
        assert_eq!(get(open.admin, target, "").status, 403, "{target} by a name that anybody may point here");
    }
    assert_eq!(get(open.admin, "/metrics", "").status, 200);
}

fn base64_decoded(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let bits =
        text.trim_end_matches('=').bytes().flat_map(|b| (0..6).rev().map(move |bit| value(b) >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}

#[test]
fn explain_tells_what_both_tiers_hold_and_what_would_be_done() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply(
        "/p",
        Reply::ok("content").field("Surrogate-Key", "a b").field("ETag", "\"e\"").cache("max-age=60"),
    );
    origin.reply("/varied", Reply::ok("x").field("Vary", "X-Language").cache("max-age=60"));
    let proxy = Config::new(&origin).redis(&redis).route("/raw", "cache = false").start();
    let explain = |query: &str| {
        let answer = ask(&proxy, &format!("/explain?url=http://shop.example{query}"), "");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let nothing = explain("/p");
    assert_eq!(
        (&nothing["verdict"]["does"], &nothing["verdict"]["reason"]),
        (&"fetch".into(), &"nothing-stored".into())
    );
    assert_eq!(
        (&nothing["route"]["name"], &nothing["key"]["text"]),
        (&"rest".into(), &"http://shop.example/p".into())
    );
    proxy.get("/p");
    let both = eventually("it is in both tiers", || {
        let told = explain("/p");
        (told["tiers"]["redis"]["holds"] == "response").then_some(told)
    });
    assert_eq!((&both["verdict"]["does"], &both["verdict"]["reason"]), (&"answer".into(), &"fresh".into()));
    for tier in ["memory", "redis"] {
        let response = &both["tiers"][tier]["response"];
        assert_eq!(
            (&response["status"], &response["bytes"], &response["validity"]),
            (&200.into(), &7.into(), &"valid".into())
        );
        assert!(
            response["fresh_for"].as_f64().is_some_and(|fresh| fresh > 50.0 && fresh <= 60.0),
            "{response}"
        );
        assert!(
            response["purge_ids"].as_u64().is_some_and(|ids| ids >= 5),
            "key, host, all and two tags: {response}"
        );
        assert!(
            response["fields"].to_string().contains("etag")
                && !response["fields"].to_string().contains("surrogate")
        );
    }
    // Looking counts for nothing and fetches nothing.
    assert_eq!(origin.count("/p"), 1);
    let lookups = proxy.metric("forebay_cache_lookups_total", &[]);
    explain("/p");
    assert_eq!(proxy.metric("forebay_cache_lookups_total", &[]), lookups);

    proxy.purge(&serde_json::json!({ "tags": ["a"] }));
    let soft = explain("/p");
    assert_eq!(
        (&soft["verdict"]["does"], &soft["verdict"]["reason"]),
        (&"validate".into(), &"purged".into())
    );
    assert_eq!(soft["tiers"]["memory"]["response"]["validity"], "soft-purged");
    proxy.purge(&serde_json::json!({ "tags": ["a"], "mode": "hard" }));
    for _ in 0..2 {
        assert_eq!(explain("/p")["verdict"]["reason"], "purged", "looking changes nothing");
    }

    proxy.get_with("/varied", "X-Language: de\r\n");
    let same = eventually("the variant is stored", || {
        let told = explain("/varied&header=x-language:%20de");
        (told["verdict"]["does"] == "answer").then_some(told)
    });
    assert_eq!(explain("/varied")["verdict"]["reason"], "no-variant-matches");
    assert_eq!(same["tiers"]["memory"]["vary"], serde_json::json!([["x-language"]]));
    assert_eq!(explain("/raw")["verdict"]["reason"], "route-not-cached");
    assert_eq!(explain("/p&method=POST")["verdict"]["does"], "forward");
    for query in ["", "?url=/p", "?url=http://a/&urls=b", "?url=http://a/%00"] {
        assert_eq!(ask(&proxy, &format!("/explain{query}"), "").status, 400, "{query}");
    }
}

#[test]
fn the_command_explains_a_running_proxy() {
    let origin = Origin::start();
    origin.reply("/p", Reply::ok("content").cache("max-age=60"));
    let proxy = Config::new(&origin).start();
    proxy.get("/p");
    let admin = format!("http://{}", proxy.admin);
    let told = command(&["explain", "--admin", &admin, "http://shop.example/p"]);
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    for words in [
        "answered from the cache: fresh (RFC 9111 4.2)",
        "Memory    holds a response",
        "Redis     is not configured",
    ] {
        assert!(text.contains(words), "{words}:\n{text}");
    }
    let nobody =
        command(&["explain", "--admin", &format!("http://{}", free_port()), "http://shop.example/p"]);
    assert_eq!(nobody.status.code(), Some(1));
}

#[test]
fn a_configuration_is_loaded_again_and_a_faulty_one_changes_nothing() {
    let origin = Origin::start();
    origin.reply("*", Reply::ok("x"));
    let config = |lines: &str| Config::new(&origin).defaults(lines).text();
    let proxy = Forebay::run(&config("ttl = \"60s\""));
    proxy.get("/p");
    assert_eq!(proxy.get("/p").x_cache(), "HIT");

    proxy.configure(&config("tttl = \"60s\"\nkeep = 5"));
    let refused = proxy.post_with("/reload", "", "");
    assert_eq!(refused.status, 422);
    let told = refused.json();
    let problems: Vec<_> =
        told["problems"].as_array().unwrap().iter().filter_map(|line| line.as_str()).collect();
    assert_eq!((problems.len(), &told["loaded"]), (2, &false.into()));
    assert!(problems[0].ends_with("defaults.tttl: unknown key; did you mean \"ttl\"?"), "{problems:?}");
    assert_eq!(proxy.get("/p").x_cache(), "HIT", "the configuration in force stays");
    assert_eq!(proxy.metric("forebay_config_last_reload_success", &[]), 0.0);

    proxy.configure(&config("cache = false").replace("workers = 2", "workers = 3"));
    let loaded = proxy.post_with("/reload", "", "");
    assert_eq!(
        (loaded.status, loaded.json()),
        (200, serde_json::json!({ "loaded": true, "needs_restart": ["[server]"] }))
    );
    assert_eq!(proxy.get("/p").x_cache(), "BYPASS");
    assert_eq!(proxy.metric("forebay_config_last_reload_success", &[]), 1.0);
    assert_eq!(send(proxy.admin, request("POST", "/reload", "Content-Length: 0\r\n")).status, 403);
    assert_eq!(ask(&proxy, "/reload", "").status, 405);
}
