"""Grading an assignment on the cluster: sanitize, run as Slurm arrays, merge into the gradebook.

Runs on the login node as grader-NAME. All that is known is in files, so it may be killed at any
moment and started again::

    grading/lock                          held while it runs, for the whole course
    grading/assignments/A/STUDENT.json    Entry: of which submission, how far, why not
    grading/sanitized/STUDENT/ASSIGNMENT  what grade_book made of the submission
    accounting/ASSIGNMENT/STUDENT.json    a snapshot, once the student's deadline is over

Students go to the cluster in waves, small ones first, so that slots work while the next are still
being prepared. A slot's arrays wait for one another: one submission at a time runs as its account.

A student is left alone whose submission and tests are the ones that were graded, with the same
deadline, limits and settings. Anything else first takes back what an earlier grading gave, so an
old grade never stands for a new submission.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import PracticumError
from cluster.slurm_text import JobState
from coursework import gradejobs, grades, merging, staging
from coursework.accounting import Accounting, Window
from coursework.clustercells import BrokenTestError, error, outputs_of, verdict_of
from coursework.clustertests import Work
from coursework.grade_state import Entry, Places, alone, digest, entries, handed_in, write
from coursework.gradebook import Book
from coursework.proof import token
from coursework.staging import Chunk

LOOK = 0.5  # seconds between looks for results
ASK = 5.0  # seconds between questions to Slurm
SETTLE = 15.0  # seconds that a result may take to be seen after its job's end (NFS)
ATTEMPTS = 2  # for a submission that never began to run
NOT_THEIRS = frozenset(
    {JobState.NODE_FAIL, JobState.CANCELLED, JobState.PREEMPTED, JobState.BOOT_FAIL,
     JobState.LAUNCH_FAILED}
)  # fmt: skip
WORDS = {
    JobState.TIMEOUT: "its job ran into the time limit",
    JobState.OUT_OF_MEMORY: "it used more memory than submissions get",
}


@dataclass(frozen=True)
class Sent:
    """Where a student's submission runs: a task of a slot's array, and its folder."""

    box: str
    job: int
    task: int
    chunk: Chunk


class Watcher(Protocol):
    """Who is told how it goes."""

    def begin(self, students: Sequence[str], skipped: Sequence[str]) -> None: ...
    def phase(self, student: str, text: str) -> None: ...
    def done(self, entry: Entry) -> None: ...


class Records(Protocol):
    """A student's jobs, and from when until when they count. Both raise PracticumError."""

    def window(self, student: str) -> Window: ...
    def __call__(self, student: str) -> Accounting: ...


