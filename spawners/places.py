"""Where a session runs: as a Slurm job, or on the login node (:mod:`spawners.login`).

A place starts a session, ends it and tells how it is. What is started has a number that is kept
in the hub's database: Slurm's for a job, ``login:PROFILE@UID`` for a unit of the login node.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from cluster.text import clean
from cluster.values import NAME
from spawners import words
from spawners.commands import CommandError, run
from spawners.errors import SessionError
from spawners.watcher import View, Watcher

SUBMIT_TIMEOUT = 60  # seconds
CANCEL_TIMEOUT = 20
AWAY = 90  # seconds that a controller may be away while a job is submitted
PAUSE = 2
NOT_SENT = "Unable to contact slurm controller (connect failure)"
CANCEL_TRIES = 3
ENDED_ALREADY = ("Invalid job id", "already completing or completed")
JOB_ID = re.compile(r"[0-9]{1,10}")

log = logging.getLogger("practicum.places")


class Place(Protocol):
    """What a spawner needs of the place where its session runs."""

    async def submit(self, user: str, script: str) -> str:
        """Start it; its number. SessionError says why it cannot be."""

    async def cancel(self, user: str, number: str) -> None:
        """End it. SessionError when that is refused; one that has ended is no error."""

    async def view(self, number: str, *, submitted: float, max_age: float) -> View:
        """How it is, at most ``max_age`` seconds ago."""

    async def forget(self, number: str) -> None:
        """It is over, and how it ended has been read."""


def as_user(sudo: str, user: str, *command: str) -> list[str]:
    """A command as that user. SessionError when that is no account's name: sudo would take
    ``#0`` for root's number."""
    if not re.fullmatch(NAME, user):
        raise SessionError(
            f"{clean(repr(user), 60)} is no account's name here.",
            reason="account",
            status_code=403,
        )
    return [sudo, "-n", "-u", user, *command]


def number_of(out: str) -> str:
    """The job's number from ``sbatch --parsable``: ``17`` or ``17;cluster``; "" if none."""
    lines = out.strip().splitlines()
    number = lines[-1].split(";")[0] if lines else ""
    return number if JOB_ID.fullmatch(number) and int(number) > 0 else ""


@dataclass(frozen=True)
class Slurm:
    """A job of the user's own, by two commands that sudo allows. ``explain`` makes sbatch's
    reason plain."""

    sudo: str = "/usr/bin/sudo"
    sbatch: str = "/usr/bin/sbatch"
    scancel: str = "/usr/bin/scancel"
    explain: Callable[[str], str] = str

    async def submit(self, user: str, script: str) -> str:
        argv = as_user(self.sudo, user, self.sbatch, "--parsable")
        end = time.monotonic() + AWAY
        while True:
            try:
                done = await run(argv, stdin=script, timeout=SUBMIT_TIMEOUT)
            except CommandError as error:
                raise SessionError(f"The job could not be submitted: {error}.") from None
            # A controller that restarts. Nothing has been sent yet, so nothing is sent twice.
            if not (done.status and NOT_SENT in done.err and time.monotonic() < end):
                break
            await asyncio.sleep(PAUSE)
        number = number_of(done.out) if done.status == 0 else ""
        if not number:
            said = words.sbatch_error(done.err if done.status else done.out)
            log.error("sbatch for %s: exit %d, %s", user, done.status, said)
            raise SessionError(f"Slurm refused the job: {self.explain(said).rstrip('.')}.")
        return number

    async def cancel(self, user: str, number: str) -> None:
        if not JOB_ID.fullmatch(number):
            raise SessionError("There is no job to cancel.")
        argv = as_user(self.sudo, user, self.scancel, number)
        said = ""
        for attempt in range(1, CANCEL_TRIES + 1):
            try:
                done = await run(argv, timeout=CANCEL_TIMEOUT)
                said = clean(done.err, 300)
            except CommandError as error:
                said = str(error)
            else:
                if done.status == 0 or any(text in said for text in ENDED_ALREADY):
                    return
            log.warning("scancel %s, try %d: %s", number, attempt, said)
            await asyncio.sleep(attempt)
        log.error("Job %s of %s could not be cancelled", number, user)
        raise SessionError(f"Slurm did not cancel job {number}: {said}.")

    async def forget(self, number: str) -> None:
        """Nothing: Slurm forgets by itself."""

    async def view(self, number: str, *, submitted: float, max_age: float) -> View:
        return await Watcher.shared().view(int(number), submitted=submitted, max_age=max_age)
