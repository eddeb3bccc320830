redis-server --bind 127.0.0.1 --port 49287 --save  --appendonly no --maxmemory 2gb --maxmemory-policy allkeys-lru --dir /dev/shm/forebay-bench-vygo2hk4
