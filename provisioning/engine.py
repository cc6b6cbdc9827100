"""Plan and apply on a whole cluster: facts from every node, resources from roles, a plan from
every agent, and then stage after stage, all nodes at once.

Each node has one connection and one agent process from its facts to its last stage. A stage
begins when the one before is finished on every node that had work in it; a node that fails
stops there, the others go on.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError, UsageError
from cluster.model import Cluster, Node
from provisioning.facts import ASKED_PACKAGES, Facts
from provisioning.planning import Change, NodePlan, NodeResult, Plan, Result
from provisioning.report import Reporter
from provisioning.resources import Declared
from provisioning.role import STAGES, Context, Role, declare
from provisioning.transport import (
    Channel,
    Message,
    NoPythonError,
    SSHTarget,
    Target,
    TransportError,
    image_target,
)

THREADS = 32
FACTS_SECONDS = 60
PLAN_SECONDS = 600  # checks of commands have limits of their own
# Above the longest limit of a single command on the node: apt's hour.
STAGE_SECONDS = 2 * 3600
PING_SECONDS = 30
PYTHON_SECONDS = 1800
REMEMBERED = Path("state/facts.json")  # beside cluster.toml

__all__ = ["Change", "NodePlan", "NodeResult", "Plan", "Result", "apply", "apply_image", "plan"]


class AgentRefusalError(PracticumError):
    """A sentence that the agent on a node answered with."""


class Session:
    """One node's agent, from hello to bye."""

    def __init__(self, target: Target, reporter: Reporter) -> None:
        self.name = target.name
        self.target = target
        self.reporter = reporter
        self.changes: list[Change] = []
        self._channel: Channel | None = None
        self.busy = False

    def open(self) -> Facts:
        """Start the agent. TransportError or AgentRefusalError say why it cannot be."""
        self.reporter.node_state(self.name, "connecting")
        self._channel = self.target.open()
        answer = self.ask({"op": "hello", "packages": list(ASKED_PACKAGES)}, FACTS_SECONDS)
        return Facts.from_wire(answer["facts"])

    def plan(self, declared: Declared, key: str) -> NodePlan:
        self.reporter.node_state(self.name, "planning")
        stages = [
            [name, [resource.to_wire() for resource in resources]]
            for name, resources in declared.stages
        ]
        answer = self.ask({"op": "plan", "stages": stages, "key": key}, PLAN_SECONDS)
        return NodePlan(
            node=self.name,
            changes=tuple(Change.from_wire(wire) for wire in answer["changes"]),
            same=answer["same"],
            error="; ".join(answer["errors"]),
        )

    def begin(self, origin: str) -> None:
        self.ask({"op": "begin", "from": origin}, FACTS_SECONDS)

    def stage(self, name: str) -> None:
        self.reporter.node_state(self.name, f"stage {name}")
        self.ask({"op": "stage", "name": name}, STAGE_SECONDS)

    def finish(self) -> None:
        self.ask({"op": "finish"}, FACTS_SECONDS)

    def ask(self, message: Mapping[str, Any], timeout: float) -> Message:
        """Send one message and hear events until its answer."""
        channel = self._channel
        if channel is None:
            raise TransportError(f"{self.name} is not connected")
        self.busy = True
        try:
            channel.send(message)
            while True:
                answer = channel.receive(timeout)
                if answer["event"] == "step":
                    self.reporter.step(self.name, answer["text"])
                elif answer["event"] == "changed":
                    self.changes.append(Change.from_wire(answer))
                elif answer["event"] == "error":
                    raise AgentRefusalError(answer["text"] + _trace(answer))
                else:
                    return answer
        finally:
            self.busy = False

    def ping(self) -> None:
        """Tell an agent that waits between stages that we are still here."""
        if self._channel is not None and not self.busy:
            try:
                self._channel.send({"op": "ping"})
            except TransportError:
                return  # the next question will say so

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None


