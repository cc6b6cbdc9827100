"""No new starts for a while: what runs goes on, and new jobs can be handed in.

All partitions are closed, or some nodes drained. A partition that was closed by hand is as
slurm.conf says again, UP, when slurmctld starts or reads its configuration anew (tried: 22.05).
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cluster.errors import PracticumError
from cluster.hostlist import fold
from cluster.sinfo import NodeState, PartitionState
from provisioning.controller import Controller
from provisioning.report import Reporter

OFF = "practicum: switched off"  # why nodes are drained, for all to read
DRAINED = (NodeState.DRAINED, NodeState.DRAINING)
RECORD = Path("state/closed.json")  # beside cluster.toml, while partitions are closed by us
LAUNCH_SECONDS = 3  # for jobs that were on their way to their nodes
OPEN_SECONDS = 60
STARTING = (PartitionState.UP, PartitionState.DRAIN)  # drain: no new jobs, but those that wait


def to_reopen(
    now: Mapping[str, PartitionState], record: Mapping[str, PartitionState]
) -> dict[str, PartitionState]:
    """What to close, and as what each is opened again: those from which jobs start, and those that
    a run of ours which was killed has closed. What the admin closed stays closed."""
    return still_closed(now, record) | {
        name: state for name, state in now.items() if state in STARTING
    }


def still_closed(
    now: Mapping[str, PartitionState], record: Mapping[str, PartitionState]
) -> dict[str, PartitionState]:
    """What a run that was cut off has closed, and nobody has changed since."""
    return {name: was for name, was in record.items() if now.get(name) is PartitionState.DOWN}


class Closing:
    """Partitions of one cluster, closed and opened again."""

    def __init__(self, controller: Controller, base: Path, reporter: Reporter) -> None:
        self._controller = controller
        self._path = base / RECORD
        self._reporter = reporter
        self._ours: dict[str, PartitionState] = {}
        self._lock: TextIO | None = None  # until the partitions are open, or this command ends

    def close(self) -> None:
        """PracticumError when Slurm does not answer, or another command has closed them."""
        if not self._hold():
            raise PracticumError(
                "another practicum command has closed the partitions for a moment: wait for its end"
            )
        self._ours = to_reopen(self._controller.partitions(), self._recorded())
        if not self._ours:
            self._forget()
            return
        self._record()  # first: whoever is killed from here on is known to have closed them
        self._reporter.line("partitions take no jobs for a moment")
        for name in self._ours:
            self._controller.turn(name, PartitionState.DOWN)
        time.sleep(LAUNCH_SECONDS)

    def open(self) -> None:
        """PracticumError, with what to do, when they cannot be opened within OPEN_SECONDS."""
        if not self._ours:
            return

        def work() -> None:
            for name, state in self._ours.items():
                self._controller.turn(name, state)

        names = ", ".join(self._ours)
        try:
            patiently(
                work,
                "the partitions are still closed: run scontrol update PartitionName=NAME State=UP "
                f"on {self._controller.node.name} for {names}",
                OPEN_SECONDS,
            )
        finally:
            self._let_go()
        self._ours = {}
        self._forget()
        self._reporter.line("partitions take jobs again")

    @contextmanager
    def left_closed(self, until: str) -> Iterator[None]:
        """What is cut off in here leaves the partitions closed, and says until when."""
        try:
            yield
        except BaseException:
            ours, self._ours = self._ours, {}
            self._let_go()
            if ours:
                self._reporter.line(f"partitions take no jobs {until}")
            raise

    def open_left(self) -> None:
        """Open what a run that was cut off has closed, not what one that runs has; PracticumError
        as :meth:`open`."""
        if self._path.exists() and self._hold():
            self._ours = still_closed(self._controller.partitions(), self._recorded())
            self.open()
            self._forget()

    def off(self, names: Collection[str]) -> None:
        """Those machines are off. Partitions open by themselves when slurmctld starts again."""
        if self._controller.node.name in names:
            self._forget()

    def _hold(self) -> bool:
        """Whether no other command has them; kept until :meth:`_let_go`, or the end."""
        self._path.parent.mkdir(exist_ok=True)
        lock = self._path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            return False
        self._lock = lock
        return True

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _forget(self) -> None:
        self._path.unlink(missing_ok=True)
        self._let_go()

    def _recorded(self) -> dict[str, PartitionState]:
        try:
            told = json.loads(self._path.read_text())
            return {name: PartitionState(state) for name, state in told.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as error:
            raise PracticumError(
                f"{self._path} is damaged ({error}): remove it, and see in practicum status which "
                "partitions are closed"
            ) from error

    def _record(self) -> None:
        self._path.parent.mkdir(exist_ok=True)
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(self._ours, indent=1, sort_keys=True) + "\n")
        draft.replace(self._path)


class Draining:
    """Nodes that go off while their controller stays: drained until they are off, then down, from
    where they return by themselves when they boot (ReturnToService)."""

    def __init__(self, controller: Controller, names: Sequence[str]) -> None:
        self._controller = controller
        self._names = names
        self._ours: set[str] = set()

    def close(self) -> None:
        """PracticumError when Slurm does not answer. Who takes no jobs anyhow is left alone."""
        views = self._controller.views()
        seen = [views[name] for name in self._names if name in views]
        free = [view.name for view in seen if view.state.usable]
        left = [view.name for view in seen if view.state in DRAINED and view.reason == OFF]
        self._ours = {*free, *left}  # left by a run that was killed
        if free:
            self._controller.drain(free, OFF)
            time.sleep(LAUNCH_SECONDS)

    def off(self, names: Collection[str]) -> None:
        """Those machines are off."""
        gone = sorted(self._ours & set(names))
        self._ours -= set(gone)
        if gone:
            self._controller.away(gone, OFF)

    def open(self) -> None:
        """Those that are not off take jobs again; PracticumError as of partitions."""
        if not self._ours:
            return
        names = sorted(self._ours)
        patiently(
            lambda: self._controller.resume(names),
            f"they are still drained: practicum node resume {fold(names)}",
            OPEN_SECONDS,
        )
        self._ours = set()


@contextmanager
def no_new_starts(controller: Controller, base: Path, reporter: Reporter) -> Iterator[Closing]:
    """While this holds, jobs wait and those that run go on. PracticumError, with what to do, when
    the partitions cannot be opened again."""
    closing = Closing(controller, base, reporter)
    try:
        closing.close()
        yield closing
    finally:
        closing.open()


def patiently(work: Callable[[], None], advice: str, seconds: float) -> None:
    """Until it works: slurmctld asks munge, too, and may have to ask twice."""
    end = time.monotonic() + seconds
    while True:
        try:
            work()
        except PracticumError as error:
            if time.monotonic() > end:
                raise PracticumError(f"{error}; {advice}") from error
            time.sleep(1)
        else:
            return
