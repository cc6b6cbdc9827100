"""`practicum selftest`: whether the cluster computes, and how fast."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from practicum.options import DEFAULT_FILE, NOTHING, File, Json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cluster.model import Cluster
    from lmod.selftest import Outcome, Plan

app = typer.Typer(help="Whether the cluster computes, and how fast.", no_args_is_help=True)
LAST = Path("state/selftest-mpi.json")  # beside cluster.toml


@app.callback()
def selftest() -> None:
    pass


@app.command()
def mpi(
    user: Annotated[
        str, typer.Option("--user", help="Whose job it is; an admin's if left out.")
    ] = "",
    nodes: Annotated[
        list[str],
        typer.Option("--nodes", help="Only these; all that are well if left out.", metavar="NODES"),
    ] = NOTHING,
    modules: Annotated[
        str, typer.Option("--modules", help="What the job loads.", metavar="MODULES")
    ] = "gcc openmpi",
    kind: Annotated[
        str, typer.Option("--mpi", help="srun's --mpi; slurm.mpi_default if left out.")
    ] = "",
    wait: Annotated[
        int, typer.Option("--wait", help="How many minutes to wait for the nodes.")
    ] = 15,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Run MPI over all nodes, with srun and with mpirun: latency, bandwidth, a sum over all.

    Tries the nodes' ports first and says which are closed. Figures of the last run are in
    brackets. Exit code 1 if anything is wrong.
    """
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.model import NodeRole
    from lmod import selftest as work
    from practicum.report import reporter

    cluster = load(file)
    base = file.resolve().parent
    with reporter(json=json) as report:
        plan = _plan(cluster, file, user, nodes, modules.split(), kind)
        report.line(f"trying the ports between {len(plan.nodes) + 1} nodes")
        places = {node.name: node for node in cluster.machines}
        names = dict.fromkeys([cluster.first(NodeRole.LOGIN).name, *plan.nodes])
        closed = work.probe(cluster, base, [places[name] for name in names])
        wrong = list(work.closed_sentences(closed))
        outcomes: dict[str, Outcome] = {}
        if not wrong:
            try:
                output = work.Job(cluster, base, plan, report.line).run(wait * 60.0)
            except ValueError as error:
                raise UsageError(str(error)) from None
            try:
                outcomes = work.read(output)
            except ValueError as error:
                wrong.append(f"{error}: {output.strip()[-300:] or 'it wrote nothing'}")
            else:
                wrong += work.troubles(plan, outcomes, output)
    last = _last(base)
    if json:
        told = {"nodes": plan.nodes, "runs": work.figures(outcomes), "last": last,
                "closed": closed, "problems": wrong}  # fmt: skip
        typer.echo(json_module.dumps(told))
    else:
        _table(outcomes, last)
        for sentence in wrong:
            typer.echo(sentence, err=True)
    if not wrong:
        _keep(base, work.figures(outcomes))
    raise typer.Exit(1 if wrong else 0)


def _plan(
    cluster: Cluster, file: Path, user: str, nodes: list[str], modules: list[str], kind: str
) -> Plan:
    from cluster.errors import PracticumError
    from cluster.model import NodeRole
    from lmod.selftest import Plan
    from practicum import targets
    from practicum.people_words import somebody
    from provisioning.controller import Controller

    who = somebody(cluster, user)
    views = Controller(cluster, file.resolve().parent).views()
    if nodes:
        chosen = [node.name for node in targets.compute(cluster, nodes)]
    else:
        chosen = [node.name for node in cluster.with_role(NodeRole.COMPUTE)]
        ill = [name for name in chosen if name not in views or not views[name].well]
        if ill:
            typer.echo(f"left out, since Slurm does not use them: {', '.join(ill)}", err=True)
        chosen = [name for name in chosen if name not in ill]
    if not chosen:
        raise PracticumError("no compute node is well: see practicum status")
    return Plan(who, tuple(chosen), tuple(modules), kind)


def _last(base: Path) -> dict[str, Any]:
    try:
        return dict(json_module.loads((base / LAST).read_text()))
    except (OSError, ValueError):
        return {}


def _keep(base: Path, figures: Mapping[str, Any]) -> None:
    from cluster import files

    files.write(base / LAST, json_module.dumps(figures, indent=1) + "\n")


def _table(outcomes: Mapping[str, Outcome], last: Mapping[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from lmod.selftest import rows

    found = rows(outcomes, last)
    if not found:
        return
    table = Table(box=None, pad_edge=False)
    for column in ("", "processes", "latency µs", "bandwidth MB/s", "sum over all µs"):
        table.add_column(column, no_wrap=True)
    for row in found:
        table.add_row(*row)
    Console(highlight=False, width=120).print(table)
