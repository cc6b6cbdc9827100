"""[[partitions]] and [[profiles]]: what runs where, and whether it fits."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.nodes import RESERVED_HOSTS
from cluster.checks.problem import Problem, repeated, unknown
from cluster.model import Cluster, NodeRole, Profile
from cluster.scheduling import Partition
from cluster.toml_lines import Place
from cluster.values import seconds


def partitions(cluster: Cluster) -> Iterator[Problem]:
    parts = cluster.partitions
    yield from repeated((part.name for part in parts), ("partitions",), "name", "the name")
    if not parts:
        yield Problem(("partitions",), "there is none: add [[partitions]] with a name and nodes")
        return
    defaults = [index for index, part in enumerate(parts) if part.default]
    for index in defaults[1:]:
        yield Problem(
            ("partitions", index, "default"),
            f"{parts[defaults[0]].name} is the default already: only one can be",
        )
    if not defaults:
        yield Problem(
            ("partitions",), "none has default = true: mark the one that sbatch uses by itself"
        )
    for index, part in enumerate(parts):
        yield from _partition(cluster, index, part)


def _partition(cluster: Cluster, index: int, part: Partition) -> Iterator[Problem]:
    here: Place = ("partitions", index)
    if part.name in RESERVED_HOSTS:
        yield Problem((*here, "name"), f"{part.name} is a word of slurm.conf: choose another")
    for key, length in (("max_time", part.max_time), ("default_time", part.default_time)):
        if seconds(length) < 60:
            yield Problem((*here, key), "must be a minute or more")
    if seconds(part.default_time) > seconds(part.max_time):
        yield Problem(
            (*here, "default_time"),
            f"{part.default_time} is more than this partition's max_time, {part.max_time}",
        )
    try:
        names = cluster.partition_nodes(part)
    except ValueError as error:
        yield Problem((*here, "nodes"), f"{error}; ALL stands for every compute node")
        return
    compute = {node.name: node for node in cluster.with_role(NodeRole.COMPUTE)}
    everyone = {node.name for node in cluster.machines}
    for name in names:
        if name not in everyone:
            yield Problem((*here, "nodes"), unknown(name, compute, "node"))
        elif name not in compute:
            yield Problem(
                (*here, "nodes"),
                f'{name} runs no jobs: add "compute" to its roles, or leave it out',
            )
    if len(set(names)) < len(names):
        yield Problem((*here, "nodes"), "a node is listed twice")
    yield from _limits(cluster, here, part, len(names))


def _limits(cluster: Cluster, here: Place, part: Partition, nodes: int) -> Iterator[Problem]:
    """Who may use it, and how much of it one job may have."""
    if part.max_nodes and part.max_nodes > nodes:
        yield Problem(
            (*here, "max_nodes"), f"{part.max_nodes} is more than the {nodes} nodes it has"
        )
    groups = [group.name for group in cluster.groups]
    for place, group in enumerate(part.groups):
        if group not in groups:
            yield Problem((*here, "groups", place), unknown(group, groups, "group"))
    if part.qos is not None and part.qos not in {qos.name for qos in cluster.qos}:
        yield Problem((*here, "qos"), unknown(part.qos, [q.name for q in cluster.qos], "QOS"))


def profiles(cluster: Cluster) -> Iterator[Problem]:
    known = {part.name: part for part in cluster.partitions}
    groups = [group.name for group in cluster.groups]
    groups += [course.group for course in cluster.courses]
    yield from repeated(
        (profile.name for profile in cluster.profiles), ("profiles",), "name", "the name"
    )
    for index, profile in enumerate(cluster.profiles):
        here: Place = ("profiles", index)
        for place, group in enumerate(profile.groups):
            if group not in groups:
                yield Problem((*here, "groups", place), unknown(group, groups, "group"))
        part = known.get(profile.partition)
        if profile.login:
            if profile.partition:
                yield Problem(
                    (*here, "partition"),
                    "a session on the login node is in no partition: leave it out",
                )
        elif part is None:
            yield Problem((*here, "partition"), unknown(profile.partition, known, "partition"))
        else:
            yield from _profile_allowed(here, profile, part)
            yield from _profile_fits(cluster, here, profile, part)


def _profile_allowed(here: Place, profile: Profile, part: Partition) -> Iterator[Problem]:
    """Nobody is offered what their partition refuses."""
    if not part.groups:
        return
    outside = [group for group in profile.groups if group not in part.groups]
    if outside or not profile.groups:
        who = f"for {', '.join(outside)}" if outside else "for everyone"
        yield Problem(
            (*here, "groups"),
            f"it is {who}, but partition {part.name} takes only {', '.join(part.groups)}: "
            "name no other groups here",
        )


def _profile_fits(
    cluster: Cluster, here: Place, profile: Profile, part: Partition
) -> Iterator[Problem]:
    """Some node of the partition must be able to hold it (as far as hardware is declared)."""
    if seconds(profile.time) < 60:
        yield Problem((*here, "time"), "must be a minute or more")
    if seconds(profile.time) > seconds(part.max_time):
        yield Problem(
            (*here, "time"),
            f"{profile.time} is more than {part.max_time}, the max_time of partition {part.name}",
        )
    try:
        names = cluster.partition_nodes(part)
    except ValueError:
        return  # told with the partition
    nodes = [node for node in cluster.machines if node.name in names]
    cpus, memory = [node.cpus for node in nodes], [node.memory_mb for node in nodes]
    for key, wanted, has, unit in (
        ("cpus", profile.cpus, cpus, "cpus"),
        ("memory_mb", profile.memory_mb, memory, "MB"),
    ):
        most = max((amount for amount in has if amount is not None), default=0)
        if nodes and None not in has and wanted > most:
            yield Problem(
                (*here, key),
                f"{wanted} {unit} are more than any node of partition {part.name} has ({most})",
            )
    limit = part.max_cpus_per_node
    if limit and profile.cpus > limit:
        yield Problem(
            (*here, "cpus"),
            f"{profile.cpus} is more than max_cpus_per_node ({limit}) of partition {part.name}",
        )
    yield from _profile_for_one(cluster, here, profile, part)


def _profile_for_one(
    cluster: Cluster, here: Place, profile: Profile, part: Partition
) -> Iterator[Problem]:
    """One person must be able to have it, by the QOS of its partition."""
    qos = next((qos for qos in cluster.qos if qos.name == part.qos), None)
    if qos is None:
        return
    for key, wanted, limit, name in (
        ("cpus", profile.cpus, qos.max_cpus_per_user, "max_cpus_per_user"),
        ("memory_mb", profile.memory_mb, qos.max_memory_mb_per_user, "max_memory_mb_per_user"),
    ):
        if limit and wanted > limit:
            yield Problem(
                (*here, key),
                f"{wanted} is more than {name} ({limit}) of {qos.name}, the QOS of partition "
                f"{part.name}: nobody could start it",
            )
