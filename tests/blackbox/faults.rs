//! Redis fails in every way that can be staged, under steady load, while the origin is healthy: nobody is
//! failed, no answer is wrong or breaks off, the time that is lost is bounded, and all is as before when the fault
//! is over, with no restart.
//!
//! Each fault is staged on a fleet of its own: two proxies, one Redis, and between them a relay or a server
//! that lies. Figures are printed, and go into the README; what is asserted are counts, not times.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::support::*;

/// What goes wrong.
#[derive(Clone, Debug)]
enum Trouble {
    /// Between the proxies and Redis.
    Network(Fault),
    /// What Redis answers.
    Answers(Lie),
    /// `kill -9`, then an empty server in its place.
    Killed,
    /// The process is stopped, then continued.
    Stopped,
}

/// One fault of the table.
struct Case {
    name: &'static str,
    trouble: Trouble,
    /// What counts it (a `kind` of `forebay_redis_errors_total`), unless nothing has to.
    counted: Option<&'static [&'static str]>,
    /// Whether the fleet can be told of a purge meanwhile; `None`: it may, or it may not.
    told: Option<bool>,
}

/// What it did.
struct Figures {
    name: &'static str,
    answered: usize,
    failed: Vec<String>,
    continued: f64,
    wrong: Vec<String>,
    overruns: f64,
    before: Duration,
    during: Duration,
    slowest: Duration,
    recovery: Duration,
    purge: u16,
}

const fn network(
    name: &'static str,
    fault: Fault,
    counted: Option<&'static [&'static str]>,
    told: Option<bool>,
) -> Case {
    Case { name, trouble: Trouble::Network(fault), counted, told }
}

fn refuses(
    name: &'static str,
    commands: Commands,
    line: &str,
    counted: &'static [&'static str],
    told: Option<bool>,
) -> Case {
    Case { name, trouble: Trouble::Answers(Lie::line(commands, line)), counted: Some(counted), told }
}

#[test]
fn faults_of_the_network() {
    let timeouts = Some(&["timeout"][..]);
    table(&[
        network("each piece 5 ms later", Fault::Delay(Duration::from_millis(5)), None, Some(true)),
        network("each piece 200 ms later", Fault::Delay(Duration::from_millis(200)), timeouts, None),
        network("16 bytes every 20 ms", Fault::Drip(Duration::from_millis(20)), timeouts, None),
        network("black hole", Fault::Blackhole, timeouts, Some(false)),
        network("peer gone without a word (half-open)", Fault::HalfOpen, timeouts, None),
        network("every connection reset", Fault::Reset, Some(&["io"]), Some(false)),
        network("one bit in every 20th piece", Fault::Corrupt { every: 20, seed: 7 }, Some(&[]), None),
        network("one bit in every 3rd piece", Fault::Corrupt { every: 3, seed: 8 }, Some(&[]), None),
    ]);
}

#[test]
fn faults_of_the_server() {
    use Commands::{All, Writes};
    let stopped = Case {
        name: "stopped (SIGSTOP)",
        trouble: Trouble::Stopped,
        counted: Some(&["timeout"]),
        told: Some(false),
    };
    let killed = Case {
        name: "killed (SIGKILL), back empty",
        trouble: Trouble::Killed,
        counted: Some(&["io"]),
        told: Some(false),
    };
    table(&[
        stopped,
        killed,
        refuses("LOADING", All, "-LOADING Redis is loading the dataset in memory", &["busy"], Some(false)),
        refuses(
            "BUSY",
            All,
            "-BUSY Redis is busy running a script. You can only call SCRIPT KILL.",
            &["busy"],
            Some(false),
        ),
        refuses(
            "OOM",
            Writes,
            "-OOM command not allowed when used memory > 'maxmemory'.",
            &["oom"],
            Some(false),
        ),
        refuses(
            "READONLY",
            Writes,
            "-READONLY You can't write against a read only replica.",
            &["readonly"],
            Some(false),
        ),
        refuses(
            "MISCONF",
            Writes,
            "-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
            &["readonly"],
            Some(false),
        ),
        refuses("MOVED to a dead port", All, "-MOVED 866 127.0.0.1:1", &["other"], Some(false)),
        refuses("ASK to a dead port", All, "-ASK 866 127.0.0.1:1", &["other"], Some(false)),
    ]);
}

