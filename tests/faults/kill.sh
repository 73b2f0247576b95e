#!/usr/bin/env bash
# kill -9 under write load: nothing acknowledged is lost, nothing is half there, and the server starts again.
#
#   cargo build && tests/faults/kill.sh [--rounds 20] [--seed N] [--program target/debug/checkmate]
#
# Eight writers make, change and delete systems and applications and keep a ledger. After each kill the server starts
# again. The one call of each writer that had no answer is repeated then if it had an idempotency key, so that it has
# happened exactly once; without one it may have happened or not. What is stored is compared with the ledger: each thing
# as it was acknowledged, with its entries in the change feed, which has no gaps. On PostgreSQL every second kill takes
# PostgreSQL along. Ends non-zero if anything is wrong.
#
# Needs Python 3, and PostgreSQL in /usr/lib/postgresql. A minute each.
set -euo pipefail
cd "$(dirname "$0")/../.."
for database in sqlite postgres; do
  python3 tests/faults/driver.py kill "$database" "$@"
done
