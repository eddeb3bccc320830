"""forebay under everything at once, for long. See --help."""

import argparse
import datetime
import os
import statistics
import threading
import time
from pathlib import Path

from measure import machine
from measure.forebay import Forebay, purge
from measure.load import Helper
from measure.machine import ROOT
from measure.redis import Redis
from measure.servers import Stage, end_on_signals
from measure.tables import Rows, markdown

COLUMNS = ["second", "resident_mib", "cache_mib", "entries", "descriptors", "connections", "redis_mib", "purges"]
MIB = 1 << 20
EVERY = 10


class Purging(threading.Thread):
    """A purge now and then, of each kind in turn."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server, self.count, self.refused, self.failed = server, 0, 0, None
        self.ended = threading.Event()

    def run(self):
        while not self.ended.wait(3):
            n = self.count
            what = [
                {"tags": [f"t{n % 64}"]},
                {"tags": [f"t{n % 64}"], "mode": "hard"},
                {"prefixes": [f"/t/{(64, 700, 1024)[n % 3]}/"], "mode": "soft"},
                {"urls": [f"http://bench.example/b/{6 << 20}/long-{n % 4}"], "mode": "hard"},
                {"tags": [f"never-{n}-{k}" for k in range(100)]},
            ][n % 5]
            try:
                purge(self.server, what)
            except SystemExit:
                # 503: Redis could not be told in time. Whoever purges asks again.
                self.refused += 1
                continue
            except OSError as error:
                self.failed = error
                return
            self.count += 1


def sample(server, redis, began, purging):
    used = next(line for line in redis.ask("INFO", "memory").splitlines() if line.startswith("used_memory:"))
    return {
        "second": round(time.monotonic() - began),
        "resident_mib": server.process.resident() / MIB,
        "cache_mib": server.metric("forebay_cache_bytes") / MIB,
        "entries": server.held(),
        "descriptors": len(os.listdir(f"/proc/{server.process.pid}/fd")),
        "connections": int(server.metric("forebay_connections")),
        "redis_mib": int(used.split(":")[1]) / MIB,
        "purges": purging.count,
    }


def arguments():
    parser = argparse.ArgumentParser(
        prog="benches/soak/run", description="Everything at once with a full cache, for long: resident memory stays"
        " flat, nothing leaks, and every byte of every answer is the origin's.",
        epilog="Exit 1 where an answer was wrong, or resident memory grew by more than 5 % and 16 MiB from the second"
        " sixth of the run to the last.",
    )
    parser.add_argument("--minutes", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--memory", type=int, default=64, help="[memory] max_size in MiB (default 64)")
    parser.add_argument("--out", type=Path, help="folder for results (benches/results/DATE-soak)")
    chosen = parser.parse_args()
    if chosen.minutes < 1:
        parser.error("--minutes is at least 1")
    chosen.out = chosen.out or ROOT / f"benches/results/{datetime.date.today().isoformat()}-soak"
    return chosen


def soak(chosen, rows):
    server_core, load_core = machine.cores()[:2]
    machine.raise_descriptor_limit()
    helper = Helper(load_core)
    with Stage() as stage:
        origin = helper.origin(stage)
        redis = Redis(stage, load_core, maxmemory="256mb", policy="volatile-lfu")
        server = Forebay(stage, [server_core], origin.address, memory=f"{chosen.memory}MiB", redis=redis.address)
        seconds = int(chosen.minutes * 60)
        done = {}

        def load():
            try:
                done.update(helper.run("soak", server.address, seconds, 1, timeout=seconds + 120))
            except SystemExit as error:
                done["failed"] = str(error)

        loading, purging = threading.Thread(target=load, daemon=True), Purging(server)
        began = time.monotonic()
        loading.start()
        purging.start()
        while loading.is_alive():
            loading.join(EVERY)
            if loading.is_alive():
                row = sample(server, redis, began, purging)
                rows.add(**row)
                print("  ".join(f"{name} {value:.1f}" if isinstance(value, float) else f"{name} {value}"
                                for name, value in row.items()), flush=True)
        purging.ended.set()
        if not server.process.is_running():
            raise SystemExit(f"forebay ended: {server.process.tail()}")
        for failed in (done.get("failed"), purging.failed):
            if failed:
                raise SystemExit(str(failed))
        # Connections end with their clients: what is left is what leaks.
        time.sleep(2)
        done["connections"] = int(server.metric("forebay_connections"))
        done["fetches"] = origin.counts()[0]
        done["refused"] = purging.refused
        return done


def main():
    end_on_signals()
    chosen = arguments()
    rows = Rows(chosen.out / "raw.tsv", COLUMNS)
    quiet = machine.Quiet()
    done = soak(chosen, rows)
    values = [row["resident_mib"] for row in rows.rows]
    sixth = max(1, len(values) // 6)
    early, late = statistics.median(values[sixth : 2 * sixth] or values[:1]), statistics.median(values[-sixth:])
    grown = late - early
    is_flat = grown <= max(16, early * 0.05)
    last = rows.rows[-1]
    text = "# Everything at once\n\n" + markdown(["set-up", ""], machine.describe() + [
        ("run", f"{chosen.minutes:g} minutes, [memory] {chosen.memory} MiB, Redis 256 MiB, one worker"),
        ("quiet", quiet.report()),
    ]).replace("---:|", "---|") + "\n" + markdown(["", ""], [
        ["requests, each answer compared byte by byte", f"{done['requests']:,.0f}"],
        ["of them hits", f"{done['hits'] / done['requests']:.1%}"],
        ["long bodies that broke off, visibly (Redis evicts their pieces)", f"{done['broken']:.0f}"],
        ["bytes read", f"{done['bytes'] / 2**30:.1f} GiB"],
        ["origin requests", f"{done['fetches']:,}"],
        ["purges, and those that could not be told in time", f"{last['purges']}, {done['refused']}"],
        ["resident memory, median of the second sixth", f"{early:.1f} MiB"],
        ["resident memory, median of the last sixth", f"{late:.1f} MiB"],
        ["the most", f"{max(values):.1f} MiB"],
        ["counted by forebay_cache_bytes at the end", f"{last['cache_mib']:.1f} MiB"],
        ["open descriptors, first and last sample", f"{rows.rows[0]['descriptors']}, {last['descriptors']}"],
        ["client connections two seconds after the end", str(done["connections"])],
        ["verdict", "flat" if is_flat else f"GREW by {grown:.1f} MiB"],
    ]).replace("---:|", "---|")
    (chosen.out / "soak.md").write_text(text)
    print("\n" + text + f"\nwritten to {chosen.out}")
    return 0 if is_flat and done["connections"] == 0 else 1


if __name__ == "__main__":
    raise SystemExit(main())
