"""Who it is that a job of the admin's runs as."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cluster.model import Cluster


def somebody(cluster: Cluster, user: str) -> str:
    """``user``, or an admin, or an instructor. UsageError if there is none."""
    from cluster.errors import UsageError

    if user:
        if user not in {one.name for one in cluster.users}:
            raise UsageError(f"--user: cluster.toml has no account {user}")
        return user
    for role in ("admin", "instructor"):
        groups = set(cluster.groups_with(role))
        for one in cluster.users:
            if groups & set(one.groups):
                return one.name
    raise UsageError("cluster.toml has no admin and no instructor: say --user NAME")
