"""What runs around jobs on a compute node: prolog, epilog, health check; and how memory is kept."""

from __future__ import annotations

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Directory, Package, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.slurm_conf import limits_by_cgroup
from provisioning.roles.where import on

KEEP = "/etc/practicum/slurm-keep"
HEALTH = "/etc/practicum/slurm-health.conf"
# systemd-logind's default removes a user's shared memory when their last log-in session ends,
# also that of their running jobs (logind.conf(5)).
LOGIND = "[Login]\nRemoveIPC=no\n"


def trusted(cluster: Cluster) -> list[str]:
    """Who works on nodes without a job: root, the account practicum comes in as, the admins."""
    admins = set(cluster.groups_with("admin"))
    people = [user.name for user in cluster.users if admins & set(user.groups)]
    return list(dict.fromkeys(["root", cluster.ssh.user, *people]))


def keep(cluster: Cluster, node: Node) -> str:
    """Whose processes and files the epilog leaves alone, one a line; * for everybody's."""
    names = ["*"] if node.has(NodeRole.LOGIN) else trusted(cluster)
    return "".join(f"{name}\n" for name in names)


def health_conf(context: Context) -> str:
    """Read by the shell; cluster.toml's paths have no character that means anything there."""
    cluster, node = context.cluster, context.node
    storage = cluster.storage
    mounted = storage.provider == "nfs" and not node.has(NodeRole.STORAGE)
    folders = [storage.home, storage.shared] if storage.provider == "nfs" else [storage.home]
    memory = "yes" if limits_by_cgroup(cluster, context.facts) else ""
    return (
        f'FOLDERS="{" ".join(folders)}"\n'
        f'NFS="{storage.home if mounted else ""}"\n'
        f'MEMORY_LIMITS="{memory}"\n'
    )


def jobs(context: Context) -> list[Resource]:
    """Scripts are there before slurmd starts. Other roles put theirs into the three folders."""
    names = ["slurm-prolog", "slurm-epilog", "slurm-taskprolog", "slurmd-registered",
             "slurmd-stopped"]  # fmt: skip
    found: list[Resource] = [
        Directory(path=FOLDER),
        Directory(path="/etc/practicum"),
        Directory(path="/etc/slurm"),
        *(Directory(path=f"/etc/slurm/{kind}.d") for kind in ("prolog", "epilog", "taskprolog")),
        file(KEEP, keep(context.cluster, context.node)),
    ]
    if context.cluster.slurm.health_check:
        names.append("slurm-health")
        found.append(file(HEALTH, health_conf(context)))
    found += [file(f"{FOLDER}/{name}", own_file(name), mode=0o755) for name in names]
    found += [
        Directory(path="/etc/systemd/logind.conf.d"),
        file(
            "/etc/systemd/logind.conf.d/practicum.conf",
            LOGIND,
            notify=("restart:systemd-logind",),
        ),
    ]
    if limits_by_cgroup(context.cluster, context.facts):
        found.append(Package(package="dbus"))  # slurmd asks systemd for its scope over it
    return found


ROLES = (Role("slurm-jobs", "trust", on(NodeRole.COMPUTE), jobs),)
