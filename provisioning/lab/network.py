"""A lab's network: a bridge with the host as its gateway, translation to the outside, and the
hub's port on the host. All of it is named after the lab, so that it can be found and removed."""

from __future__ import annotations

import ipaddress
import json
import socket
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import PracticumError, UsageError
from provisioning.lab.system import run

# The private range that labs take their subnets from; one /24 each.
RANGE = ipaddress.IPv4Network("10.77.0.0/16")
FIRST_NODE = 10  # host part of the first node's address; below it is the gateway's and spare


def bridge(lab: str) -> str:
    """Its bridge (at most 15 characters: a lab's name has at most 12)."""
    return f"pr-{lab}"


def table(lab: str) -> str:
    """Its nftables table."""
    return f"practicum_{lab.replace('-', '_')}"


def gateway(subnet: ipaddress.IPv4Network) -> str:
    """The host's own address on the bridge."""
    return str(subnet[1])


def parse_subnet(text: str, nodes: int) -> ipaddress.IPv4Network:
    """A subnet that an admin asked for, with room for that many nodes; UsageError if not."""
    try:
        subnet = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a subnet like 10.77.1.0/24: {error}") from error
    if subnet.num_addresses < FIRST_NODE + nodes + 1:
        raise UsageError(f"subnet {text} is too small for {nodes} nodes: use a /24")
    return subnet


def in_use(lab: str) -> list[tuple[ipaddress.IPv4Network, str]]:
    """Networks this machine already reaches, and by what; the lab's own bridge aside."""
    taken = []
    for route in json.loads(run(["ip", "-json", "-4", "route", "show"], timeout=20).stdout):
        if route["dst"] != "default" and route.get("dev") != bridge(lab):
            network = ipaddress.IPv4Network(route["dst"], strict=False)
            taken.append((network, f"a route on {route.get('dev', '?')}"))
    return taken


def choose_subnet(
    lab: str, asked: str | None, nodes: int, others: Iterable[tuple[ipaddress.IPv4Network, str]]
) -> ipaddress.IPv4Network:
    """The subnet asked for, or the first free /24 of the range.

    UsageError when the one asked for overlaps a route or another lab, PracticumError when
    none is free.
    """
    taken = [*in_use(lab), *others]
    if asked:
        subnet = parse_subnet(asked, nodes)
        for network, what in taken:
            if subnet.overlaps(network):
                raise UsageError(
                    f"subnet {subnet} is taken: it overlaps {network} ({what}); choose another "
                    "with --subnet, or leave it out"
                )
        return subnet
    for free in list(RANGE.subnets(new_prefix=24))[1:]:
        if not any(free.overlaps(network) for network, _ in taken):
            return free
    raise PracticumError(f"no free subnet in {RANGE}: name one with --subnet, or take a lab down")


def check_port(port: int) -> None:
    """UsageError when something on this machine listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))  # noqa: S104 - only to see whether it is free
        except OSError as error:
            raise UsageError(
                f"port {port} of this machine is taken ({error.strerror}): "
                "choose another with --hub-port"
            ) from error


def make(lab: str, subnet: ipaddress.IPv4Network, hub: tuple[int, str, int] | None) -> list[str]:
    """Bridge and rules; what is there already stays. Returns remarks for people.

    ``hub`` = (port on this machine, address and port it leads to).
    """
    name = bridge(lab)
    if run(["ip", "link", "show", name], timeout=20, check=False).returncode:
        run(["ip", "link", "add", name, "type", "bridge", "forward_delay", "0"], timeout=20)
    address = f"{gateway(subnet)}/{subnet.prefixlen}"
    run(["ip", "addr", "replace", address, "dev", name], timeout=20)
    run(["ip", "link", "set", name, "up"], timeout=20)
    if hub:  # lets 127.0.0.1:PORT be translated; only what comes over this bridge is affected
        Path(f"/proc/sys/net/ipv4/conf/{name}/route_localnet").write_text("1")
    run(["nft", "--file", "-"], stdin=rules(lab, subnet, hub), timeout=20)
    return _obstacles()


def rules(lab: str, subnet: ipaddress.IPv4Network, hub: tuple[int, str, int] | None) -> str:
    """The nftables table of a lab, replacing the one that may be there, in one transaction."""
    name = bridge(lab)
    translate = [f'ip saddr {subnet} oifname != "{name}" masquerade']
    arriving = []
    if hub:
        port, address, target = hub
        arriving.append(f"fib daddr type local tcp dport {port} dnat to {address}:{target}")
        # a packet from 127.0.0.1 could never be answered
        translate.append(f'ct status dnat oifname "{name}" ip saddr != {subnet} masquerade')
    chains = {
        "postrouting": ("nat hook postrouting priority 100", translate),
        "prerouting": ("nat hook prerouting priority -100", arriving),
        "output": ("nat hook output priority -100", arriving),
        "forward": (
            "filter hook forward priority 0",
            [f'iifname "{name}" accept', f'oifname "{name}" accept'],
        ),
    }
    lines = [f"table ip {table(lab)}", f"delete table ip {table(lab)}", f"table ip {table(lab)} {{"]
    for chain, (hook, body) in chains.items():
        if body:
            lines += [
                f"  chain {chain} {{",
                f"    type {hook};",
                *(f"    {line}" for line in body),
                "  }",
            ]
    return "\n".join([*lines, "}", ""])


def _obstacles() -> list[str]:
    """Other tables' forward chains that drop by default: a verdict of ours cannot overrule them."""
    listing = run(["nft", "--json", "list", "chains"], timeout=20, check=False)
    if listing.returncode:
        return []
    chains = [item["chain"] for item in json.loads(listing.stdout)["nftables"] if "chain" in item]
    return [
        f"the nodes may not reach the registries: chain {chain['name']} of this machine's firewall "
        f"table {chain['family']} {chain['table']} drops forwarded packets by default"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop"
    ]


def remove(lab: str) -> None:
    """All of it. Fine if nothing is there."""
    run(["nft", "delete", "table", "ip", table(lab)], timeout=20, check=False)
    run(["ip", "link", "delete", bridge(lab)], timeout=20, check=False)


def remove_links(name: str, *, exactly: bool) -> None:
    """Remove links of that long name (systemd-nspawn keeps it as an alternative one where it
    had to cut it), or whose name begins so. The kernel does it too, but some time later."""
    for link in json.loads(run(["ip", "-json", "link", "show"], timeout=20).stdout):
        known = [link["ifname"], *link.get("altnames", [])]
        if any(one == name if exactly else one.startswith(name) for one in known):
            run(["ip", "link", "delete", link["ifname"]], timeout=20, check=False)


def address(subnet: ipaddress.IPv4Network, index: int) -> str:
    """Of the node of that number, from 0."""
    return str(subnet[FIRST_NODE + index])
