"""What jobs used, as sacct tells it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from cluster.slurm import ENVIRONMENT, Query
from cluster.slurm_text import (
    JobState,
    duration,
    exit_code,
    host_names,
    job_state,
    moment,
    new_separator,
    records,
    size_bytes,
    whole,
)


@dataclass(frozen=True)
class Record:
    """A row of sacct: a job, or with ``step`` set one of its steps (batch, extern, 0, 1...).

    Times are seconds since 1970, durations seconds, memory bytes.
    """

    job_id: int
    step: str
    name: str
    user: str
    account: str
    partition: str
    state: JobState
    cancelled_by: int | None  # uid
    exit_code: int
    signal: int
    submitted: int | None
    started: int | None
    ended: int | None
    elapsed: int
    cpu_time: int | None  # used by the processes, user + system
    cpus: int
    nodes: tuple[str, ...]
    max_rss: int | None
    time_limit: int | None
    comment: str


_SACCT = [
    "JobIDRaw",
    "JobName",
    "User",
    "Account",
    "Partition",
    "State",
    "ExitCode",
    "Submit",
    "Start",
    "End",
    "ElapsedRaw",
    "TotalCPU",
    "AllocCPUS",
    "NodeList",
    "MaxRSS",
    "TimelimitRaw",
    "Comment",
]


def sacct_query(
    *, job_ids: Collection[int] = (), user: str = "", name: str = "", since: str = "",
    steps: bool = False,
) -> Query[Record]:  # fmt: skip
    """Accounting of jobs (and with ``steps`` of their steps). ``since`` as sacct reads it
    (``now-1days``); left out, sacct starts at midnight, or anywhere when ids are given."""
    separator = new_separator()
    argv = ["sacct", "--noheader", "--parsable", "--allusers", "--duplicates"]
    argv += [f"--delimiter={separator}", "--format=" + ",".join(_SACCT)]
    if not steps:
        argv.append("--allocations")
    if job_ids:
        argv.append("--jobs=" + ",".join(str(job_id) for job_id in sorted(job_ids)))
    if user:
        argv.append(f"--user={user}")
    if name:
        argv.append(f"--name={name}")
    if since:
        argv.append(f"--starttime={since}")
    return Query(tuple(argv), dict(ENVIRONMENT), lambda text: read_sacct(text, separator))


def read_sacct(text: str, separator: str) -> tuple[Record, ...]:
    """sacct's output as records. ValueError when it is cut or strange."""
    return tuple(_record(row) for row in records(text, separator, len(_SACCT)))


def _record(row: list[str]) -> Record:
    (
        raw_id, name, user, account, partition, state, code, submitted, started, ended, elapsed,
        cpu_time, cpus, nodes, max_rss, limit, comment,
    ) = row  # fmt: skip
    job_id, _, step = raw_id.partition(".")
    word, _, by = state.partition(" by ")
    ended_with, signal = exit_code(code)
    return Record(
        job_id=whole(job_id),
        step=step,
        name=name,
        user=user,
        account=account,
        partition=partition,
        state=job_state(word),
        cancelled_by=whole(by) if by else None,
        exit_code=ended_with,
        signal=signal,
        submitted=moment(submitted),
        started=moment(started),
        ended=moment(ended),
        elapsed=whole(elapsed),
        cpu_time=duration(cpu_time) if cpu_time else None,
        cpus=whole(cpus),
        nodes=host_names(nodes),
        max_rss=size_bytes(max_rss) if max_rss else None,
        time_limit=int(limit) * 60 if limit.isdecimal() else None,
        comment=comment,
    )
