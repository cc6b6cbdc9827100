"""Assignments played on a real cluster by students, and graded from its accounting."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import playing
import pytest

from coursework import notebooks
from coursework.clustertests import Work

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1500)]
# (student, assignment, submission): at the same time, as a class would
PLAYED = (
    ("ada", "1-first-job", "right"),
    ("ben", "2-ask", "right"),
    ("cleo", "1-first-job", "cheat"),
)


@pytest.fixture(scope="module")
def played(run_on) -> dict[tuple[str, str], Work]:
    with ThreadPoolExecutor(len(PLAYED)) as pool:
        works = pool.map(lambda one: playing.play(run_on, *one), PLAYED)
        found = {one[1:]: work for one, work in zip(PLAYED, works, strict=True)}
    for student, name, _ in PLAYED:
        run_on("login", ["rm", "-rf", f"play/{name}"], user=student)
    return found


@pytest.mark.parametrize("name", ["1-first-job", "2-ask"])
def test_the_solution_earns_all(played, name: str) -> None:
    found = playing.graded(name, played[name, "right"])
    print(playing.told(found))
    asked = {cell.name: float(cell.points) for cell in notebooks.load(name).tests}
    assert {cell: points for cell, (points, _) in found.items()} == asked


def test_cheating_earns_nothing(played) -> None:
    found = playing.graded("1-first-job", played["1-first-job", "cheat"])
    print(playing.told(found))
    assert {points for points, _ in found.values()} == {0}


def test_one_students_jobs_are_not_anothers(played) -> None:
    """Cleo's accounting has no job of Ada's, though both used the same names at the same time."""
    ada, cleo = played["1-first-job", "right"], played["1-first-job", "cheat"]
    ids = {job.job_id for job in ada.jobs}
    assert ids and not ids & {job.job_id for job in cleo.jobs}
    assert {job.user for job in cleo.jobs} == {"cleo"}
