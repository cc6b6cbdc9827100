"""Slurm's node states in plain words: what an admin reads in `status` and `node list`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster.sinfo import NodeRow, NodeState
from cluster.text import clean

# sinfo(1) "NODE STATE CODES". Every value finishes "node01 ...".
STATES = {
    NodeState.ALLOCATED: "is full of jobs",
    NodeState.BLOCKED: "is kept free for one job",
    NodeState.COMPLETING: "is ending jobs",
    NodeState.DOWN: "is down",
    NodeState.DRAINED: "takes no jobs (drained)",
    NodeState.DRAINING: "takes no new jobs (draining)",
    NodeState.ERROR: "has an error",
    NodeState.FAIL: "is about to fail, and takes no jobs",
    NodeState.FAILING: "is about to fail, and takes no new jobs",
    NodeState.FUTURE: "is not there yet",
    NodeState.IDLE: "is free",
    NodeState.INVAL: "is not what slurm.conf says it is",
    NodeState.MAINT: "is reserved for maintenance",
    NodeState.MIXED: "runs jobs",
    NodeState.PLANNED: "is kept for a job that comes next",
    NodeState.POWERED_DOWN: "is switched off",
    NodeState.REBOOT_ISSUED: "is rebooting",
    NodeState.REBOOT_REQUESTED: "will reboot when its jobs have ended",
    NodeState.RESERVED: "is reserved",
    NodeState.UNKNOWN: "has not answered Slurm yet",
}
# Reasons that Slurm itself gives (src/slurmctld), as they begin
REASONS = {
    "Not responding": "its slurmd does not answer",
    "Low RealMemory": "it has less memory than slurm.conf says; practicum apply measures it again",
    "Low socket*core*thread count": "it has fewer cores than slurm.conf says; practicum apply "
    "measures it again",
    "Low CPUs": "it has fewer cores than slurm.conf says; practicum apply measures it again",
    "Node unexpectedly rebooted": "it rebooted on its own; see why, then practicum node resume",
    "Prolog error": "the script before jobs failed there; see slurmd's log",
    "Epilog error": "the script after jobs failed there; see slurmd's log",
    "Kill task failed": "a job's processes could not be ended there; practicum node reboot helps",
    "batch job complete failure": "a job could not be ended cleanly there",
    "gres/": "it lacks a device that slurm.conf names",
    "not reached by practicum yet": "practicum has not reached it yet; apply when it is up",
}


@dataclass(frozen=True)
class NodeView:
    """One node over all its partitions."""

    name: str
    state: NodeState
    responding: bool
    reason: str
    partitions: tuple[str, ...]

    @property
    def well(self) -> bool:
        return self.state.usable and self.responding


def views(rows: Iterable[NodeRow]) -> dict[str, NodeView]:
    """sinfo's rows by node."""
    found: dict[str, list[NodeRow]] = {}
    for row in rows:
        found.setdefault(row.node, []).append(row)
    return {
        name: NodeView(
            name,
            own[0].state,
            own[0].responding,
            clean(own[0].reason, 200),
            tuple(row.partition for row in own),
        )
        for name, own in found.items()
    }


def reason(text: str) -> str:
    """A reason in plain words; an admin's own are left as they are."""
    for start, words in REASONS.items():
        if text.startswith(start):
            return words
    return text


def state(view: NodeView) -> str:
    """The words after a node's name, with the reason if there is one."""
    words = STATES.get(view.state, f"is {view.state.value}")
    if not view.responding:
        words += ", and does not answer Slurm"
    why = reason(view.reason)
    return f"{words}: {why}" if why and not view.well else words
