"""`practicum module`: what people load with `module load`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from practicum.options import DEFAULT_FILE, NOTHING, File, Json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cluster.model import Cluster, Node
    from lmod.catalogue import Entry

app = typer.Typer(
    help="Modules: the software that people load with `module load`.", no_args_is_help=True
)
ASK_SECONDS = 900
Which = Annotated[str, typer.Argument(help="NAME/VERSION", metavar="MODULE")]
Names = list[str]


def _words(flag: str, text: str) -> Any:
    return typer.Option(flag, help=text, metavar="MODULE")


@app.command()
def add(  # noqa: PLR0913, PLR0917  each is an option
    module: Which,
    prefix: Annotated[
        str, typer.Option("--prefix", help="Where the software is: bin, lib, include ... below it.")
    ] = "",
    lua: Annotated[
        Path | None,
        typer.Option(
            "--lua", help="A modulefile written by hand: published at once.", metavar="FILE"
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option("--kind", help="software, compiler or mpi.", metavar="KIND")
    ] = "",
    under: Annotated[
        Names, _words("--under", "Shown once this is loaded: a compiler, then an MPI.")
    ] = NOTHING,
    load: Annotated[Names, _words("--load", "Is loaded along.")] = NOTHING,
    prereq: Annotated[Names, _words("--prereq", "Must be loaded before.")] = NOTHING,
    conflict: Annotated[Names, _words("--conflict", "Must not be loaded.")] = NOTHING,
    env: Annotated[
        Names, typer.Option("--env", help="A variable that it sets.", metavar="NAME=VALUE")
    ] = NOTHING,
    package: Annotated[
        Names,
        typer.Option("--package", help="Of the distribution, on all nodes.", metavar="PACKAGE"),
    ] = NOTHING,
    description: Annotated[str, typer.Option("--description", help="One line.")] = "",
    deprecated: Annotated[
        str, typer.Option("--deprecated", help="What people read when they load it.")
    ] = "",
    default: Annotated[bool, typer.Option("--default", help="The version without one.")] = False,
    hidden: Annotated[bool, typer.Option("--hidden", help="Not listed, but loaded.")] = False,
    file: File = DEFAULT_FILE,
) -> None:
    """Write a module into cluster.toml. `practicum apply` has Lmod try it, and publishes it.

    With --lua a modulefile of your own is tried and published at once, and nothing is written
    into cluster.toml; --under and --prereq are loaded before the trial.
    """
    from cluster.edit_modules import with_module
    from cluster.errors import UsageError
    from cluster.load import load as read
    from cluster.rewrite import rewrite

    cluster = read(file)
    name, version = _parts(module)
    values: dict[str, Any] = {"prefix": prefix, "kind": kind, "under": under, "load": load,
                              "prereq": prereq, "conflict": conflict, "packages": package,
                              "env": _pairs(env), "description": description,
                              "deprecated": deprecated, "default": default,
                              "hidden": hidden}  # fmt: skip
    given = {key: value for key, value in values.items() if value}
    if lua is not None:
        strange = sorted(set(given) - {"under", "prereq"})
        if strange:
            raise UsageError(f"--{strange[0]} belongs into the modulefile itself, not beside --lua")
        before = [word for one in (*under, *prereq) for word in ("--with", one)]
        typer.echo(_tool(cluster, file, ["put", "--as", module, *before], stdin=_text(lua)))
        return
    if not prefix and not package and not load:
        raise UsageError("say where it is (--prefix), which package it is (--package), what it "
                         "loads (--load), or give a modulefile (--lua)")  # fmt: skip
    text = file.read_text(encoding="utf-8")
    new = with_module(text, {"name": name, "version": version, **given})
    if new == text:
        typer.echo("nothing to change")
        return
    rewrite(file, new)
    limit = "" if package else " --limit " + _login(cluster).name
    typer.echo(f"{file} is changed; practicum apply{limit} publishes {module}")


@app.command("list")
def list_(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """List the modules: practicum's own, those of cluster.toml, and those written by hand."""
    from cluster.errors import PracticumError
    from cluster.load import load

    cluster = load(file)
    rows = [_row(entry) for entry in _entries(cluster, file)]
    trouble = ""
    try:
        site = _state(cluster, file)["site"]
    except PracticumError as error:
        site, trouble = [], str(error)
    rows += [{"module": full, "under": [], "origin": "by hand", "marks": []} for full in site]
    if json:
        import json as json_module

        typer.echo(json_module.dumps({"modules": rows, "trees": cluster.software.module_trees}))
    else:
        _table(rows)
        for tree in cluster.software.module_trees:
            typer.echo(f"and what is in {tree}")
    if trouble:
        typer.echo(f"those written by hand are missing: {trouble}", err=True)


