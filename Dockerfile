# docker build -t propusk .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --features kafka --bin propusk && packaging/split-debug target/release/propusk /dist

# The debug information, for a debugger beside the container: docker build --target debug -o . .
FROM scratch AS debug
COPY --from=build /dist/propusk.debug /

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o 10001 -g 10001 -m 0700 /data \
    && install -d /etc/propusk
COPY --from=build /dist/propusk /usr/local/bin/propusk
USER 10001:10001
# A configuration mounted as /etc/propusk/propusk.toml is found there.
WORKDIR /etc/propusk
# Serving beyond the container needs PROPUSK_SERVER__ISSUER: there is no default that could be right. Hosting
# platforms set PORT to the port that they forward to.
ENV PROPUSK_DATA_DIR=/data PORT=8080
# All that is ever written; the rest runs under `docker run --read-only`.
VOLUME /data
EXPOSE 8080 50051
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["propusk", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["propusk"]
CMD ["serve"]
