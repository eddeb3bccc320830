//! Redis in every way in which people run it, and what becomes of requests while it moves.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::support::*;

/// What two proxies share through this Redis, in little. `config` is without a memory tier, so that
/// every hit is Redis's.
fn the_little_suite(redis: &dyn Fleet, config: &Config, origin: &Origin) {
    let (one, two) = (config.clone().start(), config.clone().start());
    everything_is_shared(redis, &one, &two, origin);
    for proxy in [&one, &two] {
        for kind in ["timeout", "io", "protocol", "wrong_type", "noperm", "readonly", "oom", "other"] {
            let errors = proxy.metric("forebay_redis_errors_total", &[("kind", kind)]);
            assert_eq!(errors, 0.0, "{kind}\n{}", proxy.log().join("\n"));
        }
    }
}

fn everything_is_shared(redis: &dyn Fleet, one: &Forebay, two: &Forebay, origin: &Origin) {
    // Small answers, enough of them to lie with every master; two look like what a cluster says.
    for n in 0..16 {
        origin.reply(&format!("/small/{n}"), Reply::ok(format!("small {n}")).cache("max-age=600"));
    }
    for (target, body) in [("/moved", "MOVED 1 127.0.0.1:9"), ("/ask", "ASK 1 127.0.0.1:9")] {
        origin.reply(target, Reply::ok(body).cache("max-age=600"));
    }
    let smalls: Vec<String> = (0..16).map(|n| format!("/small/{n}")).collect();
    for target in smalls.iter().map(String::as_str).chain(["/moved", "/ask"]) {
        let body = one.get(target).text();
        redis.wait_for(&body);
        let hit = two.get(target);
        hit.expect(200, "HIT", &body);
        assert!(hit.cache_status().contains("detail=redis"), "{}", hit.cache_status());
        assert_eq!(origin.count(target), 1, "{target}");
    }

    // A long body, in chunks.
    let long = noise(7, 700_000);
    origin.reply("/long", Reply::ok(long.clone()).cache("max-age=600"));
    assert!(one.get("/long").body == long);
    assert!(hit_from_redis(two, "/long").body == long);

    // Variants.
    origin.on("/vary", |exchange| {
        let language = exchange.head().field("x-language").unwrap_or_default().to_owned();
        exchange.reply(&Reply::ok(format!("in {language}")).field("Vary", "X-Language").cache("max-age=600"));
    });
    for language in ["de", "fr"] {
        one.get_with("/vary", &format!("X-Language: {language}\r\n"));
        redis.wait_for(&format!("in {language}"));
    }
    for language in ["fr", "de"] {
        let lines = format!("X-Language: {language}\r\n");
        let hit =
            eventually(language, || Some(two.get_with("/vary", &lines)).filter(|a| a.x_cache() == "HIT"));
        assert_eq!(hit.text(), format!("in {language}"));
    }

    // The fleet's lock: many clients of both proxies, one fetch, which takes longer than the lock lives.
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/crowd", move |exchange| {
        held.wait();
        exchange.reply(&Reply::ok(format!("crowd {}", exchange.nth())).cache("max-age=600"));
    });
    let answers = fan_out(
        &[one.address, two.address],
        60,
        |_| request("GET", "/crowd", ""),
        || {
            origin.wait_count("/crowd", 1);
            until("the lock was renewed", || renewals(one) + renewals(two) >= 2.0);
            gate.open();
        },
    );
    let bodies: HashSet<_> = answers.iter().map(|answer| (answer.status, answer.text())).collect();
    assert_eq!(bodies, HashSet::from([(200, "crowd 1".to_owned())]));
    assert_eq!(origin.count("/crowd"), 1);

    // An unsafe method.
    origin.on("/changes", |exchange| match exchange.method() {
        "GET" => exchange.reply(&Reply::ok(format!("version {}", exchange.nth())).cache("max-age=600")),
        _ => exchange.reply(&Reply::new(204)),
    });
    one.get("/changes").expect(200, "MISS", "version 1");
    assert_eq!(hit_from_redis(two, "/changes").text(), "version 1");
    assert_eq!(one.request("POST", "/changes", "Content-Length: 0\r\n").status, 204);
    eventually("the new version", || (two.get("/changes").text() == "version 3").then_some(()));
    purges_hold(origin, one, two, "little");
}

