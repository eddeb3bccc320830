"""What things cost forebay as they grow. See --help."""

import argparse
import datetime
import socket
import statistics
import time
from pathlib import Path

from measure import machine
from measure.forebay import Forebay, purge
from measure.load import MISSES, SPREAD, Helper, wrk
from measure.machine import ROOT
from measure.redis import Redis, packed
from measure.servers import Stage, end_on_signals, get
from measure.tables import Rows, markdown, shown

COLUMNS = ["series", "at", "round", "value", "unit", "note"]
HIT = "/b/1024/hit"
CPU = "µs CPU per request"


class Run:
    """One run of the whole script."""

    def __init__(self, chosen):
        self.chosen = chosen
        server, load = machine.cores()[:2]
        self.server, self.load = [server], load
        self.both = [server, load]
        self.descriptors = machine.raise_descriptor_limit()
        self.helper = Helper(load)
        self.rows = Rows(chosen.out / "raw.tsv", COLUMNS)
        self.quiet = machine.Quiet()

    def row(self, series, at, value, unit, number=1, note=""):
        self.rows.add(series=series, at=at, round=number, value=value, unit=unit, note=note)
        print(f"{series:18} {at:>9} {number}  {shown(round(value, 3)):>9} {unit}  {note}", flush=True)

    def cpu(self, process, address, path, connections=64, **script):
        """CPU per request, and what wrk said, of one turn."""
        before = process.cpu_seconds()
        done = wrk(address, path, self.chosen.seconds, self.load, connections=connections, **script)
        if done["errors"]:
            raise SystemExit(f"{done['errors']:.0f} errors while {address}{path} was asked for")
        return (process.cpu_seconds() - before) / done["requests"] * 1e6, done

    def interleaved(self, series, servers, ask):
        """The same of several servers in turn, so that what the machine does to one it does to all."""
        for number in range(1, self.chosen.rounds + 1):
            for at, server in servers.items():
                value, note = ask(at, server)
                self.row(series, at, value, CPU, number, note)

    # === what a hit costs ===

    def routes(self):
        with Stage() as stage:
            origin = self.helper.origin(stage)
            servers = {}
            for count in (10, 1_000, 10_000):
                table = "".join(
                    f'\n[[route]]\nname = "r{n}"\npath = "/r{n}/{{id}}/{{*rest}}"\nupstream = "origin"\n'
                    for n in range(count - 4)
                )
                servers[count] = Forebay(stage, self.server, origin.address, routes=table, name=f"routes-{count}")
                get(servers[count].address, HIT)
            self.interleaved("routes", servers, lambda _, server: (self.cpu(server.process, server.address, HIT)[0], ""))

    def stored(self):
        counts = [1_000, 10_000, 100_000] + ([] if self.chosen.quick else [1_000_000])
        with Stage() as stage:
            origin = self.helper.origin(stage)
            servers = {}
            for count in counts:
                server = Forebay(stage, self.server, origin.address, memory="4GiB", name=f"stored-{count}")
                self.helper.run("replay", server.address, "/b/64/k", count)
                servers[count] = server

            def ask(count, server):
                before = origin.counts()[0]
                value = self.cpu(server.process, server.address, "/b/64/k", script=SPREAD, arguments=[count])[0]
                return value, f"{server.held()} held, {origin.counts()[0] - before} origin requests"

            self.interleaved("stored responses", servers, ask)

    def connections(self):
        counts = [count for count in (100, 1_000, 10_000) if count + 1_000 < self.descriptors]
        with Stage() as stage:
            origin = self.helper.origin(stage)
            server = Forebay(stage, self.server, origin.address)
            get(server.address, HIT)
            for number in range(1, self.chosen.rounds + 1):
                for count in counts:
                    value, done = self.cpu(server.process, server.address, HIT, connections=count)
                    self.row("connections", count, value, CPU, number, f"p99 {done['p99_us'] / 1e3:.1f} ms")

    def purged(self):
        counts = (0, 1_000, 100_000) if self.chosen.quick else (0, 1_000, 100_000, 1_000_000)
        with Stage() as stage:
            origin = self.helper.origin(stage)
            server = Forebay(stage, self.server, origin.address)
            done = 0
            for count in counts:
                while done < count:
                    step = min(1_000, count - done)
                    purge(server, {"tags": [f"gone-{n}" for n in range(done, done + step)], "mode": "hard"})
                    done += step
                get(server.address, "/t/1024/a,b,c/hit")
                for number in range(1, self.chosen.rounds + 1):
                    value = self.cpu(server.process, server.address, "/t/1024/a,b,c/hit")[0]
                    self.row("tags purged", count, value, CPU, number)

    def workers(self):
        with Stage() as stage:
            origin = self.helper.origin(stage)
            servers = {
                count: Forebay(stage, self.both[:count], origin.address, workers=count, name=f"workers-{count}")
                for count in (1, 2)
            }
            for server in servers.values():
                get(server.address, HIT)
            self.interleaved("workers", servers, lambda _, server: (self.cpu(server.process, server.address, HIT)[0], ""))

    def proxies(self):
        """Hits from one Redis, of one proxy or several at once: what each costs itself, and what it costs Redis."""
        keys = 10_000
        with Stage() as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load, policy="volatile-lfu")
            every = [
                Forebay(stage, self.server, origin.address, memory="0", redis=redis.address, name=f"proxy-{n}")
                for n in range(4)
            ]
            self.helper.run("replay", every[0].address, "/b/1024/k", keys)
            for number in range(1, self.chosen.rounds + 1):
                for count in (1, 2, 4):
                    some = every[:count]
                    before = [proxy.process.cpu_seconds() for proxy in some]
                    at_redis = redis.process.cpu_seconds()
                    requests = 0
                    # In turn: on one core, together would only be slower.
                    for proxy in some:
                        done = wrk(
                            proxy.address, "/b/1024/k", self.chosen.seconds, self.load, script=SPREAD, arguments=[keys]
                        )
                        requests += done["requests"]
                    cpu = sum(proxy.process.cpu_seconds() - b for proxy, b in zip(some, before))
                    at_redis = redis.process.cpu_seconds() - at_redis
                    self.row("proxies", count, cpu / requests * 1e6, CPU, number)
                    self.row("Redis, proxies", count, at_redis / requests * 1e6, "µs CPU of Redis per hit", number)

    def misses(self):
        """What a miss that is stored costs Redis: the look, the lock, the look again, the record, the unlocking."""
        with Stage() as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load, policy="volatile-lfu")
            proxy = Forebay(stage, self.server, origin.address, redis=redis.address)
            for number in range(1, self.chosen.rounds + 1):
                at_redis = redis.process.cpu_seconds()
                value, done = self.cpu(
                    proxy.process, proxy.address, "/b/1024/", script=MISSES, arguments=[f"scale-{number}"]
                )
                at_redis = redis.process.cpu_seconds() - at_redis
                self.row("miss with Redis", 1, value, CPU, number)
                self.row("Redis, misses", 1, at_redis / done["requests"] * 1e6, "µs CPU of Redis per miss", number)

    def readers(self):
        """What one entry of the purge journal costs Redis, by how many proxies wait for it."""
        for count, entries in ((1, 5_000), (10, 2_000), (100, 500)):
            with Stage() as stage:
                redis = Redis(stage, self.load, policy="volatile-lfu")
                with Waiting(redis.address, count) as waiting:
                    before = redis.process.cpu_seconds()
                    for number in range(1, entries + 1):
                        waiting.tell(number)
                        waiting.all_hear(number)
                    value = (redis.process.cpu_seconds() - before) / entries * 1e6
                self.row("journal readers", count, value, "µs CPU of Redis per purge", note="entry, and waiting anew")

    def pool(self):
        """One event loop's reads from Redis over one connection, and over several."""
        tasks = 64
        with Stage() as stage:
            redis = Redis(stage, self.server[0], policy="volatile-lfu")
            for number in range(1, self.chosen.rounds + 1):
                for count in (1, 2, 4, 8):
                    done = self.helper.run("pool", redis.address, count, tasks, self.chosen.seconds)
                    note = f"{done['requests'] / done['seconds']:,.0f} reads/s, p99 {done['p99_us']:,.0f} µs, {tasks} at once"
                    self.row("Redis connections", count, done["cpu_us"], "µs CPU of the reader per GET", number, note)

    # === what a purge costs ===

    def tagged(self):
        """One purge of a tag that many stored responses bear."""
        counts = (1, 1_000, 10_000) if self.chosen.quick else (1, 1_000, 100_000)
        for count in counts:
            with Stage() as stage:
                origin = self.helper.origin(stage)
                redis = Redis(stage, self.load, policy="volatile-lfu")
                proxy, other = (
                    Forebay(stage, self.server, origin.address, redis=redis.address, name=name)
                    for name in ("told", "other")
                )
                for server in (proxy, other):
                    self.helper.run("replay", server.address, "/t/1024/hot/k", count)
                asked = origin.counts()[0]
                redis.ask("CONFIG", "RESETSTAT")
                began = time.monotonic()
                said = purge(proxy, {"tags": ["hot"], "mode": "hard"})
                took = time.monotonic() - began
                if said["scope"] != "fleet":
                    raise SystemExit(f"the fleet was not told: {said}")
                script = redis.command("evalsha")
                for server in (proxy, other):
                    self.helper.run("replay", server.address, "/t/1024/hot/k", min(count, 1_000))
                fetched = origin.counts()[0] - asked
                # Whatever the first fetched again, the second found in Redis, or fetched at the same time.
                if fetched < min(count, 1_000):
                    raise SystemExit(f"{fetched} of {min(count, 1_000)} were fetched again")
                note = f"{fetched} origin requests for {min(count, 1_000)} of them asked for again, by two proxies"
                self.row("purge of one tag", count, took * 1e3, "ms until answered", note=note)
                self.row("its script", count, script["usec_per_call"], "µs in Redis", note=f"{script['calls']:.0f} calls")

    def softly(self):
        """A soft purge of 10,000 responses that are asked for all the time, of two proxies one after the other."""
        keys, hot = 10_000, "/t/1024/hot/k"
        route = '\n[[route]]\nname = "hot"\npath = "/t/{*rest}"\nupstream = "origin"\nstale_while_revalidate = "10m"\n'
        with Stage() as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load, policy="volatile-lfu")
            proxies = [
                Forebay(stage, self.server, origin.address, redis=redis.address, routes=route, name=name)
                for name in ("told", "other")
            ]

            def visited(proxy):
                return self.cpu(proxy.process, proxy.address, hot, script=SPREAD, arguments=[keys])[1]

            for proxy in proxies:
                visited(proxy)
            for number in range(1, self.chosen.rounds + 1):
                calm = visited(proxies[0])
                asked, connections = origin.counts()
                purge(proxies[0], {"tags": ["hot"], "mode": "soft"})
                waited = sum(proxy.metric("forebay_requests_total", result="miss") for proxy in proxies)
                after = [visited(proxy) for proxy in proxies]
                waited = sum(proxy.metric("forebay_requests_total", result="miss") for proxy in proxies) - waited
                now, now_connections = origin.counts()
                note = (
                    f"{sum(done['requests'] for done in after):,.0f} requests to two proxies, {waited:.0f} had to wait,"
                    f" {now_connections - connections} new connections to the origin,"
                    f" p99 {calm['p99_us'] / 1e3:.1f} ms before, {after[0]['p99_us'] / 1e3:.1f} ms after"
                )
                self.row("soft purge", keys, now - asked, "origin requests", number, note)

    # === one fetch for a fleet ===

    def fleet(self):
        """Four proxies, 2,000 clients at once on one key: cold, expired, purged."""
        clients = 2_000
        with Stage() as stage:
            origin = self.helper.origin(stage)
            redis = Redis(stage, self.load, policy="volatile-lfu")
            proxies = [
                Forebay(stage, self.server, origin.address, redis=redis.address, name=f"fleet-{n}") for n in range(4)
            ]
            to = [proxy.address for proxy in proxies]

            def stampede(kind, path, number):
                before = origin.counts()[0]
                done = self.helper.run("stampede", path, clients, *to)
                fetched = origin.counts()[0] - before
                note = f"{clients} clients, last answer after {done['last_ms']:.0f} ms"
                self.row("fleet", kind, fetched, "origin requests", number, note)

            for number in range(1, self.chosen.rounds + 1):
                path = f"/brief/2/500/1024/{number}"
                stampede("cold", path, number)
                # Fresh for two seconds since it was sent; answered by now, and not renewed early.
                time.sleep(3)
                stampede("expired", path, number)
                path = f"/slow/500/1024/{number}"
                stampede("cold", path, number)
                for mode in ("hard", "soft"):
                    purge(proxies[0], {"urls": [f"http://bench.example{path}"], "mode": mode})
                    time.sleep(0.2)
                    stampede(f"{mode} purge", path, number)
                purge(proxies[0], {"all": True, "mode": "hard"})
                time.sleep(0.2)
                stampede("all purged", path, number)

    # === results ===

    def write(self):
        out = self.chosen.out
        text = "# What things cost as they grow\n\n" + markdown(["set-up", ""], machine.describe() + [
            ("cores", f"proxies on core {self.server[0]}; load, origin and Redis on core {self.load}"),
            ("rounds", f"{self.chosen.rounds} of {self.chosen.seconds} s, interleaved; medians"),
            ("quiet", self.quiet.report()),
        ]).replace("---:|", "---|") + "\n"
        table = []
        first = {}
        for row in self.rows.rows:
            place = (row["series"], row["at"])
            if place in (entry[0] for entry in table):
                continue
            same = [r for r in self.rows.rows if (r["series"], r["at"]) == place]
            values = [r["value"] for r in same]
            middle = statistics.median(values)
            base = first.setdefault(row["series"], middle)
            table.append((place, [
                row["series"], str(row["at"]), shown(round(middle, 2)),
                f"{shown(round(min(values), 2))} to {shown(round(max(values), 2))}", row["unit"],
                "" if row["series"] == "fleet" or not base else f"{middle / base:.2f}", same[-1]["note"],
            ]))
        text += markdown(["of", "at", "", "from to", "unit", "of the first", ""], [cells for _, cells in table])
        (out / "scale.md").write_text(text)
        print("\n" + text + f"\nwritten to {out}")


