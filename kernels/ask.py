"""The login node's kernel desk, asked over SSH (:mod:`kernels.node.desk` answers)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from cluster.model import Cluster, NodeRole
from kernels.role import ROOM
from provisioning.remote import Remote
from provisioning.ssh import ssh_target

SILENCE = 300  # seconds without a sign of life; while it waits for a job there is one every 3 s


class Desk:
    """Each question is a connection of its own."""

    def __init__(self, cluster: Cluster, base: Path) -> None:
        self.node = cluster.first(NodeRole.LOGIN)
        self._envs = cluster.storage.envs
        self._target = ssh_target(cluster, self.node, base)

    def order(
        self, action: str, values: Mapping[str, Any], say: Callable[[str], None]
    ) -> dict[str, Any]:
        """The answer. PracticumError with the node's own sentence, or that it does not answer."""
        answer: dict[str, Any] = {}

        def hear(line: str) -> None:
            message = json.loads(line)
            if "say" in message:
                if message["say"]:
                    say(str(message["say"]))
            else:
                answer.update(message)

        text = json.dumps({**values, "envs": self._envs})
        with Remote(self._target) as remote:
            try:
                done = remote.stream(
                    ["python3", "-I", ROOM, action], hear, stdin=text, timeout=SILENCE
                )
            except ValueError as error:
                raise PracticumError(
                    f"{self.node.name} gave an answer that cannot be read: {error}"
                ) from None
        if "done" in answer:
            found: dict[str, Any] = answer["done"]
            return found
        if "error" in answer:
            raise PracticumError(str(answer["error"]))
        if "can't find '__main__'" in done.err or "No such file" in done.err:
            raise PracticumError(
                f"{self.node.name} is not set up for kernels yet: run practicum apply"
            )
        raise PracticumError(f"{self.node.name} did not finish {action}: {done.said}")
