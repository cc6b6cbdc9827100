"""One nftables table of our own, ``inet practicum``: the firewall of every node, and address
translation on the node that routes for the others.

The cluster's own nodes are let in whole. Slurm's srun, PMIx and MPI talk on ports that the
kernel chooses, in both directions between any two nodes; to close the rest would take a fixed
range in each of them and a second look at every new MPI library. What a node must not let in
from its fellows says so itself (an :class:`~provisioning.role.Opening` for ``login``): sessions'
ports. The rest of the cluster's network is outside, as far as the firewall goes: a classroom's
switch has free sockets. It may use ssh, and what roles open for ``network``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Command, Directory, Package, Resource, Service, file
from provisioning.role import Context, Opening, Role

TABLE = "inet practicum"
RULES = "/etc/practicum/firewall.nft"
UNIT = "practicum-firewall"
ANYWHERE = ("0.0.0.0/0", "::/0")


def table_unit(description: str, table: str, rules: str, before: str = "") -> str:
    """A unit that loads the file ``rules`` with nft's ``table``, before the network is up and the
    units ``before`` start.

    Whoever starts nftables.service anew flushes all tables, this one too: then it is loaded again.
    """
    others = f"{before} " if before else ""
    return f"""[Unit]
Description={description}
DefaultDependencies=no
After=local-fs.target nftables.service
Before=network-pre.target {others}shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {rules}
ExecReload=/usr/sbin/nft -f {rules}
ExecStop=/usr/sbin/nft delete table {table}

