"""Sixty nodes on one screen: the live table, the plan, the end of an apply."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from cluster.hostlist import expand
from cluster.model import Cluster
from practicum import show, status
from practicum.report import LiveTable, Row, fitting
from provisioning.facts import Facts
from provisioning.health import Finding, Level, Look, Picture
from provisioning.planning import Change, NodePlan, NodeResult, Plan, Result

NODES = expand("node[01-60]")


def rows(states: list[str]) -> dict[str, Row]:
    return {
        name: (states[index % len(states)], f"step {index}", 1.0 + index)
        for index, name in enumerate(NODES)
    }


@given(
    st.lists(
        st.sampled_from(["connecting", "planned", "stage base", "done", "failed"]), min_size=1
    ),
    st.integers(6, 70),
)
def test_the_table_fits_and_forgets_nobody(states: list[str], room: int) -> None:
    told = fitting(rows(states), room)
    assert len(told) <= room
    assert sorted(name for text, _ in told for name in expand(text)) == NODES


def test_failures_are_seen_one_by_one() -> None:
    states = ["stage base"] * 19 + ["failed"]
    told = fitting(rows(states), 12)
    assert [name for name, row in told if row[0] == "failed"] == ["node20", "node40", "node60"]


def test_drawn_on_a_terminal_of_24_lines() -> None:
    stream = io.StringIO()
    table = LiveTable(stream)
    table._console = Console(file=stream, width=80, height=24, force_terminal=True)
    table._rows = rows(["stage base", "done", "planned"])
    table._console.print(table._table())
    lines = stream.getvalue().rstrip("\n").split("\n")
    assert len(lines) <= 22
    assert "20 nodes" in stream.getvalue()


def change(name: str, text: str = "") -> Change:
    diff = f"--- /etc/hostname\n+++ /etc/hostname\n@@ -1 +1 @@\n-debian\n+{name}"
    return Change("file:/etc/hostname", "update", f"edit /etc/hostname {text}", diff, "base")


def test_equal_plans_are_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [NodePlan(name, (change(name),)) for name in NODES]
    parts[6] = NodePlan("node07", (change("node08"),))  # another node's name is a difference
    parts[7] = NodePlan("node08", error="node08 does not answer")
    show.plan(Plan(tuple(parts)))
    out = capsys.readouterr().out
    assert "node[01-06,09-60]: 1 change each (node01's are shown)" in out
    assert "node07: 1 change\n" in out
    assert "node08: node08 does not answer" in out
    assert "59 changes on 59 nodes." in out
    assert len(out.splitlines()) < 20


def test_addresses_of_their_own_do_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [NodePlan(f"n{i}", (change("x", f"(10.0.0.{i})"),)) for i in (1, 2, 12)]
    show.plan(Plan(tuple(parts)), addresses={f"n{i}": f"10.0.0.{i}" for i in (1, 2, 12)})
    assert "n[1-2],n12: 1 change each" in capsys.readouterr().out


def test_the_end_of_an_apply(capsys: pytest.CaptureFixture[str]) -> None:
    parts = [NodeResult(name, 12, "", 3.5) for name in NODES]
    parts[3] = NodeResult("node04", 2, "no space is left on the node's disk", 1.0)
    show.result(Result(tuple(parts), Plan(())))
    out = capsys.readouterr().out.splitlines()
    assert out[0].split("  ")[0] == "node[01-03,05-60]"
    assert out[0].endswith("12 changes each in 3.5 s")
    assert out[1].startswith("node04") and "no space is left" in out[1]
    assert "run practicum apply again" in out[2]


def test_status_of_sixty_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that are well share a row, and show the most pressing of their figures."""
    nodes = [
        {"name": "login", "address": "10.0.0.1", "roles": ["login", "controller", "database"]},
        {"name": "node[01-60]", "address": "10.0.1.1", "roles": ["compute"]},
    ]
    cluster = Cluster.model_validate(
        {"cluster": {"name": "c"}, "network": {"subnet": "10.0.0.0/16"}, "nodes": nodes}
    )
    facts = Facts(os_id="debian", os_codename="bookworm")
    looks = {
        name: Look(facts=facts, load=index / 10, memory_mb=4096, memory_free_mb=2048)
        for index, name in enumerate(["login", *NODES])
    }
    del looks["node07"]
    bad = Finding("node08", "disks", Level.BAD, "/ on node08 is full (0 MB left)")
    status.show(Picture(cluster, looks, {"node07": "node07 does not answer"}), [bad])
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) < 8
    assert rows[1].split()[:3] == ["node07", "no", "answer"]
    assert rows[2].split()[0] == "node08"
    folded = next(row for row in rows if "node[01-06,09-60]" in row)
    assert " 6.00 " in folded
    assert rows[-2:] == ["✗ / on node08 is full (0 MB left)", "1 thing to mend."]
