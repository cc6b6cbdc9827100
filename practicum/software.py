"""`practicum software`: software that is built on the cluster itself."""

from __future__ import annotations

from typing import Annotated

import typer

from practicum.options import DEFAULT_FILE, NOTHING, File

app = typer.Typer(help="Software that is built on the cluster itself.", no_args_is_help=True)
RECIPES = ("openmpi",)


@app.callback()
def software() -> None:
    pass


@app.command()
def build(
    what: Annotated[str, typer.Argument(help="openmpi: with Slurm's PMI-2.", metavar="WHAT")],
    user: Annotated[
        str, typer.Option("--user", help="Whose job it is; an admin's if left out.")
    ] = "",
    cores: Annotated[int, typer.Option("--cores", help="Of the job.", min=1, metavar="N")] = 2,
    hours: Annotated[int, typer.Option("--hours", help="The job's limit.", min=1)] = 6,
    memory: Annotated[
        int, typer.Option("--memory", help="Of the job, for each core.", min=1, metavar="MB")
    ] = 600,
    partition: Annotated[
        str, typer.Option("--partition", help="Where; the default one if left out.")
    ] = "",
    configure: Annotated[
        list[str],
        typer.Option("--configure", help="One more option for configure.", metavar="OPTION"),
    ] = NOTHING,
    file: File = DEFAULT_FILE,
) -> None:
    """Build it as a Slurm job into /nfs/apps, and write its module into cluster.toml.

    Takes half an hour on a PC and some hours on a small board. If it fails, nothing is left but
    its log; if it is interrupted, run it again.
    """
    from cluster.checks.problem import unknown
    from cluster.edit_modules import with_module
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.model import NodeRole
    from cluster.rewrite import rewrite
    from lmod.build import Build, openmpi
    from practicum.people_words import somebody
    from practicum.report import reporter
    from provisioning.remembered import last_facts

    if what not in RECIPES:
        raise UsageError(unknown(what, RECIPES, "recipe"))
    cluster = load(file)
    base = file.resolve().parent
    who = somebody(cluster, user)
    facts = last_facts(base, cluster.first(NodeRole.LOGIN).name)
    wanted = Build(who, cores, hours, memory, partition, tuple(configure))
    with reporter() as report:
        values = openmpi(cluster, base, facts, wanted, report.line)
    rewrite(file, with_module(file.read_text(encoding="utf-8"), values))
    full = f"{values['name']}/{values['version']}"
    typer.echo(f"{full} is built; {file} has its module, practicum apply publishes it")
