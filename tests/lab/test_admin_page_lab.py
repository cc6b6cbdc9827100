"""Every command in docs/admin.md that a lab can run, in the page's order."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_page import PAGE, commands, run, surroundings
from courses import clear
from edited import without_strangers

from cluster.load import load
from practicum.rooms import ROLES
from provisioning import lab as labs
from provisioning.report import Silent

pytestmark = pytest.mark.lab


@pytest.fixture
def folder(lab, run_on, tmp_path: Path) -> Iterator[Path]:
    """A copy of the lab's folder to work in. In the end the lab is as it was, all nodes up."""
    place = tmp_path / "cluster"
    shutil.copytree(lab.cluster_toml.parent, place)
    # another test's cards would give the page's a number
    shutil.rmtree(place / "secrets/handouts", ignore_errors=True)
    yield place
    gone = load(place / "cluster.toml").courses
    labs.up(lab.name, roles=ROLES, reporter=Silent())
    for course in gone:
        clear(lab, run_on, course)
    without_strangers(lab, run_on)


def test_every_command_of_the_page(lab, folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    # The page's addresses are those of the example that `practicum init` writes.
    for index, node in enumerate(lab.nodes):
        text = text.replace(f"10.42.0.{10 + index}", node.address)
    typed = commands(text, "lab")
    assert len(typed) > 20
    env = surroundings(folder.parent / "home")
    for command in typed:
        run(command, folder, env)


def test_every_command_of_the_page_on_the_login_node(lab, tmp_path: Path) -> None:
    typed = commands(PAGE.read_text(encoding="utf-8"), "login")
    assert typed
    env = surroundings(tmp_path / "home")
    there = ["practicum", "lab", "exec", "--name", lab.name, "login", "--"]
    for command in typed:
        run(command, tmp_path, env, through=[*there, "bash", "-euo", "pipefail", "-c"])
