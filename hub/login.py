"""Profiles that run on the login node: a template unit of systemd for each, pure functions.

See :mod:`spawners.login` for how the hub uses them.
"""

from __future__ import annotations

import shlex

from cluster.model import Cluster, Profile
from cluster.values import seconds
from hub import paths
from spawners import script
from spawners.role import FOLDER, LOGIN_PREFIX

MAY_START = f"{FOLDER}/may-start"
SESSION = f"{FOLDER}/login-session"
PROCESSES = 256  # threads included; numpy alone starts one for each core


def profiles(cluster: Cluster) -> tuple[Profile, ...]:
    return tuple(profile for profile in cluster.profiles if profile.login)


def unit_file(profile: Profile) -> str:
    return f"/etc/systemd/system/{LOGIN_PREFIX}{profile.name}@.service"


def unit(profile: Profile) -> str:
    """practicum-login-PROFILE@UID.service: in the user's slice, whose limits hold above these."""
    return f"""# Written by practicum.
[Unit]
Description=practicum: session {profile.name} of user %i
After=network-online.target remote-fs.target munge.service

[Service]
Type=exec
User=%i
Slice=user-%i.slice
UMask=0077
ExecStartPre=+{MAY_START} %i
ExecStart={SESSION}
StandardOutput=null
StandardError=journal
KillMode=control-group
TimeoutStopSec=15
RuntimeMaxSec={seconds(profile.time)}
MemoryMax={profile.memory_mb}M
CPUQuota={profile.cpus * 100}%
TasksMax={PROCESSES}
OOMPolicy=kill
"""


def may_start(cluster: Cluster) -> str:
    """Refuses all but students and instructors whose accounts are open, and whoever is an admin
    too."""
    people = [*cluster.groups_with("student"), *cluster.groups_with("instructor")]
    return f"""#!/bin/sh
# Written by practicum. Whether the account with that number may have a session on this node.
set -eu
name=$(/usr/bin/getent passwd "$1" | /usr/bin/cut -d: -f1)
[ -n "$name" ] || exit 1
# a closed account keeps its groups; days since 1970 (shadow(5))
ends=$(/usr/bin/getent shadow "$name" | /usr/bin/cut -d: -f8)
[ -z "$ends" ] || [ "$ends" -gt $(($(/usr/bin/date +%s) / 86400)) ] || exit 1
groups=" $(/usr/bin/id -nG "$name") "
for group in {shlex.join(cluster.groups_with("admin"))}; do
    case $groups in *" $group "*) exit 1 ;; esac
done
for group in {shlex.join(people)}; do
    case $groups in *" $group "*) exit 0 ;; esac
done
exit 1
"""


def session(cluster: Cluster, hub_url: str) -> str:
    """What such a unit runs: the launcher, as a job does. ``hub_url``: http://HOST:PORT."""
    first, last = cluster.hub.session_ports
    arguments = {
        "where": "login",
        "hub-url": f"{hub_url}/hub/api",
        "hub-uid": str(paths.UID),
        "ports": f"{first}-{last}",
        "jupyter-path": f"{cluster.storage.envs}/jupyter",
        "server-env": f"{cluster.storage.envs}/server",
    }
    lines = script.command(f"{FOLDER}/launcher.py", arguments)
    return "\n".join(["#!/bin/sh", "# Written by practicum.", *lines, ""])


def sudo_rule(cluster: Cluster) -> str:
    """The hub may start and stop these units, and clear what failed; "" when there are none.
    Profile names are plain."""
    names = "|".join(profile.name for profile in profiles(cluster))
    if not names:
        return ""
    pattern = f"^(start|stop|reset-failed) {LOGIN_PREFIX}({names})@[1-9][0-9]+[.]service$"
    return f"{paths.USER} ALL = (root) NOPASSWD: NOSETENV: /usr/bin/systemctl {pattern}\n"
