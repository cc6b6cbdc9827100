"""What an apply leaves behind for the next one to be judged by, also one that failed in part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_roles import small

from cluster.errors import ConfigError
from cluster.model import Cluster
from practicum.converge import went_well
from provisioning import guards
from provisioning.planning import NodeResult, Plan, Result
from provisioning.report import Silent

ALL = {"login", "node01", "node02"}
ADDRESSES = {"login": "10.0.0.10", "node01": "10.0.0.11", "node02": "10.0.0.12"}
HOLDERS = dict.fromkeys(("controller", "database", "storage"), "login")


def moved(role: str = "controller", **changes: Any) -> Cluster:
    """The same machines, with a role of login's on node01."""
    roles = [one for one in ("login", "controller", "database", "storage") if one != role]
    nodes = [
        {"name": "login", "address": "10.0.0.10", "roles": roles},
        {"name": "node01", "address": "10.0.0.11", "roles": ["compute", role]},
        {"name": "node02", "address": "10.0.0.12", "roles": ["compute"]},
    ]
    return small(nodes=nodes, **changes)


def test_an_apply_of_all_is_remembered_whole(tmp_path: Path) -> None:
    guards.remember(small(), tmp_path, ALL)
    assert guards.known(tmp_path) == {"nodes": ADDRESSES, "holders": HOLDERS}


def test_a_dead_node_does_not_turn_the_guard_off(tmp_path: Path) -> None:
    guards.remember(small(), tmp_path, ALL - {"node02"})
    assert set(guards.known(tmp_path)["nodes"]) == {"login", "node01"}
    with pytest.raises(ConfigError, match="moves the role controller from login to node01"):
        guards.check(moved(), tmp_path, [], Silent())
    guards.check(moved(), tmp_path, ["controller"], Silent())


def test_a_holder_counts_when_its_own_node_went_well(tmp_path: Path) -> None:
    """Its data are still where they were: the next apply has to be told again that they moved."""
    guards.remember(small(), tmp_path, ALL)
    guards.remember(moved(), tmp_path, {"login", "node02"})
    assert guards.known(tmp_path)["holders"] == HOLDERS
    guards.remember(moved(), tmp_path, {"node01"})
    assert guards.known(tmp_path)["holders"] == {**HOLDERS, "controller": "node01"}


def test_where_nothing_went_well_nothing_is_remembered(tmp_path: Path) -> None:
    guards.remember(small(), tmp_path, set())
    assert not (tmp_path / guards.STATE).exists()
    guards.remember(small(), tmp_path, ALL)
    guards.remember(moved(), tmp_path, set())
    assert guards.known(tmp_path) == {"nodes": ADDRESSES, "holders": HOLDERS}


def test_who_left_is_forgotten_when_all_have_heard(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    before = {"nodes": {**ADDRESSES, "node03": "10.0.0.13", "node02": "10.0.0.99"}}
    (tmp_path / guards.STATE).write_text(json.dumps({**before, "holders": HOLDERS}))
    guards.remember(small(), tmp_path, ALL - {"node02"})
    nodes = guards.known(tmp_path)["nodes"]
    assert (nodes["node02"], nodes["node03"]) == ("10.0.0.99", "10.0.0.13")
    guards.remember(small(), tmp_path, ALL)
    assert guards.known(tmp_path)["nodes"] == ADDRESSES


def test_which_nodes_of_a_result_went_well() -> None:
    nodes = (NodeResult("login"), NodeResult("node01", changed=3), NodeResult("node02", error="x"))
    assert went_well(Result(nodes, Plan(()))) == {"login", "node01"}
    assert went_well(Result(nodes, Plan(()), confirmed=False)) == set()
