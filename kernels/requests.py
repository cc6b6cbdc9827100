"""From cluster.toml to what the login node is asked for."""

from __future__ import annotations

from cluster.model import Cluster, Kernel
from cluster.scheduling import Partition
from cluster.values import seconds
from kernels.node.request import Request

MINUTES = 60


def build_partition(cluster: Cluster) -> Partition | None:
    """Where builds run: a partition that is open to everyone, best one of all nodes, and of these
    the one whose cores are shared most, so that a full cluster does not keep the admin waiting."""
    everyone = [part for part in cluster.partitions if not part.groups]
    return max(everyone, key=lambda part: (part.nodes == "ALL", part.oversubscribe), default=None)


def build_minutes(cluster: Cluster) -> int:
    """At most what the partition and everyone's QOS allow."""
    part = build_partition(cluster)
    limits = [MINUTES * 60]
    if part is not None:
        limits.append(seconds(part.max_time))
    if cluster.qos and cluster.qos[0].max_time:
        limits.append(seconds(cluster.qos[0].max_time))
    return max(1, min(limits) // 60)


def request(cluster: Cluster, kernel: Kernel) -> Request:
    part = build_partition(cluster)
    return Request(
        name=kernel.name,
        title=kernel.title,
        language=kernel.language,
        packages=kernel.packages,
        channels=kernel.channels,
        python=kernel.python,
        lock=kernel.lock_text,
        modules=kernel.modules,
        group=kernel.group or "",
        keep=kernel.keep_versions,
        partition=part.name if part else "",
        minutes=build_minutes(cluster),
    )