#[test]
fn faults_of_the_answers() {
    use Commands::{All, Reads, Writes};
    let says = |name, commands, words: &[u8]| Case {
        name,
        trouble: Trouble::Answers(Lie::Say(commands, words.to_vec())),
        counted: Some(&[]),
        told: None,
    };
    let lies = |name, lie| Case { name, trouble: Trouble::Answers(lie), counted: Some(&[]), told: None };
    table(&[
        says("NOSCRIPT whatever is sent", Writes, b"-NOSCRIPT No matching script.\r\n"),
        says("a number for a string", Reads, b":7\r\n"),
        says("a map for a string", Reads, b"%1\r\n$1\r\na\r\n$1\r\nb\r\n"),
        says("arrays in arrays", Reads, &[b"*1\r\n".repeat(100), b":1\r\n".to_vec()].concat()),
        says("a string of ten gigabytes", Reads, b"$9999999999\r\n"),
        says("bytes of no protocol", All, b"\x00\xff\xfeHTTP/1.1 400\r\n\r\n"),
        lies("half an answer, then nothing", Lie::Half(Reads)),
        lies("half an answer, then closed", Lie::Cut(All)),
        lies("another key's record", Lie::Swap),
        lies("one answer too many", Lie::Extra),
        lies("one answer too few", Lie::Swallow),
    ]);
}

#[test]
fn a_connection_whose_answers_belong_to_other_commands_is_given_up() {
    let (origin, scene) = (origin(), Stage::set());
    let config = Config::new(&origin).redis_at(scene.stand_in.address).without_memory();
    let fleet = [config.clone().start(), config.start()];
    let fresh = AtomicUsize::new(0);
    until("the fleet shares through Redis", || shares(&fleet, &fresh));
    // Many at once: a pipeline that never runs dry has no end at which a lost answer would be missed.
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..16 {
            let (address, stop) = (fleet[0].address, &stop);
            scope.spawn(move || {
                let mut client = Client::to(address);
                let targets = (0..).map(|round| format!("/redis/{}", (number + round) % 16));
                for target in targets.take_while(|_| !stop.load(Ordering::Acquire)) {
                    client.send(request("GET", &target, ""));
                    let verdict = judge(&client.try_answer(), &target, "");
                    assert!(matches!(verdict, Verdict::Right), "{target}");
                }
            });
        }
        // Also when the test gives up: nobody waits for clients that never end.
        let _stopping = StopAtEnd(&stop);
        scene.stand_in.tell(Lie::Swallow);
        until("it is noticed", || fleet[0].log().iter().any(|line| line.contains("OutOfStep")));
        scene.stand_in.tell(Lie::None);
        until("the fleet shares through Redis again", || shares(&fleet, &fresh));
    });
}

