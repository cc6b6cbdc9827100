"""[storage]: folders and where they come from."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem
from cluster.model import Cluster


def storage(cluster: Cluster) -> Iterator[Problem]:
    table = cluster.storage
    for key, path in (("home", table.home), ("shared", table.shared)):
        parts = path.split("/")[1:]
        if "" in parts or "." in parts or ".." in parts:
            yield Problem(("storage", key), f"must be a plain folder like /nfs, not {path!r}")
    if table.home == table.shared:
        yield Problem(("storage", "shared"), "must be another folder than home")
