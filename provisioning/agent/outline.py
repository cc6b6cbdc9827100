"""What is declared, as units of work in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Union

from provisioning.agent import accounts, commands, files, mounts, network, packages, services
from provisioning.agent.host import AgentError, Host
from provisioning.agent.work import Wire

Unit = Union[
    files.PathUnit,
    files.DirectoryUnit,
    files.LinkUnit,
    packages.PackagesUnit,
    accounts.GroupUnit,
    accounts.UserUnit,
    services.ServiceUnit,
    mounts.MountUnit,
    network.NetworkUnit,
    commands.CommandUnit,
]


class Wait:
    """Another machine's port, waited for when something after it is about to start."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire


Step = Union[Unit, Wait]


class Outline:
    """A declaration's stages, each a list of units. Lines join their file, packages of a stage
    are one unit, and what an image takes later or never is set aside."""

    def __init__(self, host: Host, stages: Sequence[Any]) -> None:
        self.host = host
        self.units = services.Units(host)
        self.checks = commands.Checks()
        self.declared: list[str] = []
        self.lines: set[tuple[str, str]] = set()  # (path, line) of lines that should be there
        self.deferred: list[Wire] = []
        self.stages: list[tuple[str, list[Step]]] = []
        self.commands: dict[str, commands.CommandUnit] = {}
        self.answers: dict[str, str] = {}  # a notification -> the stage that answers it
        paths: dict[str, files.PathUnit] = {}
        for name, wires in stages:
            self.stages.append((name, self._stage(name, wires, paths)))
        self.paths = list(paths)

    def later(self, stage: str) -> set[str]:
        """Names of the stages after ``stage``."""
        names = [name for name, _ in self.stages]
        return set(names[names.index(stage) + 1 :]) if stage in names else set()

    def service(self, note: str) -> services.ServiceUnit | None:
        """The declared service that answers a notification."""
        for _, steps in self.stages:
            for step in steps:
                if isinstance(step, services.ServiceUnit) and note in step.notes():
                    return step
        return None

    def _stage(self, name: str, wires: Sequence[Wire], paths: dict[str, Any]) -> list[Step]:
        steps: list[Step] = []
        early: list[Step] = []  # apt's own settings come before what apt is asked for
        bundle: packages.PackagesUnit | None = None
        lines_here: dict[str, files.PathUnit] = {}
        for wire in wires:
            self.declared.append(wire["key"])
            if not self._meant(wire):
                continue
            kind = wire["kind"]
            if kind in ("file", "line"):
                unit = self._path_unit(wire, paths, lines_here)
                if unit is not None:
                    (early if unit.path.startswith("/etc/apt/") else steps).append(unit)
            elif kind == "package":
                if bundle is None:
                    bundle = packages.PackagesUnit()
                    steps.append(bundle)
                bundle.members.append(wire)
            else:
                steps.append(self._single(name, kind, wire))
        return early + steps

    def _meant(self, wire: Wire) -> bool:
        """Whether a resource is for now: in an image some wait for the first boot."""
        if not self.host.image or wire["image"] == "apply":
            return True
        hidden = any(wire.get(name) for name in ("stdin", "secret", "password_hash"))
        if wire["image"] == "defer" and not hidden:
            self.deferred.append(wire)
        return False

    def _path_unit(
        self, wire: Wire, paths: dict[str, Any], here: dict[str, Any]
    ) -> files.PathUnit | None:
        """The unit if it is new. Lines join the path's File, or the stage's other Lines."""
        path = wire["path"]
        known = paths.get(path)
        if wire["kind"] == "file":
            unit = here.get(path) or known
            if unit is not None:  # lines declared before their file
                unit.file = wire
                return None
            unit = paths[path] = files.PathUnit(path)
            unit.file = wire
            return unit
        if wire["present"]:
            self.lines.add((path, wire["line"]))
        unit = known if known is not None and known.file else here.get(path)
        if unit is not None:
            unit.lines.append(wire)
            return None
        unit = here[path] = files.PathUnit(path)
        unit.lines.append(wire)
        paths.setdefault(path, unit)
        return unit

    def _single(self, stage: str, kind: str, wire: Wire) -> Step:
        if kind == "service":
            unit = services.ServiceUnit(wire, self.units)
            self.answers.update(dict.fromkeys(unit.notes(), stage))
            return unit
        if kind == "command":
            command = commands.CommandUnit(wire, self.checks)
            self.commands[command.note] = command
            self.answers[command.note] = stage
            return command
        simple: dict[str, Callable[[Wire], Step]] = {
            "directory": files.DirectoryUnit,
            "link": files.LinkUnit,
            "group": accounts.GroupUnit,
            "user": accounts.UserUnit,
            "mount": mounts.MountUnit,
            "network": network.NetworkUnit,
            "wait": Wait,
        }
        if kind not in simple:
            raise AgentError(f"this agent does not know resources of kind {kind!r}")
        return simple[kind](wire)
