"""`practicum kernel`: shared kernels for everyone's notebooks."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from practicum import kernel_words
from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from cluster.model import Cluster, Kernel
    from kernels.ask import Desk
    from kernels.sources import Wanted
    from practicum.report import Plain

app = typer.Typer(help="Shared kernels: what notebooks can run.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(help="A kernel.", metavar="NAME")]
Packages = Annotated[list[str], typer.Argument(help="Packages.", metavar="PACKAGE")]
NONE: list[str] = []  # nobody writes to it
LOCKS = "kernels"  # folder beside cluster.toml


@app.callback()
def kernel() -> None:
    pass


@app.command()
def add(  # noqa: PLR0913, PLR0917  each is an option
    name: Name,
    packages: Packages = NONE,
    requirements: Annotated[
        Path | None, typer.Option("--requirements", help="A requirements.txt.", metavar="FILE")
    ] = None,
    pyproject: Annotated[
        Path | None, typer.Option("--pyproject", help="A pyproject.toml.", metavar="FILE")
    ] = None,
    environment: Annotated[
        Path | None,
        typer.Option("--environment", help="conda's environment.yml.", metavar="FILE"),
    ] = None,
    from_lock: Annotated[
        Path | None,
        typer.Option("--from-lock", help="Exactly what this lock file says.", metavar="FILE"),
    ] = None,
    r: Annotated[bool, typer.Option("--r", help="R; packages are R's, or Debian's.")] = False,
    title: Annotated[str, typer.Option("--title", help="Its name in the launcher.")] = "",
    group: Annotated[
        str, typer.Option("--group", help="Only this group sees it; course-NAME is a course.")
    ] = "",
    module: Annotated[
        list[str], typer.Option("--module", help="An Lmod module that it loads first.")
    ] = NONE,
    python: Annotated[
        str, typer.Option("--python", help="Another Python than the system's.", metavar="VERSION")
    ] = "",
    file: File = DEFAULT_FILE,
) -> None:
    """Build a new kernel, try it on a compute node, and put it into everyone's launcher.

    It is built by Slurm jobs, one for each kind of processor; a failed build changes nothing. Then
    it is written into cluster.toml, so that practicum apply can make it again.
    """
    from cluster.load import load

    cluster = load(file)
    _new_name(cluster, name)
    values: dict[str, Any] = {
        "title": title or name, "modules": module, "group": group, "python": python,
    }  # fmt: skip
    sources = {"--requirements": requirements, "--pyproject": pyproject,
               "--environment": environment, "--from-lock": from_lock}  # fmt: skip
    values.update(_contents(name, packages, sources, r=r))
    lock_text = values.pop("lock_text", "")
    if r:
        _declare(file, name, values, lock_text)
        typer.echo(
            f"{name} is declared in {file}: practicum apply installs R on the nodes, and shows "
            f"the kernel; then practicum kernel test {name}"
        )
        return
    built = _build(file, name, values, lock_text, {"new": True})
    _declare(file, name, values, lock_text)
    kernel_words.built(name, built)
    module_too = "" if group else "makes its module, for terminals, and "
    of_course = any(group == one.group for one in cluster.courses)
    graded_too = ", and lets its course grade with it" if of_course else ""
    typer.echo(f"practicum apply {module_too}offers it on the start page{graded_too}")


def _new_name(cluster: Cluster, name: str) -> None:
    import re

    from cluster.errors import UsageError
    from cluster.values import NAME

    if not re.fullmatch(NAME.strip("^$"), name):
        raise UsageError(
            f"{name!r} is no name for a kernel: a lower-case letter, then up to 30 of a-z 0-9 _ -"
        )
    if name in {one.name for one in cluster.kernels}:
        raise UsageError(
            f"there is a kernel {name} already: practicum kernel update {name} changes it"
        )


def _contents(
    name: str, packages: list[str], sources: dict[str, Path | None], *, r: bool
) -> dict[str, Any]:
    """Keys of [[kernels]] from what was typed. UsageError unless it is one kind of thing."""
    from cluster import files
    from cluster.errors import UsageError
    from kernels import sources as read

    given = {option: path for option, path in sources.items() if path is not None}
    if len(given) + r > 1:
        words = [*given, *(["--r"] if r else [])]
        raise UsageError(f"{' and '.join(words)} do not go together: choose one")
    if r:
        full = [one if one.startswith("r-") else f"r-cran-{one.lower()}" for one in packages]
        return {"language": "r", "packages": full}
    named = tuple(read.package(one, "PACKAGE") for one in packages)
    if not given:
        if not named:
            raise UsageError(
                "name packages, or a file: --requirements, --pyproject, --environment, --from-lock"
            )
        return {"packages": named}
    option, path = next(iter(given.items()))
    text = files.read(path, UsageError)
    if option == "--from-lock":
        if named:
            raise UsageError("a lock names all packages: no others go with --from-lock")
        return {"language": _not_python(read.lock(text, str(path))),
                "lock": f"{LOCKS}/{name}.lock", "lock_text": text}  # fmt: skip
    parse = {
        "--requirements": read.requirements,
        "--pyproject": read.pyproject,
        "--environment": read.environment,
    }
    found: Wanted = parse[option](text, str(path))
    return {
        "language": _not_python(found.language),
        "packages": read.merged(found.packages, named),
        "channels": found.channels,
    }


def _not_python(language: str) -> str:
    """ "python" is the default, and not written."""
    return "" if language == "python" else language


def _declare(file: Path, name: str, values: dict[str, Any], lock_text: str) -> None:
    """Into cluster.toml, unless that would be wrong."""
    from cluster import files
    from cluster.edit_kernels import with_kernel
    from cluster.rewrite import rewrite

    if lock_text:
        files.write(file.parent / values["lock"], lock_text)
    old = file.read_text(encoding="utf-8")
    new = with_kernel(old, name, values)
    if new != old:
        rewrite(file, new)


def _described(file: Path, name: str, values: dict[str, Any], lock_text: str) -> Cluster:
    """The cluster as it will be: what is wrong with the kernel is said before it is built."""
    from cluster.edit_kernels import with_kernel
    from cluster.rewrite import tried

    text = with_kernel(file.read_text(encoding="utf-8"), name, {**values, "lock": ""})
    cluster = tried(file, text)
    kernels = tuple(
        one.model_copy(update={"lock_text": lock_text}) if one.name == name and lock_text else one
        for one in cluster.kernels
    )
    return cluster.model_copy(update={"kernels": kernels})


def _build(
    file: Path, name: str, values: dict[str, Any], lock_text: str, more: dict[str, Any]
) -> dict[str, Any]:
    from kernels.requests import request
    from practicum.report import reporter

    cluster = _described(file, name, values, lock_text)
    wanted = next(one for one in cluster.kernels if one.name == name)
    order = {"request": json_module.loads(request(cluster, wanted).text()), "by": _who(), **more}
    with reporter() as report:
        return _desk(cluster, file).order("build", order, _teller(report, name))


def _who() -> str:
    """Who is at the keyboard, for the record."""
    import getpass
    import os

    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        return str(os.getuid())


def _teller(report: Plain, name: str) -> Any:
    def say(text: str) -> None:
        report.step(name, text)

    return say


def _desk(cluster: Cluster, file: Path) -> Desk:
    from kernels.ask import Desk

    return Desk(cluster, file.resolve().parent)


def _declared(cluster: Cluster, name: str) -> Kernel:
    from cluster.checks.problem import unknown
    from cluster.errors import UsageError

    for one in cluster.kernels:
        if one.name == name:
            return one
    raise UsageError(unknown(name, [one.name for one in cluster.kernels], "kernel"))


@app.command()
def update(
    name: Name,
    packages: Packages = NONE,
    file: File = DEFAULT_FILE,
) -> None:
    """Build a new version: with the newest packages that fit, and those named here besides.

    A package that is there already gets the condition named here (numpy==2.1). What runs goes on
    with its version; new kernels get the new one. practicum kernel rollback takes it back.
    """
    from cluster.errors import UsageError
    from cluster.load import load
    from kernels import sources as read

    cluster = load(file)
    known = _declared(cluster, name)
    if known.language == "r":
        raise UsageError(f"{name} is the nodes' own R: apt brings its updates to them")
    if known.lock:
        raise UsageError(
            f"{name} is built from {known.lock}: put another lock there, then practicum apply"
        )
    new = tuple(read.package(one, "PACKAGE") for one in packages)
    values = {"packages": read.merged(known.packages, new)}
    built = _build(file, name, values, "", {"only_newer": True})
    _declare(file, name, values, "")
    if built["built"]:
        kernel_words.built(name, built)
    else:
        typer.echo(f"{name}: version {built['record']['version']} is what there is: nothing newer")


@app.command("list")
def list_(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """The kernels, their live versions, and which older ones are kept or still run."""
    from cluster.load import load

    cluster = load(file)
    found = _desk(cluster, file).order("list", {}, lambda _text: None)
    declared = {one.name: one for one in cluster.kernels}
    kernels = [{**one, "declared": one["name"] in declared} for one in found["kernels"]]
    missing = [name for name in declared if name not in {one["name"] for one in kernels}]
    if json:
        typer.echo(json_module.dumps({"kernels": kernels, "missing": missing}))
        return
    width = max((len(name) for name in [*declared, *(one["name"] for one in kernels)]), default=0)
    for one in kernels:
        typer.echo(f"{one['name']:<{width}}  {kernel_words.summary(one)}")
    for name in missing:
        typer.echo(f"{name:<{width}}  not built yet: practicum apply")


@app.command()
def show(
    name: Name,
    version: Annotated[int, typer.Option("--version", help="Not the live one.", min=0)] = 0,
    lock: Annotated[bool, typer.Option("--lock", help="Print only its lock file.")] = False,
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Show where a version comes from and what is in it."""
    from cluster.errors import PracticumError
    from cluster.load import load

    cluster = load(file)
    found = _desk(cluster, file).order("show", {"name": name, "version": version}, lambda _: None)
    if lock:
        if not found["locks"]:
            raise PracticumError(f"{name} has no lock")
        typer.echo("".join(found["locks"].values()), nl=False)
    elif json:
        typer.echo(json_module.dumps(found))
    else:
        kernel_words.version(found)


