# Two stages: a Rust builder, and an image without shell or package manager. Base images are arguments, so that a mirror or a digest can be given:
#   docker build --build-arg BUILDER_IMAGE=… --build-arg RUNTIME_IMAGE=… -t mailbox-collector .
ARG BUILDER_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILDER_IMAGE} AS builder
# aws-lc-rs and jemalloc are C: a compiler and make, which Rust's own image has and slimmer ones lack.
RUN (command -v make && command -v cc) >/dev/null \
    || (apt-get update && apt-get install --yes --no-install-recommends make gcc libc6-dev && rm -rf /var/lib/apt/lists/*)
WORKDIR /build

# First the dependencies alone, so that a change of our code does not compile them again. Cargo loads every member of the workspace, and every
# target that a manifest names, even if it builds only one: hence all the manifests, and an empty source for each.
COPY Cargo.toml Cargo.lock ./
COPY xtask/Cargo.toml xtask/
COPY tests/simulator/Cargo.toml tests/simulator/
RUN mkdir -p src xtask/src tests/simulator/src tests/it \
    && touch src/lib.rs xtask/src/lib.rs tests/simulator/src/lib.rs tests/it/main.rs \
    && for main in src xtask/src tests/simulator/src; do echo 'fn main() {}' > "$main/main.rs"; done \
    && cargo build --release --locked --package mailbox-collector --bin mailbox-collector

COPY src src
# The empty sources are newer than the real ones, which keep their time: without this Cargo would take them for built.
RUN touch src/lib.rs src/main.rs && cargo build --release --locked --package mailbox-collector --bin mailbox-collector

FROM ${RUNTIME_IMAGE}
COPY --from=builder /build/target/release/mailbox-collector /usr/local/bin/mailbox-collector
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/mailbox-collector"]
CMD ["run"]
