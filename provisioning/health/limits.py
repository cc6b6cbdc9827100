"""Memory limits: a board that has them off takes no jobs until somebody restarts it."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.model import NodeRole
from provisioning.health.model import Check, Finding, Level, Picture
from provisioning.roles.slurm_conf import memory_is_off


def memory_limits(picture: Picture) -> Iterator[Finding]:
    for node in picture.cluster.with_role(NodeRole.COMPUTE):
        look = picture.looks.get(node.name)
        if look is None or not memory_is_off(look.facts):
            continue
        if look.facts.boot_line:
            text = (
                f"memory limits are off on {node.name} until it is restarted: "
                f"practicum node reboot {node.name}, after an apply"
            )
        else:
            text = (
                f"the kernel of {node.name} has no memory limits: put cgroup_enable=memory on its "
                "boot command line and restart it"
            )
        yield Finding(node.name, "limits", Level.BAD, text)


CHECKS = (Check("limits", memory_limits),)
