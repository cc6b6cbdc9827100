"""The roles of the ground floor: one module a system, each a pure function of cluster and facts."""

from __future__ import annotations

from provisioning.role import Role
from provisioning.roles import base, identity, mpi, munge, slurm, slurmdbd, storage

ROLES: tuple[Role, ...] = (
    *base.ROLES,
    *identity.ROLES,
    *storage.ROLES,
    *munge.ROLES,
    *slurmdbd.ROLES,
    *slurm.ROLES,
    *mpi.ROLES,
)
