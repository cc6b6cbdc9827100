#!/usr/bin/python3 -I
"""Put words into a boot command line that is one line (a Raspberry Pi's cmdline.txt).

Usage: boot_line.py [--check] FILE WORD...   With --check: exit 0 when all words are there.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def edited(text: str, words: list[str]) -> str:
    """The first line that says anything, with the words that it lacks; the rest as it is."""
    lines = text.splitlines() or [""]
    index = next((i for i, line in enumerate(lines) if line.strip()), 0)
    there = lines[index].split()
    missing = [word for word in words if word not in there]
    if not missing:
        return text
    lines[index] = " ".join([lines[index].rstrip(), *missing]).strip()
    return "\n".join(lines) + "\n"


def write(path: Path, text: str) -> None:
    """Whole or not at all: a board with half a line does not start. FAT has no owners or modes."""
    temporary = path.with_name(path.name + ".new")
    with temporary.open("w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    before = path.with_name(path.name + ".before-practicum")
    if not before.exists():
        before.write_bytes(path.read_bytes())
    temporary.replace(path)
    os.sync()


def main(arguments: list[str]) -> int:
    check = arguments[0] == "--check"
    name, *words = arguments[check:]
    path = Path(name)
    text = path.read_text(encoding="ascii", errors="surrogateescape")
    new = edited(text, words)
    if new == text:
        return 0
    if not check:
        write(path, new)
    return 1 if check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
