"""[[quotas]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit

from cluster.edit_tables import tables_of, without_tables


def with_quota(text: str, key: str, name: str, numbers: Mapping[str, int], *, whole: bool) -> str:
    """The text with these numbers in the [[quotas]] line of a user or group (``key``), which is
    added if there is none. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables = tables_of(document, "quotas")
    found: Any = next((one for one in tables if _is(one, key, name, whole)), None)
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
    return without_tables(text, "quotas", lambda table: _is(table, key, name, whole))


def _is(table: Any, key: str, name: str, whole: bool) -> bool:
    return table.get(key) == name and bool(table.get("whole_group", False)) == whole
