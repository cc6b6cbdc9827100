"""Plan and apply on a whole cluster: facts from every node, resources from roles, a plan from
every agent, and then stage after stage, all nodes at once.

Each node has one connection and one agent process from its facts to its last stage. A stage
begins when the one before is finished on every node that had work in it; a node that fails
stops there, the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError, UsageError
from cluster.hostlist import fold
from cluster.model import Cluster
from provisioning import moving
from provisioning.facts import Facts
from provisioning.planning import Change, NodePlan, NodeResult, Plan, Result
from provisioning.remembered import REMEMBERED, remember, remembered
from provisioning.report import Reporter
from provisioning.resources import Declared
from provisioning.role import STAGES, Context, Role, declare
from provisioning.session import Session, origin, put_python
from provisioning.ssh import ssh_target
from provisioning.transport import NoPythonError, Target, TransportError, image_target

THREADS = 128  # nearly always waiting for their node: no stage comes in waves
# As agents call them: who has something mounted from another node lets go of it first.
REMOVALS = ("removals of clients", "removals")
CONNECTING = 32  # handshakes at once, which cost this machine's processor
PING_SECONDS = 30

__all__ = ["Change", "NodePlan", "NodeResult", "Plan", "Result", "apply", "apply_image", "plan"]


class Cohort:
    """The sessions of a run, and what is known of each node."""

    def __init__(
        self,
        cluster: Cluster,
        roles: Sequence[Role],
        secrets: Mapping[str, str],
        base: Path,
        limit: Collection[str],
        reporter: Reporter,
        widen: bool = False,
    ) -> None:
        self.cluster = cluster
        self.widen = widen
        self.roles = roles
        self.secrets = secrets
        self.base = base
        self.reporter = reporter
        self.nodes = {node.name: node for node in cluster.machines}
        unknown = sorted(set(limit) - set(self.nodes))
        if unknown:
            raise UsageError(
                f"cluster.toml has no node {', '.join(unknown)}; it has {', '.join(self.nodes)}"
            )
        self.chosen = [name for name in self.nodes if not limit or name in limit]
        self.sessions: dict[str, Session] = {}
        self.errors: dict[str, str] = {}
        self.facts: dict[str, Facts] = {}
        self.made: dict[str, list[Change]] = {}
        self.plans: dict[str, NodePlan] = {}
        self._pool = ThreadPoolExecutor(max_workers=THREADS)
        self._connecting = threading.BoundedSemaphore(CONNECTING)

    def __enter__(self) -> Cohort:
        return self

    def __exit__(self, *_error: object) -> None:
        # Threads of their own: after an interruption the others may all be waiting for answers.
        with ThreadPoolExecutor(max_workers=THREADS) as closers:
            for session in list(self.sessions.values()):
                closers.submit(session.close)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def each(self, names: Iterable[str], work: Callable[[str], None]) -> None:
        """Do something with several nodes at once. A node's own trouble is kept as its error;
        anything else is a fault of ours and goes up."""
        futures: dict[Future[None], str] = {self._pool.submit(work, n): n for n in names}
        waiting = set(futures)
        pinged = time.monotonic()
        while waiting:
            done, waiting = wait(waiting, timeout=PING_SECONDS, return_when=FIRST_COMPLETED)
            if time.monotonic() - pinged >= PING_SECONDS:
                pinged = time.monotonic()
                for session in list(self.sessions.values()):
                    session.ping()
            for future in done:
                error = future.exception()
                if isinstance(error, PracticumError):
                    self._failed(futures[future], error)
                elif error is not None:
                    raise error

    def _failed(self, name: str, error: PracticumError) -> None:
        self.errors[name] = str(error)
        self.reporter.node_state(name, "failed")
        session = self.sessions.pop(name, None)
        if session is not None:
            session.close()

    def connect(self, install_python: bool) -> None:
        """Facts of every node; of those that don't answer, the facts they last told."""

        known = remembered(self.base)

        def work(name: str) -> None:
            session = Session(ssh_target(self.cluster, self.nodes[name], self.base), self.reporter)
            self.sessions[name] = session
            self.made[name] = session.changes
            try:
                with self._connecting:
                    self.facts[name] = self._open(session, known.get(name, {}))
            except NoPythonError:
                if not install_python or name not in self.chosen:
                    raise
                session.close()
                put_python(session.target, self.reporter)
                self.facts[name] = session.open()

        self.each(self.nodes, work)
        self._widen()
        self._remember(known)
        for name in self.nodes:
            if name not in self.facts and name in known:
                self.facts[name] = Facts.from_wire(known[name])
                self.reporter.line(f"{name} does not answer: its last known facts are used")

    def _open(self, session: Session, known: Mapping[str, Any]) -> Facts:
        """Facts; of a node that has still to take its address, from where it was last."""
        try:
            return session.open()
        except NoPythonError:
            raise
        except TransportError:  # nobody is there, or somebody else
            if self.cluster.network.addresses != "static":
                raise
            for target in moving.former(session.target, self.cluster, known):
                session.target = target
                try:
                    facts = session.open()
                except NoPythonError:
                    raise
                except TransportError:
                    continue
                self.reporter.line(f"{session.name} still answers at {target.address}")
                return facts
            raise

    def _widen(self) -> None:
        """A node that is new concerns the others: Slurm and their /etc/hosts must know it."""
        sessions = self.sessions
        new = [name for name in self.chosen if name in sessions and not sessions[name].managed]
        if self.widen and new and len(self.chosen) < len(self.nodes):
            self.chosen = list(self.nodes)
            self.reporter.line(
                f"{fold(new)} is new, and the others must know it: the plan is of all nodes"
            )

    def _remember(self, before: Mapping[str, Any]) -> None:
        """Keep what nodes told in this run."""
        fresh = {name: asdict(facts) for name, facts in self.facts.items()}
        if all(before.get(name) == facts for name, facts in fresh.items()):
            return
        known = {**before, **fresh}
        try:
            remember(self.base, {name: known[name] for name in known if name in self.nodes})
        except OSError as error:
            self.reporter.line(f"facts cannot be kept in {self.base / REMEMBERED}: {error}")

    def plan(self) -> Plan:
        """What would change on each chosen node."""
        for name in [name for name in self.sessions if name not in self.chosen]:
            self.sessions.pop(name).close()
        key = self.secrets.get("manifest_key", "")

        def work(name: str) -> None:
            self.plans[name] = self.sessions[name].plan(self._declared(name), key)
            self.reporter.node_state(name, "planned")

        self.each([name for name in self.chosen if name in self.sessions], work)
        return Plan(
            tuple(
                self.plans.get(name, NodePlan(name, error=self.errors.get(name, "")))
                for name in self.chosen
            )
        )

    def _declared(self, name: str) -> Declared:
        context = Context(self.cluster, self.nodes[name], self.facts, self.secrets)
        try:
            return declare(self.roles, context)
        except ValueError as error:
            raise PracticumError(str(error)) from error

    def apply(self, plan: Plan) -> Result:
        """Carry out what was planned. Nodes whose plan has an error are left as they are."""
        started = time.monotonic()
        ends: dict[str, float] = {}
        for part in plan.nodes:
            if part.error:
                self.errors[part.node] = part.error
        work = {part.node: part for part in plan.nodes if part.pending and not part.error}
        who = origin()
        self.each(work, lambda name: self.sessions[name].begin(who))
        for stage in _in_order(work.values()):
            if stage == REMOVALS[1]:
                self._keep_serving(work)
            names = [n for n, part in work.items() if stage in part.stages and n in self._alive]

            def step(name: str, stage: str = stage) -> None:
                if self.sessions[name].stage(stage):
                    self._follow(name)
                ends[name] = time.monotonic()

            self.each(names, step)
            if stage == "network":  # where a node went is where it is found next time
                self._remember(remembered(self.base))
        self.each([name for name in work if name in self._alive], self._finish)
        return Result(
            tuple(self._result(name, ends.get(name, started) - started) for name in self.chosen),
            plan,
        )

    def _keep_serving(self, work: Mapping[str, NodePlan]) -> None:
        """A node that failed before it let go of its file server may still write there."""
        first, last = REMOVALS
        stuck = [n for n, part in work.items() if first in part.stages and n in self.errors]
        waiting = [n for n, part in work.items() if last in part.stages and n in self._alive]
        for name in waiting if stuck else []:
            text = (
                f"nothing was taken away from {name}: {fold(stuck)} failed, and may still have "
                "mounted what it serves; mend that and apply again"
            )
            self._failed(name, PracticumError(text))

    def _follow(self, name: str) -> None:
        """The node's network has changed: reach it anew, and go on there."""
        session = self.sessions[name]
        declared = self._declared(name)
        target = ssh_target(self.cluster, self.nodes[name], self.base)
        self.facts[name] = moving.follow(session, target, declared, self.cluster.network.confirm)
        part = session.plan(declared, self.secrets.get("manifest_key", ""))
        if part.error:
            raise PracticumError(part.error)
        session.begin(origin())

    @property
    def _alive(self) -> set[str]:
        return {name for name in self.sessions if name not in self.errors}

    def _finish(self, name: str) -> None:
        self.sessions[name].finish()
        self.reporter.node_state(name, "done")

    def _result(self, name: str, seconds: float) -> NodeResult:
        changes = self.made.get(name, [])
        return NodeResult(
            node=name,
            changed=len(changes),
            error=self.errors.get(name, ""),
            seconds=round(seconds, 3),
            changes=tuple(changes),
        )


