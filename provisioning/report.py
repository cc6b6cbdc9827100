"""How long work tells what it is doing. Calls come from several threads at once."""

from __future__ import annotations

import sys
import threading
from typing import Protocol


class Reporter(Protocol):
    """Whoever shows progress: a live table, plain lines, or nobody."""

    def node_state(self, node: str, state: str) -> None:
        """A node came to a new state ("connecting", "stage base", "done", "failed")."""

    def step(self, node: str, text: str) -> None:
        """A node begins or is at something."""

    def line(self, text: str) -> None:
        """Something that belongs to no node."""


class Silent:
    """Says nothing."""

    def node_state(self, node: str, state: str) -> None:
        """Not told."""

    def step(self, node: str, text: str) -> None:
        """Not told."""

    def line(self, text: str) -> None:
        """Not told."""


class Plain:
    """One line for each event on standard error."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def node_state(self, node: str, state: str) -> None:
        self.line(f"{node}: {state}")

    def step(self, node: str, text: str) -> None:
        self.line(f"{node}: {text}")

    def line(self, text: str) -> None:
        with self._lock:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()
