#!/usr/bin/env bash
# Power loss under write load: what was acknowledged is on the disk.
#
#   cargo build && sudo tests/faults/power.sh [--rounds 5] [--seed N] [--program target/debug/checkmate]
#
# kill -9 cannot show this: the kernel still has what the process wrote. Here the data is on an ext4 in a file; the kernel
# is told to write back nothing by itself; under the load of eight writers (see kill.sh) the processes are stopped, and
# the file is copied: it holds what was synced, as a disk would. The copy is mounted, its journal replayed, a server
# started on it, and what it finds compared with the ledger.
#
# The last run has PostgreSQL acknowledge before it syncs, and must show losses: a comparison that cannot fail says
# nothing. For SQLite the same is seen with `SqliteSynchronous::Normal` in src/database/mod.rs.
#
# Needs root, loop devices, mkfs.ext4, Python 3, PostgreSQL in /usr/lib/postgresql. For as long as it runs (five seconds a
# round) the whole machine writes back only what is synced.
set -euo pipefail
cd "$(dirname "$0")/../.."
for database in sqlite postgres; do
  python3 tests/faults/driver.py power "$database" --rounds 5 "$@"
done
if python3 tests/faults/driver.py power postgres --weak --rounds 3 "$@" >/dev/null; then
  echo "PostgreSQL without syncing lost nothing: the comparison is blind" >&2
  exit 1
fi
echo "without syncing there are losses, as there must be"
