"""The engine against real nodes over real SSH: what goes wrong, and that apply again finishes.

The nodes are bare (bare_nodes.py): the shared lab has the whole cluster
declared on it, and applying anything else there would remove it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from bare_nodes import FIRST, SECOND, Nodes, gate, open_gate, role
from waiting import until

from cluster.errors import PracticumError
from cluster.model import Cluster, Node
from provisioning.planning import Result
from provisioning.resources import (
    Command,
    Directory,
    Group,
    Mount,
    Package,
    Resource,
    Service,
    User,
    file,
)
from provisioning.role import Context, Role

pytestmark = pytest.mark.lab


def test_apply_then_nothing_to_do(nodes: Nodes) -> None:
    resources: list[Resource] = [
        Directory(path="/etc/practicum"),
        file("/etc/practicum/one", "1\n"),
        Package(package="munge"),
        file("/etc/munge/munge.key", b"k" * 64, owner="munge", group="munge", mode=0o400,
             secret=True, notify=("restart:munge",)),
        Service(service="munge"),
    ]  # fmt: skip
    plan = nodes.plan(*resources, limit=())
    assert plan.pending == 10
    assert not nodes.there("/etc/practicum")
    result = nodes.apply(*resources, limit=())
    assert result.ok, result.errors
    planned = [(name, change.key) for name, change in plan.changes()]
    made = [(part.node, change.key) for part in result.nodes for change in part.changes]
    assert made == planned
    assert nodes.out("systemctl", "is-active", "munge") == "active"
    assert not nodes.there("/usr/sbin/policy-rc.d")
    assert nodes.apply(*resources, limit=()).changed == 0
    # A changed key restarts it, once.
    before = nodes.out("systemctl", "show", "-P", "MainPID", "munge")
    resources[3] = file("/etc/munge/munge.key", b"n" * 64, owner="munge", group="munge",
                        mode=0o400, secret=True, notify=("restart:munge",))  # fmt: skip
    result = nodes.apply(*resources)
    assert [change.key for change in result.nodes[0].changes] == [
        "file:/etc/munge/munge.key",
        "service:munge",
    ]
    assert nodes.out("systemctl", "show", "-P", "MainPID", "munge") != before
    assert nodes.apply(*resources).changed == 0
    # The package stays when it is no longer declared, its service does not.
    result = nodes.apply()
    listed = [change.key for change in result.plan.nodes[0].changes if change.action == "list"]
    assert listed == ["package:munge"]
    assert nodes.run_on(FIRST, ["systemctl", "is-active", "munge"]).stdout.strip() == "inactive"


UNIT = """[Service]
ExecStart=/usr/bin/python3 -m http.server {port} --bind 127.0.0.1
[Install]
WantedBy=multi-user.target
"""


def web(port: int, listens: int = 0, timeout: int = 60) -> list[Resource]:
    """A small service of our own; a change of its port is a restart."""
    return [
        file("/etc/systemd/system/web.service", UNIT.format(port=port), notify=("restart:web",)),
        Service(service="web", wait_port=listens or port, timeout=timeout),
    ]


def test_a_service_of_our_own_comes_and_goes(nodes: Nodes) -> None:
    assert nodes.apply(*web(8111)).ok
    result = nodes.apply(*web(8112))  # waits for the new port, so systemd has read the new unit
    assert result.ok, result.errors
    assert nodes.apply(*web(8112)).changed == 0
    result = nodes.apply()
    assert [change.action for change in result.nodes[0].changes] == ["remove", "remove"]
    assert not nodes.there("/etc/systemd/system/web.service")
    assert nodes.run_on(FIRST, ["systemctl", "cat", "web"]).returncode != 0


SLOW = """[Service]
ExecStartPre=/bin/sh -c 'cp /etc/practicum/one /run/slow.had; [ -e /run/slow.go ] || sleep 600'
ExecStart=/bin/sleep infinity
[Install]
WantedBy=multi-user.target
"""


def test_a_service_on_its_way_up_starts_anew_with_what_changed(nodes: Nodes) -> None:
    """It may have read the old file: munge at the boot of a node that gets another key."""

    def declared(text: str) -> list[Resource]:
        return [
            file("/etc/systemd/system/web.service", SLOW),
            Directory(path="/etc/practicum"),
            file("/etc/practicum/one", text, notify=("restart:web",)),
            Service(service="web"),
        ]

    nodes.out("touch", "/run/slow.go")
    assert nodes.apply(*declared("old\n")).ok
    nodes.out("sh", "-c", "rm /run/slow.go /run/slow.had; systemctl --no-block restart web")
    until(lambda: nodes.there("/run/slow.had"))
    nodes.out("touch", "/run/slow.go")
    result = nodes.apply(*declared("new\n"))
    assert result.ok, result.errors
    assert nodes.out("cat", "/run/slow.had") == "new"
    assert nodes.apply(*declared("new\n")).changed == 0


def test_a_service_that_fails_shows_its_journal(nodes: Nodes) -> None:
    bad = UNIT.replace("/usr/bin/python3", "/bin/sh -c 'echo no-such-option >&2; exit 2' web")
    result = nodes.apply(
        file("/etc/systemd/system/web.service", bad), Service(service="web", timeout=5)
    )
    assert "no-such-option" in result.errors[FIRST]
    looping = bad.replace("[Install]", "Restart=always\nRestartSec=200ms\n[Install]")
    looping = "[Unit]\nStartLimitIntervalSec=0\n" + looping  # systemd itself never gives up
    result = nodes.apply(
        file("/etc/systemd/system/web.service", looping),
        Service(service="web", wait_port=8113, timeout=300),
    )
    assert "web.service ends again and again" in result.errors[FIRST]
    assert "no-such-option" in result.errors[FIRST]
    result = nodes.apply(*web(8113, listens=8114, timeout=5))
    assert "web.service does not listen on port 8114 after 5 s" in result.errors[FIRST]
    assert nodes.apply(*web(8113)).ok


def test_a_later_stage_waits_for_all_nodes(nodes: Nodes) -> None:
    def slow(_cluster: Cluster, node: Node) -> bool:
        return node.name == SECOND

    stamp = ("sh", "-c", "date +%s%N > /run/$0")
    roles = [
        role("base", [Command(id="s", check=("false",), run=("sleep", "2"))], slow),
        role("storage", [Command(id="first", check=("false",), run=(*stamp, "first"))], slow),
        role("identity", [Command(id="second", check=("false",), run=(*stamp, "second"))]),
    ]
    assert nodes.with_roles(roles).ok
    done = int(nodes.out("cat", "/run/first", node=SECOND))
    assert int(nodes.out("cat", "/run/second")) > done
    assert int(nodes.out("cat", "/run/second", node=SECOND)) > done


def test_a_failing_node_stops_and_the_others_go_on(nodes: Nodes) -> None:
    def first(_cluster: Cluster, node: Node) -> bool:
        return node.name == FIRST

    roles = [
        role("base", [file("/run/nowhere/x", "1")], first),
        role("hub", [file("/etc/last", "1")]),
    ]
    result = nodes.with_roles(roles)
    assert list(result.errors) == [FIRST]
    assert "/run/nowhere is not there" in result.errors[FIRST]
    assert nodes.there("/etc/last", node=SECOND)
    assert not nodes.there("/etc/last")


def test_a_role_that_cannot_declare_is_a_sentence(nodes: Nodes) -> None:
    def build(context: Context) -> list[Resource]:
        if context.node.name == FIRST:
            raise ValueError("this node cannot be a teapot")
        return [file("/etc/tea", "1")]

    result = nodes.with_roles([Role("tea", "base", lambda _c, _n: True, build)])
    assert result.errors == {FIRST: "this node cannot be a teapot"}
    assert nodes.there("/etc/tea", node=SECOND)


def test_two_applies_at_once(nodes: Nodes) -> None:
    slow = gate("slow")
    results: list[Result] = []
    other = threading.Thread(target=lambda: results.append(nodes.apply(slow)))
    other.start()
    until(lambda: nodes.there("/run/slow.begun"), 30)
    result = nodes.apply(slow, file("/etc/second", "1"))
    open_gate(nodes, "slow")
    other.join(60)
    assert "another apply is at work on this node" in result.errors[FIRST]
    assert f"@{os.uname().nodename}" in result.errors[FIRST]
    assert results[0].ok
    assert nodes.apply(slow, file("/etc/second", "1")).changed == 1


CLIENT = """
import sys
from pathlib import Path
from bare_nodes import gate
from cluster.load import load
from provisioning import engine
from provisioning.report import Silent
from provisioning.resources import file
from provisioning.role import Role
path = Path(sys.argv[1])
parts = [file("/etc/before", "1"), gate("cut"), file("/etc/after", "1")]
roles = [Role("cut", "base", lambda c, n: True, lambda c: parts)]
engine.apply(load(path), roles, {"manifest_key": "cd" * 32}, base=path.parent,
             limit=["login"], confirm=lambda plan: True, reporter=Silent())
