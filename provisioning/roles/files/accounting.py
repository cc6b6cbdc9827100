#!/usr/bin/env python3
"""Make Slurm's accounting have the accounts, users and operators of a file. Standard library only.

Usage: accounting.py [--check] WANTED.json

WANTED: {"cluster": name, "accounts": [name], "users": {name: [account, ...]}, "operators": [name]}
The first account of a user is the default one. Users of these accounts that WANTED does not name
lose their association there; their records stay. With --check nothing is changed: exit 0 means
there is nothing to do, 1 that there is.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIMIT = 60  # seconds for one sacctmgr call
State = tuple[set[str], set[str], dict[str, set[str]], dict[str, tuple[str, str]]]
READY = 60  # seconds that slurmdbd is given to answer after its start


def sacctmgr(*words: str) -> list[str]:
    """Run one sacctmgr command and return its lines; its own words on failure."""
    command = ["sacctmgr", "-nPi", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["it failed"]
        raise RuntimeError(f"sacctmgr {words[0]} {words[1]}: {said[-1].strip()}")
    return [line for line in done.stdout.splitlines() if line.strip()]


def read_state(wanted: dict[str, Any]) -> State:
    """What the database has: clusters, accounts, {account: users}, {user: (default, level)}."""
    # Each call mostly waits for slurmdbd (0.2 s, no CPU), and a check runs with every plan.
    with ThreadPoolExecutor() as pool:
        known = pool.submit(sacctmgr, "show", "cluster", "format=cluster")
        there = pool.submit(
            sacctmgr, "show", "assoc", "cluster=" + wanted["cluster"], "format=account,user"
        )
        people = pool.submit(sacctmgr, "show", "user", "format=user,defaultaccount,adminlevel")
    clusters = set(known.result())
    if wanted["cluster"] not in clusters:
        return clusters, set(), {}, {}
    members: dict[str, set[str]] = defaultdict(set)
    accounts: set[str] = set()
    for row in there.result():
        account, user = row.split("|")[:2]
        accounts.add(account)
        if user:
            members[account].add(user)
    users = {}
    for row in people.result():
        user, default, level = row.split("|")[:3]
        users[user] = (default, level)
    return clusters, accounts, members, users


def steps(wanted: dict[str, Any]) -> list[list[str]]:
    """The sacctmgr commands that are missing, in order. Names go in one call where they can."""
    clusters, accounts, members, users = read_state(wanted)
    here = "cluster=" + wanted["cluster"]
    todo = []
    if wanted["cluster"] not in clusters:
        todo.append(["add", "cluster", wanted["cluster"]])
    for account in wanted["accounts"]:
        if account not in accounts:
            words = ["description=" + account, "organization=practicum"]
            todo.append(["add", "account", account, here, *words])
    return [*todo, *membership(wanted, members, here), *levels(wanted, users)]


def membership(
    wanted: dict[str, Any], members: dict[str, set[str]], here: str
) -> Iterator[list[str]]:
    """Add who is missing from an account, delete who is no longer wanted there."""
    missing: dict[tuple[str, str], list[str]] = defaultdict(list)
    for user, theirs in sorted(wanted["users"].items()):
        for account in theirs:
            if user not in members.get(account, ()):
                missing[(account, theirs[0])].append(user)
    for (account, default), names in missing.items():
        who = ",".join(names)
        yield ["add", "user", who, "account=" + account, here, "defaultaccount=" + default]
    for account in wanted["accounts"]:
        there = sorted(members.get(account, ()))
        gone = [user for user in there if account not in wanted["users"].get(user, ())]
        if gone:
            yield ["delete", "user", "name=" + ",".join(gone), "account=" + account, here]


def levels(wanted: dict[str, Any], users: dict[str, tuple[str, str]]) -> Iterator[list[str]]:
    """Operators as wanted, and no others. Administrators are the admin's own matter."""
    operators = set(wanted["operators"])
    now = {user for user, (_default, level) in users.items() if level == "Operator"}
    above = {user for user, (_default, level) in users.items() if level == "Administrator"}
    for names, level in ((operators - now - above, "operator"), (now - operators, "none")):
        if names:
            who = "name=" + ",".join(sorted(names))
            yield ["modify", "user", "where", who, "set", "adminlevel=" + level]


def patient_steps(wanted: dict[str, Any]) -> list[list[str]]:
    """The same, of a slurmdbd that may have started just now: it listens before it answers."""
    end = time.monotonic() + READY
    while True:
        try:
            return steps(wanted)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            if time.monotonic() > end:
                raise RuntimeError(f"slurmdbd did not answer in {READY} s ({error})") from error
            time.sleep(0.2)


def main(arguments: list[str]) -> int:
    check = arguments[:1] == ["--check"]
    wanted = json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))
    try:
        todo = steps(wanted) if check else patient_steps(wanted)
        if check:
            return 1 if todo else 0
        for words in todo:
            sacctmgr(*words)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