#[test]
fn purges_are_obeyed_or_refused_though_bits_are_flipped() {
    let (origin, scene) = (origin(), Stage::set());
    let config = Config::new(&origin).redis_at(scene.relay.address).redis_line("purge_grace = \"1h\"");
    let fleet = [config.clone().start(), config.start()];
    let fresh = AtomicUsize::new(0);
    until("the fleet shares through Redis", || shares(&fleet, &fresh) && fleet.iter().all(in_order));
    let targets: Vec<_> = (0..16).map(|n| format!("/memory/{n}")).collect();
    for target in &targets {
        for proxy in &fleet {
            until("it is in memory", || proxy.get(target).cache_status().contains("detail=memory"));
        }
    }
    let (mut told, mut untold) = (0, 0);
    for (n, target) in targets.iter().enumerate() {
        // Now one proxy's purge, now the other's.
        let [this, other] = [n % 2, (n + 1) % 2].map(|which| &fleet[which]);
        until("the journal is read", || this.in_sync());
        scene.relay.set(Fault::Corrupt { every: 3, seed: n as u64 });
        let answer = this.post("/purge", &json!({ "urls": [format!("http://shop.example{target}")] }));
        // Time for what others read of it to be damaged as well.
        pass(Duration::from_millis(30));
        scene.relay.set(Fault::None);
        match answer.status {
            200 => told += 1,
            _ => untold += 1,
        }
        assert!(version(&this.get(target)) > 1, "it holds where it was told: {}", answer.text());
        until("the other obeys", || version(&other.get(target)) > 1);
    }
    println!(
        "with every third piece bent, {told} purges of {} were told at once, {untold} later",
        targets.len()
    );
    until("all is in order", || fleet.iter().all(in_order));
    // Numbers go with the clock, sixteen for each millisecond: no damaged one was believed.
    let latest = (::forebay::clock::wall().0 + 60_000) * 16;
    for proxy in &fleet {
        let sequence = proxy.ready()["journal"]["sequence"].as_u64().expect("a number");
        assert!(sequence < latest, "{sequence}");
    }
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Stages each, prints what it did, and only then judges.
fn table(cases: &[Case]) {
    let rows: Vec<Figures> = cases.iter().map(stage).collect();
    println!(
        "| fault | answered | failed | wrong | continued | Redis time-outs | added p99 | slowest | purge | recovered in |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    for row in &rows {
        println!(
            "| {} | {} | {} | {} | {} | {} | {} ms | {} ms | {} | {:.1} s |",
            row.name,
            row.answered,
            row.failed.len(),
            row.wrong.len(),
            row.continued,
            row.overruns,
            row.during.saturating_sub(row.before).as_millis(),
            row.slowest.as_millis(),
            row.purge,
            row.recovery.as_secs_f64()
        );
    }
    for row in &rows {
        assert!(row.failed.is_empty(), "{}: {:?}", row.name, row.failed);
        assert!(row.wrong.is_empty(), "{}: {:?}", row.name, row.wrong);
        assert!(
            row.overruns <= MOST_OVERRUNS + row.answered as f64 / 4.0,
            "{}: {} commands used up their time for {} answers",
            row.name,
            row.overruns,
            row.answered
        );
    }
}

/// Of two proxies with two workers each: five time-outs in a row stop a connection, those under way at that
/// moment may follow, and each has a second connection for long bodies. Then probes, and the journal's tries.
/// Where the machine itself makes commands late now and then, some more: without a breaker it would be two for
/// each answer.
const MOST_OVERRUNS: f64 = 150.0;

/// Answers before the fault, and at least so many under it.
const BEFORE: usize = 150;
const DURING: usize = 300;

/// Where a fleet's Redis is reached.
struct Stage {
    redis: Redis,
    relay: Relay,
    stand_in: StandIn,
}

impl Stage {
    fn set() -> Self {
        let redis = Redis::start();
        let relay = Relay::to(redis.address);
        let stand_in = StandIn::for_server(redis.address);
        Self { redis, relay, stand_in }
    }

    fn address(&self, trouble: &Trouble) -> SocketAddr {
        match trouble {
            Trouble::Network(_) => self.relay.address,
            Trouble::Answers(_) => self.stand_in.address,
            Trouble::Killed | Trouble::Stopped => self.redis.address,
        }
    }

    fn begin(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Network(fault) => self.relay.set(*fault),
            Trouble::Answers(lie) => self.stand_in.tell(lie.clone()),
            Trouble::Killed => self.redis.kill(),
            Trouble::Stopped => self.redis.pause(),
        }
    }

    fn end(&mut self, trouble: &Trouble) {
        match trouble {
            Trouble::Network(_) => self.relay.set(Fault::None),
            Trouble::Answers(_) => self.stand_in.tell(Lie::None),
            Trouble::Killed => self.redis.restart(),
            Trouble::Stopped => self.redis.resume(),
        }
    }
}