"""


def test_a_client_killed_half_way(nodes: Nodes) -> None:
    """What was begun on the node is finished, nothing further is begun, apply again finishes."""
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, str(nodes.info.cluster_toml)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    until(lambda: nodes.there("/run/cut.begun"), 30)
    agent = json.loads(nodes.out("cat", "/run/practicum.lock"))["pid"]
    client.send_signal(signal.SIGKILL)
    client.wait(10)
    until(lambda: nodes.out("ps", "-o", "ppid=", "-p", str(agent)) == "1", 30)  # sshd has gone
    open_gate(nodes, "cut")
    until(lambda: nodes.there("/run/cut"), 30)
    until(lambda: nodes.out("cat", "/run/practicum.lock") == "" or lock_is_free(nodes), 30)
    assert not nodes.there("/etc/after")
    result = nodes.apply(file("/etc/before", "1"), gate("cut"), file("/etc/after", "1"))
    assert result.ok, result.errors
    assert [change.key for change in result.nodes[0].changes] == ["file:/etc/after"]


def lock_is_free(nodes: Nodes) -> bool:
    done = nodes.run_on(FIRST, ["flock", "--nonblock", "/run/practicum.lock", "true"])
    return done.returncode == 0


def test_a_killed_agent_keeps_its_restart(nodes: Nodes) -> None:
    assert nodes.apply(*web(8115)).ok
    pid = nodes.out("systemctl", "show", "-P", "MainPID", "web")
    slow = gate("kill")
    unit, service = web(8116)
    results: list[Result] = []
    other = threading.Thread(target=lambda: results.append(nodes.apply(unit, slow, service)))
    other.start()
    until(lambda: nodes.there("/run/kill.begun"), 30)
    agent = json.loads(nodes.out("cat", "/run/practicum.lock"))["pid"]
    nodes.out("kill", "-KILL", str(agent))
    other.join(60)
    assert "login" in results[0].errors
    assert nodes.out("systemctl", "show", "-P", "MainPID", "web") == pid
    open_gate(nodes, "kill")
    until(lambda: nodes.there("/run/kill"), 30)
    result = nodes.apply(unit, slow, service)
    assert result.ok, result.errors
    assert [change.key for change in result.nodes[0].changes] == ["service:web"]
    assert nodes.out("systemctl", "show", "-P", "MainPID", "web") != pid


def test_a_folder_is_bound_again_when_its_disk_was_exchanged(nodes: Nodes) -> None:
    parts: list[Resource] = [
        Mount(source="tmpfs", target="/srv/disk", fstype="tmpfs", options="mode=755"),
        Directory(path="/srv/disk/home"),
        Mount(source="/srv/disk/home", target="/srv/seen", fstype="none", options="bind"),
    ]
    assert nodes.apply(*parts).ok
    nodes.out("umount", "--lazy", "/srv/disk")
    nodes.out("mount", "/srv/disk")
    result = nodes.apply(*parts)
    made = [change.key for change in result.nodes[0].changes]
    assert made == ["directory:/srv/disk/home", "mount:/srv/seen"], result.errors
    nodes.out("touch", "/srv/disk/home/here")
    assert nodes.there("/srv/seen/here")
    assert nodes.apply(*parts).changed == 0


def test_a_mount_is_made_anew_only_for_what_shows_in_it(nodes: Nodes) -> None:
    def scratch(options: str) -> Mount:
        return Mount(source="tmpfs", target="/srv/held", fstype="tmpfs", options=options)

    assert nodes.apply(scratch("size=1m")).ok
    nodes.out("touch", "/srv/held/open")
    later = nodes.apply(scratch("size=1m,nofail,x-systemd.mount-timeout=300s"))
    assert later.ok and "next start" in later.nodes[0].changes[0].summary, later
    assert nodes.there("/srv/held/open")
    assert "300s" in nodes.out("grep", "/srv/held", "/etc/fstab")
    anew = nodes.apply(scratch("size=2m,nofail,x-systemd.mount-timeout=300s"))
    assert anew.ok and not nodes.there("/srv/held/open"), anew
    assert nodes.out("findmnt", "-no", "SIZE", "/srv/held") == "2M"
    assert nodes.apply().ok
    assert nodes.run_on(FIRST, ["findmnt", "/srv/held"]).returncode


def test_a_full_disk(nodes: Nodes) -> None:
    nodes.out("mkdir", "-p", "/srv/small")
    nodes.out("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", "/srv/small")
    try:
        parts = [file("/srv/small/a", "1"), file("/srv/small/big", b"x" * 3_000_000)]
        result = nodes.apply(*parts)
        assert "no space is left on the node's disk" in result.errors[FIRST]
        assert nodes.out("ls", "-A", "/srv/small") == "a"
        nodes.out("mount", "-o", "remount,size=10m", "/srv/small")
        result = nodes.apply(*parts)
        assert result.ok, result.errors
        assert [change.key for change in result.nodes[0].changes] == ["file:/srv/small/big"]
    finally:
        nodes.out("umount", "/srv/small")


def test_no_room_for_the_manifest(nodes: Nodes) -> None:
    """The state folder itself is on the full disk: nothing is made that could not be noted."""
    nodes.out("mkdir", "-p", "/var/lib/practicum")
    nodes.out("mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/var/lib/practicum")
    try:
        nodes.run_on(FIRST, ["sh", "-c", "head -c 4096 /dev/zero > /var/lib/practicum/filler"])
        result = nodes.apply(file("/etc/noted", "1"))
        assert "no space is left" in result.errors[FIRST]
        assert not nodes.there("/etc/noted")
    finally:
        nodes.out("umount", "/var/lib/practicum")
    assert nodes.apply(file("/etc/noted", "1")).changed == 1


def test_packages_that_nobody_knows(nodes: Nodes) -> None:
    result = nodes.apply(Package(package="practicum-no-such-package"))
    assert "apt knows no package practicum-no-such-package here" in result.errors[FIRST]


def test_package_sources_out_of_reach(nodes: Nodes) -> None:
    """apt's own settings are written before it is asked, wherever they are declared."""
    dead = (
        'Acquire::http::Proxy "http://127.0.0.1:9";\nAcquire::https::Proxy "http://127.0.0.1:9";\n'
    )
    nodes.out("apt-get", "clean")
    result = nodes.apply(Package(package="sl"), file("/etc/apt/apt.conf.d/zz-dead", dead))
    assert "the package sources cannot be reached from this node" in result.errors[FIRST]
    assert not nodes.there("/usr/sbin/policy-rc.d")
    result = nodes.apply(Package(package="sl"))
    assert result.ok, result.errors
    assert nodes.there("/usr/games/sl")


