"""A Redis of our own: nothing on disk."""

import socket

from .servers import free_port, until


class Redis:
    def __init__(self, stage, cpu, maxmemory="2gb", policy="allkeys-lru"):
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        command = [
            "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no",
            "--maxmemory", maxmemory, "--maxmemory-policy", policy, "--dir", stage.folder,
        ]
        stage.write("redis.command", " ".join(map(str, command)) + "\n")
        self.process = stage.start("redis", command, [cpu])
        until(self.process, lambda: self.ask("PING") == "+PONG", "an answer to PING")

    def ask(self, *words):
        """One command; the first line of its reply, or all of a bulk string."""
        host, port = self.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(packed(*words))
            reply = connection.makefile("rb")
            line = reply.readline().decode().strip()
            return reply.read(int(line[1:])).decode() if line.startswith("$") and line != "$-1" else line

    def command(self, name):
        """What Redis counted of a command: calls, usec, usec_per_call."""
        for line in self.ask("INFO", "commandstats").splitlines():
            if line.startswith(f"cmdstat_{name}:"):
                return {key: float(value) for key, value in (pair.split("=") for pair in line.split(":", 1)[1].split(","))}
        return {"calls": 0.0, "usec": 0.0, "usec_per_call": 0.0}


def packed(*words):
    """A command as it goes over the wire."""
    return (f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)).encode()
