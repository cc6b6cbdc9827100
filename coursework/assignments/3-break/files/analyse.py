"""Adds up the numbers in input-NUMBER.txt. Ends with exit code 3 if there is no such file.

    python3 analyse.py NUMBER
    python3 analyse.py NUMBER --make-input     writes that file first
"""

import pathlib
import sys

number = int(sys.argv[1])
path = pathlib.Path(f"input-{number}.txt")
if "--make-input" in sys.argv:
    values = [number * turn % 997 for turn in range(1, 201)]
    path.write_text("\n".join(map(str, values)) + "\n")
    print("wrote", path)
elif path.exists():
    print(f"sum of {path}: {sum(map(int, path.read_text().split()))}")
else:
    print(f"analyse: there is no {path}", file=sys.stderr)
    sys.exit(3)
