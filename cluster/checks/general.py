"""[cluster]."""

from __future__ import annotations

import difflib
import zoneinfo
from collections.abc import Iterator

from cluster.checks.problem import Problem
from cluster.model import Cluster


def general(cluster: Cluster) -> Iterator[Problem]:
    zones = zoneinfo.available_timezones()
    zone = cluster.cluster.timezone
    if zones and zone not in zones:
        near = difflib.get_close_matches(zone, sorted(zones), n=1)
        hint = f" (did you mean {near[0]}?)" if near else ", use one like Europe/Berlin"
        yield Problem(("cluster", "timezone"), f"there is no time zone {zone}{hint}")
