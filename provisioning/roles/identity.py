"""People and daemons with one id everywhere: over NFS and munge only the number counts."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import Command, Group, Image, Package, Resource, User
from provisioning.role import Context, Role
from provisioning.roles import nfs
from provisioning.roles.where import everywhere, homes_node

# Fixed, in the system's range, and declared before the packages that would pick their own.
MUNGE_ID = 900
SLURM_ID = 901


def daemons(_context: Context) -> list[Resource]:
    return [
        Group(group="munge", gid=MUNGE_ID),
        User(user="munge", uid=MUNGE_ID, group="munge"),
        Group(group="slurm", gid=SLURM_ID),
        User(user="slurm", uid=SLURM_ID, group="slurm", home="/var/lib/slurm"),
    ]


def people(context: Context) -> list[Resource]:
    """Groups, then users. Password hashes go to login nodes alone: nobody logs in by password
    elsewhere. Homes are made once, on the shared storage, which is there before."""
    cluster = context.cluster
    login = context.node.has(NodeRole.LOGIN)
    makes_homes = context.node.name == homes_node(cluster).name
    serves = nfs.is_server(cluster, context.node)
    groups = [
        *(Group(group=group.name, gid=group.gid) for group in cluster.groups),
        *(Group(group=name, gid=gid) for course in cluster.courses for name, gid in course.groups),
    ]
    users = [
        User(
            user=user.name,
            uid=user.uid,
            group=user.groups[0],
            groups=(
                *user.groups[1:],
                *(name for one in cluster.courses for name in one.groups_of(user.name)),
            ),
            home=f"{cluster.storage.home}/{user.name}",
            shell=user.shell,
            full_name=user.full_name,
            password_hash=context.secrets.get(f"password.{user.name}", "*") if login else "*",
            create_home=makes_homes,
            notify=("run:nfs-groups",) if serves else (),
        )
        for user in cluster.users
    ]
    return [*groups, *users, *(_asked_anew() if serves else ())]


def _asked_anew() -> list[Resource]:
    """The file server remembers somebody's groups, and a client whom it has refused, for longer
    than a new member of a course would wait."""
    return [
        Command(
            id="nfs-groups",
            run=("exportfs", "-f"),
            on_notify=True,
            summary="let the file server ask anew who is in which group",
            image=Image.DEFER,
        )
    ]


def tools(_context: Context) -> list[Resource]:
    """What a person at a prompt expects."""
    names = ("less", "nano", "vim-tiny", "procps", "sudo", "bash-completion")
    return [Package(package=name) for name in names]


ROLES = (
    Role("daemons", "identity", everywhere, daemons),
    Role("tools", "identity", everywhere, tools),
    Role("people", "identity", everywhere, people),
)
