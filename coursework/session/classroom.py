"""The class at a glance: a page of formgrader's server, so for the course's instructors alone.

``class`` is the page, ``class/data`` what it shows, asked for again every few seconds. Grades are
read from the gradebook, jobs from Slurm, which lets the grader, coordinator of the course's
account, see the jobs in that account.
"""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import JupyterHandler
from tornado import web

from .overview import overview
from .page import PAGE

SINCE_SECONDS = 24 * 3600  # of jobs that are shown
SLURM_SECONDS = 20
FRESH = 4.0  # seconds: several instructors ask once
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "SUSPENDED")
GOOD = ("COMPLETED", "RUNNING", "COMPLETING", *WAITING)
GRADES = """
SELECT assignment.name, submitted_assignment.student_id,
       COUNT(grade.id), SUM(grade.needs_manual_grade),
       SUM(COALESCE(grade.manual_score, grade.auto_score, 0) + COALESCE(grade.extra_credit, 0))
FROM submitted_assignment
JOIN assignment ON assignment.id = submitted_assignment.assignment_id
JOIN submitted_notebook ON submitted_notebook.assignment_id = submitted_assignment.id
JOIN grade ON grade.notebook_id = submitted_notebook.id
WHERE grade.auto_score IS NOT NULL OR grade.manual_score IS NOT NULL
GROUP BY submitted_assignment.id
"""


def grades(gradebook: Path) -> dict[tuple[str, str], tuple[float, int]]:
    """{(assignment, student): (score, parts to be marked by hand)} of what is graded."""
    if not gradebook.is_file():
        return {}
    with closing(sqlite3.connect(f"file:{gradebook}?mode=ro", 5, uri=True)) as book:
        rows = book.execute(GRADES).fetchall()
    return {(name, student): (score, by_hand or 0) for name, student, _n, by_hand, score in rows}


def read_jobs(text: str, mark: str = "|") -> list[dict[str, str]]:
    """Lines of user, job, state, start and name with ``mark`` between them. A name may hold
    anything, so it comes last; lines that a name broken in two leaves behind are left out."""
    found = []
    for line in text.splitlines():
        user, job, state, started, *name = [*line.split(mark, 4), "", "", ""]
        if job[:1].isdigit() and state:
            # "CANCELLED by 1000"
            found.append({
                "user": user, "job": job, "state": state.split(maxsplit=1)[0],
                "started": started,
                "name": "".join(name)[:60],
            })  # fmt: skip
    return found


def jobs(account: str) -> tuple[list[dict[str, str]], str]:
    """The account's jobs of the last day, or why they are not known. Those that wait are asked of
    the controller: sacct leaves out what may not start yet, as what is held or depends on others.
    """
    mark = f"<{secrets.token_hex(8)}>"  # that no job's name can hold
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() - SINCE_SECONDS))
    sacct = ["sacct", "-n", "-P", "-X", "-a", "-A", account, "-S", since, f"--delimiter={mark}",
             "--format=User,JobID,State,Start,JobName"]  # fmt: skip
    squeue = ["squeue", "-h", "-r", "-A", account, "-t", "PENDING,CONFIGURING,SUSPENDED",
              "-o", mark.join(["%u", "%i", "%T", "%S", "%j"])]  # fmt: skip
    past, trouble = asked(sacct, mark)
    waiting, silence = asked(squeue, mark)
    return [row for row in past if row["state"] not in WAITING] + waiting, trouble or silence


def asked(argv: list[str], mark: str) -> tuple[list[dict[str, str]], str]:
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=SLURM_SECONDS,
            check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], f"Slurm does not answer: {error}"
    if done.returncode:
        return [], f"Slurm does not answer: {done.stderr.strip()[:200]}"
    return read_jobs(done.stdout, mark), ""


def of_student(student: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """How many wait and run, and the newest that ended badly."""
    own = [row for row in rows if row["user"] == student]
    bad = [row for row in own if row["state"] not in GOOD]
    states: dict[str, int] = {}
    for row in bad:
        states[row["state"]] = states.get(row["state"], 0) + 1
    return {
        "waiting": sum(row["state"] in WAITING for row in own),
        "running": sum(row["state"] in ("RUNNING", "COMPLETING") for row in own),
        "done": sum(row["state"] == "COMPLETED" for row in own),
        "failed": states,
        "last_failed": bad[-1] if bad else None,
    }


class Classroom:
    """What the page shows of one course, at most ``FRESH`` seconds old."""

    def __init__(self, course: str, root: Path, students: list[str]) -> None:
        self._course, self._root, self._students = course, root, students
        self._made = float("-inf")
        self._data: dict[str, Any] = {}
        self._lock = asyncio.Lock()

    async def data(self) -> dict[str, Any]:
        async with self._lock:
            if time.monotonic() - self._made > FRESH:
                self._data = await asyncio.to_thread(self._look)
                self._made = time.monotonic()
        return self._data

    def _look(self) -> dict[str, Any]:
        troubles = []
        try:
            standing = overview(self._root / "exchange", self._students)
        except (OSError, ValueError) as error:
            standing, trouble = {}, f"the exchange folder cannot be read: {error}"
            troubles.append(trouble)
        try:
            marks = grades(self._root / "gradebook.db")
        except sqlite3.Error as error:
            marks, trouble = {}, f"the gradebook cannot be read: {error}"
            troubles.append(trouble)
        for name, assignment in standing.items():
            for student, one in assignment["students"].items():
                score = marks.get((name, student))
                one["score"] = None if score is None else score[0]
                one["by_hand"] = 0 if score is None else score[1]
        rows, trouble = jobs(self._course)
        if trouble:
            troubles.append(trouble)
        return {
            "course": self._course,
            "made": time.time(),
            "assignments": standing,
            "jobs": {student: of_student(student, rows) for student in self._students},
            "troubles": troubles,
        }


class Handler(JupyterHandler):  # type: ignore[misc]
    @property
    def classroom(self) -> Classroom:
        found: Classroom = self.settings["practicum_classroom"]
        return found


class PageHandler(Handler):
    @web.authenticated
    def get(self) -> None:
        self.set_header("Content-Security-Policy", "default-src 'self' 'unsafe-inline'")
        self.finish(PAGE)


class DataHandler(Handler):
    @web.authenticated
    async def get(self) -> None:
        self.set_header("Cache-Control", "no-store")
        self.finish(await self.classroom.data())


def load_jupyter_server_extension(server: Any) -> None:
    """Called by Jupyter's server. Course and people are those of nbgrader_config.py."""
    from nbgrader.apps.baseapp import NbGrader  # noqa: PLC0415 - slow, and needed only here

    known = NbGrader()
    known.load_config_file()
    config = known.config
    app = server.web_app
    app.settings["practicum_classroom"] = Classroom(
        str(config.CourseDirectory.course_id),
        Path(config.CourseDirectory.root),
        sorted(config.CourseExchange.students),
    )
    base = app.settings["base_url"].rstrip("/")
    app.add_handlers(".*$", [(f"{base}/class", PageHandler), (f"{base}/class/data", DataHandler)])


_load_jupyter_server_extension = load_jupyter_server_extension


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": __name__}]
