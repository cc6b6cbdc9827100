"""The environment of students' servers, and the shared kernels."""

from __future__ import annotations

import hashlib
import json
import shlex
from importlib import resources

from cluster.model import Cluster, Kernel, NodeRole
from kernels import kernelspec
from kernels.build_env import PYTHON, Spec
from kernels.environments import BUILD_LIMIT, FILES, LIBRARY, SPECS, builder, environment
from kernels.node.present import START
from kernels.node.slurm import BUILDER
from kernels.requests import request
from provisioning.resources import (
    Command,
    Directory,
    Group,
    Image,
    Package,
    Resource,
    Service,
    User,
    file,
)
from provisioning.role import Context, Role
from provisioning.roles.where import everywhere, on, on_first

SERVER_IMPORTS = ("jupyterlab", "jupyterhub.singleuser", "jupyter_server.serverapp")
# the kernelspec that ipykernel brings into the server's own environment
NATIVE_KERNEL = "share/jupyter/kernels/python3"
BUILDER_ID = 912  # its files are on shared storage, where only the number counts
CACHE = "/var/cache/practicum-build"
ROOM = f"{LIBRARY}/kernel-room"
# What runs on nodes, as the package that it is here; the first line of a folder that Python runs
ROOM_FILES = (
    "__init__.py", "build_env.py", "node/__init__.py", "node/building.py", "node/conda.py",
    "node/desk.py", "node/images.py", "node/job.py", "node/present.py", "node/request.py",
    "node/shelf.py", "node/slurm.py", "node/solving.py", "node/trial.py", "node/words.py",
)  # fmt: skip
ROOM_MAIN = """import sys

sys.dont_write_bytecode = True  # root's must not change with who runs it

from kernels.node.desk import main

sys.exit(main(sys.argv[1:]))
"""
PINS = ("uv", "rattler")
R_PACKAGES = ("r-base-core", "r-cran-irkernel")
R_KERNEL = "/usr/share/jupyter/kernels/ir/kernel.json"


def server(context: Context) -> list[Resource]:
    """JupyterLab and JupyterHub's single-user server, pinned with hashes."""
    pins = f"{LIBRARY}/server-requirements.txt"
    cluster = context.cluster
    spec = Spec(
        name="server",
        root=f"{cluster.storage.envs}/server",
        requirements=pins,
        files=(
            ("etc/jupyter/jupyter_server_config.json", kernelspec.server_config(cluster)),
            ("etc/jupyter/jupyter_lab_config.json", kernelspec.lab_config()),
            ("etc/jupyter/labconfig/page_config.json", kernelspec.page_config()),
        ),
        remove=(NATIVE_KERNEL,),
        imports=SERVER_IMPORTS,
    )
    contents = {pins: (FILES / "server-requirements.txt").read_bytes()}
    return [*builder(), *environment(spec, contents)]


def order(cluster: Cluster, kernel: Kernel) -> str:
    """What ``kernel-room make`` reads."""
    asked = json.loads(request(cluster, kernel).text())
    values = {"envs": cluster.storage.envs, "request": asked}
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def kernel(cluster: Cluster, kernel: Kernel) -> list[Resource]:
    """Its order, and the command that builds it by Slurm where it is not built yet."""
    path = f"{SPECS}/kernel-{kernel.name}.json"
    text = order(cluster, kernel)
    # a plan is made before the file is there
    words = (path, hashlib.sha256(text.encode()).hexdigest())
    program = (PYTHON, "-I", ROOM)
    return [
        file(path, text),
        Command(
            id=f"kernel-{kernel.name}",
            run=(*program, "make", *words),
            check=(*program, "check", *words),
            summary=f"build the kernel {kernel.name} in {cluster.storage.envs}, as a Slurm job",
            timeout=2 * BUILD_LIMIT,
        ),
    ]


def environments(context: Context) -> list[Resource]:
    cluster = context.cluster
    folder = kernelspec.folder(cluster)
    found = [
        *server(context),
        Directory(path=folder, image=Image.DEFER),
        Directory(path=f"{folder}/kernels", image=Image.DEFER),
        *(file(f"{LIBRARY}/{name}-requirements.txt",
               (FILES / f"{name}-requirements.txt").read_bytes()) for name in PINS),
    ]  # fmt: skip
    for declared in cluster.kernels:
        found += kernel(cluster, declared)
    names = tuple(declared.name for declared in cluster.kernels)
    program = (PYTHON, "-I", ROOM)
    found.append(
        Command(
            id="kernels-left-over",
            run=(*program, "sweep", cluster.storage.envs, *names),
            check=(*program, "swept", cluster.storage.envs, *names),
            summary="remove kernels that are no longer declared",
        )
    )
    return found


