"""One LAN for the machines: a bridge with this host on it as gateway and admin, a tap for each.

The lab's own code makes bridge and translation; names begin so that no lab's can be the same.
"""

from __future__ import annotations

import ipaddress

from provisioning.lab import host, network, state
from provisioning.lab.system import locked, run


def own_name(cluster: str) -> str:
    """What the lab's code takes for a lab's name (at most 12 characters)."""
    return f"v-{cluster}"


def tap(cluster: str, index: int) -> str:
    return f"pv-{cluster}-{index}"


def choose(cluster: str, machines: int) -> ipaddress.IPv4Network:
    """A free subnet, at once taken by a bridge."""
    with locked("labs", wait=60, busy="a lab is being set up: try again"):
        taken = [(lab.network, f"lab {lab.name}") for lab in state.others("")]
        subnet = network.choose_subnet(own_name(cluster), None, machines, taken)
        make(cluster, subnet, machines)
    return subnet


def make(cluster: str, subnet: ipaddress.IPv4Network, machines: int) -> None:
    """Bridge, translation and taps; what is there stays."""
    host.ensure()
    network.make(own_name(cluster), subnet, None)
    for index in range(machines):
        name = tap(cluster, index)
        if run(["ip", "link", "show", name], timeout=20, check=False).returncode:
            run(["ip", "tuntap", "add", "dev", name, "mode", "tap"], timeout=20)
        run(["ip", "link", "set", name, "master", network.bridge(own_name(cluster))], timeout=20)
        run(["ip", "link", "set", name, "up"], timeout=20)


def remove(cluster: str, machines: int) -> None:
    """All of it. Fine if nothing is there."""
    for index in range(machines):
        run(["ip", "link", "delete", tap(cluster, index)], timeout=20, check=False)
    network.remove(own_name(cluster))
