"""[network], [ssh] and the ports of everything."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem
from cluster.model import Cluster

CACHE_PORT = 3142  # apt-cacher-ng's, on the login node
DATABASE_PORT = 3306  # MariaDB's, on the database node


def network(cluster: Cluster) -> Iterator[Problem]:
    """What cannot work, or would cost the admin the way in."""
    net = cluster.network
    addresses = {node.address for node in cluster.machines}
    if net.addresses == "static" and (net.gateway or net.router) and not net.dns:
        yield Problem(
            ("network", "dns"),
            "with static addresses no lease tells the name servers: list them here",
        )
    if net.addresses == "keep" and net.dns:
        yield Problem(("network", "dns"), 'counts only with addresses = "static"')
    if net.uplink and net.uplink == net.interface:
        yield Problem(("network", "uplink"), f"{net.uplink} is the private network's interface")
    if net.router and net.gateway and net.gateway in addresses:
        yield Problem(
            ("network", "gateway"),
            "with router = true the login node is the gateway by itself: leave this out",
        )
    if net.router and net.network.version == 6:
        yield Problem(
            ("network", "router"),
            f"the login node forwards IPv4 only, and {net.subnet} is IPv6: leave this out, or give "
            "the nodes an IPv4 network",
        )
    if net.wifi and not net.router:
        yield Problem(("network", "wifi"), "is the router's way out: set router = true")
    if net.outside and not net.firewall:
        yield Problem(("network", "outside"), "counts only with firewall = true")


def ports(cluster: Cluster) -> Iterator[Problem]:
    """Every port has one owner, on whichever node: nodes may take several roles."""
    hub, slurm = cluster.hub, cluster.slurm
    owners = {cluster.ssh.port: "ssh.port", DATABASE_PORT: "the database"}
    if cluster.network.package_cache:
        owners[CACHE_PORT] = "the package cache"
    for place, port in (
        (("slurm", "controller_port"), slurm.controller_port),
        (("slurm", "node_port"), slurm.node_port),
        (("slurm", "database_port"), slurm.database_port),
        (("hub", "port"), hub.port),
        (("hub", "api_port"), hub.api_port),
        (("hub", "proxy_api_port"), hub.proxy_api_port),
    ):
        if port in owners:
            yield Problem(place, f"port {port} is also {owners[port]}: choose another")
        owners.setdefault(port, ".".join(place))
    low, high = hub.session_ports
    if low >= high:
        yield Problem(("hub", "session_ports"), f"must be [lowest, highest], not [{low}, {high}]")
    for port, owner in owners.items():
        if low <= port <= high:
            yield Problem(
                ("hub", "session_ports"), f"{low}-{high} holds {port}, which is {owner}: move one"
            )
