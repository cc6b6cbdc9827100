#!/usr/bin/python3 -I
"""Does sshd do what a file of its settings says? Asked of sshd itself (sshd -T), of the settings
that are yes or no. It only looks.

Usage: check_sshd.py FILE   Exit 0 when it does.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

MAIN = "/etc/ssh/sshd_config"


def switches(text: str) -> dict[str, tuple[str, str]]:
    """Settings that are yes or no, by their names in small letters: as written, and the value."""
    rows = (line.split() for line in text.splitlines())
    return {row[0].lower(): (row[0], row[1]) for row in rows if row[1:] in (["yes"], ["no"])}


def advice(folder: str, main: str) -> str:
    line = f"Include {folder}/*.conf"
    if re.search(rf"^\s*Include\s+\S*{re.escape(Path(folder).name)}/", main, re.M | re.I):
        return f"what stands before {line} in {MAIN} says otherwise: move it below that line"
    return f"{MAIN} does not read {folder}: write {line} as its first line"


def main(path: str) -> int:
    done = subprocess.run(["sshd", "-T"], capture_output=True, text=True, timeout=30, check=False)
    if done.returncode != 0:
        # Where a socket starts sshd, this folder is made by the first who comes in.
        if "privilege separation directory" in done.stderr:
            return 0
        sys.stderr.write(f"sshd refuses its settings: {done.stderr.strip()}\n")
        return 1
    now = switches(done.stdout)
    wrong = [
        f"{name} is {now[key][1]} and not {value}"
        for key, (name, value) in switches(Path(path).read_text(encoding="utf-8")).items()
        if key in now and now[key][1] != value
    ]
    if not wrong:
        return 0
    tell = advice(str(Path(path).parent), Path(MAIN).read_text(encoding="utf-8"))
    sys.stderr.write(
        f"sshd does not follow {path} ({', '.join(wrong)}): {tell}, then apply again\n"
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
