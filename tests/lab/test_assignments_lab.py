"""Assignment 1 from hand-out to feedback: written into a course, fetched, played by three students
as they would, handed in, graded by what the cluster saw, given back.

The others are played by tests/playing.py; what it recorded is graded in unit tests.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import playing
import pytest
from courses import Course, courses

pytestmark = pytest.mark.lab

NAME = "1-first-job"
KINDS = {"ada": "right", "ben": "half", "cleo": "cheat"}
# of 12; half: no time limit (3 of 4), one node (0), cancelled (2), the wrong node (1.5)
SCORES = {"ada": 12, "ben": 6.5, "cleo": 0}


@pytest.fixture(scope="module")
def course(lab: Any, run_on: Any) -> Iterator[Course]:
    with courses(lab, run_on, ("asg", ["ines"], list(KINDS))) as made:
        yield made[0]


def work(course: Course, who: str) -> None:
    """Fetch, fill in and run on the login node, hand in."""
    course.student(who, "fetch", course.name, NAME, node="login")
    book = course.shell(who, f"cat ~/{course.name}/{NAME}/{NAME}.ipynb", node="login").stdout
    assert "BEGIN HIDDEN TESTS" not in book and "BEGIN SOLUTION" not in book
    source = playing.submission(NAME, KINDS[who])
    program = playing.program(NAME, source, course.name, fetched=True)
    done = course.run_on("login", ["python3", "-"], user=who, input=program, timeout=playing.LIMIT)
    print(done.stdout)
    assert done.returncode == 0, done.stderr
    course.student(who, "submit", course.name, NAME, node="login")


def test_an_assignment_from_hand_out_to_feedback(course: Course) -> None:
    put = ["practicum", "assignment", "put", course.name, NAME]
    for said in ("in /nfs/courses/asg/source", "is there, and stays as it is"):
        done = course.run_on("login", put, user="ines")
        assert (done.returncode, done.stdout) == (0, f"{NAME}: {said}\n"), done.stderr
    assert "handed out to the 3" in course.teach("release", course.name, NAME)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda who: work(course, who), KINDS))
    assert "3 of 3 collected" in course.teach("collect", course.name, NAME)
    found = json.loads(course.teach("grade", course.name, NAME, "--json"))["graded"]
    assert {one["student"]: one["score"] for one in found} == SCORES, found
    assert {one["status"] for one in found} == {"graded"}

    assert "for 3 students" in course.teach("give-back", course.name, NAME)
    told = {who: feedback(course, who) for who in KINDS}
    assert "[ok] the state COMPLETED" in told["ada"]
    assert "Expected: a step of 2 tasks" in told["ben"]
    assert "Slurm knows no such job of yours" in told["cleo"]
    rows = csv.DictReader(course.teach("grades", course.name).splitlines())
    assert {row["student_id"]: float(row["score"]) for row in rows} == SCORES


def feedback(course: Course, who: str) -> str:
    course.student(who, "feedback", course.name, NAME, node="login")
    page = f"cat ~/{course.name}/{NAME}/feedback/*/{NAME}.html"
    return str(course.shell(who, page, node="login").stdout)
