"""A student's side of hand-out and hand-in: asks the course's spooler, writes into the home.

Nothing here is trusted by the server. It trusts what munge says of the server: an answer counts
only if the course's grader made it, for this student, to this question.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from . import records
from .gather import Bundle, gather
from .records import Reply, Request
from .wire import CHUNK, LONGEST_LINE, Munge, WireError, digest, read_body, unpack

COURSES = "/etc/practicum/session-courses.json"
SECONDS = 120  # for one answer; a class that hands in at once waits in line


@dataclass(frozen=True)
class Place:
    """A course as sessions know it (an entry of COURSES)."""

    name: str
    title: str
    address: str
    port: int
    grader: int  # its uid
    group: str
    max_bytes: int
    max_files: int


def places(path: str = COURSES) -> tuple[Place, ...]:
    """All courses. WireError when the file is damaged."""
    try:
        entries = json.loads(Path(path).read_text(encoding="utf-8"))
        return tuple(Place(**entry) for entry in entries)
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, TypeError) as error:
        raise WireError(f"{path} cannot be read: {error}") from None


def own_places(path: str = COURSES) -> tuple[Place, ...]:
    """Those of this person: whose group they are in by now. The groups of the process are those of
    its start, and Slurm's are older still (GroupUpdateTime)."""
    account = pwd.getpwuid(os.getuid())
    mine = set()
    for gid in os.getgrouplist(account.pw_name, account.pw_gid):
        try:
            mine.add(grp.getgrgid(gid).gr_name)
        except KeyError:
            continue
    return tuple(place for place in places(path) if place.group in mine)


@dataclass
class Submitted:
    """What became of a submission."""

    receipt: records.Receipt
    left_out: list[str] = field(default_factory=list)


