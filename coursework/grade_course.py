"""``grade COURSE ASSIGNMENT``: one run of grading, as the course's grader on the login node.

Called by ``practicum course grade`` and by formgrader's button, by way of coursework.act. With
``--events`` each step is a line of JSON: {"event": "begin"|"phase"|"done"|"end", ...}.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError, UsageError
from cluster.model import Cluster
from cluster.values import seconds
from coursework import snapshot
from coursework.accounting import Accounting, Window
from coursework.grade_state import Entry, Places, entries, write
from coursework.grading import Grading
from coursework.grading_role import BOOK, TASK, staging
from coursework.layout import Layout
from coursework.session import overview, progress, records
from coursework.staging import read_limits
from coursework.store import Store
from kernels import kernelspec

FOREVER = 1 << 40
NEVER: dict[str, Any] = {"running": False, "students": {}, "skipped": []}
SYSTEM = ("/home", "/root", "/tmp", "/var/tmp", "/run", "/srv", "/mnt", "/media")  # noqa: S108


def places(cluster: Cluster, layout: Layout) -> Places:
    """Grading's view of a course."""
    storage, course = cluster.storage, layout.course
    wanted = [part for part in cluster.partitions if part.name == course.partition]
    partition = next(iter(wanted or [part for part in cluster.partitions if part.default]), None)
    system = [path for path in SYSTEM if not f"{storage.shared}/".startswith(f"{path}/")]
    hide = [*system, storage.home, storage.courses, *([storage.scratch] if storage.scratch else [])]
    return Places(
        course=course.name,
        root=layout.root,
        boxes=course.boxes,
        staging=Path(staging(cluster)),
        python=layout.environment / "bin" / "python",
        program=TASK,
        book=Path(BOOK),
        config=Path(layout.config) / "nbgrader_config.py",
        jupyter_path=kernelspec.folder(cluster),
        hide=tuple(dict.fromkeys(hide)),
        partition=course.partition,
        limits=read_limits(layout.root / "grading.json"),
        max_minutes=seconds(partition.max_time) // 60 if partition else 60,
    )


class Recorded:
    """A student's accounting, asked for once their deadline is over and then kept."""

    def __init__(self, layout: Layout, assignment: str) -> None:
        self.layout, self.assignment = layout, assignment
        self.folder = layout.root / "accounting" / assignment

    def window(self, student: str) -> Window:
        """From the hand-out to the student's own deadline. PracticumError for damaged files."""
        try:
            due = Store(self.layout).dates().of(self.assignment, student)
            opened = overview.first_released(self.layout.exchange).get(self.assignment)
            opens = int(records.moment(opened).timestamp()) if opened else 0
            closes = int(records.moment(due).timestamp()) if due else FOREVER
        except (OSError, ValueError) as error:
            raise PracticumError(
                f"the dates in {self.layout.exchange} cannot be read ({error}): restore them "
                "from a backup"
            ) from None
        return Window(opens, closes)

    def __call__(self, student: str) -> Accounting:
        window = self.window(student)
        path = self.folder / f"{student}.json"
        if path.is_file():
            kept = snapshot.load(path)
            if kept.window == window:
                return kept
        try:
            pwd.getpwnam(student)
        except KeyError:  # sacct would refuse the name; who has no account has no jobs
            return Accounting(student, self.layout.account, window, int(time.time()), ())
        taken = snapshot.take(student, self.layout.account, window)
        if taken.read_at > window.closes:
            self.folder.mkdir(parents=True, exist_ok=True)
            temporary = path.with_suffix(".tmp")
            temporary.write_text(snapshot.dump(taken))
            temporary.replace(path)
        return taken


class Events:
    """Lines of JSON, and the same in the file progress for whoever looks later."""

    def __init__(self, folder: Path, *, loud: bool) -> None:
        self.folder, self.loud, self.begun = folder, loud, False
        self.progress: dict[str, Any] = {
            "running": True, "process": progress.process(os.getpid()), "students": {},
            "skipped": [],
        }  # fmt: skip

    def begin(self, students: Sequence[str], skipped: Sequence[str]) -> None:
        self.begun = True
        self.progress["students"] = dict.fromkeys(students, "to do")
        self.progress["skipped"] = list(skipped)
        self._tell({"event": "begin", "students": list(students), "skipped": list(skipped)})

    def phase(self, student: str, text: str) -> None:
        self.progress["students"][student] = text
        self._tell({"event": "phase", "student": student, "text": text})

    def done(self, entry: Entry) -> None:
        self.progress["students"][entry.student] = entry.status
        self._tell({"event": "done", **asdict(entry)})

    def end(self, error: str = "") -> None:
        self.progress |= {"running": False, "error": error}
        self._tell({"event": "end", "error": error})

    def refused(self, error: str) -> None:
        """Nothing was begun: the file is whose grading runs."""
        self._say({"event": "end", "error": error})

    def _tell(self, value: dict[str, Any]) -> None:
        self.progress["at"] = int(time.time())
        write(self.folder / "progress", self.progress)
        self._say(value)

    def _say(self, value: dict[str, Any]) -> None:
        if self.loud:
            sys.stdout.write(json.dumps({**value, "time": round(time.time(), 3)}) + "\n")
            sys.stdout.flush()


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="practicum course grade", add_help=False)
    top.add_argument("course")
    top.add_argument("assignment")
    top.add_argument("--student", action="append", default=[])
    top.add_argument("--again", action="store_true")
    top.add_argument("--status", action="store_true")
    top.add_argument("--events", action="store_true")
    return top


def grade(cluster: Cluster, layout: Layout, options: argparse.Namespace) -> int:
    """0 when all were graded, 1 when something failed for somebody."""
    if not records.ASSIGNMENT.fullmatch(options.assignment):
        raise UsageError(f"{options.assignment[:60]!r} cannot be an assignment's name")
    if options.status:
        sys.stdout.write(status(places(cluster, layout), options.assignment) + "\n")
        return 0
    folder = layout.grading / "assignments" / options.assignment
    folder.mkdir(parents=True, exist_ok=True)
    events = Events(folder, loud=options.events)
    accounting = Recorded(layout, options.assignment)
    try:
        where = places(cluster, layout)
        found = Grading(where, options.assignment, accounting, events).run(
            options.student, again=options.again
        )
    except BaseException as problem:
        if events.begun or not progress.read(folder).get("running"):
            events.end(why(problem))
        else:
            events.refused(why(problem))
        raise
    events.end()
    bad = [entry for entry in found.values() if entry.status != "graded"]
    if not options.events:
        for entry in bad:
            sys.stdout.write(f"{entry.student}: {entry.status}: {entry.reason}\n")
        sys.stdout.write(f"{len(found) - len(bad)} graded, {len(bad)} not as they should\n")
    return 1 if bad else 0


def why(problem: BaseException) -> str:
    """For whoever looks at the page."""
    if isinstance(problem, PracticumError | OSError):
        return str(problem)
    if isinstance(problem, Exception):
        return f"practicum itself failed ({type(problem).__name__}: {problem}): tell the admin"
    return progress.INTERRUPTED


def status(where: Places, assignment: str) -> str:
    """What is known of an assignment's grading, as JSON."""
    found = progress.read(where.of(assignment)) or NEVER
    known = {name: asdict(entry) for name, entry in entries(where, assignment).items()}
    at = found.get("at")
    when = datetime.fromtimestamp(at, UTC).isoformat() if at else None
    return json.dumps({"progress": found, "entries": known, "at": when})
