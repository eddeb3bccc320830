# syntax=docker/dockerfile:1
# forebay: one binary on the C library it was built and measured with, no shell, no root.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
# Outside the target directory's cache, so that a changed source never meets an old binary.
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin forebay \
    && install -D target/release/forebay /out/usr/bin/forebay

# A static wget for the health check, and nothing else of it.
FROM busybox:1.37-musl AS probe

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/ /
COPY --from=probe /bin/wget /usr/bin/wget
COPY LICENSE /usr/share/doc/forebay/LICENSE

# The numeric id of distroless's "nonroot", so that Kubernetes can see that it is not 0.
USER 65532:65532

# The public listener; the admin listener stays inside unless it is published on purpose.
EXPOSE 8080

# Alive is the event loops answering, whatever Redis or the origins do: the same question an
# orchestrator asks. It goes to the admin listener, which the configuration keeps on port 9090.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/bin/wget", "-q", "-T", "2", "-O", "/dev/null", "http://127.0.0.1:9090/live"]

# SIGTERM begins the drain; give it longer than `drain_timeout` before killing.
STOPSIGNAL SIGTERM

ENTRYPOINT ["/usr/bin/forebay"]
CMD ["run", "--config", "/etc/forebay/proxy.toml"]
