redis-server --bind 127.0.0.1 --port 44857 --save  --appendonly no --maxmemory 2gb --maxmemory-policy allkeys-lru --dir /dev/shm/forebay-bench-xql1y2yl
