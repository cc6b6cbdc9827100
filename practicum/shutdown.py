"""`practicum shutdown`: the whole cluster, or some nodes, in an order that loses nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from practicum.options import DEFAULT_FILE, File

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cluster.model import Cluster, Node

ONLY: list[str] = []


def shutdown(
    file: File = DEFAULT_FILE,
    only: Annotated[
        list[str],
        typer.Option("--only", help="Only these nodes: a name or a list.", metavar="NODES"),
    ] = ONLY,
    force: Annotated[
        bool, typer.Option("--force", help="Although jobs run: they are lost.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Switch machines off: compute nodes first, the file server last, this machine at the end.

    Refuses while jobs run there, and says which. Nodes are back in Slurm by themselves when
    they boot.
    """
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.load import load
    from practicum.report import reporter
    from practicum.targets import names
    from provisioning.power import switch_off, tiers

    cluster = load(file)
    base = file.resolve().parent
    chosen = [cluster.node(name) for name in names(cluster, only, "--only")]
    nodes = chosen or list(cluster.machines)
    _order_allows(cluster, nodes)
    if not force:
        _nothing_runs(cluster, base, nodes)
    steps = tiers(nodes)
    said = ", then ".join(fold(node.name for node in tier) for tier in steps)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("shutdown asks first, and here is no terminal to ask on: add --yes")
        if not typer.confirm(f"Switch off {said}?", err=True):
            raise typer.Exit(1)
    failed: dict[str, str] = {}
    with reporter() as report:
        for tier in steps:
            failed |= switch_off(cluster, base, tier, report)
            if failed:
                break  # what is still up may need the machines of the next step
    _tell(steps, failed)
    raise typer.Exit(1 if failed else 0)


def _order_allows(cluster: Cluster, nodes: Sequence[Node]) -> None:
    """The file server does not go off under nodes that stay."""
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.model import NodeRole
    from provisioning.power import answers

    if cluster.storage.provider != "nfs":
        return
    chosen = {node.name for node in nodes}
    servers = [node.name for node in nodes if node.has(NodeRole.STORAGE)]
    left = [node for node in cluster.machines if node.name not in chosen]
    up = [node.name for node in left if servers and answers(node, cluster.ssh.port)]
    if up:
        raise UsageError(
            f"{servers[0]} has everybody's files, and {fold(up)} would stay up without them: "
            "switch those off, too"
        )


def _nothing_runs(cluster: Cluster, base: Path, nodes: Sequence[Node]) -> None:
    """UsageError names the jobs; without an answer nobody knows whether there are any."""
    from cluster.errors import PracticumError, UsageError
    from cluster.model import NodeRole
    from provisioning.controller import Controller, jobs_text

    head = any(node.has(NodeRole.CONTROLLER) or node.has(NodeRole.STORAGE) for node in nodes)
    controller = Controller(cluster, base)
    try:
        jobs = controller.jobs(None if head else [node.name for node in nodes])
    except PracticumError as error:
        raise UsageError(
            f"whether jobs run is not known ({error}): --force does it all the same"
        ) from None
    if jobs:
        raise UsageError(
            f"{jobs_text(jobs)} would be lost: practicum node drain keeps new ones away; wait, or "
            "say --force"
        )


def _tell(steps: Sequence[Sequence[Node]], failed: dict[str, str]) -> None:
    from cluster.hostlist import fold
    from provisioning.power import is_here

    names = [node.name for tier in steps for node in tier]
    for sentence in failed.values():
        typer.echo(sentence, err=True)
    if failed:
        typer.echo("stopped there: mend that and run practicum shutdown again", err=True)
    elif any(is_here(node) for node in steps[-1]):
        typer.echo(f"{fold(names)}: off; this machine goes now")
    else:
        typer.echo(f"{fold(names)}: off")
