"""Quotas: what [[quotas]] says, for each person and group, counted and held by the file server.

The numbers are set by one script on the server (files/quota.py), by id: names come later. Nodes
get the command ``quota``; rpc.rquotad on the server answers it.
"""

from __future__ import annotations

import json

from cluster.model import Cluster, Node, UserEntry
from cluster.storage import Quota
from cluster.values import seconds
from provisioning.resources import Command, Directory, Image, Package, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.nfs import is_server, refuse
from provisioning.roles.own_files import FOLDER, own_file

SCRIPT = f"{FOLDER}/quota.py"
WANTED = "/etc/practicum/quotas.json"
UNIT = "practicum-rquotad"
# Debian's own unit is off by default, and starts only if /etc/fstab and /etc/exports please its
# script.
UNIT_TEXT = """[Unit]
Description=Answers the nodes' question how much of a quota is used
Requires=rpcbind.service
After=rpcbind.service network.target

[Service]
ExecStart=/usr/sbin/rpc.rquotad -F
Restart=on-failure
RestartSec=5

[Install]
WantedBy=multi-user.target
"""
Limits = tuple[int, int, int, int]  # soft and hard kB, soft and hard number of files


def limits(quota: Quota) -> Limits:
    return (quota.soft_mb * 1024, quota.hard_mb * 1024, quota.soft_files, quota.hard_files)


def quota_of(cluster: Cluster, user: UserEntry) -> Quota | None:
    """The line that counts for somebody: their own, else the first of a group they are in."""
    for quota in cluster.quotas:
        if quota.user == user.name:
            return quota
    for quota in cluster.quotas:
        if quota.group in user.groups and not quota.whole_group:
            return quota
    return None


def user_limits(cluster: Cluster) -> dict[int, Limits]:
    """By uid."""
    found = ((user.uid, quota_of(cluster, user)) for user in cluster.users)
    return {uid: limits(quota) for uid, quota in found if quota is not None}


def group_limits(cluster: Cluster) -> dict[int, Limits]:
    """By gid."""
    gids = {group.name: group.gid for group in cluster.groups}
    return {
        gids[quota.group]: limits(quota)
        for quota in cluster.quotas
        if quota.whole_group and quota.group
    }


def wanted(cluster: Cluster) -> str:
    """As the script on the server reads it."""
    rows = {
        "held": cluster.storage.quotas,
        "folder": cluster.storage.folder,
        "grace": seconds(cluster.storage.quota_grace),
        "users": {str(uid): numbers for uid, numbers in user_limits(cluster).items()},
        "groups": {str(gid): numbers for gid, numbers in group_limits(cluster).items()},
    }
    return json.dumps(rows, indent=1, sort_keys=True) + "\n"


def has_disk(cluster: Cluster, node: Node) -> bool:
    """Also without quotas: those of before would be held on."""
    return cluster.storage.disk is not None and is_server(cluster, node)


def server(context: Context) -> list[Resource]:
    held = context.cluster.storage.quotas
    if held:
        refuse(context, "quota", "counts no quotas")
    answering: list[Resource] = [
        Package(package="quota"),
        Package(package="rpcbind"),
        file(f"/etc/systemd/system/{UNIT}.service", UNIT_TEXT),
        Service(service=UNIT),
    ]
    return [
        Directory(path=FOLDER),
        Directory(path="/etc/practicum"),
        file(SCRIPT, own_file("quota.py"), mode=0o755),
        file(WANTED, wanted(context.cluster)),
        Command(
            id="quotas",
            check=("python3", "-I", SCRIPT, "--check", WANTED),
            run=("python3", "-I", SCRIPT, WANTED),
            summary="set the quotas of people and groups" if held else "take all quotas away",
            image=Image.DEFER,
        ),
        *(answering if held else []),
    ]


def shown(cluster: Cluster, _node: Node) -> bool:
    return cluster.storage.quotas


def command(_context: Context) -> list[Resource]:
    """``quota`` for everyone. It finds the server's port by a name in netbase's /etc/rpc."""
    return [Package(package="quota"), Package(package="netbase")]


ROLES = (
    Role("quotas", "storage", has_disk, server),
    Role("quota-command", "storage", shown, command),
)
