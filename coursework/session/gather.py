"""What of an assignment's folder is handed in: regular files, within the course's limits."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .wire import CHUNK, END, WireError, check_path, header

# nbgrader's CourseDirectory.ignore, and what the server itself writes
IGNORED = (".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "receipts")
OWN = ("timestamp.txt", "receipt.json")  # in the first folder only


@dataclass
class Bundle:
    """A body ready to be sent. ``left_out``: sentences about what is not in it."""

    stream: IO[bytes]
    sha256: str
    size: int
    digests: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def gather(folder: Path, *, max_bytes: int, max_files: int) -> Bundle:
    """The folder as a body, in a temporary file of this node. WireError says what is too much,
    or cannot be read; links and devices are left out and told."""
    left_out: list[str] = []
    found = []
    total = 0
    for path, size in _walk(folder, "", left_out):
        found.append(path)
        total += size
        if len(found) > max_files:
            raise WireError(
                f"{folder.name} holds more than {max_files} files: move away what does not belong "
                "to the assignment, and submit again"
            )
        if total > max_bytes:
            raise WireError(
                f"{folder.name} holds more than {max_bytes // 1_000_000} MB ({path} is one of the "
                "files): move away what does not belong to the assignment, and submit again"
            )
    if not found:
        raise WireError(f"there is nothing to hand in in {folder}")
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    bundle = Bundle(stream, "", 0, {}, left_out)
    body = hashlib.sha256()
    for path in found:
        _add(folder, path, bundle, body, max_bytes)
    stream.write(END)
    body.update(END)
    bundle.sha256, bundle.size = body.hexdigest(), stream.tell()
    stream.seek(0)
    return bundle


def _walk(folder: Path, inside: str, left_out: list[str]) -> Iterator[tuple[str, int]]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise WireError(f"{folder} cannot be read: {error.strerror}") from None
    for entry in entries:
        path = f"{inside}{entry.name}"
        if any(fnmatch.fnmatch(entry.name, pattern) for pattern in IGNORED) or path in OWN:
            continue
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode):
            yield from _walk(Path(entry.path), f"{path}/", left_out)
        elif stat.S_ISREG(mode):
            try:
                check_path(os.fsencode(path))
            except ValueError as error:
                raise WireError(f"{error}: rename it, and submit again") from None
            yield path, entry.stat(follow_symlinks=False).st_size
        else:
            kind = "a link" if stat.S_ISLNK(mode) else "no regular file"
            left_out.append(f"{path} is {kind} and was left out")


def _add(folder: Path, path: str, bundle: Bundle, body: hashlib._Hash, max_bytes: int) -> None:
    """One file, as it is when it is opened: it may have been changed since it was counted."""
    try:
        # never waits for a pipe, never follows a link that was put there since
        descriptor = os.open(folder / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise WireError(
            f"{path} cannot be read ({error.strerror}): make it readable or move it away, and "
            "submit again"
        ) from None
    with open(descriptor, "rb") as source:  # noqa: PTH123 - a descriptor
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode) or bundle.stream.tell() + state.st_size > 2 * max_bytes:
            raise WireError(f"{path} changed while it was read: submit again")
        start = header(path, state.st_size)
        bundle.stream.write(start)
        body.update(start)
        own, left = hashlib.sha256(), state.st_size
        while left:
            part = source.read(min(left, CHUNK))
            if not part:
                raise WireError(f"{path} changed while it was read: submit again")
            for each in (own, body):
                each.update(part)
            bundle.stream.write(part)
            left -= len(part)
    bundle.digests[path] = own.hexdigest()