def test_accounts(nodes: Nodes) -> None:
    def ada(**more: object) -> list[Resource]:
        options: dict[str, object] = {"uid": 3001, "password_hash": HASH, **more}
        user = User(user="ada", group="pupils", home="/home/ada-e", create_home=True,
                    shell="/bin/bash", **options)  # type: ignore[arg-type]  # fmt: skip
        return [Group(group="pupils", gid=3000), Group(group="crew", gid=3002), user]

    assert nodes.apply(*ada(groups=("crew",))).ok
    assert nodes.out("id", "-nG", "ada") == "pupils crew"
    assert nodes.out("stat", "-c", "%a %U %G", "/home/ada-e") == "700 ada pupils"
    assert nodes.out("stat", "-c", "%U", "/home/ada-e/.bashrc") == "ada"
    assert HASH in nodes.out("getent", "shadow", "ada")
    # Groups given by hand and a password of her own stay; a declared group that goes, goes.
    nodes.out("usermod", "-aG", "users", "ada")
    nodes.out("usermod", "-p", OTHER, "ada")
    assert nodes.apply(*ada(groups=("crew",))).changed == 0
    assert nodes.apply(*ada()).changed == 1
    assert nodes.out("id", "-nG", "ada") == "pupils users"
    assert OTHER in nodes.out("getent", "shadow", "ada")
    # A new declared password counts, "*" locks.
    assert nodes.apply(*ada(password_hash=HASH + "x")).changed == 1
    assert HASH + "x" in nodes.out("getent", "shadow", "ada")
    assert nodes.apply(*ada(password_hash="*")).changed == 1
    assert nodes.out("getent", "shadow", "ada").startswith("ada:*:")
    result = nodes.apply(*ada(uid=3005))
    assert "user ada has uid 3001 here and should have 3005" in result.errors[FIRST]
    # Nobody is removed: a person's account is closed, a group is only named.
    result = nodes.apply()
    told = {change.key: change.action for _, change in result.plan.changes()}
    assert (told["user:ada"], told["group:pupils"]) == ("remove", "list")
    assert nodes.out("getent", "shadow", "ada").split(":")[7] != ""
    assert nodes.there("/home/ada-e/.bashrc")
    nodes.out("userdel", "-r", "ada")
    nodes.out("sh", "-c", "groupdel crew; groupdel pupils")


