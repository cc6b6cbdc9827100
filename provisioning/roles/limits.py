"""What people may use on a login node, each and together, so that nobody stops the hub and Slurm
there.

systemd gives every user who logs in a slice (user-1000.slice) in user.slice; a drop-in for all of
them is a limit for each, one for user.slice is for all together. The hub, the databases and sshd
are in the system's slice. Sessions of notebooks are jobs on compute nodes and have Slurm's limits.
"""

from __future__ import annotations

from cluster.model import Cluster, NodeRole
from provisioning.facts import Facts
from provisioning.resources import Directory, Package, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.timed import timed
from provisioning.roles.where import on

UNITS = "/etc/systemd/system"


def slice_text(cluster: Cluster, facts: Facts) -> str:
    """The limits of each user. Without facts of the machine only what is declared."""
    limits = cluster.login
    memory = limits.memory_mb or facts.memory_mb * 3 // 4
    cores = limits.cpu_percent or (100 * (facts.cpus - 1) if facts.cpus > 1 else 75)
    lines = ["[Slice]", f"TasksMax={limits.processes}"]
    if memory:
        lines += [f"MemoryMax={memory}M", "MemorySwapMax=0"]
    if limits.cpu_percent or facts.cpus:
        lines.append(f"CPUQuota={cores}%")
    return "\n".join([*lines, ""])


def together_text(cluster: Cluster, facts: Facts) -> str:
    """The limit of all who are logged in, root too: a quarter of the memory is the system's, or
    what the admin's limit of one person leaves of it. Nothing without facts of the machine."""
    most = max(facts.memory_mb * 3 // 4, cluster.login.memory_mb or 0)
    return f"[Slice]\nMemoryMax={most}M\n" if facts.memory_mb else "[Slice]\n"


# Where the system itself needs more than its quarter, the kernel ends other processes first. sshd
# sees to this itself, and jobs would inherit it from slurmd. It counts from a service's next start.
DAEMONS = ("mariadb", "munge", "slurmctld", "slurmdbd", "practicum-hub", "practicum-proxy")
LAST = "[Service]\nOOMScoreAdjust=-500\n"

# root's is user-0.slice: what practicum itself does as root has no limit but that of all together.
ROOT = "[Slice]\nTasksMax=infinity\nMemoryMax=infinity\nMemorySwapMax=infinity\nCPUQuota=\n"


def limits(context: Context) -> list[Resource]:
    """libpam-systemd is what puts a person who logs in into their slice."""
    daemons = [f"{UNITS}/{name}.service.d" for name in DAEMONS]
    together = together_text(context.cluster, context.own)
    return [
        Package(package="libpam-systemd"),
        *(Directory(path=folder) for folder in daemons),
        *(file(f"{folder}/60-practicum-memory.conf", LAST) for folder in daemons),
        Directory(path=f"{UNITS}/user.slice.d"),
        file(f"{UNITS}/user.slice.d/50-practicum.conf", together),
        Directory(path=f"{UNITS}/user-.slice.d"),
        Directory(path=f"{UNITS}/user-0.slice.d"),
        file(f"{UNITS}/user-0.slice.d/90-practicum.conf", ROOT),
        file(f"{UNITS}/user-.slice.d/50-practicum.conf", slice_text(context.cluster, context.own)),
        *timed(context.cluster),
    ]


ROLES = (Role("login-limits", "identity", on(NodeRole.LOGIN), limits),)
