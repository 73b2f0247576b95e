#!/usr/bin/env bash
# A disk that is really full: a small tmpfs and a ballast. tests/it/faults_file.rs does the same with a limit on file sizes.
#
#   cargo build && sudo tests/faults/full.sh [target/debug/checkmate]
#
# Needs root, for the mount, and curl.
set -euo pipefail
program=$(realpath "${1:-target/debug/checkmate}")
folder=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null && wait $server || true; umount "$folder/disk"; rm -rf "$folder"' EXIT
cd "$folder"
mkdir disk
mount -t tmpfs -o size=4m none disk
CHECKMATE_LISTEN=127.0.0.1:0 "$program" --database sqlite://disk/checkmate.db >out 2>err &
server=$!
until grep -q listening out; do sleep 0.1; done
url=$(sed -n 's/^listening on //p' out)
key=$(grep -m 1 -o 'ck_[0-9A-Za-z_-]*' out)

# expect STATUS BODY
expect() {
  local status
  status=$(curl -s -o answer -w '%{http_code}' -H "authorization: Bearer $key" -H 'content-type: application/json' \
    -d "$2" "$url/api/catalog/")
  [[ $status == "$1" ]] || { echo "$2: $status instead of $1: $(cat answer)" >&2; exit 1; }
}

for round in 1 2 3; do
  expect 200 '{"createSystem": {"name": "before"}}'
  cat /dev/zero >disk/ballast 2>/dev/null || true
  # What still fits in the log is written.
  until curl -s -H "authorization: Bearer $key" -H 'content-type: application/json' \
    -d '{"createSystem": {"name": "filling"}}' "$url/api/catalog/" | grep -q 'The disk is full'; do :; done
  for _ in {1..20}; do
    expect 503 '{"createSystem": {"name": "full"}}'
    expect 200 '{"getSystems": {}}'
  done
  rm disk/ballast
  expect 200 '{"createSystem": {"name": "healed"}}'
  echo "round $round: reads went on, writes were refused, it healed"
done