fn renewals(proxy: &Forebay) -> f64 {
    proxy.metric("forebay_redis_command_duration_seconds_count", &[("command", "renew")])
}

#[track_caller]
fn hit_from_redis(proxy: &Forebay, target: &str) -> Answer {
    eventually(&format!("{target} comes from Redis"), || {
        Some(proxy.get(target)).filter(|answer| answer.cache_status().contains("detail=redis"))
    })
}

/// No memory tier, and a lock that is renewed soon.
fn config(origin: &Origin, url: &str) -> Config {
    Config::new(origin)
        .redis_url(url)
        .redis_line("read_timeout = \"1s\"\nwrite_timeout = \"1s\"\nlock_ttl = \"2s\"")
        .without_memory()
        .defaults("collapse_timeout = \"30s\"")
}

// === Every way ===

#[test]
fn one_server() {
    let (origin, redis) = (Origin::start(), Redis::start());
    the_little_suite(&redis, &config(&origin, &format!("redis://{}", redis.address)), &origin);
}

#[test]
fn one_server_on_a_socket() {
    let (origin, redis) = (Origin::start(), Redis::with(&["--unixsocket", "redis.sock"]));
    let url = format!("unix://{}/redis.sock", redis.directory().display());
    the_little_suite(&redis, &config(&origin, &url), &origin);
    redis.command(&["FLUSHALL"]);
    let other = config(&origin, &format!("{url}?db=1")).start();
    other.get("/small/1");
    until("the other database is written to", || {
        let keyspace = redis.command(&["INFO", "keyspace"]).bytes().unwrap_or_default();
        String::from_utf8_lossy(&keyspace).contains("db1:keys=")
    });
}

#[test]
fn one_server_over_tls() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let (redis, address) = tls.server();
    let config = config(&origin, &format!("rediss://{address}"));
    let trusting = |ca: &Tls| config.clone().redis_line(&format!("ca = \"{}\"", ca.ca().display()));
    the_little_suite(&redis, &trusting(&tls), &origin);

    // A server that no authority of ours vouches for is not spoken to, and nobody notices but the log.
    redis.command(&["FLUSHALL"]);
    let other = Tls::new();
    let proxy = Forebay::run(&trusting(&other).text());
    proxy.get("/small/1").expect(200, "MISS", "small 1");
    until("the log says why", || {
        proxy.log().iter().any(|line| line.contains("InvalidCertificate(UnknownIssuer)"))
    });
    assert!(redis.keys().is_empty());
}

#[test]
fn a_file_without_certificates_is_told_by_check_and_by_run() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let config = config(&origin, "rediss-cluster://127.0.0.1:1");
    let with = |file: &str| {
        let file = tls.ca().with_file_name(file);
        check(&config.clone().redis_line(&format!("ca = \"{}\"", file.display())).text())
    };
    assert!(with("ca.pem").status.success());
    for (file, why) in [("server.key", "has no certificate"), ("absent.pem", "cannot be read")] {
        let output = with(file);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains("redis.ca: ") && text.contains(why), "{text}");
    }
    let text = config.redis_line("ca = \"/nowhere/ca.pem\"").text();
    let refused = std::panic::catch_unwind(|| Forebay::run(&text)).err().expect("it does not start");
    let refused = refused.downcast_ref::<String>().expect("why");
    assert!(refused.contains("redis.ca: /nowhere/ca.pem cannot be read"), "{refused}");
}

#[test]
fn a_cluster() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    the_little_suite(&cluster, &config(&origin, &cluster.url("redis-cluster")), &origin);
    for master in cluster.masters() {
        assert!(!master.strings().is_empty(), "every master has a share");
    }
}

#[test]
fn a_cluster_over_tls() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let cluster = Cluster::with_tls(&tls);
    let config = config(&origin, &cluster.url("rediss-cluster"));
    the_little_suite(&cluster, &config.redis_line(&format!("ca = \"{}\"", tls.ca().display())), &origin);
}

#[test]
fn sentinels() {
    let (origin, sentinels) = (Origin::start(), Sentinels::start());
    the_little_suite(&sentinels, &config(&origin, &sentinels.url("redis-sentinel")), &origin);
}

