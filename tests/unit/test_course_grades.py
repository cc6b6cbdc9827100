"""The gradebook without nbgrader: due dates, and what of its export is the course's."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from coursework.grades import of_students, set_due

HEAD = "assignment,student_id,last_name,score\n"


def test_who_left_is_left_out_and_told() -> None:
    table = f"{HEAD}ps1,ada,Lovelace,2\nps1,eve,,1\nps2,ada,Lovelace,0\nps2,eve,,0\n"
    kept, gone = of_students(table, ("ada", "ben"))
    assert kept == f"{HEAD}ps1,ada,Lovelace,2\nps2,ada,Lovelace,0\n"
    assert gone == ["eve"]
    assert of_students(HEAD, ("ada",)) == (HEAD, [])
    with pytest.raises(ValueError, match="student_id"):
        of_students("a,b\n", ("ada",))


def test_a_due_date_of_what_the_gradebook_does_not_know_is_not_lost(tmp_path: Path) -> None:
    until = datetime(2026, 3, 1, 22, 59, tzinfo=UTC)
    places = cast("Any", SimpleNamespace(gradebook=tmp_path / "gradebook.db"))
    assert not set_due(places, "ps1", until)
    with sqlite3.connect(places.gradebook) as book:
        book.execute("CREATE TABLE assignment (name TEXT, duedate TEXT)")
    assert not set_due(places, "ps1", until)
    with sqlite3.connect(places.gradebook) as book:
        book.execute("INSERT INTO assignment VALUES ('ps1', NULL)")
    assert set_due(places, "ps1", until)
    with sqlite3.connect(places.gradebook) as book:
        assert book.execute("SELECT * FROM assignment").fetchall() == [
            ("ps1", "2026-03-01 22:59:00.000000")
        ]
