//! Redis as people run it: a cluster, a master with its replica and sentinels, TLS.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use super::redis::Redis;
use super::resp::Value;
use super::{eventually, free_port, until};

/// Several servers, seen as one store.
pub(crate) trait Fleet {
    /// Those that run.
    fn servers(&self) -> Vec<&Redis>;

    /// All strings of all masters.
    fn strings(&self) -> BTreeMap<String, Vec<u8>> {
        self.servers().into_iter().filter(|server| is_master(server)).flat_map(Redis::strings).collect()
    }

    /// Waits until some master holds this content in plain sight: records are written off the path.
    #[track_caller]
    fn wait_for(&self, content: &str) {
        until(&format!("Redis holds {content:?}"), || {
            let needle = content.as_bytes();
            self.strings().values().any(|value| value.windows(needle.len()).any(|window| window == needle))
        });
    }
}

impl Fleet for Redis {
    fn servers(&self) -> Vec<&Redis> {
        vec![self]
    }
}

/// The value of `name:value` in what INFO or CLUSTER INFO answers.
fn told(server: &Redis, command: &[&str], name: &str) -> Option<String> {
    let text = String::from_utf8(server.command(command).bytes()?).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned()))
}

pub(crate) fn is_master(server: &Redis) -> bool {
    told(server, &["INFO", "replication"], "role").as_deref() == Some("master")
}

#[track_caller]
fn ok(server: &Redis, command: &[&str]) {
    assert_eq!(server.command(command), Value::Text("OK".to_owned()), "{command:?}");
}

// === TLS ===

