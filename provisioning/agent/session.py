"""Plan and apply on one system: the order of things."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Union

from provisioning.agent import accounts, commands, files, mounts, packages, services
from provisioning.agent.host import AgentError, Host
from provisioning.agent.record import DEFERRED, store
from provisioning.agent.removal import forgettable, removals
from provisioning.agent.work import Ahead, Change, Run, Wire, Work

REMOVALS = "removals"
Unit = Union[
    files.PathUnit,
    files.DirectoryUnit,
    files.LinkUnit,
    packages.PackagesUnit,
    accounts.GroupUnit,
    accounts.UserUnit,
    services.ServiceUnit,
    mounts.MountUnit,
    commands.CommandUnit,
]


class Wait:
    """Another machine's port, waited for when something after it is about to start."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire


Step = Union[Unit, Wait]


class Session:
    """What one client asks of one system, from its declaration to the last stage."""

    def __init__(self, host: Host, stages: Sequence[Any], key: str) -> None:
        self.host = host
        self.key = key
        self.run = Run(host, key)
        self.units = services.Units(host)
        self.checks = commands.Checks()
        self.declared: list[str] = []
        self.deferred: list[Wire] = []
        self.stages: list[tuple[str, list[Step]]] = []
        self.commands: dict[str, commands.CommandUnit] = {}
        self.services: dict[str, str] = {}  # note -> the stage that answers it
        paths: dict[str, files.PathUnit] = {}
        for name, wires in stages:
            self.stages.append((name, self._stage(name, wires, paths)))
        self.paths = list(paths)

    # What is declared, as units in order.

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
        if wire["image"] == "defer" and not wire.get("stdin") and not wire.get("secret"):
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
            self.services.update(dict.fromkeys(unit.notes(), stage))
            return unit
        if kind == "command":
            command = commands.CommandUnit(wire, self.checks)
            self.commands[command.note] = command
            self.services[command.note] = stage
            return command
        simple: dict[str, Callable[[Wire], Step]] = {
            "directory": files.DirectoryUnit,
            "link": files.LinkUnit,
            "group": accounts.GroupUnit,
            "user": accounts.UserUnit,
            "mount": mounts.MountUnit,
            "wait": Wait,
        }
        if kind not in simple:
            raise AgentError(f"this agent does not know resources of kind {kind!r}")
        return simple[kind](wire)

    # Planning: nothing is changed.

    def plan(self) -> dict[str, Any]:
        """All changes by stage; errors are sentences about what cannot be done."""
        self.run = Run(self.host, self.key)
        changes: list[Change] = []
        errors: list[str] = []
        same = 0
        self._prefetch()
        unfinished = "daemon-reload" in self.run.notes.notes
        for name, steps in self.stages:
            before = len(changes)
            if unfinished:
                text = "let systemd read its changed units, left by an interrupted run"
                changes.append(Change("agent:daemon-reload", "run", text))
                unfinished = False
            for step in steps:
                if isinstance(step, Wait):
                    continue
                try:
                    work = step.examine(self.run)
                except AgentError as error:
                    errors.append(str(error))
                    continue
                if work is None:
                    same += len(step.members)
                    continue
                changes += work.changes
                self._foresee(work)
            changes += self._foresee_notes(name)
            for change in changes[before:]:
                change.stage = name
        self.checks.stop()
        changes += self._plan_removals()
        return {
            "changes": [change.to_wire() for change in changes],
            "errors": errors,
            "same": same,
            "deferred": len(self.deferred),
        }

    def _prefetch(self) -> None:
        """One question for all units, and all checks at once."""
        steps = [step for _, steps in self.stages for step in steps]
        wanted = [
            step.wire
            for step in steps
            if isinstance(step, commands.CommandUnit)
            and step.wire["check"]
            and not step.wire["on_notify"]
        ]
        self.checks.start(self.run, wanted)
        self.units.fetch(step.name for step in steps if isinstance(step, services.ServiceUnit))

    def _foresee(self, work: Work) -> None:
        work.foresee()
        if work.notify:
            sources = ", ".join(change.key for change in work.changes)
            self.run.notes.add(self._heard(work.notify), sources, save=False)

    def _heard(self, notes: Sequence[str]) -> list[str]:
        """In an image nothing runs, so nothing is restarted."""
        if not self.host.image:
            return list(notes)
        return [note for note in notes if note in self.commands]

    def _foresee_notes(self, stage: str) -> list[Change]:
        changes = []
        for unit in self._due(stage):
            work = unit.examine(self.run)
            if work is not None:
                changes += work.changes
                work.foresee()
        self.run.notes.drop(["daemon-reload"], save=False)
        return changes

    def _due(self, stage: str) -> list[Union[services.ServiceUnit, commands.CommandUnit]]:
        """Units for the notifications that nothing in a later stage will answer."""
        names = [name for name, _ in self.stages]
        later = set(names[names.index(stage) + 1 :]) if stage in names else set()
        due: list[Union[services.ServiceUnit, commands.CommandUnit]] = []
        seen = set()
        for note in list(self.run.notes.notes):
            verb, _, name = note.partition(":")
            if self.services.get(note) in later or verb == "daemon-reload":
                continue
            if verb == "run":
                if note in self.commands:
                    due.append(self.commands[note])
                continue
            if name in seen:
                continue
            seen.add(name)
            due.append(self._service(note) or services.noted_unit(note, self.units))
        return due

    def _service(self, note: str) -> services.ServiceUnit | None:
        for _, steps in self.stages:
            for step in steps:
                if isinstance(step, services.ServiceUnit) and note in step.notes():
                    return step
        return None

    def _plan_removals(self) -> list[Change]:
        works = removals(self.run, self.declared, self.paths, self.units)
        changes = [change for work in works for change in work.changes]
        for work in works:
            self._foresee(work)
        changes += self._foresee_notes(REMOVALS)
        if packages.leftover(self.host):
            text = f"remove {packages.POLICY}, left by an interrupted run"
            changes.append(Change("agent:policy-rc.d", "remove", text))
        for change in changes:
            change.stage = REMOVALS
        return changes

    # Applying.

    def begin(self) -> None:
        """After the plan: from here on only the disk counts."""
        self.run = Run(self.host, self.key)
        self.run.planning = False
        self.run.ahead = Ahead()
        self.units.forget()
        if packages.leftover(self.host):
            self.host.remove(packages.POLICY)

    def apply(self, stage: str, changed: Callable[[Change], None], cut: Callable[[], bool]) -> None:
        """Carry out one stage. AgentError stops it; what was done so far is in the manifest.

        ``cut`` tells that the client has gone: then no further resource is begun.
        """
        try:
            if stage == REMOVALS:
                self._remove(changed, cut)
            else:
                self._steps(stage, dict(self.stages)[stage], changed, cut)
        except OSError as error:
            raise AgentError(explain(error)) from error
        finally:
            self._save()

    def _save(self) -> None:
        """The manifest, even when there is hardly room: the error at hand says more."""
        try:
            self.run.manifest.save(sync=True)
        except OSError as error:
            self.run.tell(f"the manifest could not be written: {explain(error)}")

    def _steps(
        self,
        stage: str,
        steps: Sequence[Step],
        changed: Callable[[Change], None],
        cut: Callable[[], bool],
    ) -> None:
        waits: list[Wire] = []
        own = [step.name for step in steps if isinstance(step, services.ServiceUnit)]
        if own:
            self.units.fetch(own)
        for step in steps:
            if cut():
                return
            if isinstance(step, Wait):
                waits.append(step.wire)
                continue
            self._step(step, waits, changed)
        self._answer(stage, waits, changed, cut)

    def _answer(
        self,
        stage: str,
        waits: list[Wire],
        changed: Callable[[Change], None],
        cut: Callable[[], bool],
    ) -> None:
        """Carry out the notifications that are due at the end of a stage."""
        for unit in self._due(stage):
            if cut():
                return
            self._step(unit, waits, changed)
        if not cut():
            services.reload_units(self.run)
            self._drop_unknown()

    def _step(self, unit: Any, waits: list[Wire], changed: Callable[[Change], None]) -> None:
        run = self.run
        work = unit.examine(run)
        if work is None:
            for wire in unit.members:
                if wire["kind"] != "command":
                    fields = unit.entry(run, wire)
                    run.manifest.settle(wire["key"], notify=wire["notify"], **fields)
            if isinstance(unit, services.ServiceUnit):
                run.notes.drop(unit.notes())  # it doesn't run and shouldn't
            return
        if isinstance(unit, (services.ServiceUnit, commands.CommandUnit)):
            # Only what is about to start needs the other machine.
            services.reload_units(run)
            while waits:
                commands.wait_port(run, waits[0])
                waits.pop(0)
        run.tell(work.changes[0].summary)
        # Before the change: a restart too many does less harm than one forgotten.
        run.notes.add(self._heard(work.notify), ", ".join(c.key for c in work.changes))
        work.do()
        for wire in unit.members:
            if wire["kind"] != "command":
                fields = unit.entry(run, wire)
                run.manifest.done(wire["key"], notify=wire["notify"], **fields)
        run.manifest.save()
        self.units.forget()
        for change in work.changes:
            changed(change)

    def _drop_unknown(self) -> None:
        """Notifications to commands that nobody declares any more."""
        stale = [
            note
            for note in self.run.notes.notes
            if note.startswith("run:") and note not in self.commands
        ]
        self.run.notes.drop(stale)

    def _remove(self, changed: Callable[[Change], None], cut: Callable[[], bool]) -> None:
        run = self.run
        run.planning = True  # one look ahead: folders empty once their files have gone
        works = removals(run, self.declared, self.paths, self.units)
        run.planning = False
        for key in forgettable(run, self.declared, works):
            run.manifest.forget(key)
        for work in works:
            if cut():
                return
            if work.changes[0].action == "list":
                continue
            run.tell(work.changes[0].summary)
            run.notes.add(self._heard(work.notify), work.changes[0].key)
            work.do()
            changed(work.changes[0])
        run.ahead = Ahead()
        self._answer(REMOVALS, [], changed, cut)

    def finish(self) -> None:
        """Last of all: note what the first boot of an image has still to do."""
        if self.host.image:
            store(self.host, DEFERRED, "resources", {w["key"]: w for w in self.deferred}, True)


def explain(error: OSError) -> str:
    """An operating system's error as a sentence with a way on."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space is left on the node's disk{where}: free some and apply again"
    if error.errno == errno.EROFS:
        return f"the node's file system is read-only{where}: see its kernel log"
    return f"the system refuses{where}: {error.strerror or error}"
