"""What Slurm says, read into frozen rows: squeue here, sinfo and sacct in their own modules.

Each ``*_query`` gives a :class:`Query`: the argument list, the environment and the pure function
that reads the output, so that a caller may run it as it likes (the hub with asyncio, the
commands with :func:`run`). Works for Slurm 22.05 to 24.11: explicit formats, since ``--json``
differs from version to version.

Job names and comments belong to users and may hold anything, newlines included. So every query
takes a fresh, unguessable separator, and a job cannot forge a row of another.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from cluster.errors import PracticumError
from cluster.slurm_text import (
    JobState,
    duration,
    host_names,
    job_state,
    moment,
    new_separator,
    present,
    records,
    whole,
)

T = TypeVar("T")
# Times as seconds since 1970 (slurm_make_time_str passes this to strftime); nothing else of the
# caller's environment, which could change formats (SQUEUE_FORMAT) or carry secrets.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LC_ALL": "C.UTF-8",
    "SLURM_TIME_FORMAT": "%s",
    "SLURM_BITSTR_LEN": "0",
}


class SlurmError(PracticumError):
    """A Slurm command failed, did not answer in time, or answered something unreadable."""


@dataclass(frozen=True)
class Query(Generic[T]):
    """A question to Slurm: run ``argv`` with ``env``, give its stdout to ``read``.

    ``read`` raises ValueError when the output is cut or not in the form asked for.
    """

    argv: tuple[str, ...]
    env: dict[str, str]
    read: Callable[[str], tuple[T, ...]]


@dataclass(frozen=True)
class Job:
    """A row of squeue. Times are seconds since 1970, durations seconds; None = not known or
    unlimited."""

    job_id: int
    name: str
    user: str
    uid: int
    account: str
    state: JobState
    reason: str  # "None" while running; Slurm's word, such as Resources or Priority
    partition: str
    nodes: tuple[str, ...]
    cpus: int
    priority: int
    submitted: int | None
    started: int | None  # expected start while it waits
    elapsed: int | None
    time_limit: int | None
    comment: str


# In the order of the names in read_squeue.
_SQUEUE = ["A", "j", "u", "U", "a", "T", "r", "P", "N", "C", "Q", "V", "S", "M", "l", "k"]


def squeue_query(*, name: str = "", user: str = "", job_ids: Collection[int] = ()) -> Query[Job]:
    """Jobs in the queue, all users' (unless narrowed by job name, user or ids).

    A job that has ended stays for Slurm's MinJobAge (300 s). An id that Slurm no longer knows
    makes squeue itself fail when it is the only one asked for ("Invalid job id").
    """
    separator = new_separator()
    argv = ["squeue", "--noheader", "--array", "--states=all"]
    argv.append("--format=" + "".join(f"%{letter}{separator}" for letter in _SQUEUE))
    if name:
        argv.append(f"--name={name}")
    if user:
        argv.append(f"--user={user}")
    if job_ids:
        argv.append("--jobs=" + ",".join(str(job_id) for job_id in sorted(job_ids)))
    return Query(tuple(argv), dict(ENVIRONMENT), lambda text: read_squeue(text, separator))


def read_squeue(text: str, separator: str) -> tuple[Job, ...]:
    """squeue's output as jobs. ValueError when it is cut or strange."""
    return tuple(
        Job(
            job_id=whole(job_id),
            name=name,
            user=user,
            uid=whole(uid),
            account=present(account),
            state=job_state(state),
            reason=reason,
            partition=partition,
            nodes=host_names(nodes),
            cpus=whole(cpus),
            priority=whole(priority),
            submitted=moment(submitted),
            started=moment(started),
            elapsed=duration(elapsed),
            time_limit=duration(limit),
            comment=present(comment),
        )
        for (
            job_id, name, user, uid, account, state, reason, partition,
            nodes, cpus, priority, submitted, started, elapsed, limit, comment,
        ) in records(text, separator, len(_SQUEUE))
    )  # fmt: skip


def run(query: Query[T], *, timeout: float = 20) -> tuple[T, ...]:
    """Run a query here, at most ``timeout`` seconds. SlurmError says what went wrong."""
    program = query.argv[0]
    try:
        done = subprocess.run(
            query.argv,
            env=query.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise SlurmError(f"{program} is not installed here: run this on a Slurm node") from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"{program} did not answer within {timeout:g} s: is slurmctld running?"
        ) from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise SlurmError(f"{program} failed: {said[-1] if said else f'exit {done.returncode}'}")
    try:
        return query.read(done.stdout.decode(errors="replace"))
    except ValueError as error:
        raise SlurmError(f"{program} gave an answer that cannot be read: {error}") from error
