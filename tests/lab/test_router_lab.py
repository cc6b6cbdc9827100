"""The router and the packages it keeps, on a lab of this file's own; the firewall is the shared
lab's, where everything else has to work through it as well.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from networks import Networked, on_network
from waiting import until

from cluster.load import load
from provisioning.roles import firewall, router

pytestmark = pytest.mark.lab


def test_the_login_node_routes_for_a_network_behind_it(bare: Networked) -> None:
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
        result = bare.with_roles([*router.ROLES, *firewall.ROLES], ["login"], cluster)
        assert result.ok, result.errors
        done = bare.run_on("login", ping)
        assert done.returncode == 0, done.stdout
        again = bare.with_roles([*router.ROLES, *firewall.ROLES], ["login"], cluster)
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
        bare.with_roles([], ["login"], bare.described())
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


def forged_packets_are_dropped(bare: Networked) -> None:
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


def test_packages_come_by_way_of_the_login_node_and_past_it_when_it_is_away(
    bare: Networked,
) -> None:
    cluster = bare.described(package_cache=True)
    both = ["login", "node01"]
    log = ["grep", "-c", r"/pool/main/s/sl/sl_.*\.deb$", "/var/log/apt-cacher-ng/apt-cacher.log"]
    install = "apt-get -q clean && apt-get -y -q --no-install-recommends --reinstall install sl"
    try:
        result = bare.with_roles(router.ROLES, both, cluster)
        assert result.ok, result.errors
        assert not bare.with_roles(router.ROLES, both, cluster).changed
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
        bare.with_roles([], both, bare.described())
        bare.run_on("login", ["apt-get", "-y", "-q", "purge", "apt-cacher-ng"])
    assert bare.run_on("node01", ["ls", "/etc/apt/apt.conf.d/30practicum-cache"]).returncode != 0


# The firewall of the shared lab


@pytest.fixture
def stranger(lab) -> Iterator[str]:
    with on_network(lab) as namespace:
        yield namespace


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
