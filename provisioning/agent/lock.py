"""One apply at a time on one system. Its path is the system's, so it holds for every admin."""

from __future__ import annotations

import fcntl
import json
import os
import time

from provisioning.agent.host import AgentError, Host
from provisioning.agent.record import FOLDER

LIVE = "/run/practicum.lock"
IMAGE = f"{FOLDER}/lock"


class Lock:
    """Held until :meth:`release` or the end of this process, however it ends."""

    def __init__(self, host: Host, origin: str) -> None:
        if host.root:
            host.makedirs(FOLDER, 0o700)
        path = host.at(IMAGE if host.root else LIVE)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._descriptor, 4096, 0)
            os.close(self._descriptor)
            raise AgentError(_held(holder)) from None
        since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
        note = json.dumps({"pid": os.getpid(), "since": since, "from": origin}).encode()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, note, 0)

    def release(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.close(self._descriptor)


def _held(holder: bytes) -> str:
    try:
        note = json.loads(holder)
        who = f"process {note['pid']}, since {note['since']}, started from {note['from']}"
    except (ValueError, KeyError, TypeError):
        who = "it has not said who it is"
    return f"another apply is at work on this node ({who}): wait for it, then apply again"
