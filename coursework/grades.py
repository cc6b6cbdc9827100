"""The gradebook (nbgrader's, SQLite), as far as that goes without nbgrader: due dates, in its table
``assignment`` (0.9.6), whose moments are naive UTC, and what its export says."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Collection
from contextlib import closing
from datetime import datetime

from cluster.errors import PracticumError
from coursework.layout import Layout

BUSY_SECONDS = 30


def set_due(places: Layout, assignment: str, until: datetime | None) -> bool:
    """Whether the gradebook knows the assignment; then this is its due date.

    PracticumError when it cannot be written."""
    if not places.gradebook.is_file():
        return False
    text = until.strftime("%Y-%m-%d %H:%M:%S.%f") if until else None
    try:
        with closing(sqlite3.connect(places.gradebook, BUSY_SECONDS)) as book, book:
            done = book.execute(
                "UPDATE assignment SET duedate = ? WHERE name = ?", (text, assignment)
            )
            return done.rowcount > 0
    except sqlite3.Error as error:
        raise PracticumError(f"{places.gradebook} cannot be written: {error}") from None


def of_students(table: str, students: Collection[str]) -> tuple[str, list[str]]:
    """nbgrader's CSV with the rows of these alone, and whose were left out. ValueError when it is
    not such a table."""
    head, *rows = csv.reader(io.StringIO(table))
    place = head.index("student_id")
    kept = io.StringIO()
    writer = csv.writer(kept, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(row for row in rows if row[place] in students)
    return kept.getvalue(), sorted({row[place] for row in rows} - set(students))
