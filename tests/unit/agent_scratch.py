"""A scratch tree that the agent works on, in this process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from provisioning.agent.host import AgentError, Host
from provisioning.agent.session import REMOVALS, Session
from provisioning.agent.work import Change
from provisioning.resources import Resource

KEY = "ab" * 32
Stages = dict[str, list[Resource]]


@dataclass
class Scratch:
    """``root`` stands for a system's root. Commands run on this machine, so tests give none
    that changes anything outside the tree."""

    root: Path
    image: bool = False
    told: list[str] = field(default_factory=list)

    def session(self, stages: Stages) -> Session:
        wires = [[name, [one.to_wire() for one in here]] for name, here in stages.items()]
        session = Session(Host(str(self.root), self.image), wires, KEY)
        session.run.tell = self.told.append
        return session

    def plan(self, *resources: Resource, **stages: list[Resource]) -> list[Change]:
        answer = self.session(stages or {"base": list(resources)}).plan()
        assert answer["errors"] == []
        return [_change(wire) for wire in answer["changes"]]

    def errors(self, *resources: Resource) -> list[str]:
        return list(self.session({"base": list(resources)}).plan()["errors"])

    def apply(self, *resources: Resource, **stages: list[Resource]) -> list[Change]:
        """Plan and apply; the changes that were made, which are those that were planned."""
        session = self.session(stages or {"base": list(resources)})
        planned = [_change(wire) for wire in session.plan()["changes"]]
        made: list[Change] = []
        session.begin()
        for stage in dict.fromkeys(change.stage for change in planned):
            session.apply(stage, made.append, lambda: False)
        session.finish()
        expected = [change.key for change in planned if change.action != "list"]
        assert [change.key for change in made] == expected
        return made

    def interrupted(self, cut: Callable[[], bool], *resources: Resource) -> list[Change]:
        session = self.session({"base": list(resources)})
        session.plan()
        session.begin()
        made: list[Change] = []
        session.apply("base", made.append, cut)
        return made

    def path(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def text(self, path: str) -> str:
        return self.path(path).read_text()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)


def _change(wire: dict[str, Any]) -> Change:
    change = Change(wire["key"], wire["action"], wire["summary"], wire["diff"])
    change.stage = wire["stage"]
    return change


def scratch(folder: Path, image: bool = False) -> Scratch:
    (folder / "etc").mkdir(parents=True)
    return Scratch(folder, image)


__all__ = ["KEY", "REMOVALS", "AgentError", "Scratch", "scratch"]
