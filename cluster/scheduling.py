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
    mail: bool = False  # job mail through the login node's mail program
    # only people with a job may log in to a compute node, into that job (pam_slurm_adopt)
    ssh_needs_job: bool = False
    health_check: bool = True


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
    max_nodes: Annotated[int, Field(ge=1)] | None = None  # of one job
    # Whose waiting jobs come first (PriorityJobFactor). It changes nothing about shared cores.
    priority: Annotated[int, Field(ge=1, le=65533)] = 1
    groups: tuple[Name, ...] = ()  # who may use it; empty: everyone
    qos: Name | None = None  # limits that hold for the whole partition


class Qos(Model):
    """[[qos]]: a named set of limits; the first is everyone's default. 0 or None: no limit.

    A job that is over a limit by itself is refused when it is submitted (DenyOnLimit).
    """

    name: Name
    priority: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    max_time: Duration | None = None
    max_jobs_per_user: Annotated[int, Field(ge=0)] = 0
    max_submitted_per_user: Annotated[int, Field(ge=0)] = 0
    max_cpus_per_user: Annotated[int, Field(ge=0)] = 0
    max_nodes_per_user: Annotated[int, Field(ge=0)] = 0
    max_memory_mb_per_user: Annotated[int, Field(ge=0)] = 0


class Account(Model):
    """[[accounts]]: a Slurm account, with who is in it; everyone is in slurm.account too.

    Of ``qos`` the first is the account's default; empty: the first of [[qos]] alone. One named as
    slurm.account sets that one's shares and limits. ``max_cpu_minutes`` counts use that fades by
    half each week (PriorityDecayHalfLife).
    """

    name: Name
    groups: tuple[Name, ...] = ()
    users: tuple[Name, ...] = ()
    coordinators: tuple[Name, ...] = ()
    shares: Annotated[int, Field(ge=1)] = 1  # fairshare
    qos: tuple[Name, ...] = ()
    max_cpu_minutes: Annotated[int, Field(ge=0)] = 0  # GrpTRESMins; 0: no limit
