//! The tests on a Kubernetes cluster: `smoke::` shows in minutes that everything hangs together, `full::` the rest of what the
//! operator promises, with the figures of it. What needs the nodes of a kind cluster is in a module `on_kind`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod full;
mod smoke;
mod support;
