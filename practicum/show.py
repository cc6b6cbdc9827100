"""Plans and results, for people (coloured on a terminal) and for programs (JSON)."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from provisioning.engine import Change, NodePlan, Plan, Result

SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "remove": ("-", "red"),
    "run": ("!", "cyan"),
    "list": ("·", "dim"),
}
SHORT = 20  # lines of one diff, unless all is asked for


def plan(made: Plan, *, whole: bool = False, to_stderr: bool = False) -> None:
    """Each node's changes; diffs of what is updated, with ``whole`` of everything."""
    console = _console(to_stderr=to_stderr)
    for node in made.nodes:
        for row in _node(node, whole=whole):
            console.print(row, soft_wrap=True)
    failed = [node.node for node in made.nodes if node.error]
    if made.pending:
        nodes = sum(1 for node in made.nodes if _pending(node))
        console.print(Text(f"{_count(made.pending, 'change')} on {_count(nodes, 'node')}."))
    elif not failed:
        console.print(Text(f"No changes: {_count(len(made.nodes), 'node')} as declared."))
    if failed:
        console.print(Text(f"Not asked: {', '.join(failed)} (see above)", style="red"))


def result(done: Result) -> None:
    """One line for each node."""
    console = _console()
    width = max((len(node.node) for node in done.nodes), default=0)
    for node in done.nodes:
        row = Text(f"{node.node:<{width}}  ")
        if node.error:
            row.append(f"failed: {node.error}", style="red")
        elif node.changed:
            row.append(_count(node.changed, "change"), style="green")
            row.append(f" in {node.seconds:.1f} s")
        else:
            row.append("no changes", style="dim")
        console.print(row, soft_wrap=True)
    if not any(node.error or node.changed for node in done.nodes):
        console.print(Text("No changes."))
    if any(node.error for node in done.nodes):
        console.print(Text("Mend that and run practicum apply again: it goes on where it was."))


def plan_json(made: Plan) -> str:
    """One object: pending, and for each node its changes or its error."""
    nodes = [
        {
            "node": node.node,
            "error": node.error,
            "changes": [
                {
                    "key": change.key,
                    "action": str(change.action),
                    "summary": change.summary,
                    "diff": change.diff,
                }
                for change in node.changes
            ],
        }
        for node in made.nodes
    ]
    return json.dumps({"pending": made.pending, "nodes": nodes})


def result_json(done: Result) -> str:
    """One object: for each node how many changes, its error, and how long it took."""
    nodes = [
        {
            "node": node.node,
            "changed": node.changed,
            "error": node.error,
            "seconds": round(node.seconds, 3),
        }
        for node in done.nodes
    ]
    return json.dumps({"nodes": nodes})


def _console(*, to_stderr: bool = False) -> Console:
    return Console(file=sys.stderr if to_stderr else sys.stdout, highlight=False)


def _pending(node: NodePlan) -> int:
    return sum(1 for change in node.changes if str(change.action) != "list")


def _node(node: NodePlan, *, whole: bool) -> Iterator[Text]:
    if node.error:
        yield Text(f"{node.node}: {node.error}", style="red")
        return
    if not node.changes:
        return
    yield Text(f"{node.node}: {_count(_pending(node), 'change')}", style="bold")
    for change in node.changes:
        sign, style = SIGNS.get(str(change.action), ("?", "red"))
        line = Text(f"  {sign} ", style=style)
        line.append(change.summary or change.key)
        yield line
        if change.diff and (whole or str(change.action) == "update"):
            yield from _diff(change, whole=whole)


def _diff(change: Change, *, whole: bool) -> Iterator[Text]:
    lines = change.diff.splitlines()
    # The two lines with the file's name say what the summary just said.
    lines = [line for line in lines if not line.startswith(("--- ", "+++ "))]
    shown = lines if whole else lines[:SHORT]
    for line in shown:
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "dim")
        yield Text(f"      {_plain(line)}", style=style)
    if len(lines) > len(shown):
        more = _count(len(lines) - len(shown), "more line")
        yield Text(f"      ... {more}: --diff shows them", style="dim")


def _plain(text: str) -> str:
    """A node's file may hold escape sequences: they must not reach this terminal."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text)


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
