"""[[kernels]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

Value = str | int | Sequence[str]


def with_kernel(text: str, name: str, values: Mapping[str, Value]) -> str:
    """The text with these keys in that kernel's table, which is added if there is none. An empty
    value takes its key out. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables: Any = document.get("kernels")
    if tables is None:
        tables = tomlkit.aot()
        document.append("kernels", tables)
    found = _find(tables, name)
    if found is None:
        found = tomlkit.table()
        found["name"] = name
        tables.append(found)
    for key, value in values.items():
        if value in ("", (), []):
            found.pop(key, None)
        elif found.get(key) != value:
            found[key] = value if isinstance(value, str | int) else list(value)
    return tomlkit.dumps(document)


def without_kernel(text: str, name: str) -> str:
    """The text without that kernel; the same text when there is none."""
    document = tomlkit.parse(text)
    tables: Any = document.get("kernels")
    found = _find(tables or [], name)
    if found is None:
        return text
    tables.remove(found)
    if not tables:
        del document["kernels"]
    return tomlkit.dumps(document)


def _find(tables: Any, name: str) -> Any:
    for table in tables:
        if table.get("name") == name:
            return table
    return None
