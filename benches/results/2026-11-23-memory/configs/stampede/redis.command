redis-server --bind 127.0.0.1 --port 41843 --save  --appendonly no --maxmemory 2gb --maxmemory-policy allkeys-lru --dir /dev/shm/forebay-bench-6h3q3adl
