"""What happens to nodes while they are being changed: rebooted, dead, half-installed, edited."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from bare_nodes import FIRST, SECOND, Nodes, gate, open_gate, role
from waiting import until

from cluster.model import Cluster
from provisioning import lab as labs
from provisioning import ssh
from provisioning.lab import nodes as containers
from provisioning.planning import Result
from provisioning.report import Silent
from provisioning.resources import Package, Resource, file

pytestmark = pytest.mark.lab


CUT = gate("cut", "/var/tmp/cut")  # stays done over a reboot


class Applying(threading.Thread):
    """An apply in the background; ``result`` when it has ended."""

    def __init__(self, nodes: Nodes, parts: list[Resource], last: list[Resource]) -> None:
        super().__init__()
        self.nodes, self.roles = nodes, [role("base", parts), role("hub", last)]
        self.outcome: list[Result] = []
        self.start()

    def run(self) -> None:
        self.outcome.append(self.nodes.with_roles(self.roles))

    def result(self, seconds: float = 90) -> Result:
        self.join(seconds)
        return self.outcome[0]


@pytest.fixture
def clean(nodes: Nodes) -> Iterator[Nodes]:
    yield nodes
    for name in (FIRST, SECOND):
        nodes.run_on(name, ["sh", "-c", "rm -f /var/tmp/cut /run/cut.begun"])


def answering(nodes: Nodes, name: str) -> bool:
    return nodes.run_on(name, ["systemctl", "is-system-running", "--wait"]).returncode != 255


def test_a_node_reboots_half_way(clean: Nodes) -> None:
    """It stops there, the other goes on, and apply again finishes what is left."""
    parts: list[Resource] = [file("/etc/before", "1"), CUT, file("/etc/after", "1")]
    apply = Applying(clean, parts, [file("/etc/last", "1")])
    until(lambda: clean.there("/run/cut.begun", node=SECOND), 30)
    clean.run_on(SECOND, ["systemctl", "reboot"])
    open_gate(clean, "cut")
    result = apply.result()
    assert list(result.errors) == [SECOND]
    assert "the connection to node01 was lost" in result.errors[SECOND]
    assert "apply again" in result.errors[SECOND]
    assert clean.there("/etc/last")
    until(lambda: answering(clean, SECOND), 60)
    open_gate(clean, "cut", SECOND)
    result = clean.with_roles(apply.roles)
    assert result.ok, result.errors
    made = [change.key for part in result.nodes for change in part.changes if part.node == SECOND]
    assert "file:/etc/after" in made and "file:/etc/before" not in made
    assert clean.with_roles(apply.roles).changed == 0


def test_a_node_dies_half_way(clean: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says good-bye: silence has a limit."""
    monkeypatch.setattr(ssh, "KEEPALIVE_SECONDS", 1)
    monkeypatch.setattr(ssh, "DEAD_SECONDS", 4)
    apply = Applying(clean, [CUT, file("/etc/after", "1")], [file("/etc/last", "1")])
    until(lambda: clean.there("/run/cut.begun", node=SECOND), 30)
    began = time.monotonic()
    containers.stop(clean.info.name, SECOND, patience=0)
    open_gate(clean, "cut")
    result = apply.result()
    assert time.monotonic() - began < 45
    assert list(result.errors) == [SECOND]
    assert "node01" in result.errors[SECOND]
    assert clean.there("/etc/last")
    # While it is away, the other can be applied to.
    result = clean.with_roles(apply.roles)
    assert list(result.errors) == [SECOND]
    assert "does not answer" in result.errors[SECOND]
    labs.up(clean.info.name, roles=(), reporter=Silent())
    until(lambda: answering(clean, SECOND), 60)
    open_gate(clean, "cut", SECOND)
    result = clean.with_roles(apply.roles)
    assert result.ok, result.errors


def test_half_installed_packages_are_finished(nodes: Nodes) -> None:
    nodes.out("sh", "-c", "cd /tmp && apt-get -q download sl && dpkg --unpack sl_*.deb")
    plan = nodes.plan(Package(package="sl"))
    summaries = [change.summary for _, change in plan.changes()]
    assert "finish half-installed packages (sl)" in summaries
    result = nodes.apply(Package(package="sl"))
    assert result.ok, result.errors
    assert nodes.out("dpkg-query", "-Wf", "${Status}", "sl") == "install ok installed"
    # A power cut while it was unpacked: its files have to come again.
    broken = r"s/^Status: .*/Status: install reinstreq half-installed/"
    nodes.out("sed", "-i", f"/^Package: sl$/,/^$/{broken}", "/var/lib/dpkg/status")
    nodes.out("rm", "/usr/games/sl")
    result = nodes.apply(Package(package="sl"))
    assert result.ok, result.errors
    assert nodes.there("/usr/games/sl")
    assert nodes.apply(Package(package="sl")).changed == 0


HOLD = """
import fcntl, time
with open("/var/lib/dpkg/lock-frontend", "w") as stream:
    fcntl.lockf(stream, fcntl.LOCK_EX)
    open("/run/cut.begun", "w").close()
    time.sleep(6)
"""


def test_another_program_installs_packages(clean: Nodes) -> None:
    """It is waited for, also by dpkg itself, which has no patience of its own."""
    clean.out("sh", "-c", "cd /tmp && apt-get -q download sl && dpkg --unpack sl_*.deb")
    holder = threading.Thread(target=clean.run_on, args=(FIRST, ["python3", "-c", HOLD]))
    holder.start()
    until(lambda: clean.there("/run/cut.begun"), 30)
    result = clean.apply(Package(package="sl"))
    holder.join(30)
    assert result.ok, result.errors
    assert clean.out("dpkg-query", "-Wf", "${Status}", "sl") == "install ok installed"


def test_a_file_edited_by_hand(nodes: Nodes) -> None:
    wanted = file("/etc/app.conf", "port=1\n")
    assert nodes.apply(wanted).ok
    nodes.out("sh", "-c", "echo port=2 > /etc/app.conf")
    (change,) = (change for _, change in nodes.plan(wanted).changes())
    assert "edited on the node since the last apply: see [[keep]]" in change.summary
    data = nodes.cluster.model_dump(mode="json")
    data["keep"] = [{"path": "/etc/app.conf", "nodes": FIRST}]
    keeping = Cluster.model_validate(data)
    result = nodes.with_roles([role("base", [wanted])], [FIRST], keeping)
    assert (result.ok, result.changed) == (True, 0)
    (told,) = (change for _, change in result.plan.changes())
    assert told.action == "list" and "keep /etc/app.conf as it is" in told.summary
    assert nodes.out("cat", "/etc/app.conf") == "port=2"
    assert nodes.apply(wanted).changed == 1
    assert nodes.out("cat", "/var/lib/practicum/backup/etc/app.conf.edited") == "port=2"
