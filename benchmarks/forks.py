"""How many processes a process starts, itself and by its children: the kernel tells each fork
(proc connector, netlink; linux/cn_proc.h), so that those that live for a millisecond count too.

Root in the machine's own namespaces is needed. Threads are not counted.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

CONNECTOR = 11  # NETLINK_CONNECTOR
CN_IDX_PROC = CN_VAL_PROC = 1
LISTEN, IGNORE = 1, 2
FORK = 1
HEADER, MESSAGE = 16, 20  # bytes of nlmsghdr and cn_msg
EVENT = struct.Struct("=IIQ")  # what, cpu, time
FORKED = struct.Struct("=iiii")  # parent's pid and tgid, child's pid and tgid
BUFFER = 8 << 20  # a rush makes thousands of events a second


@dataclass
class Counted:
    """``forks``: processes that descend from the roots. ``lost``: the kernel dropped events."""

    roots: set[int]
    forks: int = 0
    lost: int = 0
    family: set[int] = field(default_factory=set)

    def take(self, data: bytes) -> None:
        """One netlink message."""
        offset = HEADER + MESSAGE
        if len(data) < offset + EVENT.size + FORKED.size:
            return
        what, _cpu, _time = EVENT.unpack_from(data, offset)
        if what != FORK:
            return
        _, parent, child, group = FORKED.unpack_from(data, offset + EVENT.size)
        if child == group and (parent in self.roots or parent in self.family):
            self.family.add(child)
            self.forks += 1


def _subscribe(sock: socket.socket, what: int) -> None:
    body = struct.pack("=IIIIHHI", CN_IDX_PROC, CN_VAL_PROC, 0, 0, 4, 0, what)
    sock.send(struct.pack("=IHHII", HEADER + len(body), 3, 0, 0, os.getpid()) + body)


@contextmanager
def counting(*roots: int) -> Iterator[Counted]:
    """Counts while the block runs. SystemExit where the kernel does not tell."""
    counted = Counted(set(roots))
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, CONNECTOR)
        sock.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
        sock.bind((0, CN_IDX_PROC))
        _subscribe(sock, LISTEN)
    except OSError as error:
        raise SystemExit(f"this kernel does not tell of forks: {error}") from error
    sock.settimeout(0.2)
    over = threading.Event()

    def listen() -> None:
        while True:
            try:
                counted.take(sock.recv(4096))
            except TimeoutError:
                if over.is_set():
                    return
            except OSError:  # ENOBUFS
                counted.lost += 1

    reader = threading.Thread(target=listen, daemon=True)
    reader.start()
    try:
        yield counted
    finally:
        over.set()
        reader.join(5)
        _subscribe(sock, IGNORE)
        sock.close()


def on_this_machine(pid: int, group: str) -> int:
    """The number here of the process that is ``pid`` in the container whose control group's path
    has ``group`` in it. SystemExit when there is none."""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            status = (folder / "status").read_text()
            here = (folder / "cgroup").read_text()
        except OSError:  # it has just ended
            continue
        numbers = status.partition("NSpid:")[2].split("\n", 1)[0].split()
        if len(numbers) > 1 and numbers[-1] == str(pid) and group in here:
            return int(folder.name)
    raise SystemExit(f"process {pid} of {group} is not found on this machine")
