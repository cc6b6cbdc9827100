"""Commands on a lab's nodes, over the lab's SSH."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from typing import Protocol

import pytest

from provisioning import lab as labs
from provisioning.lab import access

ATTEMPTS = 8
NOT_CONNECTED = 255  # ssh's own exit status
LAB = pytest.StashKey[labs.LabInfo]()  # whose journals a failure prints


class RunOn(Protocol):
    def __call__(
        self,
        node: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]: ...


def run_in(info: labs.LabInfo) -> RunOn:
    """Runs a command on a node of that lab in a login session; output as text, status not
    checked. TimeoutExpired after ``timeout`` seconds."""

    def run_on(
        node: str,
        argv: Sequence[str],
        *,
        user: str = "root",
        input: str | None = None,
        timeout: float = 120,
    ) -> subprocess.CompletedProcess[str]:
        command = access.ssh_command(info, node, argv, user=user)
        for attempt in range(ATTEMPTS):
            done = subprocess.run(
                command, input=input or "", text=True, capture_output=True, timeout=timeout,
                check=False,
            )  # fmt: skip
            # many connections at once on a slow machine: sshd's MaxStartups, nothing was run
            if done.returncode != NOT_CONNECTED or "kex_exchange_identification" not in done.stderr:
                break
            time.sleep(2 + attempt)
        return done

    return run_on
