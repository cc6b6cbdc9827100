"""Starts one container; run as a script by :mod:`provisioning.lab.nodes`, standard library only.

In this process's own mount namespace it mounts the node's overlay, so that the mount ends
with the container and is never seen, nor left, on the host. Then it moves into the node's
own control groups (two containers in one group would manage each other's processes) and
becomes systemd-nspawn.

usage: spawn.py MOUNTPOINT OVERLAY_OPTIONS CGROUP... -- COMMAND...
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_REC_PRIVATE = 0x4000 | (1 << 18)


def main(arguments: list[str]) -> None:
    """Never returns: becomes COMMAND, or exits with what went wrong."""
    split = arguments.index("--")
    mountpoint, options, *groups = arguments[:split]
    command = arguments[split + 1 :]
    libc = ctypes.CDLL(None, use_errno=True)
    for group in groups:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))

    def must(status: int, what: str) -> None:
        if status != 0:
            reason = os.strerror(ctypes.get_errno())
            sys.exit(f"practicum: cannot make {what}: {reason}")

    must(libc.unshare(CLONE_NEWNS), "a mount namespace")
    must(libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None), "its mounts private")
    overlay = libc.mount(b"overlay", mountpoint.encode(), b"overlay", 0, options.encode())
    must(overlay, f"the overlay on {mountpoint} ({options})")
    os.execvp(command[0], command)  # noqa: S606 - an argument list


if __name__ == "__main__":
    main(sys.argv[1:])
