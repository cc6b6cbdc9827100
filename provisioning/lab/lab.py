"""A lab from nothing to a running cluster, and back to nothing."""

from __future__ import annotations

from collections.abc import Sequence

from provisioning.lab.model import DEFAULT_GUEST, LabInfo
from provisioning.report import Reporter
from provisioning.role import Role


def up(
    name: str,
    *,
    nodes: int = 3,
    guest: str = DEFAULT_GUEST,
    hub_port: int | None = None,
    subnet: str | None = None,
    roles: Sequence[Role],
    reporter: Reporter,
) -> LabInfo:
    """Make the lab, or apply again to one that runs."""
    raise NotImplementedError


def info(name: str) -> LabInfo:
    """What a lab is; UsageError if there is none of that name."""
    raise NotImplementedError


def execute(name: str, node: str, argv: Sequence[str], user: str = "root") -> int:
    """Run a command on a node with this terminal's input and output; its exit status."""
    raise NotImplementedError


def down(name: str, *, purge: bool = False, reporter: Reporter) -> None:
    """Stop the lab and remove all of it; with ``purge`` the shared caches of all labs too."""
    raise NotImplementedError


def names() -> list[str]:
    """Labs that there are on this machine."""
    raise NotImplementedError
