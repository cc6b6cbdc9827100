"""`practicum assignment`: those that come with practicum, and trying tests of one's own."""

from __future__ import annotations

import base64
import io
import json as to_json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from practicum.options import Json

app = typer.Typer(help="Assignments that are graded by what the cluster saw.", no_args_is_help=True)


@app.callback()
def assignment() -> None:
    pass


@app.command("list")
def show_list(json: Json = False) -> None:
    """The assignments that come with practicum, in the order in which they are taught."""
    from coursework import notebooks

    sources = {name: notebooks.load(name) for name in notebooks.names()}
    if json:
        rows = {name: {**source.head, "points": source.points} for name, source in sources.items()}
        typer.echo(to_json.dumps(rows))
        return
    for name, source in sources.items():
        minutes = source.head["minutes"]
        typer.echo(f"{name:16} {source.points:3} points  {minutes:>4} min  {source.title}")


@app.command()
def put(
    course: Annotated[str, typer.Argument(metavar="COURSE", help="A course that you teach.")],
    names: Annotated[
        list[str], typer.Argument(metavar="[NAME]...", help="Which; all if left out.")
    ] = [],  # noqa: B006  typer copies it
) -> None:
    """Put assignments into a course. What is there already stays as it is."""
    from practicum import grader

    typer.echo(grader.ask("bring", course, *names))


@app.command()
def write(
    course: Annotated[str, typer.Argument(metavar="COURSE", help="Its name and Slurm account.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of your own.")],
    names: Annotated[
        list[str], typer.Argument(metavar="[NAME]...", help="Which; all if left out.")
    ] = [],  # noqa: B006  typer copies it
) -> None:
    """Write assignments into a folder, to look at or change first; `practicum course put` brings
    them into the course. What is there already stays as it is."""
    from cluster.errors import PracticumError
    from coursework import notebooks

    for name in names or notebooks.names():
        try:
            done = notebooks.write(name, folder, course)
        except OSError as error:
            raise PracticumError(f"{folder} cannot be written to: {error.strerror}") from None
        typer.echo(f"{name}: {'written' if done else 'is there, and stays as it is'}")


@app.command()
def record(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The assignment's name.")],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to keep the recording.")],
    account: Annotated[str, typer.Option(help="The course's Slurm account.")],
    folder: Annotated[Path, typer.Option(help="What would be handed in.")] = Path(),
    hours: Annotated[float, typer.Option(help="How long ago the first job may be.")] = 12,
) -> None:
    """Keep a folder's files, and your jobs of the last hours that were submitted from it, to try
    tests on. Do a cheating version in a copy of the folder: each has its own jobs."""
    import getpass
    import time
    from dataclasses import replace

    from cluster.errors import PracticumError
    from coursework import recording, snapshot
    from coursework.accounting import Window
    from coursework.clustertests import Work

    now = int(time.time())
    student = getpass.getuser()
    accounting = snapshot.take(student, account, Window(now - int(hours * 3600), now))
    try:
        files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())
                 if path.is_file() and path.stat().st_size <= recording.LARGEST}  # fmt: skip
        place = folder.resolve()
        jobs = tuple(job for job in accounting.jobs if Path(job.work_dir).is_relative_to(place))
        kept = replace(accounting, jobs=jobs)
        work = Work(student, name, kept, recording.texts(files))
        file.write_text(recording.dump(work), encoding="utf-8")
    except OSError as error:
        raise PracticumError(f"{error.filename}: {error.strerror}") from None
    typer.echo(f"{file}: jobs of {student}: {len(kept.counted)}, files: {len(work.files)}")
    if elsewhere := len(accounting.counted) - len(kept.counted):
        typer.echo(f"left out, since submitted from other folders: {elsewhere}")


@app.command("try")
def try_tests(
    notebook: Annotated[
        Path,
        typer.Argument(metavar="NOTEBOOK", help="COURSE/ASSIGNMENT, or a source notebook's file."),
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording.")],
    json: Json = False,
) -> None:
    """Run a notebook's cluster tests on a recording, and show points and feedback."""
    from coursework import recording

    found = recording.grade(_source(notebook), recording.load(file))
    if json:
        rows = [
            {"test": one.cell, "points": one.points, "earned": one.earned,
             "feedback": one.verdict.text} for one in found
        ]  # fmt: skip
        typer.echo(to_json.dumps(rows))
        return
    for one in found:
        typer.echo(f"{one.cell}: {one.earned:g} of {one.points:g}")
        for line in one.verdict.lines:
            typer.echo(f"    {line}")
    total = sum(one.points for one in found)
    typer.echo(f"together: {sum(one.earned for one in found):g} of {total:g}")


def _source(notebook: Path) -> Mapping[str, Any]:
    """A notebook of one's own, or that of a course which one teaches, as COURSE/ASSIGNMENT."""
    from cluster.errors import PracticumError
    from coursework import recording
    from coursework.session.wire import WireError, read_body
    from practicum import grader

    # not exists(): in a teacher's home COURSE/ASSIGNMENT is the folder that was fetched
    if notebook.suffix or notebook.is_file() or len(notebook.parts) != 2:
        return recording.read_notebook(notebook)
    course, name = notebook.parts
    head, _, body = grader.ask("get", course, name).partition("\n")
    size, sha256 = head.split()
    try:
        files = dict(read_body(io.BytesIO(base64.b64decode(body)), int(size), sha256))
    except WireError as error:
        raise PracticumError(f"{notebook} was not read: {error}") from None
    if f"{name}.ipynb" not in files:
        raise PracticumError(f"{course} has no {name}/{name}.ipynb: name the notebook's file")
    return recording.notebook(files[f"{name}.ipynb"].decode(errors="replace"), str(notebook))
