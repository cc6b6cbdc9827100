"""[[modules]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tomlkit


def with_module(text: str, values: Mapping[str, Any]) -> str:
    """The text with this module: a new table, or the one of the same name, version and place,
    whose other keys stay. ``text`` must be what :func:`cluster.load.load` accepts."""
    document = tomlkit.parse(text)
    tables: Any = document.get("modules")
    if tables is None:
        tables = tomlkit.aot()
        document.append("modules", tables)
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
    document = tomlkit.parse(text)
    tables: Any = document.get("modules")
    gone = [one for one in tables or [] if _same(one, name, version)]
    if under is not None:
        gone = [one for one in gone if list(one.get("under", [])) == list(under)]
    if not gone:
        return text
    for one in gone:
        tables.remove(one)
    if not tables:
        del document["modules"]
    return tomlkit.dumps(document)


def _same(table: Any, name: str, version: str) -> bool:
    return bool(table.get("name") == name and table.get("version") == version)
