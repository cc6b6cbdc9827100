"""One look at the queue for all sessions: a single squeue, however many are asking.

Whoever wants to know about a job says how old the answer may be; one squeue runs at a time and
everybody who asks meanwhile gets its answer. While something starts, answers may be 2 s old,
else 15 s.

An error is *unknown*, never *gone*. A job is gone when Slurm says that it is over, or when a
query that began after its submission succeeds without it and accounting confirms. When
accounting cannot be asked, two such queries in a row have to miss it; when accounting
contradicts (the controller may have lost its memory), five. While a job's last processes are ended
(COMPLETING) the queue says neither why nor whether it comes back; accounting is given two queries.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, Protocol

from cluster.sacct import Record, sacct_query
from cluster.slurm import Job, Query, SlurmError, squeue_query
from cluster.slurm_text import JobState
from spawners import commands

STARTING = 2.0  # seconds: how old an answer may be while something starts
IDLE = 15.0
MISSES_UNCONFIRMED = 2
MISSES_CONTRADICTED = 5
# Two queries begin at least this far apart, however often news makes someone look again.
GAP = 0.2


class Kind(Enum):
    """What a job's state means for its session."""

    UNKNOWN = "unknown"
    WAITING = "waiting"
    RUNNING = "running"
    PAUSED = "paused"  # suspended or stopped: still ours, and may go on
    GONE = "gone"


def kind_of(state: JobState) -> Kind:
    """Every state of :class:`cluster.slurm.JobState`, on purpose."""
    if state.over:
        return Kind.GONE
    if state.waiting:
        return Kind.WAITING
    if state in (JobState.SUSPENDED, JobState.STOPPED):
        return Kind.PAUSED
    return Kind.RUNNING  # RUNNING, RESIZING, SIGNALING


@dataclass(frozen=True)
class Crowd:
    """What goes on in a partition. ``first_end``: when the first of its running jobs has to end,
    seconds since 1970, None when none runs or none has a limit."""

    running: int = 0
    cpus: int = 0  # of the running jobs
    waiting: int = 0
    first_end: int | None = None


@dataclass(frozen=True)
class View:
    """What is known of one job. ``place``: its place among the waiting jobs of its partition,
    from 1. ``record`` is accounting's, looked up when the job is gone."""

    kind: Kind
    job: Job | None = None
    place: int | None = None
    record: Record | None = None
    state: JobState | None = None
    error: str = ""
    crowd: Crowd = Crowd()  # of its partition

    @property
    def ends(self) -> int | None:
        """When its time is up, seconds since 1970; None if not known or unlimited."""
        if self.job is None or self.kind is not Kind.RUNNING:
            return None
        return end_of(self.job)

    @property
    def node(self) -> str:
        """The node that it runs on; "" if not known."""
        return self.job.nodes[0] if self.job and self.job.nodes else ""


@dataclass(frozen=True)
class Look:
    """One query's answer. ``began`` on the monotonic clock; ``number`` counts successes."""

    began: float
    jobs: dict[int, Job] | None
    number: int
    error: str = ""
    crowds: dict[str, Crowd] = field(default_factory=dict)  # by partition


class Ask(Protocol):
    """Puts a query to Slurm; raises SlurmError."""

    def __call__(self, query: Query[Any]) -> Awaitable[tuple[Any, ...]]: ...


