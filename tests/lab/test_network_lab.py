"""Addresses that change and come back, whichever program holds them, on real nodes of our own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import NoReturn

import pytest
from networks import Networked
from run_in_lab import RunOn
from waiting import until

from cluster.errors import PracticumError
from provisioning import moving
from provisioning.agent.network import APPLIED
from provisioning.remembered import last_facts
from provisioning.roles import network

pytestmark = pytest.mark.lab


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
def managed(bare: Networked, request: pytest.FixtureRequest) -> Iterator[tuple[Networked, str]]:
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
    bare.with_roles([], ["node01"], bare.described())
    if manager in SCRIPTS:
        hand_over(bare, BACK_TO_NETWORKD)


def hand_over(bare: Networked, script: str) -> None:
    """Run it on node01, which then starts anew."""
    done = bare.run_on("node01", ["sh", "-euc", script], timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    restart(bare)


def restart(bare: Networked) -> None:
    bare.run_on("node01", ["sh", "-c", "touch /run/before; systemctl --no-block reboot"])
    until(
        lambda: bare.run_on("node01", ["test", "!", "-e", "/run/before"]).returncode == 0,
        why=lambda: bare.inside("node01", "journalctl", "-n", "60"),
    )


def test_an_address_changes_and_a_wrong_one_comes_back(
    managed: tuple[Networked, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, manager = managed
    subnet = bare.cluster.network.network
    old, new = str(subnet[11]), str(subnet[60])
    gateway = bare.cluster.network.gateway
    roles = network.ROLES
    static = {"addresses": "static", "gateway": gateway}

    first = bare.with_roles(roles, ["node01"], bare.described(**static))  # pin what it has
    assert first.ok, first.errors
    assert first.changed
    told = last_facts(bare.info.cluster_toml.parent, "node01")
    assert told.managers["host0"] == manager
    again = bare.with_roles(roles, ["node01"], bare.described(**static))
    assert again.ok
    assert not again.changed

    moved = bare.with_roles(roles, ["node01"], bare.described(new, **static))
    assert moved.ok, moved.errors
    assert any(
        line.startswith(new)
        for line in (bare.base / "secrets/known_hosts").read_text().splitlines()
    )
    assert new in bare.inside("node01", "ip", "-4", "addr", "show", "host0")
    assert old not in bare.inside("node01", "ip", "-4", "addr", "show", "host0")

    # An address that nobody here can reach: the node must come back by itself.
    lost = bare.described("10.99.99.11", **static, subnet="10.99.99.0/24", confirm=15)
    lost = lost.model_copy(update={"network": lost.network.model_copy(update={"gateway": None})})
    began = time.monotonic()
    result = bare.with_roles(roles, ["node01"], lost)
    assert f"took the old ones back and answers at {new}" in result.errors["node01"]
    assert time.monotonic() - began < 90
    assert new in bare.inside("node01", "ip", "-4", "addr", "show", "host0")

    # A gateway that is not there, though the node itself is reached.
    wrong = bare.with_roles(
        roles, ["node01"], bare.described(new, addresses="static", gateway=str(subnet[250]))
    )
    assert f"the gateway {subnet[250]} does not answer" in wrong.errors["node01"]
    # The node says so before it has done it.
    until(lambda: f"via {gateway} " in bare.inside("node01", "ip", "route"), 20)

    # at once: the time that the change before had is not over
    back = bare.with_roles(roles, ["node01"], bare.described(old, **static))
    assert back.ok, back.errors
    assert addresses(bare.run_on, "node01") == [old]
    assert "confirmed.json" in bare.run_on("node01", ["ls", "/var/lib/practicum/network"]).stdout
    assert bare.run_on("node01", ["ls", network.SWITCH]).returncode == 0
    nobody_confirms(bare, static, monkeypatch)


def nobody_confirms(
    bare: Networked, static: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who applies is cut off before: a restart of the node takes the change back, by way of its
    manager's own files too; another apply keeps it."""

    def cut_off(wanted: dict[str, object]) -> None:
        def cut(*_: object) -> NoReturn:
            raise PracticumError("cut off")

        with monkeypatch.context() as patched:
            patched.setattr(moving, "follow", cut)
            result = bare.with_roles(network.ROLES, ["node01"], bare.described(**wanted))
        assert result.errors == {"node01": "cut off"}
        until(lambda: bare.run_on("node01", ["ls", APPLIED]).returncode == 0)

    def route() -> str:
        return bare.inside("node01", "ip", "route", "show", "default")

    nobody = str(bare.cluster.network.network[251])
    cut_off({**static, "gateway": nobody})
    assert f"via {nobody} " in route()
    restart(bare)
    until(lambda: f"via {static['gateway']} " in route())
    assert nobody not in route()
    again = bare.with_roles(network.ROLES, ["node01"], bare.described(**static))
    assert (again.ok, again.changed) == (True, 0), again.errors

    other = {**static, "gateway": None}
    cut_off(other)
    kept = bare.with_roles(network.ROLES, ["node01"], bare.described(**other))
    assert (kept.ok, kept.changed) == (True, 1), kept.errors
    left = bare.run_on("node01", ["ls", "/var/lib/practicum/network"]).stdout.split()
    assert "confirmed.json" in left
    assert "change.json" not in left
    assert route() == ""
    whole = bare.with_roles(network.ROLES, ["node01"], bare.described(**static))
    assert whole.ok, whole.errors
