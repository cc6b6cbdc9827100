#!/usr/bin/env python3
"""The file server's disk: format an empty one, or teach a file system to count quotas.
Standard library only.

Usage: storage_disk.py formatted UUID       exit 0: there is a file system with that UUID
       storage_disk.py format UUID --serial=NAME|--partuuid=NAME --confirmed=NAME
       storage_disk.py counted UUID         exit 0: ext4 with its quota feature
       storage_disk.py count UUID           give it that feature; it must not be mounted

`format` looks at the disk itself once more: whatever has a signature, a partition, or a user is
refused, and so is a run in which nobody typed the disk's name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

LOOK = 30  # seconds
WORK = 4 * 3600
COLUMNS = "NAME,PKNAME,PATH,TYPE,SERIAL,PARTUUID,MOUNTPOINTS"
NOTHING_FOUND = 2  # blkid(8)


class RefusalError(Exception):
    """A sentence for the admin."""


def run(*argv: str, limit: int = LOOK) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=limit, check=False
    )


def need(*argv: str, limit: int = LOOK) -> str:
    done = run(*argv, limit=limit)
    if done.returncode:
        said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        raise RefusalError(f"{' '.join(argv[:3])} failed: {' '.join(said[-2:]) or done.returncode}")
    return done.stdout


def device(uuid: str) -> str:
    """The device with that file system, "" if there is none. blkid's cache is not asked."""
    done = run("blkid", "-c", "/dev/null", "-U", uuid)
    return done.stdout.strip() if done.returncode == 0 else ""


def find(key: str, name: str) -> dict[str, object]:
    rows = json.loads(need("lsblk", "-J", "-l", "-o", COLUMNS))["blockdevices"]
    kind = "disk" if key == "serial" else "part"
    found = [
        row
        for row in rows
        if row["type"] == kind and (row[key] or "").strip().lower() == name.lower()
    ]
    if len(found) != 1:
        raise RefusalError(f"{len(found)} disks have {key} {name}: nothing was formatted")
    parts = [row["name"] for row in rows if row["pkname"] == found[0]["name"]]
    if parts:
        raise RefusalError(f"disk {name} has {', '.join(parts)} on it: it was not formatted")
    if any(found[0]["mountpoints"] or ()):
        raise RefusalError(f"disk {name} is mounted: it was not formatted")
    return dict(found[0])


def content(exported: str) -> list[str]:
    """What blkid found there, without what the table of partitions says of a partition."""
    lines = [line.strip() for line in exported.splitlines() if "=" in line]
    return [line for line in lines if not line.startswith(("DEVNAME=", "PART_ENTRY_"))]


def make_empty(path: str, name: str) -> None:
    """Refusal unless nothing is on it and nobody uses it."""
    signatures = need("wipefs", "--no-act", "--parsable", path)
    rows = [row for row in signatures.splitlines() if row and not row.startswith("#")]
    if rows:
        raise RefusalError(f"disk {name} has {rows[0].split(',')[-1]} on it: it was not formatted")
    probe = run("blkid", "-p", "-o", "export", path)
    found = content(probe.stdout)
    if found or probe.returncode not in (0, NOTHING_FOUND):
        said = ", ".join(found) or probe.stderr.strip()
        raise RefusalError(f"disk {name} is not empty ({said}): it was not formatted")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_EXCL))  # fails while anything holds it
    except OSError as error:
        raise RefusalError(f"disk {name} cannot be written: {error.strerror}") from error


def format_disk(uuid: str, key: str, name: str, confirmed: str) -> None:
    if confirmed != name:
        raise RefusalError(
            f"disk {name} is formatted only when its name is typed again: "
            f"practicum apply --format {name}"
        )
    path = str(find(key, name)["path"])
    make_empty(path, name)
    need(
        "mkfs.ext4", "-q", "-U", uuid, "-L", "practicum", "-m", "1",
        "-O", "quota", "-E", "quotatype=usrquota:grpquota", path, limit=WORK,
    )  # fmt: skip
    run("udevadm", "settle", "--timeout=20")
    if not device(uuid):
        raise RefusalError(
            f"disk {name} was formatted, but no file system is seen there: look at dmesg"
        )


def features(path: str) -> list[str]:
    for line in need("dumpe2fs", "-h", path).splitlines():
        if line.startswith("Filesystem features:"):
            return line.split(":", 1)[1].split()
    return []


def counted(uuid: str) -> bool:
    path = device(uuid)
    return bool(path) and "quota" in features(path)


def count(uuid: str) -> None:
    path = device(uuid)
    if not path:
        raise RefusalError(f"there is no file system with UUID {uuid}")
    places = need("lsblk", "-n", "-r", "-o", "MOUNTPOINTS", path).split()
    if places:
        raise RefusalError(
            f"the file system on {path} cannot count quotas yet, and that can only change while "
            "it is not mounted: when nobody works, run systemctl stop nfs-server, umount "
            f"{' '.join(sorted(set(places), reverse=True))}, and apply again"
        )
    checked = run("e2fsck", "-f", "-p", path, limit=WORK)
    if checked.returncode > 1:  # 1: errors were corrected
        raise RefusalError(f"{path} has errors that need somebody: run e2fsck -f {path}")
    need("tune2fs", "-O", "quota", "-Q", "usrquota,grpquota", path, limit=WORK)


def work(verb: str, uuid: str, options: dict[str, str]) -> int:
    if verb == "formatted":
        return 0 if device(uuid) else 1
    if verb == "counted":
        return 0 if counted(uuid) else 1
    if verb == "count":
        count(uuid)
        return 0
    confirmed = options.pop("confirmed", "")
    ((key, name),) = options.items()
    format_disk(uuid, key, name, confirmed)
    return 0


def main(argv: list[str]) -> int:
    verb, uuid, *rest = argv
    try:
        return work(verb, uuid, dict(word[2:].split("=", 1) for word in rest))
    except (RefusalError, subprocess.TimeoutExpired, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
