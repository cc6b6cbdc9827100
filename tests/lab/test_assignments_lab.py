"""Two of the assignments from hand-out to feedback, as a class meets them.

All eight: test_assignments_slow.py and test_real_code_slow.py, with the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from courses import Course, courses
from played_class import KINDS, Played, gradebook, played

from coursework import notebooks

pytestmark = pytest.mark.lab

NAMES = ("1-first-job", "5-pipeline")


@pytest.fixture(scope="module")
def course(lab: Any, run_on: Any) -> Iterator[Course]:
    with courses(lab, run_on, ("asg", ["ines"], list(KINDS)), with_assignments=True) as made:
        yield made[0]


def test_a_new_course_has_them_all(course: Course) -> None:
    put = ["practicum", "assignment", "put", course.name]
    said = course.run_on("login", put, user="ines").stdout
    assert said == "".join(f"{name}: is there, and stays as it is\n" for name in notebooks.names())


@pytest.fixture(scope="module")
def found(course: Course) -> Played:
    return played(course, *NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_assignment_from_hand_out_to_feedback(found: Played, name: str) -> None:
    found.check(name)


def test_feedback_says_what_was_expected_and_what_was_seen(found: Played) -> None:
    told = found.feedback["1-first-job"]
    assert "[ok] the state COMPLETED" in told["ada"]
    assert "Expected: a step of 2 tasks. Seen: nothing by srun." in told["ben"]
    assert "Slurm knows no such job of yours" in told["cleo"]


def test_the_gradebook_has_them(course: Course, found: Played) -> None:
    marks = gradebook(course)
    for name in NAMES:
        assert [marks[name, who] for who in KINDS] == [
            found.graded[name][who]["score"] for who in KINDS
        ]


def test_a_job_script_is_not_handed_out_with_python_in_it(course: Course, found: Played) -> None:
    """sbatch reads no #SBATCH line below a command, as nbgrader's stub would be."""
    book = "/nfs/courses/asg/release/1-first-job/1-first-job.ipynb"
    script = course.run_on("login", ["cat", book]).stdout
    assert script.count("# YOUR CODE HERE") > script.count("raise NotImplementedError()") == 1
