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
    from practicum.report import Plain
    from provisioning.closing import Closing, Draining

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

    Refuses while jobs run there, and says which; none starts there meanwhile. Nodes are back in
    Slurm by themselves when they boot.
    """
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.load import load
    from practicum.report import reporter
    from practicum.targets import names
    from provisioning.power import tiers

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
    with reporter() as report:
        failed = _switch_off(cluster, base, steps, report, force=force)
    _tell(steps, failed)
    raise typer.Exit(1 if failed else 0)


def _switch_off(
    cluster: Cluster, base: Path, steps: Sequence[Sequence[Node]], report: Plain, *, force: bool
) -> dict[str, str]:
    """Step by step, with no new job meanwhile; sentences of what failed. What is not off in the end
    takes jobs again."""
    from cluster.errors import PracticumError
    from provisioning.power import is_here, switch_off, which_are_up

    nodes = [node for tier in steps for node in tier]
    hold, controller = _hold(cluster, base, nodes, report)
    others = [node for node in cluster.machines if not is_here(node)]
    witnesses = which_are_up(others, cluster.ssh.port)
    failed: dict[str, str] = {}
    off: set[str] = set()
    try:
        try:
            hold.close()
        except PracticumError as error:
            if not force:
                raise
            report.line(f"jobs may start meanwhile: {error}")
        if not force:
            _nothing_runs(cluster, base, nodes)  # since the first look some may have started
        for tier in steps:
            names = [node.name for node in tier]
            if is_here(tier[0]):
                hold.off(names)  # nobody is here afterwards to say so
            witnesses = [node for node in witnesses if node.name not in names]
            failed |= switch_off(cluster, base, tier, report, witnesses)
            off |= {name for name in names if name not in failed}
            hold.off(off)
            if failed:
                break  # what is still up may need the machines of the next step
    finally:
        if controller.name not in off:  # else all opens when it starts
            try:
                hold.open()
            except PracticumError as error:
                report.line(str(error))  # beside what failed, or what was raised
    return failed


def _hold(
    cluster: Cluster, base: Path, nodes: Sequence[Node], report: Plain
) -> tuple[Closing | Draining, Node]:
    """What keeps jobs from starting: with the controller everything goes, else only some nodes."""
    from cluster.model import NodeRole
    from provisioning.closing import Closing, Draining
    from provisioning.controller import Controller

    controller = Controller(cluster, base)
    if controller.node.name in {node.name for node in nodes}:
        return Closing(controller, base, report), controller.node
    compute = [node.name for node in nodes if node.has(NodeRole.COMPUTE)]
    return Draining(controller, compute), controller.node


def _order_allows(cluster: Cluster, nodes: Sequence[Node]) -> None:
    """The file server does not go off under nodes that stay."""
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.model import NodeRole
    from provisioning.power import which_are_up

    if cluster.storage.provider != "nfs":
        return
    chosen = {node.name for node in nodes}
    servers = [node.name for node in nodes if node.has(NodeRole.STORAGE)]
    left = [node for node in cluster.machines if node.name not in chosen]
    up = [node.name for node in which_are_up(left, cluster.ssh.port)] if servers else []
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
