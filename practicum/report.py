"""Progress for the person who waits: a live table on a terminal, plain lines anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


class Plain:
    """One line for each thing that happens; what provisioning.report.Reporter asks for."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._lock = threading.Lock()
        self._states: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.pause()

    def node_state(self, node: str, state: str) -> None:
        with self._lock:
            if self._states.get(node) == state:
                return
            self._states[node] = state
        self.line(f"{node}: {state}")

    def step(self, node: str, text: str) -> None:
        self.line(f"{node}: {text}")

    def line(self, text: str) -> None:
        with self._lock:
            print(text, file=self._stream, flush=True)

    def pause(self) -> None:
        """Leave the terminal to others (a question) until the next report."""

    def quiet(self) -> Plain:
        """For what takes a few seconds: a live table shows it, plain lines would only be noise."""
        return _Quiet(self)


class _Quiet(Plain):
    """Only lines that belong to no node."""

    def __init__(self, loud: Plain) -> None:
        super().__init__()
        self._loud = loud

    def node_state(self, node: str, state: str) -> None:
        """Not told."""

    def step(self, node: str, text: str) -> None:
        """Not told."""

    def line(self, text: str) -> None:
        self._loud.line(text)


class LiveTable(Plain):
    """A row for each node: what it is doing, and for how long."""

    def __init__(self, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        from rich.console import Console

        self._console = Console(file=self._stream, highlight=False)
        self._rows: dict[str, tuple[str, str, float]] = {}
        self._live: Live | None = None

    def node_state(self, node: str, state: str) -> None:
        self._row(node, state, "")

    def step(self, node: str, text: str) -> None:
        state = self._rows[node][0] if node in self._rows else ""
        self._row(node, state, text)

    def line(self, text: str) -> None:
        from rich.text import Text

        with self._lock:
            self._console.print(Text(text))

    def pause(self) -> None:
        with self._lock:
            live, self._live = self._live, None
        if live:
            live.stop()
        with self._lock:
            self._rows.clear()

    def quiet(self) -> Plain:
        return self

    def _row(self, node: str, state: str, text: str) -> None:
        from rich.live import Live

        with self._lock:
            self._rows[node] = (state, text, time.monotonic())
            starting = self._live is None
            if starting:
                self._live = Live(
                    console=self._console,
                    get_renderable=self._table,
                    refresh_per_second=8,
                    transient=True,
                    redirect_stdout=False,
                    redirect_stderr=False,
                )
            live = self._live
        if starting and live:
            live.start()

    def _table(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        now = time.monotonic()
        for name, (state, text, since) in fitting(dict(self._rows), self._console.height - 2):
            waited = now - since
            clock = f"{waited:.0f} s" if since and waited >= 2 else ""
            style = "red" if state == "failed" else "cyan"
            table.add_row(
                Text(name, style="bold", overflow="ellipsis", no_wrap=True),
                Text(state, style=style, no_wrap=True),
                Text(text, overflow="ellipsis", no_wrap=True),
                Text(clock, style="dim", no_wrap=True),
            )
        return table


Row = tuple[str, str, float]  # state, what it is at, since when (0: of several nodes)
AT_REST = ("connecting", "planning", "planned", "done")


def fitting(rows: Mapping[str, Row], room: int) -> list[tuple[str, Row]]:
    """Rows for a screen of ``room`` lines: one a node if there is room, else nodes at rest share a
    row for each state, then those that were heard of longest ago."""
    from cluster.hostlist import fold

    whole = sorted(rows.items())
    if len(whole) <= max(room, 1):
        return whole
    states = {row[0] for row in rows.values()}
    # those that have something to tell, the latest first; failures before all
    busy = sorted(
        ((name, row) for name, row in whole if row[0] not in AT_REST),
        key=lambda item: (item[1][0] != "failed", -item[1][2]),
    )
    shown = dict(busy[: max(0, room - len(states))])
    groups: dict[str, list[str]] = {}
    for name, row in whole:
        if name not in shown:
            groups.setdefault(row[0], []).append(name)
    folded = [
        (fold(names), (state, f"{len(names)} nodes" if len(names) > 1 else "", 0.0))
        for state, names in groups.items()
    ]
    return [*sorted(shown.items()), *folded]


def reporter(*, json: bool = False) -> Plain:
    """The one that suits stdout; with ``json`` stdout is a program's, so stderr."""
    stream = sys.stderr if json else sys.stdout
    table = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    return LiveTable(stream) if table else Plain(stream)
