"""A small cluster for tests of the rooms."""

from __future__ import annotations

from typing import Any

from cluster.model import Cluster
from provisioning.facts import Facts
from provisioning.role import Context

FACTS = Facts(python="3.11", os_codename="bookworm", arch="x86_64")
SECRETS = {"hub_cookie_secret": "01" * 32, "hub_crypt_key": "02" * 32, "proxy_token": "03" * 32}


def sample(**changes: Any) -> Cluster:
    values: dict[str, Any] = {
        "cluster": {"name": "lab"},
        "network": {"subnet": "10.80.0.0/24"},
        "storage": {"provider": "external"},
        "nodes": [
            {
                "name": "login",
                "address": "10.80.0.10",
                "roles": ["login", "controller", "database", "storage"],
            },
            {"name": "node[01-02]", "address": "10.80.0.11", "roles": ["compute"]},
        ],
        "groups": [
            {"name": "students", "gid": 2000, "role": "student"},
            {"name": "instructors", "gid": 2001, "role": "instructor"},
            {"name": "admins", "gid": 2002, "role": "admin"},
        ],
        "users": [{"name": "ada", "uid": 2100, "groups": ["students"]}],
        "partitions": [{"name": "notebook", "nodes": "ALL", "oversubscribe": 8}],
        "profiles": [{"name": "small", "title": "Small", "partition": "notebook"}],
        "kernels": [{"name": "python3", "title": "Python", "packages": ["numpy"]}],
    }
    return Cluster.model_validate({**values, **changes})


def context(node: str = "login", cluster: Cluster | None = None) -> Context:
    cluster = cluster or sample()
    facts = {machine.name: FACTS for machine in cluster.machines}
    return Context(cluster=cluster, node=cluster.node(node), facts=facts, secrets=SECRETS)
