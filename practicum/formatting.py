"""Formatting a disk: never part of what --yes agrees to, only of typing the disk's name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cluster.model import Cluster
    from provisioning.engine import Plan


def disk_name(cluster: Cluster) -> str:
    """The disk that cluster.toml asks to have formatted; "" for none."""
    disk = cluster.storage.disk
    return (disk.serial or disk.partuuid or "") if disk is not None and disk.format else ""


def confirmed(cluster: Cluster, typed: str) -> dict[str, str]:
    """What is added to a run's secrets for ``--format NAME``; UsageError for another name."""
    from cluster.errors import UsageError
    from provisioning.roles.disk import CONFIRMED

    name = disk_name(cluster)
    if not typed:
        return {}
    if typed != name:
        wanted = f"asks to format {name}" if name else "asks to format none"
        raise UsageError(f"--format {typed}: cluster.toml {wanted} (storage.disk)")
    return {CONFIRMED: typed}


def wanted(plan: Plan) -> tuple[str, str]:
    """(node, what would be formatted), or two empty texts."""
    from provisioning.roles.disk import FORMAT

    for node, change in plan.changes():
        if change.key == f"command:{FORMAT}":
            return node, change.summary
    return "", ""


def ask(plan: Plan, cluster: Cluster, *, yes: bool) -> str:
    """The disk's name as the admin types it now; "" when the plan formats nothing.

    UsageError where nobody can be asked, and when something else is typed.
    """
    from cluster.errors import UsageError

    node, summary = wanted(plan)
    if not node:
        return ""
    name = disk_name(cluster)
    if yes:
        raise UsageError(
            f"on {node} the plan would {summary}, to which --yes does not agree: add "
            f"--format {name}"
        )
    typed = typer.prompt(
        f"On {node}: {summary}. Type its name to agree", err=True, default="", show_default=False
    )
    if typed.strip() != name:
        raise UsageError(f"that is not {name}: nothing was changed")
    return name
