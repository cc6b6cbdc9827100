"""One ``practicum apply`` for the benchmark: the same path with a choice of roles.

    python apply_some.py CLUSTER_TOML all|ground|plain [--plan | --targets N]

``all`` are the product's roles, ``ground`` those of provisioning.roles (names, accounts, munge,
accounting, Slurm, MPI), ``plain`` the same without services and commands. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from cluster.load import load
from cluster.secrets import load_secrets, secrets_path
from practicum.rooms import ROLES as ALL
from provisioning import engine
from provisioning.resources import Command, Resource, Service, WaitPort
from provisioning.role import Context, Role
from provisioning.roles import ROLES as GROUND


def roles(choice: str) -> tuple[Role, ...]:
    if choice == "all":
        return ALL
    return GROUND if choice == "ground" else tuple(without_services(role) for role in GROUND)


def without_services(role: Role) -> Role:
    """The same role with what only writes files, accounts and packages."""

    def build(context: Context) -> list[Resource]:
        return [
            replace(item, notify=())
            for item in role.build(context)
            if not isinstance(item, (Service, Command, WaitPort))
        ]

    return replace(role, build=build)


class Spans:
    """Remembers when each node began what."""

    def __init__(self) -> None:
        self.events: list[tuple[float, str, str]] = []

    def node_state(self, node: str, state: str) -> None:
        self.events.append((time.time(), node, f"state {state}"))

    def step(self, node: str, text: str) -> None:
        self.events.append((time.time(), node, text))

    def line(self, text: str) -> None:
        self.events.append((time.time(), "", text))


def main(path: Path, choice: str, plan_only: bool, targets: int) -> int:
    began = time.time()
    cluster = load(path)
    secrets = load_secrets(secrets_path(path), cluster)
    spans = Spans()
    chosen = roles(choice)
    base = path.resolve().parent
    if targets:
        # with it comes what measures, which is no part of an apply
        from many import Twins  # noqa: PLC0415

        with Twins(cluster, chosen, secrets, base, targets, spans) as cohort:
            cohort.connect(install_python=True)
            planned = cohort.plan()
        errors, made = planned.errors, planned.pending
    elif plan_only:
        planned = engine.plan(cluster, chosen, secrets, base=base, reporter=spans)
        errors, made = planned.errors, 0
    else:
        result = engine.apply(
            cluster, chosen, secrets, base=base, confirm=lambda _plan: True, reporter=spans
        )
        planned, errors, made = result.plan, result.errors, result.changed
    told = {
        "pending": planned.pending,
        "changed": made,
        "same": sum(node.same for node in planned.nodes),
        "errors": errors,
        "began": began,
        "events": spans.events,
        "changes": [[node, change.key, change.summary] for node, change in planned.changes()],
    }
    print(json.dumps(told))
    return 1 if errors else 0


if __name__ == "__main__":
    more = sys.argv[3:]
    number = int(more[more.index("--targets") + 1]) if "--targets" in more else 0
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], "--plan" in more, number))