@dataclass
class Client:
    """One course. ``home``: where the course's folder is (the person's home)."""

    place: Place
    home: Path
    munge: Munge = field(default_factory=Munge)
    seconds: float = SECONDS

    def folder(self, assignment: str) -> Path:
        """~/COURSE/ASSIGNMENT. WireError when that is no assignment's name."""
        if not records.ASSIGNMENT.fullmatch(assignment):
            raise WireError(f"{assignment[:60]!r} is not an assignment's name")
        return self.home / self.place.name / assignment

    def list(self) -> dict[str, Any]:
        """{"assignments": [...], "submissions": [...]}: see coursework.spooler."""
        with self._ask(self._request("list")) as (reply, stream):
            for _path, data in read_body(stream, reply.size, reply.sha256):
                listed = json.loads(data)
                if isinstance(listed, dict):
                    return listed
        raise WireError("the server's list is empty: tell your instructor")

    def fetch(self, assignment: str, *, missing: bool = False) -> Path:
        """The assignment's files, in a new folder; with ``missing`` those that are not there.
        Never over a file that is."""
        target = self.folder(assignment)
        if target.exists() and not missing:
            raise WireError(
                f"you have {target} already: move it away for a fresh copy, or fetch what is "
                "missing in it"
            )
        request = self._request("fetch", assignment=assignment)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as made:
            fresh = Path(made) / assignment
            fresh.mkdir()
            with self._ask(request) as (reply, stream):
                unpack(stream, reply.size, reply.sha256, fresh)
            if target.exists():
                _fill(fresh, target)
            else:
                fresh.rename(target)
        return target

    def submit(self, assignment: str) -> Submitted:
        """Hand in the folder as it is now. The receipt is kept beside the files."""
        folder = self.folder(assignment)
        if not folder.is_dir():
            raise WireError(f"there is no {folder}: fetch the assignment first")
        limits = self.place
        bundle = gather(folder, max_bytes=limits.max_bytes, max_files=limits.max_files)
        with bundle.stream:
            receipt = self._send(assignment, bundle)
        kept = folder / "receipts"
        kept.mkdir(exist_ok=True)
        (kept / f"{receipt.submitted}.json").write_text(receipt.text(), encoding="utf-8")
        return Submitted(receipt, bundle.left_out)

    def _send(self, assignment: str, bundle: Bundle) -> records.Receipt:
        request = self._request(
            "submit", assignment=assignment, sha256=bundle.sha256, size=bundle.size,
            files=len(bundle.digests),
        )  # fmt: skip
        with self._ask(request) as (_go, stream):
            while part := bundle.stream.read(CHUNK):
                stream.write(part)
            stream.flush()
            answer = self._answer(stream, request)
        try:
            receipt = records.read_receipt(json.dumps(answer.data.get("receipt")))
        except ValueError as error:
            raise WireError(f"the server's receipt is none: {error}") from None
        if (receipt.sha256, dict(receipt.digests)) != (bundle.sha256, bundle.digests):
            raise WireError("the receipt is for other files than were sent: tell your instructor")
        return receipt

    def feedback(self, assignment: str, submitted: str) -> Path:
        """What came back for one submission, into ASSIGNMENT/feedback/ as nbgrader has it."""
        request = self._request("feedback", assignment=assignment, submitted=submitted)
        target = self.folder(assignment) / "feedback" / records.timestamp(submitted)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".feedback-") as made:
            fresh = Path(made) / "new"
            fresh.mkdir()
            with self._ask(request) as (reply, stream):
                unpack(stream, reply.size, reply.sha256, fresh)
            if target.is_dir():
                shutil.rmtree(target)
            fresh.rename(target)
        return target

    def check(self, receipt: records.Receipt) -> bool:
        """Whether the server stands by this receipt."""
        request = self._request("check", assignment=receipt.assignment, submitted=receipt.submitted)
        with self._ask(request) as (reply, _stream):
            return reply.data.get("seal") == receipt.seal

    def _request(self, op: str, **more: Any) -> Request:
        return Request(op=op, course=self.place.name, nonce=secrets.token_hex(16), **more)

    @contextmanager
    def _ask(self, request: Request) -> Iterator[tuple[Reply, IO[bytes]]]:
        """The server's answer, and the connection."""
        address = (self.place.address, self.place.port)
        # made before: the spooler waits but a moment for the first line
        credential = self.munge.close(request.text(), self.place.grader)
        try:
            with socket.create_connection(address, self.seconds) as link:
                link.settimeout(self.seconds)
                with cast("IO[bytes]", link.makefile("rwb")) as stream:
                    stream.write(credential.encode() + b"\n")
                    stream.flush()
                    yield self._answer(stream, request), stream
        except TimeoutError:
            raise WireError(
                f"the course {self.place.name} did not answer within {self.seconds:g} s: "
                "try again in a minute"
            ) from None
        except OSError as error:
            raise WireError(
                f"the course {self.place.name} cannot be reached or your files not written "
                f"({error.strerror or error}): try again in a minute"
            ) from None

    def _answer(self, stream: IO[bytes], request: Request) -> Reply:
        line = stream.readline(LONGEST_LINE).decode(errors="replace").strip()
        if not line.startswith("MUNGE:"):
            said = line.removeprefix("ERROR ")[:300] or "it closed the connection"
            raise WireError(f"the course {self.place.name} did not take the request: {said}")
        try:
            reply = records.read_reply(self.munge.open(line, self.place.grader))
        except ValueError as error:
            raise WireError(f"the server's answer cannot be read: {error}") from None
        if reply.nonce != request.nonce:
            raise WireError("the server's answer is to another question: try again")
        if reply.error:
            raise WireError(reply.error)
        return reply


def _fill(fresh: Path, target: Path) -> None:
    """Files that are not in ``target`` yet."""
    for source in sorted(fresh.rglob("*")):
        if source.is_file():
            place = target / source.relative_to(fresh)
            if not os.path.lexists(place):
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, place)


def changed_since(folder: Path, receipt: records.Receipt) -> list[str]:
    """Files that are other now than those that were handed in."""
    return [
        path
        for path, known in receipt.digests.items()
        if not (folder / path).is_file() or digest(folder / path) != known
    ]
