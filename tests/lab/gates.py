"""Where the start of a session is held until a test has seen it there: on a fast machine, or when the
test is the slow one, it would be over before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from student import Student, text

HELD = "/nfs/envs/held"
HOLD = """
import os, sys, time
class Hold:
    @staticmethod
    def find_spec(name, path=None, target=None):
        while name == {module!r} and os.path.exists({marker!r}):
            time.sleep(0.1)
sys.meta_path.insert(0, Hold)
"""
FIRST_LOOK = "jupyterhub"  # looked for before a launcher asks the hub for anything
WITH_SECRETS = "jupyter_server.serverapp"  # imported when it has its secrets


@contextmanager
def held(run_on: Any, module: str) -> Iterator[Callable[[], None]]:
    """Sessions that start wait where their Python looks for that module, until what is given is
    called. Only their environment knows of it."""
    find = ["sh", "-c", "echo /nfs/envs/server/current/lib/python3*/site-packages"]
    place = text(run_on("login", find)).strip()
    files = {
        f"{place}/practicum_hold.py": HOLD.format(module=module, marker=HELD),
        f"{place}/practicum_hold.pth": "import practicum_hold\n",
    }

    def let_go() -> None:
        run_on("login", ["rm", "-f", HELD])

    try:
        text(run_on("login", ["touch", HELD]))
        for path, content in files.items():
            text(run_on("login", ["tee", path], input=content))
        yield let_go
    finally:
        let_go()
        run_on("login", ["rm", "-f", *files])


@contextmanager
def notebooks_closed(run_on: Any) -> Iterator[Callable[[], None]]:
    """No notebook starts; call what is given to let them."""

    def change(state: str) -> None:
        text(run_on("login", ["scontrol", "update", "partitionname=notebook", f"state={state}"]))

    change("DOWN")
    try:
        yield lambda: change("UP")
    finally:
        change("UP")


def says(one: Student, words: str) -> None:
    """Follow the waiting page until it says so."""
    for event in one.events():
        if words in event["message"]:
            return
    raise AssertionError(f"the page never said {words!r}")
