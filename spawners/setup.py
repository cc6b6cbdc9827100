"""The sessions' part of the hub's configuration."""

from __future__ import annotations

from typing import Any

from cluster.model import Cluster
from lmod.shells import session_environment

SPAWNER = "spawners.spawner.PracticumSpawner"


def configure(config: Any, cluster: Cluster, *, hub_url: str, session_url: str) -> None:
    """Fill JupyterHub's config. ``hub_url``: where compute nodes reach the hub, without a path,
    as http://10.0.0.1:8081; ``session_url``: where launchers ask for their sessions. The
    cluster's own figures the spawner reads from its file."""
    config.JupyterHub.spawner_class = SPAWNER
    config.PracticumSpawner.session_api_url = f"{session_url.rstrip('/')}/hub/api"
    config.PracticumSpawner.hub_connect_url = hub_url
    config.PracticumSpawner.environment = session_environment(cluster)
    # A session that still waits in the queue must not hold up a restart of the hub.
    config.JupyterHub.init_spawners_timeout = 1
    config.PracticumSpawner.start_timeout = cluster.hub.start_timeout
