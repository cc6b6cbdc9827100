"""Ways into a lab's nodes: SSH with the lab's key, host keys verified."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from provisioning.lab.model import LabInfo


def ssh_command(
    lab: LabInfo, node: str, argv: Sequence[str], *, user: str = "root", tty: bool = False
) -> list[str]:
    """The ssh command line that runs ``argv`` on a node as ``user``, in a login session.

    Every argument is quoted for the shells in between. UsageError for an unknown node.
    """
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(lab.ssh_key.with_name("known_hosts")),
        "GlobalKnownHostsFile": "/dev/null",
        "ConnectTimeout": "10",
        "LogLevel": "ERROR",
    }
    command = ["ssh", "-F", "none", "-i", str(lab.ssh_key), "-t" if tty else "-T"]
    for key, value in options.items():
        command += ["-o", f"{key}={value}"]
    command.append(f"root@{lab.node(node).address}")
    return [*command, *remote(argv, user)]


def remote(argv: Sequence[str], user: str) -> list[str]:
    """What root's shell on the node is given: nothing (a shell), or one quoted line."""
    line = shlex.join(argv)
    if user == "root":
        return [line] if argv else []
    switch = ["runuser", "--login", user]
    return [shlex.join([*switch, "--command", line] if argv else switch)]