#[test]
fn sentinels_over_tls() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let sentinels = Sentinels::with_tls(&tls);
    let config = config(&origin, &sentinels.url("rediss-sentinel"));
    the_little_suite(&sentinels, &config.redis_line(&format!("ca = \"{}\"", tls.ca().display())), &origin);
}

// === The rights of a user ===

/// The user that the README makes, in each way of running Redis, does everything and is denied nothing.
#[test]
fn the_rights_of_the_readme_are_enough() {
    let (origin, redis) = (Origin::start(), Redis::start());
    grant(&redis);
    the_little_suite(&redis, &config(&origin, &format!("redis://{LOGIN}@{}", redis.address)), &origin);
    denied_nothing(&redis);
    // It is those rights that were used.
    let foreign = Resp::to(redis.address).unwrap().command(&["SET", "somebody:elses", "1"]).unwrap();
    assert_eq!(foreign, Value::Text("OK".to_owned()));
    let mut user = Resp::to(redis.address).unwrap();
    user.command(&["AUTH", "forebay", "p@ss:word"]).unwrap();
    for command in [&["GET", "somebody:elses"][..], &["KEYS", "*"], &["FLUSHALL"], &["CONFIG", "GET", "*"]] {
        let answer = user.command(command).unwrap();
        assert!(matches!(&answer, Value::Error(why) if why.starts_with("NOPERM")), "{command:?}: {answer:?}");
    }
}

#[test]
fn the_rights_of_the_readme_are_enough_in_a_cluster() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    cluster.servers().into_iter().for_each(grant);
    let url = cluster.url("redis-cluster").replace("://", &format!("://{LOGIN}@"));
    the_little_suite(&cluster, &config(&origin, &url), &origin);
    cluster.servers().into_iter().for_each(denied_nothing);
}

#[test]
fn the_rights_of_the_readme_are_enough_with_sentinels_that_have_a_login_of_their_own() {
    let (origin, sentinels) = (Origin::start(), Sentinels::start());
    sentinels.servers().into_iter().for_each(grant);
    for sentinel in sentinels.watchers() {
        for line in [readme("ACL SETUSER looker "), "ACL SETUSER default -sentinel|sentinels".to_owned()] {
            let line = line.replace("PASSWORD", "s&cret");
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(sentinel.command(&words), Value::Text("OK".to_owned()), "{line}");
        }
    }
    let url = sentinels.url("redis-sentinel").replace("://", &format!("://{LOGIN}@"));
    let url = format!("{url}?sentinel_user=looker&sentinel_password=s%26cret");
    the_little_suite(&sentinels, &config(&origin, &url), &origin);
    sentinels.servers().into_iter().for_each(denied_nothing);
    sentinels.watchers().into_iter().for_each(denied_nothing);
}

const LOGIN: &str = "forebay:p%40ss%3Aword";

/// The one line of the README that begins so.
fn readme(beginning: &str) -> String {
    let mut lines = include_str!("../../README.md").lines().filter(|line| line.starts_with(beginning));
    let line = lines.next().unwrap_or_else(|| panic!("the README has {beginning:?}"));
    assert_eq!(lines.next(), None, "one such line");
    line.to_owned()
}

fn grant(server: &Redis) {
    let line = readme("ACL SETUSER forebay ").replace("PASSWORD", "p@ss:word");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!(server.command(&words), Value::Text("OK".to_owned()), "{line}");
}

fn denied_nothing(server: &Redis) {
    assert_eq!(server.command(&["ACL", "LOG"]), Value::Array(Vec::new()));
}

// === While Redis moves ===

/// Clients ask both proxies, steadily, while `happens` does; every answer is whole and right.
fn under_load(origin: &Origin, proxies: [&Forebay; 2], happens: impl FnOnce()) {
    origin.on("/load/*", |exchange| exchange.reply(&Reply::ok(exchange.target()).cache("max-age=1")));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let clients = proxies.map(|proxy| {
            let (over, answered) = (&over, &answered);
            scope.spawn(move || {
                for n in (0..40).cycle() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let target = format!("/load/{n}");
                    let answer = proxy.get(&target);
                    assert!(answer.is_complete(), "{target}");
                    assert_eq!((answer.status, answer.text()), (200, target));
                    answered.fetch_add(1, Ordering::Relaxed);
                    // A steady load, not all that the machine can do.
                    pass(std::time::Duration::from_millis(2));
                }
            })
        });
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            happens();
            until("there was a load", || answered.load(Ordering::Relaxed) > 100);
        }));
        over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("every answer is right");
        }
        if let Err(panic) = ended {
            std::panic::resume_unwind(panic);
        }
    });
}

