"""The lab: a real cluster in containers on this machine, made and removed by one call each.

``up`` makes (or re-applies) a lab, ``down`` leaves nothing of it. What runs on the nodes is
:func:`provisioning.engine.apply` over SSH, the same as for real machines.
"""

from __future__ import annotations

from provisioning.lab.lab import down, execute, info, names, up
from provisioning.lab.model import GUESTS, Account, LabInfo, LabNode

__all__ = ["GUESTS", "Account", "LabInfo", "LabNode", "down", "execute", "info", "names", "up"]
