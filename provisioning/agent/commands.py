"""Commands with a check, and waiting for another machine's port."""

from __future__ import annotations

import socket
import time
from typing import Any

from provisioning.agent.host import AgentError, CannotStartError, Job
from provisioning.agent.work import Change, Run, Wire, Work

MAX_AT_ONCE = 8


class Checks:
    """Checks of commands, started together while planning: they change nothing."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job | None] = {}

    def start(self, run: Run, wires: list[Wire]) -> None:
        for wire in wires[:MAX_AT_ONCE]:
            self._jobs[wire["key"]] = _start(run, wire)

    def needed(self, run: Run, wire: Wire) -> bool:
        """Whether the check says that there is something to do."""
        key = wire["key"]
        job = self._jobs.pop(key) if key in self._jobs else _start(run, wire)
        if job is None:
            return True
        try:
            return job.wait(wire["check_timeout"]).code != 0
        except AgentError:
            return True  # what hangs is not in order

    def stop(self) -> None:
        """Wait for checks that nobody asked for after all."""
        for job in self._jobs.values():
            if job is not None:
                try:
                    job.wait(1)
                except AgentError:
                    continue
        self._jobs.clear()


def _start(run: Run, wire: Wire) -> Job | None:
    try:
        return run.host.start(wire["check"], None, dict(wire["env"]), wire["user"])
    except CannotStartError:
        return None


class CommandUnit:
    def __init__(self, wire: Wire, checks: Checks) -> None:
        self.wire = wire
        self.members = [wire]
        self.checks = checks

    @property
    def note(self) -> str:
        return f"run:{self.wire['id']}"

    def examine(self, run: Run) -> Work | None:
        wire = self.wire
        noted = self.note in run.notes.notes
        if wire["on_notify"] or not wire["check"]:
            if not noted:
                return None
        elif not noted and not self._touched(run) and not self.checks.needed(run, wire):
            return None
        summary = wire["summary"] or " ".join(wire["run"])
        if noted:
            sources = ", ".join(run.notes.notes[self.note])
            summary += f" (changed: {sources})"
        return Work(
            [Change(wire["key"], "run", summary)],
            lambda: self._do(run),
            lambda: run.notes.drop([self.note], save=False),
            wire["notify"],
        )

    def _touched(self, run: Run) -> bool:
        """While planning: the check reads or is a file that this very run will change."""
        return any(word in run.ahead.paths for word in self.wire["check"])

    def _do(self, run: Run) -> None:
        wire = self.wire
        stdin = wire["stdin"].encode() if wire["stdin"] else None
        outcome = run.host.run(wire["run"], stdin, wire["timeout"], dict(wire["env"]), wire["user"])
        if outcome.code != 0:
            raise AgentError(
                f"{wire['run'][0]} ended with status {outcome.code}:\n{outcome.tail()}"
            )
        run.notes.drop([self.note])

    @staticmethod
    def entry(_run: Run, wire: Wire) -> dict[str, Any]:
        return {"id": wire["id"]}


def wait_port(run: Run, wire: Wire) -> None:
    """Until ``host:port`` accepts a connection, at most ``timeout`` seconds."""
    host, port = wire["host"], wire["port"]
    end = time.monotonic() + wire["timeout"]
    told = False
    while True:
        try:
            socket.create_connection((host, port), timeout=3).close()
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            return
        if time.monotonic() > end:
            raise AgentError(
                f"{host} does not answer on port {port} after {wire['timeout']} s ({reason}): "
                "look at the service there, then apply again"
            )
        if not told:
            run.tell(f"waiting for {host}:{port}")
            told = True
        time.sleep(0.1)
