#!/usr/bin/env python3
"""Make the quotas of a file system what a file says, or tell what they are. Standard library only.

Usage: quota.py [--check] WANTED.json
       quota.py --report FOLDER

WANTED: {"held": whether there are to be quotas, "folder": where it is mounted, "grace": seconds,
         "users": {uid: [soft kB, hard kB, soft files, hard files]}, "groups": {gid: [...]}}
0 means no limit. Ids from 1000 to 59999 that WANTED does not name get no limit; others are left
alone. With --check nothing is changed: exit 0 means there is nothing to do, 1 that there is.

--report prints {"grace": seconds, "users": {uid: {"soft_kb", "hard_kb", "soft_files",
"hard_files", "used_kb", "files", "kb_until", "files_until"}}, "groups": {...}}; the last two are
when a soft limit's grace ends (seconds since 1970), 0 if it has not begun.

The kernel is asked by quotactl(2), in the layout of <linux/quota.h>: a class of hundreds takes
milliseconds, and no text has to be parsed.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

GET_INFO, SET_INFO, SET_QUOTA, GET_NEXT = 0x800005, 0x800006, 0x800008, 0x800009
# Q_XGETQSTAT, which answers for ext4 too: struct fs_quota_stat of <linux/dqblk_xfs.h>, whose flags
# are behind a version and a byte nobody uses; those of user and group limits that are enforced
GET_STATE, STATE_SIZE, ENFORCED = 0x5805, 256, {"u": 2, "g": 8}
KINDS = {"users": 0, "groups": 1}
# hard and soft kB, bytes used, hard and soft files, files used, two ends of grace, what is valid
# (of a struct if_dqblk), and in a struct if_nextdqblk the id
ENTRY = struct.Struct("=8QII")
INFO = struct.Struct("=QQII")  # grace for blocks and for files, flags, what is valid
LIMITS_VALID, GRACE_VALID = 1 | 4, 1 | 2
NOT_COUNTED = (errno.ESRCH, errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
FIRST, LAST = 1000, 59999
Limits = tuple[int, int, int, int]


class RefusalError(Exception):
    """A sentence for the admin."""


class Quotas:
    """Those of one mounted file system."""

    def __init__(self, folder: str, mountinfo: str) -> None:
        self.folder = folder
        self.device = mount_of(folder, mountinfo)
        self._call = ctypes.CDLL(None, use_errno=True).quotactl

    def call(self, command: int, kind: int, number: int, buffer: Any) -> None:
        code = self._call(
            ctypes.c_int((command << 8) | kind), self.device.encode(), ctypes.c_int(number), buffer
        )
        if code:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), self.device)

    def only_counted(self) -> list[str]:
        """Of u and g those whose limits stop nobody (quotaoff)."""
        buffer = ctypes.create_string_buffer(STATE_SIZE)
        self.call(GET_STATE, 0, 0, buffer)
        flags = int.from_bytes(buffer.raw[2:4], sys.byteorder)
        return [letter for letter, bit in ENFORCED.items() if not flags & bit]

    def counts(self) -> bool:
        """Whether the kernel counts anything there."""
        try:
            self.grace(0)
        except OSError as error:
            if error.errno in NOT_COUNTED:
                return False
            raise
        return True

    def entries(self, kind: int) -> Iterator[tuple[int, dict[str, int]]]:
        """Every id with files or limits."""
        number = 0
        while True:
            buffer = ctypes.create_string_buffer(ENTRY.size)
            try:
                self.call(GET_NEXT, kind, number, buffer)
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return
                raise
            hard, soft, used, hard_files, soft_files, files, kb_until, files_until, _, found = (
                ENTRY.unpack(buffer.raw)
            )
            yield found, {
                "soft_kb": soft, "hard_kb": hard, "soft_files": soft_files,
                "hard_files": hard_files, "used_kb": (used + 1023) // 1024, "files": files,
                "kb_until": kb_until, "files_until": files_until,
            }  # fmt: skip
            number = found + 1

    def grace(self, kind: int) -> tuple[int, int]:
        buffer = ctypes.create_string_buffer(INFO.size)
        self.call(GET_INFO, kind, 0, buffer)
        blocks, files, _flags, _valid = INFO.unpack(buffer.raw)
        return blocks, files

    def set_grace(self, kind: int, seconds: int) -> None:
        buffer = ctypes.create_string_buffer(INFO.pack(seconds, seconds, 0, GRACE_VALID))
        self.call(SET_INFO, kind, 0, buffer)

    def set_limits(self, kind: int, number: int, limits: Limits) -> None:
        soft, hard, soft_files, hard_files = limits
        fields = (hard, soft, 0, hard_files, soft_files, 0, 0, 0, LIMITS_VALID, 0)
        self.call(SET_QUOTA, kind, number, ctypes.create_string_buffer(ENTRY.pack(*fields)))


def mount_of(folder: str, mountinfo: str) -> str:
    """The device that is mounted there (proc(5), mountinfo)."""
    found = None
    for line in mountinfo.splitlines():
        row, _, rest = line.partition(" - ")
        fields, more = row.split(), rest.split()
        if len(more) >= 3 and unescaped(fields[4]) == folder:
            found = unescaped(more[1])
    if found is None:
        raise RefusalError(f"nothing is mounted at {folder}: is the disk there?")
    return found


def unescaped(text: str) -> str:
    return text.encode().decode("unicode_escape") if "\\" in text else text


def changes(
    wanted: dict[str, list[int]], there: dict[int, dict[str, int]]
) -> Iterator[tuple[int, Limits]]:
    """Ids whose limits are not as wanted, with the right ones."""
    right = {int(number): tuple(limits) for number, limits in wanted.items()}
    for number in sorted({*right, *(one for one in there if FIRST <= one <= LAST)}):
        limits = right.get(number, (0, 0, 0, 0))
        now = there.get(number, {})
        if limits != tuple(
            now.get(key, 0) for key in ("soft_kb", "hard_kb", "soft_files", "hard_files")
        ):
            yield number, limits  # type: ignore[misc]


def opened(folder: str) -> Quotas:
    return Quotas(folder, Path("/proc/self/mountinfo").read_text(encoding="utf-8"))


def adjust(wanted: dict[str, Any], check: bool) -> bool:
    """Whether anything was (or with ``check`` would be) changed."""
    quotas = opened(wanted["folder"])
    different = False
    if not wanted.get("held", True) and not quotas.counts():
        return False
    if wanted.get("held", True):
        quotas.grace(0)  # OSError where nothing is counted
        for letter in quotas.only_counted():
            different = True
            if not check:
                switch_on(wanted["folder"], letter)
    for name, kind in KINDS.items():
        there = dict(quotas.entries(kind))
        # first: who is above a soft limit when it is set gets the grace that holds then
        if wanted.get("held", True) and quotas.grace(kind) != (wanted["grace"], wanted["grace"]):
            different = True
            if not check:
                quotas.set_grace(kind, wanted["grace"])
        for number, limits in changes(wanted[name], there):
            different = True
            if not check:
                quotas.set_limits(kind, number, limits)
    return different


def switch_on(folder: str, letter: str) -> None:
    done = subprocess.run(
        ["quotaon", f"-{letter}", folder], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode and "busy" not in done.stderr.lower():
        raise RefusalError(f"quotaon {folder}: {done.stderr.strip() or done.returncode}")


def report(folder: str) -> dict[str, Any]:
    quotas = opened(folder)
    found: dict[str, Any] = {"grace": quotas.grace(0)[0]}
    for name, kind in KINDS.items():
        found[name] = {str(number): entry for number, entry in quotas.entries(kind)}
    return found


def explained(error: OSError) -> str:
    if error.errno in NOT_COUNTED:
        return (
            f"{error.filename} does not count quotas ({error.strerror}): its file system needs "
            "ext4's quota feature, and the kernel its module quota_v2"
        )
    return f"{error.filename}: {error.strerror}"


def main(argv: list[str]) -> int:
    try:
        return work(argv)
    except OSError as error:
        sys.stderr.write(f"{explained(error)}\n")
    except (RefusalError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
    return 1


def work(argv: list[str]) -> int:
    if argv[0] == "--report":
        sys.stdout.write(json.dumps(report(argv[1])) + "\n")
        return 0
    check = argv[0] == "--check"
    different = adjust(json.loads(Path(argv[-1]).read_text(encoding="utf-8")), check)
    return 1 if different and check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
