"""[storage]: where homes and shared software come from."""

from __future__ import annotations

from typing import Literal

from cluster.values import AbsPath, Model


class Storage(Model):
    """[storage]: where homes and shared software come from.

    `external` = the site mounts `home` and `shared` itself on every node (a file server, or one
    shared disk); practicum makes folders in them. practicum's own NFS server will be a second
    provider.
    """

    provider: Literal["external"] = "external"
    home: AbsPath = "/home"
    shared: AbsPath = "/nfs"

    @property
    def envs(self) -> str:
        """Folder of kernel environments."""
        return f"{self.shared}/envs"

    @property
    def apps(self) -> str:
        """Folder of applications and site modulefiles."""
        return f"{self.shared}/apps"
