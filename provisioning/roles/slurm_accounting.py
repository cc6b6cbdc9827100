"""Slurm's accounting as cluster.toml has it: QOS, accounts, and who is in them."""

from __future__ import annotations

import json
from typing import Any

from cluster.model import Cluster, NodeRole
from cluster.scheduling import Account, Qos
from cluster.values import seconds
from provisioning.resources import Command, Resource, WaitPort, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.where import on_first

HUB_USER = "practicum-hub"
BUILD_USER = "practicum-build"  # whose jobs build shared kernels
SCRIPT = f"{FOLDER}/accounting.py"
WANTED = "/etc/practicum/accounting.json"
REFUSED = "/var/lib/practicum/accounting-refused"
NORMAL = "normal"  # Slurm's own QOS, there without being declared


def accounting(cluster: Cluster) -> str:
    """The associations that should exist, as the node's script reads them.

    The hub's user is an operator: with PrivateData nobody else sees others' jobs.
    """
    everyone = cluster.slurm.account
    people = [user.name for user in cluster.users]
    people += [course.grader for course in cluster.courses]
    declared = {account.name: account for account in (*cluster.accounts, *courses(cluster))}
    own = {name: members(cluster, account) for name, account in declared.items()}
    names = [everyone, *(name for name in declared if name != everyone)]
    wanted = {
        "cluster": cluster.cluster.name,
        "qos": {item.name: limits(item) for item in cluster.qos},
        "accounts": {
            name: settings(cluster, declared.get(name, Account(name=name))) for name in names
        },
        "users": {
            name: [everyone, *(a for a in names if a != everyone and name in own[a])]
            for name in [*people, HUB_USER, BUILD_USER]
        }
        # submissions under grading: the course's account and nothing else
        | {box: [course.name] for course in cluster.courses for box in course.boxes},
        "operators": [HUB_USER],
    }
    return json.dumps(wanted, indent=1, sort_keys=False) + "\n"


def courses(cluster: Cluster) -> tuple[Account, ...]:
    """Each course's account; its grader sees all jobs in it, and may end them. Students of an
    archived course are in it no more."""
    return tuple(
        Account(
            name=course.name,
            users=course.people if course.state == "open" else course.instructors,
            coordinators=(course.grader,),
        )
        for course in cluster.courses
    )


def members(cluster: Cluster, account: Account) -> set[str]:
    """By group or by name; a coordinator belongs to the account, too."""
    groups = set(account.groups)
    by_group = {user.name for user in cluster.users if groups & set(user.groups)}
    return by_group | set(account.users) | set(account.coordinators)


def limits(item: Qos) -> dict[str, int]:
    return {
        "priority": item.priority,
        "maxwall": -(-seconds(item.max_time) // 60) if item.max_time else 0,  # minutes
        "maxjobspu": item.max_jobs_per_user,
        "maxsubmitpu": item.max_submitted_per_user,
        "cpus": item.max_cpus_per_user,
        "nodes": item.max_nodes_per_user,
        "memory": item.max_memory_mb_per_user,
    }


def settings(cluster: Cluster, account: Account) -> dict[str, Any]:
    first = cluster.qos[0].name if cluster.qos else NORMAL
    return {
        "share": account.shares,
        "cpu_minutes": account.max_cpu_minutes,
        "qos": list(account.qos) or [first],
        "coordinators": sorted(account.coordinators),
    }


def declared_accounting(context: Context) -> list[Resource]:
    """On the controller, before it starts: partitions may name a QOS."""
    cluster = context.cluster
    database = cluster.first(NodeRole.DATABASE)
    return [
        WaitPort(host=database.address, port=cluster.slurm.database_port),
        file(SCRIPT, own_file("accounting.py"), mode=0o755),
        file(WANTED, accounting(cluster)),
        Command(
            id="slurm-accounting",
            check=("python3", "-I", SCRIPT, "--check", WANTED),
            run=("python3", "-I", SCRIPT, WANTED),
            summary="bring Slurm's accounts, QOS, users and operators up to date",
            timeout=900,
            check_timeout=120,  # five sacctmgr
        ),
    ]


def told(_context: Context) -> list[Resource]:
    """What could not be removed is a failure that stops nothing else: it comes last."""
    return [
        Command(
            id="slurm-accounting-rest",
            check=("test", "!", "-e", REFUSED),
            run=("python3", "-I", SCRIPT, "--tell"),
            summary="look at what Slurm's accounting could not remove",
        )
    ]


LAST_ROLES = (Role("slurm-accounting-rest", "hub", on_first(NodeRole.CONTROLLER), told),)
