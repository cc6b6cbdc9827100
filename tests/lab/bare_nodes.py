"""Two bare nodes for tests of the engine: a lab of their own, once for the session, since the
shared lab has the whole cluster declared on it, and applying anything else there would remove it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from run_in_lab import RunOn, run_in

from cluster.load import load
from cluster.model import Cluster, Node
from practicum.report import Plain
from provisioning import engine
from provisioning import lab as labs
from provisioning.planning import Plan, Result
from provisioning.report import Silent
from provisioning.resources import Command, Resource
from provisioning.role import Role

SECRETS = {"manifest_key": "cd" * 32}
FIRST, SECOND = "login", "node01"


class Nodes:
    """Two bare nodes, and an engine that declares on them what a test wants."""

    def __init__(self, info: labs.LabInfo) -> None:
        self.info = info
        self.base = info.cluster_toml.parent
        self.cluster: Cluster = load(info.cluster_toml)
        self.run_on: RunOn = run_in(info)

    def apply(
        self, *resources: Resource, limit: Sequence[str] = (FIRST,), **stages: list[Resource]
    ) -> Result:
        wanted = stages or {"base": list(resources)}
        return self.with_roles([role(name, here) for name, here in wanted.items()], limit)

    def with_roles(
        self,
        roles: Sequence[Role],
        limit: Sequence[str] = (),
        cluster: Cluster | None = None,
        base: Path | None = None,
    ) -> Result:
        return engine.apply(
            cluster or self.cluster,
            roles,
            SECRETS,
            base=base or self.base,
            limit=limit,
            confirm=lambda _plan: True,
            reporter=Silent(),
        )

    def plan(self, *resources: Resource, limit: Sequence[str] = (FIRST,)) -> Plan:
        roles = [role("base", list(resources))]
        return engine.plan(
            self.cluster, roles, SECRETS, base=self.base, limit=limit, reporter=Silent()
        )

    def out(self, *argv: str, node: str = FIRST) -> str:
        done = self.run_on(node, argv)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def there(self, path: str, node: str = FIRST) -> bool:
        return self.run_on(node, ["test", "-e", path]).returncode == 0


def gate(name: str, stays: str = "") -> Command:
    """A command that tells when it has begun, and stands until :func:`open_gate`; done once, which
    the file ``stays`` says."""
    stays = stays or f"/run/{name}"
    script = (
        f"touch /run/{name}.begun; until [ -e /run/{name}.go ]; do sleep 0.1; done; touch {stays}"
    )
    return Command(id=name, check=("test", "-e", stays), run=("sh", "-c", script))


def open_gate(nodes: Nodes, name: str, *where: str) -> None:
    """On those nodes, or on the first."""
    for node in where or (FIRST,):
        nodes.out("touch", f"/run/{name}.go", node=node)


def role(
    stage: str, resources: list[Resource], where: Callable[[Cluster, Node], bool] | None = None
) -> Role:
    return Role(f"test-{stage}", stage, where or (lambda _c, _n: True), lambda _context: resources)


@contextmanager
def bare_lab(prefix: str) -> Iterator[labs.LabInfo]:
    """Two bare nodes: the developer's (PRACTICUM_BARE_LAB=NAME), else a lab of our own."""
    if named := os.environ.get("PRACTICUM_BARE_LAB"):
        yield labs.info(named)
        return
    name = f"{prefix}-{secrets.token_hex(3)}"
    try:
        yield labs.up(name, nodes=2, roles=(), reporter=Plain())
    finally:
        labs.down(name, reporter=Plain())


@pytest.fixture(scope="session")
def lab_nodes() -> Iterator[Nodes]:
    with bare_lab("eng") as info:
        yield Nodes(info)


@pytest.fixture
def nodes(lab_nodes: Nodes) -> Iterator[Nodes]:
    """Nothing is declared before a test, and what it declared goes after it."""
    clean = "rm -f /run/slow* /run/cut* /run/kill* /run/first /run/second"
    for name in (FIRST, SECOND):  # a developer's lab has seen these tests before
        lab_nodes.out("sh", "-c", f"{clean}; apt-get -y -q purge munge sl >&2 || true", node=name)
    yield lab_nodes
    for name in (FIRST, SECOND):  # nothing of a test that failed stands there any more
        lab_nodes.out("touch", "/run/slow.go", "/run/cut.go", "/run/kill.go", node=name)
    result = lab_nodes.apply(limit=())
    assert result.ok, result.errors
