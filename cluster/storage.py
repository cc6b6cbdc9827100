"""[storage]: where homes and shared software come from, and how much of it each may have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.values import AbsPath, Duration, Host, Model, Name

# 0 = no limit
Amount = Annotated[int, Field(ge=0, le=1 << 40)]
# What lsblk prints as SERIAL and PARTUUID
DiskName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,63}$")]


class Disk(Model):
    """[storage.disk]: the disk of practicum's own file server; exactly one of the two names it.

    Formatted only when ``format`` is true, it is empty, and the admin types its name again.
    """

    serial: DiskName | None = None
    partuuid: DiskName | None = None
    format: bool = False


class Storage(Model):
    """[storage]

    ``external`` = the site mounts ``home`` and ``shared`` itself on every node (a file server,
    or one shared disk); practicum makes folders in them. ``nfs`` = the node with the role
    storage serves both from ``folder``.
    """

    provider: Literal["external", "nfs"] = "external"
    home: AbsPath = "/home"
    shared: AbsPath = "/nfs"
    folder: AbsPath = "/srv/practicum"  # nfs: on the server, the disk is mounted there
    disk: Disk | None = None  # nfs: None keeps all in `folder`, on whatever disk that is
    quotas: bool = False  # nfs: whether the server counts and limits (ext4)
    # nfs: how long somebody may be above the soft limit
    quota_grace: Duration = "7-00:00:00"
    # nfs: nodes whose root stays root on the exports, besides the first login node
    root_nodes: tuple[Host, ...] = ()
    scratch: AbsPath | None = None  # local folder for jobs' own folders, on compute nodes

    @property
    def envs(self) -> str:
        """Folder of kernel environments."""
        return f"{self.shared}/envs"

    @property
    def courses(self) -> str:
        """Folder of courses."""
        return f"{self.shared}/courses"

    @property
    def apps(self) -> str:
        """Folder of applications and site modulefiles."""
        return f"{self.shared}/apps"


class Quota(Model):
    """[[quotas]]: limits on /home for a user, for each member of a group, or for a group's
    members together (``whole_group``). Exactly one of ``user`` and ``group``. A user's own line
    counts before a group's; of several groups the first in the file."""

    user: Name | None = None
    group: Name | None = None
    whole_group: bool = False
    soft_mb: Amount = 0
    hard_mb: Amount = 0
    soft_files: Amount = 0
    hard_files: Amount = 0
