"""`practicum status` on a healthy cluster, and one sentence for each thing that is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from test_commands_lab import practicum
from waiting import until

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.rooms import CHECKS, ROLES
from provisioning.health import Level, judge
from provisioning.health.gather import gather
from provisioning.report import Silent

pytestmark = pytest.mark.lab


@pytest.fixture
def bad(lab) -> Callable[[], list[str]]:
    """The sentences of what is wrong now (what status asks, without a process of its own)."""
    cluster = load(lab.cluster_toml)
    known = load_secrets(secrets_path(lab.cluster_toml), cluster)

    def ask() -> list[str]:
        base = lab.cluster_toml.parent
        picture = gather(cluster, ROLES, CHECKS, known, base=base, reporter=Silent())
        return [one.text for one in judge(CHECKS, picture) if one.level is Level.BAD]

    return ask


@pytest.fixture(autouse=True)
def well_again(lab, bad, request):
    """Every test mends what it broke; the cluster is given a while to notice, also of what the
    tests before did."""
    until(bad, 60, wanted=lambda left: not left)
    yield
    until(bad, 60, wanted=lambda left: not left)


def on(run_on, node: str, *argv: str) -> None:
    done = run_on(node, list(argv))
    assert done.returncode == 0, done.stderr


def test_all_is_well(lab) -> None:
    done = practicum("status", "--file", str(lab.cluster_toml))
    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert lines[-1] == "All is well."
    assert lines[0].split()[:2] == ["NODE", "SYSTEM"]
    assert [line.split()[0] for line in lines[1 : len(lab.nodes) + 1]] == [
        n.name for n in lab.nodes
    ]
    for sentence in (
        "✓ munge: login and all nodes trust each other",
        f"✓ Slurm: {len(lab.nodes) - 1} nodes take jobs",
        f"✓ the hub answers at http://{lab.nodes[0].address}:8000",
        "✓ /home and /nfs: the same on every node, and writable",
    ):
        assert sentence in lines
    told = json.loads(practicum("status", "--json", "--file", str(lab.cluster_toml)).stdout)
    (login,) = [node for node in told["nodes"] if node["node"] == "login"]
    assert login["services"]["practicum-hub.service"] == "active"
    assert abs(login["clock_offset"]) < 1 and login["memory_mb"] > 500


def test_a_service_that_was_stopped(lab, run_on, bad) -> None:
    on(run_on, "node01", "systemctl", "stop", "slurmd")
    assert bad() == ["slurmd does not run on node01 (inactive): practicum apply starts it"]
    done = practicum("status", "--file", str(lab.cluster_toml))
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "1 thing to mend.")
    on(run_on, "node01", "systemctl", "start", "slurmd")


def test_the_hub_stopped(run_on, bad) -> None:
    on(run_on, "login", "systemctl", "stop", "practicum-hub")
    assert bad() == ["practicum-hub does not run on login (inactive): practicum apply starts it"]
    on(run_on, "login", "systemctl", "start", "practicum-hub")


def test_munge_stopped_and_with_another_key(run_on, bad) -> None:
    on(run_on, "node01", "systemctl", "stop", "munge")
    assert bad() == ["munge does not run on node01 (inactive): practicum apply starts it"]
    key, kept = "/etc/munge/munge.key", "/root/munge.kept"
    on(run_on, "node01", "cp", "-p", key, kept)
    on(run_on, "node01", "dd", "if=/dev/urandom", f"of={key}", "bs=1024", "count=1")
    on(run_on, "node01", "systemctl", "start", "munge")
    try:
        assert [text for text in bad() if "munge" in text] == [
            "node01 has another munge key than login: practicum apply brings the right one to "
            "every node"
        ]
    finally:
        on(run_on, "node01", "mv", kept, key)
        on(run_on, "node01", "systemctl", "restart", "munge", "slurmd")


def test_home_is_not_the_shared_one(run_on, bad) -> None:
    on(run_on, "node01", "mount", "-t", "tmpfs", "tmpfs", "/home")
    try:
        (text,) = bad()
        assert text.startswith("/home on node01 is not the one of login (tmpfs from tmpfs)")
    finally:
        on(run_on, "node01", "umount", "/home")


def test_a_disk_almost_full(run_on, bad) -> None:
    on(run_on, "node01", "mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", "/srv")
    try:
        on(run_on, "node01", "dd", "if=/dev/zero", "of=/srv/much", "bs=1M", "count=9")
        assert bad() == []  # nine tenths are worth a word, no more
        on(run_on, "node01", "dd", "if=/dev/zero", "of=/srv/more", "bs=1k", "count=800")
        assert bad() == ["/srv on node01 is almost full (0 MB left)"]
    finally:
        on(run_on, "node01", "umount", "/srv")


def test_a_drained_node(lab, run_on, bad) -> None:
    file = str(lab.cluster_toml)
    assert (
        practicum("node", "drain", "node01", "--reason", "new fan", "--file", file).returncode == 0
    )
    assert bad() == [
        "node01 takes no jobs (drained): new fan; practicum node resume node01 gives it jobs again"
    ]
    assert practicum("node", "resume", "node01", "--file", file).returncode == 0


def test_slurmctld_stopped(run_on, bad) -> None:
    on(run_on, "login", "systemctl", "stop", "slurmctld")
    assert bad() == ["slurmctld does not run on login (inactive): practicum apply starts it"]
    on(run_on, "login", "systemctl", "start", "slurmctld")


def test_nothing_is_left_behind(run_on) -> None:
    done = run_on("login", ["find", "/home", "/nfs", "-maxdepth", "1", "-name", ".practicum*"])
    assert done.stdout == ""
