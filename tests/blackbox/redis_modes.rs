//! Redis in every way in which people run it, and what becomes of requests while it moves.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::long_bodies::at_rest;
use crate::support::*;

/// What two proxies share through this Redis, in little. `config` is without a memory tier, so that
/// every hit is Redis's.
fn the_little_suite(redis: &dyn Fleet, config: &Config, origin: &Origin) {
    let (one, two) = (config.clone().start(), config.clone().start());
    everything_is_shared(redis, &one, &two, origin);
    for proxy in [&one, &two] {
        // Not those of a machine that is too busy to answer: the others tell of misuse.
        for kind in ["protocol", "wrong_type", "noperm", "readonly", "oom", "redirected", "other"] {
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

    // A server that no authority of ours vouches for is not spoken to.
    redis.command(&["FLUSHALL"]);
    let other = Tls::new();
    named(&origin, &trusting(&other), "certificate is from no authority that is trusted here, see redis.ca");
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

/// With the user that the README makes.
#[test]
fn a_cluster() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    cluster.servers().into_iter().for_each(grant);
    let url = cluster.url("redis-cluster").replace("://", &format!("://{LOGIN}@"));
    let config = config(&origin, &url);
    the_little_suite(&cluster, &config, &origin);
    cluster.servers().into_iter().for_each(denied_nothing);
    for master in cluster.masters() {
        assert!(!master.strings().is_empty(), "every master has a share");
    }
    // Whatever was sent, the journal's commands too, went to the master of its key and named one slot.
    for server in cluster.servers() {
        let errors = server.command(&["INFO", "errorstats"]).bytes().unwrap_or_default();
        let errors = String::from_utf8_lossy(&errors).into_owned();
        for error in ["MOVED", "ASK", "CROSSSLOT", "TRYAGAIN"] {
            assert!(!errors.contains(error), "{errors}");
        }
    }

    // Scripts that every master forgot are sent again: locks are given back by script.
    let one = config.start();
    for master in cluster.masters() {
        master.command(&["FLUSHALL"]);
        master.command(&["SCRIPT", "FLUSH"]);
    }
    origin.reply("/again/*", Reply::ok("again").cache("max-age=600"));
    for n in 0..16 {
        one.get(&format!("/again/{n}")).expect(200, "MISS", "again");
    }
    until("no lock is left", || !cluster.strings().keys().any(|key| key.ends_with(":l")));
    for kind in ["redirected", "other"] {
        assert_eq!(one.metric("forebay_redis_errors_total", &[("kind", kind)]), 0.0, "{kind}");
    }
}

#[test]
fn a_cluster_over_tls() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let cluster = Cluster::with_tls(&tls);
    let config = config(&origin, &cluster.url("rediss-cluster"));
    the_little_suite(&cluster, &config.redis_line(&format!("ca = \"{}\"", tls.ca().display())), &origin);
}

// === The rights of a user ===

/// The user that the README makes, in each way of running Redis, does everything and is denied nothing.
#[test]
fn one_server() {
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
fn sentinels_over_tls_with_a_login_of_their_own() {
    let (origin, tls) = (Origin::start(), Tls::new());
    let sentinels = Sentinels::with_tls(&tls);
    let config = |url: &str| config(&origin, url).redis_line(&format!("ca = \"{}\"", tls.ca().display()));
    sentinels.servers().into_iter().for_each(grant);
    for sentinel in sentinels.watchers() {
        for line in [readme("ACL SETUSER looker "), "ACL SETUSER default -sentinel|sentinels".to_owned()] {
            let line = line.replace("PASSWORD", "s&cret");
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!(sentinel.command(&words), Value::Text("OK".to_owned()), "{line}");
        }
    }
    let url = sentinels.url("rediss-sentinel").replace("://", &format!("://{LOGIN}@"));
    let url = format!("{url}?sentinel_user=looker&sentinel_password=s%26cret");
    the_little_suite(&sentinels, &config(&url), &origin);
    sentinels.servers().into_iter().for_each(denied_nothing);
    sentinels.watchers().into_iter().for_each(denied_nothing);
    let (without_login, _) = url.split_once('?').expect("a login");
    let cases = [
        (url.replace("/shop?", "/shop2?"), "sentinels that know no service \"shop2\" give none"),
        (url.replace("=s%26cret", "=s3cr3t"), "none takes the login of redis.url"),
        (without_login.to_owned(), "the user of redis.url may not do all that forebay needs"),
    ];
    let all = cases.map(|(url, why)| (config(&url), why));
    all_named(&origin, &all);
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

// === Redis that cannot be used ===

/// With this configuration users get the origin's answers, and whoever runs forebay learns why Redis is
/// not used: in one line of the log, and in /status. What the URL holds of credentials is told nowhere.
#[track_caller]
fn named(origin: &Origin, config: &Config, why: &str) {
    origin.reply("/named", Reply::ok("the origin's").cache("max-age=600"));
    let proxy = Forebay::run(&config.text());
    let ask = |page: &str| {
        let (admin, close) = (proxy.admin, "Connection: close");
        let answer = send(admin, format!("GET {page} HTTP/1.1\r\nHost: {admin}\r\n{close}\r\n\r\n"));
        assert_eq!(answer.status, 200, "{page}");
        answer
    };
    until(&format!("/status says {why:?}"), || {
        let answer = proxy.get("/named");
        assert_eq!((answer.status, answer.text().as_str()), (200, "the origin's"));
        let status = ask("/status").json();
        status["tiers"]["redis"]["trouble"].as_str().is_some_and(|trouble| trouble.contains(why))
    });
    let told = |log: &[String]| log.iter().filter(|line| line.contains(why)).count();
    until("the log says it", || told(&proxy.log()) > 0);
    assert_eq!(told(&proxy.log()), 1, "{:#?}", proxy.log());
    let mut everything = proxy.log().join("\n") + &proxy.metrics();
    for page in ["/status", "/ready"] {
        everything += &ask(page).text();
    }
    for secret in ["s3cr3t", "p@ss:word", "p%40ss", "s&cret", "s%26cret"] {
        assert!(!everything.contains(secret), "{everything}");
    }
}

/// Each of these, at the same time.
fn all_named(origin: &Origin, cases: &[(Config, &str)]) {
    std::thread::scope(|scope| {
        for (config, why) in cases {
            scope.spawn(move || named(origin, config, why));
        }
    });
}

/// What is older than Redis 6: to each command it answers that it knows none, and what it was sent.
struct Repeats {
    address: SocketAddr,
}

impl Repeats {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("an address");
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                std::thread::spawn(move || {
                    let answer = "-ERR unknown command `HELLO`, with args beginning with: `3`, `AUTH`, `default`, `s3cr3t`, \r\n";
                    let mut buffer = [0; 4096];
                    while client.read(&mut buffer).is_ok_and(|length| length > 0) {
                        if client.write_all(answer.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address }
    }
}

#[test]
fn redis_that_cannot_be_used_is_named_and_nobody_notices() {
    let (origin, redis) = (Origin::start(), Redis::start());
    let mut connection = Resp::to(redis.address).unwrap();
    connection.command(&["CONFIG", "SET", "requirepass", "s3cr3t"]).unwrap();
    connection.command(&["AUTH", "s3cr3t"]).unwrap();
    let rights = readme("ACL SETUSER forebay ").replace("forebay on", "poor on").replace(" +getrange", "");
    let rights = rights.replace("PASSWORD", "s3cr3t");
    let rights: Vec<&str> = rights.split(' ').collect();
    assert_eq!(connection.command(&rights).unwrap(), Value::Text("OK".to_owned()));
    let at = redis.address;
    let old = Repeats::start();
    let cases = [
        (format!("redis://:s3cr3t2@{at}"), "a user or password of redis.url is wrong"),
        (format!("redis://nobody:s3cr3t@{at}"), "a user or password of redis.url is wrong"),
        (format!("redis://{at}"), "Redis wants a password, and redis.url has none"),
        (format!("redis://:s3cr3t@{at}/9"), "there is no database 9"),
        (
            format!("redis-cluster://:s3cr3t@{at}"),
            "redis.url says a cluster, and this server is part of none",
        ),
        (
            format!("redis-sentinel://{at}/shop?sentinel_password=s3cr3t"),
            "redis.url says sentinels, and this server is none",
        ),
        (format!("redis://poor:s3cr3t@{at}"), "the user of redis.url may not do all that forebay needs"),
        (format!("redis://:s3cr3t@{}", old.address), "the server is older than Redis 6"),
        (format!("redis://:s3cr3t@{}", free_port()), "Connection refused"),
        ("unix:///nowhere/redis.sock".to_owned(), "No such file or directory"),
    ];
    all_named(&origin, &cases.map(|(url, why)| (config(&origin, &url), why)));
}

// === While Redis moves ===

/// Clients ask both proxies, steadily, while `happens` does; every answer is whole and right.
/// The library logs in with a line that Redis splits at blanks, and that a line break would end.
#[test]
fn a_login_may_hold_any_character() {
    let (origin, redis) = (Origin::start(), Redis::start());
    origin.reply("/small", Reply::ok("small").cache("max-age=600"));
    let mut connection = Resp::to(redis.address).unwrap();
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    for (nth, password) in
        ["two  words", " ", "a\"b", "it's", "\\x41\"\\", "ünï☃", "line\r\nFLUSHALL\r\n", "@:/?#%"]
            .iter()
            .enumerate()
    {
        let user = format!("user{nth}'");
        let rule = format!(">{password}");
        connection.command(&["ACL", "SETUSER", &user, "on", &rule, "~*", "+@all"]).unwrap();
        let url = format!("redis://{}:{}@{}", encoded(&user), encoded(password), redis.address);
        let config = Config::new(&origin).redis_url(&url).redis_line(&format!("prefix = \"p{nth}\""));
        let proxy = config.without_memory().start();
        proxy.get("/small").expect(200, "MISS", "small");
        eventually(&format!("{password:?} lets it in"), || {
            (proxy.get("/small").cache_status().contains("detail=redis")).then_some(())
        });
    }
}

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
    for (here, there) in [(one, two), (two, one)] {
        let old = tagged(origin, here, there, &target);
        let purge = serde_json::json!({ "tags": ["all"], "mode": "hard" });
        eventually("the fleet is told", || (here.post("/purge", &purge).status == 200).then_some(()));
        eventually("the other obeys", || (version(there, &target) > old).then_some(()));
        assert!(version(here, &target) > old);
    }
}

/// A response with the tag `all` that both have; which version of it.
fn tagged(origin: &Origin, one: &Forebay, two: &Forebay, target: &str) -> u32 {
    origin.on(target, |exchange| {
        let version = Reply::ok(format!("version {}", exchange.nth())).field("Cache-Tag", "all");
        exchange.reply(&version.cache("max-age=600"));
    });
    eventually(&format!("{target} is shared"), || {
        let old = version(one, target);
        (version(two, target) == old && version(one, target) == old).then_some(old)
    })
}

#[track_caller]
fn version(proxy: &Forebay, target: &str) -> u32 {
    let text = proxy.get(target).text();
    text.strip_prefix("version ").and_then(|number| number.parse().ok()).expect("a version")
}

/// Two proxies with the time budgets of the contract.
fn two_proxies(origin: &Origin, url: &str) -> (Forebay, Forebay) {
    let config = Config::new(origin).redis_url(url).contract_budgets().without_memory();
    (config.clone().start(), config.start())
}

/// A slot with a response, and the journal's: first each key is with its new master while the slot is still
/// the old one's (ASK), then the slot moves too (MOVED).
#[test]
fn slots_of_a_cluster_move() {
    let (origin, cluster) = (Origin::start(), Cluster::start());
    // No time-out is the subject here.
    let config = Config::new(&origin).redis_url(&cluster.url("redis-cluster")).without_memory();
    let (one, two) = (config.clone().start(), config.start());
    origin.reply("/moves", Reply::ok("it moves").cache("max-age=600"));
    one.get("/moves").expect(200, "MISS", "it moves");
    cluster.wait_for("it moves");
    let key = the_record(&cluster);
    let (_, to) = cluster.owner_and_other(&key);
    under_load(&origin, [&one, &two], || {
        cluster.begin_to_move(&key);
        for proxy in [&one, &two] {
            for _ in 0..10 {
                let answer = proxy.get("/moves");
                assert_eq!((answer.status, answer.text().as_str()), (200, "it moves"));
            }
        }
        cluster.finish_moving(&key, to);
        cluster.wait_ok();
        for proxy in [&one, &two] {
            assert_eq!(hit_from_redis(proxy, "/moves").text(), "it moves");
        }
        shared_again(&origin, &one, &two, "after");
    });
    assert!(to.strings().contains_key(&key), "it was moved");

    let (_, to) = cluster.owner_and_other(JOURNAL);
    under_load(&origin, [&one, &two], || {
        cluster.begin_to_move(JOURNAL);
        cluster.finish_moving(JOURNAL, to);
        cluster.wait_ok();
        purges_hold(&origin, &one, &two, "journal-moved");
    });
    assert!(to.all_keys().contains_key(JOURNAL), "it was moved");

    // What reads like a redirection, and is the content of a key of ours.
    [&one, &two].into_iter().for_each(at_rest);
    cluster.masters().into_iter().for_each(|master| drop(master.command(&["FLUSHALL"])));
    origin.reply("/p", Reply::ok("the content").cache("max-age=600"));
    eventually("it is stored", || {
        one.get("/p");
        cluster.strings().into_keys().find(|key| key.ends_with(":o"))
    });
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

/// A key of the journal, for its slot.
const JOURNAL: &str = "forebay:{journal}:state";

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
fn masters_of_a_cluster_hang_and_die() {
    let (origin, mut cluster) = (Origin::start(), Cluster::hasty());
    let (one, two) = two_proxies(&origin, &cluster.url("redis-cluster"));
    shared_again(&origin, &one, &two, "before");
    let all = |state: &str| {
        let wanted = format!("\"breaker\": \"{state}\"");
        [&one, &two].iter().all(|proxy| {
            let ready = get(proxy.admin, "/ready", "").text();
            ready.matches(&wanted).count() == ready.matches("\"breaker\": ").count()
        })
    };

    // Nobody asks anything, and still: a share of all keys that waits for nothing is noticed.
    until("Redis is in use", || all("closed"));
    let told = |proxy: &Forebay| {
        proxy.log().iter().filter(|line| line.contains("left alone but for probes")).count()
    };
    let before = [told(&one), told(&two)];
    cluster.freeze_a_master();
    until("Redis is left alone", || told(&one) > before[0] && told(&two) > before[1]);
    cluster.wait_ok();
    until("Redis is in use again", || all("closed"));
    cluster.thaw();
    cluster.wait_ok();

    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "thawed");
        cluster.freeze_a_master();
        cluster.wait_ok();
        shared_again(&origin, &one, &two, "without");
        cluster.thaw();
        cluster.wait_ok();

        // The master of the journal dies, and somebody purges before there is another.
        let old = tagged(&origin, &one, &two, "/meanwhile");
        cluster.kill_the_master_of(JOURNAL);
        let answer = one.post("/purge", &serde_json::json!({ "tags": ["all"], "mode": "hard" }));
        // On a machine that is busy enough there may be another by the time it is told.
        assert!([200, 503].contains(&answer.status), "{}", answer.text());
        assert!(version(&one, "/meanwhile") > old, "it holds where it was asked for");
        cluster.wait_ok();
        eventually("the other obeys", || (version(&two, "/meanwhile") > old).then_some(()));
        shared_again(&origin, &one, &two, "after");
    });
}

#[test]
fn a_master_under_sentinels_is_swapped_and_one_dies() {
    let (origin, mut sentinels) = (Origin::start(), Sentinels::start());
    let (one, two) = two_proxies(&origin, &sentinels.url("redis-sentinel"));
    under_load(&origin, [&one, &two], || {
        shared_again(&origin, &one, &two, "before");
        sentinels.swap();
        shared_again(&origin, &one, &two, "swapped");
        sentinels.kill_the_master();
        shared_again(&origin, &one, &two, "after");
    });
}

/// The new master never heard of it; who did tells it again, so that whoever comes later obeys too.
#[test]
fn a_purge_that_a_failover_lost_is_told_again() {
    let (origin, mut sentinels) = (Origin::start(), Sentinels::start());
    let url = sentinels.url("redis-sentinel");
    let (one, two) = two_proxies(&origin, &url);
    under_load(&origin, [&one, &two], || {
        let old = tagged(&origin, &one, &two, "/lost");
        let content = format!("version {old}");
        until("the replica has it", || sentinels.replica_holds(&content));
        sentinels.cut_off_the_replica();
        let purge = serde_json::json!({ "tags": ["all"], "mode": "hard" });
        eventually("the fleet is told", || (one.post("/purge", &purge).status == 200).then_some(()));
        sentinels.kill_the_master();
        sentinels.wait_for(&content);
        // Until a proxy has found the new master, all that it knows is in order.
        let told_again = |proxy: &Forebay| proxy.log().iter().any(|line| line.contains("told again"));
        until("what was lost is told again", || told_again(&one) || told_again(&two));
        for proxy in [&one, &two] {
            until("nothing is untold", || {
                let journal = &get(proxy.admin, "/ready", "").json()["journal"];
                journal["in_sync"] == true && journal["untold"] == 0
            });
        }
        let three = Config::new(&origin).redis_url(&url).without_memory().start();
        for proxy in [&three, &two, &one] {
            eventually("it obeys", || (version(proxy, "/lost") > old).then_some(()));
        }
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
