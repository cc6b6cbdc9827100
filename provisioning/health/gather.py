"""Asking every node at once. A node that does not answer is a sentence, and holds nobody up."""

from __future__ import annotations

import secrets as random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from cluster.model import Cluster, NodeRole
from provisioning.facts import Facts
from provisioning.health.model import Ask, Check, Look, Picture
from provisioning.health.shares import folders
from provisioning.remembered import remembered
from provisioning.report import Reporter
from provisioning.resources import Service
from provisioning.role import Context, Role, declare
from provisioning.session import Session
from provisioning.ssh import ssh_target

THREADS = 32
LOOK_SECONDS = 60  # above the longest of the agent's own limits


class _Round:
    """The sessions of one look at the cluster."""

    def __init__(self, cluster: Cluster, base: Path, reporter: Reporter) -> None:
        self.cluster = cluster
        self.names = [node.name for node in cluster.machines]
        self.sessions = {
            node.name: Session(ssh_target(cluster, node, base), reporter)
            for node in cluster.machines
        }
        self.errors: dict[str, str] = {}
        self.facts: dict[str, Facts] = {}
        self.clocks: dict[str, float] = {}
        self.looks: dict[str, Mapping[str, Any]] = {}
        self.across: dict[str, Mapping[str, Any]] = {}

    def each(self, work: Callable[[str], None]) -> None:
        """On all nodes that still answer, at once."""

        def tried(name: str) -> None:
            try:
                work(name)
            except PracticumError as error:
                self.errors[name] = str(error)

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(tried, [name for name in self.names if name not in self.errors]))

    def hello(self, name: str) -> None:
        session = self.sessions[name]
        self.facts[name] = session.open()
        asked = time.time()
        told = session.ask({"op": "clock"}, LOOK_SECONDS)["time"]
        self.clocks[name] = told - (asked + time.time()) / 2

    def close(self) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(lambda name: self.sessions[name].close(), self.names))


def gather(
    cluster: Cluster,
    roles: Sequence[Role],
    checks: Iterable[Check],
    secrets: Mapping[str, str],
    *,
    base: Path,
    reporter: Reporter,
) -> Picture:
    """A picture of the whole cluster. ``base`` is the folder of cluster.toml.

    Takes as long as the slowest node: its limits are ssh.connect_timeout and LOOK_SECONDS.
    """
    checks = tuple(checks)
    token = random.token_hex(8)
    writer = cluster.first(NodeRole.LOGIN).name
    shared = list(folders(cluster))
    with_token: set[str] = set()
    one = _Round(cluster, base, reporter)
    try:
        one.each(one.hello)
        known = {name: Facts.from_wire(wire) for name, wire in remembered(base).items()}
        context = (cluster, {**known, **one.facts}, secrets)
        services = {name: declared_services(roles, name, *context) for name in one.facts}

        def look(name: str) -> None:
            ask = _asked(checks, cluster, name)
            message = {
                "op": "look",
                "units": sorted({*services[name], *ask.units}),
                "commands": {
                    key: [list(question.argv), dict(question.env), question.seconds]
                    for key, question in ask.commands.items()
                },
                "pages": {key: list(place) for key, place in ask.pages.items()},
                "disks": list(ask.disks),
                "folders": shared,
                "token": token if name == writer else "",
            }
            one.looks[name] = told = one.sessions[name].ask(message, LOOK_SECONDS)
            if name == writer and not any(told["tokens"].values()):
                with_token.add(name)

        def across(name: str) -> None:
            others = [n for n in one.looks if writer in (name, n)]
            message = {
                "op": "across",
                "credentials": {
                    n: one.looks[n]["credential"]["text"]
                    for n in others
                    if n != name and one.looks[n]["credential"]["code"] == 0
                },
                "folders": shared,
                "token": token if with_token else "",
            }
            one.across[name] = one.sessions[name].ask(message, LOOK_SECONDS)

        one.each(look)
        one.each(across)
    finally:
        one.close()
    looks = {
        name: Look.from_wire(
            one.facts[name],
            one.clocks[name],
            services[name],
            one.looks[name],
            one.across.get(name, {}),
            token,
        )
        for name in one.names
        if name in one.looks and name not in one.errors
    }
    return Picture(cluster, looks, dict(sorted(one.errors.items())))


def declared_services(
    roles: Sequence[Role],
    name: str,
    cluster: Cluster,
    facts: Mapping[str, Facts],
    secrets: Mapping[str, str],
) -> tuple[str, ...]:
    """The units that should run on a node, as its roles declare them."""
    try:
        declared = declare(roles, Context(cluster, cluster.node(name), facts, secrets))
    except ValueError as error:
        raise PracticumError(f"{name}: {error}") from error
    found = [
        resource.service
        for _, resources in declared.stages
        for resource in resources
        if isinstance(resource, Service) and resource.running
    ]
    return tuple(one if "." in one else f"{one}.service" for one in found)


def _asked(checks: Sequence[Check], cluster: Cluster, name: str) -> Ask:
    """All checks' questions to one node, as one."""
    asks = [check.ask(cluster, cluster.node(name)) for check in checks]
    return Ask(
        units=tuple(unit for ask in asks for unit in ask.units),
        commands={key: question for ask in asks for key, question in ask.commands.items()},
        pages={key: page for ask in asks for key, page in ask.pages.items()},
        disks=tuple(path for ask in asks for path in ask.disks),
    )
