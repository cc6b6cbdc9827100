"""Sessions on the login node itself, for when the cluster is full.

A profile with ``login = true`` is a template unit of systemd on the first login node, written by
practicum and owned by root: ``practicum-login-PROFILE@UID.service``. systemd starts it as that
user, in that user's slice (so within the limits that hold for everything they do there), with the
profile's memory, cores and time on top, and ends all of it with the unit. So there is one such
session for each person, however many servers with names they have.

The hub may start and stop these units and nothing else (sudoers, by a regular expression), and
the unit refuses accounts that are no student's or instructor's: a hub that is taken over gets no
further here than with sbatch.

One ``systemctl show`` tells of all of them, shared like squeue's answer. No answer is *unknown*.
"""

from __future__ import annotations

import asyncio
import logging
import pwd
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from cluster.sacct import Record
from cluster.slurm import Job
from cluster.slurm_text import JobState
from cluster.text import clean
from spawners.commands import CommandError, Done, run
from spawners.errors import SessionError
from spawners.role import LOGIN_PREFIX
from spawners.watcher import Kind, View

NUMBER = re.compile(r"login:([a-z0-9][a-z0-9_-]*)@([1-9][0-9]{0,9})")
PROPERTIES = (
    "Id", "ActiveState", "Result", "ExecMainCode", "ExecMainStatus", "ExecMainStartTimestamp",
)  # fmt: skip
START_TIMEOUT = 30  # seconds
FORGET_AGE = 15.0  # how old the answer may be that says whether there is something to forget
GONE_STATES = {"inactive", "failed"}
# systemd.exec(5) "Result" of a service, as the job states that mean the same
RESULTS = {
    "success": JobState.COMPLETED,
    "timeout": JobState.TIMEOUT,
    "oom-kill": JobState.OUT_OF_MEMORY,
    "signal": JobState.FAILED,
    "core-dump": JobState.FAILED,
    "exit-code": JobState.FAILED,
}

log = logging.getLogger("practicum.login")
Command = Callable[[list[str]], Awaitable[Done]]


def unit_of(number: str) -> str:
    """``login:here@3000`` → its unit's name. ValueError when it is not such a number."""
    found = NUMBER.fullmatch(number)
    if not found:
        raise ValueError(f"{number!r} is no session of the login node")
    return f"{LOGIN_PREFIX}{found[1]}@{found[2]}.service"


@dataclass(frozen=True)
class Unit:
    """What systemd says of one unit. ``started``: seconds since 1970, None if it never was."""

    state: str
    result: str
    exit_code: int
    signal: int
    started: int | None


def read_units(text: str) -> dict[str, Unit]:
    """``systemctl show --timestamp=unix`` of several units: blocks of NAME=VALUE lines.

    ValueError when a block is cut or strange.
    """
    units = {}
    for block in text.strip().split("\n\n"):
        lines = [line.partition("=") for line in block.splitlines() if line]
        values = {name: value for name, _, value in lines}
        if not values:
            continue
        missing = [name for name in PROPERTIES if name not in values]
        if missing:
            raise ValueError(f"systemctl did not tell {missing[0]}")
        units[values["Id"]] = _unit(values)
    return units


def _unit(values: Mapping[str, str]) -> Unit:
    status, code = values["ExecMainStatus"], values["ExecMainCode"]
    if not (status.isdecimal() and code.isdecimal()):
        raise ValueError(f"{status!r} and {code!r} are not an exit status and its kind")
    stamp = re.fullmatch(r"@([0-9]+)", values["ExecMainStartTimestamp"])
    killed = code != "1"  # CLD_EXITED; otherwise the status is a signal's number
    return Unit(
        state=values["ActiveState"],
        result=values["Result"],
        exit_code=0 if killed else int(status),
        signal=int(status) if killed else 0,
        started=int(stamp[1]) if stamp else None,
    )


def view_of(unit: Unit | None, node: str, uid: int, limit: int | None) -> View:
    """The same words for a unit as for a job."""
    if unit is None or unit.state in GONE_STATES:
        state = RESULTS.get(unit.result, JobState.FAILED) if unit else JobState.COMPLETED
        code, signal = (unit.exit_code, unit.signal) if unit else (0, 0)
        record = Record(
            job_id=0, step="", name=LOGIN_PREFIX, user="", account="", partition="", state=state,
            cancelled_by=None, exit_code=code, signal=signal, submitted=None, started=None,
            ended=None, elapsed=0, cpu_time=None, cpus=1, nodes=(node,), max_rss=None,
            time_limit=limit, comment="",
        )  # fmt: skip
        return View(Kind.GONE, record=record, state=state)
    job = Job(
        job_id=0, name=LOGIN_PREFIX, user="", uid=uid, account="", state=JobState.RUNNING,
        reason="None", partition="", nodes=(node,), cpus=1, priority=0, submitted=unit.started,
        started=unit.started, elapsed=None, time_limit=limit, comment="",
    )  # fmt: skip
    return View(Kind.RUNNING, job, state=JobState.RUNNING)


