"""What a changed cluster.toml must not do by surprise: move a service away from its data, or drop
machines on which jobs run. Judged by what the last apply knew, which is kept beside cluster.toml.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.errors import ConfigError, PracticumError
from cluster.hostlist import fold
from cluster.model import Cluster, NodeRole
from provisioning.controller import Controller, jobs_text
from provisioning.report import Reporter

STATE = Path("state/cluster.json")  # beside cluster.toml


@dataclass(frozen=True)
class Holding:
    """A role with data that do not move by themselves."""

    role: NodeRole
    data: str
    how: str


HOLDINGS = (
    Holding(
        NodeRole.CONTROLLER,
        "the queue (/var/lib/slurm/slurmctld)",
        "stop slurmctld there and copy that folder",
    ),
    Holding(
        NodeRole.DATABASE,
        "Slurm's accounting (MariaDB)",
        "stop slurmdbd there, and dump and load its databases",
    ),
    Holding(NodeRole.STORAGE, "everybody's files", "stop the NFS server there and move the disk"),
)


def known(base: Path) -> dict[str, Any]:
    """{"nodes": {name: address}, "holders": {role: name}}; empty before the first apply."""
    try:
        return dict(json.loads((base / STATE).read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def check(cluster: Cluster, base: Path, moved: Collection[str], reporter: Reporter) -> None:
    """ConfigError when a service would leave its data, or jobs their node. ``moved``: roles whose
    data the admin has moved."""
    before = known(base)
    nodes: Mapping[str, str] = before.get("nodes", {})
    _moves(cluster, before.get("holders", {}), nodes, moved)
    left = [name for name in nodes if name not in {node.name for node in cluster.machines}]
    if left:
        _leavers(cluster, base, left, nodes, reporter)


def _moves(
    cluster: Cluster,
    holders: Mapping[str, str],
    nodes: Mapping[str, str],
    moved: Collection[str],
) -> None:
    for holding in HOLDINGS:
        role = holding.role
        if role is NodeRole.STORAGE and cluster.storage.provider != "nfs":
            continue
        before, now = holders.get(role.value), cluster.with_role(role)
        if before is None or role.value in moved or not now:
            continue
        # The same machine under another name is no move.
        if now[0].name == before or now[0].address == nodes.get(before):
            continue
        raise ConfigError(
            f"cluster.toml moves the role {role.value} from {before} to {now[0].name}, but "
            f"{holding.data} is on {before}: give the role back, or {holding.how} to "
            f"{now[0].name}, and apply with --moved {role.value}"
        )


def _leavers(
    cluster: Cluster, base: Path, left: list[str], nodes: Mapping[str, str], reporter: Reporter
) -> None:
    """Machines that are no longer named. Slurm ends the jobs of a node that it no longer knows."""
    try:
        jobs = Controller(cluster, base).jobs(left)
    except PracticumError as error:
        reporter.line(f"whether jobs run on {fold(left)} is not known: {error}")
        jobs = []
    if jobs:
        raise ConfigError(
            f"{fold(left)} is no longer in cluster.toml, but {jobs_text(jobs)} would be lost: put "
            f"it back, and practicum node remove {fold(left)} waits for them"
        )
    addresses = {node.address: node.name for node in cluster.machines}
    for name in left:
        if new := addresses.get(nodes[name]):
            reporter.line(f"{name} is now called {new}")
        else:
            reporter.line(
                f"{name} is no longer in cluster.toml: what practicum made on it stays there "
                "(practicum node remove would have undone it)"
            )


def remember(cluster: Cluster, base: Path, done: Collection[str]) -> None:
    """After an apply that went well on the nodes ``done``. Of the others, what was known stays:
    whoever failed may have its old address still, and a holder that failed may not have taken
    over its data. Those that left cluster.toml are forgotten when all the others have heard."""
    if not done:
        return
    before = known(base)
    present = {node.name: node.address for node in cluster.machines}
    whole = set(done) >= set(present)
    nodes = {} if whole else dict(before.get("nodes", {}))
    nodes |= {name: address for name, address in present.items() if name in done}
    holders = dict(before.get("holders", {}))
    for holding in HOLDINGS:
        holder = next(iter(cluster.with_role(holding.role)), None)
        if holder is not None and holder.name in done:
            holders[holding.role.value] = holder.name
    _write(base, {"nodes": nodes, "holders": holders})


def forget(base: Path, names: Collection[str]) -> None:
    """Machines that were taken out in good order."""
    before = known(base)
    nodes = {n: where for n, where in before.get("nodes", {}).items() if n not in names}
    if before:
        _write(base, {**before, "nodes": nodes})


def _write(base: Path, state: Mapping[str, Any]) -> None:
    path = base / STATE
    text = json.dumps(dict(state), indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)
