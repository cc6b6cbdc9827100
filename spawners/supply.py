"""What is free of each profile, for the start page: one sinfo and the watcher's squeue for all.

Notebooks share cores, so a core of a partition with ``oversubscribe`` 8 is 8 places; memory is
not shared. A place is what one session of the profile needs, on one node.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cluster.model import Cluster, Profile
from cluster.sinfo import NodeState
from cluster.slurm import ENVIRONMENT, Job, Query, SlurmError
from cluster.slurm_text import whole
from spawners import amounts
from spawners.commands import ask
from spawners.watcher import Crowd, Kind, Watcher, kind_of

FRESH = 10.0  # seconds: how old what the page shows may be before it is asked anew
STALE = 40.0  # how old it may be at all
# sinfo(1) --Format with widths: fixed columns, which no name in them can shift
COLUMNS = {"NodeHost": 64, "Partition": 64, "StateLong": 32, "CPUsState": 32, "Memory": 16,
           "AllocMem": 16}  # fmt: skip


@dataclass(frozen=True)
class Room:
    """A node in a partition. Memory in MB."""

    node: str
    partition: str
    usable: bool
    cpus: int
    memory_mb: int
    memory_used_mb: int


def rooms_query() -> Query[Room]:
    """Every node in every partition, with what is allocated of it."""
    layout = ",".join(f"{name}:{width}" for name, width in COLUMNS.items())
    argv = ("sinfo", "--noheader", "--Node", f"--Format={layout}")
    return Query(argv, dict(ENVIRONMENT), read_rooms)


def read_rooms(text: str) -> tuple[Room, ...]:
    """sinfo's columns. ValueError when a line is cut or strange."""
    return tuple(_room(line) for line in text.splitlines() if line.strip())


def _room(line: str) -> Room:
    cells, start = [], 0
    for width in COLUMNS.values():
        cells.append(line[start : start + width].strip())
        start += width
    node, partition, state, cpus, memory, used = cells
    split = re.fullmatch(r"\d+/\d+/\d+/(\d+)", cpus)
    if not split or not node or not partition:
        raise ValueError(f"{line.strip()[:80]!r} is not a node of a partition")
    try:
        usable = NodeState(state.rstrip("*~#!%$@^+-").lower()).usable and "*" not in state
    except ValueError:
        raise ValueError(f"{state!r} is not a node state") from None
    return Room(node, partition.rstrip("*"), usable, int(split[1]), whole(memory), whole(used))


@dataclass(frozen=True)
class Supply:
    """What is free of a profile. ``places``: how many sessions could start now."""

    places: int
    nodes: int  # that can be used
    nodes_all: int
    cpus: int  # free, shares counted
    memory_mb: int  # free
    crowd: Crowd = field(default_factory=Crowd)


@dataclass(frozen=True)
class Picture:
    """All partitions at one moment. ``used``: cores by (partition, node)."""

    rooms: Mapping[str, tuple[Room, ...]] = field(default_factory=dict)
    used: Mapping[tuple[str, str], int] = field(default_factory=dict)
    crowds: Mapping[str, Crowd] = field(default_factory=dict)
    shares: Mapping[str, int] = field(default_factory=dict)
    made: float = 0.0  # seconds since 1970
    error: str = ""
    _told: dict[Profile, str] = field(default_factory=dict, compare=False, repr=False)

    def of(self, profile: Profile) -> Supply:
        """What is free of it now."""
        rooms = self.rooms.get(profile.partition, ())
        share = self.shares.get(profile.partition, 1)
        free = [
            (
                max(room.cpus * share - self.used.get((room.partition, room.node), 0), 0),
                max(room.memory_mb - room.memory_used_mb, 0),
            )
            for room in rooms
            if room.usable
        ]
        places = sum(min(cpus // profile.cpus, mb // profile.memory_mb) for cpus, mb in free)
        return Supply(
            places=places,
            nodes=len(free),
            nodes_all=len(rooms),
            cpus=sum(cpus for cpus, _ in free),
            memory_mb=sum(mb for _, mb in free),
            crowd=self.crowds.get(profile.partition, Crowd()),
        )

    def sentences(self, profiles: Sequence[Profile]) -> dict[str, str]:
        """{profile: what is free of it, in words}."""
        for profile in profiles:
            if profile not in self._told:  # a thousand nodes are gone through once a picture
                self._told[profile] = self._sentence(profile)
        return {profile.name: self._told[profile] for profile in profiles}

    def _sentence(self, profile: Profile) -> str:
        if profile.login:
            return "Starts at once, on the login node, within your limits there"
        if self.error:
            return "What is free cannot be told at the moment"
        return sentence(self.of(profile), self.made)


def sentence(supply: Supply, now: float) -> str:
    """What is free and how long the wait is, for a person."""
    if not supply.nodes:
        return "No node of its partition can be used at the moment"
    nodes = f"{supply.nodes} of {supply.nodes_all} nodes"
    free = f"{supply.cpus} cores and {amounts.memory(supply.memory_mb)} on {nodes}"
    if supply.places and not supply.crowd.waiting:
        return f"Starts at once: {free} are free"
    wait = f"{supply.crowd.waiting} waiting" if supply.crowd.waiting else ""
    if supply.places:
        return f"Free: {free}; {wait}"
    end = supply.crowd.first_end
    first = f"the first job ends by {amounts.clock(end, now)}" if end and end > now else ""
    return "; ".join(part for part in ("Full now", first, wait) if part)


def used_cores(jobs: Iterable[Job]) -> dict[tuple[str, str], int]:
    """Cores in use by (partition, node); a job of several nodes has the same on each."""
    used: dict[tuple[str, str], int] = {}
    for job in jobs:
        if job.nodes and kind_of(job.state) in (Kind.RUNNING, Kind.PAUSED):
            for node in job.nodes:
                key = (job.partition, node)
                used[key] = used.get(key, 0) + -(-job.cpus // len(job.nodes))
    return used


class Stock:
    """The picture, made anew at most every ``FRESH`` seconds, whoever asks. Nobody waits for that
    while there is one that is not too old: a page asks again by itself."""

    def __init__(self) -> None:
        self._picture = Picture(error="not asked yet")
        self._made = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def picture(self, cluster: Cluster) -> Picture:
        age = time.monotonic() - self._made
        if age > FRESH:
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._make(cluster))
            if age > STALE:
                await asyncio.shield(self._task)
        return self._picture

    async def _make(self, cluster: Cluster) -> None:
        look = await Watcher.shared().look(FRESH)
        try:
            rows: Sequence[Room] = await ask(rooms_query())
        except SlurmError as error:
            rows, trouble = (), str(error)
        else:
            trouble = look.error
        rooms: dict[str, list[Room]] = {}
        for row in rows:
            rooms.setdefault(row.partition, []).append(row)
        self._picture = Picture(
            rooms={name: tuple(found) for name, found in rooms.items()},
            used=used_cores((look.jobs or {}).values()),
            crowds=look.crowds,
            shares={part.name: part.oversubscribe for part in cluster.partitions},
            made=time.time(),
            error=trouble,
        )
        self._made = time.monotonic()


_stocks: dict[asyncio.AbstractEventLoop, Stock] = {}


async def shared(cluster: Cluster) -> Picture:
    """The running loop's picture."""
    loop = asyncio.get_running_loop()
    if loop not in _stocks:
        _stocks.clear()
        _stocks[loop] = Stock()
    return await _stocks[loop].picture(cluster)
