"""The cluster as one frozen, typed tree: what cluster.toml says, with every default filled in.

Everything else follows from it. Only values are checked here; reading files and naming
lines is :mod:`cluster.load`'s work, so that a model can also be built in a test.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from cluster.courses import Course
from cluster.hostlist import expand
from cluster.keep import Keep
from cluster.network import SSH, Limits, Network
from cluster.scheduling import Account, Partition, Qos, Slurm
from cluster.software import Module, Software
from cluster.storage import Quota, Storage
from cluster.values import (
    EMAIL,
    FULL_NAME,
    AbsPath,
    Channel,
    Duration,
    Host,
    LockFile,
    Model,
    ModuleName,
    Name,
    Port,
    PublicKey,
    PythonVersion,
    Requirement,
    Text,
    Uid,
)


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
    full_name: Annotated[str, StringConstraints(pattern=FULL_NAME)] = ""
    email: Annotated[str, StringConstraints(pattern=EMAIL)] = ""
    shell: AbsPath = "/bin/bash"
    ssh_keys: tuple[PublicKey, ...] = ()


class Profile(Model):
    """[[profiles]]: one choice on the hub's start page: a job in a partition, or with ``login`` a
    session on the login node itself, for when the cluster is full."""

    name: Name
    title: Text
    description: Text = ""
    partition: Name | Literal[""] = ""
    login: bool = False
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
    servers_per_person: Annotated[int, Field(ge=1, le=20)] = 3  # at a time
    # TLS between hub, proxy and sessions; left out: on unless there is one machine only
    internal_tls: bool | None = None
    # A session without activity is stopped then, unless jobs of its owner wait or run; 0: never
    idle_minutes: Annotated[int, Field(ge=0, le=100_000)] = 120


class Kernel(Model):
    """[[kernels]]: a shared kernel, built once for each kind of processor, seen on every node.

    ``packages`` are Python's (uv solves), conda's, or for ``r`` Debian's (r-cran-...).
    """

    name: Name
    title: Text
    language: Literal["python", "conda", "r"] = "python"
    packages: tuple[Requirement, ...] = ()
    channels: tuple[Channel, ...] = ()  # conda's, the first counts most; conda-forge if none
    python: PythonVersion = ""  # "" is the system's own
    lock: LockFile = ""  # a file beside cluster.toml: exactly those packages, nothing is solved
    lock_text: str = ""  # what is in it, filled in by load
    modules: tuple[ModuleName, ...] = ()
    group: Name | None = None  # who sees it; None is everyone
    keep_versions: Annotated[int, Field(ge=0, le=100)] = 3  # old ones, besides the live one


class Cluster(Model):
    """The whole of cluster.toml."""

    cluster: General
    network: Network
    ssh: SSH = SSH()
    login: Limits = Limits()
    storage: Storage = Storage()
    quotas: tuple[Quota, ...] = ()
    nodes: Annotated[tuple[NodeEntry, ...], Field(min_length=1)]
    groups: tuple[GroupEntry, ...] = ()
    users: tuple[UserEntry, ...] = ()
    slurm: Slurm = Slurm()
    accounts: tuple[Account, ...] = ()
    qos: tuple[Qos, ...] = ()
    partitions: tuple[Partition, ...] = ()
    profiles: tuple[Profile, ...] = ()
    hub: Hub = Hub()
    kernels: tuple[Kernel, ...] = ()
    courses: tuple[Course, ...] = ()
    software: Software = Software()
    modules: tuple[Module, ...] = ()
    keep: tuple[Keep, ...] = ()

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

    @property
    def internal_tls(self) -> bool:
        """Whether hub, proxy and sessions speak TLS with each other."""
        wanted = self.hub.internal_tls
        return len(self.machines) > 1 if wanted is None else wanted

    def kept_paths(self, node: str) -> frozenset[str]:
        """Files that [[keep]] leaves to the admin on that node."""
        return frozenset(
            entry.path for entry in self.keep if entry.nodes == "ALL" or node in expand(entry.nodes)
        )

    def courses_of(self, user: str) -> tuple[Course, ...]:
        """Those in which that person learns or teaches, archived ones too."""
        return tuple(course for course in self.courses if user in course.people)

    def groups_with(self, role: str) -> tuple[str, ...]:
        return tuple(group.name for group in self.groups if group.role == role)
