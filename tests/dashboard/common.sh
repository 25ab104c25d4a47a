# Sourced by the suites that drive the API with others' programs (tests/dashboard/run, tests/schema/run): where things lie, what they
# need, and that nothing is left running. Sets root, target and work; the caller has set `here` and `suite`.

root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target
mkdir -p "$target/$suite"

# What a stage of tests/run answers when it has nothing to run on.
skip() {
  echo "$suite: skipped: $1"
  exit 77
}

need() { # command, Debian package
  command -v "$1" >/dev/null || skip "no $1 (Debian package $2)"
}
need python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || skip "no venv for python3 (Debian package python3-venv)"
need setpriv util-linux

exec 8>"$target/$suite/lock"
flock -n 8 || { echo "$suite: another run works in $target/$suite" >&2; exit 1; }

# Whatever is started inherits a mark in its environment; at the end its bearers are ended, by their ids. A watcher does the same
# if this script is killed: it sees its pipe close.
work=$(mktemp -d "${TMPDIR:-/tmp}/halberd-$suite.XXXXXX") || exit 1
mark=HALBERD_SUITE=$(basename "$work")

marked() {
  local environ pid
  for environ in /proc/[0-9]*/environ; do
    pid=${environ#/proc/} pid=${pid%/environ}
    [[ $pid != "$$" && $pid != "$BASHPID" ]] && grep -qszxF -e "$mark" "$environ" 2>/dev/null && echo "$pid"
  done
}

reap() {
  local signal pids round
  for signal in TERM KILL; do
    for round in {1..50}; do
      mapfile -t pids < <(marked)
      [[ ${#pids[@]} -eq 0 ]] && return
      [[ $round -gt 1 ]] || kill -s "$signal" "${pids[@]}" 2>/dev/null
      sleep 0.1
    done
  done
}

finish() {
  local code=$?
  set +e
  trap '' INT TERM HUP
  reap
  if [[ $code -ne 0 && $code -ne 77 ]]; then
    rm -rf "$target/$suite/failed" && mkdir -p "$target/$suite/failed"
    cp "$work"/*.log "$target/$suite/failed/" 2>/dev/null && echo "logs of the failed run: $target/$suite/failed"
  fi
  rm -rf "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
exec 7> >(
  trap '' INT TERM HUP
  exec 8>&-
  cat >/dev/null
  [[ ! -d $work ]] || { reap; rm -rf "$work"; }
)

# Runs a program with the mark, beside this shell, so that a signal to the shell is taken at once.
run() {
  env "$mark" PYTHONDONTWRITEBYTECODE=1 "$@" 7>&- 8>&- &
  wait $!
}

# A virtual environment of exactly requirements.txt, kept until that changes; `more` (a function, given its path) completes it.
environment() {
  local hash
  hash=$({ cat "$here/requirements.txt" "$@"; python3 -VV; } | sha256sum | cut -c 1-12)
  venv=$target/$suite/venv-$hash
  [[ -e $venv/.ready ]] && return
  rm -rf "$target/$suite"/venv-*
  echo "== making the Python environment"
  {
    python3 -m venv "$venv" &&
      run "$venv/bin/pip" -q --disable-pip-version-check install --no-deps -r "$here/requirements.txt" &&
      { ! declare -F more >/dev/null || more "$venv"; }
  } >"$work/venv.log" 2>&1 || { tail -n 20 "$work/venv.log"; exit 1; }
  touch "$venv/.ready"
}

# Programs given by HALBERD and HALBERD_SIM are taken as they are; else cargo builds what is missing or stale, the whole
# workspace as the other tests do, so that nothing is built twice.
programs() {
  if [[ -z ${HALBERD-} || -z ${HALBERD_SIM-} ]]; then
    (cd "$root" && cargo build -q --workspace --bins --locked) || exit 1
    HALBERD=$target/debug/halberd HALBERD_SIM=$target/debug/halberd-sim
  fi
  export HALBERD HALBERD_SIM
}
