"""Tests that give marks for what the cluster saw: written by assignment authors, in a notebook.

A cluster-graded test is an ordinary nbgrader test cell (locked, with points), whose first line
says so and whose hidden part holds the test::

    # practicum: cluster test
    ### BEGIN HIDDEN TESTS
    verdict = best(
        work,
        "first-job",
        completed().needed(),
        asked(time_limit=(60, 600), what="a few minutes"),
        cpu_time(at_least=5).needed(),
    )
    ### END HIDDEN TESTS

Students see the first line and the points. The hidden part runs after the student's notebook,
outside its kernel, where nothing of the student's runs (:mod:`coursework.clustercells`), with all
names of this module and :mod:`coursework.criteria`, and ``work``. It leaves its result in
``verdict``; the cell's points are multiplied by ``verdict.share`` and its lines are the feedback.
An ``assert`` that fails gives no points, and its message is the feedback.

``work`` is a :class:`Work`: the student's jobs of this assignment (their own, in the course's
account, from the release to their own deadline), the files and answers that were handed in, and
the student's seed. What is *not* evidence: a job's name, its script's text, what a job printed
or a file says. A name only selects among a student's own jobs, and of those the best counts.
Marks should rest on what Slurm counted, and on results recomputed with the seed.

The same test runs on the cluster and without one, on a recorded :class:`Accounting`
(:func:`coursework.snapshot.load`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from coursework.accounting import Accounting, Job, at_once, memory, tasks_of


@dataclass(frozen=True)
class Run:
    """What one ``sbatch`` (or srun, salloc) made: a job, or all tasks of an array."""

    jobs: tuple[Job, ...]
    sampled_every: int = 5

    @property
    def job(self) -> Job:
        """The job; of an array its first task."""
        return self.jobs[0]

    @property
    def is_array(self) -> bool:
        return self.job.array_id is not None

    @property
    def label(self) -> str:
        return f"array {self.job.array_id}" if self.is_array else f"job {self.job.label}"

    @property
    def script(self) -> str:
        """As it was at submission. Slurm keeps one for a whole array."""
        return next((job.script for job in self.jobs if job.script), "")

    @property
    def cpu_time(self) -> int:
        return sum(job.cpu_time for job in self.jobs)

    @property
    def at_once(self) -> int:
        return at_once(self.jobs)

    @property
    def memory(self) -> int | None:
        """Bytes, the most that was seen in any of its jobs; None: not measured."""
        seen = [memory(job, self.sampled_every).peak for job in self.jobs]
        return max((peak for peak in seen if peak is not None), default=None)


@dataclass(frozen=True)
class Work:
    """All that a test may judge of one student.

    ``files`` are those handed in beside the notebook, by relative path. ``printed`` and ``sources``
    are the text output (when run for grading) and the source of each nbgrader cell, by its
    grade_id. All three are the student's words.
    """

    student: str
    assignment: str
    accounting: Accounting
    files: Mapping[str, bytes] = field(default_factory=dict)
    printed: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        return seed(self.student, self.assignment)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job that may count, oldest first."""
        return self.accounting.counted

    def runs(self, name: str = "") -> tuple[Run, ...]:
        """What was submitted under that job name (of any name when left out), oldest first."""
        jobs = [job for job in self.jobs if not name or job.name == name]
        every = self.accounting.sampled_every
        return tuple(Run(tasks, every) for tasks in tasks_of(jobs))

    def run(self, job_id: int) -> Run | None:
        """The student's own run of that id (a job's or an array's), None for anybody else's."""
        for run in self.runs():
            if job_id in {run.job.array_id, *(job.job_id for job in run.jobs)}:
                return run
        return None

    def text(self, path: str) -> str:
        """A file that was handed in, "" if it was not."""
        return self.files.get(path, b"").decode(errors="replace")

    def json(self, path: str) -> Any:
        """A handed-in JSON file's value; None if there is none or it is no JSON."""
        try:
            return json.loads(self.files.get(path, b"null"))
        except (ValueError, RecursionError):
            return None


def seed(student: str, assignment: str) -> int:
    """This student's number for this assignment, below 2**32.

    The same as an assignment's own line gives in the student's session::

        int.from_bytes(hmac.digest(b"ASSIGNMENT", getpass.getuser().encode(), "sha256")[:4], "big")

    Everybody can compute everybody's: a seed makes answers differ, it proves nothing by itself.
    """
    digest = hmac.digest(assignment.encode(), student.encode(), hashlib.sha256)
    return int.from_bytes(digest[:4], "big")


@dataclass(frozen=True)
class Finding:
    """One criterion's judgement. ``earned`` is 0 to 1; None when it could not be measured, and
    then it counts neither for nor against."""

    earned: float | None
    expected: str
    seen: str
    advice: str = ""


@dataclass(frozen=True)
class Criterion:
    """One thing that is looked at in a :class:`Run`."""

    check: Callable[[Run, Work], Finding]
    weight: float = 1.0
    essential: bool = False

    def needed(self) -> Criterion:
        """Without it the run earns nothing at all: it is not the work that was asked for."""
        return replace(self, essential=True)

    def worth(self, weight: float) -> Criterion:
        """Its weight among the others of the test; 1 if not said."""
        return replace(self, weight=weight)


