"""What a node is: read by the agent, used by roles. A fact that is not there yet is None and
reads *known after apply* in a plan."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Facts:
    """Facts of one node. Sources: /etc/os-release, /proc, lscpu, dpkg, systemd."""

    hostname: str = ""
    os_id: str = ""  # debian, ubuntu, raspbian
    os_codename: str = ""  # bookworm, trixie, noble
    arch: str = ""  # uname -m
    bits: int = 64  # of the userland, not of the kernel
    python: str = ""  # "3.11"
    cpus: int = 0
    sockets: int = 1
    cores_per_socket: int = 1
    threads_per_core: int = 1
    memory_mb: int = 0
    container: bool = False
    cgroup: str = ""  # "v2", "v1" or "hybrid"
    # what cgroup v2 can limit here: "cpuset cpu io memory pids"; None: not told
    cgroup_controllers: str | None = None
    boot_line: str = ""  # the file of a board's boot command line, "" where there is none
    # the release that last wrote this node's accounting database, "22.05.8"; "" for none
    slurm_database: str = ""
    # IPv4 addresses with prefix lengths by interface, "10.0.0.11/24"; lo is left out
    interfaces: Mapping[str, Sequence[str]] = field(default_factory=dict)
    # who configures each interface, as agent.surroundings.manager says
    managers: Mapping[str, str] = field(default_factory=dict)
    gateway: str = ""
    gateway_interface: str = ""
    # who writes /etc/resolv.conf: resolved, NetworkManager, resolvconf; "file" for nobody
    resolver: str = ""
    host_keys: Sequence[str] = ()  # public ones, "type base64"
    clock: bool = True  # one that runs while the machine is off; Pis have none
    ssh_from: str = ""  # the address that this session of practicum's comes from
    ssh_port: int = 0  # and sshd's own port
    # disks and partitions as the agent's disks.py reads them; None: not told (a container)
    disks: Sequence[Mapping[str, Any]] | None = None
    mounted: Sequence[str] = ()  # folders where something is mounted
    homes: Mapping[str, str] = field(default_factory=dict)  # people's, that are folders here
    # of nfs, nfsd and quota those that the kernel has; None: not told
    kernel_can: Sequence[str] | None = None
    # versions of installed Debian packages that roles ask about; absent = not installed
    packages: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Facts:
        known = {item.name for item in fields(cls)}
        return cls(**{key: value for key, value in wire.items() if key in known})


def release(version: str) -> str:
    """22.05 of Debian's 22.05.8-4+deb12u3, 10.0 of 1:10.0p1-7; "" when there is none."""
    match = re.match(r"(?:\d+:)?(\d+\.\d+)", version)
    return match[1] if match else ""


# The packages whose versions are facts.
ASKED_PACKAGES = (
    "lmod",
    "mariadb-server",
    "munge",
    "openmpi-bin",
    "openssh-server",
    "slurmctld",
    "slurmd",
    "slurmdbd",
    "sudo",
)
