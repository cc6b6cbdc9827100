"""slurm.conf and its neighbours as text: pure functions of the cluster and the nodes' facts.

Written for Slurm 22.05, 23.11 and 24.11, the versions of Debian 12, Ubuntu 24.04 and Debian 13.
"""

from __future__ import annotations

from collections.abc import Mapping

from cluster.hostlist import fold
from cluster.model import Cluster, Node, NodeRole
from cluster.scheduling import Partition
from cluster.values import slurm_time
from provisioning.facts import Facts
from provisioning.roles.own_files import FOLDER

WRITTEN = "# Written by practicum from cluster.toml; `practicum apply` writes it again."
# Below the physical memory, or a kernel update that takes a little more drains the node.
MEMORY_SHARE = 0.95
# What a job gets for each core when it asks for nothing.
DEFAULT_MEMORY_PER_CPU_MB = 256
MAIL = f"{FOLDER}/slurm-mail"
# mpi.conf(5). Slurm's default, a tree for the barriers of MPI_Init, now and then lets ranks through
# while others still wait in the one before, and what they send kills these; the ring lets none
# (benchmarks/mpi_starts.py).
MPI_CONF = "PMIxCollFence=ring\n"
# Whoever used much of late comes after the others; waiting counts a little, QOS and partitions as
# much as use does. Named, since the default was "first come, first served" up to 23.02.
PRIORITIES = (
    "PriorityType=priority/multifactor",
    "PriorityWeightFairshare=10000",
    "PriorityWeightQOS=10000",
    "PriorityWeightPartition=10000",
    "PriorityWeightAge=1000",
    "PriorityMaxAge=1-00:00:00",
    "PriorityDecayHalfLife=7-00:00:00",
)


def has_cgroup_v2(facts: Facts) -> bool:
    """Whether limits can be cgroup v2's: not in a container, whose host owns the tree."""
    return facts.cgroup == "v2" and not facts.container


def memory_is_off(facts: Facts) -> bool:
    """A board whose firmware switched the memory cgroup off. The boot line turns it on
    (:mod:`provisioning.roles.boot_line`), from the next start on; until then slurmd cannot run."""
    known = facts.cgroup_controllers
    return has_cgroup_v2(facts) and known is not None and "memory" not in known.split()


def limits_by_cgroup(cluster: Cluster, facts: Mapping[str, Facts]) -> bool:
    """Whether every compute node that answered can: slurm.conf and cgroup.conf must agree.

    A board that has to be started again first counts as one that can: the others need not lose
    their limits for it.
    """
    compute = cluster.with_role(NodeRole.COMPUTE)
    known = [facts[node.name] for node in compute if node.name in facts]
    return bool(compute) and all(has_cgroup_v2(fact) for fact in known)


def is_head(node: Node) -> bool:
    """It has the hub or the controller to run, so it takes jobs last."""
    return node.has(NodeRole.LOGIN) or node.has(NodeRole.CONTROLLER)


def node_line(node: Node, facts: Facts | None) -> str:
    """One node's hardware: declared in cluster.toml, else from facts.

    A node never reached so far is there, but down, with the reason for all to read.
    """
    head = f"NodeName={node.name} NodeAddr={node.address}"
    if facts is None and node.cpus is None:
        return f'{head} CPUs=1 State=DOWN Reason="not reached by practicum yet"'
    facts = facts or Facts()
    memory = node.memory_mb or int(facts.memory_mb * MEMORY_SHARE)
    if node.cpus is not None:
        shape = f"CPUs={node.cpus}"
    else:
        shape = (
            f"CPUs={facts.cpus} Sockets={facts.sockets} CoresPerSocket={facts.cores_per_socket} "
            f"ThreadsPerCore={facts.threads_per_core}"
        )
    state = "State=UNKNOWN"
    if memory_is_off(facts):  # it returns by itself after its restart (ReturnToService)
        state = 'State=DOWN Reason="memory limits are off until it is restarted"'
    weight = 100 if is_head(node) else 1
    return f"{head} {shape} RealMemory={memory} Weight={weight} {state}"


def partition_line(cluster: Cluster, partition: Partition) -> str:
    """FORCE on every partition, :1 where cores are not shared.

    Over the same nodes, partitions of one priority tier then see only their own rows of cores:
    thirty idle notebooks leave every core to jobs, and a full batch queue leaves room for
    notebooks. With OverSubscribe=NO a job would wait for cores that no notebook has allocated
    (select/cons_tres, "job_test": such jobs fail before rows are tried). Memory stays shared
    by all, and is never promised twice.
    """
    memory = partition.default_memory_per_cpu_mb
    cpus = partition.max_cpus_per_node
    return " ".join(
        [
            f"PartitionName={partition.name}",
            f"Nodes={fold(cluster.partition_nodes(partition))}",
            f"Default={'YES' if partition.default else 'NO'}",
            f"MaxTime={slurm_time(partition.max_time)}",
            f"DefaultTime={slurm_time(partition.default_time)}",
            f"OverSubscribe=FORCE:{partition.oversubscribe}",
            # not PriorityTier: partitions of unlike tiers would no longer share cores
            f"PriorityJobFactor={partition.priority}",
            *([f"MaxNodes={partition.max_nodes}"] if partition.max_nodes else []),
            *([f"AllowGroups={','.join(partition.groups)}"] if partition.groups else []),
            *([f"QOS={partition.qos}"] if partition.qos else []),
            *([f"MaxCPUsPerNode={cpus}"] if cpus else []),
            *([f"DefMemPerCPU={memory}"] if memory else []),
            "State=UP",
        ]
    )


