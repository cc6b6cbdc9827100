"""Plan and apply on one system: the order of things."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from typing import Any, Union

from provisioning.agent import commands, mounts, packages, services
from provisioning.agent.host import AgentError, Host
from provisioning.agent.outline import Outline, Step, Wait
from provisioning.agent.record import DEFERRED, store
from provisioning.agent.removal import forgettable, removals
from provisioning.agent.work import Ahead, Change, Run, Wire, Work

REMOVALS = "removals"
# Of a node that has something mounted from another: before what others have for it is removed.
CLIENT_REMOVALS = "removals of clients"
APT = "/etc/apt/"


class Session:
    """What one client asks of one system, from its declaration to the last stage."""

    def __init__(self, host: Host, stages: Sequence[Any], key: str) -> None:
        self.host = host
        self.key = key
        self.run = Run(host, key)
        self.outline = Outline(host, stages)
        self.units = self.outline.units
        self.stages = self.outline.stages
        self._begun = False

    # Planning: nothing is changed.

    def plan(self) -> dict[str, Any]:
        """All changes by stage; errors are sentences about what cannot be done."""
        self.run = Run(self.host, self.key)
        changes: list[Change] = []
        errors: list[str] = []
        same = 0
        self._prefetch()
        unfinished = "daemon-reload" in self.run.notes.notes
        for index, (name, steps) in enumerate(self.stages):
            before = len(changes)
            if index == 0:
                changes += self._plan_removals(early=True)
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
        self.outline.checks.stop()
        changes += self._plan_last()
        return {
            "changes": [change.to_wire() for change in changes],
            "errors": errors,
            "same": same,
            "deferred": len(self.outline.deferred),
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
        self.outline.checks.start(self.run, wanted)
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
        return [note for note in notes if note in self.outline.commands]

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
        later = self.outline.later(stage)
        due: list[Union[services.ServiceUnit, commands.CommandUnit]] = []
        seen = set()
        for note in list(self.run.notes.notes):
            verb, _, name = note.partition(":")
            if self.outline.answers.get(note) in later or verb == "daemon-reload":
                continue
            if verb == "run":
                if note in self.outline.commands:
                    due.append(self.outline.commands[note])
                continue
            if name in seen:
                continue
            seen.add(name)
            due.append(self.outline.service(note) or services.noted_unit(note, self.units))
        return due

    def _removals(self, early: bool) -> list[Work]:
        """What is no longer declared. apt's own settings go first: packages are fetched with
        what is left of them. Everything else goes last."""
        stages = bool(self.stages)

        def when(entry: dict[str, Any]) -> bool:
            return early == (stages and str(entry.get("path", "")).startswith(APT))

        outline = self.outline
        return removals(self.run, outline.declared, outline.paths, outline.lines, self.units, when)

    def _plan_removals(self, early: bool) -> list[Change]:
        works = self._removals(early)
        for work in works:
            self._foresee(work)
        return [change for work in works for change in work.changes]

    def _plan_last(self) -> list[Change]:
        changes = self._plan_removals(early=False)
        changes += self._foresee_notes(REMOVALS)
        if packages.leftover(self.host):
            text = f"remove {packages.POLICY}, left by an interrupted run"
            changes.append(Change("agent:policy-rc.d", "remove", text))
        stage = CLIENT_REMOVALS if self._lets_go(changes) else REMOVALS
        for change in changes:
            change.stage = stage
        return changes

    def _lets_go(self, changes: Sequence[Change]) -> bool:
        """Whether something that another machine serves is to be unmounted."""
        table = self.host.text(mounts.FSTAB)
        gone = [change.key for change in changes if change.action == "remove"]
        places = [self.run.manifest.get(key)["target"] for key in gone if key.startswith("mount:")]
        return any(mounts.over_network(table, place) for place in places)

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
            if not self._begun and not self.host.root:
                mounts.leave_away(self.run, self._let_go())
            self._begun = True
            if stage in (CLIENT_REMOVALS, REMOVALS):
                self._remove(False, changed, cut)
                self._answer(REMOVALS, [], changed, cut)
            else:
                self._steps(stage, dict(self.stages)[stage], changed, cut)
        except OSError as error:
            raise AgentError(explain(error)) from error
        finally:
            self._save()

    def _let_go(self) -> list[str]:
        """Where something is mounted that will not be, or from elsewhere."""
        table = self.host.text(mounts.FSTAB)
        steps = (step for _, steps in self.stages for step in steps)
        units = [step for step in steps if isinstance(step, mounts.MountUnit)]
        changed = [unit.target for unit in units if unit.edited(table) != table]
        kept = {unit.target for unit in units}
        entries = self.run.manifest.entries.items()
        gone = [entry["target"] for key, entry in entries if key.startswith("mount:")
                and not entry.get("adopted") and entry["target"] not in kept]  # fmt: skip
        return [*changed, *gone]

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
        if stage == self.stages[0][0]:
            self._remove(True, changed, cut)
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
            services.settled(self.run, self.units)
            self._drop_unknown()

    def _step(self, unit: Any, waits: list[Wire], changed: Callable[[Change], None]) -> None:
        run = self.run
        work = unit.examine(run)
        if work is None or work.changes[0].action == "list":
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
            if note.startswith("run:") and note not in self.outline.commands
        ]
        self.run.notes.drop(stale)

    def _remove(
        self, early: bool, changed: Callable[[Change], None], cut: Callable[[], bool]
    ) -> None:
        run = self.run
        run.planning = True  # one look ahead: folders empty once their files have gone
        works = self._removals(early)
        run.planning = False
        run.ahead = Ahead()
        for work in works:
            if cut():
                return
            if work.changes[0].action == "list":
                continue
            run.tell(work.changes[0].summary)
            run.notes.add(self._heard(work.notify), work.changes[0].key)
            work.do()
            changed(work.changes[0])
        if not early:
            for key in forgettable(run, self.outline.declared, works):
                run.manifest.forget(key)

    def finish(self) -> None:
        """Last of all: note what the first boot of an image has still to do."""
        if self.host.image:
            store(
                self.host, DEFERRED, "resources", {w["key"]: w for w in self.outline.deferred}, True
            )


def explain(error: OSError) -> str:
    """An operating system's error as a sentence with a way on."""
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space is left on the node's disk{where}: free some and apply again"
    if error.errno == errno.EROFS:
        return f"the node's file system is read-only{where}: see its kernel log"
    return f"the system refuses{where}: {error.strerror or error}"
