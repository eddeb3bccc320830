"""forebay as it is measured: one worker, no access log, everything else as it comes."""

import http.client
import json

from .load import build
from .servers import free_port, get, until

CONFIG = """\
[server]
listen = ["{address}"]
workers = {workers}

[admin]
listen = "{admin}"

[memory]
max_size = "{memory}"
{redis}
[upstream.origin]
servers = ["http://{origin}"]

[[route]]
name = "forwarded"
path = "/n/{{*rest}}"
upstream = "origin"
cache = false

[[route]]
name = "products"
path = "/api/products/{{id}}"
upstream = "origin"
ttl = "60s"

[[route]]
name = "images"
path = "/images/{{*file}}"
upstream = "origin"
ttl = "1h"
{routes}
[[route]]
name = "rest"
path = "/{{*rest}}"
upstream = "origin"
"""


class Forebay:
    """One running proxy."""

    name = "forebay"
    program = None

    def __init__(self, stage, cpus, origin, *, memory="1GiB", redis=None, workers=1, routes="", name=None):
        Forebay.program = Forebay.program or build("bin", "forebay")
        self.name = name or self.name
        self.address, self.admin = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        redis = f'\n[redis]\nurl = "redis://{redis}/0"\n' if redis else ""
        text = CONFIG.format(
            address=self.address, admin=self.admin, origin=origin, memory=memory, redis=redis, workers=workers,
            routes=routes,
        )
        config = stage.write(f"{self.name}.toml", text)
        command = [self.program, "run", "--config", config, "--access-log", "off"]
        self.process = stage.start(self.name, command, cpus)
        until(self.process, lambda: get(self.address, "/n/16/ready")[0] == 200, "the first answer")
        if redis:
            connected = '"connected": true'
            until(self.process, lambda: connected in get(self.admin, "/ready")[1], "a connection to Redis")

    def metric(self, name, **labels):
        """The sum of a series over its labels, of those that have these."""
        text = get(self.admin, "/metrics")[1]
        lines = (line for line in text.splitlines() if line.startswith((name + " ", name + "{")))
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if all(pair in line for pair in wanted))

    def held(self):
        """How many responses the memory tier holds."""
        return int(self.metric("forebay_cache_entries"))


def purge(server, what):
    """Tells a proxy; what it says."""
    host, port = server.admin.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    try:
        connection.request("POST", "/purge", json.dumps(what), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode()
        if answer.status != 200:
            raise SystemExit(f"the purge was answered {answer.status}: {text}")
        return json.loads(text)
    finally:
        connection.close()
