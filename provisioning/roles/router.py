"""The login node between the private network and the world: forwarding, and a package cache.

Address translation is in the table of :mod:`provisioning.roles.firewall`.
"""

from __future__ import annotations

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Command, Directory, Package, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.firewall import is_router
from provisioning.roles.own_files import own_file

CACHE_PORT = 3142
SYSCTL = "/etc/sysctl.d/60-practicum-router.conf"
FINDER = "/usr/local/lib/practicum/apt-proxy.py"
FORWARDING = "net.ipv4.ip_forward"
# At boot the cache must not look for its address before the network has it.
ONLINE = "[Unit]\nWants=network-online.target\nAfter=network-online.target\n"


def router(_context: Context) -> list[Resource]:
    """Forwarding now and after a restart. A container has its own network, and so its own
    switch for this."""
    return [
        Package(package="procps"),
        file(SYSCTL, f"{FORWARDING} = 1\n"),
        Command(
            id="forwarding",
            check=("grep", "-qx", "1", "/proc/sys/net/ipv4/ip_forward"),
            run=("sysctl", "-q", "-p", SYSCTL),
            summary="forward packets between networks",
        ),
    ]


def has_cache(cluster: Cluster, node: Node) -> bool:
    return cluster.network.package_cache and node.name == cluster.first(NodeRole.LOGIN).name


def uses_cache(cluster: Cluster, _node: Node) -> bool:
    return cluster.network.package_cache


def cache(context: Context) -> list[Resource]:
    """apt-cacher-ng, on the private network alone: it would be anybody's proxy. Any mirror is
    asked, of a school as of the distribution; what is no package or index is refused.

    A new address is there by now (the network's stage is before), and the file that names it
    starts the cache anew. With loopback it starts also where the address is not there yet.
    """
    bind = f"BindAddress: {context.node.address} 127.0.0.1\n"
    settings = f"{bind}ForceManaged: 0\nVfileUseRangeOps: 0\n"
    restart = ("restart:apt-cacher-ng",)
    return [
        Package(package="apt-cacher-ng"),
        file("/etc/apt-cacher-ng/zz_practicum.conf", settings, notify=restart),
        Directory(path="/etc/systemd/system/apt-cacher-ng.service.d"),
        file("/etc/systemd/system/apt-cacher-ng.service.d/practicum.conf", ONLINE, notify=restart),
        Service(service="apt-cacher-ng", wait_port=CACHE_PORT),
    ]


def cached(context: Context) -> list[Resource]:
    """apt asks a small program which proxy to take: the cache if it answers, else none, so that
    a node can be mended while the login node is away."""
    server = context.cluster.first(NodeRole.LOGIN)
    detect = f'Acquire::http::Proxy-Auto-Detect "{FINDER}";\n'
    script = own_file("apt-proxy.py").replace("@SERVER@", server.address)
    return [
        Directory(path="/usr/local/lib/practicum"),
        file(FINDER, script.replace("@PORT@", str(CACHE_PORT)), mode=0o755),
        file("/etc/apt/apt.conf.d/30practicum-cache", detect),
    ]


ROLES = (
    Role("router", "base", is_router, router),
    # After base: the cache comes from the registries, and who asks before it is there goes there.
    Role("package-cache", "base", has_cache, cache),
    Role("packages-cached", "identity", uses_cache, cached),
)
