"""cluster.toml of the machines, as an admin would write it for two of them."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

from cluster.model import Cluster
from cluster.storage import Storage
from provisioning.facts import Facts
from provisioning.lab import tree
from provisioning.resources import Group, Package, Resource, User
from provisioning.role import Context, Role, declare

HEAD = "head"
# An empty disk for the file server, and one that has a file system and must be refused.
DATA_DISK, FULL_DISK = "PRACTICUM-DATA", "PRACTICUM-FULL"
# Empty until a test asks for the environments that were built here.
BUILT_DISK = "PRACTICUM-BUILT"
BY_SERIAL = "/dev/disk/by-id/virtio-"
DATA_DEVICE = f"{BY_SERIAL}{DATA_DISK}"
EXTERNAL = 'provider = "external"'

TEMPLATE = """\
# Virtual machines: one that serves, the others compute.

[cluster]
name = "vms"

[network]
subnet = "{subnet}"
gateway = "{gateway}"

[ssh]
user = "root"
key = "secrets/ssh_key"
known_hosts = "secrets/known_hosts"
connect_timeout = 300

[storage]
provider = "external"
home = "/home"
shared = "/nfs"

[[nodes]]
name = "head"
address = "{head}"
roles = ["login", "controller", "database", "storage"]

{compute}[[groups]]
name = "students"
gid = 2000
role = "student"

[[groups]]
name = "instructors"
gid = 2001
role = "instructor"

[[groups]]
name = "admins"
gid = 2002
role = "admin"

[[users]]
name = "ada"
uid = 2101
groups = ["students"]
full_name = "Ada Lovelace"

[[users]]
name = "ben"
uid = 2102
groups = ["students"]
full_name = "Ben Alvarez"

[[users]]
name = "ines"
uid = 2201
groups = ["instructors"]
full_name = "Ines Okafor"

[[users]]
name = "admin"
uid = 2301
groups = ["admins"]
full_name = "The admin"

[[partitions]]
name = "notebook"
nodes = "ALL"
oversubscribe = 4
max_time = "08:00:00"
default_time = "04:00:00"
default_memory_per_cpu_mb = 100

[[partitions]]
name = "batch"
nodes = "ALL"
default = true
max_time = "1-00:00:00"
default_time = "01:00:00"
default_memory_per_cpu_mb = 200

[[profiles]]
name = "small"
title = "Small"
partition = "notebook"
cpus = 1
memory_mb = 300

[[kernels]]
name = "python3"
title = "Python (class)"
packages = ["numpy"]
"""

COMPUTE = """\
[[nodes]]
name = "{name}"
address = "{address}"
roles = ["compute"]

"""


def served(text: str, *more: str, disk: str = f'serial = "{DATA_DISK}"') -> str:
    """cluster.toml with head as file server, which formats ``disk``; ``more`` are further lines of
    [storage]. AssertionError if head is one already."""
    assert text.count(EXTERNAL) == 1, text
    lines = ('provider = "nfs"', f"disk = {{ {disk}, format = true }}", *more)
    return text.replace(EXTERNAL, "\n".join(lines))


def context(guest: tree.Guest, cluster: Cluster, secrets: dict[str, str], node: str) -> Context:
    """What roles are told of a machine that was never asked."""
    own = Facts(
        os_id=guest.family, os_codename=guest.suite, arch=platform.machine(), cgroup="v2",
        cpus=2, cores_per_socket=2, memory_mb=1000,
    )  # fmt: skip
    facts = {machine.name: own for machine in cluster.machines}
    return Context(cluster, cluster.node(node), facts, secrets)


def packages(
    guest: tree.Guest, cluster: Cluster, secrets: dict[str, str], roles: Sequence[Role]
) -> list[dict[str, Any]]:
    """Wire forms of what roles ask for that takes long and is the same for everyone: packages,
    and the system accounts that these must find with the right ids. In the roles' order."""
    found: dict[str, dict[str, Any]] = {}
    # with and without what tests switch on: one image for all
    storage = {"provider": "nfs", "quotas": True, "disk": {"serial": DATA_DISK}}
    more = {
        "storage": Storage.model_validate(storage),
        "network": cluster.network.model_copy(update={"firewall": True}),
        "slurm": cluster.slurm.model_copy(update={"ssh_needs_job": True}),
    }
    for variant in (cluster, cluster.model_copy(update=more)):
        for machine in variant.machines:
            declared = declare(roles, context(guest, variant, secrets, machine.name))
            for one in (one for _, resources in declared.stages for one in resources):
                if isinstance(one, Package) or _system_account(one):
                    found.setdefault(one.key, {**one.to_wire(), "notify": []})
    return list(found.values())


def _system_account(resource: Resource) -> bool:
    if isinstance(resource, Group):
        return resource.gid < 1000
    return isinstance(resource, User) and resource.uid < 1000 and not resource.password_hash
