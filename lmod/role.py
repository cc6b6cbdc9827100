"""Lmod on login and compute nodes, and the site's first modulefiles on shared storage."""

from __future__ import annotations

from cluster.model import NodeRole
from lmod import shells
from lmod.modulefiles import openmpi_module, python_module
from provisioning.resources import Directory, Image, Line, Package, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.where import on, on_first


def shell_set_up(context: Context) -> list[Resource]:
    library = "/usr/local/lib/practicum"
    return [
        Package(package="lmod"),
        Directory(path=library),
        Directory(path=f"{library}/bin"),
        file(shells.PROFILE, shells.profile(context.cluster)),
        file(shells.SHELL_INIT, shells.shell_init()),
        file(shells.COMMAND, shells.command(), mode=0o755),
        Line(
            path="/etc/bash.bashrc",
            line=shells.bashrc_line(),
            match=r"/usr/local/lib/practicum/modules\.sh",
        ),
    ]


def first_modules(context: Context) -> list[Resource]:
    """Written once, on the first login node, for all."""
    root = shells.modulefiles(context.cluster)
    modules = [python_module(context.cluster, kernel, context.own)
               for kernel in context.cluster.kernels]  # fmt: skip
    modules.append(openmpi_module(context.own))
    found: list[Resource] = [
        Directory(path=root, image=Image.DEFER),
        Directory(path=f"{root}/Core", image=Image.DEFER),
    ]
    for path, text in modules:
        name = path.partition("/")[0]
        found.append(Directory(path=f"{root}/Core/{name}", image=Image.DEFER))
        found.append(file(f"{root}/Core/{path}", text, image=Image.DEFER))
    return found


ROLES = (
    Role("lmod", "software", on(NodeRole.LOGIN, NodeRole.COMPUTE), shell_set_up),
    Role("modulefiles", "software", on_first(NodeRole.LOGIN), first_modules),
)