def _in_order(parts: Iterable[NodePlan]) -> list[str]:
    """Stages that any node has work in, in the order in which all run."""
    present = {stage for part in parts for stage in part.stages}
    return [stage for stage in (*STAGES, *REMOVALS) if stage in present]


def plan(
    cluster: Cluster,
    roles: Sequence[Role],
    secrets: Mapping[str, str],
    *,
    base: Path,
    limit: Collection[str] = (),
    widen: bool = False,
    reporter: Reporter,
) -> Plan:
    """What an apply would change; nothing is changed on any node.

    ``base`` is the folder of cluster.toml. UsageError for a node in ``limit`` that isn't there;
    what goes wrong with a node is in its part of the plan. ``widen``: a limit that names a node
    which is new is one no longer.
    """
    with Cohort(cluster, roles, secrets, base, limit, reporter, widen) as cohort:
        cohort.connect(install_python=False)
        return cohort.plan()


def apply(
    cluster: Cluster,
    roles: Sequence[Role],
    secrets: Mapping[str, str],
    *,
    base: Path,
    limit: Collection[str] = (),
    confirm: Callable[[Plan], bool],
    widen: bool = False,
    reporter: Reporter,
) -> Result:
    """Plan, ask, and carry out. ``confirm`` gets the plan if it has changes.

    On a node without a whole Python 3, python3 is installed before there can be a plan.
    """
    with Cohort(cluster, roles, secrets, base, limit, reporter, widen) as cohort:
        cohort.connect(install_python=True)
        planned = cohort.plan()
        agreed = planned.pending == 0 or confirm(planned)
        if not agreed or planned.pending == 0:
            nodes = tuple(NodeResult(part.node, error=part.error) for part in planned.nodes)
            return Result(nodes, planned, confirmed=agreed)
        return cohort.apply(planned)


def apply_image(
    root: Path, declared: Declared, reporter: Reporter, manifest_key: str = ""
) -> NodeResult:
    """Carry out a declaration in the folder of a disk image, as far as it is for images."""
    return apply_target(image_target(root), declared, reporter, manifest_key)


def apply_target(
    target: Target, declared: Declared, reporter: Reporter, manifest_key: str = ""
) -> NodeResult:
    """Plan and carry out on one target, without asking."""
    started = time.monotonic()
    session = Session(target, reporter)
    error = ""
    try:
        session.open()
        part = session.plan(declared, manifest_key)
        error = part.error
        if not error:
            session.begin(origin())
            for stage in part.stages:
                session.stage(stage)
            session.finish()
    except PracticumError as problem:
        error = str(problem)
    finally:
        session.close()
    seconds = round(time.monotonic() - started, 3)
    changes = tuple(session.changes)
    return NodeResult(session.name, len(changes), error, seconds, changes)
