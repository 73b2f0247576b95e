#!/usr/bin/env bash
# Calls Checkmate with curl: as the documentation shows it, as the server prints it at first start, over HTTP/1.1 and
# HTTP/2.
set -euo pipefail
program=curl
source "$(dirname "$0")/check.sh"

# The documentation's example, word for word; only its two placeholders are filled in.
documented=$(
  cat <<'EXAMPLE'
curl -X POST https://your-checkmate-instance.com/api/catalog/ \
  -H "Authorization: Bearer ck_YOUR_APP_ID_YOUR_SECRET" \
  -H "Content-Type: application/json" \
  -d '{"getSystems": {}}'
EXAMPLE
)
documented=${documented/'https://your-checkmate-instance.com'/$CHECKMATE_URL}
documented=${documented/'ck_YOUR_APP_ID_YOUR_SECRET'/$CHECKMATE_KEY}

unknown_id=00000000-0000-4000-8000-000000000000

main() {
  contains "the line printed at first start lists the systems" '{"getSystems":[' "$(shell "$CHECKMATE_READY_CURL")"
  contains "the documented example lists the systems" '{"getSystems":[' "$(shell "$documented")"
  contains "the documented example works over HTTP/2" ' HTTP/2' \
    "$(shell "$documented --fail --http2-prior-knowledge -w ' HTTP/%{http_version}'")"

  every_answer "HTTP/1.1" --http1.1
  every_answer "HTTP/2" --http2-prior-knowledge
}

# every_answer NAME OPTION: a read, a mutation and each documented error over one version of HTTP.
every_answer() {
  local over=$1 version=$2 got id
  got=$(call "$version" "$CHECKMATE_KEY" '{"getGroups": {}, "getSystems": {}}')
  contains "$over: a batch of two answers the first call first" '{"getGroups":[' "$got"
  contains "$over: a batch of two answers the second call" '],"getSystems":[' "$got"

  got=$(call "$version" "$CHECKMATE_KEY" '{"createSystem": {"name": "from curl", "metadata": {"tier": 1}}}')
  contains "$over: a system is created" '"name":"from curl","description":null,"owner":null,"metadata":{"tier":1}' "$got"
  id=$(sed -E 's/.*"id":"([^"]+)".*/\1/' <<<"$got")
  equals "$over: the new system reads back the same" "${got/createSystem/getSystem}" \
    "$(call "$version" "$CHECKMATE_READER_KEY" "{\"getSystem\": {\"systemId\": \"$id\"}}")"
  equals "$over: a bare id deletes it" '{"deleteSystem":{"success":true}} 200' \
    "$(call "$version" "$CHECKMATE_KEY" "{\"deleteSystem\": \"$id\"}")"

  equals "$over: 401 without a key" '{"code":"UNAUTHORIZED","message":"Authentication required"} 401' \
    "$(call "$version" "" '{"getSystems": {}}')"
  equals "$over: 401 with a bad key" '{"code":"UNAUTHORIZED","message":"Invalid API key"} 401' \
    "$(call "$version" "${CHECKMATE_KEY}x" '{"getSystems": {}}')"
  equals "$over: 403 without the permission" \
    '{"code":"FORBIDDEN","message":"Missing permission: catalog.catalog.manage"} 403' \
    "$(call "$version" "$CHECKMATE_READER_KEY" '{"createSystem": {"name": "x"}}')"
  equals "$over: 404 for an unknown id" "{\"code\":\"NOT_FOUND\",\"message\":\"System not found: $unknown_id\"} 404" \
    "$(call "$version" "$CHECKMATE_KEY" "{\"getSystem\": {\"systemId\": \"$unknown_id\"}}")"
  equals "$over: 400 for a blank name" \
    '{"code":"BAD_REQUEST","message":"Input validation failed: name: Required","data":{"issues":[{"path":["name"],"message":"Required"}]}} 400' \
    "$(call "$version" "$CHECKMATE_KEY" '{"createSystem": {"name": " "}}')"
}

# shell COMMAND: what a command prints when it is pasted into a shell.
shell() {
  bash -c "$1" 2>/dev/null || echo "exit status $?"
}

# call VERSION KEY BODY: body and status of a batch to the catalog; no credential at all if the key is empty.
call() {
  curl -sS "$1" -X POST "$CHECKMATE_URL/api/catalog/" ${2:+-H "Authorization: Bearer $2"} \
    -H "Content-Type: application/json" -d "$3" -w ' %{http_code}'
}

main
