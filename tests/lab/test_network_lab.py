"""Addresses that change and come back, the firewall, and the router, on real nodes.

Addresses and the router are tried on a lab of this file's own, booted bare; the firewall is the
shared lab's, where everything else has to work through it as well.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest
from bare_nodes import until
from conftest import RunOn, run_in

from cluster.load import load
from cluster.model import Cluster
from practicum.report import Plain
from provisioning import engine
from provisioning import lab as labs
from provisioning.lab import network as lab_network
from provisioning.lab import nodes as lab_nodes
from provisioning.planning import Result
from provisioning.remembered import last_facts
from provisioning.report import Silent
from provisioning.resources import Group, Resource, User, file
from provisioning.role import Role
from provisioning.roles import firewall, network, router

pytestmark = pytest.mark.lab

SECRETS = {"manifest_key": "cd" * 32}


class Bare:
    """Two bare nodes, whose cluster a test may describe as it likes."""

    def __init__(self, info: labs.LabInfo) -> None:
        self.info = info
        self.cluster: Cluster = load(info.cluster_toml)
        self.run_on: RunOn = run_in(info)
        self.known_hosts = info.cluster_toml.parent / "secrets/known_hosts"

    def described(self, node01: str = "", **net: object) -> Cluster:
        """The lab's cluster with another address of node01, and other words of [network]."""
        wanted = self.cluster.network.model_copy(update={"confirm": 12, **net})
        entries = tuple(
            entry.model_copy(update={"address": node01}) if node01 and entry.name == "node01"
            else entry
            for entry in self.cluster.nodes
        )  # fmt: skip
        return self.cluster.model_copy(update={"network": wanted, "nodes": entries})

    def apply(self, cluster: Cluster, roles: Sequence[Role], limit: Sequence[str]) -> Result:
        return engine.apply(
            cluster, roles, SECRETS, base=self.info.cluster_toml.parent, limit=limit,
            confirm=lambda _plan: True, reporter=Silent(),
        )  # fmt: skip

    def inside(self, node: str, *argv: str) -> str:
        """A command in a node by way of the host's kernel: whatever its network is like."""
        leader = lab_nodes.supervisors(self.info.name, node)
        inits = [child for one in leader for child in _children(one.pid) if _is_init(child)]
        done = subprocess.run(
            ["nsenter", "--target", str(inits[0]), "--all", "--", *argv],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr


def _children(pid: int) -> list[int]:
    done = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def _is_init(pid: int) -> bool:
    with open(f"/proc/{pid}/status") as stream:
        return any(line.split()[0] == "NSpid:" and line.split()[-1] == "1" for line in stream)


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    if named := os.environ.get("PRACTICUM_BARE_LAB"):
        yield Bare(labs.info(named))
        return
    name = f"net-{secrets.token_hex(3)}"
    try:
        yield Bare(labs.up(name, nodes=2, roles=(), reporter=Plain()))
    finally:
        labs.down(name, reporter=Plain())


def addresses(run_on: RunOn, node: str) -> list[str]:
    shown = json.loads(run_on(node, ["ip", "-json", "-4", "addr", "show", "host0"]).stdout)
    return [one["local"] for one in shown[0]["addr_info"]]


# Each as an installer leaves it: the address is the site's, in a file of the site's.
NETWORK_MANAGER = """\
apt-get -y -qq --no-install-recommends install network-manager
cat > /etc/NetworkManager/system-connections/site.nmconnection <<EOF
[connection]
id=site
type=ethernet
interface-name=host0
[ipv4]
method=manual
address1={address},{gateway}
EOF
chmod 600 /etc/NetworkManager/system-connections/site.nmconnection
mv /etc/systemd/network/*.network /root
systemctl disable --now systemd-networkd.service systemd-networkd.socket
systemctl restart NetworkManager
"""
IFUPDOWN = """\
apt-get -y -qq --no-install-recommends install ifupdown
printf '%s\\n' 'auto lo host0' 'iface lo inet loopback' 'iface host0 inet static' \
    '    address {address}' '    gateway {gateway}' > /etc/network/interfaces
mv /etc/systemd/network/*.network /root
systemctl disable systemd-networkd.service systemd-networkd.socket
systemctl enable networking
"""
# A container's /sys is read-only and it has no udevd, of whom netplan wants events.
NO_EVENTS = """\
cat > /usr/local/bin/udevadm <<EOF
#!/bin/sh
case "\\$1" in trigger|control) exit 0;; esac
exec /usr/bin/udevadm "\\$@"
EOF
chmod 755 /usr/local/bin/udevadm
"""
NETPLAN = f"""\
apt-get -y -qq --no-install-recommends install netplan.io udev
{NO_EVENTS}
mkdir -p /etc/netplan
cat > /etc/netplan/50-cloud-init.yaml <<EOF
network:
  version: 2
  ethernets:
    host0:
      addresses:
      - {{address}}
      routes:
      - to: default
        via: {{gateway}}
EOF
chmod 600 /etc/netplan/50-cloud-init.yaml
mv /etc/systemd/network/*.network /root
"""
NETPLAN_NM = f"""\
apt-get -y -qq --no-install-recommends install network-manager
{NETPLAN}
printf 'network:\\n  renderer: NetworkManager\\n' > /etc/netplan/01-network-manager-all.yaml
chmod 600 /etc/netplan/01-network-manager-all.yaml
systemctl disable systemd-networkd.service systemd-networkd.socket
"""
SCRIPTS = {
    "NetworkManager": NETWORK_MANAGER,
    "ifupdown": IFUPDOWN,
    "netplan": NETPLAN,
    "netplan-NetworkManager": NETPLAN_NM,
}
BACK_TO_NETWORKD = """\
test ! -e /root/10-practicum.network || mv /root/*.network /etc/systemd/network
apt-get -y -qq purge network-manager ifupdown netplan.io || true
rm -rf /etc/netplan /etc/network /etc/NetworkManager /usr/local/bin/udevadm  # for whom comes next
systemctl enable systemd-networkd
"""


@pytest.fixture(params=["networkd", *SCRIPTS])
def managed(bare: Bare, request: pytest.FixtureRequest) -> Iterator[tuple[Bare, str]]:
    """node01's address is in the hands of one of the programs that systems come with: networkd
    (the lab's own), NetworkManager (Raspberry Pi OS), ifupdown (Debian), or in netplan's, by either
    of the first two (Ubuntu's server and desktop, cloud images)."""
    manager: str = request.param
    if manager in SCRIPTS:
        net = bare.cluster.network
        script = SCRIPTS[manager].format(
            address=f"{net.network[11]}/{net.network.prefixlen}", gateway=net.gateway
        )
        hand_over(bare, f"export DEBIAN_FRONTEND=noninteractive\n{script}")
    yield bare, manager
    bare.apply(bare.described(), [], ["node01"])
    if manager in SCRIPTS:
        hand_over(bare, BACK_TO_NETWORKD)


def hand_over(bare: Bare, script: str) -> None:
    """Run it on node01, which then starts anew."""
    done = bare.run_on("node01", ["sh", "-euc", script], timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    bare.run_on("node01", ["sh", "-c", "touch /run/before; systemctl --no-block reboot"])
    end = time.monotonic() + 90
    while bare.run_on("node01", ["test", "!", "-e", "/run/before"]).returncode:
        assert time.monotonic() < end, bare.inside("node01", "journalctl", "-n", "60")
        time.sleep(0.5)


def test_an_address_changes_and_a_wrong_one_comes_back(managed: tuple[Bare, str]) -> None:
    bare, manager = managed
    subnet = bare.cluster.network.network
    old, new = str(subnet[11]), str(subnet[60])
    gateway = bare.cluster.network.gateway
    roles = network.ROLES
    static = {"addresses": "static", "gateway": gateway}

    first = bare.apply(bare.described(**static), roles, ["node01"])  # pin what it has
    assert first.ok, first.errors
    assert first.changed
    told = last_facts(bare.info.cluster_toml.parent, "node01")
    assert told.managers["host0"] == manager
    again = bare.apply(bare.described(**static), roles, ["node01"])
    assert again.ok
    assert not again.changed

    moved = bare.apply(bare.described(new, **static), roles, ["node01"])
    assert moved.ok, moved.errors
    assert any(line.startswith(new) for line in bare.known_hosts.read_text().splitlines())
    assert new in bare.inside("node01", "ip", "-4", "addr", "show", "host0")
    assert old not in bare.inside("node01", "ip", "-4", "addr", "show", "host0")

    # An address that nobody here can reach: the node must come back by itself.
    lost = bare.described("10.99.99.11", **static, subnet="10.99.99.0/24")
    lost = lost.model_copy(update={"network": lost.network.model_copy(update={"gateway": None})})
    began = time.monotonic()
    result = bare.apply(lost, roles, ["node01"])
    assert f"took the old ones back and answers at {new}" in result.errors["node01"]
    assert time.monotonic() - began < 90
    assert new in bare.inside("node01", "ip", "-4", "addr", "show", "host0")

    # A gateway that is not there, though the node itself is reached.
    wrong = bare.apply(
        bare.described(new, addresses="static", gateway=str(subnet[250])), roles, ["node01"]
    )
    assert f"the gateway {subnet[250]} does not answer" in wrong.errors["node01"]
    # The node says so before it has done it.
    until(lambda: f"via {gateway} " in bare.inside("node01", "ip", "route"), 20)

    back = bare.apply(bare.described(old, **static), roles, ["node01"])
    assert back.ok, back.errors
    assert addresses(bare.run_on, "node01") == [old]
    assert "confirmed.json" in bare.run_on("node01", ["ls", "/var/lib/practicum/network"]).stdout
    assert bare.run_on("node01", ["ls", network.SWITCH]).returncode == 0


def test_the_login_node_routes_for_a_network_behind_it(bare: Bare) -> None:
    """The private network is a link of the login node's to a machine that knows only it."""
    make = (
        "ip netns add far && ip link add inner type veth peer name far0 netns far && "
        "ip addr add 10.98.0.1/24 dev inner && ip link set inner up && "
        "ip -n far addr add 10.98.0.2/24 dev far0 && ip -n far link set far0 up && "
        "ip -n far route add default via 10.98.0.1"
    )
    cluster = bare.described(
        subnet="10.98.0.0/24", gateway=None, router=True, uplink="host0", firewall=True
    )
    outside = bare.cluster.network.gateway
    ping = ["ip", "netns", "exec", "far", "ping", "-c1", "-W2", outside]
    made = bare.run_on("login", ["sh", "-c", make])
    assert made.returncode == 0, made.stderr
    try:
        assert bare.run_on("login", ping).returncode != 0
        result = bare.apply(cluster, [*router.ROLES, *firewall.ROLES], ["login"])
        assert result.ok, result.errors
        done = bare.run_on("login", ping)
        assert done.returncode == 0, done.stdout
        again = bare.apply(cluster, [*router.ROLES, *firewall.ROLES], ["login"])
        assert not again.changed
        forged_packets_are_dropped(bare)
        bare.run_on("login", ["touch", "/run/before"])
        bare.run_on("login", ["systemctl", "reboot"])
        started = "test ! -e /run/before && systemctl is-active practicum-firewall"
        until(lambda: bare.run_on("login", ["sh", "-c", started]).stdout == "active\n", 60)
        masquerade = bare.run_on("login", ["nft", "list", "table", "inet", "practicum"]).stdout
        assert "masquerade" in masquerade
        assert "policy drop" in masquerade
        # The machine behind it went with the restart; the login node routes for a new one.
        made = bare.run_on("login", ["sh", "-c", make])
        assert made.returncode == 0, made.stderr
        done = bare.run_on("login", ping)
        assert done.returncode == 0, done.stdout
    finally:
        bare.run_on("login", ["ip", "netns", "delete", "far"])
        bare.apply(bare.described(), [], ["login"])
    assert bare.run_on("login", ["nft", "list", "table", "inet", "practicum"]).returncode != 0


# What one source sends to SSH: before and after the firewall, to the node and past it.
SEEN = """\
table ip seen {{
  chain before_in {{ type filter hook input priority -200; {what}; }}
  chain after_in {{ type filter hook input priority 200; {what}; }}
  chain before_on {{ type filter hook forward priority -200; {what}; }}
  chain after_on {{ type filter hook forward priority 200; {what}; }}
}}
"""
CALL = (
    "import socket,sys\n"
    "try: socket.create_connection((sys.argv[2],22),timeout=.5,source_address=(sys.argv[1],0))\n"
    "except OSError: pass\n"
)


def forged_packets_are_dropped(bare: Bare) -> None:
    """Who is outside takes an address of the private network: to the router, and past it."""
    login = bare.cluster.node("login").address

    def seen(namespace: str, source: str, target: str) -> list[bool]:
        """Which of SEEN's chains a call from there gets to, in their order."""
        table = SEEN.format(what=f"ip saddr {source} tcp dport 22 counter")
        loaded = bare.run_on("login", ["nft", "-f", "-"], input=table)
        assert loaded.returncode == 0, loaded.stderr
        call = ["ip", "netns", "exec", namespace, "python3", "-c", CALL, source, target]
        subprocess.run(call, check=True, timeout=20)
        told = bare.run_on("login", ["nft", "list", "table", "ip", "seen"]).stdout
        bare.run_on("login", ["nft", "delete", "table", "ip", "seen"])
        return [int(count) > 0 for count in re.findall(r"counter packets (\d+)", told)]

    with on_network(bare.info) as stranger:
        for words in (
            ["addr", "add", "10.98.0.3/32", "dev", "far0"],
            ["route", "add", "10.98.0.2/32", "via", login],
        ):
            subprocess.run(["ip", "-n", stranger, *words], check=True, timeout=20)
        own = str(bare.cluster.network.network[240])
        assert seen(stranger, own, login) == [True, True, False, False]
        assert seen(stranger, "10.98.0.3", login) == [True, False, False, False]
        assert seen(stranger, "10.98.0.3", "10.98.0.2") == [False, False, True, False]
        # Nothing comes in but answers, whoever asks.
        assert seen(stranger, own, "10.98.0.2") == [False, False, True, False]


def test_packages_come_by_way_of_the_login_node_and_past_it_when_it_is_away(bare: Bare) -> None:
    cluster = bare.described(package_cache=True)
    both = ["login", "node01"]
    log = ["grep", "-c", r"/pool/main/s/sl/sl_.*\.deb$", "/var/log/apt-cacher-ng/apt-cacher.log"]
    install = "apt-get -q clean && apt-get -y -q --no-install-recommends --reinstall install sl"
    try:
        result = bare.apply(cluster, router.ROLES, both)
        assert result.ok, result.errors
        assert not bare.apply(cluster, router.ROLES, both).changed
        done = bare.run_on("node01", ["sh", "-c", install])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Get:1 " in done.stdout
        kept = bare.run_on("login", ["find", "/var/cache/apt-cacher-ng", "-name", "sl_*.deb"])
        assert kept.stdout.count("\n") == 1, kept.stderr
        bare.run_on("login", ["systemctl", "stop", "apt-cacher-ng"])  # it writes its log now
        fetched = bare.run_on("login", log).stdout
        assert int(fetched) > 0
        done = bare.run_on("node01", ["sh", "-c", install])
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Get:1 " in done.stdout
        assert bare.run_on("login", log).stdout == fetched
    finally:
        bare.run_on("node01", ["apt-get", "-y", "-q", "purge", "sl"])
        bare.apply(bare.described(), [], both)
        bare.run_on("login", ["apt-get", "-y", "-q", "purge", "apt-cacher-ng"])
    assert bare.run_on("node01", ["ls", "/etc/apt/apt.conf.d/30practicum-cache"]).returncode != 0


def test_the_account_that_practicum_logs_in_with_is_not_closed(bare: Bare) -> None:
    boss = [
        Group(group="boss", gid=3005),
        User(user="boss", uid=3005, group="boss", home="/var/boss", shell="/bin/sh",
             create_home=True),
        file("/etc/sudoers.d/boss", "boss ALL=(ALL) NOPASSWD: ALL\n", mode=0o440),
    ]  # fmt: skip

    def role(*resources: Resource) -> list[Role]:
        return [Role("boss", "identity", lambda _c, _n: True, lambda _context: resources)]

    keys = (
        "install -d -o boss /var/boss/.ssh && "
        "install -o boss /root/.ssh/authorized_keys /var/boss/.ssh/"
    )
    try:
        made = bare.apply(bare.described(), role(*boss), ["login"])
        assert made.ok, made.errors
        bare.run_on("login", ["sh", "-c", keys])
        cluster = bare.described()
        ssh = cluster.ssh.model_copy(update={"user": "boss"})
        cluster = cluster.model_copy(update={"ssh": ssh})
        refused = bare.apply(cluster, role(boss[0], boss[2]), ["login"])
        assert "would be closed, but you log in as boss" in refused.errors["login"]
        assert bare.apply(cluster, role(*boss), ["login"]).ok
    finally:
        bare.run_on("login", ["userdel", "-r", "boss"])
        bare.run_on("login", ["groupdel", "boss"])
        bare.apply(bare.described(), [], ["login"])


def test_a_closed_account_opens_again_as_it_was(bare: Bare) -> None:
    people = [Group(group="class", gid=3000), User(user="zoe", uid=3001, group="class")]

    def role(*resources: Resource) -> list[Role]:
        return [Role("people", "identity", lambda _c, _n: True, lambda _context: resources)]

    def shadow() -> list[str]:
        return bare.run_on("login", ["getent", "shadow", "zoe"]).stdout.strip().split(":")

    cluster = bare.described()
    try:
        bare.apply(cluster, role(*people), ["login"])
        bare.run_on("login", ["chpasswd"], input="zoe:her-own-word\n")
        before = shadow()
        closed = bare.apply(cluster, role(people[0]), ["login"])
        assert closed.ok, closed.errors
        assert shadow()[7] == "1"
        assert shadow()[1] == before[1]
        assert not bare.apply(cluster, role(people[0]), ["login"]).changed
        assert bare.apply(cluster, role(*people), ["login"]).changed == 1
        assert shadow() == before
        assert not bare.apply(cluster, role(*people), ["login"]).changed
    finally:
        bare.run_on("login", ["userdel", "zoe"])
        bare.run_on("login", ["groupdel", "class"])
        bare.apply(cluster, [], ["login"])


# The firewall of the shared lab


@pytest.fixture
def stranger(lab) -> Iterator[str]:
    with on_network(lab) as namespace:
        yield namespace


@contextmanager
def on_network(lab: labs.LabInfo) -> Iterator[str]:
    """A machine on the lab's network that is none of its nodes: the name of its namespace."""
    name = f"far-{secrets.token_hex(3)}"
    subnet = load(lab.cluster_toml).network.network
    address = f"{subnet[240]}/{subnet.prefixlen}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, timeout=20)

    ip("netns", "add", name)
    try:
        ip("link", "add", "far0", "netns", name, "type", "veth", "peer", "name", name)
        ip("link", "set", name, "master", lab_network.bridge(lab.name), "up")
        ip("-n", name, "addr", "add", address, "dev", "far0")
        ip("-n", name, "link", "set", "far0", "up")
        yield name
    finally:
        ip("netns", "delete", name)


def opens(namespace: str, address: str, port: int) -> bool:
    program = (
        "import socket,sys\n"
        "try: socket.create_connection((sys.argv[1],int(sys.argv[2])),timeout=2)\n"
        "except TimeoutError: sys.exit(9)\n"
    )
    done = subprocess.run(
        ["ip", "netns", "exec", namespace, "python3", "-c", program, address, str(port)],
        timeout=20, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 9)
    return done.returncode == 0


def test_strangers_reach_ssh_and_the_hub_alone(lab, run_on, stranger) -> None:
    cluster = load(lab.cluster_toml)
    login, node = cluster.node("login").address, cluster.node("node01").address
    assert opens(stranger, login, 22)
    assert opens(stranger, login, cluster.hub.port)
    assert not opens(stranger, login, cluster.slurm.controller_port)
    assert not opens(stranger, login, cluster.hub.api_port)
    assert opens(stranger, node, 22)
    assert not opens(stranger, node, cluster.slurm.node_port)
    assert not opens(stranger, node, cluster.hub.session_ports[0])
    # Among the nodes all is open, but sessions, which only the login node may call.
    probe = "exec 3<>/dev/tcp/{}/{}"
    slurmd = probe.format(node, cluster.slurm.node_port)
    assert run_on("node02", ["timeout", "5", "bash", "-c", slurmd]).returncode == 0
    session = probe.format(node, cluster.hub.session_ports[0])
    assert run_on("node02", ["timeout", "2", "bash", "-c", session]).returncode == 124
    refused = run_on("login", ["timeout", "5", "bash", "-c", session])
    assert "refused" in refused.stderr


def test_the_firewall_is_there_again_when_tables_are_flushed(lab, run_on, stranger) -> None:
    port = load(lab.cluster_toml).slurm.node_port
    address = load(lab.cluster_toml).node("node01").address
    run_on("node01", ["nft", "delete", "table", "inet", "practicum"])
    assert opens(stranger, address, port)
    run_on("node01", ["systemctl", "reload", "practicum-firewall"])
    assert not opens(stranger, address, port)
    enabled = run_on("node01", ["systemctl", "is-enabled", "practicum-firewall"]).stdout
    assert enabled == "enabled\n"
