"""Plans and results as values: what the command line shows, and what tests look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Change:
    """One difference between a node and its declaration.

    ``action``: create, update, remove, run, or list (told only: nothing will be done).
    ``diff`` is a unified diff or a line about what cannot be shown; "" when there is none.
    """

    key: str
    action: str
    summary: str
    diff: str = ""
    stage: str = ""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Change:
        return cls(**{name: wire[name] for name in ("key", "action", "summary", "diff", "stage")})


@dataclass(frozen=True)
class NodePlan:
    """One node's part. ``error`` is a sentence why there is no plan, or what it cannot do."""

    node: str
    changes: tuple[Change, ...] = ()
    same: int = 0  # resources that are as declared
    error: str = ""

    @property
    def pending(self) -> int:
        """Changes that an apply would make."""
        return sum(change.action != "list" for change in self.changes)

    @property
    def stages(self) -> tuple[str, ...]:
        """Stages with something to do, in order."""
        return tuple(dict.fromkeys(c.stage for c in self.changes if c.action != "list"))


@dataclass(frozen=True)
class Plan:
    nodes: tuple[NodePlan, ...]

    @property
    def pending(self) -> int:
        """Changes on all nodes; 0 means that everything is as declared."""
        return sum(node.pending for node in self.nodes)

    @property
    def errors(self) -> dict[str, str]:
        return {node.node: node.error for node in self.nodes if node.error}

    def changes(self) -> Iterator[tuple[str, Change]]:
        for node in self.nodes:
            for change in node.changes:
                yield node.node, change


@dataclass(frozen=True)
class NodeResult:
    """What happened on one node: how many changes were made, and the sentence if it stopped."""

    node: str
    changed: int = 0
    error: str = ""
    seconds: float = 0.0
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Result:
    """The end of an apply. ``confirmed`` is False when the plan was not agreed to."""

    nodes: tuple[NodeResult, ...]
    plan: Plan
    confirmed: bool = True

    @property
    def changed(self) -> int:
        return sum(node.changed for node in self.nodes)

    @property
    def errors(self) -> dict[str, str]:
        return {node.node: node.error for node in self.nodes if node.error}

    @property
    def ok(self) -> bool:
        return not self.errors
