"""[[keep]]: files on the nodes that the admin has taken over from practicum."""

from __future__ import annotations

from cluster.values import AbsPath, Model


class Keep(Model):
    """A file that stays as it is on the nodes, whatever a role would write. It is written only
    where it is missing, and the plan says that it is kept."""

    path: AbsPath
    nodes: str = "ALL"  # a host list, or "ALL"