@dataclass(frozen=True)
class Line:
    """A line of feedback: ok is True, False or, for what was not measured, None."""

    ok: bool | None
    text: str

    def __str__(self) -> str:
        mark = {True: "[ok]", False: "[--]", None: "[not measured]"}[self.ok]
        return f"{mark} {self.text}"


@dataclass(frozen=True)
class Verdict:
    """``share`` of the cell's points, 0 to 1, and why."""

    share: float
    lines: tuple[Line, ...] = ()
    run: Run | None = None

    @property
    def text(self) -> str:
        return "\n".join(str(line) for line in self.lines)


def judge(run: Run, work: Work, criteria: Iterable[Criterion]) -> Verdict:
    """One run by all criteria: the weighted share, or nothing if an essential one is missed.

    An essential criterion that could not be measured counts as missed.
    """
    earned = weights = 0.0
    missed = False
    lines = [Line(True, f"Looked at {run.label} ({run.job.name}).")]
    for one in criteria:
        finding = one.check(run, work)
        lines.append(_line(finding))
        if one.essential and finding.earned != 1:
            missed = True
            lines[-1] = replace(lines[-1], text=f"{lines[-1].text} Without this, no points.")
        if finding.earned is not None:
            earned += one.weight * min(max(finding.earned, 0.0), 1.0)
            weights += one.weight
    share = 0.0 if missed or not weights else earned / weights
    return Verdict(share, tuple(lines), run)


def _line(finding: Finding) -> Line:
    if finding.earned is None:
        return Line(None, f"{finding.expected}: {finding.seen}")
    if finding.earned == 1:
        return Line(True, f"{finding.expected}: {finding.seen}")
    advice = f" {finding.advice}" if finding.advice else ""
    return Line(False, f"Expected: {finding.expected}. Seen: {finding.seen}.{advice}")


def best(work: Work, name: str, *criteria: Criterion) -> Verdict:
    """The best of the student's runs of that job name; of equals the latest.

    The name earns nothing. With "" every run of the assignment is a candidate.
    """
    runs = work.runs(name)
    if not runs:
        return Verdict(0.0, (Line(False, _nothing(work, name)),))
    verdicts = [judge(run, work, criteria) for run in runs]
    most = max(enumerate(verdicts), key=lambda item: (item[1].share, item[0]))[1]
    if len(runs) > 1:
        note = Line(True, f"You have {len(runs)} such runs; this is the one that counts most.")
        return replace(most, lines=(note, *most.lines))
    return most


def _nothing(work: Work, name: str) -> str:
    """Why no run counts, told by what there is instead."""
    accounting = work.accounting
    same = [job for job in accounting.jobs if not name or job.name == name]
    called = f"named {name!r} " if name else ""
    if not same:
        others = sorted({job.name for job in accounting.counted})
        known = f" Your jobs are named {', '.join(map(repr, others[:5]))}." if others else ""
        return (
            f"Expected: a job {called}in the account {accounting.account!r}. Seen: none.{known} "
            "The job name is set by `#SBATCH --job-name`, the account by `--account`."
        )
    last = same[-1]
    if (last.submitted or 0) < accounting.window.opens:
        why = "submitted before the assignment was released"
    elif (last.submitted or 0) > accounting.window.closes:
        why = "submitted after your deadline"
    elif last.ended is None and accounting.read_at <= accounting.window.closes:
        why = "not over when this was graded"
    else:
        why = "not over by your deadline"
    jobs = f"You have a job {called}({last.label}), but it was"
    if len(same) > 1:
        jobs = f"You have {len(same)} jobs {called}and none counts: the last, {last.label}, was"
    return f"{jobs} {why}, so it earns no points."


def recomputed(right: bool, expected: str, seen: str, advice: str = "") -> Verdict:
    """The judgement of a result that the test computed again: all or nothing."""
    return Verdict(float(right), (_line(Finding(float(right), expected, seen, advice)),))


def together(*parts: Verdict | tuple[float, Verdict]) -> Verdict:
    """Several verdicts in one cell, each with its weight (1 if not said)."""
    weighed = [part if isinstance(part, tuple) else (1.0, part) for part in parts]
    whole = sum(weight for weight, _ in weighed)
    share = sum(weight * verdict.share for weight, verdict in weighed) / whole if whole else 0.0
    return Verdict(share, tuple(line for _, verdict in weighed for line in verdict.lines))


def gate(condition: Verdict, verdict: Verdict) -> Verdict:
    """``verdict``, but nothing unless ``condition`` has its full share: a right answer without the
    job that should have computed it, or a job with a wrong result."""
    lines = condition.lines + verdict.lines
    if condition.share == 1:
        return replace(verdict, lines=lines)
    return Verdict(0.0, (*lines, Line(False, "Without the first part there are no points.")))
