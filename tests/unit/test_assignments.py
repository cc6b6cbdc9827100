"""The assignments' tests on submissions made by hand: right, and altered as an adversary would."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import playing
import pytest
import submissions_made

from coursework import notebooks
from coursework.accounting import Window
from coursework.clustertests import Work

NAMES = notebooks.names()
# Tests that need nothing but jobs: no result of theirs depends on the student's number.
NO_NUMBER = {
    "1-first-job": {"two", "endless", "accounting"},
    "2-ask": set(),
    "3-break": {"hungry", "states"},
    "5-pipeline": {"build", "never", "notice"},
    "8-real-code": {"filler", "bill"},
}
# Tests that another of the assignment's jobs may pass: the three of 2-ask run one program for one
# number, and earn for what they asked for; the bill is for all jobs of the five names together.
NO_NAME = {"2-ask": {"fit", "wide", "pair"}, "8-real-code": {"bill"}}


@cache
def right(name: str) -> Work:
    return submissions_made.ALL[name]().work()


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
    other = Window(closes, closes + 3600) if side == "before" else Window(opens - 3600, opens - 1)
    moved = replace(work, accounting=replace(work.accounting, window=other))
    assert set(points(moved).values()) == {0}


@pytest.mark.parametrize("name", NAMES)
def test_sleep_in_place_of_work_earns_nothing_where_work_is_asked_for(name: str) -> None:
    """The same states, nodes and files, and no processor time."""
    work = right(name)
    jobs = tuple(
        replace(job, cpu_time=0, steps=tuple(replace(step, cpu_time=0) for step in job.steps))
        for job in work.accounting.jobs
    )
    earned = points(replace(work, accounting=replace(work.accounting, jobs=jobs)))
    asks = {cell.name for cell in playing.loaded(name).tests if "cpu_time(at_least" in cell.text}
    assert not any(earned[cell] for cell in asks)


@pytest.mark.parametrize("name", ["4-arrays", "5-pipeline"])
def test_a_loop_in_place_of_an_array_earns_nothing(name: str) -> None:
    work = altered(right(name), array_id=None, array_task=None)
    asks = {cell.name for cell in playing.loaded(name).tests if "array(" in cell.text}
    assert not any(points(work)[cell] for cell in asks)


@pytest.mark.parametrize("name", ["1-first-job", "6-parallel", "7-scaling", "8-real-code"])
def test_a_serial_job_repeated_for_a_parallel_one_earns_nothing(name: str) -> None:
    """Steps of one task each, as many as were asked for at once."""
    work = right(name)
    jobs = tuple(
        replace(job, steps=tuple(
            replace(step, tasks=1, step=str(number)) if step.is_srun else step
            for step in job.steps for number in range(step.tasks)))
        for job in work.accounting.jobs
    )  # fmt: skip
    earned = points(replace(work, accounting=replace(work.accounting, jobs=jobs)))
    asks = [cell.name for cell in playing.loaded(name).tests if "tasks(" in cell.text]
    assert asks
    assert not any(earned[cell] for cell in asks)


@pytest.mark.parametrize(
    ("name", "answers", "cell"),
    [
        ("1-first-job", {"job": 1, "node": "node01", "seconds": 11}, "accounting"),
        ("1-first-job", {"job": 999_999, "node": "node01", "seconds": 11}, "accounting"),
        ("3-break", {"slow": [1, "TIMEOUT", "0:0"]}, "states"),
        ("8-real-code", {"core_seconds": 100_000}, "bill"),
    ],
)
def test_copied_and_invented_answers(name: str, answers: dict[str, object], cell: str) -> None:
    work = right(name)
    files = {**work.files, "answers.json": str(answers).replace("'", '"').encode()}
    assert points(replace(work, files=files))[cell] == 0


def test_invented_timings_earn_no_more_than_their_share() -> None:
    work = right("7-scaling")
    files = {**work.files, "timings.csv": b"1,16\n2,8\n4,4\n8,2\n", "answers.json": b"{}"}
    assert points(replace(work, files=files))["measured"] == 0


@pytest.mark.parametrize("name", NAMES)
def test_scripts_edited_after_the_job_change_nothing(name: str) -> None:
    """What counts is the script that Slurm kept, not a file that is handed in."""
    work = right(name)
    empty = altered(work, script="", submit_line="sbatch job.sh")
    edited = {f"{job.name}.sh": job.script.encode() for job in work.accounting.jobs}
    assert points(replace(empty, files={**work.files, **edited})) == points(empty)


def test_no_two_assignments_use_the_same_job_name() -> None:
    """Both may be open at once, and a name selects among all jobs of the course."""
    used: dict[str, set[str]] = {}
    for name in NAMES:
        text = "".join(cell.text for cell in playing.loaded(name).cells)
        for job in re.findall(r"--job-name=([a-z][a-z0-9-]*)", text):
            used.setdefault(job, set()).add(name)
    assert {"hello", "silicon"} <= set(used)
    assert {job: names for job, names in used.items() if len(names) > 1} == {}


@pytest.mark.parametrize("name", NAMES)
def test_renamed_jobs_do_not_earn_by_their_names(name: str) -> None:
    """Each job under the name of each other that was asked for: the name selects, no more."""
    work = right(name)
    names = sorted({job.name for job in work.accounting.jobs})
    for by in range(1, len(names)):
        turned = dict(zip(names, [*names[by:], *names[:by]], strict=True))
        jobs = tuple(replace(job, name=turned[job.name]) for job in work.accounting.jobs)
        earned = points(replace(work, accounting=replace(work.accounting, jobs=jobs)))
        assert sum(earned.values()) < sum(full(name).values())
        assert {cell for cell, got in earned.items() if got} <= NO_NAME.get(name, set()), turned


JUNK = [
    b"", b"\xff\xfe", b"[" * 5000, b"NaN", b"1e999,1e999,1e999", b'{"job": {}, "mean": "x"}',
    b"[1, 2]", b"0,1e308,1e308\n1,1e308,1e308", b'{"serial_share": NaN, "core_seconds": 1e999}',
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("junk", JUNK)
def test_a_students_strange_files_do_not_break_a_test(name: str, junk: bytes) -> None:
    """A test that fails by itself would stop the grading: whatever is handed in, it judges."""
    work = right(name)
    earned = points(replace(work, files=dict.fromkeys(work.files, junk)))
    assert sum(earned.values()) < sum(full(name).values())