/// What one proxy stores from now on, the other has: keys enough to lie with every master.
fn shared_again(origin: &Origin, one: &Forebay, two: &Forebay, when: &str) {
    origin.on(&format!("/{when}/*"), |exchange| {
        exchange.reply(&Reply::ok(exchange.target()).cache("max-age=600"));
    });
    for n in 0..16 {
        let target = format!("/{when}/{n}");
        for (here, there) in [(one, two), (two, one)] {
            eventually(&format!("{target} is shared"), || {
                here.get(&target);
                there.get(&target).cache_status().contains("detail=redis").then_some(())
            });
        }
    }
    purges_hold(origin, one, two, when);
}

/// What one proxy purges, the other no longer gives, wherever the journal lies by now.
fn purges_hold(origin: &Origin, one: &Forebay, two: &Forebay, when: &str) {
    let target = format!("/tagged-{when}");
    origin.on(&target, |exchange| {
        let version = Reply::ok(exchange.nth().to_string()).field("Cache-Tag", "all");
        exchange.reply(&version.cache("max-age=600"));
    });
    for (here, there) in [(one, two), (two, one)] {
        let version = |proxy: &Forebay| proxy.get(&target).text().parse::<u32>().expect("a number");
        let old = eventually(&format!("{target} is shared"), || {
            let old = version(here);
            (version(there) == old && version(here) == old).then_some(old)
        });
        let purge = serde_json::json!({ "tags": ["all"], "mode": "hard" });
        eventually("the fleet is told", || (here.purge(&purge)["scope"] == "fleet").then_some(()));
        eventually("the other obeys", || (version(there) > old).then_some(()));
        assert!(version(here) > old);
    }
}

/// Two proxies with the time budgets of the contract.
fn two_proxies(origin: &Origin, url: &str) -> (Forebay, Forebay) {
    let config = Config::new(origin).redis_url(url).contract_budgets().without_memory();
    (config.clone().start(), config.start())
}

#[test]
fn a_master_of_a_cluster_dies() {
    let (origin, mut cluster) = (Origin::start(), Cluster::start());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        cluster.kill_a_master();
        cluster.wait_ok();
        shared_again(&origin, &one, &two, "after");
    });
}

#[test]
fn a_master_of_a_cluster_hangs_and_comes_back_as_a_replica() {
    let (origin, mut cluster) = (Origin::start(), Cluster::start());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        cluster.freeze_a_master();
        cluster.wait_ok();
        shared_again(&origin, &one, &two, "without");
        cluster.thaw();
        cluster.wait_ok();
        shared_again(&origin, &one, &two, "after");
    });
}

/// Nobody asks anything, and still: a share of all keys that waits for nothing is noticed.
#[test]
fn a_master_of_a_cluster_that_hangs_is_noticed_before_a_request_meets_it() {
    let (origin, mut cluster) = (Origin::start(), Cluster::start());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    shared_again(&origin, &one, &two, "before");
    let all = |state: &str| {
        let wanted = format!("\"breaker\": \"{state}\"");
        [&one, &two].iter().all(|proxy| {
            let ready = get(proxy.admin, "/ready", "").text();
            ready.matches(&wanted).count() == ready.matches("\"breaker\": ").count()
        })
    };
    until("Redis is in use", || all("closed"));
    cluster.freeze_a_master();
    until("Redis is left alone", || {
        [&one, &two].iter().all(|proxy| proxy.metric("forebay_redis_breaker_state", &[]) > 0.0)
    });
    cluster.wait_ok();
    until("Redis is in use again", || all("closed"));
    shared_again(&origin, &one, &two, "after");
}

