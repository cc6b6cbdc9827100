"""Plans and results, for people (coloured on a terminal) and for programs (JSON)."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from cluster.hostlist import fold

if TYPE_CHECKING:
    from provisioning.engine import Change, NodePlan, NodeResult, Plan, Result

SIGNS = {
    "create": ("+", "green"),
    "update": ("~", "yellow"),
    "remove": ("-", "red"),
    "run": ("!", "cyan"),
    "list": ("·", "dim"),
}
SHORT = 20  # lines of one diff, unless all is asked for


def plan(
    made: Plan,
    *,
    whole: bool = False,
    to_stderr: bool = False,
    addresses: Mapping[str, str] | None = None,
) -> None:
    """Each node's changes; diffs of what is updated, with ``whole`` of everything.

    Nodes with the same changes are shown once: the same but for their own names and
    ``addresses``.
    """
    console = _console(to_stderr=to_stderr)
    for group in _alike(made.nodes, addresses or {}):
        for row in _node(group, whole=whole):
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
    """One line for each node, or for several with as many changes; failures last."""
    console = _console()
    groups: dict[int, list[NodeResult]] = {}
    for node in done.nodes:
        if not node.error:
            groups.setdefault(node.changed, []).append(node)
    names = {count: fold(node.node for node in group) for count, group in groups.items()}
    failed = [node for node in done.nodes if node.error]
    width = max((len(name) for name in [*names.values(), *(one.node for one in failed)]), default=0)
    for count, group in groups.items():
        row = Text(f"{names[count]:<{width}}  ")
        if count:
            each = " each" if len(group) > 1 else ""
            row.append(f"{_count(count, 'change')}{each}", style="green")
            row.append(f" in {max(node.seconds for node in group):.1f} s")
        else:
            row.append("no changes", style="dim")
        console.print(row, soft_wrap=True)
    for node in failed:
        row = Text(f"{node.node:<{width}}  ")
        row.append(f"failed: {node.error}", style="red")
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


def _alike(nodes: Sequence[NodePlan], addresses: Mapping[str, str]) -> list[list[NodePlan]]:
    """Nodes with the same changes together, in the order of the first of each."""
    groups: dict[object, list[NodePlan]] = {}
    for node in nodes:
        key: object = node.node if node.error else _without_own(node, addresses.get(node.node))
        groups.setdefault(key, []).append(node)
    return list(groups.values())


def _without_own(node: NodePlan, address: str | None) -> tuple[str, ...]:
    """Its changes as text, with its own name and address left out."""
    own = [re.escape(word) for word in (node.node, address) if word]
    pattern = re.compile(rf"(?<![\w.-])(?:{'|'.join(own)})(?![\w-])")
    return tuple(
        pattern.sub("\0", f"{change.action} {change.key}\n{change.summary}\n{change.diff}")
        for change in node.changes
    )


def _node(group: Sequence[NodePlan], *, whole: bool) -> Iterator[Text]:
    node = group[0]
    if node.error:
        yield Text(f"{node.node}: {node.error}", style="red")
        return
    if not node.changes:
        return
    each = f" each ({node.node}'s are shown)" if len(group) > 1 else ""
    name = fold(one.node for one in group)
    yield Text(f"{name}: {_count(_pending(node), 'change')}{each}", style="bold")
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
