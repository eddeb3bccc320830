"""What the figures were measured on, and whether it was quiet."""

import os
import platform
import re
import resource
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def cores(wanted=2):
    """The first cores this process may use. The servers get the first, the load the last."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        raise SystemExit("two cores are needed: one for the servers, one for load, origin and Redis")
    return usable[: max(2, wanted)]


def raise_descriptor_limit():
    """As many descriptors as the system gives; how many that is."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


def first_line(*command):
    """What a program says of its version."""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return "missing"
    text = (said.stdout or said.stderr).strip().splitlines()
    return text[0] if text else "silent"


def commit():
    """The commit that is measured, marked when the tree differs from it in more than results."""
    name = first_line("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD")
    changed = subprocess.run(
        ["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benches/results"],
        capture_output=True, text=True, check=False,
    ).stdout.strip()
    return name + (" with changes" if changed else "")


def describe():
    """Pairs of what and which."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    release = re.search(r'PRETTY_NAME="(.*)"', Path("/etc/os-release").read_text())
    return [
        ("processor", f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores seen"),
        ("memory", f"{int(memory.group(1)) >> 20} GiB" if memory else "unknown"),
        ("kernel", platform.release()),
        ("system", release.group(1) if release else "unknown"),
        ("forebay", f"{first_line(str(ROOT / 'target/release/forebay'), '--version')}, {commit()}"),
        ("compiler", first_line("rustc", "--version")),
        ("nginx", first_line("nginx", "-v").removeprefix("nginx version: ")),
        ("HAProxy", first_line("haproxy", "-v")),
        ("Varnish", first_line("varnishd", "-V")),
        ("Redis", first_line("redis-server", "--version")),
        ("wrk", first_line("wrk", "-v")),
    ]


def stolen_and_total():
    """Jiffies that the machine's owner took from us, and all there were."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    return fields[7], sum(fields[:8])


class Quiet:
    """Says how much of the machine others used while something was measured."""

    def __init__(self):
        self.stolen, self.total = stolen_and_total()
        self.load = os.getloadavg()[0]

    def report(self):
        stolen, total = stolen_and_total()
        part = (stolen - self.stolen) / max(1, total - self.total)
        return f"load average at the start {self.load:.2f}, stolen time {part:.1%}"

    def is_noisy(self):
        return self.load > 0.5