fn stage(case: &Case) -> Figures {
    let (origin, mut scene) = (origin(), Stage::set());
    // Bodies of `/redis/` are too long for the memory tier.
    let config =
        Config::new(&origin).redis_at(scene.address(&case.trouble)).memory("max_object_size = \"2KiB\"");
    let fleet = [config.clone().start(), config.start()];
    let fresh = AtomicUsize::new(0);
    until("the fleet shares through Redis", || shares(&fleet, &fresh));
    for target in Kind::held() {
        for proxy in &fleet {
            until("it is held", || proxy.get(&target).cache_status().contains("hit"));
        }
    }
    let errors = |kinds: &[&str]| -> f64 {
        let all = kinds.iter().map(|kind| vec![("kind", *kind)]);
        let all: Vec<_> = if kinds.is_empty() { vec![Vec::new()] } else { all.collect() };
        let count = |proxy: &Forebay| -> f64 {
            all.iter().map(|labels| proxy.metric("forebay_redis_errors_total", labels)).sum()
        };
        fleet.iter().map(count).sum()
    };

    let continued = || -> f64 {
        let count = |proxy| Forebay::metric(proxy, "forebay_origin_fetches_total", &[("cause", "continue")]);
        fleet.iter().map(count).sum()
    };

    let load = Load::on(&fleet);
    load.more(BEFORE);
    let continued_before = continued();
    let (errors_before, overruns_before) = (errors(case.counted.unwrap_or_default()), errors(&["timeout"]));
    load.enter(Phase::During);
    scene.begin(&case.trouble);
    if let Some(kinds) = case.counted {
        until("the fault is felt", || errors(kinds) > errors_before);
    }
    let ask = || fleet[0].post("/purge", &json!({ "urls": ["http://shop.example/memory/purged"] }));
    let purge = match case.told {
        Some(true) => eventually("the fleet is told", || Some(ask()).filter(|answer| answer.status == 200)),
        Some(false) | None => ask(),
    };
    let local = fleet[0].get("/memory/purged");
    load.reaches(DURING);
    let overruns = errors(&["timeout"]) - overruns_before;

    load.enter(Phase::After);
    scene.end(&case.trouble);
    let lifted = ::forebay::clock::monotonic();
    until("the fleet shares through Redis again", || fleet.iter().all(in_order) && shares(&fleet, &fresh));
    let recovery = lifted.elapsed();
    until("the other proxy obeys the purge", || version(&fleet[1].get("/memory/purged")) > 1);
    load.more(50);

    let (case, told) = (case.name, case.told);
    assert!(version(&local) > 1, "{case}: a purge holds where it was told: {}", local.cache_status());
    let expected: &[u16] = match told {
        Some(true) => &[200],
        Some(false) => &[503],
        None => &[200, 503],
    };
    assert!(expected.contains(&purge.status), "{case}: {} {}", purge.status, purge.text());
    for proxy in &fleet {
        assert!(version(&proxy.get("/memory/purged")) > 1, "{case}: what was purged is gone for good");
    }
    let tally = load.stop();
    let continued = continued() - continued_before;
    Figures {
        name: case,
        answered: tally.during.len(),
        failed: tally.failed,
        continued,
        wrong: tally.wrong,
        overruns,
        before: percentile_99(&tally.before),
        during: percentile_99(&tally.during),
        slowest: tally.during.iter().copied().max().unwrap_or_default(),
        recovery,
        purge: purge.status,
    }
}

/// Whether what one proxy fetches reaches the other through Redis, both ways.
fn shares(fleet: &[Forebay; 2], fresh: &AtomicUsize) -> bool {
    let [one, two] = fleet;
    [(one, two), (two, one)].into_iter().all(|(from, to)| {
        let target = format!("/redis/fresh/{}", fresh.fetch_add(1, Ordering::Relaxed));
        from.get(&target);
        // Records are written off the request's path.
        pass(Duration::from_millis(10));
        to.get(&target).cache_status().contains("detail=redis")
    })
}

