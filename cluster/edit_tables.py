"""What every edit of cluster.toml's lists of tables ([[kernels]], [[quotas]]...) has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tomlkit


def tables_of(document: Any, key: str) -> Any:
    """The list of tables ``[[key]]`` of a parsed document, made at its end where there is none."""
    tables = document.get(key)
    if tables is None:
        tables = tomlkit.aot()
        document.append(key, tables)
    return tables


def without_tables(text: str, key: str, wanted: Callable[[Any], bool]) -> str:
    """The text without the tables of ``[[key]]`` that are ``wanted`` away; the same text when
    there is none of them. Comments, order and spelling of the others stay."""
    document = tomlkit.parse(text)
    tables: Any = document.get(key)
    gone = [table for table in tables or [] if wanted(table)]
    if not gone:
        return text
    for table in gone:
        tables.remove(table)
    if not tables:
        del document[key]
    return tomlkit.dumps(document)
