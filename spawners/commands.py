"""Running a command from the hub: an argument list, no shell, a bare environment, a time limit."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cluster.errors import PracticumError
from cluster.slurm import Query, SlurmError

T = TypeVar("T")

# Nothing of the hub's own environment: it holds the proxy's token and the key of the database.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}
# Where Slurm's configuration is may be said only there (a login node without a file of its own).
SLURM_PLACES = ("SLURM_CONF", "SLURM_CONF_SERVER")


class CommandError(PracticumError):
    """A command could not be started or did not end in time."""


@dataclass(frozen=True)
class Done:
    """What a command left: exit status (negative: the signal that ended it) and its words."""

    status: int
    out: str
    err: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a command."""
    places = {name: os.environ[name] for name in SLURM_PLACES if name in os.environ}
    return {**ENVIRONMENT, **places, **(extra or {})}


async def run(
    argv: Sequence[str],
    *,
    stdin: str = "",
    env: Mapping[str, str] | None = None,
    timeout: float = 30,  # noqa: ASYNC109 - the limit belongs to the command, which is ended
) -> Done:
    """Run ``argv`` in "/", at most ``timeout`` seconds. CommandError when it cannot start or is
    too slow; its exit status is the caller's to judge."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(env),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandError(f"{argv[0]} cannot be run here: {error.strerror}") from error
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(stdin.encode())
    except TimeoutError:
        _end(process)
        raise CommandError(f"{_shown(argv)} did not end within {timeout:g} s") from None
    except asyncio.CancelledError:
        _end(process)
        raise
    status = process.returncode
    return Done(
        1 if status is None else status,
        out.decode(errors="replace"),
        err.decode(errors="replace"),
    )


def _end(process: asyncio.subprocess.Process) -> None:
    # Behind sudo the process is another user's, and is not ours to end: it is let go.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        process.kill()


def _shown(argv: Sequence[str]) -> str:
    return " ".join(argv)[:120]


async def ask(query: Query[T], *, timeout: float = 10) -> tuple[T, ...]:  # noqa: ASYNC109
    """A question to Slurm, as :func:`cluster.slurm.run` but beside everything else that the hub
    does. SlurmError says what went wrong."""
    program = query.argv[0]
    try:
        done = await run(query.argv, env=query.env, timeout=timeout)
    except CommandError as error:
        raise SlurmError(str(error)) from error
    if done.status:
        said = done.err.strip().splitlines()
        raise SlurmError(f"{program} failed: {said[-1] if said else f'exit {done.status}'}")
    try:
        return query.read(done.out)
    except ValueError as error:
        raise SlurmError(f"{program} gave an answer that cannot be read: {error}") from error
