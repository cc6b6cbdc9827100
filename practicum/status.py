"""`practicum status`: one screen that says whether all is well."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from practicum.options import DEFAULT_FILE, File, Json

if TYPE_CHECKING:
    from rich.table import Table

    from cluster.node_words import NodeView
    from provisioning.health import Finding, Look, Picture

FOLD = 16  # more nodes than this: those that are well share a row


def status(file: File = DEFAULT_FILE, json: Json = False) -> None:
    """Tell how the cluster is: nodes, services, trust, clocks, storage, Slurm, the hub.

    Exit codes: 0 all is well, 1 something is wrong (said in a sentence each).
    """
    from practicum.converge import read
    from practicum.report import reporter
    from practicum.rooms import CHECKS, ROLES
    from provisioning.health import Level, judge
    from provisioning.health.gather import gather

    cluster, secrets = read(file)
    with reporter(json=json) as report:
        picture = gather(
            cluster, ROLES, CHECKS, secrets, base=file.resolve().parent, reporter=report.quiet()
        )
    findings = judge(CHECKS, picture)
    wrong = any(finding.level == Level.BAD for finding in findings)
    if json:
        typer.echo(as_json(picture, findings))
    else:
        show(picture, findings)
    raise typer.Exit(1 if wrong else 0)


def as_json(picture: Picture, findings: Sequence[Finding]) -> str:
    """One object: ok, the nodes' figures, and every finding."""
    from provisioning.health import Level
    from provisioning.health.machine import clock_offset

    views = _views(picture)
    nodes = []
    for node in picture.cluster.machines:
        look = picture.looks.get(node.name)
        view = views.get(node.name)
        entry: dict[str, object] = {
            "node": node.name,
            "address": node.address,
            "roles": sorted(node.roles),
            "answers": look is not None,
            "slurm": view.state.value if view else None,
        }
        if look is not None:
            entry |= {
                "system": f"{look.facts.os_id} {look.facts.os_codename}",
                "uptime": round(look.uptime),
                "load": round(look.load, 2),
                "memory_mb": look.memory_mb,
                "memory_free_mb": look.memory_free_mb,
                "disk_used": round(max((disk.used for disk in look.disks), default=0.0), 3),
                "services": {name: look.units[name].active for name in look.services},
                "clock_offset": round(clock_offset(picture, node.name), 3),
            }
        nodes.append(entry)
    told = [
        {"node": one.node, "topic": one.topic, "level": one.level.value, "text": one.text}
        for one in findings
    ]
    wrong = any(finding.level == Level.BAD for finding in findings)
    return json_module.dumps({"ok": not wrong, "nodes": nodes, "findings": told})


def show(picture: Picture, findings: Sequence[Finding]) -> None:
    """A row for each node, then the sentences, the worst last: that is where one looks."""
    import sys

    from rich.console import Console
    from rich.text import Text

    from provisioning.health import Level

    width = None if sys.stdout.isatty() else 120
    console = Console(file=sys.stdout, highlight=False, width=width)
    console.print(_table(picture, findings))
    styles = {Level.OK: ("✓", "green"), Level.WARN: ("!", "yellow"), Level.BAD: ("✗", "red")}
    for finding in reversed(findings):
        sign, style = styles[finding.level]
        row = Text(f"{sign} ", style=style)
        row.append(finding.text, style="" if finding.level == Level.OK else style)
        console.print(row, soft_wrap=True)
    bad = sum(finding.level == Level.BAD for finding in findings)
    end = "All is well." if not bad else f"{bad} thing{'s' if bad > 1 else ''} to mend."
    console.print(Text(end, style="bold"))


def _table(picture: Picture, findings: Sequence[Finding]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from provisioning.health import Level

    table = Table(box=None, pad_edge=False, header_style="dim")
    for title, justify in (
        ("NODE", "left"), ("SYSTEM", "left"), ("UP", "right"), ("LOAD", "right"),
        ("MEMORY FREE", "right"), ("DISK", "right"), ("SERVICES", "right"), ("CLOCK", "right"),
        ("SLURM", "left"),
    ):  # fmt: skip
        table.add_column(title, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    wrong = {finding.node for finding in findings if finding.level == Level.BAD}
    for name, cells in _rows(picture, wrong):
        style = "red" if name in wrong else ""
        table.add_row(*(Text(cell, style=style) for cell in cells))
    return table


def _rows(picture: Picture, wrong: set[str]) -> Iterator[tuple[str, list[str]]]:
    """(name, cells); with many nodes those that are well and alike share a row."""
    from cluster.hostlist import fold

    views = _views(picture)
    states = {name: view.state.value for name, view in views.items()}
    names = [node.name for node in picture.cluster.machines]
    alike: dict[tuple[str, str, int], list[str]] = {}
    for name in names:
        look = picture.looks.get(name)
        if look is None:
            yield name, [name, "no answer", "", "", "", "", "", "", states.get(name, "")]
        elif len(names) <= FOLD or name in wrong:
            yield name, [name, *_cells(picture, [look]), *_ends(picture, [name], states)]
        else:
            key = (_system(look), states.get(name, ""), len(look.services))
            alike.setdefault(key, []).append(name)
    for group in alike.values():
        looks = [picture.looks[name] for name in group]
        yield group[0], [fold(group), *_cells(picture, looks), *_ends(picture, group, states)]


def _cells(_picture: Picture, looks: Sequence[Look]) -> list[str]:
    """System, uptime, load, memory and disk: of several nodes the most pressing values."""
    free = min(looks, key=lambda look: look.memory_free_mb)
    disk = max((disk.used for look in looks for disk in look.disks), default=0.0)
    return [
        _system(looks[0]),
        _span(min(look.uptime for look in looks)),
        f"{max(look.load for look in looks):.2f}",
        f"{free.memory_free_mb / 1024:.1f} of {free.memory_mb / 1024:.1f} GB",
        f"{disk:.0%}",
    ]


def _ends(picture: Picture, names: Sequence[str], states: dict[str, str]) -> list[str]:
    """Services, clock and Slurm's state."""
    from provisioning.health.machine import clock_offset

    looks = [picture.looks[name] for name in names]
    offset = max((clock_offset(picture, name) for name in names), key=abs)
    running = min(sum(look.runs(name) for name in look.services) for look in looks)
    total = len(looks[0].services)
    clock = f"{offset:+.1f} s" if abs(offset) >= 0.05 else "0.0 s"
    return [f"{running}/{total}", clock, states.get(names[0], "-")]


def _views(picture: Picture) -> dict[str, NodeView]:
    from provisioning.health.scheduler import node_views

    views = node_views(picture)
    return {} if isinstance(views, str) else views


def _system(look: Look) -> str:
    return f"{look.facts.os_id} {look.facts.os_codename}".strip() or "?"


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} d"
