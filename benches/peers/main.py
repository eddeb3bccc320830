"""forebay beside its peers. See --help, and README.md, "Speed"."""

import argparse
import datetime
import shutil
import statistics
import threading
import time
from pathlib import Path

from measure import keys as popularity
from measure import machine
from measure.forebay import Forebay
from measure.load import MISSES, SPREAD, Helper, wrk
from measure.machine import ROOT
from measure.redis import Redis
from measure.servers import Stage, end_on_signals
from measure.tables import Rows, bars, markdown, shown
from others import MIB, PEERS

COLUMNS = [
    "path", "peer", "round", "requests", "seconds", "rps", "p50_us", "p99_us", "cpu_us", "errors", "origin",
    "value", "unit", "note",
]


class Path_:
    """What wrk asks for again and again."""

    def __init__(self, title, target, *, field=None, script=None, keys=0, origin=0.0, targets=None, redis=False,
                 memory="1GiB"):
        self.title, self.target, self.script = title, target, script
        # wrk cannot read every 304: then another client asks.
        self.field = field
        # How many origin requests there are per request; anything else is no measurement of this path.
        self.origin = origin
        # Peer: the largest ratio of forebay's CPU per request to its own that is to be reached.
        self.targets = targets or {}
        # So many keys are stored beforehand, and asked for in turn.
        self.keys = keys
        self.redis, self.memory = redis, memory

    def peers(self):
        # nginx's own cache is asked for the same keys: what stands in its own files beside what stands in Redis.
        return ["nginx-lua", "nginx"] if self.redis else ["nginx", "haproxy", "varnish"]


PATHS = {
    "hit-1k": Path_("hit, 1 KiB", "/b/1024/hit", targets={"haproxy": 0.90, "nginx": 0.60, "varnish": 0.45}),
    "hit-4k": Path_("hit, 4 KiB", "/b/4096/hit"),
    "hit-64k": Path_("hit, 64 KiB", "/b/65536/hit", targets={"nginx": 1.10}),
    "hit-1m": Path_("hit, 1 MiB", "/b/1048576/hit"),
    # Many keys: requests that want the same record at the same time would share one reading.
    "redis": Path_(
        "hit from Redis, 1 KiB, 10,000 keys", "/b/1024/k", script=SPREAD, keys=10_000, redis=True, memory="0",
        targets={"nginx-lua": 0.70, "nginx": 1.00},
    ),
    "conditional": Path_(
        "conditional hit (304)", "/b/1024/hit", field='If-None-Match: "33a64df551425fcc"'
    ),
    "forward": Path_(
        "forwarded, not cached, 1 KiB", "/n/1024/x", origin=1.0, targets={"haproxy": 1.10, "nginx": 1.10}
    ),
    "miss": Path_("miss that is stored, 1 KiB", "/b/1024/", script=MISSES, origin=1.0, memory="256MiB"),
}
OTHERS = {
    "keys": "many keys (Zipf, 100,000 keys, memory for about 10,000)",
    "idle": "idle keep-alive connections",
    "stored": "stored small responses",
    "stampede": "cold stampede of 10,000 requests on one key, four proxies, one Redis",
    "slow": "slow readers of a 100 MiB body",
}


