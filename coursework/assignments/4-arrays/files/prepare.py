"""Writes parameters.csv: the angles 10, 13, 16... in degrees, twenty lines, counted from 0.

    python3 prepare.py NUMBER

The disk that they were on was old: two lines are damaged. Which ones depends on NUMBER.
"""

import pathlib
import sys

number = int(sys.argv[1])
angles = [str(10 + 3 * line) for line in range(20)]
first = number % 20
second = (first + 1 + number // 20 % 19) % 20
for line in (first, second):
    angles[line] = angles[line][0] + "#?"
pathlib.Path("parameters.csv").write_text("\n".join(angles) + "\n")
