"""The exchange folder of one course on the disk: what is handed out, what came in.

All of it belongs to grader-NAME. Students' data get here as contents of regular files that are
made here, never as anything that they could have linked, so nothing here follows their links.
A submission is received in ``incoming`` and appears in ``inbound`` by one rename, whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from coursework.layout import FILES, RECEIPT, Layout
from coursework.session import overview, records
from coursework.session.records import Dates, Receipt
from coursework.session.wire import digest

MOST_SUBMISSIONS = 100  # of one assignment by one student; every one is kept
# of max_submission_mb: what a student's submissions of one assignment may hold together. Of one, so
# that who hands in often now has room for the next assignment
QUOTA_FACTOR = 10
ALWAYS = 1_000_000  # bytes that are taken beyond it: a notebook without data beside it
SPARE_BYTES = 100_000_000  # left free on the disk
# Syncs at once: the disk's journal takes those that wait together in one go (200 files of 20 KB on
# ext4: 0.03 s, and 0.8 s one after another)
SYNCS = 8


class RefusedError(Exception):
    """A sentence for the student."""


class Store:
    """One course's exchange."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._sizes: dict[Path, int] = {}  # bytes of submissions, which never change
        self._disk = ThreadPoolExecutor(SYNCS, "disk")

    def prepare(self) -> None:
        """Make the folders, and clear away what was being received when it stopped."""
        places = self.layout
        shutil.rmtree(places.incoming, ignore_errors=True)
        for folder in (
            places.outbound, places.inbound, places.given_back, places.incoming, places.ledger,
        ):  # fmt: skip
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def dates(self) -> Dates:
        """Due dates and extensions. ValueError when the file is damaged."""
        return overview.dates(self.layout.exchange)

    # --- handed out -------------------------------------------------------------------------

    def assignments(self) -> list[str]:
        """Names of those that are released."""
        return overview.released(self.layout.exchange)

    def released(self, assignment: str) -> Path:
        """Its folder. RefusedError when it is not released."""
        folder = self.layout.outbound / assignment
        if assignment not in self.assignments():
            there = ", ".join(self.assignments()) or "none yet"
            raise RefusedError(f"there is no assignment {assignment} here; there are: {there}")
        return folder

    def note_fetched(self, assignment: str, student: str) -> None:
        """For the class page. The first time counts."""
        path = self.layout.exchange / "fetched.json"
        known = read_json(path)
        if student in known.setdefault(assignment, {}):
            return
        known[assignment][student] = records.stamp(records.now())
        write_file(path, json.dumps(known, sort_keys=True, indent=1).encode() + b"\n")

    # --- handed in --------------------------------------------------------------------------

    def submissions(self, student: str, assignment: str) -> list[str]:
        """Moments of one student's submissions, the oldest first."""
        return overview.submissions(self.layout.exchange, student, assignment)

    def receipt(self, student: str, assignment: str, submitted: str) -> Receipt:
        """FileNotFoundError, or ValueError when it is damaged."""
        folder = self.layout.submission(student, assignment, submitted)
        return records.read_receipt((folder / RECEIPT).read_text(encoding="utf-8"))

    def may_submit(self, student: str, assignment: str, size: int) -> None:
        """RefusedError when the student's share, or the disk, is full."""
        if len(self.submissions(student, assignment)) >= MOST_SUBMISSIONS:
            raise RefusedError(
                f"you have handed in {assignment} {MOST_SUBMISSIONS} times, and all of them are "
                "kept: the last one counts; if another must, ask your instructor"
            )
        share = QUOTA_FACTOR * self.layout.course.max_submission_mb * 1_000_000
        if size > ALWAYS and self.used(student, assignment) + size > share:
            raise RefusedError(
                f"with this one, your submissions of {assignment} would hold more than "
                f"{share // 1_000_000} MB, and all of them are kept: leave large files out (up to "
                f"{ALWAYS // 1_000_000} MB is always taken), or ask your instructor for a larger "
                "max_submission_mb"
            )
        if shutil.disk_usage(self.layout.inbound).free < size + SPARE_BYTES:
            raise RefusedError(
                "the course's disk is full, so nothing can be handed in: tell your instructor"
            )

    def used(self, student: str, assignment: str) -> int:
        """Bytes of all submissions of an assignment by a student."""
        own = self.layout.inbound / student / assignment
        total = 0
        for folder in (own / one for one in self.submissions(student, assignment)):
            if folder not in self._sizes:
                files = (path for path in folder.rglob("*") if path.is_file())
                self._sizes[folder] = sum(path.stat().st_size for path in files)
            total += self._sizes[folder]
        return total

    def staging(self, nonce: str) -> Path:
        """A fresh folder for what is being received."""
        folder = self.layout.incoming / nonce
        (folder / FILES).mkdir(mode=0o700, parents=True)
        return folder

    def accept(self, staged: Path, receipt: Receipt) -> None:
        """Into ``inbound``, whole, on the disk. It waits for the disk, on a memory card for
        seconds: not for the loop's thread. OSError."""
        write_file(staged / RECEIPT, receipt.text().encode())
        target = self.layout.submission(receipt.student, receipt.assignment, receipt.submitted)
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _synced in self._disk.map(sync, [*staged.rglob("*"), staged]):
            pass
        staged.rename(target)
        sync(target.parent)

    def changed(self, receipt: Receipt) -> list[str]:
        """Files that are not (any more) what the receipt says."""
        folder = self.layout.submission(receipt.student, receipt.assignment, receipt.submitted)
        return [
            path
            for path, known in receipt.digests.items()
            if not (folder / FILES / path).is_file() or digest(folder / FILES / path) != known
        ]

    def overview(self) -> dict[str, Any]:
        """How the class stands: see coursework.session.overview."""
        return overview.overview(self.layout.exchange, self.layout.course.students)

    # --- given back -------------------------------------------------------------------------

    def feedback(self, student: str, assignment: str, submitted: str) -> Path | None:
        """The folder of one submission's feedback, None if there is none."""
        folder = self.layout.given_back / student / assignment / submitted
        return folder if folder.is_dir() else None


def files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """(path inside, file) of regular files below, links left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            yield path.relative_to(folder).as_posix(), path


def read_json(path: Path) -> dict[str, Any]:
    """An own file's object, {} when there is none. ValueError when it is damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged")  # noqa: TRY004
    return found


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all, mode 0600, on the disk. OSError."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor
        stream.write(data)
        stream.flush()
        os.fsync(descriptor)
    fresh.replace(path)


def sync(path: Path) -> None:
    """A file's contents, or the names in a folder, onto the disk. OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
