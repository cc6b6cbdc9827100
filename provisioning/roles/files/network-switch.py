#!/usr/bin/python3 -I
"""Puts new network settings in place, or the old ones back. Started by systemd, so that it runs
to its end whatever becomes of the connection and of practicum's agent.

    network-switch.py apply         try the new settings; back at once if a command fails
    network-switch.py back          the old ones again, unless the new ones were confirmed
    network-switch.py back --boot   the same while starting up: files alone

/var/lib/practicum/network/change.json says what: {"old": {path: [text, mode] or null},
"new": {...}, "before": [command], "after_new": [command], "after_old": [command]}. Whoever
renames it away, this script or the agent that confirms, has decided.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Optional

FOLDER = "/var/lib/practicum/network"
CHANGE = f"{FOLDER}/change.json"
APPLIED = f"{FOLDER}/applied"
BACK = f"{FOLDER}/taken-back.json"
SECONDS = 60  # for each command


def put(files: Mapping[str, Optional[tuple[str, int]]]) -> None:
    for path, wanted in files.items():
        if wanted is None:
            if os.path.lexists(path):
                os.unlink(path)
            continue
        text, mode = wanted
        temporary = f"{os.path.dirname(path)}/.{os.path.basename(path)}.practicum-new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)


def run(commands: Sequence[Sequence[str]]) -> bool:
    """Whether all went well; each is tried."""
    good = True
    for command in commands:
        try:
            done = subprocess.run(command, timeout=SECONDS, stdin=subprocess.DEVNULL, check=False)
            good = good and done.returncode == 0
        except (OSError, subprocess.TimeoutExpired) as error:
            sys.stderr.write(f"{command[0]}: {error}\n")
            good = False
    return good


def apply() -> None:
    with open(CHANGE, encoding="utf-8") as stream:
        change = json.load(stream)
    run(change["before"])
    put(change["new"])
    if not run(change["after_new"]):
        sys.stderr.write("the new settings are refused\n")
        back(boot=False)
        return
    with open(APPLIED, "w", encoding="ascii"):
        pass


def back(boot: bool) -> None:
    try:
        os.replace(CHANGE, BACK)
    except FileNotFoundError:
        return  # confirmed, or somebody else was first
    with open(BACK, encoding="utf-8") as stream:
        change = json.load(stream)
    if not boot:
        run(change["before"])
    put(change["old"])
    if not boot:
        run(change["after_old"])


if sys.argv[1] == "apply":
    apply()
else:
    back(boot="--boot" in sys.argv)
