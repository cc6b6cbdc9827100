"""What sessions need on the nodes: the launcher, the wrappers of Slurm's commands, a profile."""

from __future__ import annotations

from importlib import resources

from cluster.model import Cluster, NodeRole
from provisioning.resources import Directory, Resource, file
from provisioning.role import Context, Opening, Role
from provisioning.roles.where import on

FOLDER = "/usr/local/lib/practicum"
WRAPPED = ("sbatch", "srun", "salloc")


def content(name: str) -> str:
    """A file that is shipped to nodes. FileNotFoundError when the installation lacks it."""
    return resources.files("spawners").joinpath("files", name).read_text(encoding="utf-8")


def session(_context: Context) -> list[Resource]:
    """Files only: nothing of practicum itself is installed where students' code runs."""
    wrapper = content("slurm-wrapper.sh")
    return [
        Directory(path=FOLDER),
        Directory(path=f"{FOLDER}/bin"),
        file(f"{FOLDER}/launcher.py", content("launcher.py")),
        *(file(f"{FOLDER}/bin/{name}", wrapper, mode=0o755) for name in WRAPPED),
        # after Lmod's, which sets PATH as well
        file("/etc/profile.d/zz-practicum.sh", content("profile.sh")),
    ]


def openings(cluster: Cluster) -> list[Opening]:
    """Sessions listen here, and only the proxy on the login node talks to them."""
    return [Opening(cluster.hub.session_ports, "login")]


ROLES = (Role("session", "software", on(NodeRole.COMPUTE), session, openings),)
