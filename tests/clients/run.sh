#!/usr/bin/env bash
# Runs programs on clients that nobody here wrote against a live server: `tests/clients/run.sh PATH_TO_BINARY`.
#
# What the programs need is installed once, at the versions pinned beside them, below `target/clients` or the folder that
# CHECKMATE_CLIENTS_DIR names.
set -euo pipefail

binary=$(realpath "${1:?give the path of the checkmate binary}")
here=$(cd "$(dirname "$0")" && pwd)
repository=$(git -C "$here" rev-parse --show-toplevel)
build=$(realpath -m "${CHECKMATE_CLIENTS_DIR:-$repository/target/clients}")
instance=$(mktemp -d)
database=sqlite://$instance/checkmate.db
server=
passed=0
failed=0

main() {
  trap stop_server EXIT
  mkdir -p "$build"
  install_python
  install_node
  start_server

  run bash "$here/curl.sh"
  run bash "$here/buf.sh"
  run "${python[@]}" "$here/python/requests_client.py"
  run "${python[@]}" "$here/python/grpcio_client.py"
  run "${python[@]}" "$here/python/follow_client.py"
  run node "$build/node/fetch.js"
  run node "$build/node/grpc-js.js"
  run node "$build/node/follow.js"
  run node "$build/node/connect.js"
  run node "$build/node/orpc.js"

  echo "clients: $passed passed, $failed failed"
  ((failed == 0))
}

install_python() {
  local to=$build/python pins=$here/python/requirements.txt
  if ! cmp -s "$pins" "$to/installed"; then
    rm -rf "$to"
    if python3 -m venv "$to/venv" >/dev/null 2>&1; then
      "$to/venv/bin/python" -m pip install --quiet --requirement "$pins"
    else
      rm -rf "$to/venv"
      python3 -m pip install --quiet --target "$to/packages" --requirement "$pins"
    fi
    cp "$pins" "$to/installed"
  fi
  if [[ -d $to/venv ]]; then
    python=("$to/venv/bin/python" -B)
  else
    python=(env PYTHONPATH="$to/packages" python3 -B)
  fi
}

# The programs are copied to their packages: an ES module looks for imports in the folders above itself only.
install_node() {
  local to=$build/node
  if ! cmp -s "$here/node/package.json" "$to/installed"; then
    rm -rf "$to"
    mkdir "$to"
    cp "$here/node/package.json" "$here/node/.npmrc" "$to"
    (cd "$to" && npm install --ignore-scripts --no-audit --no-fund --loglevel=error)
    cp "$to/package.json" "$to/installed"
  fi
  cp -r "$here"/node/. "$to"
  export PATH=$to/node_modules/.bin:$PATH
}

# Starts the server on a free port and a fresh database, and tells the programs what they need to know about it.
start_server() {
  (cd "$instance" && exec "$binary" --listen 127.0.0.1:0 --database "$database") \
    >"$instance/stdout" 2>"$instance/stderr" &
  server=$!
  SECONDS=0
  until grep -qs '^listening on ' "$instance/stdout"; do
    if ! kill -0 "$server" 2>/dev/null || ((SECONDS > 30)); then
      echo "FAILED run: the server does not start" && cat "$instance/stderr" && exit 1
    fi
    sleep 0.05
  done

  local reader
  reader=$("$binary" application create --name reader --role reader --output json --database "$database")
  # What a running server needs to notice the new application.
  sleep 0.25

  CHECKMATE_URL=$(sed -n 's/^listening on //p' "$instance/stdout")
  CHECKMATE_KEY=$(sed -n 's/^ *\(ck_\)/\1/p' "$instance/stdout")
  CHECKMATE_READY_CURL=$(grep '^ *curl ' "$instance/stdout")
  CHECKMATE_READER_KEY=$(sed -E 's/.*"secret":"([^"]+)".*/\1/' <<<"$reader")
  CHECKMATE_PROTO=$repository/proto
  export CHECKMATE_URL CHECKMATE_KEY CHECKMATE_READER_KEY CHECKMATE_READY_CURL CHECKMATE_PROTO
}

# It has 10 seconds to finish what is in flight, and no more than 15 to end.
stop_server() {
  if [[ -n $server ]] && kill "$server" 2>/dev/null; then
    timeout 15 tail --pid="$server" -s 0.05 -f /dev/null || kill -KILL "$server"
  fi
  rm -rf "$instance"
}

# run COMMAND…: counts the claims that hold; a program that ends early counts as one failure.
run() {
  local output=$instance/output
  if "$@" 2>&1 | tee "$output"; then :; else failed=$((failed + 1)); fi
  passed=$((passed + $(grep -c '^ok ' "$output" || true)))
}

main
