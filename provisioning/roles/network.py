"""Static addresses, in the words of whatever manages the node's network.

``addresses = "keep"`` declares nothing: what is there is the site's. With "static" the agent
tries the new settings and takes them back unless practicum reaches the node under them
(:mod:`provisioning.agent.network`).
"""

from __future__ import annotations

import ipaddress
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from cluster.model import Cluster, Node, NodeRole
from provisioning.facts import Facts
from provisioning.resources import Directory, Image, Network, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.firewall import is_router
from provisioning.roles.own_files import own_file

SWITCH = "/usr/local/lib/practicum/network-switch.py"
UNIT = "practicum-network-back"
File = tuple[str, str, int]  # path, text, mode

# A node that was switched off or restarted while a change waited to be confirmed.
UNIT_TEXT = f"""[Unit]
Description=Take back network settings that nobody confirmed
ConditionPathExists=|/var/lib/practicum/network/change.json
ConditionPathExists=|/var/lib/practicum/network/taking-back.json
DefaultDependencies=no
After=local-fs.target
Before=network-pre.target
Wants=network-pre.target

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 -I {SWITCH} back --boot

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True)
class Settings:
    """What an interface should have."""

    interface: str
    address: str  # with its prefix length
    gateway: str | None = None
    dns: tuple[str, ...] = ()
    domain: str | None = None


def networkd(wanted: Settings) -> list[File]:
    """systemd.network(5); sorts before an installer's file and the lab's."""
    lines = ["[Match]", f"Name={wanted.interface}", "", "[Network]", "DHCP=no"]
    lines.append(f"Address={wanted.address}")
    lines += [f"Gateway={wanted.gateway}"] if wanted.gateway else []
    lines += [f"DNS={server}" for server in wanted.dns]
    lines += [f"Domains={wanted.domain}"] if wanted.domain else []
    return [("/etc/systemd/network/05-practicum.network", "\n".join([*lines, ""]), 0o644)]


def network_manager(wanted: Settings) -> list[File]:
    """A keyfile (nm-settings-keyfile(5)) that wins over other profiles of the interface."""
    name = uuid.uuid5(uuid.NAMESPACE_DNS, f"practicum.{wanted.interface}")
    lines = [
        "[connection]", "id=practicum", f"uuid={name}", "type=ethernet",
        f"interface-name={wanted.interface}", "autoconnect-priority=100", "",
        "[ipv4]", "method=manual",
        f"address1={wanted.address}" + (f",{wanted.gateway}" if wanted.gateway else ""),
    ]  # fmt: skip
    lines += [f"dns={''.join(f'{server};' for server in wanted.dns)}"] if wanted.dns else []
    lines += [f"dns-search={wanted.domain};"] if wanted.domain else []
    lines += ["", "[ipv6]", "method=auto", ""]
    path = "/etc/NetworkManager/system-connections/practicum.nmconnection"
    return [(path, "\n".join(lines), 0o600)]


def netplan(wanted: Settings, renderer: str = "networkd") -> list[File]:
    """netplan(5), as JSON, which is YAML. A definition of its own: lists under the same name as
    the installer's would be joined, and the interface keep its old address too. It wins because
    networkd takes the first by name and NetworkManager the highest priority; the metric, better
    than a lease's 100, is there because netplan warns of two default routes without one.
    """
    ethernet: dict[str, object] = {
        "renderer": renderer,
        "match": {"name": wanted.interface},
        "dhcp4": False,
        "addresses": [wanted.address],
    }
    if renderer == "NetworkManager":  # a mistake under networkd
        ethernet["networkmanager"] = {"passthrough": {"connection.autoconnect-priority": "100"}}
    if wanted.gateway:
        ethernet["routes"] = [{"to": "default", "via": wanted.gateway, "metric": 50}]
    if wanted.dns or wanted.domain:
        search = [wanted.domain] if wanted.domain else []
        ethernet["nameservers"] = {"addresses": list(wanted.dns), "search": search}
    network = {"version": 2, "ethernets": {"00-practicum": ethernet}}
    text = json.dumps({"network": network}, indent=2) + "\n"
    return [("/etc/netplan/90-practicum.yaml", text, 0o600)]


def ifupdown(wanted: Settings) -> list[File]:
    """interfaces(5); the agent takes the interface out of /etc/network/interfaces itself."""
    lines = [f"auto {wanted.interface}", f"iface {wanted.interface} inet static"]
    lines.append(f"    address {wanted.address}")
    lines += [f"    gateway {wanted.gateway}"] if wanted.gateway else []
    lines += [f"    dns-nameservers {' '.join(wanted.dns)}"] if wanted.dns else []
    lines += [f"    dns-search {wanted.domain}"] if wanted.domain else []
    return [("/etc/network/interfaces.d/practicum", "\n".join([*lines, ""]), 0o644)]


RENDERERS: dict[str, Callable[[Settings], list[File]]] = {
    "networkd": networkd,
    "NetworkManager": network_manager,
    "netplan": netplan,
    "netplan-NetworkManager": partial(netplan, renderer="NetworkManager"),
    "ifupdown": ifupdown,
}


def resolv_conf(wanted: Settings) -> list[File]:
    """For managers that leave /etc/resolv.conf to others, where there are no others."""
    lines = [f"nameserver {server}" for server in wanted.dns[:3]]  # libc reads three
    lines += [f"search {wanted.domain}"] if wanted.domain else []
    return [("/etc/resolv.conf", "\n".join([*lines, ""]), 0o644)] if wanted.dns else []


def interface(cluster: Cluster, node: Node, facts: Facts) -> str:
    """The interface of the private network: the one that is named, or has the address, or one of
    the network, or is the only one. ValueError says what to write."""
    found = facts.interfaces
    named = cluster.network.interface
    if named:
        if named not in found:
            raise ValueError(
                f"network.interface is {named}, and this node has {', '.join(found) or 'none'}"
            )
        return named
    for wanted in (lambda one: one == node.address, lambda one: _inside(cluster, one)):
        for name, addresses in found.items():
            if any(wanted(address.partition("/")[0]) for address in addresses):
                return name
    if len(found) == 1:
        return next(iter(found))
    raise ValueError(
        f"none of {', '.join(found)} has an address in {cluster.network.subnet}: "
        "say which is the private network's with network.interface"
    )


def _inside(cluster: Cluster, address: str) -> bool:
    return ipaddress.ip_address(address) in cluster.network.network


def gateway(cluster: Cluster, node: Node) -> str | None:
    """The way out of the private network. The router's own is its uplink's."""
    if is_router(cluster, node):
        return None
    if cluster.network.gateway:
        return cluster.network.gateway
    return cluster.first(NodeRole.LOGIN).address if cluster.network.router else None


def settings(context: Context) -> Settings:
    network = context.cluster.network
    return Settings(
        interface=interface(context.cluster, context.node, context.own),
        address=f"{context.node.address}/{network.network.prefixlen}",
        gateway=gateway(context.cluster, context.node),
        dns=network.dns,
        domain=network.domain,
    )


def static(context: Context) -> Sequence[Resource]:
    """Nothing before the node's facts are known (while an image is being made)."""
    facts = context.own
    if not facts.interfaces:
        return []
    wanted = settings(context)
    manager = facts.managers.get(wanted.interface, "")
    if manager not in RENDERERS:
        raise ValueError(
            f"{wanted.interface} is configured by nothing that practicum knows "
            f'({", ".join(RENDERERS)}): install one of them, or set network.addresses = "keep"'
        )
    files = RENDERERS[manager](wanted)
    if manager in ("networkd", "ifupdown") and facts.resolver == "file":
        files += resolv_conf(wanted)
    return [
        Directory(path="/usr/local/lib/practicum"),
        file(SWITCH, own_file("network-switch.py"), mode=0o755),
        file(f"/etc/systemd/system/{UNIT}.service", UNIT_TEXT),
        Service(service=UNIT, running=False),
        Network(
            interface=wanted.interface,
            manager=manager,
            address=wanted.address,
            gateway=wanted.gateway or "",
            files=tuple(files),
            seconds=context.cluster.network.confirm,
            image=Image.NEVER,
        ),
    ]


def is_static(cluster: Cluster, _node: Node) -> bool:
    return cluster.network.addresses == "static"


ROLES = (Role("addresses", "network", is_static, static),)