def _trace(answer: Message) -> str:
    return f"\n{answer['trace']}" if answer.get("trace") else ""


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
    ) -> None:
        self.cluster = cluster
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

        def work(name: str) -> None:
            session = Session(ssh_target(self.cluster, self.nodes[name], self.base), self.reporter)
            self.sessions[name] = session
            self.made[name] = session.changes
            try:
                self.facts[name] = session.open()
            except NoPythonError:
                if not install_python or name not in self.chosen:
                    raise
                session.close()
                put_python(session.target, self.reporter)
                self.facts[name] = session.open()

        self.each(self.nodes, work)
        known = remembered(self.base)
        fresh = {name: asdict(facts) for name, facts in self.facts.items()}
        if any(known.get(name) != facts for name, facts in fresh.items()):
            self._remember({**known, **fresh})
        for name in self.nodes:
            if name not in self.facts and name in known:
                self.facts[name] = Facts.from_wire(known[name])
                self.reporter.line(f"{name} does not answer: its last known facts are used")

    def _remember(self, known: Mapping[str, Any]) -> None:
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
            raise PracticumError(f"{name}: {error}") from error

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
            names = [n for n, part in work.items() if stage in part.stages and n in self._alive]

            def step(name: str, stage: str = stage) -> None:
                self.sessions[name].stage(stage)
                ends[name] = time.monotonic()

            self.each(names, step)
        self.each([name for name in work if name in self._alive], self._finish)
        return Result(
            tuple(self._result(name, ends.get(name, started) - started) for name in self.chosen),
            plan,
        )

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
    return [stage for stage in (*STAGES, "removals") if stage in present]


def ssh_target(cluster: Cluster, node: Node, base: Path) -> SSHTarget:
    """How a node is reached. Paths in cluster.toml are relative to it."""
    ssh = cluster.ssh
    return SSHTarget(
        name=node.name,
        address=node.address,
        user=ssh.user,
        key=base / ssh.key,
        known_hosts=base / ssh.known_hosts,
        port=ssh.port,
        timeout=ssh.connect_timeout,
    )


def origin() -> str:
    """Who holds a lock, for others to read."""
    return f"{getpass.getuser()}@{socket.gethostname()} (process {os.getpid()})"


def put_python(target: Target, reporter: Reporter) -> None:
    """Install python3 by plain commands: an image with python3-minimal cannot run the agent."""
    if not isinstance(target, SSHTarget):
        raise NoPythonError(f"{target.name} has no complete Python 3: install its package python3")
    reporter.step(target.name, "installing python3, which the agent needs")
    env = "env DEBIAN_FRONTEND=noninteractive"
    for command in (
        f"{env} apt-get update -q",
        f"{env} apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 python3",
    ):
        status, said = target.run(target.rooted(command), PYTHON_SECONDS)
        if status != 0:
            last = "\n".join(said.splitlines()[-5:])
            raise NoPythonError(f"python3 cannot be installed on {target.name}:\n{last}")


def remembered(base: Path) -> dict[str, Any]:
    """Facts of earlier runs, so that a node that is switched off keeps its place in slurm.conf."""
    try:
        return dict(json.loads((base / REMEMBERED).read_text()))
    except (FileNotFoundError, ValueError):
        return {}


def remember(base: Path, known: Mapping[str, Any]) -> None:
    path = base / REMEMBERED
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dict(known), indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def plan(
    cluster: Cluster,
    roles: Sequence[Role],
    secrets: Mapping[str, str],
    *,
    base: Path,
    limit: Collection[str] = (),
    reporter: Reporter,
) -> Plan:
    """What an apply would change; nothing is changed on any node.

    ``base`` is the folder of cluster.toml. UsageError for a node in ``limit`` that isn't there;
    what goes wrong with a node is in its part of the plan.
    """
    with Cohort(cluster, roles, secrets, base, limit, reporter) as cohort:
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
    reporter: Reporter,
) -> Result:
    """Plan, ask, and carry out. ``confirm`` gets the plan if it has changes.

    On a node without a whole Python 3, python3 is installed before there can be a plan.
    """
    with Cohort(cluster, roles, secrets, base, limit, reporter) as cohort:
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