class Watcher:
    """The shared view. One for each event loop: :meth:`shared`."""

    _shared: Watcher | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(
        self,
        ask: Ask = commands.ask,
        clock: Callable[[], float] = time.monotonic,
        log: logging.Logger | None = None,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._log = log or logging.getLogger("practicum.watcher")
        self._last: Look | None = None
        self._task: asyncio.Task[None] | None = None
        self._successes = 0
        self._missed: dict[int, tuple[int, int]] = {}  # job: (number of last look, misses)

    @classmethod
    def shared(cls) -> Watcher:
        """The one watcher of the running loop."""
        loop = asyncio.get_running_loop()
        if cls._shared is None or cls._loop is not loop:
            cls._shared, cls._loop = cls(), loop
        return cls._shared

    def now(self) -> float:
        return self._clock()

    async def look(self, max_age: float) -> Look:
        """An answer that began at most ``max_age`` seconds ago, new if need be."""
        wanted = self._clock() - max(max_age, 0.0)
        while True:
            if self._last is not None and self._last.began >= wanted:
                return self._last
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._query())
            # shielded: one impatient asker must not end the query of all the others
            await asyncio.shield(self._task)

    async def _query(self) -> None:
        if self._last is not None:
            await asyncio.sleep(max(0.0, self._last.began + GAP - self._clock()))
        began = self._clock()
        before = self._last.error if self._last else ""
        try:
            rows: tuple[Job, ...] = await self._ask(squeue_query())
        except SlurmError as error:
            if str(error) != before:
                self._log.warning("The queue cannot be read: %s", error)
            self._last = Look(began, None, self._successes, str(error))
            return
        if before:
            self._log.info("The queue can be read again")
        self._successes += 1
        jobs = {job.job_id: job for job in rows}
        self._last = Look(began, jobs, self._successes, crowds=crowds_of(rows))

    async def view(self, job_id: int, *, submitted: float, max_age: float) -> View:
        """What is known of a job that was submitted at ``submitted`` (monotonic; 0 for one from
        before this hub's start)."""
        look = await self.look(max_age)
        if look.jobs is None:
            return View(Kind.UNKNOWN, error=look.error)
        job = look.jobs.get(job_id)
        if job is not None and job.state is JobState.COMPLETING:
            return await self._ending(job, look.number)
        if job is not None:
            self._missed.pop(job_id, None)
            return await self._seen(job, look)
        if look.began <= submitted:
            return View(Kind.UNKNOWN)
        return await self._unseen(job_id, look.number)

    async def _seen(self, job: Job, look: Look) -> View:
        kind = kind_of(job.state)
        if kind is Kind.GONE:
            return View(kind, job, record=await self._record(job.job_id), state=job.state)
        place = place_of(job, look.jobs or {}) if kind is Kind.WAITING else None
        crowd = look.crowds.get(job.partition, Crowd())
        return View(kind, job, place, state=job.state, crowd=crowd)

    async def _ending(self, job: Job, number: int) -> View:
        record = await self._record(job.job_id)
        late = record is not None and not record.state.over
        if late and self._misses(job.job_id, number) < MISSES_UNCONFIRMED:
            return View(Kind.UNKNOWN, job)
        self._missed.pop(job.job_id, None)
        if record is not None and record.state.waiting:  # requeued
            return View(Kind.WAITING, job, state=record.state)
        return View(Kind.GONE, job, record=record, state=job.state)

    def _misses(self, job_id: int, number: int) -> int:
        """How many looks of those that asked about this job, since it was last seen, with this one,
        did not tell what there is to know of it. Others' looks in between say nothing about it."""
        last, misses = self._missed.get(job_id, (0, 0))
        if number != last:
            misses += 1
            self._missed[job_id] = (number, misses)
        return misses

    async def _unseen(self, job_id: int, number: int) -> View:
        misses = self._misses(job_id, number)
        record = await self._record(job_id)
        if record is not None and record.state.over:
            self._missed.pop(job_id, None)
            return View(Kind.GONE, record=record, state=record.state)
        enough = MISSES_UNCONFIRMED if record is None else MISSES_CONTRADICTED
        if misses >= enough:
            self._missed.pop(job_id, None)
            return View(Kind.GONE, record=record)
        return View(Kind.UNKNOWN)

    async def _record(self, job_id: int) -> Record | None:
        """Accounting's newest record of a job, None when there is none or it cannot be asked."""
        try:
            records: tuple[Record, ...] = await self._ask(sacct_query(job_ids=[job_id]))
        except SlurmError as error:
            self._log.warning("Accounting cannot be asked about job %d: %s", job_id, error)
            return None
        mine = [record for record in records if record.job_id == job_id and not record.step]
        return max(mine, key=lambda record: record.submitted or 0, default=None)


def end_of(job: Job) -> int | None:
    """When a running job's time is up, seconds since 1970."""
    if job.started is None or job.time_limit is None:
        return None
    return job.started + job.time_limit


def crowds_of(jobs: Iterable[Job]) -> dict[str, Crowd]:
    """Each partition's, in one pass: the queue of a large cluster has thousands of jobs."""
    crowds: dict[str, Crowd] = {}
    for job in jobs:
        now = crowds.get(job.partition, Crowd())
        if job.state is JobState.PENDING:
            crowds[job.partition] = replace(now, waiting=now.waiting + 1)
        elif kind_of(job.state) is Kind.RUNNING:
            ends = [end for end in (now.first_end, end_of(job)) if end is not None]
            crowds[job.partition] = replace(
                now,
                running=now.running + 1,
                cpus=now.cpus + job.cpus,
                first_end=min(ends, default=None),
            )
    return crowds


def place_of(job: Job, jobs: dict[int, Job]) -> int | None:
    """A waiting job's place in its partition: higher priority first, then the lower id.

    None while it is held (priority 0): it has no place then.
    """
    if job.priority == 0:
        return None
    before = [
        other
        for other in jobs.values()
        if other.state is JobState.PENDING
        and other.partition == job.partition
        and (other.priority, -other.job_id) > (job.priority, -job.job_id)
    ]
    return len(before) + 1
