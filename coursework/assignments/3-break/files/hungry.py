"""Keeps a table of 300 MB in memory and adds it up several times.

    python3 hungry.py NUMBER
"""

import sys
from array import array

ENTRIES = 37_500_000  # of 8 bytes
ROUNDS = 6

number = int(sys.argv[1])
table = array("Q")
for first in range(number, number + ENTRIES, 1_500_000):
    table.extend(range(first, first + 1_500_000))
for turn in range(1, ROUNDS + 1):
    total = sum(table)
    print(f"round {turn} of {ROUNDS}", flush=True)
print(f"sum of the table: {total}")
