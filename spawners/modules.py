"""The modules that a session may start with: those of the first level of the site's hierarchy.

What a compiler's or an MPI's module adds to the path is loaded in the session itself. The folder
is on shared storage, so it is read beside everything else that the hub does, and a file server
that is away costs no page more than ``PATIENCE``.
"""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

from cluster.model import Cluster
from lmod.catalogue import modulefiles

FRESH = 60.0  # seconds
PATIENCE = 2.0  # seconds that a page waits for the folder
MOST = 500
# As Lmod names them, NAME/VERSION, and nothing that means something to a shell or to HTML
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def listed(root: Path) -> tuple[str, ...]:
    """``name/version`` of every NAME/VERSION.lua below ``root``, sorted; () without the folder."""
    found = []
    for name in _names(root):
        for version in _names(root / name):
            stem = version.removesuffix(".lua")
            if stem != version and PLAIN.fullmatch(stem):
                found.append(f"{name}/{stem}")
    return tuple(sorted(found)[:MOST])


def _names(folder: Path) -> list[str]:
    try:
        names = [path.name for path in folder.iterdir()]
    except OSError:  # not there, or a file
        return []
    return [name for name in names if PLAIN.fullmatch(name)]


def plain(names: Any) -> tuple[str, ...]:
    """Of what was kept as a choice of modules, what can be names of some at all."""
    if not isinstance(names, list | tuple):
        return ()
    return tuple(
        name
        for name in names
        if isinstance(name, str)
        and len(parts := name.split("/")) == 2
        and all(PLAIN.fullmatch(part) for part in parts)
    )


class Shelf:
    """The list, read again at most every ``FRESH`` seconds, by one reader."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._made = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def names(self, root: Path) -> tuple[str, ...]:
        if time.monotonic() - self._made > FRESH:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._read(root))
            await asyncio.wait([self._task], timeout=PATIENCE)
        return self._names

    async def _read(self, root: Path) -> None:
        self._names = await asyncio.to_thread(listed, root)
        self._made = time.monotonic()


_shelves: dict[tuple[asyncio.AbstractEventLoop, Path], Shelf] = {}


async def shared(cluster: Cluster) -> tuple[str, ...]:
    """The running loop's list for that cluster."""
    root = Path(modulefiles(cluster)) / "Core"
    key = (asyncio.get_running_loop(), root)
    if key not in _shelves:
        _shelves.clear()
        _shelves[key] = Shelf()
    return await _shelves[key].names(root)
