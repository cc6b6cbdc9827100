"""[storage] and [[quotas]]: folders, the disk, and who gets how much."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.checks.problem import Problem, unknown
from cluster.model import Cluster, NodeRole
from cluster.storage import Quota, Storage
from cluster.values import seconds

# The system's own folders: nothing may be mounted over them, or made for all in them.
SYSTEM = frozenset(
    """/ /bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /root /run /sbin /sys /tmp /usr
    /var /var/lib /var/tmp /srv /opt /usr/local /usr/share /var/log /var/lib/practicum
    /var/lib/slurm""".split()
)
# Whatever lies below these is the system's, or practicum's, or does not survive.
BELOW = tuple(
    """/proc /sys /dev /run /etc /boot /tmp /var/tmp /bin /sbin /lib /lib32 /lib64 /libx32 /usr
    /root /var/backups /var/cache /var/lib /var/log /var/mail /var/spool /opt/practicum""".split()
)
NFS_ONLY = ("disk", "quotas", "root_nodes")


def storage(cluster: Cluster) -> Iterator[Problem]:
    table = cluster.storage
    yield from folders(table)
    if table.provider == "nfs":
        yield from server(cluster)
    else:
        for key in NFS_ONLY:
            if getattr(table, key):
                yield Problem(
                    ("storage", key),
                    'is for practicum\'s own file server: set provider = "nfs", or take it out',
                )
    if seconds(table.quota_grace) == 0:
        yield Problem(("storage", "quota_grace"), "must be longer than 0")


def folders(table: Storage) -> Iterator[Problem]:
    """Plain, none the system's, none of them inside another where they are mounted by us."""
    own = table.provider == "nfs"
    named = {"home": table.home, "shared": table.shared}
    if own:
        named["folder"] = table.folder
    if table.scratch is not None:
        named["scratch"] = table.scratch
    for key, path in named.items():
        parts = path.split("/")[1:]
        if "" in parts or "." in parts or ".." in parts:
            yield Problem(("storage", key), f"must be a plain folder like /nfs, not {path!r}")
        elif path in SYSTEM or any(path.startswith(f"{one}/") for one in BELOW):
            yield Problem(("storage", key), f"{path} is the system's own: choose another folder")
    if table.home == table.shared:
        yield Problem(("storage", "shared"), "must be another folder than home")
        return
    groups = [list(named)] if own else [["home", "scratch"], ["shared", "scratch"]]
    for keys in groups:
        yield from nested({key: named[key] for key in keys if key in named})


def nested(named: dict[str, str]) -> Iterator[Problem]:
    for key, path in named.items():
        for other, parent in named.items():
            if key != other and f"{path}/".startswith(f"{parent}/"):
                yield Problem(("storage", key), f"{path} lies in {other} ({parent}): put it beside")


def server(cluster: Cluster) -> Iterator[Problem]:
    """provider = "nfs": the machine, its disk, and whose root is root."""
    table = cluster.storage
    servers = [node.name for node in cluster.with_role(NodeRole.STORAGE)]
    if not servers:
        yield Problem(
            ("storage", "provider"), 'nfs needs a file server: add "storage" to one node\'s roles'
        )
    if len(servers) > 1:
        yield Problem(
            ("storage", "provider"),
            f"nfs has one file server, and {', '.join(servers)} have the role storage",
        )
    disk = table.disk
    if disk is not None and (disk.serial is None) == (disk.partuuid is None):
        yield Problem(("storage", "disk"), "needs either serial or partuuid: see lsblk -o +SERIAL")
    if table.quotas and disk is None:
        yield Problem(
            ("storage", "quotas"),
            "need a disk of their own (ext4 with its quota feature): name it in [storage.disk]",
        )
    names = [node.name for node in cluster.machines]
    for index, name in enumerate(table.root_nodes):
        if name not in names:
            yield Problem(("storage", "root_nodes", index), unknown(name, names, "node"))


def quotas(cluster: Cluster) -> Iterator[Problem]:
    if cluster.quotas and not cluster.storage.quotas:
        yield Problem(("quotas",), "nobody counts yet: set quotas = true in [storage]")
    people = [user.name for user in cluster.users]
    groups = [group.name for group in cluster.groups]
    seen: dict[tuple[str | None, str | None, bool], int] = {}
    for index, quota in enumerate(cluster.quotas):
        yield from _one(index, quota)
        for key, name, known in (("user", quota.user, people), ("group", quota.group, groups)):
            if name is not None and name not in known:
                yield Problem(("quotas", index, key), unknown(name, known, key))
        which = (quota.user, quota.group, quota.whole_group)
        if which in seen:
            yield Problem(
                ("quotas", index),
                f"{quota.user or quota.group} already has quotas[{seen[which]}]: keep one",
            )
        seen.setdefault(which, index)


def _one(index: int, quota: Quota) -> Iterator[Problem]:
    if (quota.user is None) == (quota.group is None):
        yield Problem(("quotas", index), "needs either user or group")
    if quota.whole_group and quota.user is not None:
        yield Problem(("quotas", index, "whole_group"), "goes with group, not with user")
    for what in ("mb", "files"):
        soft, hard = getattr(quota, f"soft_{what}"), getattr(quota, f"hard_{what}")
        if hard and soft > hard:
            yield Problem(
                ("quotas", index, f"soft_{what}"),
                f"{soft} is more than hard_{what} = {hard}: nobody would ever be warned",
            )
