"""A lab from nothing to a running cluster, and back to nothing."""

from __future__ import annotations

import platform
import secrets
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cluster.errors import PracticumError, UsageError
from provisioning import engine
from provisioning.facts import Facts
from provisioning.lab import access, checks, config, host, keys, network, nodes, state, system, tree
from provisioning.lab.model import (
    DEFAULT_GUEST,
    GUESTS,
    MAX_NODES,
    Account,
    LabInfo,
    LabNode,
    check_name,
)
from provisioning.lab.state import State
from provisioning.resources import Group, Package, Resource, User
from provisioning.role import Context, Role, declare

if TYPE_CHECKING:
    from provisioning.report import Reporter


def up(
    name: str,
    *,
    nodes: int | None = None,
    guest: str | None = None,
    hub_port: int | None = None,
    subnet: str | None = None,
    roles: Sequence[Role],
    provision: bool = True,
    reporter: Reporter,
) -> LabInfo:
    """Make the lab, or finish or apply again to one that there is.

    ``nodes`` counts all of them (3 if not said), ``hub_port`` makes the hub reachable at that
    port of this machine. Without roles the nodes are booted and left bare; without ``provision``
    they only have the packages that the roles name. PracticumError and
    UsageError say what is wrong; what was made until then stays, for the next ``up`` to go on
    with or ``down`` to remove.
    """
    checks.require()
    with _lock(name):
        known = name in state.names()
        lab = _claim(name, nodes, guest, hub_port, subnet)
        try:
            config.ensure(lab)
            lab = _grow_tree(lab, roles, reporter)
        except PracticumError:
            if not known:  # nothing but its name was made yet
                system.remove_tree(lab.folder)
            raise
        _boot(lab, reporter)
        if roles and provision:
            _provision(lab, roles, reporter)
        return lab.info


def info(name: str) -> LabInfo:
    """What a lab is; UsageError if there is none of that name."""
    return state.get(name).info


def execute(name: str, node: str, argv: Sequence[str], user: str = "root") -> int:
    """Run a command on a node (a login shell without one) with this terminal's input and
    output; its exit status, 255 when the node is not reached."""
    lab = state.get(name).info
    command = access.ssh_command(lab, node, argv, user=user, tty=sys.stdin.isatty())
    return subprocess.run(command, check=False).returncode


def down(name: str, *, purge: bool = False, reporter: Reporter) -> None:
    """Stop the lab and remove all of it. With ``purge`` also what labs keep for the next one
    (guest trees, downloads), unless another lab stands on it. No such lab: nothing to do."""
    checks.require()
    with _lock(name):
        folder = system.STATE / name
        if folder.is_dir():
            reporter.line(f"taking lab {name} down")
        # All by name, not by what is recorded: a damaged state must not keep us.
        nodes.stop(name)
        network.remove(name)
        system.remove_tree(folder)
        if not state.names():
            host.restore()
        tree.remove_stale()
        if purge:
            if state.names():
                tree.prune(_trees_in_use())
                reporter.line("other labs stay, and so do the trees and downloads they use")
            else:
                tree.purge_caches()


def names() -> list[str]:
    """Labs that there are on this machine."""
    return state.names()


def _lock(name: str) -> AbstractContextManager[None]:
    busy = (
        f"lab {check_name(name)} is being made or taken down by another command: wait for it to end"
    )
    return system.locked(f"lab-{name}", wait=2, busy=busy)


def _claim(
    name: str, count: int | None, guest: str | None, hub_port: int | None, subnet: str | None
) -> State:
    """The lab as it is or is going to be, on disk before anything of it is made."""
    nodes.check_storage(system.STATE)
    if guest is not None and guest not in GUESTS:
        raise UsageError(f"there is no guest {guest!r}: choose {', '.join(GUESTS)}")
    if count is not None and not 2 <= count <= MAX_NODES:
        raise UsageError(f"a lab has 2 to {MAX_NODES} nodes, not {count}")
    with system.locked("labs", wait=30, busy="another lab is being set up: try again"):
        known = state.read(name)
        if known:
            return _same(known, count, guest, hub_port, subnet)
        taken = [(other.network, f"lab {other.name}") for other in state.others(name)]
        chosen = network.choose_subnet(name, subnet, count or 3, taken)
        if hub_port is not None:
            network.check_port(hub_port)
            for other in state.others(name):
                if other.hub_port == hub_port:
                    raise UsageError(
                        f"port {hub_port} is taken by lab {other.name}: "
                        "choose another with --hub-port"
                    )
        members = tuple(
            LabNode(node, network.address(chosen, index), roles)
            for index, (node, roles) in enumerate(config.node_plan(count or 3))
        )
        accounts = tuple(
            Account(who, secrets.token_urlsafe(9), role) for who, role in config.ACCOUNTS
        )
        lab = State(name, guest or DEFAULT_GUEST, str(chosen), hub_port, members, accounts)
        lab.save()
        return lab


