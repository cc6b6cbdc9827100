"""`practicum course record` and `try`: cluster tests without a class, or without a cluster."""

from __future__ import annotations

import getpass
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from practicum.options import Json


def record(
    account: Annotated[str, typer.Argument(help="The course's account.", metavar="COURSE")],
    to: Annotated[Path, typer.Option("--to", help="Where to write it.", metavar="FILE")],
    days: Annotated[int, typer.Option("--days", min=1, help="How far back.")] = 7,
) -> None:
    """Record your own jobs in a course, as grading would see them, to try tests on."""
    import time

    from coursework import snapshot
    from coursework.accounting import Window

    now = int(time.time())
    taken = snapshot.take(getpass.getuser(), account, Window(now - days * 86400, now))
    to.write_text(snapshot.dump(taken), encoding="utf-8")
    typer.echo(f"{len(taken.counted)} jobs of {taken.user} in {account}: {to}")


def try_tests(
    notebook: Annotated[Path, typer.Argument(help="An assignment's source notebook.")],
    recorded: Annotated[
        Path, typer.Option("--accounting", help="Recorded jobs.", metavar="FILE", exists=True)
    ],
    handed_in: Annotated[
        Path | None, typer.Option("--files", help="A folder with what is handed in besides.")
    ] = None,
    json_: Json = False,
) -> None:
    """Run a notebook's cluster tests on recorded jobs, without a cluster."""
    from cluster.errors import PracticumError, UsageError
    from coursework import snapshot
    from coursework.clustercells import is_cluster_test, source, verdict_of
    from coursework.clustertests import Work
    from coursework.grading import handed_in as files_in

    try:
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{notebook} is no notebook: {error}") from None
    accounting = snapshot.load(recorded)
    files = files_in(handed_in) if handed_in else {}
    work = Work(accounting.user, notebook.parent.name, accounting, files=files)
    found: list[dict[str, Any]] = []
    for cell in cells:
        if not is_cluster_test(cell):
            continue
        about = cell["metadata"]["nbgrader"]
        name, points = str(about["grade_id"]), float(about["points"])
        verdict = verdict_of(source(cell), work, where=name)
        earned = round(points * verdict.share, 2)
        found.append({"test": name, "points": points, "earned": earned, "feedback": verdict.text})
    if not found:
        raise PracticumError(f"{notebook} has no cluster tests: see docs/instructor.md")
    if json_:
        typer.echo(json.dumps(found))
        return
    for one in found:
        typer.echo(f"{one['test']}: {one['earned']:g} of {one['points']:g}\n{one['feedback']}\n")
