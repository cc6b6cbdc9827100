"""Taking machines out of cluster.toml's text. Comments, order and spelling stay as they were."""

from __future__ import annotations

import copy
import ipaddress
from collections.abc import Collection, MutableSequence
from itertools import pairwise
from typing import Any

import tomlkit

from cluster.hostlist import expand, fold


def without_nodes(text: str, gone: Collection[str]) -> str:
    """The text without those machines, wherever it names them.

    A host list shrinks; one that loses machines in its middle becomes two tables, since
    addresses count up from the first. ``text`` must be what :func:`cluster.load.load` accepts.
    ValueError when a list that may not be empty would be (a partition's nodes).
    """
    document = tomlkit.parse(text)
    _entries(document["nodes"], gone)
    for partition in _list(document.get("partitions")):
        _shrink(partition, "nodes", gone, f"partition {partition['name']}")
    storage: Any = document.get("storage", {})
    roots = storage.get("root_nodes")
    if roots:
        for name in [name for name in roots if str(name) in gone]:
            roots.remove(name)
    return tomlkit.dumps(document)


def _list(value: Any) -> Any:
    return [] if value is None else value


def _entries(entries: MutableSequence[Any], gone: Collection[str]) -> None:
    for index in reversed(range(len(entries))):
        entry = entries[index]
        names = expand(str(entry["name"]))
        kept = [place for place, name in enumerate(names) if name not in gone]
        if len(kept) == len(names):
            continue
        if not kept:
            del entries[index]
            continue
        first = ipaddress.ip_address(str(entry["address"]))
        runs = list(_runs(kept))
        copies = [copy.deepcopy(entry) for _ in runs[1:]]
        for table, run in zip([entry, *copies], runs, strict=True):
            table["name"] = fold(names[place] for place in run)
            table["address"] = str(first + run[0])
        for table in reversed(copies):
            entries.insert(index + 1, table)


def _runs(places: list[int]) -> list[list[int]]:
    """Neighbours together: [0, 1, 3] → [[0, 1], [3]]."""
    runs = [[places[0]]]
    for before, place in pairwise(places):
        if place == before + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _shrink(table: Any, key: str, gone: Collection[str], what: str) -> None:
    value = str(table.get(key, "ALL"))
    if value == "ALL":
        return
    names = expand(value)
    kept = [name for name in names if name not in gone]
    if not kept:
        raise ValueError(f"{what} would have no nodes left: remove it, or give it others")
    if len(kept) < len(names):
        table[key] = fold(kept)