class Grading:
    """One run for one assignment."""

    def __init__(
        self, places: Places, assignment: str, accounting: Records, watcher: Watcher
    ) -> None:
        self.places, self.assignment = places, assignment
        self.accounting, self.watcher = accounting, watcher
        self.folder = places.of(assignment)
        self.nonce = secrets.token_hex(16)
        self.tests: dict[str, dict[str, dict[int, merging.Test]]] = {}
        self.broken: dict[str, list[str]] = {}  # notebooks that cannot be graded, and why
        self.digests: dict[str, str] = {}
        self.attempts: dict[str, int] = {}
        self.results: dict[str, Entry] = {}
        self.jobs: dict[str, list[int]] = {}
        self.sent: dict[str, Sent] = {}  # those without a result yet
        self.running: set[str] = set()

    def run(self, students: Sequence[str] = (), *, again: bool = False) -> dict[str, Entry]:
        """Grade those (all who submitted when left out); with ``again`` those who are graded, too.

        PracticumError when nothing can be graded at all; what fails for one student is in the
        entries, and stops nobody else's.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        # One run for a course: two at once would share the grading accounts.
        with alone(self.places.state / "lock", self.places.course) as self.lock:
            # Of a run that was killed: one of its tasks would end this run's, as it begins.
            gradejobs.end_all(self.places.course, self.places.boxes)
            self._remove_staged()
            self.book = Book(self.places)
            try:
                self._grade(students, again=again)
            finally:
                self.book.close()
                self._clear_up()
        return self.results

    def _grade(self, students: Sequence[str], *, again: bool) -> None:
        known = self.book.ask("students", self.assignment)
        self.notebooks = known["notebooks"]
        unknown = sorted(set(students) - set(known["students"]))
        if unknown:
            raise PracticumError(
                f"no submission of {', '.join(unknown)} for {self.assignment} has been collected"
            )
        before = entries(self.places, self.assignment)
        self.late = grades.lateness(self.places.root / "gradebook.db", self.assignment)
        wanted: list[str] = []
        skipped: list[str] = []
        for student in students or known["students"]:
            self.digests[student] = self._digest(student)
            old = before.get(student)
            same = old and old.digest == self.digests[student] and old.status != "waiting"
            (skipped if same and not again else wanted).append(student)
            if old and same:
                self.results[student] = old
        self.watcher.begin(wanted, skipped)
        for wave in staging.waves(wanted, len(self.places.boxes)):
            self._send([student for student in wave if self._ready(student)])
        while missing := self._gather():
            self._send(missing, most=1)

    def _ready(self, student: str) -> bool:
        """Whether it is prepared and has to run; what came meanwhile is entered."""
        self._look()
        if not self._sanitize(student):
            return False
        if self._to_execute(student):
            return True
        self._merge(student, {}, "")
        return False

    def _to_execute(self, student: str) -> bool:
        """A notebook whose points all come from the cluster's records is not run again: its cells
        submit jobs, which they cannot in a box."""
        return any(merging.needs_kernel(tests) for tests in self.tests[student].values())

    def _digest(self, student: str) -> str:
        """Of all that a grade rests on. Deadlines say which jobs count and what is late, settings
        what that costs."""
        root = self.places.root
        settings = root / "nbgrader_config.py"
        terms = {
            "window": asdict(self.accounting.window(student)),
            "late": self.late.get(student, self.late[""]),
            "limits": asdict(self.places.limits),
            "settings": settings.read_text(errors="replace") if settings.is_file() else "",
        }
        return digest(
            root / "submitted" / student / self.assignment,
            root / "source" / self.assignment,
            root / "release" / self.assignment,
            terms=json.dumps(terms, sort_keys=True),
        )

    def _sanitize(self, student: str) -> bool:
        self.watcher.phase(student, "sanitizing")
        try:
            # first, or a run that is killed here leaves an entry of a grade that is gone
            (self.folder / f"{student}.json").unlink(missing_ok=True)
            self.book.ask("void", self.assignment, student=student)
            answer = self.book.ask("sanitize", self.assignment, student=student)
        except PracticumError as problem:
            self._tell(student, "waiting", f"cannot be graded: {problem}; grade again")
            return False
        self.broken[student] = [str(sentence) for sentence in answer["broken"]]
        self.tests[student] = merging.read_tests(answer)
        if not self.tests[student]:
            told = {key: answer[key] for key in ("score", "max_score", "manual")}
            self._tell(student, "failed", "; ".join(self.broken[student]), told)
        return bool(self.tests[student])

    def _nonce(self, student: str, name: str) -> str:
        return token(self.nonce, student, name)

    def _sanitized(self, student: str) -> Path:
        return self.places.state / "sanitized" / student / self.assignment

    def _notebook(self, student: str, name: str) -> dict[str, Any]:
        path = self._sanitized(student) / f"{name}.ipynb"
        value: dict[str, Any] = json.loads(path.read_text())
        return value

    # on the cluster

    def _send(self, students: list[str], most: int = staging.MOST) -> None:
        """To the slots, behind what each has already."""
        run = secrets.token_hex(6)
        boxes = self.places.boxes
        for box, share in zip(boxes, staging.share_out(students, len(boxes), most), strict=True):
            if not share:
                continue
            chunks = [self._stage(box, run, n, part) for n, part in enumerate(share)]
            before = self.jobs.setdefault(box, [])
            wanted = self._wanted(box, run, share, before[-1] if before else 0)
            job = gradejobs.submit(wanted, self.lock)
            before.append(job)
            for task, chunk in enumerate(chunks):
                self.sent |= dict.fromkeys(chunk.students, Sent(box, job, task, chunk))
        self.running.difference_update(students)
        for student in students:
            self.watcher.phase(student, "queued")

    def _wanted(self, box: str, run: str, share: list[list[str]], after: int) -> gradejobs.Wanted:
        limits, places = self.places.limits, self.places
        each = (limits.notebook_seconds + limits.start_seconds) * max(1, len(self.notebooks))
        minutes = -(-each * max(map(len, share)) // 60) + 1
        return gradejobs.Wanted(
            box=box,
            account=places.course,
            partition=places.partition,
            tasks=len(share),
            minutes=min(minutes, places.max_minutes),
            memory_mb=limits.memory_mb + 128,
            python=places.python,
            program=places.program,
            chunks=places.staging / box / run,
            after=after,
        )

    def _stage(self, box: str, run: str, number: int, students: list[str]) -> Chunk:
        made = self.places.state / "to-run" / run
        try:
            for student in students:
                self._to_run(student, made / student)
            task = {
                "limits": asdict(self.places.limits),
                "hide": list(self.places.hide),
                "jupyter_path": self.places.jupyter_path,
            }
            folder = self.places.staging / box / f"{run}-{number}"
            sources = {student: made / student for student in students}
            return staging.make(folder, sources, self.notebooks, task)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _to_run(self, student: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.copy_in(self._sanitized(student), target)
        for name, tests in self.tests[student].items():
            path = target / f"{name}.ipynb"
            path.write_text(
                json.dumps(
                    merging.to_run(self._notebook(student, name), tests, self._nonce(student, name))
                )
            )

    def _look(self) -> None:
        """Enter what has come."""
        for student, sent in list(self.sent.items()):
            if self._arrived(student, sent.chunk):
                del self.sent[student]
            elif student not in self.running and sent.chunk.out(student, "started").exists():
                self.running.add(student)
                self.watcher.phase(student, "running")

    def _gather(self) -> list[str]:
        """Enter what comes, until all is there or the jobs are over; then say what is missing.
        Those that must be tried again."""
        asked, over = time.monotonic(), 0.0
        while self.sent:
            self._look()
            now = time.monotonic()
            if over and now - over > SETTLE:
                break
            if not over and now - asked > ASK:
                asked = now
                jobs = {sent.job for sent in self.sent.values()}
                left = gradejobs.waiting(self.places.course, self.places.boxes, jobs)
                over = now if left is not None and not left else 0.0
            time.sleep(LOOK if self.sent else 0)
        missing, self.sent = self.sent, {}
        return self._missing(missing)

    def _arrived(self, student: str, chunk: Chunk) -> bool:
        try:
            data = staging.read_out(chunk.out(student, "json"))
            if data is None:
                return False
            ran = merging.read_result(data)
        except ValueError as problem:
            self._merge(student, {}, f"its result was refused: {problem}")
            return True
        failures = [f"{name}: {one.failure}" for name, one in ran.items() if one.failure]
        self._merge(student, ran, "; ".join(failures))
        return True

    def _missing(self, missing: Mapping[str, Sent]) -> list[str]:
        """Those without a result: tried again, or failed, or left waiting, each with its reason."""
        again = []
        since = int(time.time()) - 7 * 86400
        ended = {
            job: gradejobs.states(box, self.places.course, since, job)
            for box, job in {(sent.box, sent.job) for sent in missing.values()}
        }
        for student, sent in missing.items():
            state = ended[sent.job].get(sent.task)
            began = sent.chunk.out(student, "started").exists()
            if began and state is not None and state not in NOT_THEIRS:
                why = WORDS.get(state, f"its job ended with {state.value} while it ran")
                self._merge(student, {}, why)
                continue
            self.attempts[student] = self.attempts.get(student, 0) + 1
            if self.attempts[student] < ATTEMPTS:
                again.append(student)
                continue
            told = f"its job ended with {state.value}" if state else "Slurm lost its job"
            self._tell(student, "waiting", f"not graded: {told}; grade again")
        return again

    # into the gradebook

    def _merge(self, student: str, ran: Mapping[str, merging.Ran], failure: str) -> None:
        self.watcher.phase(student, "merging")
        outputs: dict[str, dict[int, list[Any]]] = {}
        broken = list(self.broken[student])
        for name, tests in self.tests[student].items():
            notebook = self._notebook(student, name)
            one = ran.get(name, merging.Ran(failure=failure or "it was not run"))
            verdicts = self._verdicts(student, tests, notebook, one, broken)
            nonce = self._nonce(student, name)
            outputs[name] = merging.outputs_for(notebook, tests, one, nonce, verdicts)
        try:
            answer = self.book.ask("merge", self.assignment, student=student, outputs=outputs)
        except PracticumError as problem:
            with contextlib.suppress(PracticumError):  # the next run takes back what is there
                self.book.ask("void", self.assignment, student=student)
            self._tell(student, "waiting", f"cannot be merged: {problem}; grade again")
            return
        reason = "; ".join(part for part in (failure, *broken) if part)
        self._tell(student, "failed" if reason else "graded", reason, answer)

    def _verdicts(
        self, student: str, tests: merging.Tests, notebook: Mapping[str, Any], ran: merging.Ran,
        broken: list[str],
    ) -> dict[int, list[Any]]:  # fmt: skip
        """Outputs of the cluster tests; what is wrong with a test itself goes to ``broken``."""
        mine = {index: test for index, test in tests.items() if test.on_cluster}
        if not mine:
            return {}
        try:
            accounting = self.accounting(student)
        except PracticumError as problem:
            broken.append(f"the accounting could not be read ({problem}): grade again")
            return {index: [error("NotLooked", "no accounting")] for index in mine}
        work = Work(
            student,
            self.assignment,
            accounting,
            files=handed_in(self.places.root / "submitted" / student / self.assignment),
            printed=merging.printed(tests, ran),
            sources=merging.sources(notebook, tests),
        )
        found = {}
        for index, test in mine.items():
            try:
                found[index] = outputs_of(
                    verdict_of(test.code, work, where=test.grade_id), test.points
                )
            except BrokenTestError as problem:
                broken.append(str(problem))
                found[index] = [error("BrokenTest", "the test itself failed: tell the instructor")]
        return found

    def _tell(
        self, student: str, status: str, reason: str = "", answer: Mapping[str, Any] | None = None
    ) -> None:
        entry = Entry(
            student,
            self.digests[student],
            status,
            reason,
            **(answer or {}),
            at=int(time.time()),
        )
        write(self.folder / f"{student}.json", asdict(entry))
        self.results[student] = entry
        self.watcher.done(entry)

    def _clear_up(self) -> None:
        """End what still waits or runs, without waiting for its end, and remove its folders."""
        left = gradejobs.left(self.places.course, self.places.boxes)
        if left is None:
            left = {job: box for box, made in self.jobs.items() for job in made}
        for job, box in left.items():
            gradejobs.cancel(box, job)
        self._remove_staged()

    def _remove_staged(self) -> None:
        staging.clear(self.places.staging / box for box in self.places.boxes)
        shutil.rmtree(self.places.state / "to-run", ignore_errors=True)
