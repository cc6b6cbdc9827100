"""`practicum plan` and `practicum apply`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from practicum.options import DEFAULT_FILE, Diff, File, Json, Limit
from practicum.targets import names

if TYPE_CHECKING:
    from cluster.model import Cluster
    from practicum.report import Plain
    from provisioning.engine import Plan, Result

PENDING = 3  # exit code of a plan with changes
LIMIT: list[str] = []  # nobody writes to it
Moved = Annotated[
    list[str],
    typer.Option(
        "--moved",
        help="A role that moves to another node: its data have been moved there.",
        metavar="ROLE",
    ),
]


def plan(
    file: File = DEFAULT_FILE,
    limit: Limit = LIMIT,
    moved: Moved = LIMIT,
    diff: Diff = False,
    json: Json = False,
) -> None:
    """Show what apply would change on the nodes. Changes nothing.

    Exit codes: 0 nothing to change, 3 changes are pending, 1 a node could not be asked.
    """
    _plan(file, limit, _roles(moved), whole=diff, json=json)


def apply(
    file: File = DEFAULT_FILE,
    limit: Limit = LIMIT,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    moved: Moved = LIMIT,
    format_: Annotated[
        str,
        typer.Option(
            "--format", help="Agree to format this disk of [storage.disk].", metavar="SERIAL"
        ),
    ] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="The same as practicum plan.")] = False,
    diff: Diff = False,
    json: Json = False,
) -> None:
    """Make the nodes what cluster.toml says, after showing the plan and asking.

    Can be stopped and run again at any time: it goes on where it was.
    """
    if dry_run:
        _plan(file, limit, _roles(moved), whole=diff, json=json)
        return
    from cluster.errors import UsageError

    if not yes and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "apply asks before it changes anything, and here is no terminal to ask on: "
            "add --yes, or look with practicum plan"
        )
    done = bring(file, limit, _roles(moved), format_=format_, yes=yes, whole=diff, json=json)
    raise typer.Exit(0 if done else 1)


def _plan(file: Path, limit: list[str], moved: list[str], *, whole: bool, json: bool) -> None:
    from practicum import show
    from practicum.report import reporter
    from practicum.rooms import ROLES
    from provisioning import engine, guards

    cluster, known = read(file)
    with reporter(json=json) as report:
        guards.check(cluster, _base(file), moved, report)
        made = engine.plan(
            cluster,
            ROLES,
            known,
            base=_base(file),
            limit=names(cluster, limit, "--limit"),
            reporter=report,
            widen=True,
        )
    if json:
        typer.echo(show.plan_json(made))
    else:
        show.plan(made, whole=whole, addresses=addresses(cluster))
    if any(node.error for node in made.nodes):
        raise typer.Exit(1)
    raise typer.Exit(PENDING if made.pending else 0)


def bring(
    file: Path,
    limit: list[str] = LIMIT,
    moved: list[str] = LIMIT,
    *,
    format_: str = "",
    yes: bool,
    whole: bool = False,
    json: bool = False,
) -> bool:
    """Apply, with everything shown and asked. Whether all nodes are now what the file says."""
    from practicum import formatting, show
    from practicum.report import reporter
    from practicum.rooms import ROLES
    from provisioning import engine, guards
    from provisioning.closing import Closing
    from provisioning.controller import Controller

    cluster, known = read(file)
    with reporter(json=json) as report:
        guards.check(cluster, _base(file), moved, report)
        question = _Question(report, cluster, yes=yes, whole=whole, json=json, format_=format_)

        def run() -> Result:
            return engine.apply(
                cluster,
                ROLES,
                {**known, **formatting.confirmed(cluster, question.format)},
                base=_base(file),
                limit=names(cluster, limit, "--limit"),
                confirm=question.ask,
                reporter=report,
                widen=True,
            )

        result = run()
        if question.again:  # agreed to while asking: the same plan, now with leave to format
            result = run()
    if question.declined:
        typer.echo("nothing was changed", err=json)
        return False
    guards.remember(cluster, _base(file), went_well(result))
    if json:
        typer.echo(show.result_json(result))
    else:
        show.result(result)
    if not result.ok:
        return False
    if not limit:  # all have one munge key now, whatever was cut off before
        with reporter(json=json) as report:
            Closing(Controller(cluster, _base(file)), _base(file), report).open_left()
    return True


def went_well(result: Result) -> set[str]:
    """The nodes that are now what cluster.toml says: a dead one takes nothing from the others."""
    return {node.node for node in result.nodes if result.confirmed and not node.error}


class _Question:
    """Show the plan, then ask (unless told yes), on the terminal and never into JSON."""

    def __init__(
        self, report: Plain, cluster: Cluster, *, yes: bool, whole: bool, json: bool, format_: str
    ) -> None:
        self._report = report
        self._cluster = cluster
        self._yes, self._whole, self._json = yes, whole, json
        self.format = format_  # the disk that may be formatted
        self.again = False
        self.declined = False

    def ask(self, made: Plan) -> bool:
        from practicum import formatting, show

        self._report.pause()
        if self.again:
            return True
        if not self._json or not self._yes:
            show.plan(
                made,
                whole=self._whole,
                to_stderr=self._json,
                addresses=addresses(self._cluster),
            )
        if not self.format:
            self.format = formatting.ask(made, self._cluster, yes=self._yes)
            self.again = bool(self.format)
        if not self._yes:
            self.declined = not typer.confirm("Apply this?", err=True)
            self.again = self.again and not self.declined
        return not self.declined and not self.again


def read(file: Path) -> tuple[Cluster, dict[str, str]]:
    """The cluster and its secrets; ConfigError says what is wrong with either."""
    from cluster.load import load
    from cluster.secrets import load_secrets, secrets_path

    cluster = load(file)
    return cluster, load_secrets(secrets_path(file), cluster)


def _roles(words: list[str]) -> list[str]:
    from cluster.errors import UsageError
    from provisioning.guards import HOLDINGS

    valid = [holding.role.value for holding in HOLDINGS]
    strange = [word for word in words if word not in valid]
    if strange:
        raise UsageError(f"--moved: {strange[0]} has no data to move; there are {', '.join(valid)}")
    return words


def addresses(cluster: Cluster) -> dict[str, str]:
    return {node.name: node.address for node in cluster.machines}


def _base(file: Path) -> Path:
    return file.resolve().parent