#[test]
fn a_slot_of_a_cluster_moves() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    origin.reply("/moves", Reply::ok("it moves").cache("max-age=600"));
    one.get("/moves").expect(200, "MISS", "it moves");
    cluster.wait_for("it moves");
    let key = the_record(&cluster);
    let (_, to) = cluster.owner_and_other(&key);
    under_load(&origin, [&one, &two], || {
        // Asked for, it is with the new master; written to, the slot is still the old one's: ASK.
        cluster.begin_to_move(&key);
        for proxy in [&one, &two] {
            for _ in 0..10 {
                let answer = proxy.get("/moves");
                assert_eq!((answer.status, answer.text().as_str()), (200, "it moves"));
            }
        }
        // MOVED.
        cluster.finish_moving(&key, to);
        cluster.wait_ok();
        for proxy in [&one, &two] {
            assert_eq!(hit_from_redis(proxy, "/moves").text(), "it moves");
        }
        shared_again(&origin, &one, &two, "after");
    });
    assert!(to.strings().contains_key(&key), "it was moved");
    never_replaced(&[&one, &two]);
}

/// The client has come through all of it: no connection had to be made anew.
fn never_replaced(proxies: &[&Forebay]) {
    for proxy in proxies {
        let log = proxy.log();
        assert!(!log.iter().any(|line| line.contains("the Redis client is replaced")), "{log:#?}");
    }
}

/// The name of the one record there is.
fn the_record(cluster: &Cluster) -> String {
    let keys: Vec<String> = cluster.strings().into_keys().filter(|key| key.ends_with(":o")).collect();
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

#[test]
fn a_value_that_reads_like_a_redirection_costs_a_miss() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    origin.reply("/p", Reply::ok("the content").cache("max-age=600"));
    one.get("/p").expect(200, "MISS", "the content");
    cluster.wait_for("the content");
    let key = the_record(&cluster);
    let (owner, _) = cluster.owner_and_other(&key);
    for value in ["MOVED 1 127.0.0.1:9", "ASK 1 127.0.0.1:9"] {
        owner.command(&["SET", &key, value, "PX", "60000"]);
        for proxy in [&one, &two] {
            assert_eq!(proxy.get("/p").text(), "the content", "{value}");
        }
        owner.command(&["DEL", &key]);
        shared_again(&origin, &one, &two, value.split(' ').next().unwrap());
    }
    never_replaced(&[&one, &two]);
}

#[test]
fn scripts_that_a_cluster_forgot_are_sent_again() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    let config = config(&origin, &cluster.url("redis-cluster"));
    let (one, two) = (config.clone().start(), config.start());
    everything_is_shared(&cluster, &one, &two, &origin);
    for master in cluster.masters() {
        master.command(&["FLUSHALL"]);
        master.command(&["SCRIPT", "FLUSH"]);
    }
    origin.reply("/again/*", Reply::ok("again").cache("max-age=600"));
    for n in 0..16 {
        one.get(&format!("/again/{n}")).expect(200, "MISS", "again");
    }
    // Locks are given back by script, at each master.
    until("no lock is left", || !cluster.strings().keys().any(|key| key.ends_with(":l")));
    assert_eq!(one.metric("forebay_redis_errors_total", &[]), 0.0);
}

#[test]
fn a_master_under_sentinels_dies() {
    let (origin, mut sentinels) = (Origin::start(), Sentinels::start());
    let (one, two) = two_proxies(&origin, &sentinels.url("redis-sentinel"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        sentinels.kill_the_master();
        shared_again(&origin, &one, &two, "after");
    });
}

#[test]
fn a_master_under_sentinels_hangs_and_wakes_as_a_replica() {
    let (origin, mut sentinels) = (Origin::start(), Sentinels::start());
    let (one, two) = two_proxies(&origin, &sentinels.url("redis-sentinel"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        sentinels.freeze_the_master();
        shared_again(&origin, &one, &two, "after");
    });
}

#[test]
fn a_master_under_sentinels_is_swapped_while_it_works() {
    let (origin, mut sentinels) = (Origin::start(), Sentinels::start());
    let (one, two) = two_proxies(&origin, &sentinels.url("redis-sentinel"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        sentinels.swap();
        shared_again(&origin, &one, &two, "after");
    });
}
