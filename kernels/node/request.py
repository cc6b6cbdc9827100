"""What a kernel should be, as it travels to the login node and to the build jobs. Standard library
only: this runs on nodes.

Two parts: what decides how it is built (:func:`digest`), and what only decides how it is shown.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, fields
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
BUILT_BY = ("language", "packages", "channels", "python", "lock")
FORMAT = 1  # another way of building makes another version of everything


@dataclass(frozen=True)
class Request:
    """One kernel.

    ``language`` is "python" (uv), "conda" (packages are conda's) or "r" (the system's R; packages
    are Debian's). ``lock`` is the text of a lock file: then nothing is solved. ``group`` may see
    it alone, "" is everyone. ``keep`` old versions stay besides the live one. ``partition`` and
    ``minutes`` are for the build jobs.
    """

    name: str
    title: str = ""
    language: str = "python"
    packages: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python: str = ""
    lock: str = ""
    modules: tuple[str, ...] = ()
    group: str = ""
    keep: int = 3
    partition: str = ""
    minutes: int = 60

    def text(self) -> str:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return json.dumps(values, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, text: str) -> Request:
        """ValueError or TypeError when it is none."""
        values: dict[str, Any] = json.loads(text)
        for key in ("packages", "channels", "modules"):
            values[key] = tuple(values.get(key, ()))
        found = cls(**values)
        if not NAME.fullmatch(found.name):
            raise ValueError(f"{found.name!r} is no name for a kernel")
        return found

    @property
    def digest(self) -> str:
        """Of all that decides what is built."""
        parts = [FORMAT, *(getattr(self, key) for key in BUILT_BY)]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
