"""Every command in docs/admin.md, on the lab, in the page's order."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from admin_page import PAGE, commands, examples

from practicum.rooms import ROLES
from provisioning import lab as labs
from provisioning.report import Silent

pytestmark = pytest.mark.lab
MOST_EXAMPLES = 12


@pytest.fixture
def folder(lab, tmp_path: Path) -> Iterator[Path]:
    """A copy of the lab's folder to work in. In the end the lab is as it was, all nodes up."""
    place = tmp_path / "cluster"
    shutil.copytree(lab.cluster_toml.parent, place)
    # another test's cards would give the page's a number
    shutil.rmtree(place / "secrets/handouts", ignore_errors=True)
    yield place
    labs.up(lab.name, roles=ROLES, reporter=Silent())


def test_every_command_of_the_page(lab, folder: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    # The page's addresses are those of the example that `practicum init` writes.
    for index, node in enumerate(lab.nodes):
        text = text.replace(f"10.42.0.{10 + index}", node.address)
    typed = commands(text)
    assert len(typed) > 20
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    (folder.parent / "home/.ssh").mkdir(parents=True)  # ssh-copy-id keeps drafts there
    env = {**os.environ, "PATH": path, "HOME": str(folder.parent / "home")}
    for command in typed:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.text],
            cwd=folder, env=env, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert not (wrong := command.wrong(done.returncode, done.stdout + done.stderr)), wrong


def test_examples_are_few_and_say_why_they_are_not_run() -> None:
    found = examples(PAGE.read_text(encoding="utf-8"))
    assert len(found) <= MOST_EXAMPLES, found
    assert all(len(reason) > 10 for _, reason in found), found
