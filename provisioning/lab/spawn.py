"""Keeps one container; run as a script by :mod:`provisioning.lab.nodes`, standard library only.

In this process's own mount namespace it mounts the node's overlay, so that the mount ends
with the container and is never seen, nor left, on the host. Then it moves into the node's
own control groups (two containers in one group would manage each other's processes) and
runs systemd-nspawn, again whenever the node reboots itself.

usage: spawn.py MOUNTPOINT OVERLAY_OPTIONS CGROUP... -- COMMAND...
Without a mount point (an empty one) there is no overlay.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

CLONE_NEWNS = 0x00020000
REBOOTED = 133  # systemd-nspawn --keep-unit leaves starting again to its caller
MS_REC_PRIVATE = 0x4000 | (1 << 18)


def main(arguments: list[str]) -> None:
    """Exits as COMMAND did, or with what went wrong before."""
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
    if mountpoint:
        overlay = libc.mount(b"overlay", mountpoint.encode(), b"overlay", 0, options.encode())
        must(overlay, f"the overlay on {mountpoint} ({options})")
    status = REBOOTED
    while status == REBOOTED:
        status = keep(command)
    sys.exit(status)


def keep(command: list[str]) -> int:
    """Run it to its end; SIGTERM goes to it once, as the wish for an orderly shutdown."""
    process = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    return process.wait()


if __name__ == "__main__":
    main(sys.argv[1:])