HASH = "$6$abcdefgh$" + "A" * 86
OTHER = "$6$abcdefgh$" + "B" * 86


@pytest.fixture
def elsewhere(nodes: Nodes, tmp_path: Path) -> Path:
    """A copy of the lab's folder, whose keys a test may spoil."""
    folder = tmp_path / "copy"
    for name in (nodes.cluster.ssh.key, nodes.cluster.ssh.known_hosts):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(nodes.base / name, target)
    return folder


def test_unknown_and_changed_host_keys(nodes: Nodes, elsewhere: Path) -> None:
    known = elsewhere / nodes.cluster.ssh.known_hosts
    lines = known.read_text().splitlines()
    address = nodes.cluster.node(FIRST).address
    (own,) = (line for line in lines if address in line.split()[0])
    (other,) = (line for line in lines if address not in line.split()[0])
    known.write_text(f"{other}\n")
    result = nodes.with_roles([role("base", [])], base=elsewhere)
    assert list(result.errors) == [FIRST]
    assert "compare its host key SHA256:" in result.errors[FIRST]
    swapped = own.split()[:2] + other.split()[2:]
    known.write_text(f"{' '.join(swapped)}\n{other}\n")
    result = nodes.with_roles([role("base", [])], base=elsewhere)
    assert list(result.errors) == [FIRST]
    assert "shows another host key" in result.errors[FIRST]


