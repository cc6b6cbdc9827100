"""The job script of a session: a pure function of what was chosen.

Nothing secret is in it: the script is kept by Slurm's accounting and anybody may read it. The
launcher fetches the token itself (see :mod:`spawners.api`).

Everything that tells sbatch what to do is an ``#SBATCH`` line, since sudo allows exactly
``sbatch --parsable``. sbatch reads those lines with rules of its own, so their values are held
to a plain alphabet instead of being quoted; the command line is the shell's and is quoted.

``--export=ALL``: all of sbatch's environment, which holds a PATH and a language and nothing of
the hub's (:mod:`spawners.commands`, sudo). With NIL, NONE or names Slurm runs ``su -`` on the
node before the job, log-in files of the student included (measured: 22.05.8); a slow or broken
one would hold up the session before anything could tell. Python is started directly; the
launcher makes the rest of the environment.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

JOB_NAME = "practicum-hub"
# No blanks, quotes, backslashes or control characters: what sbatch's own reader treats specially.
PLAIN = re.compile(r"[A-Za-z0-9@%+=:,./_~-]+")
DURATION = re.compile(r"(\d+-)?\d{1,3}:\d{2}:\d{2}")


@dataclass(frozen=True)
class Session:
    """All that a job script says. ``memory_mb`` is for the whole job, ``time`` as [D-]HH:MM:SS."""

    user: str
    server: str  # the name of a named server, "" for the user's own
    home: str
    partition: str
    cpus: int
    memory_mb: int
    time: str
    server_env: str  # folder with the link ``current``
    launcher: str
    hub_url: str
    hub_uid: int
    ports: tuple[int, int]
    jupyter_path: str


def comment(user: str, server: str) -> str:
    """Whose session a job is, in one plain word; the reaper of orphans reads it."""
    return f"{quote(user, safe='')}/{quote(server, safe='')}"


def option(name: str, value: str) -> str:
    """One ``#SBATCH`` line. ValueError when the value is not plain."""
    if not PLAIN.fullmatch(value):
        raise ValueError(f"{value!r} cannot be given to sbatch as --{name}")
    return f"#SBATCH --{name}={value}"


def render(session: Session) -> str:
    """The script. ValueError names a value that cannot go into it."""
    if not DURATION.fullmatch(session.time):
        raise ValueError(f"{session.time!r} is not a time like 04:00:00")
    if session.cpus < 1 or session.memory_mb < 1:
        raise ValueError("a session needs at least 1 core and 1 MB")
    options = {
        "job-name": JOB_NAME,
        "comment": comment(session.user, session.server),
        "partition": session.partition,
        "nodes": "1",
        "ntasks": "1",
        "cpus-per-task": str(session.cpus),
        "mem": f"{session.memory_mb}M",
        "time": session.time,
        "chdir": session.home,
        "output": "/dev/null",
        "export": "ALL",
    }
    return "\n".join(
        [
            "#!/bin/sh",
            *(option(name, value) for name, value in options.items()),
            "#SBATCH --no-requeue",
            *command(
                session.launcher,
                {
                    "hub-url": session.hub_url,
                    "hub-uid": str(session.hub_uid),
                    "ports": f"{session.ports[0]}-{session.ports[1]}",
                    "jupyter-path": session.jupyter_path,
                    "server-env": session.server_env,
                },
            ),
            "",
        ]
    )


def command(launcher: str, arguments: Mapping[str, str]) -> list[str]:
    """The shell's lines that start the launcher; one of its arguments is ``server-env``.

    ValueError names an argument that cannot be.
    """
    for name, value in arguments.items():
        if "\n" in value or "\0" in value:
            raise ValueError(f"{value!r} cannot be an argument of the launcher (--{name})")
    words = [f"--{name}={value}" for name, value in arguments.items()]
    current = shlex.quote(f"{arguments['server-env']}/current")
    return [
        "# A session of practicum's hub. `current` is resolved once: an update of the",
        "# environment must not change what a running session imports.",
        f"python=$(CDPATH= cd -P -- {current} 2>/dev/null && pwd -P)/bin/python",
        '[ -x "$python" ] || python=/usr/bin/python3',
        f'exec "$python" -I {shlex.join([launcher, *words])}',
    ]
