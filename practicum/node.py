"""`practicum node`: machines are listed, drained, rebooted, and taken out of the cluster."""

from __future__ import annotations

import json as json_module
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.model import Cluster, Node
    from cluster.node_words import NodeView
    from provisioning.power import Outcome

app = typer.Typer(
    help="Machines of the cluster: see, drain, reboot, remove them.", no_args_is_help=True
)
Names = Annotated[
    list[str], typer.Argument(help="A node, or a list like node[01-04].", metavar="NODES...")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Wait = Annotated[
    int,
    typer.Option("--wait", help="How many minutes to wait for running jobs.", metavar="MINUTES"),
]
Now = Annotated[bool, typer.Option("--now", help="Do not wait: running jobs are lost.")]
WAIT_MINUTES = 60


@app.command("list")
def list_(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """List the machines with what Slurm says of them and the jobs that run there."""
    from cluster.errors import PracticumError
    from cluster.load import load
    from provisioning.controller import Controller

    cluster = load(file)
    controller = Controller(cluster, file.resolve().parent)
    try:
        views, jobs = controller.views(), controller.jobs()
    except PracticumError as error:
        typer.echo(f"Slurm's part is missing: {error}", err=True)
        views, jobs = {}, []
    counts = {node.name: sum(node.name in job.nodes for job in jobs) for node in cluster.machines}
    if json:
        typer.echo(_list_json(cluster, views, counts))
    else:
        _show_list(cluster, views, counts)


def _list_json(cluster: Cluster, views: dict[str, NodeView], counts: dict[str, int]) -> str:
    nodes = []
    for node in cluster.machines:
        view = views.get(node.name)
        nodes.append(
            {
                "node": node.name,
                "address": node.address,
                "roles": sorted(node.roles),
                "state": view.state.value if view else None,
                "responding": view.responding if view else None,
                "reason": view.reason if view else "",
                "partitions": list(view.partitions) if view else [],
                "jobs": counts[node.name],
            }
        )
    return json_module.dumps({"nodes": nodes})


def _show_list(cluster: Cluster, views: dict[str, NodeView], counts: dict[str, int]) -> None:
    from cluster import node_words
    from cluster.model import NodeRole

    width = max(len(node.name) for node in cluster.machines)
    for node in cluster.machines:
        view = views.get(node.name)
        if view is not None:
            words = node_words.state(view)
        elif node.has(NodeRole.COMPUTE):
            words = "is not known to Slurm" if views else "?"
        else:
            words = "takes no jobs"
        jobs = counts[node.name]
        said = f"; {jobs} job{'s' if jobs > 1 else ''}" if jobs else ""
        roles = ", ".join(sorted(node.roles))
        typer.echo(f"{node.name:<{width}}  {node.address:<15}  {words}{said}  ({roles})")


@app.command()
def drain(
    nodes: Names,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; everybody can read it.", metavar="TEXT")
    ],
    file: File = DEFAULT_FILE,
) -> None:
    """Give nodes no new jobs; those that run go on."""
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.load import load
    from cluster.text import clean
    from practicum import targets
    from provisioning.controller import Controller, jobs_text

    text = clean(reason, 200)
    if not text or text != reason.strip():
        raise UsageError("--reason must be one line of plain text, of at most 200 characters")
    cluster = load(file)
    names = [node.name for node in targets.compute(cluster, nodes)]
    controller = Controller(cluster, file.resolve().parent)
    controller.drain(names, text)
    jobs = controller.jobs(names)
    running = f"; {jobs_text(jobs)} still run there" if jobs else ""
    typer.echo(f"{fold(names)}: no new jobs{running}")


@app.command()
def resume(nodes: Names, file: File = DEFAULT_FILE) -> None:
    """Let nodes take jobs again, after draining or when they were down."""
    from cluster import node_words
    from cluster.errors import PracticumError
    from cluster.hostlist import fold
    from cluster.load import load
    from practicum import targets
    from provisioning.controller import Controller

    cluster = load(file)
    names = [node.name for node in targets.compute(cluster, nodes)]
    controller = Controller(cluster, file.resolve().parent)
    views = controller.views()
    # Slurm refuses to resume what is neither drained nor down.
    wanted = [name for name in names if name in views and not views[name].well]
    if wanted:
        controller.resume(wanted)
        views = controller.settled(wanted)
    bad = [views[name] for name in names if name in views and not views[name].well]
    if unknown := [name for name in names if name not in views]:
        raise PracticumError(f"Slurm does not know {fold(unknown)}: practicum apply adds them")
    if bad:
        said = "; ".join(f"{view.name} {node_words.state(view)}" for view in bad)
        raise PracticumError(f"still not well: {said}; see practicum status")
    typer.echo(f"{fold(names)}: takes jobs")


@app.command()
def reboot(
    nodes: Names,
    file: File = DEFAULT_FILE,
    wait: Wait = WAIT_MINUTES,
    now: Now = False,
    yes: Yes = False,
) -> None:
    """Drain nodes, wait for their jobs, reboot them, wait until they answer, and resume them.

    What was drained before stays drained. Can be interrupted and run again.
    """
    from cluster.load import load
    from practicum import targets
    from practicum.report import reporter
    from provisioning.power import Rebooting

    cluster = load(file)
    chosen = [cluster.node(name) for name in targets.names(cluster, nodes, "NODES")]
    _may_reboot(chosen, yes=yes)
    base = file.resolve().parent
    with reporter() as report:
        work = Rebooting(cluster, base, report)
        outcome = work.run(chosen, wait_seconds=0.0 if now else wait * 60.0, now=now)
    _tell(chosen, outcome)


def _may_reboot(nodes: Sequence[Node], *, yes: bool) -> None:
    """The rest of the cluster leans on some machines: asked, and never the one we run on."""
    from cluster.errors import UsageError
    from provisioning.power import is_compute_only, is_here

    here = [node.name for node in nodes if is_here(node)]
    if here:
        raise UsageError(
            f"{here[0]} is the machine this runs on: reboot it by hand (systemctl reboot), the "
            "others from here"
        )
    for node in nodes:
        if is_compute_only(node) or yes:
            continue
        question = (
            f"{node.name} is {', '.join(sorted(node.roles))}: while it reboots, the whole cluster "
            "waits, and people on it are logged out. Reboot it?"
        )
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"{question} Say --yes, or leave it out")
        if not typer.confirm(question, err=True):
            raise typer.Exit(1)