def account(_context: Context) -> list[Resource]:
    """Who builds: packages run code of their makers' while they are built."""
    return [
        Group(group=BUILDER, gid=BUILDER_ID),
        User(user=BUILDER, uid=BUILDER_ID, group=BUILDER),
    ]


def room(_context: Context) -> list[Resource]:
    """What builds, starts and tries kernels; there before the first job."""
    own = resources.files("kernels")
    found: list[Resource] = [
        Directory(path=LIBRARY),
        file(START, (FILES / "kernel-start").read_text(), mode=0o755),
        file(f"{LIBRARY}/kernel-sorry.py", (FILES / "kernel-sorry.py").read_text()),
        file("/usr/local/bin/practicum-kernel", (FILES / "practicum-kernel").read_text(),
             mode=0o755),
        Directory(path=CACHE, owner=BUILDER, group=BUILDER),
        Directory(path=ROOM),
        Directory(path=f"{ROOM}/kernels"),
        Directory(path=f"{ROOM}/kernels/node"),
        file(f"{ROOM}/__main__.py", ROOM_MAIN),
    ]  # fmt: skip
    for name in ROOM_FILES:
        text = own.joinpath(*name.split("/")).read_text(encoding="utf-8")
        found.append(file(f"{ROOM}/kernels/{name}", text))
    return found


def packages(context: Context) -> list[Resource]:
    """For environments of students' own, and for builds on another kind of processor; and for
    images, made where versions are put together. Containers cannot mount them."""
    found: list[Resource] = [Package(package="python3-venv")]
    if not context.own.container and MAKES(context.cluster, context.node):
        found.append(Package(package="squashfs-tools"))
    return found


MOUNTS = "/run/practicum-kernels {program} --timeout=600\n"
IMAGES = f"{LIBRARY}/kernel-images"
MAKES = on_first(NodeRole.LOGIN)


def images(context: Context) -> list[Resource]:
    """Mounts a version's image when a kernel asks for it. A node's own disk needs none; and where
    versions are removed none is mounted, since there NFS keeps a folder of an open file."""
    storage = context.cluster.storage
    local = storage.provider == "nfs" and context.node.has(NodeRole.STORAGE)
    if local or context.own.container or MAKES(context.cluster, context.node):
        return []
    changed = ("restart:autofs",)
    return [
        Package(package="autofs"),
        file("/etc/practicum/kernel-images.conf", f"ENVS={shlex.quote(storage.envs)}\n"),
        file(IMAGES, (FILES / "kernel-images").read_text(), mode=0o755),
        Directory(path="/etc/auto.master.d"),
        file("/etc/auto.master.d/practicum.autofs", MOUNTS.format(program=IMAGES), notify=changed),
        Service(service="autofs"),
    ]


def r_packages(context: Context) -> list[Resource]:
    wanted = [one for one in context.cluster.kernels if one.language == "r"]
    names = {name for one in wanted for name in (*R_PACKAGES, *one.packages)}
    if not names:
        return []
    # The package shows a kernel of its own to every JupyterLab here, without a version
    own = Command(
        id="kernel-of-debians-r",
        run=("dpkg-divert", "--local", "--rename", "--divert", f"{R_KERNEL}.debian",
             "--add", R_KERNEL),
        check=("grep", "-qxF", R_KERNEL, "/var/lib/dpkg/diversions"),
        summary="take the package's own kernel of R out of the launcher",
        image=Image.APPLY,
    )  # fmt: skip
    return [own, *(Package(package=name) for name in sorted(names))]


RUNS = on(NodeRole.LOGIN, NodeRole.COMPUTE)
ROLES = (
    Role("kernel-builder", "identity", everywhere, account),
    Role("kernel-room", "compute", RUNS, room),
    Role("r", "compute", RUNS, r_packages),
    Role("kernel-packages", "compute", RUNS, packages),
    Role("kernel-images", "compute", RUNS, images),
    Role("environments", "software", on_first(NodeRole.LOGIN), environments),
)
