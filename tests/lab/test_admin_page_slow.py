"""What docs/admin.md does that takes long, or leaves a cluster other than it was: on a lab of its own.

An hour, most of it the build of an Open MPI. No part of `make test`:

    .venv/bin/pytest -m slow tests/lab/test_admin_page_slow.py
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_page import PAGE, Typed, commands, run, surroundings
from run_in_lab import run_in

from cluster.edit import without_nodes
from practicum.report import Plain
from practicum.rooms import ROLES
from provisioning import lab as labs

pytestmark = pytest.mark.slow
HOURS = 2 * 3600.0
SOFTWARE, KERNEL, MOVED = "software build", "practicum kernel", "moves the role controller"
SUBJECTS = (SOFTWARE, KERNEL, MOVED)
Run = Callable[[Typed], None]


@pytest.fixture(scope="module")
def own() -> Iterator[labs.LabInfo]:
    """A lab whose cluster.toml is ours to change."""
    name = "t-admin-page"
    try:
        yield labs.up(name, nodes=3, roles=ROLES, reporter=Plain())
    finally:
        labs.down(name, reporter=Plain())


@pytest.fixture(scope="module")
def type_(own: labs.LabInfo, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Types a command in the folder of its cluster.toml."""
    env = surroundings(tmp_path_factory.mktemp("admin") / "home")
    return lambda command: run(command, own.cluster_toml.parent, env, timeout=HOURS)


def typed(own: labs.LabInfo, about: str) -> list[Typed]:
    """The page's slow commands about something: whose words have it, up to the next subject."""
    text = PAGE.read_text(encoding="utf-8")
    for index, node in enumerate(own.nodes):
        text = text.replace(f"10.42.0.{10 + index}", node.address)
    found: dict[str, list[Typed]] = {}
    subject = ""
    for command in commands(text, "slow"):
        said = [command.text, *command.output]
        subject = next((one for one in SUBJECTS if any(one in line for line in said)), subject)
        found.setdefault(subject, []).append(command)
    assert set(found) == set(SUBJECTS), found
    return found[about]


@pytest.mark.parametrize("subject", [KERNEL, SOFTWARE])
def test_builds(own: labs.LabInfo, type_: Run, subject: str) -> None:
    for command in typed(own, subject):
        type_(command)


def test_the_controller_moves_with_its_queue(own: labs.LabInfo, type_: Run) -> None:
    """A job runs through it, one that waits is still there, and accounting goes on."""
    on: Any = run_in(own)
    submit = ["sbatch", "--parsable", "--chdir=/tmp", "--output=/dev/null", "--time=00:30:00"]
    running = on("login", [*submit, "-w", "node02", "--wrap=sleep 600"], user="ada").stdout.strip()
    waiting = on("login", [*submit, "--hold", "--wrap=true"], user="ada").stdout.strip()
    assert running.isdigit() and waiting.isdigit()
    path: Path = own.cluster_toml
    type_(Typed(0, "practicum apply --yes"))  # since then it is known where the data are
    text = path.read_text()
    assert text.count('"login", "controller", "database"') == 1, text
    text = text.replace('"login", "controller", "database"', '"login", "database"')
    text = without_nodes(text, ["node01"]) + (
        f'\n[[nodes]]\nname = "node01"\naddress = "{own.nodes[1].address}"\n'
        'roles = ["compute", "controller"]\ncpus = 2\nmemory_mb = 2000\n'
    )
    path.write_text(text)
    moving = typed(own, MOVED)
    assert "--moved controller" in moving[-1].text
    for command in moving:
        type_(command)
    # by a log-in, which is told where the controller is
    look = ["ssh", "-o", "BatchMode=yes", "login", "squeue", "-h", "-o", "'%i %T %r'", "-S", "i"]
    states = on("node02", look, user="ada").stdout
    assert f"{running} RUNNING" in states and f"{waiting} PENDING JobHeldUser" in states, states
    ping = on("node02", ["scontrol", "ping"]).stdout
    assert "at node01 is UP" in ping, ping
    assert on("login", ["systemctl", "is-active", "slurmctld"]).stdout.strip() != "active"
    new = on("node02", ["ssh", "-o", "BatchMode=yes", "login", "srun --chdir=/tmp hostname"],
             user="ben", timeout=120)  # fmt: skip
    assert new.stdout.startswith("node"), new.stderr
    assert on("node01", ["scancel", running, waiting]).returncode == 0
    run(Typed(0, "practicum status"), path.parent, surroundings(path.parent / "home"))
