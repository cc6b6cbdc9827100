"""[slurm], [[partitions]]: how jobs are scheduled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cluster.values import Duration, Model, Name, Port


class Slurm(Model):
    """[slurm]"""

    account: Name = "class"  # the association everyone is in until courses come
    controller_port: Port = 6817
    node_port: Port = 6818
    database_port: Port = 6819
    mpi_default: Literal["pmix", "pmi2", "none"] = "pmix"


class Partition(Model):
    """[[partitions]]. `oversubscribe` N > 1 lets N jobs share a core (notebooks)."""

    name: Name
    nodes: str  # a host list, or "ALL" for every compute node
    default: bool = False
    max_time: Duration = "1-00:00:00"
    default_time: Duration = "01:00:00"
    oversubscribe: Annotated[int, Field(ge=1, le=1024)] = 1
    max_cpus_per_node: Annotated[int, Field(ge=1)] | None = None
    default_memory_per_cpu_mb: Annotated[int, Field(ge=16)] | None = None
