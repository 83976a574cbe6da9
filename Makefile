# check ⊂ test ⊂ acceptance. Cargo is always given the whole workspace, so that every command uses the same dependencies
# with the same features and none of them is ever compiled twice. V=1 shows what the phases print.

.PHONY: check test acceptance demo fmt clippy chart unit simulation docs build servers integration release \
  figures-throughput figures-kills figures-latency figures-requests figures-idle figures-simulation figures-operator \
  images e2e-cluster e2e e2e-current e2e-full

# Formatting, lints, unit tests, the simulation, docs: minutes, and no servers.
check: fmt clippy chart unit simulation docs

# All of the above, and the tests on real Kafka and MinIO: what CI runs.
test: check build servers integration

# The figures and the long, destructive runs on real servers: hours.
acceptance: test figures-throughput figures-kills figures-latency figures-requests figures-simulation figures-idle \
  figures-operator e2e-full

# A job on generated orders, with nothing installed.
demo:
	cargo run --bin millrace -- demo

# The phases, cheap and telling first.

fmt:
	@tests/phase fmt cargo fmt --all --check

clippy: fmt
	@tests/phase clippy cargo clippy --workspace --all-targets -- -D warnings
	@tests/phase clippy-e2e cargo clippy --workspace --test e2e -- -D warnings

# The chart: helm lint, every switch, what the schema must refuse.
chart: clippy
	@tests/phase chart sh -c 'PATH="$$(tests/servers/setup-helm):$$PATH" charts/check'

unit: chart
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
	@tests/phase kstatus tests/servers/setup-kstatus

# Two tests at a time: each may drive a runner beside the shared broker and store. All but `e2e`, which needs a cluster.
integration: servers
	@tests/phase integration env MILLRACE_SEEDS=20 cargo test --workspace --test '[!e]*' -- --test-threads=2

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

# The tests on Kubernetes. They need docker, kind, kubectl and helm, and say so where one is missing.

# The image millrace:local, of the programs as `cargo build` makes them. images/Dockerfile is the one for a release.
images:
	@tests/phase programs cargo build --workspace --all-targets
	@tests/phase image images/local

e2e-cluster:
	@tests/e2e/cluster/check
	@$(MAKE) --no-print-directory images
	@tests/phase cluster tests/e2e/cluster/up

# The smoke tests on a kind cluster, which stays for the next time; tests/e2e/cluster/down deletes it.
E2E = cargo test --workspace --test e2e --
e2e: e2e-cluster
	@eval "$$(tests/e2e/cluster/env)" && tests/phase e2e $(E2E) smoke:: --test-threads=4

# The same on the cluster of KUBECONFIG, but for what needs the nodes of a kind cluster. The cluster must be able to have
# the images MILLRACE_IMAGE, KAFKA_IMAGE and MINIO_IMAGE.
e2e-current:
	@tests/phase e2e-install tests/e2e/cluster/install
	@tests/phase e2e-current $(E2E) smoke:: --skip on_kind --test-threads=4

# All of it, one at a time and with the figures. Last, whether the operator needs the rights it has.
e2e-full: e2e-cluster
	@eval "$$(tests/e2e/cluster/env)" && V=1 tests/phase e2e-full $(E2E) --skip rights --test-threads=1 --nocapture
	@eval "$$(tests/e2e/cluster/env)" && V=1 tests/phase e2e-rights $(E2E) rights --nocapture
