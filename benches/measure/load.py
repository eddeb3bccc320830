"""Load: wrk where it will do, `benches/load` where not."""

import os
import re
import subprocess
from pathlib import Path

from .machine import ROOT
from .servers import get

REPORT = Path(__file__).with_name("report.lua")
MISSES = Path(__file__).with_name("misses.lua")
SPREAD = Path(__file__).with_name("spread.lua")


def build(target, name):
    """Builds a target of the package for release; where it is."""
    kind = ["--bin"] if target == "bin" else ["--bench"]
    command = ["cargo", "build", "--release", "--locked", *kind, name, "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command[:-2])} failed")
    found = None
    for line in done.stdout.splitlines():
        match = re.search(r'"name":"%s".*"executable":"([^"]+)"' % name, line)
        if match:
            found = match.group(1)
    if not found:
        raise SystemExit(f"cargo built no {name}")
    return found


def on(cpu):
    return lambda: os.sched_setaffinity(0, {cpu})


def wrk(address, path, seconds, cpu, connections=64, script=None, arguments=()):
    """One run of wrk with one thread: requests, seconds, latency in microseconds, errors."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(script or REPORT)]
    # The name that every other client here uses: it is part of the key.
    command += ["-H", "Host: bench.example"]
    command += [f"http://{address}{path}", "--", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=on(cpu), timeout=seconds + 60
    )
    line = re.search(r"^REPORT (.*)$", done.stdout, re.MULTILINE)
    if done.returncode != 0 or not line:
        raise SystemExit(f"wrk failed:\n{done.stdout}\n{done.stderr}")
    said = pairs(line.group(1))
    if said["requests"] == 0:
        raise SystemExit(f"wrk: no request of {address}{path} was answered")
    return said


def pairs(text):
    return {name: float(value) for name, value in (pair.split("=") for pair in text.split())}


class Helper:
    """The origin and the clients of `benches/load`, all on one core."""

    def __init__(self, cpu):
        self.program = build("bench", "load")
        self.cpu = cpu

    def run(self, *arguments, timeout=900):
        done = subprocess.run(
            [self.program, *map(str, arguments)], capture_output=True, text=True, check=False,
            preexec_fn=on(self.cpu), timeout=timeout,
        )
        if done.returncode != 0:
            raise SystemExit(f"load {arguments[0]}: {done.stderr.strip()}")
        return pairs(done.stdout)

    def origin(self, stage):
        process = stage.start("origin", [self.program, "origin", "127.0.0.1:0"], [self.cpu], subprocess.PIPE)
        address = process.child.stdout.readline().decode().strip()
        if not address:
            raise SystemExit(f"the origin did not start: {process.tail()}")
        return Origin(process, address)

    def idle(self, stage, address, path, connections):
        """Connections that are held until the process is ended."""
        command = [self.program, "idle", address, path, connections]
        process = stage.start(f"idle-{connections}", command, [self.cpu], subprocess.PIPE)
        if not process.child.stdout.readline():
            raise SystemExit(f"idle connections: {process.tail()}")
        return process


class Origin:
    def __init__(self, process, address):
        self.process = process
        self.address = address

    def counts(self):
        """Requests and connections so far."""
        counted = pairs(get(self.address, "/-/counts")[1])
        return int(counted["requests"]), int(counted["connections"])
