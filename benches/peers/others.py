"""The others, each as its own guides advise for one core: connections to the origin kept, no access log,
the cache in memory, one worker or thread."""

import json
import os
import socket
import subprocess

from measure.servers import free_port, get, until

MIB = 1 << 20


class Nginx:
    """proxy_cache on a memory-backed file system, with open files kept (open_file_cache)."""

    name = "nginx"
    CONFIG = """\
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    server_tokens off;
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    {open_files}
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache levels=1:2 keys_zone=shop:64m max_size={size} inactive=1h use_temp_path=off
                     manager_files=10000 manager_sleep=50ms manager_threshold=200ms;
    upstream origin {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} backlog=16384 reuseport;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        location / {{
            proxy_pass http://origin;
            proxy_cache shop;
            proxy_cache_key $scheme$host$request_uri;
            proxy_cache_lock on;
            proxy_cache_use_stale updating error timeout;
            proxy_cache_background_update on;
        }}
        location /n/ {{
            proxy_pass http://origin;
            # What a slow reader has not taken waits at the origin, not in a file.
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"""

    def __init__(self, stage, cpus, origin, *, size=1024 * MIB, descriptors=20000, **_):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = stage.folder / self.name
        self.folder.mkdir()
        config = stage.write(f"{self.name}.conf", self.config(origin, size, descriptors))
        self.process = stage.start(self.name, ["nginx", "-c", config, "-p", self.folder], cpus)
        until(self.process, lambda: get(self.address, "/n/16/ready")[0] == 200, "the first answer")

    def config(self, origin, size, descriptors):
        # Where the cache lets go of files, descriptors of those that are gone end requests with 500.
        keeps_all = size >= 1024 * MIB
        return self.CONFIG.format(
            folder=self.folder, address=self.address, origin=origin, size=f"{max(1, size // MIB)}m",
            descriptors=descriptors, connections=descriptors - 200, user=run_as(),
            open_files="open_file_cache max=200000 inactive=10m; open_file_cache_valid 60s;" if keeps_all else "",
        )

    def files(self):
        return [path for path in (self.folder / "cache").glob("*/*/*") if path.is_file()]

    def held(self):
        return len(self.files())

    def outside(self):
        """Bytes of memory that its files take, which are not resident in any process."""
        return sum(path.stat().st_blocks * 512 for path in self.files())


class NginxLuaRedis(Nginx):
    """Responses in Redis by Lua: head and body in one value, one connection pool, misses stored."""

    name = "nginx-lua"
    CONFIG = """\
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
daemon off;
{user}
worker_processes 1;
worker_rlimit_nofile {descriptors};
pid {folder}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    access_log off;
    server_tokens off;
    tcp_nodelay on;
    keepalive_timeout 75s;
    keepalive_requests 1000000000;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    lua_package_path "{folder}/?.lua;;";
    init_by_lua_block {{ require "redis_cache" }}
    upstream origin {{
        server {origin};
        keepalive 256;
        keepalive_requests 1000000000;
    }}
    server {{
        listen {address} backlog=16384 reuseport;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $host;
        location / {{
            content_by_lua_block {{ require("redis_cache").answer("{redis_host}", {redis_port}) }}
        }}
        location /origin/ {{
            internal;
            proxy_pass http://origin/;
        }}
        location /n/ {{
            proxy_pass http://origin;
        }}
    }}
}}
"""
    LUA = """\
-- A page cache in Redis as it is commonly written: one GET per hit, the head packed before the body.
local redis = require "nginx.redis"
local _M = {}

local function unpack_response(packed)
    local length = tonumber(packed:sub(1, 8), 16)
    if not length then return nil end
    for name, value in packed:sub(9, 8 + length):gmatch("([^:]+): ([^\\n]*)\\n") do
        ngx.header[name] = value
    end
    return packed:sub(9 + length)
end

function _M.answer(host, port)
    local cache = redis:new()
    cache:set_timeouts(250, 250, 250)
    local key = "page:" .. ngx.var.scheme .. "://" .. ngx.var.host .. ngx.var.request_uri
    local connected = cache:connect(host, port)
    if connected then
        local packed = cache:get(key)
        if type(packed) == "string" then
            cache:set_keepalive(60000, 256)
            local body = unpack_response(packed)
            if body then
                ngx.header["Content-Length"] = #body
                ngx.header["X-Cache"] = "HIT"
                return ngx.print(body)
            end
        end
    end
    local answer = ngx.location.capture("/origin" .. ngx.var.uri, { args = ngx.var.args })
    ngx.status = answer.status
    local head = {}
    for name, value in pairs(answer.header) do
        if type(value) == "string" and name ~= "Content-Length" and name ~= "Connection" then
            ngx.header[name] = value
            head[#head + 1] = name .. ": " .. value .. "\\n"
        end
    end
    ngx.header["Content-Length"] = #answer.body
    ngx.header["X-Cache"] = "MISS"
    ngx.print(answer.body)
    local control = answer.header["Cache-Control"] or ""
    local seconds = tonumber(control:match("max%-age=(%d+)"))
    if connected and answer.status == 200 and seconds then
        head = table.concat(head)
        cache:setex(key, seconds, string.format("%08x", #head) .. head .. answer.body)
        cache:set_keepalive(60000, 256)
    end
end

return _M
"""

    def __init__(self, stage, cpus, origin, *, redis, **others):
        self.redis = redis
        stage.write("redis_cache.lua", self.LUA)
        super().__init__(stage, cpus, origin, **others)

    def config(self, origin, size, descriptors):
        (self.folder / "redis_cache.lua").write_text(self.LUA)
        host, port = self.redis.rsplit(":", 1)
        return self.CONFIG.format(
            folder=self.folder, address=self.address, origin=origin, descriptors=descriptors,
            connections=descriptors - 200, user=run_as(), redis_host=host, redis_port=port,
        )


