"""What each room brings, put together and handed down to the engine and the lab."""

from __future__ import annotations

import coursework.role
import hub.health
import hub.role
import kernels.role
import lmod.health
import lmod.role
import provisioning.health
import provisioning.roles
import spawners.role
from provisioning.health import Check
from provisioning.role import Role
from provisioning.roles.slurm_accounting import LAST_ROLES

ROLES: tuple[Role, ...] = (
    *provisioning.roles.ROLES,
    *lmod.role.ROLES,
    *kernels.role.ROLES,
    *spawners.role.ROLES,
    *hub.role.ROLES,
    *coursework.role.ROLES,
    *LAST_ROLES,
)
CHECKS: tuple[Check, ...] = (
    *provisioning.health.CHECKS,
    *lmod.health.CHECKS,
    *hub.health.CHECKS,
)
