"""Which releases of Slurm can follow each other, and live together: pure functions.

Source: Slurm's upgrade guide. slurmdbd, slurmctld and slurmd read the state of the two releases
before their own, of three since 24.11; slurmdbd may be newer than slurmctld, and slurmctld newer
than slurmd, within the same window.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.errors import PracticumError
from cluster.model import Cluster, NodeRole
from provisioning.facts import Facts, release

RELEASES = ("20.11", "21.08", "22.05", "23.02", "23.11", "24.05", "24.11", "25.05", "25.11")
THREE_SINCE = "24.11"
# What the distributions bring, for nodes on which nothing is installed yet.
BROUGHT = {"bullseye": "20.11", "bookworm": "22.05", "noble": "23.11", "trixie": "24.11"}


def reads(new: str, old: str) -> bool:
    """Whether release ``new`` takes over what ``old`` wrote, or serves its daemons. Releases
    unknown here are not judged."""
    if new not in RELEASES or old not in RELEASES:
        return True
    window = 3 if RELEASES.index(new) >= RELEASES.index(THREE_SINCE) else 2
    return 0 <= RELEASES.index(new) - RELEASES.index(old) <= window


def oldest(new: str) -> str:
    """The oldest release that ``new`` takes over from."""
    return next(old for old in RELEASES if reads(new, old))


def of(facts: Facts, package: str) -> str:
    """The release installed, or the one that will be."""
    return release(facts.packages.get(package, "")) or BROUGHT.get(facts.os_codename, "")


def refuse_jump(node: str, facts: Facts) -> None:
    """PracticumError when the installed slurmdbd cannot take the node's database over."""
    new, old = of(facts, "slurmdbd"), release(facts.slurm_database)
    if not old or reads(new, old):
        return
    if RELEASES.index(new) < RELEASES.index(old):
        why = f"no release reads what a later one wrote: install Slurm {old} or later"
    else:
        why = (
            f"it upgrades from {oldest(new)} at the earliest: keep the old database in a file and "
            "begin a new one, as docs/admin.md says under Upgrading Slurm"
        )
    raise PracticumError(
        f"{node} has Slurm {new}, and its accounting database is of Slurm {old}; {why}"
    )


def refuse_mixture(cluster: Cluster, node: str, facts: Mapping[str, Facts]) -> None:
    """PracticumError when a compute node's Slurm is newer than the controller's, or too old."""
    controller = cluster.first(NodeRole.CONTROLLER).name
    if node not in facts or controller not in facts:
        return
    above, below = of(facts[controller], "slurmctld"), of(facts[node], "slurmd")
    if not above or not below or reads(above, below):
        return
    raise PracticumError(
        f"{node} has (or gets) Slurm {below}, and the controller {controller} {above}, which "
        f"works with {oldest(above)} to {above}: install the same system on both"
    )
