"""Where each key of a TOML text stands: ``("nodes", 1, "address")`` → line.

tomllib gives values without lines. This walks a text that tomllib has already accepted, so it
only has to know where things begin and end (toml.io, v1.0.0), not what is allowed.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_left
from collections.abc import Sequence

Place = tuple[str | int, ...]  # keys, and indexes of arrays
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_SCALAR = re.compile(r"[^,\]}\r\n#]*")
# Up to two quotes may stand directly before the three that end a multi-line string.
_STRINGS = {
    '"""': re.compile(r'"""(?:[^\\]|\\.)*?"{3,5}', re.DOTALL),
    "'''": re.compile(r"'''.*?'{3,5}", re.DOTALL),
    '"': re.compile(r'"(?:[^"\\\n]|\\.)*"'),
    "'": re.compile(r"'[^'\n]*'"),
}


class Lines:
    """Lines (from 1) of every key, table and array element of ``text``."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._found: dict[Place, int] = {}
        self._counts: dict[Place, int] = {}  # arrays of tables: how many so far
        self._document()

    def find(self, place: Sequence[str | int]) -> int:
        """The line of that key, or of the nearest table around it when it is not written."""
        for length in range(len(place), 0, -1):
            line = self._found.get(tuple(place[:length]))
            if line is not None:
                return line
        return 1

    @property
    def found(self) -> dict[Place, int]:
        return dict(self._found)

    def _document(self) -> None:
        table: Place = ()
        while True:
            self._skip(_BLANK)
            if self._at >= len(self._text):
                return
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        """``[a.b]`` or ``[[a.b]]``: the place that the lines below it belong to."""
        many = self._text.startswith("[[", self._at)
        self._at += 2 if many else 1
        place: Place = ()
        keys = self._keys()
        for index, key in enumerate(keys):
            place = (*place, key)
            self._note(place)
            last = index == len(keys) - 1
            if last and many:
                self._counts[place] = self._counts.get(place, 0) + 1
            if place in self._counts:
                place = (*place, self._counts[place] - 1)
                self._note(place)
        self._at = self._text.index("]", self._at) + (2 if many else 1)
        return place

    def _pair(self, table: Place) -> None:
        """``a.b = value``"""
        place = table
        for key in self._keys():
            place = (*place, key)
            self._note(place)
        self._at = self._text.index("=", self._at) + 1
        self._value(place)

    def _keys(self) -> list[str]:
        keys: list[str] = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                keys.append(self._quoted_key())
            else:
                match = _BARE.match(self._text, self._at)
                if not match:
                    raise ValueError(f"no key at line {self._line()}")
                keys.append(match[0])
                self._at = match.end()
            self._skip(_SPACE)
            if not self._text.startswith(".", self._at):
                return keys
            self._at += 1

    def _quoted_key(self) -> str:
        start = self._at
        self._string()
        name: str = tomllib.loads(f"key = {self._text[start : self._at]}")["key"]
        return name

    def _value(self, place: Place) -> None:
        self._skip(_SPACE)
        opening = self._text[self._at]
        if opening == "[":
            self._array(place)
        elif opening == "{":
            self._inline_table(place)
        elif opening in "\"'":
            self._string()
        else:
            self._skip(_SCALAR)

    def _array(self, place: Place) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            char = self._text[self._at]
            if char in ",]":
                self._at += 1
                if char == "]":
                    return
                continue
            self._note((*place, index))
            self._value((*place, index))
            index += 1

    def _inline_table(self, place: Place) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            char = self._text[self._at]
            if char in ",}":
                self._at += 1
                if char == "}":
                    return
                continue
            self._pair(place)

    def _string(self) -> None:
        for opening, pattern in _STRINGS.items():
            if self._text.startswith(opening, self._at):
                match = pattern.match(self._text, self._at)
                if not match:
                    raise ValueError(f"a string without an end at line {self._line()}")
                self._at = match.end()
                return

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._text, self._at)
        if match:
            self._at = match.end()

    def _line(self) -> int:
        return bisect_left(self._ends, self._at) + 1

    def _note(self, place: Place) -> None:
        self._found.setdefault(place, self._line())
