"""What the machine is. Sources: /etc/os-release, /proc, /sys, dpkg's table."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

from provisioning.agent.disks import gather as storage
from provisioning.agent.host import Host, python_version
from provisioning.agent.packages import installed_on
from provisioning.agent.surroundings import gather as surroundings

CPU = "/sys/devices/system/cpu"


def gather(host: Host, asked: Sequence[str]) -> dict[str, Any]:
    """The fields of ``provisioning.facts.Facts``."""
    system = os_release(host.text("/etc/os-release"))
    versions = installed_on(host).versions
    cpus = cpu_list(_text(f"{CPU}/online"))
    facts = {
        "hostname": host.text("/etc/hostname").strip() if host.root else os.uname().nodename,
        "os_id": system.get("ID", ""),
        "os_codename": system.get("VERSION_CODENAME", ""),
        "arch": os.uname().machine,
        "bits": struct.calcsize("P") * 8,
        "python": python_version(),
        "memory_mb": memory_mb(_text("/proc/meminfo")),
        "container": container(),
        "cgroup": cgroup(),
        "cgroup_controllers": controllers(),
        "boot_line": boot_line(host),
        "slurm_database": host.text("/var/lib/practicum/slurm-database").strip(),
        "packages": {name: versions[name] for name in asked if name in versions},
    }
    facts.update(surroundings(host))
    facts.update(storage(host, bool(facts["container"])))
    facts.update(
        shape(
            [(_topology(cpu, "physical_package_id"), _topology(cpu, "core_id")) for cpu in cpus]
            or [(0, n) for n in range(os.cpu_count() or 1)]
        )
    )
    return facts


def os_release(text: str) -> dict[str, str]:
    """os-release(5)"""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {key: value.strip().strip("\"'") for key, _, value in pairs}


def memory_mb(meminfo: str) -> int:
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return 0


def cpu_list(text: str) -> list[int]:
    """The kernel's lists, such as 0-3,6."""
    cpus: list[int] = []
    for part in text.strip().split(","):
        low, _, high = part.partition("-")
        if low.isdigit():
            cpus += range(int(low), int(high or low) + 1)
    return cpus


def shape(places: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Sockets, cores and threads from each cpu's (package, core); one socket of plain cores
    when they don't multiply (big.LITTLE boards, offline cpus, kernels that say -1)."""
    cpus = len(places)
    sockets = len({package for package, _ in places})
    cores = len(set(places))
    if cores % sockets or cpus % cores:
        sockets, cores = 1, cpus
    return {
        "cpus": cpus,
        "sockets": sockets,
        "cores_per_socket": cores // sockets,
        "threads_per_core": cpus // cores,
    }


def container() -> bool:
    """systemd's own test for the life inside a container (systemd-detect-virt(1))."""
    if os.path.exists("/run/systemd/container"):
        return True
    return "container=" in _text("/proc/1/environ").replace("\0", "\n")


def cgroup() -> str:
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return "v2"
    return "hybrid" if os.path.isdir("/sys/fs/cgroup/unified") else "v1"


def controllers() -> str | None:
    """What cgroup v2 can limit (cgroups(7)); a board's firmware may switch memory off."""
    try:
        with open("/sys/fs/cgroup/cgroup.controllers", encoding="ascii") as stream:
            return stream.read().strip()
    except OSError:
        return None


def boot_line(host: Host) -> str:
    """Where a Raspberry Pi's firmware reads the kernel's command line: the first since Debian 12,
    the second before."""
    for path in ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt"):
        if host.exists(path):
            return path
    return ""


def _topology(cpu: int, name: str) -> int:
    text = _text(f"{CPU}/cpu{cpu}/topology/{name}").strip()
    return int(text) if text.lstrip("-").isdigit() else 0


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:  # not on this kernel, or not for us
        return ""
