"""The environment of students' servers and the shared kernels, built on the first login node."""

from __future__ import annotations

from cluster.model import Kernel, NodeRole
from kernels import kernelspec
from kernels.build_env import Spec
from kernels.environments import FILES, LIBRARY, builder, environment
from provisioning.resources import Directory, Image, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.where import on, on_first

SERVER_IMPORTS = ("jupyterlab", "jupyterhub.singleuser", "jupyter_server.serverapp")
# the kernelspec that ipykernel brings into the server's own environment
NATIVE_KERNEL = "share/jupyter/kernels/python3"


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


def kernel(context: Context, kernel: Kernel) -> list[Resource]:
    """One environment, then its kernelspec: a kernel shows once it can start."""
    cluster = context.cluster
    spec = Spec(
        name=f"kernel-{kernel.name}",
        root=f"{cluster.storage.envs}/{kernel.name}",
        packages=("ipykernel", *kernel.packages),
        imports=("ipykernel.kernelapp",),
    )
    folder = f"{kernelspec.folder(cluster)}/kernels/{kernel.name}"
    return [
        *environment(spec, {}),
        Directory(path=folder, image=Image.DEFER),
        file(f"{folder}/kernel.json", kernelspec.kernel_json(cluster, kernel), image=Image.DEFER),
    ]


def environments(context: Context) -> list[Resource]:
    folder = kernelspec.folder(context.cluster)
    found = [
        *server(context),
        Directory(path=folder, image=Image.DEFER),
        Directory(path=f"{folder}/kernels", image=Image.DEFER),
    ]
    for declared in context.cluster.kernels:
        found += kernel(context, declared)
    return found


def starter(_context: Context) -> list[Resource]:
    return [
        Directory(path=LIBRARY),
        file(kernelspec.START, (FILES / "kernel-start").read_text(), mode=0o755),
    ]


ROLES = (
    Role("kernel-starter", "software", on(NodeRole.LOGIN, NodeRole.COMPUTE), starter),
    Role("environments", "software", on_first(NodeRole.LOGIN), environments),
)
