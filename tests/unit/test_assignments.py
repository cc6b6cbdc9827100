"""The eight assignments grade recorded submissions: right, half right, and such as cheat.

What was recorded is real: jobs of students on a lab (tests/playing.py), with the files that they
handed in. The adversary's other ways are the right submission, altered.
"""

from __future__ import annotations

from dataclasses import replace

import playing
import pytest

from coursework import notebooks
from coursework.accounting import Window
from coursework.clustertests import Work

NAMES = (*notebooks.names(), playing.EXAMPLE)
# Points of the half-right submissions; what is not named earns all.
HALF: dict[str, dict[str, float]] = {}
# Tests that need nothing but jobs: no result of theirs depends on the student's number.
NO_NUMBER = {
    "1-first-job": {"two", "endless", "accounting"},
    "3-break": {"states"},
    "5-pipeline": {"build", "never", "notice"},
    "8-real-code": {"filler", "bill"},
}


def right(name: str) -> Work:
    return playing.load(name, "right")


def points(work: Work) -> dict[str, float]:
    found = playing.graded(work.assignment, work)
    print(playing.told(found))  # shown when a test fails
    return {cell: earned for cell, (earned, _) in found.items()}


def full(name: str) -> dict[str, float]:
    return {cell.name: float(cell.points) for cell in playing.loaded(name).tests}


def altered(work: Work, **change: object) -> Work:
    """The same, with every job changed."""
    jobs = tuple(replace(job, **change) for job in work.accounting.jobs)  # type: ignore[arg-type]
    return replace(work, accounting=replace(work.accounting, jobs=jobs))


@pytest.mark.parametrize("name", NAMES)
def test_right_earns_all(name: str) -> None:
    assert points(right(name)) == full(name)


@pytest.mark.parametrize("name", NAMES)
def test_half_right_earns_its_part(name: str) -> None:
    assert points(playing.load(name, "half")) == {**full(name), **HALF[name]}


@pytest.mark.parametrize("name", NAMES)
def test_cheating_earns_nothing(name: str) -> None:
    assert set(points(playing.load(name, "cheat")).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_nothing_handed_in_and_no_job_earns_nothing(name: str) -> None:
    work = right(name)
    none = replace(work, files={}, accounting=replace(work.accounting, jobs=()))
    assert set(points(none).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_files_without_jobs_earn_nothing(name: str) -> None:
    work = right(name)
    assert set(points(replace(work, accounting=replace(work.accounting, jobs=()))).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_another_students_results_earn_nothing(name: str) -> None:
    """Cleo hands in what Ada computed, and has even run the same jobs under her own name: the
    answers belong to Ada's number. (What has no number can only be repeated, not copied.)"""
    work = right(name)
    accounting = replace(work.accounting, user="cleo")
    copied = replace(altered(replace(work, accounting=accounting), user="cleo"), student="cleo")
    earned = points(copied)
    assert {cell for cell, got in earned.items() if got} <= NO_NUMBER.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_jobs_of_another_student_earn_nothing(name: str) -> None:
    assert set(points(altered(right(name), user="ben")).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_jobs_in_another_account_earn_nothing(name: str) -> None:
    assert set(points(altered(right(name), account="physics")).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", ["before", "after"])
def test_jobs_outside_the_window_earn_nothing(name: str, side: str) -> None:
    work = right(name)
    opens, closes = work.accounting.window.opens, work.accounting.window.closes
    late = Window(closes, closes + 3600) if side == "before" else Window(opens - 3600, opens - 1)
    assert set(points(replace(work, accounting=replace(work.accounting, window=late))).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_jobs_that_did_no_work_earn_nothing_where_work_is_asked_for(name: str) -> None:
    """The same states, nodes and files, and no processor time: sleep in place of work."""
    work = right(name)
    jobs = tuple(
        replace(job, cpu_time=0, steps=tuple(replace(step, cpu_time=0) for step in job.steps))
        for job in work.accounting.jobs
    )
    earned = points(replace(work, accounting=replace(work.accounting, jobs=jobs)))
    asks = {cell.name for cell in playing.loaded(name).tests if "cpu_time" in cell.text}
    assert not any(earned[cell] for cell in asks)


@pytest.mark.parametrize("name", NAMES)
def test_scripts_edited_after_the_job_change_nothing(name: str) -> None:
    """What counts is the script that Slurm kept, not the file that is handed in."""
    work = playing.load(name, "half")
    better = {file: text for file, text in right(name).files.items() if file.endswith(".sh")}
    assert points(replace(work, files={**work.files, **better})) == points(work)


@pytest.mark.parametrize("name", NAMES)
def test_a_renamed_job_earns_nothing(name: str) -> None:
    """Each job under the name of another that was asked for: the name selects, no more."""
    work = right(name)
    names = sorted({job.name for job in work.accounting.jobs})
    turned = dict(zip(names, [*names[1:], names[0]], strict=True))
    jobs = tuple(replace(job, name=turned[job.name]) for job in work.accounting.jobs)
    earned = points(replace(work, accounting=replace(work.accounting, jobs=jobs)))
    assert sum(earned.values()) < sum(full(name).values()) / 2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "junk",
    [b"", b"\xff\xfe", b"[" * 5000, b"NaN", b"1e999,1e999,1e999", b'{"job": {}, "mean": "x"}',
     b'[1, 2]', b"1e308,1e308,1e308\n0,1e308,1e308", b'{"serial_share": NaN, "core_seconds": 1e999}'],
)  # fmt: skip
def test_a_students_strange_files_do_not_break_a_test(name: str, junk: bytes) -> None:
    """A test that fails by itself would stop the grading: whatever is handed in, it has a verdict."""
    work = right(name)
    points(replace(work, files=dict.fromkeys(work.files, junk)))
