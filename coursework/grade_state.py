"""What is known of a course's grading, on disk: which folders, how far each student is, and the
lock that lets one process at it. See :mod:`coursework.grading` for the files.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from cluster.errors import PracticumError
from coursework.staging import Limits


@dataclass(frozen=True)
class Places:
    """All that grading needs to know of a course and its cluster."""

    course: str
    root: Path  # the course folder
    boxes: tuple[str, ...]  # accounts, one for each submission that runs at a time
    staging: Path  # has a folder for each box
    python: Path  # of nbgrader's environment, on every node
    program: str  # grade_task.py on every node
    book: Path  # grade_book.py here
    config: Path  # nbgrader_config.py
    jupyter_path: str
    hide: tuple[str, ...]
    partition: str = ""
    max_minutes: int = 60
    limits: Limits = field(default_factory=Limits)

    @property
    def state(self) -> Path:
        return self.root / "grading"

    def of(self, assignment: str) -> Path:
        """What is known of an assignment, which may be called as it likes."""
        return self.state / "assignments" / assignment


@dataclass(frozen=True)
class Entry:
    """How far one student is. ``status``: graded; failed (and graded as what it is); waiting
    (nothing in the gradebook, to be graded again)."""

    student: str
    digest: str
    status: str
    reason: str = ""
    score: float | None = None
    max_score: float | None = None
    manual: bool = False
    at: int = 0


class BusyError(PracticumError):
    """Somebody else grades this course now."""


@contextmanager
def alone(path: Path, what: str) -> Iterator[IO[str]]:
    """BusyError when another process is at it, or what it started with this file as an output."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:  # what is in it belongs to whoever holds it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{what} is being graded already: wait until it is done") from None
        yield file


def write(path: Path, value: Any) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def entries(places: Places, assignment: str) -> dict[str, Entry]:
    """What is known of each student; damaged files count as not there."""
    found = {}
    for path in sorted(places.of(assignment).glob("*.json")):
        try:
            entry = Entry(**json.loads(path.read_text()))
        except (ValueError, TypeError):
            continue
        found[entry.student] = entry
    return found


def digest(*folders: Path, terms: str = "") -> str:
    """Of all files below, with their names, and of what else a grade rests on."""
    total = hashlib.sha256(f"{terms}\0".encode())
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink():
                total.update(f"{path.relative_to(folder)}\0{path.stat().st_size}\0".encode())
                total.update(path.read_bytes())
        total.update(b"\1")
    return total.hexdigest()


def handed_in(folder: Path, limit: int = 4 * 1024 * 1024) -> dict[str, bytes]:
    """Files beside the notebooks, up to ``limit`` bytes each."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.is_symlink()
        and path.suffix != ".ipynb"
        and path.stat().st_size <= limit
    }
