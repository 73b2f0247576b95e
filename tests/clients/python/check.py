"""The assertion of the Python clients: a line for every claim that holds, the end of the program at the first that
does not."""

import sys
from pathlib import Path

PROGRAM = Path(sys.argv[0]).stem


def expect(claim, got, wanted):
    if got != wanted:
        sys.exit(f"FAILED {PROGRAM}: {claim}\n  wanted: {wanted!r}\n  got:    {got!r}")
    print(f"ok {PROGRAM}: {claim}", flush=True)