/// No breaker is open, and the fleet's purges are read and told.
fn in_order(proxy: &Forebay) -> bool {
    let ready = proxy.ready();
    let workers = ready["tiers"]["redis"]["workers"].as_array().cloned().unwrap_or_default();
    let closed = |worker: &serde_json::Value| {
        worker["connected"] == true && worker["breaker"] == "closed" && worker["write_breaker"] == "closed"
    };
    let journal = &ready["journal"];
    !workers.is_empty() && workers.iter().all(closed) && journal["in_sync"] == true && journal["untold"] == 0
}

fn percentile_99(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() * 99 / 100).copied().unwrap_or_default()
}

// === What is asked, and what is right ===

/// The kinds of targets, by where their answers come from while all is well.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    Redis,
    Miss,
    Private,
    Chunked,
}

impl Kind {
    fn of(target: &str) -> Self {
        match target.split('/').nth(1) {
            Some("memory") => Self::Memory,
            Some("redis") => Self::Redis,
            Some("miss") => Self::Miss,
            Some("private") => Self::Private,
            _ => Self::Chunked,
        }
    }

    /// Bytes of content.
    const fn length(self) -> usize {
        match self {
            Self::Memory | Self::Private => 200,
            Self::Redis | Self::Miss => 6 << 10,
            // Five values: three of them are still to be read when the head is sent.
            Self::Chunked => 1200 << 10,
        }
    }

    const fn cache_control(self) -> &'static str {
        match self {
            Self::Private => "private, no-store",
            Self::Memory | Self::Redis | Self::Miss | Self::Chunked => "max-age=600",
        }
    }

    /// What both proxies hold before the fault.
    fn held() -> Vec<String> {
        let kinds = [("memory", 10), ("redis", 20), ("chunked", 2)];
        let numbered =
            kinds.iter().flat_map(|(kind, count)| (0..*count).map(move |n| format!("/{kind}/{n}")));
        numbered.chain(["/memory/purged".to_owned()]).collect()
    }

    /// A target of a steady mix; `unique` was not asked for before.
    fn target(random: &mut fastrand::Rng, unique: usize) -> String {
        match random.u32(0..100) {
            0..35 => format!("/memory/{}", random.u32(0..10)),
            35..65 => format!("/redis/{}", random.u32(0..20)),
            65..80 => format!("/miss/{unique}"),
            80..95 => format!("/private/{}", random.u32(0..5)),
            _ => format!("/chunked/{}", random.u32(0..2)),
        }
    }
}

/// What the origin answers: which target, the how-manieth fetch of it, who asked where that matters, and
/// bytes that follow from those.
fn content(target: &str, nth: usize, asker: &str) -> Vec<u8> {
    let kind = Kind::of(target);
    // A long body stays what it is: its rest can be had.
    let nth = if matches!(kind, Kind::Chunked) { 1 } else { nth };
    let asker = if matches!(kind, Kind::Private) { asker } else { "anybody" };
    let mut content = format!("{nth} {target} {asker}\n").into_bytes();
    let seed = content.iter().fold(7_u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    content.extend(noise(seed, kind.length()));
    content
}

/// The number that an answer begins with.
fn version(answer: &Answer) -> usize {
    let digits = answer.body.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))
}

fn origin() -> Origin {
    let origin = Origin::start();
    origin.on("/*", |exchange| {
        let target = exchange.target().to_owned();
        let asker = exchange.head().field("x-asker").unwrap_or_default().to_owned();
        let body = content(&target, exchange.nth(), &asker);
        let range =
            exchange.head().field("range").and_then(|range| range.strip_prefix("bytes=")?.split_once('-'));
        let reply = match range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?))) {
            Some((first, last)) => {
                let told = format!("bytes {first}-{last}/{}", body.len());
                Reply::new(206).field("Content-Range", told).body(&body[first..=last])
            }
            None => Reply::ok(&body),
        };
        let kind = Kind::of(&target);
        let reply = if matches!(kind, Kind::Chunked) { reply.field("ETag", "\"1\"") } else { reply };
        exchange.reply(&reply.cache(kind.cache_control()));
    });
    origin
}

