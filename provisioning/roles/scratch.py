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
DIGITS = 10  # of a job's number, at most (32 bits)


def where(cluster: Cluster, node: Node) -> bool:
    return cluster.storage.scratch is not None and node.has(NodeRole.COMPUTE)


def tmpfiles(folder: str) -> str:
    """tmpfiles.d(5): no job outlives a restart of its node, so at boot what prolog and epilog make
    there goes, and nothing else. Its patterns cannot say "digits only", so each length is named."""
    names = ["[0-9]" * count for count in range(1, DIGITS + 1)]
    lines = [f"d {folder} 0755 root root -"]
    lines += [f"R! {folder}/{name}" for name in (*names, ".gone-[0-9]*")]
    return "".join(f"{line}\n" for line in lines)


def scratch(context: Context) -> list[Resource]:
    folder = context.cluster.storage.scratch
    kinds = ("prolog", "epilog", "taskprolog")
    return [
        Directory(path=str(folder), own=True),
        file(TMPFILES, tmpfiles(str(folder))),
        *(Directory(path=f"/etc/slurm/{kind}.d") for kind in kinds),
        *(
            # cluster.values.PATH lets nothing through that the shell would read as its own
            file(path, own_file(name).replace("@SCRATCH@", str(folder)), mode=0o755)
            for name, path in PLACES.items()
        ),
    ]


ROLES = (Role("scratch", "compute", where, scratch),)