class Waiting:
    """Connections that wait for the next entry of a stream, as proxies do."""

    def __init__(self, address, count):
        host, port = address.rsplit(":", 1)
        every = [socket.create_connection((host, int(port)), timeout=60) for _ in range(count + 1)]
        self.writer, *self.readers = every

    def __enter__(self):
        self.ask("0-0")
        return self

    def __exit__(self, *_):
        for connection in (self.writer, *self.readers):
            connection.close()

    def ask(self, after):
        asked = packed("XREAD", "COUNT", "500", "BLOCK", "60000", "STREAMS", "log", after)
        for reader in self.readers:
            reader.sendall(asked)

    def tell(self, number):
        self.writer.sendall(packed("XADD", "log", "MAXLEN", "~", "10000", f"{number}-0", "m", "h", "i", "12345678"))
        self.writer.recv(4096)

    def all_hear(self, number):
        """Each has read this entry, and waits for the next."""
        end = b"12345678\r\n"
        for reader in self.readers:
            heard = b""
            while not heard.endswith(end):
                piece = reader.recv(4096)
                if not piece:
                    raise SystemExit("Redis closed the connection of a reader")
                heard += piece
        self.ask(f"{number}-0")


SERIES = ["routes", "stored", "connections", "purged", "workers", "proxies", "misses", "pool", "readers", "tagged", "softly", "fleet"]


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/scale/run", description="Measures what a request costs forebay as things grow, what a purge"
        " costs, and that a fleet fetches once.", epilog="series: " + ", ".join(SERIES),
    )
    parser.add_argument("--series", default=",".join(SERIES), help="comma-separated; all without it")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default 5)")
    parser.add_argument("--seconds", type=int, default=4, help="seconds per round (default 4)")
    parser.add_argument("--quick", action="store_true", help="one short round: shows that it runs, no figures to keep")
    parser.add_argument("--out", type=Path, help="folder for results (benches/results/DATE-scale; with --quick below target/)")
    chosen = parser.parse_args()
    if chosen.quick:
        chosen.rounds, chosen.seconds = 1, 1
    chosen.series = [name for name in chosen.series.split(",") if name]
    for name in chosen.series:
        if name not in SERIES:
            parser.error(f"there is no series {name}: {', '.join(SERIES)}")
    day = datetime.date.today().isoformat()
    chosen.out = chosen.out or (
        ROOT / "target/benches/scale" if chosen.quick else ROOT / f"benches/results/{day}-scale"
    )
    return chosen


def main():
    end_on_signals()
    chosen = arguments()
    run = Run(chosen)
    try:
        for name in chosen.series:
            getattr(run, name)()
    finally:
        # What was measured before something went wrong is kept.
        run.write()


if __name__ == "__main__":
    main()
