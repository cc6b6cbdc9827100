"""Submissions handed to a grading account, and what it hands back: files in a folder of its own.

Each slot has a folder that is grader-NAME's, with the slot's group: its account reads there what
it is to run now, and no other's. A chunk is a folder in it, see coursework/files/grade_task.py.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import UsageError
from coursework.merging import MAX_RESULT

MOST = 10  # in a chunk: a job that dies takes few with it, and a slot gives way now and then


@dataclass(frozen=True)
class Limits:
    """Of one submission, in seconds, megabytes and processes."""

    cell_seconds: int = 60
    notebook_seconds: int = 600
    start_seconds: int = 90
    memory_mb: int = 512
    file_mb: int = 100
    processes: int = 128
    no_network: bool = True


# What a course's grading.json may set, and how far
RANGES = {
    "cell_seconds": (1, 86_400),
    "notebook_seconds": (1, 86_400),
    "memory_mb": (64, 1_000_000),
    "file_mb": (1, 100_000),
    "processes": (8, 10_000),
}


def read_limits(path: Path) -> Limits:
    """The course's own limits, the usual ones where it says nothing. UsageError for nonsense."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Limits()
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UsageError(f'{path} must be like {{"cell_seconds": 60}}')
    for key, value in values.items():
        if key not in RANGES:
            raise UsageError(f"{path}: {key} is unknown: there are {', '.join(RANGES)}")
        least, most = RANGES[key]
        if type(value) is not int or not least <= value <= most:
            raise UsageError(f"{path}: {key} must be a whole number from {least} to {most}")
    return Limits(**values)


@dataclass(frozen=True)
class Chunk:
    """What one task of a slot's array runs, one student after the other."""

    folder: Path
    students: tuple[str, ...]

    def out(self, student: str, kind: str) -> Path:
        return self.folder / "out" / f"{student}.{kind}"


def waves(students: Sequence[str], slots: int) -> Iterator[list[str]]:
    """Two students for each slot at first, then twice as many each time, up to MOST."""
    at, each = 0, 2
    while at < len(students):
        yield list(students[at : at + each * slots])
        at, each = at + each * slots, min(2 * each, MOST)


def share_out(students: Sequence[str], slots: int, most: int) -> list[list[list[str]]]:
    """For each slot its chunks, of at most ``most``. Students go round the slots, so no slot has
    more than one above another."""
    found = []
    for slot in range(slots):
        mine = list(students[slot::slots])
        found.append([mine[at : at + most] for at in range(0, len(mine), most)])
    return found


@contextmanager
def _umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def make(
    folder: Path, students: Mapping[str, Path], notebooks: Sequence[str], task: Mapping[str, Any]
) -> Chunk:
    """Write a chunk: ``students`` are folders of what to run. The group comes from the slot's
    folder (set-group-id), so nothing needs to be given to anybody."""
    with _umask(0o027):
        folder.mkdir()
        (folder / "in").mkdir()
        for student, source in students.items():
            copy_in(source, folder / "in" / student)
        with _umask(0o007):
            (folder / "out").mkdir()
        about = {**task, "students": list(students), "notebooks": list(notebooks)}
        temporary = folder / "task.tmp"
        temporary.write_text(json.dumps(about))
        temporary.replace(folder / "task.json")
    return Chunk(folder, tuple(students))


def copy_in(source: Path, target: Path) -> None:
    """Regular files and folders only; modes are the umask's."""
    target.mkdir()
    for entry in sorted(os.scandir(source), key=lambda one: one.name):
        if entry.is_dir(follow_symlinks=False):
            copy_in(Path(entry.path), target / entry.name)
        elif entry.is_file(follow_symlinks=False):
            shutil.copyfile(entry.path, target / entry.name, follow_symlinks=False)


def read_out(path: Path, limit: int = MAX_RESULT) -> bytes | None:
    """A file that the slot's account wrote; None if it is not there (yet).

    ValueError for what is no ordinary file of a sensible size: links are not followed.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path.name} is no ordinary file ({error.strerror})") from None
    about = os.fstat(handle)
    if stat.S_ISDIR(about.st_mode):
        os.close(handle)
        raise ValueError(f"{path.name} is no ordinary file")
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(about.st_mode) or about.st_nlink != 1:
            raise ValueError(f"{path.name} is no ordinary file")
        if about.st_size > limit:
            raise ValueError(f"{path.name} has {about.st_size >> 20} MB")
        return file.read(limit + 1)[:limit]


def clear(folders: Iterable[Path]) -> None:
    """All chunks of these slots."""
    for folder in folders:
        for left in folder.glob("*"):
            shutil.rmtree(left, ignore_errors=True)


def remove(chunk: Chunk) -> None:
    """What is the slot's own in it (its log) lies in a folder of ours, so it goes, too."""
    shutil.rmtree(chunk.folder, ignore_errors=True)
