"""Compilers and Open MPI, the distribution's own, speaking PMIx with Slurm."""

from __future__ import annotations

from cluster.model import NodeRole
from provisioning.resources import Package, Resource, file
from provisioning.role import Context, Role
from provisioning.roles.where import on

# What the file holds in Debian 12 and 13 and in Ubuntu 24.04, whose place ours takes. Without it
# Open MPI 4.1.4 sends through libfabric, which heeds no subnet and loses what is under way when a
# rank ends before its neighbours: these wait for ever (2 of 12 runs of 8 ranks at a load of 20,
# none of 12 with it).
DISTRIBUTIONS = (
    "btl_base_warn_component_unused = 0",
    "mtl = ^ofi",
    "btl = ^uct,openib,ofi",
    "pml = ^ucx",
    "osc = ^ucx,pt2pt",
)


def mca_params(context: Context) -> str:
    """Open MPI's site settings: talk over the cluster's network, not over whatever is found first.

    A container may not read its neighbour's memory (CMA), so shared memory copies twice there.
    """
    subnet = context.cluster.network.subnet
    lines = [*DISTRIBUTIONS, f"btl_tcp_if_include = {subnet}", f"oob_tcp_if_include = {subnet}"]
    if context.own.container:
        lines += ["btl_vader_single_copy_mechanism = none", "btl_sm_use_knem = 0"]
    return "\n".join(lines) + "\n"


def open_mpi(context: Context) -> list[Resource]:
    """libpmix-dev: Debian's slurmd opens PMIx by its unversioned name, which only that has."""
    names = ("openmpi-bin", "libopenmpi-dev", "libpmix-dev", "gcc", "g++", "gfortran", "make")
    return [
        *(Package(package=name) for name in names),
        file("/etc/openmpi/openmpi-mca-params.conf", mca_params(context)),
    ]


# In the stage before slurmd starts, which looks for PMIx once.
ROLES = (Role("open-mpi", "trust", on(NodeRole.LOGIN, NodeRole.COMPUTE), open_mpi),)
