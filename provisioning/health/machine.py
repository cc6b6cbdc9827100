"""Each machine by itself: it answers, its services run, it has room, its clock is right."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.hostlist import fold
from cluster.model import Cluster, Node, NodeRole
from provisioning.health.model import Ask, Check, Finding, Level, Look, Picture, Unit

FULL, NEARLY = 0.95, 0.88  # of a disk
LOW_MEMORY = 0.04  # of all memory
# munge(7): a credential is good for 300 s, on either side, unless it says otherwise.
MUNGE_SECONDS = 300
CLOCK_SECONDS = 5  # more than a network and a busy board explain


def reach(picture: Picture) -> Iterator[Finding]:
    for name, error in picture.errors.items():
        yield Finding(name, "reach", Level.BAD, error)


def services(picture: Picture) -> Iterator[Finding]:
    """What the roles declare as running."""
    for name, look in picture.looks.items():
        for service in look.services:
            unit = look.units.get(service, Unit())
            short = service.removesuffix(".service")
            if unit.load == "not-found":
                text = f"{short} is not installed on {name}: run practicum apply"
            elif unit.active == "failed":
                text = (
                    f"{short} has failed on {name}: see journalctl -u {short} there, then "
                    "practicum apply"
                )
            elif not unit.running:
                text = f"{short} does not run on {name} ({unit.active}): practicum apply starts it"
            else:
                continue
            yield Finding(name, "services", Level.BAD, text)


def disks(picture: Picture) -> Iterator[Finding]:
    for name, look in picture.looks.items():
        for disk in look.disks:
            if disk.used < NEARLY:
                continue
            level = Level.BAD if disk.used >= FULL else Level.WARN
            what = "full" if disk.used > 0.995 else "almost full"
            by_bytes = disk.total and 1 - disk.free / disk.total >= NEARLY
            left = f"{disk.free / 1e6:.0f} MB left" if by_bytes else "no more room for new files"
            yield Finding(name, "disks", level, f"{disk.path} on {name} is {what} ({left})")


def memory(picture: Picture) -> Iterator[Finding]:
    for name, look in picture.looks.items():
        if look.memory_mb and look.memory_free_mb < look.memory_mb * LOW_MEMORY:
            text = f"{name} is out of memory: {look.memory_free_mb} of {look.memory_mb} MB are free"
            yield Finding(name, "memory", Level.WARN, text)


def reference(picture: Picture) -> tuple[str, Look] | None:
    """Whose clock the others are compared with: the first login node's, or any."""
    first = picture.cluster.first(NodeRole.LOGIN).name
    name = first if first in picture.looks else next(iter(picture.looks), None)
    return (name, picture.looks[name]) if name else None


def clock_offset(picture: Picture, name: str) -> float:
    """Seconds that a node's clock is ahead of the login node's."""
    against = reference(picture)
    return picture.looks[name].clock - against[1].clock if against else 0.0


def clocks(picture: Picture) -> Iterator[Finding]:
    against = reference(picture)
    if against is None:
        return
    for name in picture.looks:
        offset = clock_offset(picture, name)
        if abs(offset) < CLOCK_SECONDS:
            continue
        which = "ahead of" if offset > 0 else "behind"
        text = f"the clock of {name} is {_span(abs(offset))} {which} {against[0]}'s"
        if abs(offset) >= MUNGE_SECONDS:
            text += f", beyond munge's {MUNGE_SECONDS} s: Slurm does not trust it"
        text += ": chronyc sources on it tells which time server it hears"
        yield Finding(name, "clock", Level.BAD, text)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def systems(picture: Picture) -> Iterator[Finding]:
    """Slurm's daemons must be of one release, or nearly: told, since upgrades go node by node."""
    names: dict[str, list[str]] = {}
    for name, look in picture.looks.items():
        names.setdefault(f"{look.facts.os_id} {look.facts.os_codename}".strip(), []).append(name)
    if len(names) > 1:
        text = "; ".join(f"{system}: {fold(nodes)}" for system, nodes in names.items())
        yield Finding("", "systems", Level.WARN, f"the nodes do not have one system ({text})")


def disk_folders(cluster: Cluster, node: Node) -> Ask:
    storage = cluster.storage
    server = node.has(NodeRole.STORAGE) and storage.provider == "nfs"
    places = [storage.folder] if server else []
    if storage.scratch and node.has(NodeRole.COMPUTE):
        places.append(storage.scratch)
    return Ask(disks=tuple(places))


CHECKS = (
    Check("reach", reach),
    Check("services", services),
    Check("disks", disks, disk_folders),
    Check("memory", memory),
    Check("clock", clocks),
    Check("systems", systems),
)
