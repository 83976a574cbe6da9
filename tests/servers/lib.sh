# Shared by the scripts beside it (sourced): the cache, its lock, and how a step reports.

cache=${MILLRACE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/millrace}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)
logs=$cache/logs
mkdir -p "$logs"

say() { printf '[setup %4ds] %s\n' "$SECONDS" "$*" >&2; }

fail() {
  printf 'setup: %s\n' "$*" >&2
  exit 1
}

# need PROGRAM WHY HOW: stops unless PROGRAM is on PATH.
need() { command -v "$1" >/dev/null 2>&1 || fail "$1 is missing; it is needed $2. Get it with: $3"; }

# run NAME COMMAND…: runs it quietly; on failure shows the end of its log and stops.
run() {
  local name=$1
  shift
  "$@" >"$logs/$name.log" 2>&1 </dev/null && return
  printf 'setup: %s failed, the end of %s:\n' "$name" "$logs/$name.log" >&2
  tail -n 30 "$logs/$name.log" >&2
  exit 1
}

# installed NAME FUNCTION: unless it is there, calls FUNCTION with a fresh directory which becomes $cache/NAME only when it is complete, so
# that an interrupted install is never taken for a finished one. Other processes that want the same wait for the lock.
installed() {
  local target=$cache/$1 fresh=$cache/$1.partial
  [ -d "$target" ] && return
  exec 9>"$cache/setup.lock"
  flock 9
  if [ ! -d "$target" ]; then
    remove "$fresh"
    mkdir -p "$fresh"
    "$2" "$fresh"
    mv "$fresh" "$target"
  fi
  exec 9>&-
}

# remove DIRECTORY: also when Go has made its module cache read-only.
remove() {
  [ ! -e "$1" ] && return
  chmod -R u+w "$1"
  rm -rf "$1"
}

# go_in DIRECTORY COMMAND…: a Go build whose module and build caches live in DIRECTORY, and go with it.
go_in() {
  local dir=$1
  shift
  env GOPATH="$dir/path" GOCACHE="$dir/cache" GOFLAGS="-buildvcs=false ${GOFLAGS_EXTRA:-}" CGO_ENABLED=0 nice "$@"
}
