"""The class page's readers: what Slurm, the gradebook and the exchange folder say of a class."""

from __future__ import annotations

import importlib
import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tornado.web import RequestHandler

SENT = "20260301T120000.000000Z"
EXCHANGE = ("outbound/ps1", f"inbound/ada/ps1/{SENT}", "feedback")


@pytest.fixture
def classroom(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with tornado's handler where formgrader's environment has Jupyter's."""
    for name in ("jupyter_server", "jupyter_server.base", "jupyter_server.base.handlers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["jupyter_server.base.handlers"].JupyterHandler = RequestHandler  # type: ignore[attr-defined]
    yield importlib.import_module("coursework.session.classroom")
    sys.modules.pop("coursework.session.classroom")


ROWS = """\
ada|17|COMPLETED|2026-03-01T12:00:00|first
ada|18_2|FAILED|2026-03-01T12:01:00|a|b
ada|19|CANCELLED by 3000|2026-03-01T12:02:00|long
ben|20|PENDING|Unknown|two
lines|21|RUNNING||
ada|22|RUNNING|2026-03-01T12:03:00|
ada|x|FAILED|now|forged
"""


def test_jobs_are_read_whatever_their_names_hold(classroom: Any) -> None:
    rows = classroom.read_jobs(ROWS)
    assert [row["job"] for row in rows] == ["17", "18_2", "19", "20", "21", "22"]
    assert rows[1]["name"] == "a|b"
    assert rows[2]["state"] == "CANCELLED"
    assert classroom.read_jobs("") == []
    assert len(classroom.read_jobs(f"ada|1|FAILED|x|{'n' * 900}")[0]["name"]) == 60


def test_what_a_students_jobs_come_to(classroom: Any) -> None:
    rows = classroom.read_jobs(ROWS)
    ada = classroom.of_student("ada", rows)
    assert (ada["waiting"], ada["running"], ada["done"]) == (0, 1, 1)
    assert ada["failed"] == {"FAILED": 1, "CANCELLED": 1}
    assert ada["last_failed"]["job"] == "19"
    assert classroom.of_student("ben", rows)["waiting"] == 1
    nobody = classroom.of_student("cleo", rows)
    assert nobody["failed"] == {} and nobody["last_failed"] is None


def gradebook(path: Path) -> None:
    """nbgrader's tables, as far as they are read."""
    with closing(sqlite3.connect(path)) as book, book:
        book.executescript("""
            CREATE TABLE assignment (id, name);
            CREATE TABLE submitted_assignment (id, assignment_id, student_id);
            CREATE TABLE submitted_notebook (id, assignment_id);
            CREATE TABLE grade (
                id, notebook_id, auto_score, manual_score, extra_credit, needs_manual_grade);
            INSERT INTO assignment VALUES ('a', 'ps1');
            INSERT INTO submitted_assignment VALUES ('s', 'a', 'ada'), ('t', 'a', 'ben');
            INSERT INTO submitted_notebook VALUES ('n', 's'), ('m', 't');
            INSERT INTO grade VALUES (1, 'n', 2, NULL, NULL, 0), (2, 'n', 1, 3, 0.5, 0),
                (3, 'n', 0, NULL, NULL, 1), (4, 'm', NULL, NULL, NULL, 1);
        """)


def test_grades_are_what_counts_and_none_where_nothing_is_graded(
    classroom: Any, tmp_path: Path
) -> None:
    path = tmp_path / "gradebook.db"
    assert classroom.grades(path) == {}
    gradebook(path)
    assert classroom.grades(path) == {("ps1", "ada"): (5.5, 1)}


async def test_the_page_has_it_together_and_says_what_cannot_be_read(
    classroom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classroom, "jobs", lambda _account: ([], "Slurm does not answer: gone"))
    for name in EXCHANGE:
        (tmp_path / "exchange" / name).mkdir(parents=True)
    fetched = {"ps1": {"ada": "20260228T100000"}}
    (tmp_path / "exchange" / "fetched.json").write_text(json.dumps(fetched))
    gradebook(tmp_path / "gradebook.db")
    room = classroom.Classroom("hpc", tmp_path, ["ada", "ben"])
    found = await room.data()
    assert found["troubles"] == ["Slurm does not answer: gone"]
    ada, ben = (found["assignments"]["ps1"]["students"][name] for name in ("ada", "ben"))
    assert (ada["fetched"], ada["number"], ada["score"]) == ("20260228T100000", 1, 5.5)
    assert (ben["fetched"], ben["number"], ben["score"]) == ("", 0, None)
    # asked again at once it is the same; later it is looked at anew
    shutil.rmtree(tmp_path / "exchange")
    assert await room.data() is found
    monkeypatch.setattr(classroom, "FRESH", -1.0)
    (tmp_path / "gradebook.db").write_text("no database at all, and long enough to be one " * 9)
    troubles = (await room.data())["troubles"]
    assert "the exchange folder cannot be read" in troubles[0]
    assert "the gradebook cannot be read" in troubles[1]
