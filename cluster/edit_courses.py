"""[[courses]] of cluster.toml changed as text. Comments, order and spelling stay as they were."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import tomlkit

from cluster.courses import FIRST_UID, LAST_UID, STEP
from cluster.edit_tables import tables_of


def with_course(text: str, values: Mapping[str, Any]) -> str:
    """The text with one more course at the end of [[courses]]."""
    document = tomlkit.parse(text)
    tables = tables_of(document, "courses")
    table = tomlkit.table()
    for key, value in values.items():
        table[key] = _names(value) if isinstance(value, list | tuple) else value
    tables.append(table)
    return tomlkit.dumps(document)


def changed(text: str, name: str, values: Mapping[str, Any]) -> str:
    """The text with other values in that course. KeyError if there is none."""
    document = tomlkit.parse(text)
    for table in document.get("courses", []):
        if table["name"] == name:
            for key, value in values.items():
                table[key] = _names(value) if isinstance(value, list | tuple) else value
            return tomlkit.dumps(document)
    raise KeyError(name)


def without_person(text: str, person: str) -> str:
    """The text with that person in no course any more; the same text when they were in none.

    ValueError when a course would have no instructor left."""
    document = tomlkit.parse(text)
    found = False
    for table in document.get("courses", []):
        for key in ("students", "instructors"):
            names = [str(name) for name in table.get(key, ())]
            if person in names:
                found = True
                if names == [person] and key == "instructors":
                    raise ValueError(f"{person} is the only instructor of {table['name']}")
                table[key] = _names([name for name in names if name != person])
    return tomlkit.dumps(document) if found else text


def free_uid(taken: Collection[int]) -> int:
    """The first number of a free hundred. ValueError when there is none."""
    for uid in range(FIRST_UID, LAST_UID + 1, STEP):
        if not any(uid <= number < uid + STEP for number in taken):
            return uid
    raise ValueError("all hundred courses that a cluster may have are there: remove an old one")


def _names(names: Sequence[str]) -> Any:
    """A list, one line of a few, one name a line of many."""
    array = tomlkit.array()
    array.extend(names)
    array.multiline(len(names) > 6)
    return array
