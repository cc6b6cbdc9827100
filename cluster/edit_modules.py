"""[[modules]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit

from cluster.edit_tables import tables_of, without_tables


def with_module(text: str, values: Mapping[str, Any]) -> str:
    """The text with this module: a new table, or the one of the same name, version and place,
    whose other keys stay. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables = tables_of(document, "modules")
    found = [one for one in tables if _same(one, values["name"], values["version"])]
    found = [one for one in found if list(one.get("under", [])) == list(values.get("under", []))]
    table = found[0] if found else tomlkit.table()
    for key, value in values.items():
        table[key] = value
    if not found:
        tables.append(table)
    return tomlkit.dumps(document)


def without_module(text: str, name: str, version: str, under: Sequence[str] | None = None) -> str:
    """The text without that module (``under`` None: wherever it is); the same text if there is
    none."""

    def wanted(table: Any) -> bool:
        there = under is None or list(table.get("under", [])) == list(under)
        return there and _same(table, name, version)

    return without_tables(text, "modules", wanted)


def _same(table: Any, name: str, version: str) -> bool:
    return bool(table.get("name") == name and table.get("version") == version)