/// An authority, a certificate of its for 127.0.0.1, and its key, in files.
pub(crate) struct Tls {
    directory: TempDir,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("an authority");
        // Two authorities of one name would be told apart by their signatures alone.
        let name = format!("authority in {}", directory.path().display());
        authority.distinguished_name.push(rcgen::DnType::CommonName, name);
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = rcgen::CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
        let key = rcgen::KeyPair::generate().expect("a key");
        let server = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a certificate");
        let server = server.signed_by(&key, &authority).expect("a certificate");
        for (name, content) in
            [("ca.pem", authority.pem()), ("server.pem", server.pem()), ("server.key", key.serialize_pem())]
        {
            std::fs::write(directory.path().join(name), content).expect("a file");
        }
        Self { directory }
    }

    /// What a client must trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// Options of a server that speaks TLS on this port; as names and values in turn.
    fn options(&self, address: SocketAddr) -> Vec<String> {
        let file = |name: &str| self.directory.path().join(name).to_string_lossy().into_owned();
        [
            ("tls-port", address.port().to_string()),
            ("tls-cert-file", file("server.pem")),
            ("tls-key-file", file("server.key")),
            ("tls-ca-cert-file", file("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("tls-replication", "yes".to_owned()),
        ]
        .into_iter()
        .flat_map(|(name, value)| [format!("--{name}"), value])
        .collect()
    }

    /// A server that speaks TLS there, beside its plain port.
    pub(crate) fn server(&self) -> (Redis, SocketAddr) {
        let address = free_port();
        (start(self.options(address)), address)
    }
}

fn start(options: Vec<String>) -> Redis {
    Redis::with(&options.iter().map(String::as_str).collect::<Vec<_>>())
}

// === Cluster ===

/// Three masters, each with a replica, all slots served.
pub(crate) struct Cluster {
    nodes: Vec<Node>,
}

struct Node {
    server: Redis,
    /// Where clients are: with TLS, not where [`Redis::address`] says.
    public: SocketAddr,
    alive: bool,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::formed(None, 5_000)
    }

    /// Masters that do not answer are soon replaced.
    pub(crate) fn hasty() -> Self {
        Self::formed(None, 1_000)
    }

    pub(crate) fn with_tls(tls: &Tls) -> Self {
        Self::formed(Some(tls), 5_000)
    }

    fn formed(tls: Option<&Tls>, patience: u32) -> Self {
        let bus: Vec<SocketAddr> = (0..6).map(|_| free_port()).collect();
        let node = |bus: &SocketAddr| {
            let own = [
                ("cluster-enabled", "yes".to_owned()),
                ("cluster-port", bus.port().to_string()),
                ("cluster-node-timeout", patience.to_string()),
                // However long it was cut off: this is a cache, and the test waits.
                ("cluster-replica-validity-factor", "0".to_owned()),
                ("repl-diskless-sync-delay", "0".to_owned()),
            ];
            let mut options: Vec<String> =
                own.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
            let public = tls.map(|tls| {
                let address = free_port();
                options.extend(tls.options(address));
                options.extend(["--tls-cluster".to_owned(), "yes".to_owned()]);
                address
            });
            let server = start(options);
            Node { public: public.unwrap_or(server.address), server, alive: true }
        };
        let cluster = Self { nodes: bus.iter().map(node).collect() };
        cluster.form(&bus);
        cluster
    }

    fn form(&self, bus: &[SocketAddr]) {
        let first = &self.nodes[0].server;
        for (n, (node, bus)) in self.nodes.iter().zip(bus).enumerate() {
            ok(&node.server, &["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()]);
            if n < 3 {
                let (from, to) = (n * 16_384 / 3, (n + 1) * 16_384 / 3 - 1);
                ok(&node.server, &["CLUSTER", "ADDSLOTSRANGE", &from.to_string(), &to.to_string()]);
            }
            if n > 0 {
                let (port, bus) = (node.public.port().to_string(), bus.port().to_string());
                ok(first, &["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
            }
        }
        let ids: Vec<String> = self.nodes.iter().map(|node| id(&node.server)).collect();
        for (n, node) in self.nodes.iter().enumerate() {
            until("every node knows all others", || {
                let known = node.server.command(&["CLUSTER", "NODES"]).bytes().unwrap_or_default();
                let known = String::from_utf8_lossy(&known);
                ids.iter().all(|id| known.contains(id)) && !known.contains("handshake")
            });
            if n >= 3 {
                ok(&node.server, &["CLUSTER", "REPLICATE", &ids[n - 3]]);
            }
        }
        self.wait_ok();
    }

    /// Waits until every node that is alive finds every slot served, by masters that are alive, and every
    /// replica follows one.
    #[track_caller]
    pub(crate) fn wait_ok(&self) {
        let down: Vec<String> =
            self.nodes.iter().filter(|node| !node.alive).map(|node| node.public.port().to_string()).collect();
        for server in self.servers() {
            until("the cluster is whole", || {
                let info = |name: &str| told(server, &["CLUSTER", "INFO"], name);
                let owners = self.owners(server);
                info("cluster_state").as_deref() == Some("ok")
                    && info("cluster_slots_assigned").as_deref() == Some("16384")
                    && !owners.is_empty()
                    && owners.iter().all(|(_, _, port)| !down.contains(&port.to_string()))
            });
            until("a replica follows its master", || {
                let link = told(server, &["INFO", "replication"], "master_link_status");
                link.as_deref() == Some("up") || is_master(server)
            });
        }
    }

    /// First slot, last slot and port of the master, as this node has it.
    fn owners(&self, server: &Redis) -> Vec<(u16, u16, u16)> {
        let Value::Array(ranges) = server.command(&["CLUSTER", "SLOTS"]) else { return Vec::new() };
        let number = |value: &Value| u16::try_from(value.integer().unwrap_or(-1)).unwrap_or_default();
        ranges
            .iter()
            .filter_map(|range| match range {
                Value::Array(parts) => match &parts[..] {
                    [from, to, Value::Array(master), ..] => {
                        Some((number(from), number(to), number(&master[1])))
                    }
                    _ => None,
                },
                _ => None,
            })
            .collect()
    }

    /// The URL with two of the nodes: the others are found.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{},{}", self.nodes[0].public, self.nodes[4].public)
    }

    /// The masters that are alive.
    pub(crate) fn masters(&self) -> Vec<&Redis> {
        self.servers().into_iter().filter(|server| is_master(server)).collect()
    }

    /// Kills the master that has the slot of this key.
    pub(crate) fn kill_the_master_of(&mut self, key: &str) {
        let (owner, _) = self.owner_and_other(key);
        let address = owner.address;
        let node = self.nodes.iter_mut().find(|node| node.server.address == address).expect("one of ours");
        node.server.kill();
        node.alive = false;
    }

    /// Lets the first master that is alive hang; `thaw` lets all go on.
    pub(crate) fn freeze_a_master(&mut self) {
        let node = self.first_master();
        self.nodes[node].server.pause();
        self.nodes[node].alive = false;
    }

    pub(crate) fn thaw(&mut self) {
        for node in self.nodes.iter_mut().filter(|node| !node.alive) {
            node.server.resume();
            node.alive = true;
        }
    }

    fn first_master(&self) -> usize {
        let master = |node: &Node| node.alive && is_master(&node.server);
        self.nodes.iter().position(master).expect("a master that is alive")
    }

    /// The slot of a key.
    pub(crate) fn slot(&self, key: &str) -> String {
        let slot = self.servers()[0].command(&["CLUSTER", "KEYSLOT", key]).integer();
        slot.expect("a slot").to_string()
    }

    /// The master of a key's slot, and one of another's.
    pub(crate) fn owner_and_other(&self, key: &str) -> (&Redis, &Redis) {
        let slot: u16 = self.slot(key).parse().expect("a slot");
        let owners = self.owners(self.servers()[0]);
        let (_, _, port) =
            owners.iter().find(|(from, to, _)| (*from..=*to).contains(&slot)).expect("an owner");
        let (of, others): (Vec<&Redis>, Vec<&Redis>) =
            self.masters().into_iter().partition(|server| server.address.port() == *port);
        (of[0], others[0])
    }

    /// Begins to move the slot of this key: the key is moved, the slot is still the old owner's.
    pub(crate) fn begin_to_move(&self, key: &str) {
        let (from, to) = self.owner_and_other(key);
        let slot = self.slot(key);
        ok(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &id(from)]);
        ok(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &id(to)]);
        let port = to.address.port().to_string();
        ok(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Ends what [`Self::begin_to_move`] began: every other key of the slot is moved, and then the slot.
    pub(crate) fn finish_moving(&self, key: &str, to: &Redis) {
        let slot = self.slot(key);
        let (from, _) = self.owner_and_other(key);
        let port = to.address.port().to_string();
        while let Value::Array(keys) = from.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]) {
            let keys: Vec<Vec<u8>> = keys.into_iter().filter_map(Value::bytes).collect();
            if keys.is_empty() {
                break;
            }
            for key in keys {
                // One that has just expired is NOKEY.
                let command: [&[u8]; 7] =
                    [b"MIGRATE", b"127.0.0.1", port.as_bytes(), &key, b"0", b"5000", b"REPLACE"];
                from.command(&command);
            }
        }
        let new = id(to);
        for server in [to, from].into_iter().chain(self.masters()) {
            ok(server, &["CLUSTER", "SETSLOT", &slot, "NODE", &new]);
        }
    }
}

impl Fleet for Cluster {
    fn servers(&self) -> Vec<&Redis> {
        self.nodes.iter().filter(|node| node.alive).map(|node| &node.server).collect()
    }
}

fn id(node: &Redis) -> String {
    let id = node.command(&["CLUSTER", "MYID"]).bytes().expect("an id");
    String::from_utf8(id).expect("an id")
}

// === Sentinel ===

/// A master and its replica, watched by three sentinels of which two must agree.
pub(crate) struct Sentinels {
    /// By their public address: with TLS, not where [`Redis::address`] says.
    servers: Vec<(SocketAddr, Redis)>,
    sentinels: Vec<(SocketAddr, Redis)>,
    down: Option<usize>,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        Self::formed(None)
    }

    pub(crate) fn with_tls(tls: &Tls) -> Self {
        Self::formed(Some(tls))
    }

    fn formed(tls: Option<&Tls>) -> Self {
        let server = |replica_of: Option<SocketAddr>| {
            let mut options = vec!["--repl-diskless-sync-delay".to_owned(), "0".to_owned()];
            if let Some(master) = replica_of {
                options.extend(["--replicaof".to_owned(), "127.0.0.1".to_owned(), master.port().to_string()]);
            }
            let public = tls.map(|tls| {
                let address = free_port();
                options.extend(tls.options(address));
                address
            });
            let server = start(options);
            (public.unwrap_or(server.address), server)
        };
        let master = server(None);
        let replica = server(Some(master.0));
        until("the replica follows", || {
            told(&replica.1, &["INFO", "replication"], "master_link_status").as_deref() == Some("up")
        });
        let sentinel = |_| {
            let mut settings = String::new();
            let public = tls.map(|tls| {
                let address = free_port();
                for pair in tls.options(address).chunks(2) {
                    settings += &format!("{} {}\n", pair[0].trim_start_matches('-'), pair[1]);
                }
                address
            });
            settings += &format!("sentinel monitor shop 127.0.0.1 {} 2\n", master.0.port());
            // Where no master is to fail, a busy machine does not make one.
            let down_after = if tls.is_some() { 10_000 } else { 1_000 };
            settings += &format!("sentinel down-after-milliseconds shop {down_after}\n");
            settings += "sentinel failover-timeout shop 1500\n";
            let sentinel = Redis::with(&["--sentinel", &settings]);
            (public.unwrap_or(sentinel.address), sentinel)
        };
        let sentinels = (0..3).map(sentinel).collect();
        let deployed = Self { servers: vec![master, replica], sentinels, down: None };
        deployed.wait_watched();
        deployed
    }

    /// Waits until every sentinel knows the others, the master, and a replica that could take its place.
    fn wait_watched(&self) {
        for (_, sentinel) in &self.sentinels {
            eventually("a sentinel knows everybody", || {
                let master = facts(sentinel.command(&["SENTINEL", "MASTER", "shop"]))?;
                let Value::Array(replicas) = sentinel.command(&["SENTINEL", "REPLICAS", "shop"]) else {
                    return None;
                };
                let [replica] = <[Value; 1]>::try_from(replicas).ok()?;
                let replica = facts(replica)?;
                let say = |facts: &HashMap<String, String>, expected: &[(&str, &str)]| {
                    expected.iter().all(|(name, value)| facts.get(*name).is_some_and(|fact| fact == value))
                };
                let whole = say(
                    &master,
                    &[
                        ("flags", "master"),
                        ("num-slaves", "1"),
                        ("num-other-sentinels", "2"),
                        ("role-reported", "master"),
                    ],
                ) && say(
                    &replica,
                    &[("flags", "slave"), ("role-reported", "slave"), ("master-link-status", "ok")],
                );
                whole.then_some(())
            });
        }
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        let sentinels: Vec<String> = self.sentinels.iter().map(|(address, _)| address.to_string()).collect();
        format!("{scheme}://{}/shop", sentinels.join(","))
    }

    /// The sentinels themselves.
    pub(crate) fn watchers(&self) -> Vec<&Redis> {
        self.sentinels.iter().map(|(_, sentinel)| sentinel).collect()
    }

    /// Whom the sentinels call the master, by its place among the servers.
    fn master(&self) -> usize {
        let Value::Array(address) =
            self.sentinels[0].1.command(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "shop"])
        else {
            panic!("the sentinel knows of a master")
        };
        let port = address.into_iter().nth(1).and_then(Value::bytes).expect("a port");
        let port = String::from_utf8(port).expect("a port");
        self.servers.iter().position(|(public, _)| public.port().to_string() == port).expect("one of ours")
    }

    fn replica(&self) -> &Redis {
        &self.servers[1 - self.master()].1
    }

    /// Whether the replica has this content.
    pub(crate) fn replica_holds(&self, content: &str) -> bool {
        let needle = content.as_bytes();
        let strings = self.replica().strings();
        strings.values().any(|value| value.windows(needle.len()).any(|window| window == needle))
    }

    /// From now on the replica learns of nothing, until the master is killed.
    pub(crate) fn cut_off_the_replica(&self) {
        // What its connection holds already it would read when it wakes: so it has none.
        self.replica().pause();
        let gone = self.servers[self.master()].1.command(&["CLIENT", "KILL", "TYPE", "replica"]);
        assert_eq!(gone.integer(), Some(1));
    }

    /// Kills the master, and waits until the replica has taken over.
    pub(crate) fn kill_the_master(&mut self) {
        let master = self.master();
        self.servers[master].1.kill();
        self.down = Some(master);
        self.servers[1 - master].1.resume();
        self.wait_for_other(master);
    }

    /// Lets the master hang until another took its place; then it goes on, and is told that it is none.
    pub(crate) fn freeze_the_master(&mut self) {
        let master = self.master();
        self.servers[master].1.pause();
        self.down = Some(master);
        self.wait_for_other(master);
        self.servers[master].1.resume();
        self.down = None;
    }

    /// Has the replica take over while the master works.
    pub(crate) fn swap(&mut self) {
        let master = self.master();
        eventually("the sentinels agree to swap", || {
            let answer = self.sentinels[0].1.command(&["SENTINEL", "FAILOVER", "shop"]);
            (answer == Value::Text("OK".to_owned())).then_some(())
        });
        self.wait_for_other(master);
        // Who was the master is its replica before anything else happens: else nobody could follow it.
        self.wait_watched();
    }

    fn wait_for_other(&self, than: usize) {
        until("another server is the master", || {
            let now = self.master();
            now != than && is_master(&self.servers[now].1)
        });
    }
}

/// What a sentinel tells of a server: names and values in turn.
fn facts(told: Value) -> Option<HashMap<String, String>> {
    let Value::Array(told) = told else { return None };
    let text = |value: Value| String::from_utf8_lossy(&value.bytes().unwrap_or_default()).into_owned();
    let told: Vec<String> = told.into_iter().map(text).collect();
    Some(told.chunks_exact(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect())
}

impl Fleet for Sentinels {
    fn servers(&self) -> Vec<&Redis> {
        self.servers
            .iter()
            .enumerate()
            .filter(|(n, _)| Some(*n) != self.down)
            .map(|(_, (_, server))| server)
            .collect()
    }
}