@app.command()
def show(module: Which, file: File = DEFAULT_FILE) -> None:
    """Show the modulefile that practicum writes, and where."""
    from cluster.checks.problem import unknown
    from cluster.errors import UsageError
    from cluster.load import load
    from lmod.catalogue import modulefiles

    cluster = load(file)
    entries = _entries(cluster, file)
    found = [entry for entry in entries if module in (entry.full, entry.name)]
    if not found:
        raise UsageError(unknown(module, [entry.full for entry in entries], "module"))
    for entry in found:
        typer.echo(f"-- {modulefiles(cluster)}/{entry.path}")
        typer.echo(entry.text.lua())


@app.command()
def remove(module: Which, file: File = DEFAULT_FILE) -> None:
    """Take a module out of cluster.toml, or away if it was written by hand.

    Whoever has loaded it keeps what it set until they unload it or log out.
    """
    from cluster.edit_modules import without_module
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.rewrite import rewrite

    cluster = load(file)
    name, version = _parts(module)
    text = file.read_text(encoding="utf-8")
    new = without_module(text, name, version)
    if new != text:
        rewrite(file, new)
        typer.echo(f"{module} is out of {file}; practicum apply takes it away")
    elif module in {entry.full for entry in _entries(cluster, file)}:
        raise UsageError(
            f"{module} is practicum's own: it goes when what it is for goes, and "
            "[software] hidden hides it"
        )
    else:
        typer.echo(_tool(cluster, file, ["drop", module]))


@app.command()
def refresh(file: File = DEFAULT_FILE) -> None:
    """Make the cache anew that `module avail` reads, and name modulefiles with a fault.

    An apply does it by itself, and so does the login node every five minutes if a modulefile has
    changed. This is for who has just put some there and does not want to wait.
    """
    from cluster.load import load

    cluster = load(file)
    typer.echo(_tool(cluster, file, ["refresh"]))


def _login(cluster: Cluster) -> Node:
    """The node that publishes."""
    from cluster.model import NodeRole

    return cluster.first(NodeRole.LOGIN)


def _parts(module: str) -> tuple[str, str]:
    import re

    from cluster.errors import UsageError
    from cluster.values import MODULE_WORD

    name, _, version = module.partition("/")
    if not re.fullmatch(MODULE_WORD, name) or not re.fullmatch(MODULE_WORD, version):
        raise UsageError(
            f"{module} is no name for a module: NAME/VERSION of A-Z a-z 0-9 . _ + -, without .."
        )
    return name, version


def _pairs(words: Sequence[str]) -> dict[str, str]:
    from cluster.errors import UsageError

    strange = [word for word in words if "=" not in word]
    if strange:
        raise UsageError(f"--env {strange[0]}: write NAME=VALUE")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _text(path: Path) -> str:
    from cluster.errors import UsageError

    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as a modulefile: {error}") from None


def _entries(cluster: Cluster, file: Path) -> tuple[Entry, ...]:
    """As the login node's distribution has them: from what it told last."""
    from lmod.catalogue import catalogue
    from provisioning.remembered import last_facts

    return catalogue(cluster, last_facts(file.resolve().parent, _login(cluster).name))


def _row(entry: Entry) -> dict[str, Any]:
    marks = [word for word in ("default", "hidden") if getattr(entry, word)]
    marks += ["deprecated"] if entry.deprecated else []
    return {"module": entry.full, "under": list(entry.under), "origin": entry.origin,
            "marks": marks}  # fmt: skip


def _table(rows: Sequence[dict[str, Any]]) -> None:
    width = max((len(row["module"]) for row in rows), default=0)
    for row in rows:
        under = f"under {', '.join(row['under'])}" if row["under"] else "Core"
        if row["origin"] == "by hand":
            under = "Site"
        marks = f"  ({', '.join(row['marks'])})" if row["marks"] else ""
        typer.echo(f"{row['module']:<{width}}  {row['origin']:<12}  {under}{marks}")


def _state(cluster: Cluster, file: Path) -> dict[str, Any]:
    import json as json_module

    return dict(json_module.loads(_tool(cluster, file, ["state"])))


def _tool(cluster: Cluster, file: Path, words: Sequence[str], stdin: str = "") -> str:
    """What the publishing tool on the login node says. PracticumError with its sentence."""
    from cluster.errors import PracticumError
    from lmod.role import PYTHON, TOOL
    from provisioning.remote import Remote
    from provisioning.ssh import ssh_target

    target = ssh_target(cluster, _login(cluster), file.resolve().parent)
    with Remote(target) as remote:
        done = remote.run([PYTHON, "-I", TOOL, *words], stdin=stdin, timeout=ASK_SECONDS)
    if done.code != 0:
        raise PracticumError(done.said)
    return done.out.strip()
