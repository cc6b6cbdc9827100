"""[[quotas]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit


def with_quota(text: str, key: str, name: str, numbers: Mapping[str, int], *, whole: bool) -> str:
    """The text with these numbers in the [[quotas]] line of a user or group (``key``), which is
    added if there is none. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables: Any = document.get("quotas")
    if tables is None:
        tables = tomlkit.aot()
        document.append("quotas", tables)
    found = _find(tables, key, name, whole)
    if found is None:
        found = tomlkit.table()
        found[key] = name
        if whole:
            found["whole_group"] = True
        tables.append(found)
    for what, number in numbers.items():
        found[what] = number
    return tomlkit.dumps(document)


def without_quota(text: str, key: str, name: str, *, whole: bool) -> str:
    """The text without that line; the same text when there is none."""
    document = tomlkit.parse(text)
    tables: Any = document.get("quotas")
    found = _find(tables or [], key, name, whole)
    if found is None:
        return text
    tables.remove(found)
    if not tables:
        del document["quotas"]
    return tomlkit.dumps(document)


def _find(tables: Any, key: str, name: str, whole: bool) -> Any:
    for table in tables:
        if table.get(key) == name and bool(table.get("whole_group", False)) == whole:
            return table
    return None
