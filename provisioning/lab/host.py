"""Settings of this machine's kernel that labs need, changed for as long as there is a lab."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from provisioning.lab.system import locked, processes_with, write

# Least values. Every systemd takes some ten inotify instances, and containers share root's 128:
# beyond that, units of a booting node fail one by one (inotify(7)).
LEAST = {
    "net/ipv4/ip_forward": 1,
    "fs/inotify/max_user_instances": 8192,
    "fs/inotify/max_user_watches": 524288,
}
SYSCTL = Path("/proc/sys")
# What they were, so that the last lab to go puts them back; gone after a restart, as they are.
BEFORE = Path("/run/practicum-sysctl.json")
# How command lines of those who need it begin: systemd-nspawn's option, QEMU's name.
RUNNING = ("--machine=practicum.", "guest=practicum-vm.")
_BUSY = "another lab is being set up: try again"


def _known() -> dict[str, str]:
    """What we noted; a file cut short says nothing, and then nothing is put back."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        known = json.loads(BEFORE.read_text())
        if isinstance(known, dict):
            return known
    return {}


def ensure() -> None:
    """Raise what is lower, noting first what it was."""
    with locked("host", wait=30, busy=_BUSY):
        now = {name: (SYSCTL / name).read_text().strip() for name in LEAST}
        low = {name: value for name, value in now.items() if int(value) < LEAST[name]}
        if low:
            write(BEFORE, json.dumps({**low, **_known()}))
        for name in low:
            (SYSCTL / name).write_text(str(LEAST[name]))


def restore() -> None:
    """Put back what we raised, unless someone else has changed it since. Not while a node still
    runs: of a lab kept elsewhere (PRACTICUM_LABS), a bare machine (.ci/bare), a virtual machine
    of the tests."""
    if any(processes_with(beginning) for beginning in RUNNING):
        return
    with locked("host", wait=30, busy=_BUSY):
        for name, value in _known().items():
            path = SYSCTL / name
            if name in LEAST and path.read_text().strip() == str(LEAST[name]):
                path.write_text(value)
        BEFORE.unlink(missing_ok=True)
