"""Reads an instrument once a second, a hundred times, and prints the mean.

    python3 measure.py NUMBER

The instrument is slow, not the computer: this program hardly uses its core.
"""

import sys
import time

READINGS = 100


def reading(number, turn):
    return number * (turn + 7) % 1009


number = int(sys.argv[1])
total = 0
for turn in range(1, READINGS + 1):
    time.sleep(1)
    value = reading(number, turn)
    total += value
    print(f"reading {turn}: {value}", flush=True)
print(f"mean of {READINGS}: {total / READINGS:.2f}")
