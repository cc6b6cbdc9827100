"""The file server's disk: which one is meant, what is on it, and what is to be done with it.

All of it follows from facts, so that a plan says what an apply would do. A disk is formatted only
if cluster.toml asks for it, it is empty, and the admin typed its name again: the name comes with
the run (``--format``), never from a file, and without it the command on the node refuses.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cluster.errors import PracticumError
from cluster.storage import Disk, Storage
from provisioning.resources import Command, Directory, Mount, Package, Resource, file
from provisioning.role import Context
from provisioning.roles.own_files import FOLDER, own_file

SCRIPT = f"{FOLDER}/storage_disk.py"
FORMAT = "storage-format"  # the Command's id; the front door asks before it runs
CONFIRMED = "storage.format"  # among a run's secrets: the disk's name as the admin typed it
SPACE = uuid.UUID("9f5a3c1e-5a55-4d55-8e2c-70726163b1c5")
FILE_SYSTEMS = ("ext4", "xfs")
# A disk may take a minute to spin up, and a busy machine longer to notice it; whoever gives up
# serves nothing until somebody looks.
OPTIONS = ("nofail", "x-systemd.device-timeout=300s", "noatime", "nosuid", "nodev")
QUOTA_OPTIONS = ("usrquota", "grpquota")


@dataclass(frozen=True)
class Block:
    """A disk or a partition, as lsblk tells it."""

    name: str
    path: str
    kind: str
    size: int  # bytes
    parent: str = ""
    serial: str = ""
    partuuid: str = ""
    uuid: str = ""
    fstype: str = ""
    label: str = ""
    table: str = ""
    readonly: bool = False
    mounts: tuple[str, ...] = ()

    @classmethod
    def from_fact(cls, fact: Mapping[str, Any]) -> Block:
        known = {name: fact[name] for name in cls.__dataclass_fields__ if name in fact}
        return cls(**{**known, "mounts": tuple(fact.get("mounts", ()))})


def wanted_uuid(disk: Disk) -> str:
    """The file system's UUID if practicum made it: known before it is made, and the same after
    the server was installed anew."""
    return str(uuid.uuid5(SPACE, f"{disk.serial or disk.partuuid}".lower()))


def human(size: int) -> str:
    """1.8 TB, as disks are sold."""
    value, unit = float(size), "bytes"
    for unit in ("bytes", "kB", "MB", "GB", "TB", "PB"):
        if value < 999.5 or unit == "PB":
            break
        value /= 1000
    small = value < 99.5 and unit in ("GB", "TB", "PB")
    return f"{value:.1f} {unit}" if small else f"{value:.0f} {unit}"


def content(block: Block, blocks: Sequence[Block]) -> str:
    """What is on it: empty, ext4 'photos', 2 partitions (sda1 ext4, sda2 swap)."""
    parts = [one for one in blocks if one.parent == block.name]
    if parts:
        listed = ", ".join(f"{one.name} {one.fstype or one.table or 'empty'}" for one in parts)
        return f"{len(parts)} partition{'s' if len(parts) > 1 else ''} ({listed})"
    if block.fstype:
        return block.fstype + (f" '{block.label}'" if block.label else "")
    return f"a partition table ({block.table})" if block.table and block.kind == "disk" else "empty"


def listing(blocks: Sequence[Block]) -> str:
    """Every disk with the name it can be given."""
    rows = []
    for one in blocks:
        name = f"serial {one.serial}" if one.kind == "disk" and one.serial else ""
        if one.kind == "part" and one.partuuid:
            name = f"partuuid {one.partuuid}"
        if one.kind in ("disk", "part"):
            rows.append(f"{one.name} ({name or 'no name'}, {human(one.size)}, "
                        f"{content(one, blocks)})")  # fmt: skip
    return ", ".join(rows) or "none"


def find(disk: Disk, blocks: Sequence[Block], node: str) -> Block:
    """The disk or partition that cluster.toml names; for a whole disk with a single partition
    that partition, unless it is to be formatted. PracticumError lists those there are."""
    if disk.partuuid:
        key, value = "partuuid", disk.partuuid
        found = [one for one in blocks if one.partuuid.lower() == value.lower()]
    else:
        key, value = "serial", disk.serial or ""
        found = [one for one in blocks if one.kind == "disk" and one.serial == value]
    if not found:
        raise PracticumError(
            f"storage.disk: {node} has no disk with {key} {value}; it has {listing(blocks)}"
        )
    if len(found) > 1:
        names = " and ".join(one.name for one in found)
        raise PracticumError(
            f"storage.disk: {names} of {node} both have {key} {value}: name a partition's "
            "partuuid instead"
        )
    parts = [one for one in blocks if one.parent == found[0].name]
    if len(parts) == 1 and parts[0].fstype and not disk.format:
        return parts[0]
    return found[0]


def formats(storage: Storage, disk: Disk, block: Block, blocks: Sequence[Block], node: str) -> bool:
    """Whether it is to be formatted. PracticumError when it can neither be used nor formatted."""
    name = f"disk {disk.serial or disk.partuuid} of {node} ({human(block.size)})"
    own = {storage.folder, storage.home, storage.shared}
    elsewhere = [place for place in block.mounts if place not in own]
    if elsewhere:
        raise PracticumError(
            f"storage.disk: {name} is mounted at {elsewhere[0]}: unmount it, take its line out of "
            "/etc/fstab, and apply again"
        )
    if block.readonly:
        raise PracticumError(f"storage.disk: {name} is read-only: is there a switch on it?")
    if block.uuid == wanted_uuid(disk):
        return False
    there = content(block, blocks)
    if disk.format and there != "empty":
        raise PracticumError(
            f"storage.disk: {name} is not formatted, since it has {there} on it: take format = "
            f"true out to use that, or, if nobody needs it, run wipefs -a {block.path} on {node}"
        )
    if there == "empty" and not disk.format:
        raise PracticumError(
            f"storage.disk: {name} is empty: add format = true to have it formatted"
        )
    if there != "empty" and block.fstype not in FILE_SYSTEMS:
        raise PracticumError(
            f"storage.disk: {name} has {there} on it: name a disk or partition with "
            f"{' or '.join(FILE_SYSTEMS)}, or an empty one"
        )
    if storage.quotas and block.fstype not in ("", "ext4"):
        raise PracticumError(
            f"storage.quotas needs ext4, and {name} has {there}: set quotas = false"
        )
    return disk.format


def disk_mount(context: Context) -> list[Resource]:
    """The disk, ready and mounted at ``storage.folder``.

    ``nofail``: without its disk the server still boots, so that somebody can look; it then
    serves nothing (:mod:`provisioning.roles.nfs`).
    """
    storage = context.cluster.storage
    disk = storage.disk
    if disk is None:
        return []
    name = disk.serial or disk.partuuid or ""
    found: list[Resource] = [
        Package(package="e2fsprogs"),
        Directory(path=FOLDER),
        file(SCRIPT, own_file("storage_disk.py"), mode=0o755),
    ]
    source, fstype = wanted_uuid(disk), "ext4"
    if context.own.disks is not None:
        blocks = [Block.from_fact(fact) for fact in context.own.disks]
        block = find(disk, blocks, context.node.name)
        if formats(storage, disk, block, blocks, context.node.name):
            typed = context.secrets.get(CONFIRMED, "")
            key = "serial" if disk.serial else "partuuid"
            found.append(
                Command(
                    id=FORMAT,
                    check=("python3", "-I", SCRIPT, "formatted", source),
                    run=(
                        "python3",
                        "-I",
                        SCRIPT,
                        "format",
                        source,
                        f"--{key}={name}",
                        f"--confirmed={typed}",
                    ),
                    summary=f"format disk {name}, {human(block.size)}, which is empty (ext4)",
                    timeout=3600,
                )
            )
        elif block.uuid != source:
            source, fstype = block.uuid, block.fstype
            if storage.quotas:
                found.append(_counting(source, name))
    found += _no_second_switch()
    options = (*OPTIONS, *(QUOTA_OPTIONS if fstype == "ext4" else ()))
    found.append(
        Mount(
            source=f"UUID={source}",
            target=storage.folder,
            fstype=fstype,
            options=",".join(options),
        )
    )
    return found


def _no_second_switch() -> list[Resource]:
    """systemd starts quotaon for mounts with quota options; ext4's feature has switched them on by
    then, and quotaon calls that a failure (status 2). The quotas' own check sees real ones."""
    found: list[Resource] = []
    for unit in ("quotaon.service.d", "quotaon@.service.d"):  # the second in later systemds
        folder = f"/etc/systemd/system/{unit}"
        found.append(Directory(path=folder))
        found.append(file(f"{folder}/practicum.conf", "[Service]\nSuccessExitStatus=2\n"))
    return found


def _counting(source: str, name: str) -> Command:
    """A file system that somebody else made may lack ext4's quota feature."""
    return Command(
        id="storage-quota-feature",
        check=("python3", "-I", SCRIPT, "counted", source),
        run=("python3", "-I", SCRIPT, "count", source),
        summary=f"let the file system of disk {name} count what each person has",
        timeout=4 * 3600,  # it is checked first
    )
