"""Grading killed at every moment at which it changes something, and run again: what is in the
gradebook, what the entries say, and that no account has two runs' jobs. Gradebook and Slurm are
files here; the lab's tests have the real ones."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import PracticumError
from coursework import gradejobs, grading, staging
from coursework.accounting import Accounting, Window
from coursework.grade_state import Places, entries
from coursework.grading import Grading

STUDENTS = ("ada", "ben")
BOXES = ("box-1", "box-2")
TEST = {"grade_id": "t", "points": 2, "code": "assert x", "grade": True, "solution": False}
BOOK = {"cells": [{"cell_type": "code", "source": "assert x", "metadata": {}, "outputs": []}]}


class World:
    """What outlives a run, and the moment at which it is killed."""

    def __init__(self, root: Path) -> None:
        self.root, self.moment, self.dies_at = root, 0, -1
        self.closes = 100
        self.locked: set[str] = set()  # what the gradebook refuses
        for name in STUDENTS:
            (root / "submitted" / name / "ps1").mkdir(parents=True)
        for box in BOXES:
            (root / "staging" / box).mkdir(parents=True)
        self.save("scores", {})
        self.save("jobs", {})

    def save(self, name: str, value: Any) -> None:
        (self.root / name).write_text(json.dumps(value))

    def load(self, name: str) -> Any:
        return json.loads((self.root / name).read_text())

    def may_die(self) -> None:
        self.moment += 1
        if self.moment == self.dies_at:
            os._exit(9)

    # the gradebook

    def ask(self, do: str, assignment: str, student: str = "", **more: Any) -> dict[str, Any]:
        if do in self.locked:
            raise PracticumError("database is locked")
        if do == "students":
            return {"students": list(STUDENTS), "notebooks": ["hw"]}
        self.may_die()
        answer: dict[str, Any] = {}
        if do == "sanitize":
            folder = self.root / "grading" / "sanitized" / student / assignment
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "hw.ipynb").write_text(json.dumps(BOOK))
            answer = {"notebooks": {"hw": {"0": TEST}}, "broken": []}
        else:
            scores = {key: value for key, value in self.load("scores").items() if key != student}
            if do == "merge":
                answer = {"score": 2.0, "max_score": 2.0, "manual": False}
                scores[student] = 2.0
            self.save("scores", scores)
        self.may_die()
        return answer

    def close(self) -> None:
        pass

    # Slurm: a job that was cancelled is there for two more questions

    def submit(self, wanted: gradejobs.Wanted, _lock: Any) -> int:
        self.may_die()
        jobs = self.load("jobs")
        strangers = [
            one for one in jobs.values() if one["box"] == wanted.box and one["run"] != os.getpid()
        ]
        assert not strangers, "an orphan's first task would end this one"
        number = len(jobs) + self.moment + 1000 * os.getpid()
        jobs[str(number)] = {"box": wanted.box, "run": os.getpid(), "looks": -1}
        self.save("jobs", jobs)
        for task in range(wanted.tasks):
            folder = Path(f"{wanted.chunks}-{task}")
            for name in json.loads((folder / "task.json").read_text())["students"]:
                result = {"notebooks": {"hw": {"cells": {}, "failure": ""}}}
                (folder / "out" / f"{name}.json").write_text(json.dumps(result))
        self.may_die()  # Slurm has it, and we do not know its number yet
        return number

    def cancel(self, _box: str, job_id: int) -> None:
        jobs = self.load("jobs")
        jobs[str(job_id)]["looks"] = 2
        self.save("jobs", jobs)

    def left(self, _account: str, _boxes: Any) -> dict[int, str]:
        jobs = self.load("jobs")
        for one in jobs.values():
            one["looks"] -= one["looks"] > 0
        jobs = {key: one for key, one in jobs.items() if one["looks"] != 0}
        self.save("jobs", jobs)
        return {int(key): one["box"] for key, one in jobs.items()}

    # the class

    def window(self, _student: str) -> Window:
        return Window(0, self.closes)

    def __call__(self, student: str) -> Accounting:
        return Accounting(student, "hpc", self.window(student), 0, ())

    def begin(self, students: Any, skipped: Any) -> None:
        self.begun = list(students)

    def phase(self, student: str, text: str) -> None:
        self.may_die()

    def done(self, entry: Any) -> None:
        self.may_die()

    def run(self, places: Places, *, again: bool = False) -> dict[str, Any]:
        return Grading(places, "ps1", self, self).run(again=again)

    def killed(self, places: Places, at: int, *, again: bool) -> bool:
        """Whether a run was killed at that moment; it may have been over before."""
        child = os.fork()
        if not child:
            self.moment, self.dies_at = 0, at
            code = 1
            with contextlib.suppress(BaseException):
                self.run(places, again=again)
                code = 0
            os._exit(code)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), "it ended by itself"
        return code == 9


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(grading, "Book", lambda _places: made)
    monkeypatch.setattr(grading, "LOOK", 0.001)
    monkeypatch.setattr(gradejobs, "LOOK", 0.001)
    for name in ("submit", "cancel", "left"):
        monkeypatch.setattr(gradejobs, name, getattr(made, name))
    return made


def places(root: Path, **more: Any) -> Places:
    return Places("hpc", root, BOXES, root / "staging", root, "", root, root, "", (), **more)


@pytest.mark.parametrize("again", [False, True])
def test_killed_at_any_moment_the_next_run_grades_all(world: World, again: bool) -> None:
    where = places(world.root)
    world.run(where)
    at = 1
    while True:
        if not again:
            for student in STUDENTS:
                (world.root / "submitted" / student / "ps1" / "new").write_text(str(at))
        killed = world.killed(where, at, again=again)
        scores, known = world.load("scores"), entries(where, "ps1")
        graded = [name for name, one in known.items() if one.status == "graded"]
        # what an entry says is in the gradebook
        assert set(graded) <= set(scores), (at, graded, scores)
        if not killed:
            break
        found = world.run(where)
        assert {name: one.status for name, one in found.items()} == dict.fromkeys(
            STUDENTS, "graded"
        )
        assert set(world.load("scores")) == set(STUDENTS), at
        assert not list((world.root / "staging").glob("*/*"))
        at += 1
    assert at > 20, "each student has several moments"


@pytest.mark.parametrize("locked", [{"merge", "void"}, {"void"}, {"sanitize"}, {"merge"}])
def test_a_locked_gradebook_leaves_everybody_waiting_and_ends_nothing(
    world: World, locked: set[str]
) -> None:
    where = places(world.root)
    world.locked = locked
    found = world.run(where)
    assert {one.status for one in found.values()} == {"waiting"}
    assert all("locked; grade again" in one.reason for one in found.values())
    world.locked = set()
    assert {one.status for one in world.run(where).values()} == {"graded"}


def test_jobs_that_do_not_end_are_told(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradejobs, "ENDING", 0.01)
    world.save("jobs", {"17": {"box": "box-1", "run": 0, "looks": -1}})
    monkeypatch.setattr(gradejobs, "cancel", lambda _box, _job: None)
    with pytest.raises(PracticumError, match=r"do not end \(17\): look at squeue"):
        world.run(places(world.root))
    monkeypatch.setattr(gradejobs, "left", lambda _account, _boxes: None)
    with pytest.raises(PracticumError, match="Slurm does not tell"):
        world.run(places(world.root))


def begun(world: World, where: Places) -> list[str]:
    world.run(where)
    return world.begun


def test_what_a_grade_rests_on_makes_it_new(world: World) -> None:
    """Deadlines, limits and the course's settings, each alone."""
    where, every = places(world.root), list(STUDENTS)
    assert begun(world, where) == every
    assert begun(world, where) == []
    world.closes = 200  # of the jobs that count
    assert begun(world, where) == every
    assert begun(world, where) == []
    more = places(world.root, limits=staging.Limits(cell_seconds=99))
    assert begun(world, more) == every
    assert begun(world, more) == []
    (world.root / "nbgrader_config.py").write_text("c.LateSubmissionPlugin.penalty_method = 'zero'")
    assert begun(world, more) == every
    assert begun(world, more) == []


def test_who_is_late_by_the_gradebook_is_graded_anew(world: World) -> None:
    where, every = places(world.root), list(STUDENTS)
    with contextlib.closing(sqlite3.connect(world.root / "gradebook.db")) as book, book:
        book.executescript("""
            CREATE TABLE assignment (id, name, duedate);
            CREATE TABLE submitted_assignment (assignment_id, student_id, extension);
            INSERT INTO assignment VALUES (1, 'ps1', NULL), (2, 'ps2', NULL);
            INSERT INTO submitted_assignment VALUES (1, 'ada', NULL), (2, 'ben', 'long');
        """)
        assert begun(world, where) == every
        book.execute("UPDATE submitted_assignment SET extension = 'x' WHERE student_id = 'ada'")
        book.commit()
        assert begun(world, where) == ["ada"]
        book.execute("UPDATE assignment SET duedate = 'tomorrow' WHERE name = 'ps1'")
        book.commit()
        assert begun(world, where) == every
        assert begun(world, where) == []
