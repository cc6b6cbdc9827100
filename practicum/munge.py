"""`practicum munge`: the key by which nodes trust each other."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from practicum.options import DEFAULT_FILE, File

app = typer.Typer(help="The key by which nodes trust each other.", no_args_is_help=True)


@app.callback()
def munge() -> None:
    pass


@app.command()
def rotate(
    file: File = DEFAULT_FILE,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Replace the munge key on all nodes at once. Running and waiting jobs stay.

    Every node must answer, and nothing else may wait to be applied. For some seconds no job
    starts, and Slurm's commands may say that authentication failed: run them again.
    """
    from cluster.errors import UsageError
    from cluster.secrets import save_secrets, secrets_path
    from practicum import show
    from practicum.converge import read
    from practicum.report import reporter
    from practicum.rooms import ROLES
    from provisioning import munge_key

    if not yes:
        if not sys.stdin.isatty():
            raise UsageError("rotate asks first, and here is no terminal to ask on: add --yes")
        if not typer.confirm("Replace the munge key on all nodes?", err=True):
            typer.echo("nothing was changed")
            raise typer.Exit(1)
    cluster, known = read(file)
    path = secrets_path(file)
    with reporter(json=False) as report:
        result = munge_key.rotate(
            cluster,
            ROLES,
            known,
            lambda values: save_secrets(path, values),
            base=file.resolve().parent,
            reporter=report,
        )
    show.result(result)
    raise typer.Exit(0 if result.ok else 1)
