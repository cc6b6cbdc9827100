"""Facts about storage: disks, what is mounted, whose homes are here, and what the kernel can.
Sources: lsblk(8), /proc/self/mountinfo, /etc/passwd, /proc/filesystems, /lib/modules."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping
from typing import Any

from provisioning.agent.host import AgentError, Host

COLUMNS = "NAME,PKNAME,PATH,TYPE,SERIAL,PARTUUID,UUID,FSTYPE,LABEL,PTTYPE,SIZE,RO,MODEL,MOUNTPOINTS"
LSBLK_SECONDS = 20
# A feature, and where its module lies below /lib/modules/VERSION/kernel/fs.
MODULES = {
    "nfs": "nfs/nfsv4",
    "nfsd": "nfsd/nfsd",
    "quota": "quota/quota_v2",
}
NOT_DISKS = ("loop", "rom", "lvm-snapshot")
REMOTE = ("nfs", "autofs", "cifs", "fuse", "ceph", "lustre")
VIRTUAL = ("/proc", "/sys", "/dev", "/run")


def gather(host: Host, container: bool) -> dict[str, Any]:
    """Part of ``provisioning.facts.Facts``; an image has none of its own, a container no disks."""
    if host.root:
        return {}
    mounts = host.text("/proc/self/mountinfo")
    return {
        "disks": None if container else disks(host),
        "mounted": mounted(mounts),
        "homes": homes(host.text("/etc/passwd"), mounts),
        "kernel_can": kernel_can(),
    }


def disks(host: Host) -> list[dict[str, Any]] | None:
    """Disks and what is on them, each with its parent's name; None when lsblk cannot tell."""
    try:
        outcome = host.run(["lsblk", "-J", "-b", "-l", "-o", COLUMNS], timeout=LSBLK_SECONDS)
        return read_lsblk(outcome.output) if outcome.code == 0 else None
    except (AgentError, ValueError):
        return None


def read_lsblk(text: str) -> list[dict[str, Any]]:
    """ValueError for what is not lsblk's JSON."""
    found = []
    for row in json.loads(text)["blockdevices"]:
        if row["type"] in NOT_DISKS or str(row["name"]).startswith("zram"):
            continue
        found.append(
            {
                "name": row["name"],
                "parent": row["pkname"] or "",
                "path": row["path"],
                "kind": row["type"],
                "serial": (row["serial"] or "").strip(),
                "partuuid": row["partuuid"] or "",
                "uuid": row["uuid"] or "",
                "fstype": row["fstype"] or "",
                "label": row["label"] or "",
                "table": row["pttype"] or "",
                "size": int(row["size"] or 0),
                "readonly": row["ro"] in (True, 1, "1"),
                "model": (row["model"] or "").strip(),
                "mounts": [place for place in row["mountpoints"] or () if place],
            }
        )
    return found


def mounted(mountinfo: str) -> list[str]:
    """Where something is mounted, the kernel's own file systems left out."""
    places = {row.split()[4] for row in mountinfo.splitlines() if row}
    return sorted(
        place for place in places if not any(f"{place}/".startswith(f"{v}/") for v in VIRTUAL)
    )


def homes(passwd: str, mountinfo: str) -> dict[str, str]:
    """People's homes that are directories on this machine now, by account.

    Only what is local is asked: a file server that is away would be waited for.
    """
    rows = (line.partition(" - ") for line in mountinfo.splitlines())
    kinds = {row.split()[4]: rest.split()[0] for row, _, rest in rows if rest}
    found = {}
    for line in passwd.splitlines():
        fields = line.split(":")
        if len(fields) < 7 or not fields[2].isdigit() or not 1000 <= int(fields[2]) < 60000:
            continue
        if not _kind(fields[5], kinds).startswith(REMOTE) and os.path.isdir(fields[5]):
            found[fields[0]] = fields[5]
    return found


def _kind(path: str, kinds: Mapping[str, str]) -> str:
    """The type of the file system that a path lies on."""
    while path not in kinds and path not in ("", "/"):
        path = os.path.dirname(path)
    return kinds.get(path, "")


def kernel_can() -> list[str]:
    """Those of nfs, nfsd and quota that this kernel has, built in, loaded or as a module."""
    release = f"/lib/modules/{os.uname().release}"
    built_in = _text(f"{release}/modules.builtin")
    loaded = {line.split()[-1] for line in _text("/proc/filesystems").splitlines() if line}
    found = []
    for feature, module in MODULES.items():
        if (
            feature in loaded
            or f"kernel/fs/{module}.ko" in built_in
            or glob.glob(f"{release}/kernel/fs/{module}.ko*")
        ):
            found.append(feature)
    return found


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:  # not on this kernel
        return ""
