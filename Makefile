# check ⊂ test ⊂ acceptance. Cargo is always given the whole workspace, so that every command uses the same dependencies
# with the same features and none of them is ever compiled twice. V=1 shows what the phases print.

.PHONY: check test acceptance demo fmt clippy unit simulation docs build servers integration release \
  figures-throughput figures-kills figures-latency figures-requests figures-idle figures-simulation figures-operator

# Formatting, lints, unit tests, the simulation, docs: minutes, and no servers.
check: fmt clippy unit simulation docs

# All of the above, and the tests on real Kafka and MinIO: what CI runs.
test: check build servers integration

# The figures and the long, destructive runs on real servers: hours.
acceptance: test figures-throughput figures-kills figures-latency figures-requests figures-simulation figures-idle \
  figures-operator

# A job on generated orders, with nothing installed.
demo:
	cargo run --bin millrace -- demo

# The phases, cheap and telling first.

fmt:
	@tests/phase fmt cargo fmt --all --check

clippy: fmt
	@tests/phase clippy cargo clippy --workspace --all-targets -- -D warnings

unit: clippy
	@tests/phase unit cargo test --workspace --lib --bins

# Whole runners in a world that fails on purpose: 2,000 seeds, or MILLRACE_SEEDS.
simulation: unit
	@tests/phase simulation cargo test --workspace --test simulation

docs: simulation
	@RUSTDOCFLAGS="-D warnings" tests/phase docs cargo doc --workspace --no-deps

# The binary that the integration tests run, compiled with the features that their own build uses.
build: docs
	@tests/phase build cargo build --workspace --all-targets

servers: build
	@tests/phase servers tests/servers/setup
	@tests/phase apiserver tests/servers/setup-apiserver

# Two tests at a time: each may drive a runner beside the shared broker and store.
integration: servers
	@tests/phase integration env MILLRACE_SEEDS=20 cargo test --workspace --test '*' -- --test-threads=2

# The figures, one row of them a target, in release build. SIZE makes a row smaller or larger: messages, times, epochs or
# minutes.

release: ; cargo build --release --workspace --bins --examples

FIGURES = CARGO_MANIFEST_DIR=$(CURDIR)/tests MILLRACE_BIN=$(CURDIR)/target/release/millrace target/release/examples/figures

figures-throughput figures-kills figures-latency figures-requests figures-idle: figures-%: release
	$(FIGURES) $* $(SIZE)

# The operator with 1,000 jobs, on kube-apiserver and etcd alone.
figures-operator: release
	CARGO_MANIFEST_DIR=$(CURDIR)/operator MILLRACE_OPERATOR_BIN=$(CURDIR)/target/release/millrace-operator \
	  target/release/examples/figures-operator $(SIZE)

SEEDS = 100000
figures-simulation:
	MILLRACE_SEEDS=$(SEEDS) cargo test --release --workspace --test simulation -- --nocapture