def _tell(nodes: Sequence[Node], outcome: Outcome) -> None:
    for node in nodes:
        failed = outcome.failed.get(node.name)
        said = f"failed: {failed}" if failed else outcome.said.get(node.name, "")
        typer.echo(f"{node.name}: {said}")
    if outcome.failed:
        raise typer.Exit(1)


@app.command()
def remove(
    nodes: Names,
    file: File = DEFAULT_FILE,
    wait: Wait = WAIT_MINUTES,
    now: Now = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="They will not come back: do not ask them anything.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Take nodes out of the cluster: drain, wait for jobs, undo what practicum made there, and
    take them out of cluster.toml (its comments stay).

    Packages and data on the nodes stay; people's accounts are closed. The others hear of it by the
    practicum apply that follows.
    """
    from cluster.errors import UsageError
    from cluster.hostlist import fold
    from cluster.load import load
    from practicum import targets
    from practicum.leaving import check_removal, leave

    cluster = load(file)
    names = [node.name for node in targets.compute(cluster, nodes)]
    check_removal(cluster, file, names)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("node remove asks first, and here is no terminal: add --yes")
        if not typer.confirm(f"Take {fold(names)} out of the cluster?", err=True):
            raise typer.Exit(1)
    failed = leave(cluster, file, names, wait_seconds=0 if now else wait * 60, now=now, dead=dead)
    for sentence in failed:
        typer.echo(sentence, err=True)
    left = [name for name in names if not any(one.startswith(f"{name}:") for one in failed)]
    if left:
        typer.echo(
            f"{fold(left)}: out of {file}. Now run practicum apply: Slurm and the other nodes "
            "forget it."
        )
    raise typer.Exit(1 if failed else 0)
