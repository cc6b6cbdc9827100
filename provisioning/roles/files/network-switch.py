#!/usr/bin/python3 -I
"""Puts new network settings in place, or the old ones back. Started by systemd, so that it runs
to its end whatever becomes of the connection and of practicum's agent.

    network-switch.py apply         try the new settings; back at once if a command fails
    network-switch.py back          the old ones again, unless the new ones were confirmed
    network-switch.py back --boot   the same while starting up: files alone

/var/lib/practicum/network/change.json says what: {"old": {path: [text, mode] or null},
"new": {...}, "before": [command], "after_new": [command], "after_old": [command],
"at_boot": [command]}. Whoever renames it away, this script or the agent that confirms, has decided.
While the old settings are put in place it is called taking-back.json: a power cut then does not
leave some of both.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Optional

FOLDER = "/var/lib/practicum/network"
CHANGE = f"{FOLDER}/change.json"
APPLIED = f"{FOLDER}/applied"
TAKING = f"{FOLDER}/taking-back.json"
BACK = f"{FOLDER}/taken-back.json"
SECONDS = 60  # for each command


def put(files: Mapping[str, Optional[tuple[str, int]]]) -> bool:
    """Whether all went well; each is tried."""
    good = True
    for path, wanted in files.items():
        try:
            put_one(path, wanted)
        except OSError as error:
            sys.stderr.write(f"{error}\n")
            good = False
    return good


def put_one(path: str, wanted: Optional[tuple[str, int]]) -> None:
    folder = os.path.dirname(path)
    if wanted is None:
        if not os.path.lexists(path):
            return
        os.unlink(path)
    else:
        text, mode = wanted
        temporary = f"{folder}/.{os.path.basename(path)}.practicum-new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
            os.fchmod(descriptor, mode)
            stream.write(text)
            stream.flush()
            os.fsync(descriptor)
        os.replace(temporary, path)
    place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(place)
    finally:
        os.close(place)


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
    try:
        with open(CHANGE, encoding="utf-8") as stream:
            change = json.load(stream)
    except FileNotFoundError:
        return  # taken back before it began
    run(change["before"])
    if not put(change["new"]) or not run(change["after_new"]):
        sys.stderr.write("the new settings are refused\n")
        back(boot=False)
        return
    with open(APPLIED, "w", encoding="ascii"):
        pass


def back(boot: bool) -> None:
    try:
        os.replace(CHANGE, TAKING)
    except FileNotFoundError:
        if not os.path.exists(TAKING):
            return  # confirmed, or somebody else was first
    with open(TAKING, encoding="utf-8") as stream:
        change = json.load(stream)
    if not boot:
        run(change["before"])
    whole = put(change["old"])
    run(change["at_boot"] if boot else change["after_old"])
    if whole:  # else the next start tries again
        os.replace(TAKING, BACK)


with open(f"{FOLDER}/lock", "w", encoding="ascii") as one_at_a_time:
    fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
    if sys.argv[1] == "apply":
        apply()
    else:
        back(boot="--boot" in sys.argv)
