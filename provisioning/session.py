"""One node's agent, from hello to bye: the client's side of its protocol."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping
from typing import Any

from cluster.errors import PracticumError
from provisioning.facts import ASKED_PACKAGES, Facts
from provisioning.planning import Change, NodePlan
from provisioning.report import Reporter
from provisioning.resources import Declared
from provisioning.ssh import SSHTarget
from provisioning.transport import Channel, Message, NoPythonError, Target, TransportError

FACTS_SECONDS = 60
PLAN_SECONDS = 600  # checks of commands have limits of their own
# Above the longest limit of a single command on the node: apt's hour.
STAGE_SECONDS = 2 * 3600
PYTHON_SECONDS = 1800


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
        self.managed = True  # whether practicum has been there before

    def open(self) -> Facts:
        """Start the agent. TransportError or AgentRefusalError say why it cannot be."""
        self.reporter.node_state(self.name, "connecting")
        self._channel = self.target.open()
        answer = self.ask({"op": "hello", "packages": list(ASKED_PACKAGES)}, FACTS_SECONDS)
        self.managed = answer["managed"]
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

    def stage(self, name: str) -> bool:
        """Whether the node's network is about to change: then the agent has ended."""
        self.reporter.node_state(self.name, f"stage {name}")
        answer = self.ask({"op": "stage", "name": name}, STAGE_SECONDS)
        return bool(answer.get("moving"))

    def confirm(self, gateway: str) -> bool:
        """Tell the node to keep its new network settings; False while it has the old ones."""
        answer = self.ask({"op": "confirm", "gateway": gateway}, FACTS_SECONDS)
        return bool(answer["done"])

    def taken_back(self) -> bool:
        """Whether no change of the node's network waits to be confirmed."""
        return not self.ask({"op": "pending"}, FACTS_SECONDS)["pending"]

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
