"""A lab's cluster.toml, edited and applied as an admin does it; afterwards all is as it was."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from student import text
from test_commands_lab import practicum

from cluster import courses, people
from cluster.load import load
from cluster.secrets import secrets_path


@contextmanager
def edited(lab: Any) -> Iterator[Path]:
    """The file to edit. In the end it and the secrets are as before, what an import made beside
    them is gone, and the nodes are applied again and have nothing left to change."""
    path: Path = lab.cluster_toml
    before = {one: one.read_bytes() for one in (path, secrets_path(path))}
    made = (path.parent / "users", path.parent / "secrets/handouts")
    try:
        yield path
    finally:
        for one, content in before.items():
            one.write_bytes(content)
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
        apply(path)
        plan_is_empty(path)


def apply(path: Path) -> str:
    done = practicum("apply", "--yes", "--file", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def plan_is_empty(path: Path) -> None:
    done = practicum("plan", "--file", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def without_strangers(lab: Any, run_on: Any) -> None:
    """Accounts and groups with numbers of a class list that cluster.toml does not have are removed
    from the nodes. Apply only closes them, and the next test's class would get their numbers."""
    cluster = load(lab.cluster_toml)
    known = {one.name for one in (*cluster.users, *cluster.groups)}
    gone = set()
    for node in lab.nodes:
        for table, remove in (("passwd", "userdel"), ("group", "groupdel")):
            for row in run_on(node.name, ["getent", table]).stdout.splitlines():
                name, _, number = row.split(":")[:3]
                if people.FIRST_UID <= int(number) < courses.FIRST_UID and name not in known:
                    # by force: a log-in of theirs may still be ending
                    text(run_on(node.name, [remove, "--force", name]))
                    gone.add(f"/home/{name}")
    run_on("login", ["rm", "-rf", *gone])


def replaced(text: str, old: str, new: str) -> str:
    """With a part of it changed that must be there, once."""
    assert text.count(old) == 1, old
    return text.replace(old, new)
