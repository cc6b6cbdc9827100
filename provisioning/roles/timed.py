"""Who may have commands run at a time of their own (crontab(1), at(1)).

Their daemons are services of the system: what they run for a student is in no slice of a person and
in no job, so that neither a login node's limits nor Slurm's hold for it.
"""

from __future__ import annotations

from cluster.model import Cluster
from provisioning.resources import Resource, file
from provisioning.roles.slurm_jobs import trusted

ALLOWED = ("/etc/cron.allow", "/etc/at.allow")


def timed(cluster: Cluster) -> list[Resource]:
    """Only those who work on nodes without a job; what others have in a crontab already goes on."""
    names = "".join(f"{name}\n" for name in trusted(cluster))
    return [file(path, names) for path in ALLOWED]
