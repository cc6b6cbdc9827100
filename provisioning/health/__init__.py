"""How the cluster is: facts gathered from all nodes at once, and checks that judge them.

A room exports ``CHECKS``; :mod:`practicum.rooms` puts them together. Which services should run
follows from the roles themselves, so no check has a list of them.
"""

from __future__ import annotations

from provisioning.health import limits, machine, quotas, scheduler, shares, trust
from provisioning.health.model import (
    Answer,
    Ask,
    Check,
    Finding,
    Level,
    Look,
    Picture,
    Question,
    judge,
)

__all__ = [
    "CHECKS",
    "Answer",
    "Ask",
    "Check",
    "Finding",
    "Level",
    "Look",
    "Picture",
    "Question",
    "judge",
]

CHECKS: tuple[Check, ...] = (
    *machine.CHECKS,
    *limits.CHECKS,
    *trust.CHECKS,
    *shares.CHECKS,
    *quotas.CHECKS,
    *scheduler.CHECKS,
)
