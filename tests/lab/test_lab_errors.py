"""What a lab says when it cannot be, and that it leaves nothing then."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys

import pytest

from practicum.report import Plain
from provisioning import lab as labs
from provisioning.lab import network, system

pytestmark = pytest.mark.lab

COMMAND = [sys.executable, "-m", "practicum", "lab"]


def refused(*argv: str, code: int = 2, env: dict[str, str] | None = None) -> str:
    """The one line on stderr of a command that must fail."""
    done = subprocess.run(
        [*COMMAND, *argv],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **(env or {})},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_subnet_that_is_a_route_of_this_machine() -> None:
    taken = next(str(subnet) for subnet, what in network.in_use("none") if "pr-" not in what)
    said = refused("up", "--name", "t-subnet", "--bare", "--subnet", taken)
    assert f"subnet {taken} is taken" in said
    assert "--subnet" in said
    assert "t-subnet" not in labs.names()


def test_a_subnet_of_another_lab(lab) -> None:
    own = lab.nodes[0].address.rpartition(".")[0]
    said = refused("up", "--name", "t-subnet", "--bare", "--subnet", f"{own}.128/25")
    assert "is taken" in said


@pytest.mark.parametrize("text", ["10.77.300.0/24", "10.77.1.5/24", "10.77.1.0/29", "fd00::/64"])
def test_a_subnet_that_is_none_or_too_small(text: str) -> None:
    assert text in refused("up", "--name", "t-subnet", "--bare", "--subnet", text)


def test_a_port_that_is_taken() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = str(holder.getsockname()[1])
        said = refused("up", "--name", "t-port", "--bare", "--hub-port", port)
    assert f"port {port} of this machine is taken" in said
    assert "t-port" not in labs.names()


def test_no_registry_reached(tmp_path) -> None:
    closed = "http://127.0.0.1:9"
    env = {"http_proxy": closed, "https_proxy": closed, "PRACTICUM_CACHE": str(tmp_path)}
    said = refused("up", "--name", "t-net", "--bare", code=1, env=env)
    assert "no package registry" in said
    assert "proxy" in said
    assert "t-net" not in labs.names()


def test_not_root() -> None:
    """By the command itself, as another user."""
    if shutil.which("setpriv") is None:
        pytest.fail("setpriv (util-linux) is missing")
    code = (
        "import sys\n"
        "from practicum.cli import main\n"
        # nobody may not be able to read where Python lies: import before turning into it, also
        # what typer imports when it is first used
        "import practicum.lab, practicum.report, practicum.rooms, provisioning.lab, rich.text\n"
        "from typer.testing import CliRunner\n"
        "from practicum.cli import app\n"
        "assert CliRunner().invoke(app, ['lab', 'up', '--help']).exit_code == 0\n"
        "import os\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.argv = ['practicum', 'lab', 'up', '--name', 't-root']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "needs root" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["", "A", "a b", "a/b", "..", "-a", "a-", "1a", "a" * 13, "a.b"])
def test_names_that_no_lab_can_have(name: str) -> None:
    assert "cannot name a lab" in refused("up", f"--name={name}", "--bare")
    assert "cannot name a lab" in refused("down", f"--name={name}")


def test_a_guest_or_size_that_there_is_not() -> None:
    assert "debian12, debian13, ubuntu24.04" in refused("up", "--name", "t-g", "--guest", "beos")
    assert "2 to 40 nodes" in refused("up", "--name", "t-g", "--nodes", "1")
    assert "t-g" not in labs.names()


def test_a_lab_that_is_otherwise(lab) -> None:
    said = refused("up", "--name", lab.name, "--nodes", str(len(lab.nodes) + 1))
    assert f"lab {lab.name} is there with nodes {len(lab.nodes)}" in said


def test_a_lab_or_node_that_there_is_not(lab) -> None:
    assert "there is no lab 't-none'" in refused("info", "--name", "t-none")
    assert "node01" in refused("exec", "node99", "--name", lab.name, "--", "true")


def test_two_commands_on_one_lab_at_once() -> None:
    with system.locked("lab-t-busy", wait=1, busy="?"):
        said = refused("up", "--name", "t-busy", "--bare", code=1)
    assert "by another command" in said
    assert "t-busy" not in labs.names()


def test_a_damaged_state_can_be_taken_down(made_labs) -> None:
    name = made_labs()
    folder = system.STATE / name
    folder.mkdir(parents=True)
    (folder / "lab.json").write_text("{ half")
    said = refused("info", "--name", name, code=1)
    assert f"practicum lab down --name {name}" in said
    labs.down(name, reporter=Plain())
    assert not folder.exists()
