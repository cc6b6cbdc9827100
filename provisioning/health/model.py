"""What is asked of a node, what it tells, and what a check makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cluster.model import Cluster, Node
from provisioning.facts import Facts


class Level(StrEnum):
    """WARN is said, but the cluster works; BAD is what somebody has to mend."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One sentence. ``node`` is "" when it is about the cluster as a whole."""

    node: str
    topic: str
    level: Level
    text: str


@dataclass(frozen=True)
class Question:
    """A command that only looks, run as root on the node; its output comes back as it is."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 20


@dataclass(frozen=True)
class Ask:
    """What one check wants to know of one node. Names of commands and pages are the check's own
    ("quota.on"): another's must not have the same."""

    units: tuple[str, ...] = ()  # beside those that the roles declare as running
    commands: Mapping[str, Question] = field(default_factory=dict)
    # Plain HTTP, asked from the node itself: (host, port, path)
    pages: Mapping[str, tuple[str, int, str]] = field(default_factory=dict)
    disks: tuple[str, ...] = ()  # folders whose file system is looked at


@dataclass(frozen=True)
class Answer:
    """What a question's command said. ``code`` -1: not there, or no end in time (see error)."""

    code: int
    out: str = ""
    error: str = ""


@dataclass(frozen=True)
class Unit:
    """A systemd unit: what systemctl show calls LoadState, ActiveState and UnitFileState."""

    load: str = "not-found"
    active: str = "inactive"
    enabled: str = ""

    @property
    def running(self) -> bool:
        return self.active in ("active", "reloading", "refreshing")


@dataclass(frozen=True)
class Disk:
    """A local file system. Sizes in bytes; ``files`` 0 where inodes are not counted."""

    path: str
    total: int
    free: int
    files: int = 0
    files_free: int = 0

    @property
    def used(self) -> float:
        """Of bytes or inodes, whichever is scarcer: 0 to 1."""
        by_bytes = 1 - self.free / self.total if self.total else 0.0
        by_files = 1 - self.files_free / self.files if self.files else 0.0
        return max(by_bytes, by_files)


@dataclass(frozen=True)
class Page:
    """``status`` 0: nothing answered, ``error`` says why."""

    status: int
    error: str = ""


@dataclass(frozen=True)
class Folder:
    """A shared folder as one node sees it. ``shared``: the login node's token is in it; None if
    there was no token to look for. ``mount``: (source, type) of what is mounted exactly there."""

    there: bool = True
    shared: bool | None = None
    readonly: bool = False
    mount: tuple[str, str] | None = None
    error: str = ""
    total: int = 0
    free: int = 0


@dataclass(frozen=True)
class Look:
    """Everything that a node told. Times in seconds."""

    facts: Facts = field(default_factory=Facts)
    clock: float = 0.0  # how far ahead of the admin's machine
    uptime: float = 0.0
    boot: str = ""
    load: float = 0.0
    memory_mb: int = 0
    memory_free_mb: int = 0
    disks: tuple[Disk, ...] = ()
    units: Mapping[str, Unit] = field(default_factory=dict)
    services: tuple[str, ...] = ()  # units that should run here
    answers: Mapping[str, Answer] = field(default_factory=dict)
    pages: Mapping[str, Page] = field(default_factory=dict)
    folders: Mapping[str, Folder] = field(default_factory=dict)
    tokens: Mapping[str, str] = field(default_factory=dict)  # errors of writing them
    credential: Answer = field(default_factory=lambda: Answer(0))
    opened: Mapping[str, int] = field(default_factory=dict)  # unmunge's status by encoding node

    def runs(self, service: str) -> bool:
        """Whether that service is as it should be; True for what does not belong here."""
        name = service if "." in service else f"{service}.service"
        return name not in self.services or self.units.get(name, Unit()).running

    @classmethod
    def from_wire(
        cls,
        facts: Facts,
        clock: float,
        services: Sequence[str],
        look: Mapping[str, Any],
        across: Mapping[str, Any],
        token: str,
    ) -> Look:
        """From the agent's two answers (provisioning.agent.look)."""
        return cls(
            facts=facts,
            clock=clock,
            uptime=look["uptime"],
            boot=look["boot"],
            load=look["load"],
            memory_mb=look["memory"]["total_mb"],
            memory_free_mb=look["memory"]["free_mb"],
            disks=tuple(Disk(**disk) for disk in look["disks"]),
            units={
                name: Unit(unit["load"], unit["active"], unit["enabled"])
                for name, unit in look["units"].items()
            },
            services=tuple(services),
            answers={name: Answer(**answer) for name, answer in look["answers"].items()},
            pages={name: Page(**page) for name, page in look["pages"].items()},
            folders={
                path: _folder(folder, token) for path, folder in across.get("folders", {}).items()
            },
            tokens=look.get("tokens", {}),
            credential=Answer(look["credential"]["code"], look["credential"]["text"]),
            opened=across.get("opened", {}),
        )


def _folder(wire: Mapping[str, Any], token: str) -> Folder:
    mount = wire.get("mount")
    return Folder(
        there=wire["there"],
        shared=wire.get("token") == token if token and "token" in wire else None,
        readonly=wire.get("readonly", False),
        mount=(mount[0], mount[1]) if mount else None,
        error=wire.get("error", ""),
        total=wire.get("total", 0),
        free=wire.get("free", 0),
    )


@dataclass(frozen=True)
class Picture:
    """The whole cluster at one moment: looks of nodes that answered, sentences of the others."""

    cluster: Cluster
    looks: Mapping[str, Look]
    errors: Mapping[str, str] = field(default_factory=dict)

    def look(self, node: Node) -> Look | None:
        return self.looks.get(node.name)


def nothing(_cluster: Cluster, _node: Node) -> Ask:
    return Ask()


@dataclass(frozen=True)
class Check:
    """``ask`` says what a node must tell; ``judge`` is pure, and called once for the picture."""

    topic: str
    judge: Callable[[Picture], Iterable[Finding]]
    ask: Callable[[Cluster, Node], Ask] = nothing


def judge(checks: Iterable[Check], picture: Picture) -> tuple[Finding, ...]:
    """All findings, worst first, then in the order of the checks."""
    found = [finding for check in checks for finding in check.judge(picture)]
    order = (Level.BAD, Level.WARN, Level.OK)
    return tuple(sorted(found, key=lambda finding: order.index(finding.level)))
