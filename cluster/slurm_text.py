"""The words that Slurm's commands share: rows, times, lengths of time, states, amounts."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from enum import StrEnum

from cluster.hostlist import expand


class JobState(StrEnum):
    """Job states, squeue(1) and sacct(1) "JOB STATE CODES" of 22.05 to 25.05."""

    BOOT_FAIL = "BOOT_FAIL"
    CANCELLED = "CANCELLED"
    COMPLETED = "COMPLETED"
    COMPLETING = "COMPLETING"
    CONFIGURING = "CONFIGURING"
    DEADLINE = "DEADLINE"
    EXPEDITING = "EXPEDITING"
    FAILED = "FAILED"
    LAUNCH_FAILED = "LAUNCH_FAILED"
    NODE_FAIL = "NODE_FAIL"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    PENDING = "PENDING"
    POWER_UP_NODE = "POWER_UP_NODE"
    PREEMPTED = "PREEMPTED"
    RECONFIG_FAIL = "RECONFIG_FAIL"
    REQUEUED = "REQUEUED"
    REQUEUE_FED = "REQUEUE_FED"
    REQUEUE_HOLD = "REQUEUE_HOLD"
    RESIZING = "RESIZING"
    RESV_DEL_HOLD = "RESV_DEL_HOLD"
    REVOKED = "REVOKED"
    RUNNING = "RUNNING"
    SIGNALING = "SIGNALING"
    SPECIAL_EXIT = "SPECIAL_EXIT"
    STAGE_OUT = "STAGE_OUT"
    STOPPED = "STOPPED"
    SUSPENDED = "SUSPENDED"
    TIMEOUT = "TIMEOUT"
    UPDATE_DB = "UPDATE_DB"

    @property
    def waiting(self) -> bool:
        """Not on a node yet, but it will or may be."""
        return self in _WAITING

    @property
    def over(self) -> bool:
        """It will never run (again); COMPLETING is over, its last processes are being ended."""
        return self in _OVER


_WAITING = frozenset(
    JobState[name]
    for name in [
        "PENDING",
        "CONFIGURING",
        "EXPEDITING",
        "POWER_UP_NODE",
        "REQUEUED",
        "REQUEUE_FED",
        "REQUEUE_HOLD",
        "RESV_DEL_HOLD",
        "SPECIAL_EXIT",
    ]
)
_OVER = frozenset(
    JobState[name]
    for name in [
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "COMPLETING",
        "DEADLINE",
        "FAILED",
        "LAUNCH_FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "RECONFIG_FAIL",
        "REVOKED",
        "STAGE_OUT",
        "TIMEOUT",
        "UPDATE_DB",
    ]
)


def new_separator() -> str:
    """What no job can hold: unguessable, and no character that Slurm's formats know."""
    return f"\x1f{secrets.token_hex(8)}\x1f"


def records(text: str, separator: str, size: int) -> Iterator[list[str]]:
    """Rows of ``size`` fields, each field followed by the separator, each row by a newline.

    ValueError when the text ends inside a row or a row has another number of fields.
    """
    *pieces, rest = text.split(separator)
    if len(pieces) % size or (pieces and rest != "\n") or (not pieces and rest.strip()):
        raise ValueError(f"cut or malformed output near {text[-60:]!r}")
    for start in range(0, len(pieces), size):
        row = pieces[start : start + size]
        if start:
            if not row[0].startswith("\n"):
                raise ValueError(f"no line end before {row[0]!r}")
            row[0] = row[0][1:]
        yield row


def job_state(text: str) -> JobState:
    """ValueError names a state that no Slurm we know has."""
    try:
        return JobState(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a job state") from None


def host_names(text: str) -> tuple[str, ...]:
    """A node list; empty, ``(null)`` and ``None assigned`` stand for none."""
    if text in ("", "(null)", "None assigned", "None", "n/a"):
        return ()
    return tuple(expand(text))


def moment(text: str) -> int | None:
    """A time printed with SLURM_TIME_FORMAT=%s: seconds since 1970, None if not known."""
    if text in ("", "N/A", "Unknown", "None", "NONE"):
        return None
    return whole(text)


def duration(text: str) -> int | None:
    """A length of time as Slurm prints it, [D-][[HH:]MM:]SS[.mmm], in seconds."""
    if text in ("", "UNLIMITED", "NOT_SET", "INVALID", "Partition_Limit", "N/A"):
        return None
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)(?:\.\d+)?", text)
    if not match:
        raise ValueError(f"{text!r} is not a length of time")
    days, hours, minutes, secs = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + secs


def size_bytes(text: str) -> int:
    """``1.50G``, ``12345K`` or ``678``, in bytes (sacct counts in 1024s)."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGTP]?)", text)
    if not match:
        raise ValueError(f"{text!r} is not an amount of memory")
    factor: int = 1024 ** " KMGTP".index(match[2] or " ")
    return round(float(match[1]) * factor)


def whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def exit_code(text: str) -> tuple[int, int]:
    """``0:15`` → (exit code, signal)."""
    code, colon, signal = text.partition(":")
    if not colon:
        raise ValueError(f"{text!r} is not an exit code like 0:15")
    return whole(code), whole(signal)


def present(text: str) -> str:
    return "" if text == "(null)" else text
