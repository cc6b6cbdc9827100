"""The gradebook (nbgrader's, SQLite), as far as that goes without nbgrader: due dates, in its table
``assignment`` (0.9.6), whose moments are naive UTC, and what its export says."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections.abc import Collection
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
