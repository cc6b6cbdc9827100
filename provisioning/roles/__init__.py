"""The roles of the ground floor: one module a system, each a pure function of cluster and facts."""

from __future__ import annotations

from provisioning.role import Role
from provisioning.roles import (
    base,
    firewall,
    identity,
    limits,
    mpi,
    munge,
    network,
    router,
    slurm,
    slurmdbd,
    ssh,
    storage,
    wifi,
)

ROLES: tuple[Role, ...] = (
    *network.ROLES,
    *base.ROLES,
    *wifi.ROLES,
    *router.ROLES,
    *firewall.ROLES,
    *identity.ROLES,
    *ssh.ROLES,
    *limits.ROLES,
    *storage.ROLES,
    *munge.ROLES,
    *slurmdbd.ROLES,
    *slurm.ROLES,
    *mpi.ROLES,
)
