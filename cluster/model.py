"""The cluster as one frozen, typed tree: what cluster.toml says, with every default filled in.

Everything else follows from it. Only values are checked here; reading files and naming
lines is :mod:`cluster.load`'s work, so that a model can also be built in a test.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)

from cluster.hostlist import expand

# useradd's portable names; 31 because utmp and quota tools cut longer ones.
NAME = r"^[a-z][a-z0-9_-]{0,30}$"
HOST = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
DURATION = r"^(\d+-)?\d{1,3}:\d{2}(:\d{2})?$"
# No control characters anywhere that ends up in a configuration file or a script.
TEXT = r"^[^\x00-\x1f\x7f]*$"

Name = Annotated[str, StringConstraints(pattern=NAME)]
Host = Annotated[str, StringConstraints(pattern=HOST)]
Text = Annotated[str, StringConstraints(pattern=TEXT, max_length=200)]
# [D-]HH:MM[:SS]
Duration = Annotated[str, StringConstraints(pattern=DURATION)]
AbsPath = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]*$")]
Port = Annotated[int, Field(ge=1, le=65535)]
# Accounts made by hand live from 1000 up; 60000 and above is the system's.
Uid = Annotated[int, Field(ge=1000, lt=60000)]


# name[extras] with version conditions; no URLs, paths or options
Requirement = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._,<>=!~\[\]-]*$")]
ModuleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+/-]*$")]


class Model(BaseModel):
    """Base of every table: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=False)


class NodeRole(StrEnum):
    """What a machine does for the cluster; one machine may do several."""

    LOGIN = "login"
    CONTROLLER = "controller"
    STORAGE = "storage"
    DATABASE = "database"
    COMPUTE = "compute"


class General(Model):
    """[cluster]"""

    name: Name
    timezone: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+/-]+$")] = "UTC"


class Network(Model):
    """[network]: the private network that the nodes share."""

    subnet: str
    gateway: str | None = None

    @field_validator("subnet")
    @classmethod
    def _subnet(cls, value: str) -> str:
        ipaddress.ip_network(value)  # its ValueError says what is wrong
        return value

    @field_validator("gateway")
    @classmethod
    def _gateway(cls, value: str | None, info: ValidationInfo) -> str | None:
        subnet = info.data.get("subnet")  # absent when it was wrong itself
        if value and subnet and ipaddress.ip_address(value) not in ipaddress.ip_network(subnet):
            raise ValueError(f"gateway {value} is not in {subnet}")
        return value

    @property
    def network(self) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
        return ipaddress.ip_network(self.subnet)


class SSH(Model):
    """[ssh]: how the admin's machine reaches the nodes. Paths are relative to cluster.toml."""

    user: Annotated[str, StringConstraints(pattern=NAME)] = "root"
    key: str = "secrets/ssh_key"
    known_hosts: str = "secrets/known_hosts"
    port: Port = 22
    connect_timeout: Annotated[int, Field(ge=1, le=300)] = 10  # seconds


class NodeEntry(Model):
    """[[nodes]] as written: `name` may be a host list, then `address` is the first one's."""

    name: str
    address: str
    roles: Annotated[tuple[NodeRole, ...], Field(min_length=1)]
    # Declared hardware (config_overrides in Slurm) for labs and for nodes that lie;
    # left out, facts from the node decide.
    cpus: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_mb: Annotated[int, Field(ge=64)] | None = None


class Node(Model):
    """One machine."""

    name: Host
    address: str
    roles: frozenset[NodeRole]
    cpus: int | None = None
    memory_mb: int | None = None

    def has(self, role: NodeRole) -> bool:
        return role in self.roles


class Storage(Model):
    """[storage]: where homes and shared software come from.

    `external` = the site mounts `home` and `shared` itself on every node (a file server, or one
    shared disk); practicum makes folders in them. practicum's own NFS server will be a second
    provider.
    """

    provider: Literal["external"] = "external"
    home: AbsPath = "/home"
    shared: AbsPath = "/nfs"

    @property
    def envs(self) -> str:
        """Folder of kernel environments."""
        return f"{self.shared}/envs"

    @property
    def apps(self) -> str:
        """Folder of applications and site modulefiles."""
        return f"{self.shared}/apps"


class GroupEntry(Model):
    """[[groups]]: `role` says what its members are for practicum."""

    name: Name
    gid: Uid
    role: Literal["student", "instructor", "admin", "other"] = "other"


class UserEntry(Model):
    """[[users]]: the first group is the primary one. Passwords live in the secrets file."""

    name: Name
    uid: Uid
    groups: Annotated[tuple[Name, ...], Field(min_length=1)]
    full_name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f:,]*$")] = ""
    shell: AbsPath = "/bin/bash"