// === Steady load ===

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum Phase {
    During = 1,
    After,
}

/// What the clients saw.
#[derive(Default)]
struct Tally {
    failed: Vec<String>,
    wrong: Vec<String>,
    before: Vec<Duration>,
    during: Vec<Duration>,
}

/// Clients that ask at a steady pace until they are stopped, half of them each proxy.
struct Load {
    stop: Arc<AtomicBool>,
    phase: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    tally: Arc<Mutex<Tally>>,
    clients: Vec<JoinHandle<()>>,
}

const CLIENTS: usize = 6;
/// Between an answer and the next request of a client.
const PAUSE: Duration = Duration::from_millis(10);

impl Load {
    fn on(fleet: &[Forebay]) -> Self {
        let (stop, phase) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (answered, tally) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Tally::default())));
        let clients = (0..CLIENTS).map(|number| {
            let address = fleet[number % fleet.len()].address;
            let (stop, phase) = (Arc::clone(&stop), Arc::clone(&phase));
            let (answered, tally) = (Arc::clone(&answered), Arc::clone(&tally));
            std::thread::spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                let mut client = Client::to(address);
                for round in 0.. {
                    if stop.load(Ordering::Acquire) {
                        return;
                    }
                    let target = Kind::target(&mut random, round * CLIENTS + number);
                    let asker = format!("{number}-{round}");
                    let begun_in = phase.load(Ordering::Acquire);
                    let begun = ::forebay::clock::monotonic();
                    client.send(request("GET", &target, &format!("X-Asker: {asker}\r\n")));
                    let answer = client.try_answer();
                    let took = begun.elapsed();
                    let judged = judge(&answer, &target, &asker);
                    let mut tally = tally.lock().unwrap();
                    match judged {
                        Verdict::Right => {}
                        Verdict::Wrong(what) => tally.wrong.push(what),
                        Verdict::Failed(what) => {
                            tally.failed.push(what);
                            client = Client::to(address);
                        }
                    }
                    match begun_in {
                        0 => tally.before.push(took),
                        1 => tally.during.push(took),
                        _ => {}
                    }
                    drop(tally);
                    answered.fetch_add(1, Ordering::AcqRel);
                    pass(PAUSE);
                }
            })
        });
        let clients = clients.collect();
        Self { stop, phase, answered, tally, clients }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as usize, Ordering::Release);
    }

    /// Returns once this many more requests were answered.
    #[track_caller]
    fn more(&self, count: usize) {
        let target = self.answered.load(Ordering::Acquire) + count;
        until("the load goes on", || self.answered.load(Ordering::Acquire) >= target);
    }

    /// Returns once this many requests were answered under the fault.
    #[track_caller]
    fn reaches(&self, count: usize) {
        until("the load goes on", || self.tally.lock().unwrap().during.len() >= count);
    }

    fn stop(self) -> Tally {
        self.stop.store(true, Ordering::Release);
        for client in self.clients {
            client.join().expect("a client");
        }
        std::mem::take(&mut *self.tally.lock().unwrap())
    }
}

enum Verdict {
    Right,
    /// A whole answer that is not this one.
    Wrong(String),
    /// No whole answer, or an error.
    Failed(String),
}

fn judge(answer: &Result<Answer, End>, target: &str, asker: &str) -> Verdict {
    match answer {
        Err(end) => Verdict::Failed(format!("{target}: no answer: {end:?}")),
        Ok(answer) if !answer.is_complete() || answer.status != 200 => {
            Verdict::Failed(format!("{target}: {} {:?} {}", answer.status, answer.end, answer.cache_status()))
        }
        Ok(answer) if answer.body == content(target, version(answer), asker) => Verdict::Right,
        Ok(answer) => {
            let begins = String::from_utf8_lossy(&answer.body[..answer.body.len().min(60)]);
            Verdict::Wrong(format!("{target} for {asker}: {begins:?} {}", answer.cache_status()))
        }
    }
}
