"""`practicum lab`: a real cluster in containers on this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from practicum.options import Json

if TYPE_CHECKING:
    from provisioning.lab import LabInfo

app = typer.Typer(help="A real cluster in containers on this machine.", no_args_is_help=True)
Name = Annotated[
    str, typer.Option("--name", help="Which lab: any number live side by side.", metavar="NAME")
]
DEFAULT_NAME = "lab"


@app.command()
def up(
    name: Name = DEFAULT_NAME,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", help="How many nodes, the login node counted (3).", metavar="N"),
    ] = None,
    guest: Annotated[
        str | None,
        typer.Option(
            "--guest",
            help="Their system: debian12 (default), debian13, ubuntu24.04.",
            metavar="GUEST",
        ),
    ] = None,
    hub_port: Annotated[
        int | None,
        typer.Option(
            "--hub-port", help="Show the hub at this port of this machine.", metavar="PORT"
        ),
    ] = None,
    subnet: Annotated[
        str | None,
        typer.Option("--subnet", help="Its private network, like 10.77.0.0/24.", metavar="SUBNET"),
    ] = None,
    bare: Annotated[
        bool, typer.Option("--bare", help="Only boot the nodes; put nothing on them.")
    ] = False,
    json: Json = False,
) -> None:
    """Make a lab, or finish or update the one that is there; tell its hub and accounts."""
    import time

    from practicum.report import reporter
    from practicum.rooms import ROLES
    from provisioning import lab

    begun = time.monotonic()
    with reporter(json=json) as report:
        info = lab.up(
            name,
            nodes=nodes,
            guest=guest,
            hub_port=hub_port,
            subnet=subnet,
            roles=() if bare else ROLES,
            reporter=report,
        )
    _show(info, json=json, took=time.monotonic() - begun)


@app.command()
def info(name: Name = DEFAULT_NAME, json: Json = False) -> None:
    """Tell what a lab is: hub, nodes, accounts, and where its files are."""
    from provisioning import lab

    _show(lab.info(name), json=json)


@app.command("list")
def list_() -> None:
    """Name the labs that there are on this machine."""
    from provisioning import lab

    for name in lab.names():
        typer.echo(name)


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_(
    node: Annotated[str, typer.Argument(help="A node of the lab.", metavar="NODE")],
    command: Annotated[
        list[str] | None,
        typer.Argument(help="What to run, after --; a login shell if nothing.", metavar="COMMAND"),
    ] = None,
    name: Name = DEFAULT_NAME,
    user: Annotated[
        str, typer.Option("--user", help="Run it as this account.", metavar="USER")
    ] = "root",
) -> None:
    """Run a command on a node, with its exit status."""
    from provisioning import lab

    # Not typer's Exit: a command's own 130 is not an interruption of ours.
    raise SystemExit(lab.execute(name, node, command or [], user))


@app.command()
def down(
    name: Name = DEFAULT_NAME,
    purge: Annotated[
        bool, typer.Option("--purge", help="Also what is kept for the next lab: trees, downloads.")
    ] = False,
) -> None:
    """Stop a lab and remove all of it."""
    from practicum.report import reporter
    from provisioning import lab

    with reporter() as report:
        lab.down(name, purge=purge, reporter=report)
    typer.echo(f"lab {name} is gone" + (", and what was kept for the next one" if purge else ""))


def _show(info: LabInfo, *, json: bool, took: float | None = None) -> None:
    if json:
        typer.echo(info.to_json())
        return
    state = f" is up after {took:.0f} s." if took is not None else ""
    which = "" if info.name == DEFAULT_NAME else f" --name {info.name}"
    rows = [f"Lab {info.name} ({info.guest}){state}", "", f"  Hub       {info.hub_url}"]
    for index, account in enumerate(info.accounts):
        label = "" if index else "Accounts"
        rows.append(f"  {label:<9} {account.name:<8} {account.password:<14} {account.role}")
    for index, node in enumerate(info.nodes):
        label = "" if index else "Nodes"
        rows.append(f"  {label:<9} {node.name:<8} {node.address:<14} {', '.join(node.roles)}")
    rows += [
        f"  Cluster   {info.cluster_toml}",
        f"  SSH key   {info.ssh_key}",
        "",
        f"A shell there: {_program()} lab exec {info.nodes[0].name}{which}",
        f"Take it down:  {_program()} lab down{which}",
    ]
    typer.echo("\n".join(rows))


def _program() -> str:
    """This command as it can be typed here: by its path when it was called so."""
    typed = Path(sys.argv[0])
    inside = typed.is_relative_to(Path.cwd()) or not typed.is_absolute()
    if typed.name != "practicum" or not inside:
        return "practicum"
    return str(typed.relative_to(Path.cwd()) if typed.is_absolute() else typed)
