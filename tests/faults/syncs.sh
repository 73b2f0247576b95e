#!/usr/bin/env bash
# How often SQLite syncs: at least once for each acknowledged change. A quick look beside power.sh.
#
#   cargo build && tests/faults/syncs.sh [target/debug/checkmate]
#
# Needs strace and curl.
set -euo pipefail
program=$(realpath "${1:-target/debug/checkmate}")
changes=100
folder=$(mktemp -d)
trap 'kill "$(cat process)" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
export CHECKMATE_LISTEN=127.0.0.1:0
strace -f -e trace=fdatasync,fsync -o syncs sh -c 'echo $$ >process; exec "$0"' "$program" >out 2>err &
until grep -q listening out; do sleep 0.1; done
url=$(sed -n 's/^listening on //p' out)
key=$(grep -m 1 -o 'ck_[0-9A-Za-z_-]*' out)
before=$(grep -c sync syncs)
for ((change = 0; change < changes; change++)); do
  curl -sf -o answer -H "authorization: Bearer $key" -H 'content-type: application/json' \
    -d "{\"createSystem\": {\"name\": \"$change\"}}" "$url/api/catalog/"
done
after=$(grep -c sync syncs)
echo "$((after - before)) syncs for $changes changes"
[[ $((after - before)) -ge $changes ]]
