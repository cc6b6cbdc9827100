"""Lmod on login and compute nodes, and the site's modulefiles on shared storage."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import PurePosixPath

from cluster.model import Cluster, NodeRole
from lmod import catalogue, shells
from lmod.catalogue import Entry
from provisioning.resources import (
    Command,
    Directory,
    Image,
    Line,
    Package,
    Resource,
    Service,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.where import on, on_first

TOOL = f"{shells.LIBRARY}/modules.py"
SETTINGS = "/etc/practicum/modules.json"
REFRESH = "module-cache"
BASHRC = r"/usr/local/lib/practicum/modules\.sh"  # its old line, if another stands there
PYTHON = "/usr/bin/python3"
# Packages of shells that Debian does not have from the start
SHELLS = {"zsh": "zsh", "csh": "tcsh", "tcsh": "tcsh"}
SERVICE = f"""[Unit]
Description=The cache of modulefiles, if any has changed

[Service]
Type=oneshot
ExecStart={PYTHON} -I {TOOL} refresh --if-changed
TimeoutStartSec=1500
Nice=10
"""
TIMER = """[Unit]
Description=Looks for changed modulefiles

[Timer]
OnBootSec=3min
OnUnitInactiveSec=5min

[Install]
WantedBy=timers.target
"""


def own_file(name: str) -> str:
    """The text of ``files/NAME``. FileNotFoundError when the installation lacks it."""
    return resources.files("lmod").joinpath("files", name).read_text(encoding="utf-8")


def shell_set_up(context: Context) -> list[Resource]:
    cluster = context.cluster
    wanted = {PurePosixPath(user.shell).name for user in cluster.users}
    packages = {SHELLS[shell] for shell in wanted if shell in SHELLS}
    found: list[Resource] = [
        Package(package="lmod"),
        *(Package(package=name) for name in sorted({*packages, *own_packages(cluster)})),
        Directory(path=shells.LIBRARY),
        Directory(path=f"{shells.LIBRARY}/bin"),
        file(shells.PROFILE, shells.profile(cluster)),
        file(shells.UPDATE, shells.update()),
        file(shells.SHELL_INIT, shells.shell_init()),
        file(shells.ZSH_INIT, shells.zsh_init()),
        file(shells.CSH_INIT, shells.csh_init(cluster)),
        file(shells.COMMAND, shells.command(), mode=0o755),
        file(f"{shells.LIBRARY}/port_probe.py", own_file("port_probe.py"), mode=0o755),
        Line(path="/etc/bash.bashrc", line=shells.bashrc_line(), match=BASHRC),
    ]
    if "zsh" in packages:
        found.append(
            Line(path="/etc/zsh/zshenv", line=shells.zshenv_line(), match=r"practicum/modules\.zsh")
        )
    if "tcsh" in packages:
        found.append(
            Line(path="/etc/csh.cshrc", line=shells.cshrc_line(), match=r"practicum/modules\.csh")
        )
    return found


def own_packages(cluster: Cluster) -> set[str]:
    """Packages of the distribution that [software] and [[modules]] ask for."""
    return {
        *cluster.software.packages,
        *(name for module in cluster.modules for name in module.packages),
    }


def publisher(cluster: Cluster) -> list[Resource]:
    """What checks modulefiles and makes their cache."""
    root = catalogue.modulefiles(cluster)
    settings = {"root": root, "paths": list(shells.paths(cluster)), "init": shells.INIT}
    notify = (f"run:{REFRESH}",)
    return [
        Directory(path="/etc/practicum"),
        file(TOOL, own_file("modules.py"), mode=0o755, notify=notify),
        file(f"{shells.LIBRARY}/fetch_source.py", own_file("fetch_source.py"), mode=0o755),
        file(SETTINGS, json.dumps(settings, indent=1) + "\n", notify=notify),
        file("/etc/systemd/system/practicum-modules.service", SERVICE),
        file("/etc/systemd/system/practicum-modules.timer", TIMER),
        Service(service="practicum-modules.timer"),
    ]


def published(context: Context) -> list[Resource]:
    """Written once, on the first login node, for all: each tried by Lmod before it is in place."""
    cluster = context.cluster
    root = catalogue.modulefiles(cluster)
    entries = catalogue.catalogue(cluster, context.own)
    notify = (f"run:{REFRESH}",)
    folders = {root, *(f"{root}/{name}" for name in ("Core", "Compiler", "MPI", "Site", "etc"))}
    for path in [entry.path for entry in entries] + [
        f"{entry.text.branch[len(root) + 1 :]}/x" for entry in entries if entry.text.branch
    ]:
        parents = [str(parent) for parent in PurePosixPath(path).parents][:-1]
        folders |= {f"{root}/{parent}" for parent in parents}
    texts = {
        "lmodrc.lua": catalogue.lmodrc(cluster),
        "modulerc.lua": catalogue.modulerc(cluster, entries),
        "admin.list": catalogue.admin_list(cluster, entries),
    }
    return [
        *(Directory(path=path, image=Image.DEFER) for path in sorted(folders)),
        *publisher(cluster),
        *(file(f"{root}/etc/{name}", text, image=Image.DEFER, notify=notify)
          for name, text in texts.items()),
        *(
            file(f"{root}/{entry.path}", entry.text.lua(), image=Image.DEFER, notify=notify,
                 validate=trial(entry))
            for entry in entries
        ),
        Command(
            id=REFRESH,
            run=(PYTHON, "-I", TOOL, "refresh"),
            summary="make the cache of modulefiles",
            timeout=1500,
            on_notify=True,
        ),
    ]  # fmt: skip


def trial(entry: Entry) -> tuple[str, ...]:
    """The command that has Lmod load it."""
    before = [word for name in entry.before for word in ("--with", name)]
    return (PYTHON, "-I", TOOL, "check", "--as", entry.full, *before, "{}")


def examples(context: Context) -> list[Resource]:
    """Job scripts to copy."""
    folder = f"{context.cluster.storage.apps}/examples"
    shipped = resources.files("lmod").joinpath("files", "examples")
    texts = {one.name: one.read_text(encoding="utf-8") for one in shipped.iterdir()}
    return [
        Directory(path=folder, image=Image.DEFER),
        *(
            file(f"{folder}/{name}", texts[name].replace("/nfs/apps", context.cluster.storage.apps),
                 image=Image.DEFER)
            for name in sorted(texts)
        ),
    ]  # fmt: skip


ROLES = (
    # on every node before "software", where kernels are built in jobs that load modules
    Role("lmod", "compute", on(NodeRole.LOGIN, NodeRole.COMPUTE), shell_set_up),
    Role("modulefiles", "software", on_first(NodeRole.LOGIN), published),
    Role("examples", "software", on_first(NodeRole.LOGIN), examples),
)