def job_scripts(cluster: Cluster, *, cgroup: bool) -> list[str]:
    """What runs on a node around each job, and now and then between them.

    Alloc: the prolog runs on each node of a job, not only where a step is started, so that the
    epilog of another job of that user knows of one who works there by SSH. Contain, which includes
    it, makes a step that people who log in are put into (pam_slurm_adopt(8)).
    """
    lines = [
        f"Prolog={FOLDER}/slurm-prolog",
        f"Epilog={FOLDER}/slurm-epilog",
        f"TaskProlog={FOLDER}/slurm-taskprolog",
        "PrologEpilogTimeout=60",
        "BatchStartTimeout=90",  # counts the prolog
    ]
    contain = cluster.slurm.ssh_needs_job and cgroup
    lines.append(f"PrologFlags={'Contain' if contain else 'Alloc'}")
    if cluster.slurm.health_check:
        lines += [
            f"HealthCheckProgram={FOLDER}/slurm-health",
            "HealthCheckInterval=180",
            "HealthCheckNodeState=ANY",
        ]
    return lines


def slurm_conf(cluster: Cluster, facts: Mapping[str, Facts]) -> str:
    """slurm.conf(5), held by the controller alone; the others fetch it (configless)."""
    controller = cluster.first(NodeRole.CONTROLLER)
    compute = cluster.with_role(NodeRole.COMPUTE)
    cgroup = limits_by_cgroup(cluster, facts)
    declared = any(node.cpus is not None or node.memory_mb is not None for node in compute)
    slurm = cluster.slurm
    lines = [
        f"ClusterName={cluster.cluster.name}",
        f"SlurmctldHost={controller.name}({controller.address})",
        f"SlurmctldPort={slurm.controller_port}",
        f"SlurmdPort={slurm.node_port}",
        "SlurmUser=slurm",
        "AuthType=auth/munge",
        "CredType=cred/munge",
        "StateSaveLocation=/var/lib/slurm/slurmctld",
        "SlurmdSpoolDir=/var/lib/slurm/slurmd",
        "SlurmctldPidFile=/run/slurmctld.pid",
        "SlurmdPidFile=/run/slurmd.pid",
        "SlurmctldLogFile=/var/log/slurm/slurmctld.log",
        "SlurmdLogFile=/var/log/slurm/slurmd.log",
        "SlurmctldParameters=enable_configless",
        *(["SlurmdParameters=config_overrides"] if declared else []),
        f"MpiDefault={slurm.mpi_default}",
        f"ProctrackType=proctrack/{'cgroup' if cgroup else 'linuxproc'}",
        f"TaskPlugin={'task/affinity,task/cgroup' if cgroup else 'task/none'}",
        f"JobAcctGatherType=jobacct_gather/{'cgroup' if cgroup else 'linux'}",
        # Memory use is sampled: short enough that a teaching job is seen more than once.
        "JobAcctGatherFrequency=task=5",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        f"DefMemPerCPU={DEFAULT_MEMORY_PER_CPU_MB}",
        "SchedulerType=sched/backfill",
        # A class waits in front of the screen: look again soon after each submission.
        "SchedulerParameters=batch_sched_delay=0,sched_min_interval=100000,bf_interval=10,"
        # a job whose prolog failed is not at fault: it starts on another node
        "bf_continue,nohold_on_prolog_fail",
        *PRIORITIES,
        "ReturnToService=2",
        "SlurmctldTimeout=60",
        "SlurmdTimeout=120",
        "KillWait=15",
        "PropagateResourceLimitsExcept=MEMLOCK",
        # what a partition does not allow is refused by sbatch, instead of waiting for ever
        "EnforcePartLimits=ALL",
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={cluster.first(NodeRole.DATABASE).name}",
        f"AccountingStoragePort={slurm.database_port}",
        # safe: no job starts that its account's minutes would end in the middle
        "AccountingStorageEnforce=associations,limits,qos,safe",
        # never job_env: it would copy tokens of sessions into the database
        "AccountingStoreFlags=job_script",
        "PrivateData=jobs,usage",
        f"MailProg={MAIL if slurm.mail else '/bin/true'}",
        *job_scripts(cluster, cgroup=cgroup),
        # the groups that jobs get, and those of partitions: the default is ten minutes old
        "GroupUpdateTime=60",
        *(node_line(node, facts.get(node.name)) for node in compute),
        *(partition_line(cluster, partition) for partition in cluster.partitions),
    ]
    return "\n".join([WRITTEN, *lines, ""])


def cgroup_conf(cluster: Cluster, facts: Mapping[str, Facts]) -> str:
    """cgroup.conf(5): always there, so that limits do not depend on a default of a version."""
    if not limits_by_cgroup(cluster, facts):
        return without_limits(facts)
    return "ConstrainCores=yes\nConstrainRAMSpace=yes\nConstrainSwapSpace=yes\nAllowedSwapSpace=0\n"


def without_limits(facts: Mapping[str, Facts]) -> str:
    """cgroup.conf where the kernel's limits are not ours to set.

    From 23.11 slurmd opens a cgroup plugin even when nothing uses it, and v2's wants to make
    scopes. "disabled" came with 24.05; before, v1's is the one that touches nothing unasked.
    """
    version = max((fact.packages.get("slurmd", "") for fact in facts.values()), default="")
    if version >= "24.05":
        return "CgroupPlugin=disabled\n"
    return "CgroupPlugin=cgroup/v1\n" if version >= "23" else "ConstrainRAMSpace=no\n"
