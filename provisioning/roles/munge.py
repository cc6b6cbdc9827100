"""munge: the shared key by which Slurm, and practicum's sessions, know who is who."""

from __future__ import annotations

import base64

from provisioning.resources import Package, Resource, Service, file
from provisioning.role import Context, Role
from provisioning.roles.where import everywhere


def munge(context: Context) -> list[Resource]:
    """Package, key (secret, never in an image), daemon. The package makes a key of its own when
    it is installed; ours replaces it before the daemon starts."""
    key = base64.b64decode(context.secrets.get("munge_key", ""))
    return [
        Package(package="munge"),
        file(
            "/etc/munge/munge.key",
            key,
            owner="munge",
            group="munge",
            mode=0o400,
            secret=True,
            notify=("restart:munge",),
        ),
        Service(service="munge"),
    ]


ROLES = (Role("munge", "trust", everywhere, munge),)
