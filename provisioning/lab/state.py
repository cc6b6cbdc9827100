"""What labs there are, on disk: written before anything of a lab is made, so that whatever a
killed ``up`` left can be found and removed."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import PracticumError, UsageError
from provisioning.lab import system
from provisioning.lab.model import Account, LabInfo, LabNode, check_name

HUB_PORT = 8000  # on the login node


@dataclass(frozen=True)
class State:
    """One lab. ``trees``: what its nodes stand on, empty until known."""

    name: str
    guest: str
    subnet: str
    hub_port: int | None
    nodes: tuple[LabNode, ...]
    accounts: tuple[Account, ...]
    trees: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return system.STATE / self.name

    @property
    def network(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(self.subnet)

    @property
    def login(self) -> LabNode:
        return next(node for node in self.nodes if "login" in node.roles)

    @property
    def info(self) -> LabInfo:
        own = f"http://{self.login.address}:{HUB_PORT}"
        return LabInfo(
            name=self.name,
            guest=self.guest,
            hub_url=f"http://127.0.0.1:{self.hub_port}" if self.hub_port else own,
            nodes=self.nodes,
            accounts=self.accounts,
            cluster_toml=self.folder / "cluster" / "cluster.toml",
            ssh_key=self.folder / "cluster" / "secrets" / "ssh_key",
        )

    def save(self) -> None:
        """Write it, readable by root only: the accounts' passwords are in it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        system.write(self.folder / "lab.json", json.dumps(asdict(self), indent=2), 0o600)


def read(name: str) -> State | None:
    """The lab of that name, or None."""
    path = system.STATE / check_name(name) / "lab.json"
    if not path.is_file():
        return None
    try:
        raw = json.loads(path.read_text())
        nodes = tuple(
            LabNode(**{**node, "roles": tuple(node["roles"])}) for node in raw.pop("nodes")
        )
        accounts = tuple(Account(**account) for account in raw.pop("accounts"))
        return State(**{**raw, "trees": tuple(raw["trees"])}, nodes=nodes, accounts=accounts)
    except (ValueError, TypeError, KeyError) as error:
        raise PracticumError(
            f"{path} is damaged ({error}): remove the lab with `practicum lab down --name {name}`"
        ) from error


def get(name: str) -> State:
    """The lab of that name; UsageError tells the ones there are."""
    state = read(name)
    if state is None:
        known = ", ".join(names()) or "none"
        raise UsageError(
            f"there is no lab {name!r} (there is: {known}); "
            f"make it with `practicum lab up --name {name}`"
        )
    return state


def names() -> list[str]:
    """Every lab that has begun to be, sorted."""
    if not system.STATE.is_dir():
        return []
    return sorted(
        path.name
        for path in system.STATE.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )


def others(name: str) -> Iterator[State]:
    """The other labs; damaged ones are passed over."""
    for other in names():
        if other != name:
            try:
                state = read(other)
            except PracticumError:
                continue
            if state:
                yield state
