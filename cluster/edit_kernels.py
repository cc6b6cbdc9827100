"""[[kernels]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from cluster.edit_tables import without_tables
from cluster.toml_lines import Lines

Value = str | int | Sequence[str]


def with_kernel(text: str, name: str, values: Mapping[str, Value]) -> str:
    """The text with these keys in that kernel's table, which is added if there is none. An empty
    value takes its key out. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables: Any = document.get("kernels") or []
    found: Any = next((table for table in tables if table.get("name") == name), None)
    if found is None:
        return _added(text, {"name": name, **values})
    for key, value in values.items():
        if value in ("", (), []):
            found.pop(key, None)
        elif found.get(key) != value:
            found[key] = value if isinstance(value, str | int) else list(value)
    return tomlkit.dumps(document)


def _added(text: str, values: Mapping[str, Value]) -> str:
    """Below the last kernel, or at the end. tomlkit would put it where the next table begins, after
    the comments that belong to that."""
    written = {
        key: value if isinstance(value, str | int) else list(value)
        for key, value in values.items()
        if value not in ("", (), [])
    }
    table = ["[[kernels]]", *tomlkit.dumps(written).splitlines()]
    lines = text.splitlines()
    places = {place: line for place, line in Lines(text).found.items() if place[0] == "kernels"}
    at = max(places.values(), default=len(lines))
    while at < len(lines) and lines[at].strip() and not lines[at].startswith("["):
        at += 1
    above = [""] if at and lines[at - 1].strip() else []
    below = [""] if at < len(lines) and lines[at].strip() else []
    return "\n".join([*lines[:at], *above, *table, *below, *lines[at:], ""])


def without_kernel(text: str, name: str) -> str:
    """The text without that kernel; the same text when there is none."""
    return without_tables(text, "kernels", lambda table: table.get("name") == name)
