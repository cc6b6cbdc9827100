"""Addresses by way of netplan, as Ubuntu and Debian's cloud images have it, on a machine with a card
and a udev of its own: the lab's nodes have neither. The other machine's are networkd's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from vmkit.use import Edit, Vms, changes

from cluster.load import load
from provisioning.planning import Result
from provisioning.remembered import last_facts

pytestmark = pytest.mark.vm

BY = {"netplan": ["netplan.io"], "netplan-NetworkManager": ["netplan.io", "network-manager"]}
INSTALLED = "/etc/systemd/network/10-installed.network"
NETWORKD = ("systemd-networkd.service", "systemd-networkd.socket")
OURS = "/etc/netplan/90-practicum.yaml"


def own(vms: Vms) -> tuple[str, str, list[str]]:
    """node01's card, gateway and IPv4 addresses with their prefix lengths."""
    [way] = json.loads(vms.check_on("node01", ["ip", "-json", "route", "show", "default"]))
    shown = json.loads(vms.check_on("node01", ["ip", "-json", "-4", "addr", "show", way["dev"]]))
    addresses = [f"{one['local']}/{one['prefixlen']}" for one in shown[0]["addr_info"]]
    return way["dev"], way["gateway"], addresses


@pytest.fixture(params=BY)
def card(cluster_vms: Vms, request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """node01's card, whose address netplan gives it, as an installer wrote it down; and its
    manager: networkd or, as on a desktop and on Raspberry Pi OS, NetworkManager."""
    vms, manager = cluster_vms, request.param
    name, gateway, [address] = own(vms)
    install = ["apt-get", "-y", "-q", "--no-install-recommends", "install", *BY[manager]]
    vms.check_on("node01", install, timeout=900)
    by_nm = manager != "netplan"
    ethernet = {"addresses": [address], "routes": [{"to": "default", "via": gateway}]}
    renderer = "NetworkManager" if by_nm else "networkd"
    tree = {"network": {"version": 2, "renderer": renderer, "ethernets": {name: ethernet}}}
    vms.check_on("node01", ["install", "-m", "600", "/dev/stdin", "/etc/netplan/50-installer.yaml"],
                 input=json.dumps(tree))  # fmt: skip
    vms.check_on("node01", ["mv", INSTALLED, "/root"])
    if by_nm:
        vms.check_on("node01", ["systemctl", "disable", *NETWORKD])
    vms.reboot("node01")
    yield name, manager
    vms.check_on("node01", ["systemctl", "enable", *NETWORKD])
    vms.check_on("node01", ["mv", f"/root/{INSTALLED.rpartition('/')[2]}", INSTALLED])
    vms.check_on("node01", ["rm", "-r", "/etc/netplan"])
    vms.check_on("node01", ["apt-get", "-y", "-q", "purge", *BY[manager]], timeout=600)
    vms.reboot("node01")


def static(gateway: str, dns: Sequence[str]) -> Edit:
    def edit(text: str) -> str:
        text = re.sub(r"(?m)^(addresses|gateway|dns|confirm) = .*\n", "", text)
        words = (
            f'addresses = "static"\ngateway = "{gateway}"\ndns = {json.dumps(dns)}\nconfirm = 120\n'
        )
        return text.replace("[network]\n", f"[network]\n{words}")

    return edit


def test_addresses_go_to_netplan_and_a_wrong_gateway_comes_back(
    card: tuple[str, str], apply: Callable[[Edit], Result], cluster_vms: Vms
) -> None:
    vms = cluster_vms
    name, manager = card
    _, gateway, before = own(vms)
    dns = re.findall(r"(?m)^nameserver (\S+)", vms.check_on("head", ["cat", "/etc/resolv.conf"]))
    assert apply(static(gateway, dns)).ok
    assert last_facts(vms.toml.parent, "node01").managers[name] == manager
    vms.check_on("node01", ["ls", OURS])
    assert own(vms) == (name, gateway, before)
    assert changes(vms.plan()) == []

    nobody = str(load(vms.toml).network.network[250])
    vms.toml.write_text(static(nobody, dns)(vms.toml.read_text()))
    refused = vms.try_apply()
    assert f"the gateway {nobody} does not answer" in refused.errors["node01"]
    told = ["ip", "route", "show", "default"]
    vms.until("node01", told, lambda text: f"via {gateway} " in text)
    vms.until("head", told, lambda text: f"via {gateway} " in text)

    apply(static(gateway, dns))
    vms.reboot("node01")
    assert own(vms) == (name, gateway, before)
    if manager == "netplan":
        told = vms.check_on("node01", ["networkctl", "status", name])
        assert "10-netplan-00-practicum.network" in told
    else:
        told = vms.check_on("node01", ["nmcli", "-g", "GENERAL.CONNECTION", "device", "show", name])
        assert told == "netplan-00-practicum\n"
