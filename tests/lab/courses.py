"""A course on a lab for the tests: made by the command, used by instructors and students, undone."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edited import without_strangers

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.cli import run as practicum
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.report import Silent

ASSIGNMENT = "/usr/local/lib/practicum/bin/assignment"
KERNEL = {"display_name": "Python", "language": "python", "name": "python3"}


def notebook() -> str:
    """An assignment of one exercise and its hidden test, worth two points."""
    solution = {
        "cell_type": "code", "id": "c1", "execution_count": None, "outputs": [],
        "metadata": {"nbgrader": {
            "grade": False, "grade_id": "square", "locked": False, "schema_version": 3,
            "solution": True, "task": False,
        }},
        "source": "def square(x):\n    ### BEGIN SOLUTION\n    return x * x\n    ### END SOLUTION\n",
    }  # fmt: skip
    test = {
        "cell_type": "code", "id": "c2", "execution_count": None, "outputs": [],
        "metadata": {"nbgrader": {
            "grade": True, "grade_id": "test_square", "locked": True, "points": 2,
            "schema_version": 3, "solution": False, "task": False,
        }},
        "source": "assert square(3) == 9\n",
    }  # fmt: skip
    return json.dumps({
        "cells": [solution, test], "metadata": {"kernelspec": KERNEL}, "nbformat": 4,
        "nbformat_minor": 5,
    })  # fmt: skip


class Course:
    """One course on the lab. ``name`` and what people do in it, over the lab's SSH."""

    def __init__(self, run_on: Any, name: str) -> None:
        self.run_on, self.name = run_on, name

    def teach(self, *words: str, who: str = "ines", expect: int = 0) -> str:
        """``practicum course WORDS`` as an instructor on the login node."""
        done = self.run_on("login", ["practicum", "course", *words], user=who, timeout=300)
        assert done.returncode == expect, (words, done.returncode, done.stdout, done.stderr)
        return str(done.stdout + done.stderr)

    def student(self, who: str, *words: str, expect: int = 0, node: str = "node01") -> str:
        """``assignment WORDS`` as a student on a compute node."""
        done = self.run_on(node, [ASSIGNMENT, *words], user=who, timeout=180)
        assert done.returncode == expect, (who, words, done.returncode, done.stdout, done.stderr)
        return str(done.stdout + done.stderr)

    def shell(self, who: str, script: str, *, node: str = "node01", expect: int | None = 0) -> Any:
        done = self.run_on(node, ["bash", "-c", script], user=who, timeout=180)
        assert expect is None or done.returncode == expect, (script, done.stdout, done.stderr)
        return done

    def write_source(self, assignment: str) -> None:
        """In the instructor's home, then into the course."""
        self.shell("ines", f"mkdir -p ~/own/'{assignment}'", node="login")
        self.run_on(
            "login", ["tee", f"/home/ines/own/{assignment}/{assignment}.ipynb"], user="ines",
            input=notebook(),
        )  # fmt: skip
        self.teach("put", self.name, assignment, f"/home/ines/own/{assignment}")

    def write_assignment(self, assignment: str) -> None:
        """The same, and handed out."""
        self.write_source(assignment)
        self.teach("release", self.name, assignment)

    def listed(self, who: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.student(who, "list", self.name, "--json"))
        return dict(found[self.name])


@contextmanager
def courses(
    lab: Any,
    run_on: Any,
    *made: tuple[str, list[str], list[str]],
    with_assignments: bool = False,
    more: tuple[str, ...] = (),
    staff: tuple[str, ...] = (),
) -> Iterator[list[Any]]:
    """Courses (name, instructors, students), applied; afterwards the lab is as it was, people whom
    it did not have gone. ``more``: words for each ``course create``; ``staff``: instructors whom
    the lab does not have."""
    how = ["--yes", "--with-assignments"] if with_assignments else ["--no-apply"]
    path: Path = lab.cluster_toml
    before = {one: one.read_bytes() for one in (path, secrets_path(path))}
    words = ["--file", str(path)]
    there = new_files(path)
    try:
        if staff:
            roster = path.parent / "staff.csv"
            roster.write_text("username\n" + "".join(f"{one}\n" for one in staff))
            assert not practicum(["user", "import", str(roster), "--group", "instructors", *words])
            roster.unlink()
        for name, instructors, students in made:
            roster = path.parent / f"{name}.csv"
            roster.write_text("username\n" + "".join(f"{one}\n" for one in students))
            teachers = [word for one in instructors for word in ("--instructor", one)]
            assert not practicum(["course", "create", name, *teachers, "--students", str(roster),
                                  *how, *more, *words])  # fmt: skip
            roster.unlink()
        if not with_assignments:
            apply(path)
        yield [Course(run_on, name) for name, _instructors, _students in made]
    finally:
        was = load(path)
        for one, content in before.items():
            one.write_bytes(content)
        for one in new_files(path) - there:
            one.unlink()
        apply(path)
        for course in was.courses:
            clear(lab, run_on, course)
        without_strangers(lab, run_on)


def new_files(path: Path) -> set[Path]:
    """What importing people writes: accounts, and cards with passwords."""
    return {*path.parent.glob("users/*"), *secrets_path(path).parent.glob("handouts/*")}


def card(path: Path, name: str) -> str:
    """The initial password on somebody's card."""
    pages = [one.read_text() for one in secrets_path(path).parent.glob("handouts/*.html")]
    found = re.findall(
        rf"<code>{name}</code></dd>\s*<dt>Password</dt><dd><code>([^<]+)<", "".join(pages)
    )
    return str(found[-1])


def apply(path: Path) -> None:
    cluster = load(path)
    result = engine.apply(
        cluster, ROLES, load_secrets(secrets_path(path), cluster), base=path.parent,
        confirm=lambda _plan: True, reporter=Silent(),
    )  # fmt: skip
    assert result.ok, result.errors


def clear(lab: Any, run_on: Any, course: Any) -> None:
    """What apply leaves by design: accounts, groups, and files."""
    for node in lab.nodes:
        for name in (course.grader, *course.boxes):
            run_on(node.name, ["userdel", name])
        for name in (course.group, course.teachers, course.grader, *course.boxes):
            run_on(node.name, ["groupdel", "--force", name])
    run_on("login", ["rm", "-rf", f"/nfs/courses/{course.name}"])
    for name in course.people:
        run_on("login", ["rm", "-rf", f"/home/{name}/{course.name}", f"/home/{name}/own",
                         f"/home/{name}/credential"])  # fmt: skip
