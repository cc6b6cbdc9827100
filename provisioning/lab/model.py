"""What a lab is, as values: the guests it can run, its nodes, accounts and addresses."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster.errors import UsageError

# Names of guests and the systems they stand for.
GUESTS = {
    "debian12": "Debian 12 (bookworm)",
    "debian13": "Debian 13 (trixie)",
    "ubuntu24.04": "Ubuntu 24.04 (noble)",
}
DEFAULT_GUEST = "debian12"
# A lab's name becomes part of a bridge's name, and those have 15 characters: "pr-" + 12.
NAME = re.compile(r"^[a-z]([a-z0-9-]{0,10}[a-z0-9])?$")
MAX_NODES = 40


@dataclass(frozen=True)
class LabNode:
    """One container."""

    name: str
    address: str
    roles: tuple[str, ...]


@dataclass(frozen=True)
class Account:
    """Someone who can log in at the hub. ``role``: student, instructor or admin."""

    name: str
    password: str
    role: str


@dataclass(frozen=True)
class LabInfo:
    """What ``practicum lab info`` tells. ``cluster_toml`` and ``ssh_key`` are absolute paths."""

    name: str
    guest: str
    hub_url: str
    nodes: tuple[LabNode, ...]
    accounts: tuple[Account, ...]
    cluster_toml: Path
    ssh_key: Path

    def to_json(self) -> str:
        """The same as one JSON object, paths as text."""
        return json.dumps(asdict(self), default=str, indent=2)

    def node(self, name: str) -> LabNode:
        """The node of that name; UsageError lists the ones there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise UsageError(f"lab {self.name} has no node {name!r}; it has {known}")


def check_name(name: str) -> str:
    """The name itself, or UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} cannot name a lab: use up to 12 lower-case letters, digits and dashes, "
            "beginning with a letter and not ending with a dash"
        )
    return name
