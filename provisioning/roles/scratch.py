"""Room on each compute node's own disk: a folder for every job, gone when the job is.

The folder itself is root's and nobody else writes there, so what is made in it for a job cannot
have been put there before by somebody else.
"""

from __future__ import annotations

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Directory, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import own_file

PLACES = {
    "scratch-prolog": "/etc/slurm/prolog.d/20-scratch",
    "scratch-epilog": "/etc/slurm/epilog.d/20-scratch",
    "scratch-taskprolog": "/etc/slurm/taskprolog.d/20-scratch",
}
TMPFILES = "/etc/tmpfiles.d/practicum-scratch.conf"


def where(cluster: Cluster, node: Node) -> bool:
    return cluster.storage.scratch is not None and node.has(NodeRole.COMPUTE)


def scratch(context: Context) -> list[Resource]:
    folder = context.cluster.storage.scratch
    kinds = ("prolog", "epilog", "taskprolog")
    return [
        Directory(path=str(folder)),
        # No job outlives a restart of its node: emptied at boot (tmpfiles.d(5)).
        file(TMPFILES, f"D! {folder} 0755 root root -\n"),
        *(Directory(path=f"/etc/slurm/{kind}.d") for kind in kinds),
        *(
            # cluster.values.PATH lets nothing through that the shell would read as its own
            file(path, own_file(name).replace("@SCRATCH@", str(folder)), mode=0o755)
            for name, path in PLACES.items()
        ),
    ]


ROLES = (Role("scratch", "compute", where, scratch),)
