"""What one person may have at a time, in words: the hub's own limit and those of Slurm's QOS.

Slurm counts and refuses; this says it beforehand, on the start page, and plainly when it happens.
A QOS of the partition holds for everybody there. Without one, the first of [[qos]] is what jobs
have by default; an account may give its people another, so then no figure is named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from cluster.model import Cluster
from cluster.scheduling import Qos
from spawners.amounts import count, memory

# squeue(1), JOB REASON CODES: AssocGrpCpuLimit, QOSMaxCpuPerUserLimit, QOSMaxMemoryPerUser, ...
REASON = re.compile(
    r"(?:QOS|Assoc)(?P<scope>Grp|Max|Min)"
    r"(?P<what>CPU|Cpu|Mem|Node|Submit|Job|Wall|GRES|TRES|Bill)(?P<rest>\w*)"
)
THINGS = {
    "CPU": "cores", "Cpu": "cores", "Mem": "memory", "Node": "nodes", "Job": "running jobs",
    "Submit": "jobs", "Wall": "time", "GRES": "devices", "TRES": "resources", "Bill": "resources",
}  # fmt: skip
# what sbatch says of a job that no QOS or association lets in
REFUSED = re.compile(r"Job violates accounting/QOS policy")


def reason(word: str, qos: Qos | None = None) -> str:
    """Why a job waits at a limit, from squeue's word; "" when that is no limit's."""
    found = REASON.match(word)
    if not found:
        return ""
    what, rest = found["what"], found["rest"]
    if "Minutes" in rest or "RunMin" in rest:
        return "the computing time of your account is used up for now; ask your instructor"
    if found["scope"] == "Min" or "PerJob" in rest or what == "Wall":
        return f"it asks for other {THINGS[what]} than one job may have; choose a smaller profile"
    if found["scope"] == "Grp":
        return (
            f"your class uses all the {THINGS[what]} that it may have at a time; "
            "it starts when another of its jobs ends"
        )
    figure = _figure(what, qos)
    return (
        f"you have all the {THINGS[what]} that one person may have at a time{figure}; "
        "it starts when another session or job of yours ends"
    )


def _figure(what: str, qos: Qos | None) -> str:
    if qos is None:
        return ""
    amounts = {
        "CPU": str(qos.max_cpus_per_user or ""),
        "Mem": memory(qos.max_memory_mb_per_user) if qos.max_memory_mb_per_user else "",
        "Node": str(qos.max_nodes_per_user or ""),
        "Job": str(qos.max_jobs_per_user or ""),
        "Submit": str(qos.max_submitted_per_user or ""),
    }
    amount = amounts.get("CPU" if what == "Cpu" else what, "")
    return f" ({amount})" if amount else ""


def qos_of(cluster: Cluster, partition: str) -> Qos | None:
    """The QOS whose limits surely hold for jobs in that partition; None if that depends."""
    part = next((part for part in cluster.partitions if part.name == partition), None)
    wanted = part.qos if part else None
    if wanted is None and len(cluster.qos) == 1:
        wanted = cluster.qos[0].name
    return next((qos for qos in cluster.qos if qos.name == wanted), None)


def amounts(qos: Qos) -> list[str]:
    """What it leaves one person, each in a few words."""
    parts = []
    if qos.max_cpus_per_user:
        parts.append(count(qos.max_cpus_per_user, "core"))
    if qos.max_memory_mb_per_user:
        parts.append(f"{memory(qos.max_memory_mb_per_user)} of memory")
    if qos.max_jobs_per_user:
        parts.append(count(qos.max_jobs_per_user, "running job"))
    return parts


def refusal(said: str, cluster: Cluster, partition: str) -> str:
    """sbatch's refusal in plain words where it is about a limit; else as it was said."""
    if not REFUSED.search(said):
        return said
    qos = qos_of(cluster, partition)
    most = joined(amounts(qos)) if qos else ""
    if qos and qos.max_submitted_per_user:
        jobs = count(qos.max_submitted_per_user, "job")
        most = joined([*amounts(qos), f"{jobs} in the queue"])
    figures = f" (one person may have {most})" if most else ""
    return (
        f"you have as many jobs as one person may have, or this one is too large{figures}: "
        "end a session or a job of yours, or choose a smaller profile"
    )


def offer(cluster: Cluster) -> str:
    """For the start page: what one person may have at a time."""
    servers = count(cluster.hub.servers_per_person, "session")
    text = f"You may have {servers} at a time"
    used: list[tuple[Qos, str]] = []
    for name in dict.fromkeys(item.partition for item in cluster.profiles if not item.login):
        qos = qos_of(cluster, name)
        if qos is not None and amounts(qos) and qos not in [seen for seen, _ in used]:
            used.append((qos, name))
    if len(used) == 1:
        return f"{text}, with {joined(amounts(used[0][0]))} together."
    for qos, name in used:
        text += f"; in partition {name} {joined(amounts(qos))} together"
    return f"{text}."


def joined(parts: Sequence[str]) -> str:
    """one, two and three"""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])} and {parts[-1]}"
