# Shared by the scripts beside it (sourced): names, the cache, and what must be installed.

cluster_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$cluster_dir/../../.." && pwd)
. "$root/tests/servers/lib.sh"

cluster=millrace-e2e
kubeconfig=$cache/e2e/kubeconfig
# Images that the cluster can have: by default those that the scripts here build and load.
MILLRACE_IMAGE=${MILLRACE_IMAGE:-millrace:local}
KAFKA_IMAGE=${KAFKA_IMAGE:-millrace-e2e/kafka:local}
MINIO_IMAGE=${MINIO_IMAGE:-millrace-e2e/minio:local}

need_docker() {
  need docker "to run a kind cluster and build its images" "your package manager (docker.io, docker-ce), or the Docker project's pages"
  docker version >/dev/null 2>&1 || fail "docker does not reach its engine; start it, or set DOCKER_HOST"
}
need_kind() { need kind "to make a cluster" "go install sigs.k8s.io/kind@latest, or the kind project's releases"; }
need_kubectl() { need kubectl "to talk to the cluster" "your package manager, or the Kubernetes project's downloads"; }
need_helm() { need helm "to install the chart" "your package manager, or the Helm project's releases; version 3"; }
