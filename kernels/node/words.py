"""Long messages of tools made into a sentence for a person. Standard library only."""

from __future__ import annotations

import re

MOST = 420
BOXES = re.compile(r"[×╰─▶│├┬➜✗•]+")
NOISE = re.compile(r"^(?:error|warning|hint): *", re.IGNORECASE)
HINT = re.compile(r"\bhint: .*", re.IGNORECASE | re.DOTALL)
FULL = ("No space left on device", "os error 28", "Disk quota exceeded", "os error 122")


def short(text: str, most: int = MOST) -> str:
    """A tool's error on one line: without frames and hints, cut after a sentence."""
    for sign in FULL:
        if sign in text:
            return "the disk is full (No space left on device)"
    if "Traceback (most recent call last)" in text:  # what went wrong stands at its end
        lines = [line for line in text.splitlines() if line.strip()]
        text = lines[-1]
    plain = BOXES.sub(" ", "".join(c if c.isprintable() or c.isspace() else " " for c in text))
    line = " ".join(HINT.sub("", plain).split())
    line = NOISE.sub("", line)
    if len(line) <= most:
        return line.rstrip(" .:;")
    cut = line[:most]
    end = max(cut.rfind(". "), cut.rfind(", "), most // 2)
    return f"{cut[:end].rstrip(' .,;:')} ..."