def test_a_refused_and_a_missing_key(nodes: Nodes, elsewhere: Path) -> None:
    key = elsewhere / nodes.cluster.ssh.key
    key.unlink()
    result = nodes.with_roles([role("base", [])], base=elsewhere)
    assert "is missing" in result.errors[FIRST]
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    result = nodes.with_roles([role("base", [])], base=elsewhere)
    assert "refuses the key" in result.errors[FIRST]
    assert "for user root" in result.errors[FIRST]


def test_a_node_that_does_not_answer(nodes: Nodes) -> None:
    """The other node is provisioned all the same."""
    data = nodes.cluster.model_dump(mode="json")
    data["ssh"]["connect_timeout"] = 2
    data["nodes"][0] |= {"address": str(nodes.cluster.network.network.broadcast_address - 1)}
    moved = Cluster.model_validate(data)
    started = time.monotonic()
    result = nodes.with_roles([role("base", [file("/etc/alive", "1")])], cluster=moved)
    assert time.monotonic() - started < 15
    assert "does not answer" in result.errors[moved.machines[0].name]
    assert nodes.there("/etc/alive", node=SECOND)


def test_by_sudo(nodes: Nodes) -> None:
    """An ordinary account, first without the right to become root."""
    nodes.out("useradd", "-m", "-s", "/bin/bash", "ops")
    try:
        nodes.out("cp", "-r", "/root/.ssh", "/home/ops/.ssh")
        nodes.out("chown", "-R", "ops:", "/home/ops/.ssh")
        nodes.out("usermod", "-p", "*", "ops")
        data = nodes.cluster.model_dump(mode="json")
        data["ssh"]["user"] = "ops"
        as_ops = Cluster.model_validate(data)
        parts = [role("base", [file("/etc/by-sudo", "1")])]
        result = nodes.with_roles(parts, [FIRST], as_ops)
        assert "sudo refuses on login" in result.errors[FIRST]
        rule = "ops ALL=(root) NOPASSWD: ALL"
        nodes.out("sh", "-c", f"echo '{rule}' > /etc/sudoers.d/ops; chmod 440 /etc/sudoers.d/ops")
        result = nodes.with_roles(parts, [FIRST], as_ops)
        assert result.changed == 1, result.errors
    finally:
        nodes.run_on(FIRST, ["rm", "-f", "/etc/sudoers.d/ops"])
        nodes.run_on(FIRST, ["userdel", "-r", "ops"])


