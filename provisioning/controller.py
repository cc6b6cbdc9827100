"""Slurm's controller, asked and told over SSH: the states of nodes, who runs where, draining."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cluster import slurm
from cluster.errors import PracticumError
from cluster.hostlist import fold
from cluster.model import Cluster, NodeRole
from cluster.node_words import NodeView, views
from cluster.sinfo import NodeState, PartitionState, partitions_query, sinfo_query
from cluster.slurm_text import JobState
from provisioning.remote import Remote
from provisioning.ssh import ssh_target

T = TypeVar("T")
POLL_SECONDS = 3.0
UNDRAINABLE = (NodeState.DOWN, NodeState.UNKNOWN, NodeState.FUTURE, NodeState.INVAL)


class Controller:
    """Each question is a connection of its own: waiting may take hours, and the machine itself
    may be what reboots."""

    def __init__(self, cluster: Cluster, base: Path) -> None:
        self.node = cluster.first(NodeRole.CONTROLLER)
        self._target = ssh_target(cluster, self.node, base)

    def ask(self, query: slurm.Query[T]) -> tuple[T, ...]:
        """PracticumError when Slurm or the machine does not answer."""
        words = [f"{key}={value}" for key, value in query.env.items()]
        out = self._run(["env", "-i", *words, *query.argv])
        try:
            return query.read(out)
        except ValueError as error:
            raise PracticumError(
                f"{query.argv[0]} on {self.node.name} gave an answer that cannot be read: {error}"
            ) from error

    def views(self) -> dict[str, NodeView]:
        """Slurm's nodes by name."""
        return views(self.ask(sinfo_query()))

    def jobs(self, names: Collection[str] | None = None) -> list[slurm.Job]:
        """Jobs that are on those nodes now (None: on any), in the order of their numbers."""
        found = [
            job
            for job in self.ask(slurm.squeue_query())
            if not job.state.waiting and (not job.state.over or job.state is JobState.COMPLETING)
        ]
        if names is not None:
            found = [job for job in found if set(job.nodes) & set(names)]
        return sorted(found, key=lambda job: job.job_id)

    def partitions(self) -> dict[str, PartitionState]:
        """Slurm's partitions by name."""
        return {row.partition: row.state for row in self.ask(partitions_query())}

    def turn(self, partition: str, state: PartitionState) -> None:
        """A partition takes jobs or takes none, until slurmctld reads slurm.conf again."""
        self._run(["scontrol", "update", f"PartitionName={partition}", f"State={state.upper()}"])

    def drain(self, names: Sequence[str], reason: str) -> None:
        """They take no new jobs; those that run go on."""
        self._update(names, "State=DRAIN", f"Reason={reason}")

    def resume(self, names: Sequence[str]) -> None:
        """They take jobs again."""
        self._update(names, "State=RESUME")

    def cancel(self, names: Sequence[str]) -> None:
        """End the jobs on those nodes."""
        if numbers := [str(job.job_id) for job in self.jobs(names)]:
            self._run(["scancel", *numbers])

    def gone(self, names: Sequence[str], reason: str) -> None:
        """Nodes that are dead: what ran there has failed, and starts elsewhere if it may."""
        self._update(names, "State=DOWN", f"Reason={reason}")

    def away(self, names: Sequence[str], reason: str) -> None:
        """Drained nodes that are off now: down, which they are no longer when they boot."""
        self.gone(names, reason)
        self._update(names, "State=UNDRAIN")

    def settled(self, names: Collection[str], seconds: float = 20) -> dict[str, NodeView]:
        """The states, once those nodes are well; after ``seconds`` as they are then: a node that
        was resumed is heard of when it has answered the next ping."""
        end = time.monotonic() + seconds
        while True:
            found = self.views()
            well = all(found[name].well for name in names if name in found)
            if well or time.monotonic() >= end:
                return found
            time.sleep(0.5)

    def wait_free(
        self,
        names: Iterable[str],
        seconds: float,
        tell: Callable[[str], None],
        freed: Callable[[str], None],
    ) -> list[str]:
        """Wait until no job is left on each node; ``freed`` is called for each. Those that are
        not free after ``seconds`` are returned. One question without an answer ends no long wait;
        PracticumError when the last has none."""
        left = list(names)
        end = time.monotonic() + seconds
        said = ""
        while left:
            try:
                jobs = self.jobs(left)
            except PracticumError as error:
                if time.monotonic() >= end:
                    raise
                if (text := f"{error}; asking again") != said:
                    tell(text)
                    said = text
                time.sleep(POLL_SECONDS)
                continue
            busy = {name for job in jobs for name in job.nodes}
            for name in [name for name in left if name not in busy]:
                left.remove(name)
                freed(name)
            if not left or time.monotonic() >= end:
                break
            text = f"{fold(left)}: waiting for {jobs_text(jobs)}"
            if text != said:
                tell(text)
                said = text
            time.sleep(min(POLL_SECONDS, max(0.0, end - time.monotonic())))
        return left

    def wait_ready(self, name: str, seconds: float) -> NodeView | None:
        """Wait until slurmd on that node has registered; None when it has not in time."""
        end = time.monotonic() + seconds
        while True:
            try:
                view = self.views().get(name)
            except PracticumError:  # the controller itself may be coming up
                view = None
            if view and view.responding and view.state not in UNDRAINABLE:
                return view
            if time.monotonic() >= end:
                return None
            time.sleep(POLL_SECONDS)

    def _update(self, names: Sequence[str], *words: str) -> None:
        self._run(["scontrol", "update", f"NodeName={fold(names)}", *words])

    def _run(self, argv: Sequence[str]) -> str:
        with Remote(self._target) as remote:
            return remote.run(argv, timeout=60, check=True).out


def jobs_text(jobs: Sequence[slurm.Job], most: int = 4) -> str:
    """``2 jobs (17 of ada, 19 of ben)``"""
    shown = ", ".join(f"{job.job_id} of {job.user}" for job in jobs[:most])
    more = f" and {len(jobs) - most} more" if len(jobs) > most else ""
    return f"{len(jobs)} job{'' if len(jobs) == 1 else 's'} ({shown}{more})"