def arguments():
    names = [*PATHS, *OTHERS]
    parser = argparse.ArgumentParser(
        prog="benches/peers/run", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures forebay beside nginx, HAProxy and Varnish: servers on one core; load, origin and\n"
        "Redis on the other; rounds interleaved, medians reported. What counts is CPU per request.",
        epilog="paths: " + ", ".join(names) + "\nexample: benches/peers/run --paths hit-1k,redis --rounds 3 --seconds 5",
    )
    parser.add_argument("--paths", default=",".join(names), help="comma-separated; all without it")
    parser.add_argument("--peers", default="nginx,haproxy,varnish,nginx-lua", help="comma-separated; forebay always runs")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per path (default 5)")
    parser.add_argument("--seconds", type=int, default=8, help="seconds per round and peer (default 8)")
    parser.add_argument("--quick", action="store_true", help="one short round of everything: shows that it runs, no figures to keep")
    parser.add_argument("--out", type=Path, help="folder for results (benches/results/DATE; with --quick below target/)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1
    chosen.paths = [name for name in chosen.paths.split(",") if name]
    chosen.peers = [name for name in chosen.peers.split(",") if name]
    for name in chosen.paths:
        if name not in names:
            parser.error(f"there is no path {name}: {', '.join(names)}")
    for name in chosen.peers:
        if name not in PEERS:
            parser.error(f"there is no peer {name}: {', '.join(PEERS)}")
    if chosen.rounds < 1 or chosen.seconds < 1:
        parser.error("--rounds and --seconds are at least 1")
    day = datetime.date.today().isoformat()
    chosen.out = chosen.out or (
        ROOT / "target/benches/peers" if chosen.quick else ROOT / "benches/results" / day
    )
    return chosen


class Run:
    """One run of the whole script."""

    def __init__(self, chosen):
        self.chosen = chosen
        server, load = machine.cores()[:2]
        self.server, self.load = [server], load
        self.descriptors = machine.raise_descriptor_limit()
        self.helper = Helper(load)
        out = chosen.out
        shutil.rmtree(out / "configs", ignore_errors=True)
        self.rows = Rows(out / "raw.tsv", COLUMNS)
        self.quiet = machine.Quiet()
        if self.quiet.is_noisy():
            print(f"! this machine is busy (load average {self.quiet.load:.2f}): figures will be noise")

    def stage(self, name):
        return Stage(self.chosen.out / "configs" / name)

    def say(self, text):
        print(text, flush=True)

    def server_of(self, peer, stage, origin, **options):
        """Starts forebay or a peer."""
        if peer == "forebay":
            memory = options.get("memory") or f"{options.get('size', 1024 * MIB)}B"
            return Forebay(stage, self.server, origin, memory=memory, redis=options.get("redis"))
        size = options.get("size", 1024 * MIB)
        return PEERS[peer](
            stage, self.server, origin, size=size, redis=options.get("redis"), descriptors=self.descriptors
        )

    def peers_of(self, wanted):
        return ["forebay", *(peer for peer in wanted if peer in self.chosen.peers)]

    # === paths of wrk ===

    def repeated(self, name, path):
        with self.stage(name) as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load).address if path.redis else None
            # Memory as large for the others as for forebay; a tier that is off is not theirs.
            size = 256 * MIB if path.memory == "256MiB" else 1024 * MIB
            servers = {
                peer: self.server_of(
                    peer, stage, origin.address, size=size, redis=redis,
                    **({"memory": path.memory} if peer == "forebay" else {}),
                )
                for peer in self.peers_of(path.peers())
            }
            for peer, server in servers.items():
                if path.keys:
                    self.helper.run("replay", server.address, path.target, path.keys)
                self.measure(name, path, peer, server, origin, "warm", 1)
            for number in range(1, self.chosen.rounds + 1):
                for peer, server in servers.items():
                    self.measure(name, path, peer, server, origin, number, self.chosen.seconds)

    def measure(self, name, path, peer, server, origin, number, seconds):
        asked = origin.counts()[0]
        before = server.process.cpu_seconds()
        # What is asked conditionally must be stored first.
        if path.field and number != "warm":
            done = {"errors": 0, **self.helper.run("again", server.address, path.target, seconds, path.field)}
        else:
            done = wrk(
                server.address, path.target, seconds, self.load, script=path.script,
                arguments=[path.keys or f"{peer}-{number}"],
            )
        cpu = server.process.cpu_seconds() - before
        if number == "warm":
            return
        asked = origin.counts()[0] - asked
        requests = int(done["requests"])
        note = ""
        if done["errors"]:
            note = f"{done['errors']:.0f} errors"
        elif abs(asked - requests * path.origin) > requests * 0.02 + 64:
            # 64: what is under way when wrk ends is not counted by it.
            note = f"{asked / requests:.2f} origin requests per request instead of {path.origin:.0f}"
        self.rows.add(
            path=name, peer=peer, round=number, requests=requests, seconds=done["seconds"],
            rps=requests / done["seconds"], p50_us=done["p50_us"], p99_us=done["p99_us"],
            cpu_us=cpu / requests * 1e6, errors=int(done["errors"]), origin=asked, note=note,
        )
        self.say(
            f"{name:12} {number} {peer:10} {requests / done['seconds']:9.0f}/s  p50 {done['p50_us']:6.0f} us  "
            f"p99 {done['p99_us']:7.0f} us  {cpu / requests * 1e6:7.2f} us CPU  {note}"
        )

    # === the others ===

    def keys(self):
        count, warm, chunk = (100_000, 300_000, 100_000) if not self.chosen.quick else (100_000, 40_000, 20_000)
        stream = popularity.zipf(count, warm + chunk * self.chosen.rounds)
        for peer in self.peers_of(["nginx", "haproxy", "varnish"]):
            with self.stage("keys") as stage:
                origin = self.helper.origin(stage)
                order = stage.folder / "order"
                popularity.save(stream, order)
                server = self.server_of(peer, stage, origin.address, size=self.size_for(peer, 10_000))
                self.helper.run("replay", server.address, "/b/1024/k", warm, order)
                measured = []
                for number in range(self.chosen.rounds):
                    asked, before = origin.counts()[0], server.process.cpu_seconds()
                    done = self.helper.run(
                        "replay", server.address, "/b/1024/k", chunk, order, warm + number * chunk
                    )
                    cpu = server.process.cpu_seconds() - before
                    measured.append((done, cpu, origin.counts()[0] - asked))
                held = server.held()
                hits = popularity.lru_hits(stream, held)
                for number, (done, cpu, asked) in enumerate(measured):
                    place = warm + number * chunk
                    lru = sum(hits[place : place + chunk]) / chunk
                    ratio = 1 - asked / chunk
                    self.rows.add(
                        path="keys", peer=peer, round=number + 1, requests=chunk, seconds=done["seconds"],
                        rps=chunk / done["seconds"], p50_us=done["p50_us"], p99_us=done["p99_us"],
                        cpu_us=cpu / chunk * 1e6, origin=asked, value=ratio, unit="hit ratio",
                        errors=int(done["closed"]),
                        note=f"{held} held, an LRU of as many hits {lru:.4f}"
                        + (f", {done['closed']:.0f} connections closed without an answer" if done["closed"] else ""),
                    )
                    self.say(f"keys         {number + 1} {peer:10} hit ratio {ratio:.4f}, LRU of {held}: {lru:.4f}")

    def size_for(self, peer, entries):
        """Bytes of cache that hold about so many responses of 1 KiB: by what some of them take."""
        if peer == "nginx":
            return entries * 4096
        if peer == "haproxy":
            return entries * 2048
        sample = 2000
        with Stage() as stage:
            origin = self.helper.origin(stage)
            server = self.server_of(peer, stage, origin.address)
            before = self.taken(peer, server)
            self.helper.run("replay", server.address, "/b/1024/k", sample)
            each = (self.taken(peer, server) - before) / sample
        return int(entries * each)

    def taken(self, peer, server):
        if peer == "forebay":
            return server.metric("forebay_cache_bytes")
        return server.counters()["SMA.s0.g_bytes"]["value"]

    def idle(self):
        for peer in self.peers_of(["nginx", "haproxy", "varnish"]):
            for connections in (1000, 10_000):
                if connections * 2 > self.descriptors:
                    self.say(f"idle: {connections} connections need more descriptors than {self.descriptors}")
                    continue
                for number in range(1, min(self.chosen.rounds, 3) + 1):
                    with self.stage("idle") as stage:
                        origin = self.helper.origin(stage)
                        server = self.server_of(peer, stage, origin.address)
                        wrk(server.address, "/b/1024/hit", 1, self.load)
                        time.sleep(1)
                        before = server.process.resident()
                        held = self.helper.idle(stage, server.address, "/b/1024/hit", connections)
                        time.sleep(2)
                        each = (server.process.resident() - before) / connections / 1024
                        held.child.stdin.close() if held.child.stdin else None
                        self.rows.add(
                            path=f"idle-{connections}", peer=peer, round=number, value=each,
                            unit="KiB resident per connection",
                        )
                        self.say(f"idle         {number} {peer:10} {connections} connections: {each:.2f} KiB each")

    def stored(self):
        count = 10_000 if self.chosen.quick else 100_000
        for peer in self.peers_of(["nginx", "haproxy", "varnish"]):
            with self.stage("stored") as stage:
                origin = self.helper.origin(stage)
                server = self.server_of(peer, stage, origin.address)
                self.helper.run("replay", server.address, "/b/1024/warm", 2000)
                time.sleep(1)
                before, outside = server.process.resident(), outside_of(server)
                counted = server.metric("forebay_cache_bytes") if peer == "forebay" else None
                entries = server.held() if peer == "forebay" else None
                self.helper.run("replay", server.address, "/b/1024/k", count)
                time.sleep(1)
                grown = server.process.resident() - before + outside_of(server) - outside
                note = "" if peer != "nginx" else "files in memory included"
                self.rows.add(
                    path="stored", peer=peer, round=1, value=grown / count, unit="bytes resident per response",
                    note=note,
                )
                self.say(f"stored       1 {peer:10} {grown / count:.0f} bytes resident per response of 1 KiB")
                if peer == "forebay":
                    counted = server.metric("forebay_cache_bytes") - counted
                    entries = server.held() - entries
                    self.rows.add(
                        path="stored-counted", peer=peer, round=1, value=counted / entries,
                        unit="bytes counted per response", note=f"resident {grown / counted:.3f} of what is counted",
                    )
                    self.rows.add(
                        path="stored-resident", peer=peer, round=1, value=grown / counted,
                        unit="resident / forebay_cache_bytes",
                    )
                    self.say(f"stored       1 forebay    counts {counted / entries:.0f}, resident {grown / counted:.3f} of it")

    def stampede(self):
        clients = 10_000
        if clients + 1000 > self.descriptors:
            raise SystemExit(f"stampede: {clients} connections need more descriptors than {self.descriptors}")
        with self.stage("stampede") as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load)
            proxies = [
                Forebay(stage, self.server, origin.address, redis=redis.address, name=f"forebay-{number}")
                for number in range(1, 5)
            ]
            to = [proxy.address for proxy in proxies]
            for number in range(1, min(self.chosen.rounds, 5) + 1):
                path = f"/slow/1000/1024/stampede-{number}"
                asked = origin.counts()[0]
                cold = self.helper.run("stampede", path, clients, *to)
                asked = origin.counts()[0] - asked
                warm = self.helper.run("stampede", path, clients, *to)
                # What so many at once cost alone: the same on what is stored by now. The origin takes a second.
                beyond = cold["last_ms"] - 1000 - warm["last_ms"]
                self.rows.add(
                    path="stampede", peer="forebay", round=number, requests=clients, origin=asked, value=beyond,
                    unit="ms to the last answer, beyond the origin's second and a warm stampede",
                    note=f"cold: {cold['first_ms']:.0f} to {cold['last_ms']:.0f} ms; "
                    f"warm: {warm['first_ms']:.0f} to {warm['last_ms']:.0f} ms",
                )
                self.say(
                    f"stampede     {number} forebay    {asked} origin request(s); cold {cold['first_ms']:.0f}.."
                    f"{cold['last_ms']:.0f} ms, warm {warm['first_ms']:.0f}..{warm['last_ms']:.0f} ms"
                )

    def slow(self):
        readers, size, seconds = 16, 100 * MIB, 3 if self.chosen.quick else 10
        asked = [(peer, "/n/") for peer in self.peers_of(["nginx", "haproxy", "varnish"])] + [("forebay", "/b/")]
        for peer, kind in asked:
            with self.stage("slow") as stage:
                origin = self.helper.origin(stage)
                server = self.server_of(peer, stage, origin.address)
                wrk(server.address, "/n/65536/warm", 1, self.load)
                time.sleep(1)
                with Peak(server.process) as peak:
                    self.helper.run("slow", server.address, f"{kind}{size}/r", readers, MIB, seconds)
                each = peak.grown() / readers / MIB
                self.rows.add(
                    path="slow" if kind == "/n/" else "slow-too-large-to-store", peer=peer, round=1, value=each,
                    unit="MiB resident per stream at most",
                )
                self.say(f"slow         1 {peer:10} {kind} {each:.2f} MiB per stream")

    # === results ===

    def write(self):
        out = self.chosen.out
        setup = machine.describe() + [
            ("cores", f"servers on core {self.server[0]}; load, origin and Redis on core {self.load}"),
            ("rounds", f"{self.chosen.rounds} of {self.chosen.seconds} s, interleaved"),
            ("load", "wrk, one thread, 64 keep-alive connections, loopback"),
            ("quiet", self.quiet.report()),
        ]
        text = "# forebay beside its peers\n\n" + markdown(["set-up", ""], setup).replace("---:|", "---|") + "\n"
        chart = []
        table = []
        for name, path in PATHS.items():
            ours = self.rows.median("cpu_us", path=name, peer="forebay")
            if ours is None:
                continue
            bars_of = [("forebay", ours)]
            for peer in self.peers_of(path.peers()):
                cpu = self.rows.median("cpu_us", path=name, peer=peer)
                if cpu is None:
                    continue
                ratio, target = self.ratio(name, peer), path.targets.get(peer)
                if peer != "forebay":
                    bars_of.append((peer, cpu))
                low, high = self.rows.spread("cpu_us", path=name, peer=peer)
                table.append([
                    path.title, peer, f"{self.rows.median('rps', path=name, peer=peer):,.0f}",
                    f"{self.rows.median('p50_us', path=name, peer=peer):,.0f}",
                    f"{self.rows.median('p99_us', path=name, peer=peer):,.0f}",
                    f"{cpu:.2f}", f"{low:.2f} to {high:.2f}", "" if peer == "forebay" or ratio is None else f"{ratio:.2f}",
                    "" if target is None or ratio is None else f"at most {target:.2f}: {'reached' if ratio <= target else 'MISSED'}",
                ])
            chart.append((path.title, bars_of))
        if table:
            text += "CPU is user and system time of all of a server's processes, divided by the requests done; the\n"
            text += "ratio is forebay's to the peer's, smaller is better. Medians of the rounds; a ratio is that of the\n"
            text += "ratios of the rounds, whose servers come one right after another: what slows a round slows both.\n\n"
            text += markdown(
                ["path", "server", "requests/s", "p50 µs", "p99 µs", "CPU µs/request", "from to", "ratio", "to reach"], table
            )
            (out / "cpu.svg").write_text(bars(
                "CPU per request, in microseconds (less is better)", chart,
                f"{datetime.date.today().isoformat()}, {machine.describe()[0][1]}; one core per server",
            ))
        text += self.write_others()
        noted = [row for row in self.rows.rows if row.get("note") and row["path"] in PATHS]
        if noted:
            text += "\n**Rounds that were not what they should be:**\n\n" + "".join(
                f"- {row['path']}, {row['peer']}, round {row['round']}: {row['note']}\n" for row in noted
            )
        (out / "summary.md").write_text(text)
        self.say("\n" + text)
        self.say(f"written to {out}")
        return not noted

    def ratio(self, name, peer):
        """The median over the rounds of what forebay costs beside a peer."""
        costs = {
            server: {
                row["round"]: row["cpu_us"] for row in self.rows.rows
                if row["path"] == name and row["peer"] == server and row.get("cpu_us")
            }
            for server in ("forebay", peer)
        }
        ratios = [cost / costs[peer][number] for number, cost in costs["forebay"].items() if number in costs[peer]]
        return statistics.median(ratios) if ratios else None

    def write_others(self):
        rows = []
        named = {
            "keys": (OTHERS["keys"], None), "idle-1000": ("1,000 idle connections", ("forebay", 12.0)),
            "idle-10000": ("10,000 idle connections", ("forebay", 12.0)),
            "stored": ("100,000 responses of 1 KiB stored", None),
            "stored-counted": ("what forebay counts for each", None),
            "stored-resident": ("resident beside what it counts", ("forebay", 1.2)),
            "stampede": (OTHERS["stampede"], ("forebay", 50.0)),
            "slow": ("slow readers of 100 MiB, forwarded", ("forebay", 4.0)),
            "slow-too-large-to-store": ("slow readers of 100 MiB, cacheable but too large", ("forebay", 4.0)),
        }
        for name, (title, target) in named.items():
            for peer in ["forebay", *PEERS]:
                value = self.rows.median("value", path=name, peer=peer)
                if value is None:
                    continue
                last = [row for row in self.rows.rows if row["path"] == name and row["peer"] == peer][-1]
                verdict = ""
                if target and peer == target[0]:
                    verdict = f"at most {target[1]:g}: {'reached' if value <= target[1] else 'MISSED'}"
                note = last.get("note", "")
                if name == "stampede":
                    asked = sorted({row["origin"] for row in self.rows.rows if row["path"] == name})
                    note = f"origin requests: {', '.join(map(str, asked))} (1 to reach); last round {note}"
                if name == "keys":
                    note += f"; {self.rows.median('cpu_us', path=name, peer=peer):.1f} µs CPU per request"
                rows.append([title, peer, shown(round(value, 4)), last["unit"], verdict, note])
        if not rows:
            return ""
        return "\n" + markdown(["path", "server", "", "of", "to reach", ""], rows).replace("---:|", "---|")


class Peak:
    """The most memory that a process had while something was done, beyond what it had before."""

    def __init__(self, process):
        self.process = process
        self.before = self.most = process.resident()
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    def watch(self):
        while not self.ended.wait(0.1):
            self.most = max(self.most, self.process.resident())

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()

    def grown(self):
        return self.most - self.before


def outside_of(server):
    return server.outside() if hasattr(server, "outside") else 0


def main():
    end_on_signals()
    chosen = arguments()
    run = Run(chosen)
    try:
        for name in chosen.paths:
            run.say(f"--- {PATHS[name].title if name in PATHS else OTHERS[name]}")
            if name in PATHS:
                run.repeated(name, PATHS[name])
            else:
                getattr(run, name)()
    finally:
        # What was measured before something went wrong is kept.
        as_it_should = run.write()
    return 0 if as_it_should else 1


if __name__ == "__main__":
    raise SystemExit(main())
