"""`practicum course grade`: an assignment graded on the cluster, with its progress."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from practicum import grader
from practicum.options import Json


def grade(
    name: Annotated[str, typer.Argument(help="A course.", metavar="COURSE")],
    assignment: Annotated[str, typer.Argument(help="An assignment.", metavar="ASSIGNMENT")],
    student: Annotated[
        list[str] | None, typer.Option("--student", help="Only this one; once for each.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Those already graded, too.")] = False,
    json_: Json = False,
) -> None:
    """Grade what was collected: on the cluster, each submission in a box of its own.

    What is graded already, from the same submission and tests, is left alone. Interrupted, run it
    again. Exit code 1 when a submission could not be graded as it should; each is listed with
    its reason.
    """
    from cluster.errors import PracticumError

    words = [name, assignment, "--events", *(["--again"] if again else [])]
    for one in student or ():
        words += ["--student", one]
    found: list[dict[str, Any]] = []
    skipped = 0
    show = _Show(quiet=json_)
    try:
        for event in _events(words):
            if event["event"] == "begin":
                skipped = len(event["skipped"])
                show.begin(event["students"])
            elif event["event"] == "phase":
                show.phase(event["student"], event["text"])
            elif event["event"] == "done":
                found.append(event)
                show.done(event)
            elif event["event"] == "end" and event["error"]:
                raise PracticumError(event["error"])
    finally:
        show.end()
    bad = [one for one in found if one["status"] != "graded"]
    if json_:
        typer.echo(json.dumps({"graded": found, "skipped": skipped}))
    else:
        _summary(found, bad, skipped)
    if bad:
        raise typer.Exit(1)


def _summary(found: list[dict[str, Any]], bad: list[dict[str, Any]], skipped: int) -> None:
    for one in bad:
        mark = "not graded" if one["status"] == "waiting" else "graded as it is"
        typer.echo(f"{one['student']}: {mark}: {one['reason']}")
    by_hand = sum(bool(one["manual"]) for one in found)
    typer.echo(
        f"{len(found) - len(bad)} graded"
        + (f", {len(bad)} with a problem" if bad else "")
        + (f", {skipped} were graded already" if skipped else "")
        + (f"; {by_hand} have parts to mark by hand" if by_hand else "")
    )


class _Show:
    """A bar on a terminal, a line for each student anywhere else."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.bar: Any = None
        self.task: Any = None
        self.count = self.total = 0

    def begin(self, students: list[str]) -> None:
        self.total = len(students)
        if self.quiet or not students or not sys.stdout.isatty():
            return
        from rich.progress import Progress

        self.bar = Progress(transient=True)
        self.bar.start()
        self.task = self.bar.add_task("grading", total=self.total)

    def phase(self, student: str, text: str) -> None:
        if self.bar:
            self.bar.update(self.task, description=f"{student}: {text}")

    def done(self, entry: dict[str, Any]) -> None:
        self.count += 1
        if self.bar:
            self.bar.update(self.task, completed=self.count)
        elif not self.quiet:
            points = (
                "" if entry["score"] is None else f" {entry['score']:g} of {entry['max_score']:g}"
            )
            typer.echo(f"({self.count}/{self.total}) {entry['student']}: {entry['status']}{points}")

    def end(self) -> None:
        if self.bar:
            self.bar.stop()


def _events(words: list[str]) -> Iterator[dict[str, Any]]:
    """Run the grader's part and read what it tells; its error is ours."""
    from cluster.errors import PracticumError

    course, *rest = words
    with subprocess.Popen(
        grader.argv(course, "grade", *rest),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout and process.stderr  # noqa: S101
        ended = False
        for line in process.stdout:
            event = json.loads(line)
            ended = ended or event["event"] == "end"
            yield event
        said = grader.refused(course, process.stderr.read()).splitlines()
    if not ended:
        raise PracticumError(said[-1] if said else "grading ended without a word")
