"""What client and spooler tell each other and keep, as values: requests, receipts, dates.

Times are text, UTC, to the microsecond and without a colon in folder names: see :func:`stamp`.
Everything read here may come from somebody hostile: ValueError says in what it is no such record.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import datetime, timezone
from typing import Any

# nbgrader's own: its gradebook keeps naive UTC and reads this form from timestamp.txt
TIMESTAMP = "%Y-%m-%d %H:%M:%S.%f UTC"
STAMP = "%Y%m%dT%H%M%S.%fZ"
STAMP_PATTERN = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")
# no "+", which separates the parts of nbgrader's own names, and no leading dot or dash
ASSIGNMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_. -]{0,63}")
STUDENT = re.compile(r"[a-z][a-z0-9_-]{0,30}")
NONCE = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
OPERATIONS = ("list", "fetch", "submit", "feedback", "check")


def now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017 - Python 3.9


def stamp(moment: datetime) -> str:
    """A moment as a folder's name; names sort as moments do."""
    return moment.strftime(STAMP)


def moment(text: str) -> datetime:
    """Of a folder's name. ValueError if it is none."""
    if not STAMP_PATTERN.fullmatch(text):
        raise ValueError(f"{text[:40]!r} is not a moment")
    return datetime.strptime(text, STAMP).replace(tzinfo=timezone.utc)  # noqa: UP017


def timestamp(text: str) -> str:
    """The same moment as nbgrader's timestamp.txt has it."""
    return moment(text).strftime(TIMESTAMP)


@dataclass(frozen=True)
class Request:
    """A credential's payload: what a student's client asks for. ``uid`` is not in it: munge says
    who asks. Of ``submit``, the body's SHA-256, bytes and files; of ``feedback`` and ``check``
    the submission's moment."""

    op: str
    course: str
    nonce: str
    assignment: str = ""
    sha256: str = ""
    size: int = 0
    files: int = 0
    submitted: str = ""

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def read_request(text: str) -> Request:
    """ValueError when it is not a request."""
    values = _object(text, Request)
    request = Request(**values)
    if request.op not in OPERATIONS:
        raise ValueError("op is none of " + ", ".join(OPERATIONS))
    if not NONCE.fullmatch(request.nonce):
        raise ValueError("nonce must be 32 hexadecimal digits")
    if request.op != "list" and not ASSIGNMENT.fullmatch(request.assignment):
        raise ValueError("assignment is not an assignment's name")
    if request.op == "submit" and not SHA256.fullmatch(request.sha256):
        raise ValueError("sha256 must be 64 hexadecimal digits")
    if request.op in ("feedback", "check") and not STAMP_PATTERN.fullmatch(request.submitted):
        raise ValueError("submitted is not a moment")
    if request.size < 0 or request.files < 0:
        raise ValueError("sizes are not negative")
    return request


@dataclass(frozen=True)
class Reply:
    """What the spooler answers, in a credential for the asker alone. A body of ``size`` bytes
    with that SHA-256 follows when there is one. ``error`` is a sentence for the student."""

    nonce: str
    error: str = ""
    size: int = 0
    sha256: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)


def read_reply(text: str) -> Reply:
    return Reply(**_object(text, Reply))


@dataclass(frozen=True)
class Receipt:
    """That a submission came in: receipt.json beside its files, and the student's copy.

    ``submitted`` is the server's moment (a stamp), ``due`` the student's own deadline then, ""
    without one. ``sha256`` is of the body as it was sent, ``digests`` of each file. ``seal`` is an
    HMAC-SHA256 by the course's key over all the rest: see coursework.ledger.
    """

    course: str
    assignment: str
    student: str
    uid: int
    submitted: str
    sha256: str
    size: int
    digests: Mapping[str, str]
    number: int  # the student's n-th of this assignment
    due: str = ""
    late_seconds: int = 0
    seal: str = ""

    def sealed_text(self) -> str:
        """What the seal is over: canonical JSON of all but the seal."""
        values = asdict(self)
        del values["seal"]
        return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"


def read_receipt(text: str) -> Receipt:
    """ValueError when it is not one; whether it is genuine only the seal tells."""
    receipt = Receipt(**_object(text, Receipt))
    if not STAMP_PATTERN.fullmatch(receipt.submitted) or not STUDENT.fullmatch(receipt.student):
        raise ValueError("the receipt has no moment or no student")
    if not ASSIGNMENT.fullmatch(receipt.assignment):
        raise ValueError("the receipt has no assignment")
    return receipt


@dataclass(frozen=True)
class Dates:
    """dates.json of a course: {assignment: due}, and extensions {assignment: {student: due}}.
    Stamps, UTC. An extension counts even if it is earlier than the common date."""

    due: Mapping[str, str] = field(default_factory=dict)
    extensions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, assignment: str, student: str) -> str:
        """The student's own deadline, "" when there is none."""
        own = self.extensions.get(assignment, {}).get(student)
        return own if own is not None else self.due.get(assignment, "")

    def text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True, indent=1) + "\n"


def read_dates(text: str) -> Dates:
    return Dates(**_object(text, Dates))


def late_seconds(submitted: str, due: str) -> int:
    """How many seconds after its deadline, 0 when in time or without one."""
    if not due:
        return 0
    late = (moment(submitted) - moment(due)).total_seconds()
    return max(0, int(-(-late // 1)))


def _object(text: str, kind: Any) -> dict[str, Any]:
    """JSON's object with exactly the fields of ``kind`` (those with defaults may be missing)."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - a value to whoever asks
    known = {item.name: item for item in fields(kind)}
    for key, value in data.items():
        if key not in known:
            raise ValueError(f"no field is called {key[:40]!r}")
        if type(value) is not {"str": str, "int": int}.get(str(known[key].type), dict):
            raise ValueError(f"{key} has the wrong type")
    for name, item in known.items():
        if name not in data and item.default is MISSING and item.default_factory is MISSING:
            raise ValueError(f"{name} is missing")
    return data
