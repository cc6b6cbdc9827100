"""What sessions need on the nodes: the launcher, the wrappers of Slurm's commands, a profile."""

from __future__ import annotations

import io
import zipfile
from importlib import resources

from cluster.model import Cluster, Node, NodeRole
from provisioning.resources import Directory, Resource, file
from provisioning.role import Context, Opening, Role

FOLDER = "/usr/local/lib/practicum"
BANNER = f"{FOLDER}/jupyter/labextensions/practicum-session"
BANNER_FOLDERS = (
    f"{FOLDER}/jupyter", f"{FOLDER}/jupyter/labextensions", BANNER, f"{BANNER}/static",
)  # fmt: skip
LOGIN_PREFIX = "practicum-login-"  # of the units that are sessions on the login node
WRAPPED = ("sbatch", "srun", "salloc")


def content(name: str) -> str:
    """A file that is shipped to nodes. FileNotFoundError when the installation lacks it."""
    return (
        resources.files("spawners").joinpath("files", *name.split("/")).read_text(encoding="utf-8")
    )


# What the launcher's file starts with; its folder in there has a name that nothing else has.
START = """import sys

from practicum_launcher.start import main

sys.exit(main(sys.argv[1:]))
"""


def launcher() -> bytes:
    """:mod:`spawners.launch` as one file that Python runs: a zip, always of the same bytes."""
    sources = resources.files("spawners.launch").iterdir()
    texts = {item.name: item.read_text(encoding="utf-8") for item in sources if item.is_file()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), START)
        for name in sorted(texts):
            archive.writestr(zipfile.ZipInfo(f"practicum_launcher/{name}"), texts[name])
    return buffer.getvalue()


def session(_context: Context) -> list[Resource]:
    """Files only: nothing of practicum itself is installed where students' code runs."""
    wrapper = content("slurm-wrapper.sh")
    return [
        Directory(path=FOLDER),
        Directory(path=f"{FOLDER}/bin"),
        *(Directory(path=path) for path in BANNER_FOLDERS),
        file(f"{BANNER}/package.json", content("banner/package.json")),
        file(f"{BANNER}/static/banner.js", content("banner/banner.js")),
        file(f"{FOLDER}/launcher.py", launcher()),
        *(file(f"{FOLDER}/bin/{name}", wrapper, mode=0o755) for name in WRAPPED),
        # after Lmod's, which sets PATH as well
        file("/etc/profile.d/zz-practicum.sh", content("profile.sh")),
    ]


def wanted(cluster: Cluster, node: Node) -> bool:
    """On compute nodes, and on the login node when a profile runs there."""
    here = node.name == cluster.first(NodeRole.LOGIN).name
    return node.has(NodeRole.COMPUTE) or (
        here and any(profile.login for profile in cluster.profiles)
    )


def openings(cluster: Cluster) -> list[Opening]:
    """Sessions listen here, and only the proxy on the login node talks to them."""
    return [Opening(cluster.hub.session_ports, "login")]


ROLES = (Role("session", "software", wanted, session, openings),)
