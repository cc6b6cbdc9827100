"""Names, addresses and time: what every node needs before anything else."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import (
    Command,
    Directory,
    Image,
    Line,
    Link,
    Package,
    Resource,
    Service,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.where import everywhere


def hosts(context: Context) -> list[Resource]:
    """The node's name, and every node's address in /etc/hosts.

    Lines rather than the whole file: what an admin added by hand stays. Debian's
    ``127.0.1.1 NAME`` goes, for Slurm and MPI would tell others to come to that address.
    """
    name = context.node.name
    domain = context.cluster.network.domain
    resources: list[Resource] = [
        file("/etc/hostname", f"{name}\n", notify=("run:hostname",), image=Image.DEFER),
        Command(
            id="hostname",
            run=("hostname", "-F", "/etc/hostname"),
            on_notify=True,
            summary=f"set the running host name to {name}",
        ),
        Line(path="/etc/hosts", line=f"127.0.1.1 {name}", match=r"^127\.0\.1\.1\s", present=False),
    ]
    resources += [
        Line(
            path="/etc/hosts",
            # the short name first: Slurm and MPI know nodes by it
            line=f"{node.address}\t{node.name}" + (f" {node.name}.{domain}" if domain else ""),
            match=rf"^[0-9a-f.:]+\s+{node.name}(\s+{node.name}\.\S+)?\s*$",
            image=Image.DEFER,
        )
        for node in context.cluster.machines
    ]
    return resources


# A board without a clock of its own wakes up in the past, and munge would have nothing but
# expired credentials. Wants, not Requires: without a time server it starts late rather than never.
AFTER_TIME = "[Unit]\nWants=time-sync.target\nAfter=time-sync.target\n"


def time(context: Context) -> list[Resource]:
    """One time zone and one clock. munge refuses credentials of clocks five minutes apart.

    The login node serves the others; a container has its host's clock and may not set it.
    """
    zone = context.cluster.cluster.timezone
    resources: list[Resource] = [
        Package(package="tzdata"),
        Link(path="/etc/localtime", target=f"/usr/share/zoneinfo/{zone}"),
    ]
    if context.own.container:
        return resources
    if not context.own.clock:
        resources += [
            Directory(path="/etc/systemd/system/munge.service.d"),
            file("/etc/systemd/system/munge.service.d/practicum-time.conf", AFTER_TIME),
            # enabled without being started: now it could only keep the apply waiting
            Link(
                path="/etc/systemd/system/multi-user.target.wants/chrony-wait.service",
                target="/lib/systemd/system/chrony-wait.service",
            ),
        ]
    server = context.cluster.first(NodeRole.LOGIN)
    if context.node.name == server.name:
        text = f"allow {context.cluster.network.subnet}\nlocal stratum 10\n"
    else:
        text = f"server {server.address} iburst prefer\nmakestep 1 -1\n"
    return [
        *resources,
        Package(package="chrony"),
        file("/etc/chrony/conf.d/practicum.conf", text, notify=("restart:chrony",)),
        Service(service="chrony"),
    ]


ROLES = (
    Role("hosts", "base", everywhere, hosts),
    Role("time", "base", everywhere, time),
)