[Install]
WantedBy=multi-user.target
"""


UNIT_TEXT = table_unit("The cluster's firewall", TABLE, RULES)


def has_table(cluster: Cluster, node: Node) -> bool:
    """Nodes with a firewall, and the router."""
    return cluster.network.firewall or is_router(cluster, node)


def is_router(cluster: Cluster, node: Node) -> bool:
    return cluster.network.router and node.name == cluster.first(NodeRole.LOGIN).name


def firewall(context: Context) -> list[Resource]:
    """The table, checked by nft before it goes live and replaced in one transaction.

    ValueError when it would shut out whoever applies it.
    """
    cluster = context.cluster
    if cluster.network.firewall:
        _admin_stays(context)
    text = rules(
        cluster,
        context.node,
        context.openings,
        outer=outer(context),
        ssh_ports=tuple(dict.fromkeys((cluster.ssh.port, context.own.ssh_port or 0))),
    )
    return [
        Package(package="nftables"),
        Directory(path="/etc/practicum"),
        file(RULES, text, validate=("nft", "-c", "-f", "{}"), notify=(f"reload:{UNIT}",)),
        file(f"/etc/systemd/system/{UNIT}.service", UNIT_TEXT),
        Service(service=UNIT),
        # Somebody may have flushed all tables by hand since.
        Command(
            id="firewall-table",
            check=("nft", "list", "chain", *TABLE.split(), _witness(cluster)),
            run=("systemctl", "restart", UNIT),
            summary="load the firewall's table, which is not there",
        ),
    ]


def _witness(cluster: Cluster) -> str:
    return "input" if cluster.network.firewall else "translate"


def _admin_stays(context: Context) -> None:
    client = context.own.ssh_from
    if not client:
        return
    address = ipaddress.ip_address(client)
    allowed = [
        context.cluster.network.network,
        *map(ipaddress.ip_network, outside(context.cluster)),
    ]
    if address.is_loopback or any(address in one for one in allowed):
        return
    raise ValueError(
        f"network.firewall would shut you out: you reach this node from {client}, which is neither "
        f"in network.subnet nor in network.outside: add it to network.outside"
    )


def outside(cluster: Cluster) -> Sequence[str]:
    return cluster.network.outside or ANYWHERE


def outer(context: Context) -> str:
    """The interface that leads only outside: the first login node's uplink, "" where there is
    none or where it has an address of the private network (facts tell IPv4 ones alone)."""
    cluster = context.cluster
    uplink, private = cluster.network.uplink, cluster.network.network
    first = context.node.name == cluster.first(NodeRole.LOGIN).name
    if not uplink or not first or private.version == 6:
        return ""
    own = map(ipaddress.ip_interface, context.own.interfaces.get(uplink, ()))
    return "" if any(one.ip in private for one in own) else uplink


def rules(
    cluster: Cluster,
    node: Node,
    openings: Iterable[Opening],
    *,
    outer: str = "",
    ssh_ports: Sequence[int] = (22,),
) -> str:
    """The table of one node, for ``nft -f``: it replaces the one that is there."""
    lines = [f"table {TABLE}", f"delete table {TABLE}", f"table {TABLE} {{"]
    # Who comes from outside with an address of the private network has made it up.
    forged = _from([cluster.network.subnet], "drop") if outer else []
    forged = [f'iifname "{outer}" {rule}' for rule in forged]
    if cluster.network.firewall:
        lines += _input(cluster, openings, [port for port in ssh_ports if port], forged)
    if is_router(cluster, node):
        lines += _router(cluster, forged)
    return "\n".join([*lines, "}", ""])


def _input(
    cluster: Cluster, openings: Iterable[Opening], ssh_ports: Sequence[int], forged: Sequence[str]
) -> list[str]:
    nodes = [machine.address for machine in cluster.machines]
    logins = [machine.address for machine in cluster.with_role(NodeRole.LOGIN)]
    inside = [cluster.network.subnet]
    around = [*outside(cluster), *inside]
    body = [
        *forged,
        "ct state established,related accept",
        "ct state invalid drop",
        'iifname "lo" accept',
        "meta l4proto { 1, 58 } accept",  # ICMP, of both versions; their names are in netbase
        "udp sport { 67, 547 } udp dport { 68, 546 } accept",  # answers to a DHCP client
        *_from(around, f"tcp dport {_ports(ssh_ports)} accept"),
    ]
    wanted = list(openings)
    for one in wanted:
        if one.source == "login":
            what = f"{one.protocol} dport {_range(one)}"
            body += [*_from(logins, f"{what} accept"), f"{what} drop"]
    body += _from(nodes, "accept")
    for one in wanted:
        if one.source != "login":
            sources = around if one.source == "outside" else inside
            body += _from(sources, f"{one.protocol} dport {_range(one)} accept")
    return _chain("input", "filter hook input priority filter; policy drop;", body)


def _router(cluster: Cluster, forged: Sequence[str]) -> list[str]:
    """Out through the uplink under this machine's address; in, only the answers. IPv4 only: a
    router of an IPv6 network is refused (:mod:`cluster.checks.network`)."""
    subnet = cluster.network.subnet
    uplink = cluster.network.uplink
    out = f'oifname "{uplink}"' if uplink else f"ip daddr != {subnet}"
    forward = [
        *forged,
        "ct state established,related accept",
        f"ip saddr {subnet} accept",
        f"ip daddr {subnet} drop",
    ]
    translate = [f"ip saddr {subnet} ip daddr != {subnet} {out} masquerade"]
    return [
        *_chain("forward", "filter hook forward priority filter; policy accept;", forward),
        *_chain("translate", "nat hook postrouting priority srcnat; policy accept;", translate),
    ]


def _chain(name: str, hook: str, body: Iterable[str]) -> list[str]:
    return [f"  chain {name} {{", f"    type {hook}", *(f"    {line}" for line in body), "  }"]


def _from(sources: Iterable[str], verdict: str) -> list[str]:
    """One rule for the IPv4 sources and one for the IPv6 ones; all of a family needs no list."""
    networks = [ipaddress.ip_network(one) for one in sources]
    found = []
    for version, word, protocol in ((4, "ip", "ipv4"), (6, "ip6", "ipv6")):
        some = [one for one in networks if one.version == version]
        if any(one.prefixlen == 0 for one in some):
            found.append(f"meta nfproto {protocol} {verdict}")
        elif some:
            collapsed = [
                str(one.network_address) if one.num_addresses == 1 else str(one)
                for one in ipaddress.collapse_addresses(some)  # type: ignore[type-var]
            ]
            found.append(f"{word} saddr {{ {', '.join(collapsed)} }} {verdict}")
    return found


def _ports(ports: Sequence[int]) -> str:
    return str(ports[0]) if len(ports) == 1 else f"{{ {', '.join(map(str, ports))} }}"


def _range(one: Opening) -> str:
    low, high = one.ports
    return str(low) if low == high else f"{low}-{high}"


ROLES = (Role("firewall", "base", has_table, firewall),)
