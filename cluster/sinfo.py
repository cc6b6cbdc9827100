"""Nodes and partitions as sinfo tells them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cluster.slurm import ENVIRONMENT, Query
from cluster.slurm_text import new_separator, records, whole


class NodeState(StrEnum):
    """Node states, sinfo(1) "NODE STATE CODES", without their one-letter flags."""

    ALLOCATED = "allocated"
    BLOCKED = "blocked"
    COMPLETING = "completing"
    DOWN = "down"
    DRAINED = "drained"
    DRAINING = "draining"
    ERROR = "error"
    FAIL = "fail"
    FAILING = "failing"
    FUTURE = "future"
    IDLE = "idle"
    INVAL = "inval"
    MAINT = "maint"
    MIXED = "mixed"
    NPC = "npc"
    PERFCTRS = "perfctrs"
    PLANNED = "planned"
    POWERED_DOWN = "powered_down"
    POWERING_DOWN = "powering_down"
    POWERING_UP = "powering_up"
    POWER_DOWN = "power_down"
    POWER_UP = "power_up"
    REBOOT = "reboot"
    REBOOT_ISSUED = "reboot_issued"
    REBOOT_REQUESTED = "reboot_requested"
    RESERVED = "reserved"
    RESUMING = "resuming"
    UNKNOWN = "unknown"

    @property
    def usable(self) -> bool:
        """Jobs can start there, now or when a job before them ends."""
        return self in (NodeState.IDLE, NodeState.MIXED, NodeState.ALLOCATED, NodeState.PLANNED,
                        NodeState.COMPLETING, NodeState.RESERVED)  # fmt: skip


class PartitionState(StrEnum):
    """As sinfo's %a has it, which calls the last one "inact" (sinfo(1), scontrol(1))."""

    UP = "up"
    DOWN = "down"  # jobs can be handed in, and wait
    DRAIN = "drain"  # none can be handed in, those that wait start
    INACTIVE = "inactive"


@dataclass(frozen=True)
class PartitionRow:
    partition: str
    state: PartitionState


@dataclass(frozen=True)
class NodeRow:
    """A row of sinfo: a node in one partition (a node of two partitions has two rows)."""

    node: str
    partition: str
    state: NodeState
    responding: bool
    cpus: int
    cpus_allocated: int
    memory_mb: int
    free_memory_mb: int | None
    load: float | None
    reason: str


_SINFO = ["N", "R", "T", "c", "C", "m", "e", "O", "E"]


def sinfo_query() -> Query[NodeRow]:
    """Every node in every partition."""
    separator = new_separator()
    layout = "".join(f"%{letter}{separator}" for letter in _SINFO)
    argv = ("sinfo", "--noheader", "--Node", f"--format={layout}")
    return Query(argv, dict(ENVIRONMENT), lambda text: read_sinfo(text, separator))


def read_sinfo(text: str, separator: str) -> tuple[NodeRow, ...]:
    """sinfo's output as rows. ValueError when it is cut or strange."""
    rows = []
    for row in records(text, separator, len(_SINFO)):
        node, partition, state, cpus, split, memory, free, load, reason = row
        word, responding = _node_state(state)
        if not re.fullmatch(r"\d+/\d+/\d+/\d+", split):
            raise ValueError(f"{split!r} is not CPUs as allocated/idle/other/total")
        rows.append(
            NodeRow(
                node=node,
                partition=partition,
                state=word,
                responding=responding,
                cpus=whole(cpus),
                cpus_allocated=int(split.split("/")[0]),
                memory_mb=whole(memory),
                free_memory_mb=None if free == "N/A" else whole(free),
                load=None if load == "N/A" else float(load),
                reason="" if reason == "none" else reason,
            )
        )
    return tuple(rows)


def partitions_query() -> Query[PartitionRow]:
    """Every partition, also those that are hidden or of no group of ours."""
    separator = new_separator()
    argv = ("sinfo", "--noheader", "--all", f"--format=%R{separator}%a{separator}")
    return Query(argv, dict(ENVIRONMENT), lambda text: read_partitions(text, separator))


def read_partitions(text: str, separator: str) -> tuple[PartitionRow, ...]:
    """sinfo's output as rows. ValueError when it is cut or strange."""
    rows = []
    for name, state in records(text, separator, 2):
        word = PartitionState.INACTIVE if state == "inact" else PartitionState(state.lower())
        rows.append(PartitionRow(name, word))
    return tuple(rows)


def _node_state(text: str) -> tuple[NodeState, bool]:
    """``idle*`` → (IDLE, False). The flags: sinfo(1) "NODE STATE CODES"."""
    word = text.rstrip("*~#!%$@^+-")
    try:
        return NodeState(word.lower()), "*" not in text
    except ValueError:
        raise ValueError(f"{text!r} is not a node state") from None