class Slurm(Model):
    """[slurm]"""

    account: Name = "class"  # the association everyone is in until courses come
    controller_port: Port = 6817
    node_port: Port = 6818
    database_port: Port = 6819
    mpi_default: Literal["pmix", "pmi2", "none"] = "pmix"


class Partition(Model):
    """[[partitions]]. `oversubscribe` N > 1 lets N jobs share a core (notebooks)."""

    name: Name
    nodes: str  # a host list, or "ALL" for every compute node
    default: bool = False
    max_time: Duration = "1-00:00:00"
    default_time: Duration = "01:00:00"
    oversubscribe: Annotated[int, Field(ge=1, le=1024)] = 1
    max_cpus_per_node: Annotated[int, Field(ge=1)] | None = None
    default_memory_per_cpu_mb: Annotated[int, Field(ge=16)] | None = None


class Profile(Model):
    """[[profiles]]: one choice on the hub's start page."""

    name: Name
    title: Text
    description: Text = ""
    partition: Name
    cpus: Annotated[int, Field(ge=1)] = 1
    memory_mb: Annotated[int, Field(ge=64)] = 512
    time: Duration = "04:00:00"
    groups: tuple[Name, ...] = ()  # empty: everyone


class Hub(Model):
    """[hub]"""

    port: Port = 8000
    api_port: Port = 8081  # sessions reach the hub here
    proxy_api_port: Port = 8001
    session_ports: tuple[Port, Port] = (20000, 29999)
    start_timeout: Annotated[int, Field(ge=10)] = 300  # seconds


class Kernel(Model):
    """[[kernels]]: a shared Python kernel, built once, seen on every node."""

    name: Name
    title: Text
    packages: Annotated[tuple[Requirement, ...], Field(min_length=1)]
    modules: tuple[ModuleName, ...] = ()


class Cluster(Model):
    """The whole of cluster.toml."""

    cluster: General
    network: Network
    ssh: SSH = SSH()
    storage: Storage = Storage()
    nodes: Annotated[tuple[NodeEntry, ...], Field(min_length=1)]
    groups: tuple[GroupEntry, ...] = ()
    users: tuple[UserEntry, ...] = ()
    slurm: Slurm = Slurm()
    partitions: tuple[Partition, ...] = ()
    profiles: tuple[Profile, ...] = ()
    hub: Hub = Hub()
    kernels: tuple[Kernel, ...] = ()

    @property
    def machines(self) -> tuple[Node, ...]:
        """Every machine, host lists expanded, addresses counted up, in the file's order."""
        return tuple(self._machines())

    def _machines(self) -> Iterator[Node]:
        for entry in self.nodes:
            first = ipaddress.ip_address(entry.address)
            for index, name in enumerate(expand(entry.name)):
                yield Node(
                    name=name,
                    address=str(first + index),
                    roles=frozenset(entry.roles),
                    cpus=entry.cpus,
                    memory_mb=entry.memory_mb,
                )

    def node(self, name: str) -> Node:
        """The machine of that name; KeyError if there is none."""
        for node in self.machines:
            if node.name == name:
                return node
        raise KeyError(name)

    def with_role(self, role: NodeRole) -> tuple[Node, ...]:
        return tuple(node for node in self.machines if node.has(role))

    def first(self, role: NodeRole) -> Node:
        """The (first) machine with that role; `load` has made sure that there is one."""
        return self.with_role(role)[0]

    def partition_nodes(self, partition: Partition) -> tuple[str, ...]:
        """Names of a partition's nodes."""
        if partition.nodes == "ALL":
            return tuple(node.name for node in self.with_role(NodeRole.COMPUTE))
        return tuple(expand(partition.nodes))

    def groups_with(self, role: str) -> tuple[str, ...]:
        return tuple(group.name for group in self.groups if group.role == role)


def seconds(duration: str) -> int:
    """A time of cluster.toml, [D-]HH:MM[:SS], in seconds.

    Slurm itself reads two numbers as MM:SS, so never hand it such a text: see slurm_time.
    """
    if not re.match(DURATION, duration):
        raise ValueError(f"{duration!r} is not a time like 04:00:00 or 1-00:00:00")
    days, _, clock = duration.rpartition("-")
    parts = [int(part) for part in clock.split(":")] + [0]
    return (int(days or 0) * 24 + parts[0]) * 3600 + parts[1] * 60 + parts[2]


def slurm_time(duration: str) -> str:
    """The same length of time as Slurm reads it, D-HH:MM:SS (slurm.conf(5), sbatch(1))."""
    minutes, secs = divmod(seconds(duration), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02d}:{minutes:02d}:{secs:02d}"
