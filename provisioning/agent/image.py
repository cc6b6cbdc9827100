"""What a disk image needs around it while commands run in it: kernel file systems and a name
server. All of it lives in a mount namespace of this process and is gone when the process is."""

from __future__ import annotations

import ctypes
import os

from provisioning.agent.host import AgentError, Host

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000


def prepare(host: Host) -> None:
    """Enter a mount namespace and mount /proc, /sys, /dev and /run in the image, as far as it
    has those folders. Without root's rights nothing is mounted: files can still be written."""
    if not os.path.isdir(host.root):
        raise AgentError(f"{host.root} is not a folder, so it cannot be an image")
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        return  # a container without the right to: commands see the image as it lies there
    _mount(libc, b"none", b"/", b"", MS_REC | MS_PRIVATE)
    for name, kind in (("proc", "proc"), ("sys", ""), ("dev", "")):
        place = f"{host.root}/{name}"
        if os.path.isdir(place) and not os.path.islink(place):
            source = kind or f"/{name}"
            _mount(
                libc,
                source.encode(),
                place.encode(),
                kind.encode(),
                0 if kind else MS_BIND | MS_REC,
            )
    _name_server(libc, host)


def _name_server(libc: ctypes.CDLL, host: Host) -> None:
    """Let the image's programs resolve names as this machine does, without changing its file."""
    seen = host.look("/etc/resolv.conf", follow=True, read=False)
    if seen.kind == "file" and os.path.exists("/etc/resolv.conf"):
        place = host.at("/etc/resolv.conf", follow=True)
        _mount(libc, b"/etc/resolv.conf", place.encode(), b"", MS_BIND)


def _mount(libc: ctypes.CDLL, source: bytes, target: bytes, kind: bytes, flags: int) -> None:
    if libc.mount(source, target, kind or None, ctypes.c_ulong(flags), None) != 0:
        code = ctypes.get_errno()
        raise AgentError(f"cannot mount {target.decode()}: {os.strerror(code)}")
