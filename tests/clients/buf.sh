#!/usr/bin/env bash
# Calls Checkmate with `buf curl`, over gRPC and gRPC-Web; it learns the contract through server reflection.
set -euo pipefail
program=buf
source "$(dirname "$0")/check.sh"

unknown_id=00000000-0000-4000-8000-000000000000

main() {
  contains "reflection lists the catalog" checkmate.catalog.v1.CatalogService \
    "$(buf curl --protocol grpc --http2-prior-knowledge --list-services "$CHECKMATE_URL")"

  every_answer "gRPC" --protocol grpc --http2-prior-knowledge
  every_answer "gRPC-Web" --protocol grpcweb
}

# every_answer NAME OPTION…: a read, a mutation and each documented error over one protocol.
every_answer() {
  local over=$1 got id
  shift
  got=$(call "$CHECKMATE_KEY" CreateSystem '{"name": "from buf", "metadata": {"tier": 1}}' "$@")
  contains "$over: a system is created" '"name": "from buf", "metadata": { "tier": 1 }' "$got"
  id=$(sed -E 's/.*"id": "([^"]+)".*/\1/' <<<"$got")
  equals "$over: the new system reads back the same" "$got" \
    "$(call "$CHECKMATE_READER_KEY" GetSystem "{\"systemId\": \"$id\"}" "$@")"
  contains "$over: the list has it" "$id" "$(call "$CHECKMATE_READER_KEY" GetSystems '{}' "$@")"
  equals "$over: it is deleted" '{ "success": true }' "$(call "$CHECKMATE_KEY" DeleteSystem "{\"id\": \"$id\"}" "$@")"

  equals "$over: UNAUTHENTICATED without a key" '{ "code": "unauthenticated", "message": "Authentication required" }' \
    "$(call "" GetSystems '{}' "$@")"
  equals "$over: UNAUTHENTICATED with a bad key" '{ "code": "unauthenticated", "message": "Invalid API key" }' \
    "$(call "${CHECKMATE_KEY}x" GetSystems '{}' "$@")"
  equals "$over: PERMISSION_DENIED without the permission" \
    '{ "code": "permission_denied", "message": "Missing permission: catalog.catalog.manage" }' \
    "$(call "$CHECKMATE_READER_KEY" CreateSystem '{"name": "x"}' "$@")"
  equals "$over: NOT_FOUND for an unknown id" \
    "{ \"code\": \"not_found\", \"message\": \"System not found: $unknown_id\" }" \
    "$(call "$CHECKMATE_KEY" GetSystem "{\"systemId\": \"$unknown_id\"}" "$@")"

  got=$(call "$CHECKMATE_KEY" CreateSystem '{"name": " "}' "$@")
  contains "$over: INVALID_ARGUMENT for a blank name" \
    '{ "code": "invalid_argument", "message": "Input validation failed: name: Required",' "$got"
  contains "$over: its details name the field" \
    "\"details\": [ { \"type\": \"google.rpc.BadRequest\", \"value\": \"$(bad_request)\" } ]" "$got"
}

# bad_request: a google.rpc.BadRequest that says `name: Required`, in the base64 that buf prints.
bad_request() {
  printf '\x0a\x10\x0a\x04name\x12\x08Required' | base64
}

# call KEY METHOD MESSAGE OPTION…: the answer or the error, on one line; no credential at all if the key is empty.
call() {
  local key=$1 method=$2 message=$3
  shift 3
  { buf curl "$@" ${key:+-H "authorization: Bearer $key"} -d "$message" \
    "$CHECKMATE_URL/checkmate.catalog.v1.CatalogService/$method" 2>&1 || true; } | tr -s ' \n' ' ' | sed 's/ $//'
}

main
