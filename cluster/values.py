"""The kinds of value that cluster.toml's tables hold, and the base of every table."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

# useradd's portable names; 31 because utmp and quota tools cut longer ones.
NAME = r"^[a-z][a-z0-9_-]{0,30}$"
HOST = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DURATION = r"^(\d+-)?\d{1,3}:\d{2}(:\d{2})?$"
# passwd(5)'s comment field
FULL_NAME = r"^[^\x00-\x1f\x7f:,]*$"
EMAIL = r"^([A-Za-z0-9._%+'-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+)?$"
# No control characters anywhere that ends up in a configuration file or a script.
TEXT = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(pattern=NAME)]
Host = Annotated[str, StringConstraints(pattern=HOST)]
Text = Annotated[str, StringConstraints(pattern=TEXT, max_length=200)]
# [D-]HH:MM[:SS]
Duration = Annotated[str, StringConstraints(pattern=DURATION)]
PATH = r"^/[A-Za-z0-9._/-]*$"
AbsPath = Annotated[str, StringConstraints(pattern=PATH)]
Port = Annotated[int, Field(ge=1, le=65535)]
# Accounts made by hand live from 1000 up; 60000 and above is the system's.
Uid = Annotated[int, Field(ge=1000, lt=60000)]


# One line of authorized_keys(5) without options
PublicKey = Annotated[
    str,
    StringConstraints(
        pattern=r"^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)|sk-[a-z0-9@.-]+) "
        r"[A-Za-z0-9+/=]+( [^\x00-\x1f\x7f]*)?$",
        max_length=2000,
    ),
]
# name[extras] with version conditions; no URLs, paths or options
REQUIREMENT = r"^[A-Za-z0-9][A-Za-z0-9._,<>=!~*+\[\]-]*$"
Requirement = Annotated[str, StringConstraints(pattern=REQUIREMENT, max_length=200)]
# A conda channel: a name of conda.anaconda.org's, an address, or a folder on every node
CHANNEL = r"^([A-Za-z0-9][A-Za-z0-9._/-]*|(https?|file)://[A-Za-z0-9._:/-]+|/[A-Za-z0-9._/-]+)$"
Channel = Annotated[str, StringConstraints(pattern=CHANNEL, max_length=300)]
PYTHON_VERSION = r"^(3\.[0-9]{1,2}(\.[0-9]{1,2})?)?$"
PythonVersion = Annotated[str, StringConstraints(pattern=PYTHON_VERSION)]
LOCK_FILE = r"^([A-Za-z0-9][A-Za-z0-9._/-]*)?$"
LockFile = Annotated[str, StringConstraints(pattern=LOCK_FILE)]
# A module's name or version: one part of a path, and never ".." or a hidden file
MODULE_WORD = r"^[A-Za-z0-9]([A-Za-z0-9_+-]|\.[A-Za-z0-9_+-])*$"
MODULE = r"^[A-Za-z0-9]([A-Za-z0-9_+-]|[./][A-Za-z0-9_+-])*$"
ModuleWord = Annotated[str, StringConstraints(pattern=MODULE_WORD, max_length=80)]
ModuleName = Annotated[str, StringConstraints(pattern=MODULE, max_length=160)]


class Model(BaseModel):
    """Base of every table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


def seconds(duration: str) -> int:
    """A time of cluster.toml, [D-]HH:MM[:SS], in seconds.

    Slurm itself reads two numbers as MM:SS, so never hand it such a text: see slurm_time.
    """
    if not re.match(DURATION, duration):
        raise ValueError(f"{duration!r} is not a time like 04:00:00 or 1-00:00:00")
    days, _, clock = duration.rpartition("-")
    parts = [int(part) for part in clock.split(":")] + [0]
    return (int(days or 0) * 24 + parts[0]) * 3600 + parts[1] * 60 + parts[2]


def slurm_time(duration: str) -> str:
    """The same length of time as Slurm reads it, D-HH:MM:SS (slurm.conf(5), sbatch(1))."""
    return clock(seconds(duration))


def clock(total: int) -> str:
    """Seconds as D-HH:MM:SS."""
    minutes, secs = divmod(total, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
