"""Other people's words, made safe to show."""

from __future__ import annotations

import re

UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


def clean(text: str, limit: int = 500) -> str:
    """Someone else's words, safe to show: one line, no control or direction characters, at
    most ``limit`` of them."""
    line = " ".join(UNPRINTABLE.sub(" ", text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