def _same(
    known: State, count: int | None, guest: str | None, hub_port: int | None, subnet: str | None
) -> State:
    asked = {"nodes": (count, len(known.nodes)), "guest": (guest, known.guest),
             "subnet": (subnet, known.subnet), "hub-port": (hub_port, known.hub_port)}  # fmt: skip
    for key, (wanted, has) in asked.items():
        if wanted is not None and wanted != has:
            raise UsageError(
                f"lab {known.name} is there with {key} {has}, not {wanted}: take it down first, "
                "or give the other one another --name"
            )
    return known


def _trees_in_use() -> set[Path]:
    return {Path(place) for lab in state.others("") for place in lab.trees}


def _grow_tree(lab: State, roles: Sequence[Role], reporter: Reporter) -> State:
    """The trees that the lab stands on, built if missing. A lab that has booted keeps its own:
    what roles ask for since then, they install on the running nodes."""
    if lab.trees and all(Path(place).is_dir() for place in lab.trees):
        return lab
    guest = tree.GUESTS[lab.guest]

    def say(text: str) -> None:
        reporter.step(guest.name, text)

    base = tree.base_tree(guest, say)
    trees = [base]
    wanted = _image(lab, roles)
    if wanted:
        trees.append(tree.package_tree(guest, base, wanted, say))
    lab = replace(lab, trees=tuple(map(str, trees)))
    lab.save()
    if roles:  # then older recipes are known to be older
        tree.prune(_trees_in_use(), f"{guest.name}-")
    return lab


def _image(lab: State, roles: Sequence[Role]) -> list[dict[str, Any]]:
    """What is the same for every lab of this guest and takes long: packages, and the system
    accounts that they must find with the right ids. In the order of the roles, as wire forms."""
    described, values = config.ensure(lab)
    guest = tree.GUESTS[lab.guest]
    own = Facts(
        os_id=guest.family, os_codename=guest.suite, arch=platform.machine(), container=True
    )
    facts = {machine.name: own for machine in described.machines}
    declared = [
        declare(roles, Context(described, machine, facts, values)) for machine in described.machines
    ]
    found: dict[str, dict[str, Any]] = {}
    for stages in zip(*(one.stages for one in declared), strict=True):
        for _, resources in stages:
            for resource in resources:
                if isinstance(resource, Package) or _system_account(resource):
                    found.setdefault(resource.key, resource.to_wire())
    return list(found.values())


def _system_account(resource: Resource) -> bool:
    """People (1000 and up) and their passwords belong to one lab, not to the image."""
    if isinstance(resource, Group):
        return resource.gid < 1000
    return isinstance(resource, User) and resource.uid < 1000 and not resource.password_hash


def _boot(lab: State, reporter: Reporter) -> None:
    _, public = keys.ensure_key(lab.info.ssh_key, f"practicum lab {lab.name}")
    host_keys = {
        node.name: keys.ensure_key(lab.folder / "host_keys" / node.name, node.name)
        for node in lab.nodes
    }
    known = "".join(keys.known_host(node.address, host_keys[node.name][1]) for node in lab.nodes)
    system.write(lab.info.ssh_key.with_name("known_hosts"), known)
    hub = (lab.hub_port, lab.login.address, state.HUB_PORT) if lab.hub_port else None
    host.ensure()
    for remark in network.make(lab.name, lab.network, hub):
        reporter.line(remark)
    containers = [
        nodes.Container(lab.name, lab.folder, node, Path(lab.trees[-1]), lab.network)
        for node in lab.nodes
    ]
    addresses = {node.name: node.address for node in lab.nodes}
    nodes.stop_mute(containers, reporter.node_state)
    for container in containers:
        if not nodes.supervisors(lab.name, container.node.name):
            nodes.prepare(
                container,
                host_key=host_keys[container.node.name],
                authorized=public,
                names=addresses,
            )
            reporter.node_state(container.node.name, "booting")
            nodes.start(container)
    nodes.wait_for_ssh(containers, reporter.node_state)


def _provision(lab: State, roles: Sequence[Role], reporter: Reporter) -> None:
    """The same as `practicum apply` in the lab's folder, agreed to beforehand."""
    described, values = config.ensure(lab)
    result = engine.apply(
        described, roles, values,
        base=lab.info.cluster_toml.parent, confirm=lambda _plan: True, reporter=reporter,
    )  # fmt: skip
    failed = [f"{node.node}: {node.error}" for node in result.nodes if node.error]
    if failed:
        raise PracticumError(
            f"lab {lab.name} is booted but not finished ({'; '.join(failed)}); "
            "run the same command again once that is mended"
        )