async def _run(argv: list[str]) -> Done:
    return await run(argv, timeout=START_TIMEOUT)


class Units:
    """What systemd says of all sessions here; one question for everybody who asks meanwhile."""

    _shared: Units | None = None
    _loop: asyncio.AbstractEventLoop | None = None

    def __init__(self, systemctl: str = "/usr/bin/systemctl", command: Command = _run) -> None:
        self._systemctl = systemctl
        self._command = command
        self._began = float("-inf")
        self._units: dict[str, Unit] | None = None
        self._error = ""
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def shared(cls) -> Units:
        """The one of the running loop."""
        loop = asyncio.get_running_loop()
        if cls._shared is None or cls._loop is not loop:
            cls._shared, cls._loop = cls(), loop
        return cls._shared

    async def look(self, max_age: float) -> tuple[dict[str, Unit] | None, str]:
        """The units by name, None with the reason when systemd does not answer."""
        wanted = time.monotonic() - max(max_age, 0.0)
        while self._began < wanted:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._ask())
            await asyncio.shield(self._task)
        return self._units, self._error

    async def _ask(self) -> None:
        began = time.monotonic()
        argv = [self._systemctl, "show", "--timestamp=unix", f"--property={','.join(PROPERTIES)}",
                f"{LOGIN_PREFIX}*@*.service"]  # fmt: skip
        try:
            done = await self._command(argv)
            self._error = clean(done.err, 200) or f"exit {done.status}" if done.status else ""
            self._units = None if done.status else read_units(done.out)
        except (CommandError, ValueError) as error:
            self._units, self._error = None, str(error)
        self._began = began


@dataclass(frozen=True)
class Login:
    """A unit of the login node ``node``, for the profile ``profile`` with ``limit`` seconds."""

    node: str
    profile: str
    limit: int | None = None
    sudo: str = "/usr/bin/sudo"
    systemctl: str = "/usr/bin/systemctl"
    command: Command = _run

    async def submit(self, user: str, script: str) -> str:  # noqa: ARG002 - a unit needs no script
        number = f"login:{self.profile}@{pwd.getpwnam(user).pw_uid}"
        unit = unit_of(number)
        units, error = await Units.shared().look(0)
        if units is None:
            raise SessionError(f"The login node cannot say what runs there: {error}.")
        mine = [name for name in units if name.partition("@")[2] == unit.partition("@")[2]]
        if any(units[name].state not in GONE_STATES for name in mine):
            raise SessionError(
                "You have a session on the login node already: stop it first.", reason="options"
            )
        done = await self._systemd("start", unit)
        if done.status:
            raise SessionError(
                f"The login node did not start the session: {clean(done.err, 200).rstrip('.')}."
            )
        return number

    async def cancel(self, user: str, number: str) -> None:  # noqa: ARG002
        done = await self._systemd("stop", unit_of(number))
        if done.status:
            raise SessionError(f"The login node did not end the session: {clean(done.err, 200)}.")

    async def forget(self, number: str) -> None:
        """A unit that failed is listed as such until someone says that it has been seen."""
        units, _ = await Units.shared().look(FORGET_AGE)
        unit = unit_of(number)
        if units and unit in units and units[unit].state == "failed":
            done = await self._systemd("reset-failed", unit)
            if done.status:
                log.warning("%s stays in systemd's list: %s", unit, clean(done.err, 200))

    async def _systemd(self, what: str, unit: str) -> Done:
        try:
            return await self.command([self.sudo, "-n", self.systemctl, what, unit])
        except CommandError as error:
            raise SessionError(f"The login node did not {what} the session: {error}.") from None

    async def view(self, number: str, *, submitted: float, max_age: float) -> View:
        # an answer from before its start says nothing of it
        age = min(max_age, time.monotonic() - submitted)
        units, error = await Units.shared().look(age)
        if units is None:
            return View(Kind.UNKNOWN, error=error)
        found = NUMBER.fullmatch(number)
        uid = int(found[2]) if found else 0
        return view_of(units.get(unit_of(number)), self.node, uid, self.limit)
