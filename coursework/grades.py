"""Due dates in the gradebook (nbgrader's, SQLite): table ``assignment`` of nbgrader 0.9.6, whose
moments are naive UTC."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime

from cluster.errors import PracticumError
from coursework.layout import Layout

BUSY_SECONDS = 30


def set_due(places: Layout, assignment: str, until: datetime | None) -> None:
    """In an assignment that the gradebook knows; release makes others known.

    PracticumError when it cannot be written."""
    if not places.gradebook.is_file():
        raise PracticumError(f"the gradebook does not know {assignment} yet: release it first")
    text = until.strftime("%Y-%m-%d %H:%M:%S.%f") if until else None
    try:
        with closing(sqlite3.connect(places.gradebook, BUSY_SECONDS)) as book, book:
            done = book.execute(
                "UPDATE assignment SET duedate = ? WHERE name = ?", (text, assignment)
            )
            if not done.rowcount:
                raise PracticumError(
                    f"the gradebook does not know {assignment} yet: release it first"
                )
    except sqlite3.Error as error:
        raise PracticumError(f"{places.gradebook} cannot be written: {error}") from None
