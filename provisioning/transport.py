"""Ways to a system: what they have in common, and those without a network: this machine itself,
a disk image's folder. SSH is in :mod:`provisioning.ssh`.

Each opens a channel to an agent that has just been started there. One channel is one process
on the node, for a whole session; what is sent and received are messages (dicts).
"""

from __future__ import annotations

import json
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cluster.errors import PracticumError
from provisioning import payload

MESSAGE_LIMIT = 64 << 20  # bytes; no honest answer comes near it

Message = dict[str, Any]


class TransportError(PracticumError):
    """A node cannot be reached, or the connection to it ended."""


class NoPythonError(TransportError):
    """The node has no Python, or not all of its standard library (python3-minimal)."""


class Channel(Protocol):
    """Messages to and from one agent."""

    def send(self, message: Mapping[str, Any]) -> None:
        """TransportError when the connection has ended."""

    def receive(self, timeout: float) -> Message:
        """The next message; TransportError after ``timeout`` seconds or at the end."""

    def close(self) -> None:
        """End the session. Closing twice is fine."""


class Target(Protocol):
    @property
    def name(self) -> str:
        """For people."""

    def open(self) -> Channel:
        """Start an agent there. TransportError says in one sentence why it cannot be."""


class Lines:
    """Bytes in, messages out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) > MESSAGE_LIMIT:
            raise TransportError("the node sends more than any answer should have")

    def next(self) -> Message | None:
        end = self._buffer.find(b"\n")
        if end < 0:
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return dict(json.loads(line))
        except (ValueError, TypeError) as error:
            text = line[:80].decode("utf-8", "replace")
            raise TransportError(f"the node answers {text!r}, which is no message") from error


def encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


@dataclass(frozen=True)
class LocalTarget:
    """This machine, or (``root``) a folder that holds a system: by a process of our own."""

    name: str = "localhost"
    root: str = ""
    image: bool = False

    def open(self) -> Channel:
        program, blob = payload.build({"root": self.root, "image": self.image})
        return ProcessChannel(self.name, [sys.executable, "-ISc", program], blob)


def image_target(root: Path) -> LocalTarget:
    """A disk image's folder."""
    return LocalTarget(name=str(root), root=str(root.resolve()), image=True)


class ProcessChannel:
    """An agent that is a child of this process."""

    def __init__(self, name: str, command: list[str], blob: bytes) -> None:
        self._name = name
        self._lines = Lines()
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self._write(blob)

    @property
    def pid(self) -> int:
        return self._process.pid

    def _write(self, data: bytes) -> None:
        stream = self._process.stdin
        if stream is None:
            raise TransportError(f"the agent for {self._name} has no input")
        view = memoryview(data)
        try:
            while view:
                view = view[stream.write(view) or 0 :]
        except OSError as error:
            raise TransportError(f"the agent for {self._name} has ended") from error

    def send(self, message: Mapping[str, Any]) -> None:
        self._write(encode(message))

    def receive(self, timeout: float) -> Message:
        stream = self._process.stdout
        if stream is None:
            raise TransportError(f"the agent for {self._name} has no output")
        end = time.monotonic() + timeout
        while True:
            message = self._lines.next()
            if message is not None:
                return message
            left = max(0.0, end - time.monotonic())
            if not select.select([stream], [], [], left)[0]:
                raise TransportError(f"{self._name} has said nothing for {timeout:.0f} s")
            data = stream.read(1 << 20)
            if not data:
                raise TransportError(f"the agent for {self._name} has ended")
            self._lines.feed(data)

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
