"""What the hub does about sessions once a minute: ends orphans, and stops idle ones.

An orphan is a job with the hub's name and comment that belongs to no server of the hub: left by a
hub that died between sbatch and its database. It is ended after a grace time, in which a hub that
is just submitting it has long taken it up. A person may give a job that name and comment, too;
only their own jobs are ended by that.

A session is idle when neither its kernels, terminals nor pages did anything for
``hub.idle_minutes``, and no other job of its owner waits or runs: who waits for a job comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyterhub.utils import utcnow

from cluster.slurm import Job
from spawners import script
from spawners.errors import SessionError
from spawners.places import Slurm
from spawners.watcher import IDLE, Kind, Watcher, kind_of

EVERY = 60.0  # seconds
GRACE = 180.0  # seconds that a job may be without a server before it is an orphan

log = logging.getLogger("practicum.keeper")


def hub_jobs(jobs: Iterable[Job]) -> Iterator[Job]:
    """The hub's own jobs that wait or run: by name, and a comment that names their user."""
    for job in jobs:
        mine = job.name == script.JOB_NAME and job.comment.startswith(f"{job.user}/")
        if mine and kind_of(job.state) is not Kind.GONE:
            yield job


def working(jobs: Iterable[Job]) -> frozenset[str]:
    """People whose own jobs wait or run, beside their sessions."""
    return frozenset(
        job.user
        for job in jobs
        if job.name != script.JOB_NAME and kind_of(job.state) is not Kind.GONE
    )


class Orphans:
    """Jobs without a server, since when (monotonic seconds)."""

    def __init__(self, grace: float = GRACE) -> None:
        self._grace = grace
        self._since: dict[int, float] = {}

    def due(self, jobs: Iterable[Job], known: Collection[str], now: float) -> list[Job]:
        """Those that have been orphans for the grace time; the others are remembered."""
        lost = {job.job_id: job for job in hub_jobs(jobs) if str(job.job_id) not in known}
        self._since = {number: self._since.get(number, now) for number in lost}
        return [lost[number] for number, since in self._since.items() if now - since >= self._grace]


def is_idle(last: datetime | None, started: datetime | None, minutes: int, now: datetime) -> bool:
    """Whether nothing has happened for that long. 0 minutes: never idle."""
    seen = [_aware(moment) for moment in (last, started) if moment is not None]
    return bool(minutes and seen) and now - max(seen) > timedelta(minutes=minutes)


def _aware(moment: datetime) -> datetime:
    """JupyterHub's database has UTC without saying so."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


class Keeper:
    """Looks after the sessions of one hub (JupyterHub's application object)."""

    def __init__(self, hub: Any, every: float = EVERY, orphans: Orphans | None = None) -> None:
        self._hub = hub
        self._every = every
        self._orphans = orphans or Orphans()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every)
            try:
                await self.look()
            except Exception:  # the next look may do better; the log has it all
                log.exception("Sessions could not be looked after this time")

    async def look(self) -> None:
        """Once: end the orphans that are due, stop the idle."""
        watcher = Watcher.shared()
        seen = await watcher.look(IDLE)
        if seen.jobs is None:
            return  # nothing is known, so nothing is lost or idle
        jobs = seen.jobs.values()
        known = {spawner.job_id for spawner in self._spawners()}
        for job in self._orphans.due(jobs, known, watcher.now()):
            log.warning("Job %d of %s belongs to no server: it is ended", job.job_id, job.user)
            await self._end(job)
        await self._stop_idle(working(jobs))

    async def _end(self, job: Job) -> None:
        settings = self._hub.config.PracticumSpawner
        paths = {name: settings.get(f"{name}_path", "") for name in ("sudo", "sbatch", "scancel")}
        place = Slurm(**{name: path for name, path in paths.items() if path})
        try:
            await place.cancel(job.user, str(job.job_id))
        except SessionError as error:
            log.warning("%s", error)

    def _spawners(self) -> Iterator[Any]:
        """All of the hub's that are ours, started or not: also those that are only in the
        database, which JupyterHub has loaded when it started."""
        for user in list(self._hub.users.values()):
            for spawner in list(user.spawners.values()):
                if hasattr(spawner, "is_job"):
                    yield spawner

    async def _stop_idle(self, busy: Collection[str]) -> None:
        now = utcnow(with_tz=True)
        for spawner in list(self._spawners()):
            minutes = spawner.cluster.hub.idle_minutes
            orm = spawner.orm_spawner
            if not spawner.ready or spawner.user.name in busy:
                continue
            if is_idle(orm.last_activity, orm.started, minutes, now):
                spawner.tell_end(f"nothing was done in it for {minutes} minutes")
                try:
                    # first the route: its page is then the hub's, which says what happened
                    await self._hub.proxy.delete_user(spawner.user, spawner.name)
                    await spawner.user.stop(spawner.name)
                except SessionError as error:
                    log.warning("%s", error)
