"""Processes under test and beside it: started on one core each, read from /proc, ended whatever happens."""

import atexit
import ctypes
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG = 1


def free_port():
    """A port that nothing listens on, of those that the system hands out."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(address, path, timeout=5.0):
    """One request; status and text."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=timeout)
    try:
        connection.request("GET", path, headers={"Host": "bench.example", "Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


class Process:
    """One program and all its children, on one core or several."""

    def __init__(self, name, command, cpus, folder, stdin=None):
        self.name = name
        self.log = folder / f"{name}.log"
        cpus = set(cpus)
        parent = os.getpid()

        def before():
            os.sched_setaffinity(0, cpus)
            # If this script is killed outright, what it started goes too.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with open(self.log, "wb") as log:
            self.child = subprocess.Popen(
                command, stdin=stdin or subprocess.DEVNULL, stdout=subprocess.PIPE if stdin else log,
                stderr=log, preexec_fn=before, start_new_session=True, cwd=folder,
            )
        self.pid = self.child.pid

    def is_running(self):
        return self.child.poll() is None

    def tail(self):
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-12:])

    def pids(self):
        """This process and what descends from it."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = _stat(entry)
                if fields:
                    children.setdefault(int(fields[1]), []).append(int(entry))
        found, left = [], [self.pid]
        while left:
            pid = left.pop()
            found.append(pid)
            left.extend(children.get(pid, []))
        return found

    def cpu_seconds(self):
        """User and system time of all threads, and of children that have ended and were waited for."""
        ticks = 0
        for pid in self.pids():
            fields = _stat(pid)
            if fields:
                ticks += sum(int(field) for field in fields[11:15])
        return ticks / TICKS

    def resident(self):
        """Resident bytes; memory that several of its processes share counts once per process."""
        total = 0
        for pid in self.pids():
            try:
                total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
            except OSError:
                pass
        return total

    def stop(self):
        """Ends the process group, politely first."""
        for wait, number in ((5, signal.SIGTERM), (5, signal.SIGKILL)):
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                break
            try:
                self.child.wait(wait)
                break
            except subprocess.TimeoutExpired:
                pass
        try:
            # Children that outlived their parent.
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()


def _stat(pid):
    """Fields of /proc/PID/stat from the third on: state, parent, ...; utime is 11, cstime 14."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None


class Stage:
    """A folder in memory and the processes in it; gone when the block is left, however it is left."""

    def __init__(self, keep_configs=None):
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="forebay-bench-", dir=base))
        # nginx's workers and varnishd's child may run as somebody else.
        self.folder.chmod(0o755)
        self.keep_configs = keep_configs
        self.running = []
        atexit.register(self.close)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def start(self, name, command, cpus, stdin=None):
        process = Process(name, [str(part) for part in command], cpus, self.folder, stdin)
        self.running.append(process)
        return process

    def write(self, name, text):
        """A configuration file, kept beside the results as well."""
        path = self.folder / name
        path.write_text(text)
        if self.keep_configs:
            self.keep_configs.mkdir(parents=True, exist_ok=True)
            (self.keep_configs / name).write_text(text)
        return path

    def end(self, process):
        process.stop()
        self.running.remove(process)

    def close(self):
        for process in reversed(self.running):
            process.stop()
        self.running.clear()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.close)


def until(process, is_ready, what, seconds=20.0):
    """Waits until a process is ready; fails with its last words."""
    ends = time.monotonic() + seconds
    error = "no answer"
    while time.monotonic() < ends:
        if not process.is_running():
            raise SystemExit(f"{process.name} ended while it started:\n{process.tail()}")
        try:
            if is_ready():
                return
        except (OSError, http.client.HTTPException) as failed:
            error = failed
        time.sleep(0.05)
    raise SystemExit(f"{process.name}: {what} not within {seconds:.0f} s ({error}):\n{process.tail()}")


def end_on_signals():
    """Signals end this script as an exception does, so that everything is cleaned up."""

    def end(number, _):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, end)
