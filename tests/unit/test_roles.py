"""Roles are pure: the same cluster and facts give the same resources, and Slurm's files say
what the cluster says."""

from __future__ import annotations

import json

import pytest

from cluster.model import Cluster
from provisioning.facts import Facts
from provisioning.resources import File, Image, User
from provisioning.role import Context, Role, declare
from provisioning.roles import ROLES
from provisioning.roles.slurm_accounting import accounting
from provisioning.roles.slurm_conf import cgroup_conf, node_line, slurm_conf


def small(**changes: object) -> Cluster:
    tables: dict[str, object] = {
        "cluster": {"name": "pi"},
        "network": {"subnet": "10.0.0.0/24"},
        "nodes": [
            {
                "name": "login",
                "address": "10.0.0.10",
                "roles": ["login", "controller", "database", "storage"],
            },
            {"name": "node[01-02]", "address": "10.0.0.11", "roles": ["compute"]},
        ],
        "groups": [{"name": "students", "gid": 2000, "role": "student"}],
        "users": [{"name": "ada", "uid": 3001, "groups": ["students"]}],
        "partitions": [
            {"name": "notebook", "nodes": "ALL", "oversubscribe": 8},
            {"name": "batch", "nodes": "node[01-02]", "default": True},
        ],
    }
    return Cluster.model_validate(tables | changes)


BOARD = Facts(
    hostname="node01",
    os_id="debian",
    cpus=4,
    sockets=1,
    cores_per_socket=4,
    memory_mb=3800,
    cgroup="v2",
)
FACTS = {"login": BOARD, "node01": BOARD, "node02": BOARD}
SECRETS = {"munge_key": "a2V5", "password.ada": "$6$x$y"}


def context(node: str, cluster: Cluster | None = None) -> Context:
    cluster = cluster or small()
    return Context(cluster, cluster.node(node), FACTS, SECRETS)


def resources(node: str) -> dict[str, object]:
    declared = declare(ROLES, context(node))
    return {item.key: item for _stage, items in declared.stages for item in items}


def test_the_same_input_gives_the_same_resources() -> None:
    assert declare(ROLES, context("node01")) == declare(ROLES, context("node01"))


def test_only_the_controller_has_slurm_conf_and_only_compute_nodes_have_slurmd() -> None:
    assert "file:/etc/slurm/slurm.conf" in resources("login")
    assert "file:/etc/slurm/slurm.conf" not in resources("node01")
    assert "service:slurmd" in resources("node02")
    assert "service:slurmd" not in resources("login")


def test_password_hashes_are_on_login_nodes_only() -> None:
    ada_login, ada_node = resources("login")["user:ada"], resources("node01")["user:ada"]
    assert isinstance(ada_login, User)
    assert isinstance(ada_node, User)
    assert (ada_login.password_hash, ada_node.password_hash) == ("$6$x$y", "*")
    assert (ada_login.create_home, ada_node.create_home) == (True, False)


def test_the_munge_key_is_a_secret_and_stays_out_of_images() -> None:
    key = resources("node01")["file:/etc/munge/munge.key"]
    assert isinstance(key, File)
    assert (key.content, key.secret, key.mode, key.image) == (b"key", True, 0o400, Image.NEVER)


def test_hardware_is_from_facts_unless_declared() -> None:
    cluster = small()
    node = cluster.node("node01")
    assert "CPUs=4 Sockets=1 CoresPerSocket=4" in node_line(node, BOARD)
    assert "RealMemory=3610" in node_line(node, BOARD)  # 95 % of 3800
    declared = node.model_copy(update={"cpus": 8, "memory_mb": 4000})
    assert "CPUs=8 RealMemory=4000" in node_line(declared, BOARD)
    assert "State=DOWN" in node_line(node, None)


def test_partitions_share_cores_among_themselves_and_not_with_each_other() -> None:
    text = slurm_conf(small(), FACTS)
    assert "PartitionName=notebook Nodes=node[01-02] Default=NO" in text
    assert "OverSubscribe=FORCE:8" in text
    assert "OverSubscribe=FORCE:1" in text
    assert "MaxTime=1-00:00:00" in text


@pytest.mark.parametrize(
    ("facts", "track", "text"),
    [
        (BOARD, "proctrack/cgroup", "ConstrainRAMSpace=yes"),
        (Facts(cgroup="v2", container=True, cpus=1), "proctrack/linuxproc", "ConstrainRAMSpace=no"),
        (Facts(cgroup="hybrid", cpus=1), "proctrack/linuxproc", "ConstrainRAMSpace=no"),
    ],
)
def test_limits_follow_the_kernel(facts: Facts, track: str, text: str) -> None:
    everywhere = dict.fromkeys(FACTS, facts)
    assert track in slurm_conf(small(), everywhere)
    assert text in cgroup_conf(small(), everywhere)


def test_accounting_names_everyone_and_makes_the_hub_an_operator() -> None:
    wanted = json.loads(accounting(small()))
    assert wanted["users"] == {
        name: ["class"] for name in ("ada", "practicum-hub", "practicum-build")
    }
    assert wanted["operators"] == ["practicum-hub"]


def test_two_roles_that_disagree_are_a_fault() -> None:
    def other(_context: Context) -> list[User]:
        return [User(user="munge", uid=5, group="munge")]

    roles = (*ROLES, Role("other", "identity", lambda _c, _n: True, other))
    with pytest.raises(ValueError, match="role other declares user:munge"):
        declare(roles, context("node01"))