def test_an_image_with_python3_minimal_only(nodes: Nodes) -> None:
    nodes.out("sh", "-c", "apt-get -y -q remove python3 'libpython3.*-stdlib' >&2")
    assert nodes.run_on(FIRST, ["python3", "-Ic", "import json"]).returncode != 0
    plan = nodes.plan(file("/etc/py", "1"))
    assert "lacks a whole Python 3" in plan.errors[FIRST]
    result = nodes.apply(file("/etc/py", "1"))
    assert result.changed == 1, result.errors


def test_unknown_nodes_are_named(nodes: Nodes) -> None:
    with pytest.raises(PracticumError, match=r"no node node77; it has login, node01"):
        nodes.apply(limit=["node77"])


def test_a_run_without_changes_costs_one_log_in(nodes: Nodes) -> None:
    """Forty resources that are as declared: a handshake is what a node costs most."""
    parts: list[Resource] = [file(f"/etc/practicum-{i}", f"{i}\n" * 50) for i in range(40)]
    assert nodes.apply(*parts, limit=()).ok

    def log_ins(node: str) -> int:
        nodes.out("journalctl", "--sync", node=node)
        # not by its unit: pam_systemd has moved it when a busy journald looks where it is
        names = ["--identifier=sshd", "--identifier=sshd-session"]
        told = nodes.out("journalctl", "--quiet", "--output=cat", *names, node=node)
        return told.count("Accepted publickey")

    for node in (FIRST, SECOND):
        begun = log_ins(node)
        asking = log_ins(node) - begun
        assert nodes.apply(*parts, limit=()).changed == 0
        assert log_ins(node) - begun - 2 * asking == 1