@app.command()
def rollback(
    name: Name,
    version: Annotated[
        int, typer.Option("--version", help="This one, not the one before.", min=0)
    ] = 0,
    file: File = DEFAULT_FILE,
) -> None:
    """Make an older version the live one again, at once. Kernels that run keep theirs.

    It stays so, also through practicum apply, until the kernel is updated or its packages change
    in cluster.toml.
    """
    from cluster.load import load
    from kernels.requests import request

    cluster = load(file)
    asked = request(cluster, _declared(cluster, name))
    order = {"name": name, "version": version, "request": json_module.loads(asked.text())}
    done = _desk(cluster, file).order("rollback", order, lambda _: None)
    typer.echo(f"{name}: version {done['version']} is live (it was {done['from']})")


@app.command()
def remove(
    name: Name,
    later: Annotated[
        bool, typer.Option("--later", help="Hide it now; remove it when nobody runs it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    file: File = DEFAULT_FILE,
) -> None:
    """Take a kernel out of the launcher and cluster.toml, and remove all its versions."""
    from cluster.edit_kernels import without_kernel
    from cluster.errors import UsageError
    from cluster.load import load
    from cluster.rewrite import rewrite

    cluster = load(file)
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError("kernel remove asks first, and here is no terminal: add --yes")
        if not typer.confirm(f"Remove the kernel {name} and all its versions?", err=True):
            raise typer.Exit(1)
    done = _desk(cluster, file).order("remove", {"name": name, "later": later}, lambda _: None)
    text = file.read_text(encoding="utf-8")
    if (new := without_kernel(text, name)) != text:
        rewrite(file, new)
    left = ", ".join(map(str, done["left"]))
    if left:
        typer.echo(f"{name}: hidden; version {left} runs: an apply after its end removes it")
    else:
        typer.echo(f"{name}: removed")


@app.command()
def test(
    name: Name,
    node: Annotated[str, typer.Option("--node", help="On this node.", metavar="NODE")] = "",
    file: File = DEFAULT_FILE,
    json: Json = False,
) -> None:
    """Start the kernel on a compute node of each kind, as the launcher would, and run a cell."""
    from cluster.load import load
    from kernels.requests import build_partition
    from practicum.report import reporter

    cluster = load(file)
    part = build_partition(cluster)
    order = {"name": name, "node": node, "partition": part.name if part else ""}
    with reporter(json=json) as report:
        done = _desk(cluster, file).order("test", order, _teller(report, name))
    if json:
        typer.echo(json_module.dumps(done))
    else:
        for one in done["results"]:
            word = "works" if one["ok"] else f"does not work: {one['output']}"
            typer.echo(
                f"{name} version {done['version']} on {one['node']}: {word} ({one['seconds']} s)"
            )
    if not all(one["ok"] for one in done["results"]):
        raise typer.Exit(1)
