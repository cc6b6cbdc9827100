"""People on a real cluster: a class imported, used, and closed again; SSH between nodes; limits."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edited import without_strangers

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.cli import run as practicum
from practicum.rooms import ROLES
from provisioning import engine
from provisioning.planning import Result
from provisioning.report import Silent

pytestmark = pytest.mark.lab


@pytest.fixture
def apply(lab, run_on) -> Iterator[Callable[[], Result]]:
    """Applies the lab's cluster.toml; afterwards the file is as it was, and so are the nodes."""
    path: Path = lab.cluster_toml
    secret = secrets_path(path)
    before = {one: one.read_bytes() for one in (path, secret)}

    def work() -> Result:
        cluster = load(path)
        result = engine.apply(
            cluster, ROLES, load_secrets(secret, cluster),
            base=path.parent, confirm=lambda _plan: True, reporter=Silent(),
        )  # fmt: skip
        assert result.ok, result.errors
        return result

    yield work
    for one, content in before.items():
        one.write_bytes(content)
    for left in (path.parent / "users").glob("*"):
        left.unlink()
    work()
    without_strangers(lab, run_on)


def test_a_class_comes_and_one_of_it_leaves(lab, run_on, apply, tmp_path) -> None:
    roster = tmp_path / "roster.csv"
    roster.write_text("username,full_name\nzoe,Zoe X\nyan,Yan Y\n")
    words = ["--file", str(lab.cluster_toml)]
    assert practicum(["user", "import", str(roster), "--group", "hpc101", *words]) == 0
    apply()
    ids = {run_on(node.name, ["id", "zoe"]).stdout for node in lab.nodes}
    assert len(ids) == 1, ids
    assert "uid=10000(zoe) gid=10000(hpc101)" in ids.pop()
    job = run_on("login", ["srun", "--time=1", "id", "-un"], user="zoe")
    assert job.stdout == "zoe\n", job.stderr
    run_on("login", ["sh", "-c", "echo mine > ~/work"], user="zoe")

    assert practicum(["user", "remove", "zoe", *words]) == 0
    apply()
    refused = run_on("login", ["su", "-", "yan", "-c", "ssh -o BatchMode=yes node01 id -un"])
    assert refused.stdout == "yan\n", refused.stderr
    for node in lab.nodes:
        chage = run_on(node.name, ["chage", "--list", "zoe"], timeout=20).stdout
        assert "Jan 02, 1970" in chage
    inside = run_on("login", ["ssh", "-o", "BatchMode=yes", "node01", "true"], user="zoe")
    assert inside.returncode != 0
    users = run_on("login", ["sacctmgr", "-nP", "show", "assoc", "user=zoe", "format=user"]).stdout
    assert "zoe" not in users
    assert run_on("login", ["cat", "/home/zoe/work"]).stdout == "mine\n"


def test_people_go_between_nodes_without_a_password_and_root_does_not(run_on) -> None:
    ssh = ["ssh", "-o", "BatchMode=yes"]
    there = run_on("login", [*ssh, "node02", *ssh, "node01", "hostname"], user="ada")
    assert there.stdout == "node01\n", there.stderr
    other = run_on("login", [*ssh, "ben@node01", "id", "-un"], user="ada")
    assert other.returncode != 0
    root = run_on("login", [*ssh, "node01", "true"])
    assert "Permission denied" in root.stderr


def test_passwords_open_nothing_over_ssh(lab) -> None:
    tried = subprocess.run(
        ["ssh", "-v", "-F", "none", "-o", "BatchMode=yes", "-o", "PubkeyAuthentication=no",
         "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
         f"ada@{lab.nodes[0].address}", "true"],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert tried.returncode == 255
    offered = [line for line in tried.stderr.splitlines() if "can continue:" in line]
    assert offered
    assert all("password" not in line.partition("continue:")[2] for line in offered)


def test_everyone_who_logs_in_has_limits(run_on) -> None:
    asked = ["systemctl", "show", "user-2101.slice", "--property=TasksMax,MemoryMax"]
    inside = run_on(
        "node01", ["ssh", "-o", "BatchMode=yes", "login", *asked], user="ada", timeout=30
    )
    values = dict(line.split("=") for line in inside.stdout.split())
    assert values["TasksMax"] == "512", inside.stderr
    assert int(values["MemoryMax"]) > 0
    root = run_on("login", ["systemctl", "show", "user-0.slice", "--property=TasksMax"]).stdout
    assert root == "TasksMax=infinity\n"
