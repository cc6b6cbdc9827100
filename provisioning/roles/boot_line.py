"""Raspberry Pis: their firmware switches the memory cgroup off, and the boot command line turns it
on again, from the next start on. practicum never restarts a node by itself."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import Command, Directory, Image, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.own_files import FOLDER, own_file
from provisioning.roles.where import on

SCRIPT = f"{FOLDER}/boot_line.py"
# The first for kernels since 5.x, the second for the Pi's own older ones; cpuset is on by itself.
WORDS = ("cgroup_enable=memory", "cgroup_memory=1")


def boot_line(context: Context) -> list[Resource]:
    """Two words in cmdline.txt. They stay when the node leaves: nothing needs them away."""
    path = context.own.boot_line
    if not path or context.own.container:
        return []
    return [
        Directory(path=FOLDER),
        file(SCRIPT, own_file("boot_line.py"), mode=0o755),
        Command(
            id="memory-cgroup",
            check=("python3", "-I", SCRIPT, "--check", path, *WORDS),
            run=("python3", "-I", SCRIPT, path, *WORDS),
            summary=f"turn memory limits on in {path}: restart the node when it is free",
            image=Image.APPLY,
        ),
    ]


ROLES = (Role("boot-line", "base", on(NodeRole.COMPUTE), boot_line),)
