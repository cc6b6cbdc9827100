"""Homes and shared software: the same folder on every node, mounted, and writable."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import Cluster, NodeRole
from provisioning.health.model import Check, Finding, Folder, Level, Look, Picture

NEARLY = 0.95


def folders(cluster: Cluster) -> tuple[str, ...]:
    return (cluster.storage.home, cluster.storage.shared)


def shares(picture: Picture) -> Iterator[Finding]:
    first = picture.cluster.first(NodeRole.LOGIN).name
    login = picture.looks.get(first)
    bad: set[str] = set()
    for path in folders(picture.cluster):
        if login is not None and (error := login.tokens.get(path)):
            text = f"{first} cannot write to {path} ({error}): is it mounted, and is there room?"
            yield Finding(first, "shares", Level.BAD, text)
            bad.add(path)
            continue
        for name, look in picture.looks.items():
            why = _wrong(picture, path, name, look)
            if why:
                bad.add(path)
                yield Finding(name, "shares", Level.BAD, why)
    if login is not None and not bad:
        paths = " and ".join(folders(picture.cluster))
        yield Finding("", "shares", Level.OK, f"{paths}: the same on every node, and writable")


def _wrong(picture: Picture, path: str, name: str, look: Look) -> str:
    folder = look.folders.get(path)
    if folder is None:
        return ""
    if folder.error:
        return f"{path} on {name}: {folder.error}; is the file server up?"
    if not folder.there:
        return f"there is no {path} on {name}: mount it there"
    if folder.shared is False:
        return _elsewhere(picture, path, name, folder)
    if folder.readonly:
        return f"{path} on {name} is mounted read-only"
    if folder.total and folder.free < folder.total * (1 - NEARLY):
        first = picture.cluster.first(NodeRole.LOGIN).name
        left = f"{folder.free / 1e6:.0f} MB left"
        return f"{path} is almost full ({left}): nobody can save" if name == first else ""
    return ""


def _elsewhere(picture: Picture, path: str, name: str, folder: Folder) -> str:
    """The token of the login node is not in it."""
    first = picture.cluster.first(NodeRole.LOGIN).name
    own = picture.looks[first].folders.get(path, Folder())
    if folder.mount is None and own.mount is not None:
        return f"{path} is not mounted on {name}: mount it, or restart remote-fs.target there"
    kind = f" ({folder.mount[1]} from {folder.mount[0]})" if folder.mount else ""
    return f"{path} on {name} is not the one of {first}{kind}: mount the same on both"


CHECKS = (Check("shares", shares),)