class Haproxy:
    """The built-in cache."""

    name = "haproxy"
    CONFIG = """\
global
    nbthread 1
    maxconn {connections}
    no strict-limits
    stats socket {folder}/haproxy.sock mode 600 level admin
cache shop
    total-max-size {size}
    max-object-size {largest}
    max-age 3600
defaults
    mode http
    no log
    option http-keep-alive
    http-reuse always
    timeout connect 2s
    timeout client 75s
    timeout server 75s
    timeout http-keep-alive 75s
frontend shop
    bind {address} backlog 16384
    acl forwarded path_beg /n/
    use_backend plain if forwarded
    default_backend cached
backend cached
    http-request cache-use shop
    http-response cache-store shop
    server origin {origin} pool-purge-delay 60s
backend plain
    server origin {origin} pool-purge-delay 60s
"""

    def __init__(self, stage, cpus, origin, *, size=1024 * MIB, descriptors=20000, **_):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = stage.folder / "haproxy"
        self.folder.mkdir()
        mib = max(1, size // MIB)
        text = self.CONFIG.format(
            folder=self.folder, address=self.address, origin=origin, size=mib,
            # Half of the cache is the most HAProxy allows. Hits need no descriptor for the origin.
            largest=min(2 * MIB, mib * MIB // 2), connections=min(15000, descriptors - 500),
        )
        config = stage.write("haproxy.cfg", text)
        self.process = stage.start(self.name, ["haproxy", "-db", "-f", config], cpus)
        until(self.process, lambda: get(self.address, "/n/16/ready")[0] == 200, "the first answer")

    def held(self):
        with socket.socket(socket.AF_UNIX) as admin:
            admin.connect(str(self.folder / "haproxy.sock"))
            admin.sendall(b"show cache\n")
            text = b"".join(iter(lambda: admin.recv(1 << 16), b""))
        return sum(1 for line in text.splitlines() if b"hash:" in line)


class Varnish:
    """malloc storage. This version has no bound on what it reads ahead of a slow client."""

    name = "varnish"
    VCL = """\
vcl 4.1;
backend origin {{ .host = "{host}"; .port = "{port}"; }}
sub vcl_recv {{
    if (req.url ~ "^/n/") {{ return (pass); }}
}}
"""

    def __init__(self, stage, cpus, origin, *, size=1024 * MIB, **_):
        self.address = f"127.0.0.1:{free_port()}"
        self.folder = stage.folder / "varnish"
        self.folder.mkdir()
        host, port = origin.rsplit(":", 1)
        vcl = stage.write("varnish.vcl", self.VCL.format(host=host, port=port))
        command = [
            "varnishd", "-F", "-n", self.folder, "-a", self.address, "-f", vcl, "-s", f"malloc,{size}",
            "-p", "thread_pools=1", "-p", "thread_pool_min=100", "-p", "thread_pool_max=2000",
            "-p", "timeout_idle=75", "-p", "listen_depth=16384", "-p", "default_grace=0",
        ]
        stage.write("varnish.command", " ".join(map(str, command)) + "\n")
        self.process = stage.start(self.name, command, cpus)
        until(self.process, lambda: get(self.address, "/n/16/ready")[0] == 200, "the first answer")

    def counters(self):
        said = subprocess.run(
            ["varnishstat", "-j", "-n", str(self.folder)], capture_output=True, text=True, check=True
        )
        return json.loads(said.stdout)["counters"]

    def held(self):
        return int(self.counters()["MAIN.n_object"]["value"])


def run_as():
    """The master is root: so is the worker, whose files are in a folder of ours."""
    return "user root;" if os.geteuid() == 0 else ""


PEERS = {"nginx": Nginx, "haproxy": Haproxy, "varnish": Varnish, "nginx-lua": NginxLuaRedis}
