"""Dates in the gradebook (nbgrader's, SQLite): table ``assignment`` of nbgrader 0.9.6, whose
moments are naive UTC."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path

from cluster.errors import PracticumError
from coursework.layout import Layout

BUSY_SECONDS = 30


def lateness(gradebook: Path, assignment: str) -> dict[str, str]:
    """What nbgrader counts lateness by: {student: due date and extension}, and for those without an
    extension the due date under "". PracticumError when it cannot be read."""
    if not gradebook.is_file():
        return {"": ""}
    try:
        with closing(sqlite3.connect(f"file:{gradebook}?mode=ro", BUSY_SECONDS, uri=True)) as book:
            due = book.execute("SELECT duedate FROM assignment WHERE name = ?", (assignment,))
            common = "".join(str(row[0]) for row in due)
            rows = book.execute(
                "SELECT student_id, extension FROM submitted_assignment JOIN assignment ON "
                "assignment.id = assignment_id WHERE name = ? AND extension IS NOT NULL",
                (assignment,),
            ).fetchall()
    except sqlite3.Error as error:
        raise PracticumError(f"{gradebook} cannot be read: {error}") from None
    return {"": common, **{student: f"{common} {more}" for student, more in rows}}


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
