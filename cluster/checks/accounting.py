"""[[qos]] and [[accounts]]: limits that exist, and people who do."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, repeated, unknown
from cluster.model import Cluster
from cluster.scheduling import Account, Qos
from cluster.toml_lines import Place
from cluster.values import seconds

ROOT = "root"  # Slurm's own account, above all others


def qos(cluster: Cluster) -> Iterator[Problem]:
    """Limits by which nothing could ever run are told now, not when a job waits for ever."""
    yield from repeated((item.name for item in cluster.qos), ("qos",), "name", "the name")
    for index, item in enumerate(cluster.qos):
        here: Place = ("qos", index)
        if item.max_time and seconds(item.max_time) < 60:
            yield Problem((*here, "max_time"), "must be a minute or more")
        jobs, submitted = item.max_jobs_per_user, item.max_submitted_per_user
        if jobs and submitted and submitted < jobs:
            yield Problem(
                (*here, "max_submitted_per_user"),
                f"{submitted} is less than max_jobs_per_user ({jobs}): running jobs count too",
            )
    if cluster.qos:
        yield from _default_fits(cluster, cluster.qos[0])


def _default_fits(cluster: Cluster, default: Qos) -> Iterator[Problem]:
    """Whoever says nothing gets the first QOS: partitions and profiles must fit into it."""
    limit = default.max_time
    if limit:
        for index, part in enumerate(cluster.partitions):
            if part.qos is None and seconds(part.default_time) > seconds(limit):
                yield Problem(
                    ("partitions", index, "default_time"),
                    f"{part.default_time} is more than {limit}, the max_time of {default.name}, "
                    "which is everyone's QOS unless they ask for another",
                )
        own_limit = {part.name for part in cluster.partitions if part.qos is not None}
        for index, profile in enumerate(cluster.profiles):
            if profile.login:
                continue
            if profile.partition not in own_limit and seconds(profile.time) > seconds(limit):
                yield Problem(
                    ("profiles", index, "time"),
                    f"{profile.time} is more than {limit}, the max_time of {default.name}, "
                    "which is everyone's QOS",
                )
    for index, profile in enumerate(cluster.profiles):
        too_many = profile.cpus > default.max_cpus_per_user > 0
        if too_many and not profile.login:
            yield Problem(
                ("profiles", index, "cpus"),
                f"{profile.cpus} is more than max_cpus_per_user ({default.max_cpus_per_user}) of "
                f"{default.name}, which is everyone's QOS",
            )


def accounts(cluster: Cluster) -> Iterator[Problem]:
    table = cluster.accounts
    yield from repeated((account.name for account in table), ("accounts",), "name", "the name")
    if cluster.slurm.account == ROOT:
        yield Problem(("slurm", "account"), "root is Slurm's own account: choose another")
    for index, account in enumerate(table):
        yield from _account(cluster, ("accounts", index), account)


def _account(cluster: Cluster, here: Place, account: Account) -> Iterator[Problem]:
    if account.name == ROOT:
        yield Problem((*here, "name"), "root is Slurm's own account: choose another")
    known = {
        "groups": ([group.name for group in cluster.groups], "group", account.groups),
        "users": ([user.name for user in cluster.users], "user", account.users),
        "coordinators": ([user.name for user in cluster.users], "user", account.coordinators),
        "qos": ([item.name for item in cluster.qos], "QOS", account.qos),
    }
    for key, (names, what, used) in known.items():
        for place, name in enumerate(used):
            if name not in names:
                yield Problem((*here, key, place), unknown(name, names, what))
        if len(set(used)) < len(used):
            yield Problem((*here, key), f"a {what} is listed twice")
    if account.name == cluster.slurm.account:
        for key in ("groups", "users"):
            if getattr(account, key):
                yield Problem(
                    (*here, key),
                    f"everyone is in {account.name} (slurm.account) already: leave out",
                )
    elif not (account.groups or account.users or account.coordinators):
        yield Problem(here, "nobody is in it: give it groups or users")
