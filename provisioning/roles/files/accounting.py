#!/usr/bin/env python3
"""Make Slurm's accounting what a file says: QOS, accounts, users, coordinators, operators, limits.
Standard library only.

Usage: accounting.py [--check] WANTED.json
       accounting.py --tell

WANTED: {"cluster": name,
         "qos": {name: {"priority": n, "maxwall": minutes, "maxjobspu": n, "maxsubmitpu": n,
                        "cpus": n, "nodes": n, "memory": MB}},
         "accounts": {name: {"share": n, "cpu_minutes": n, "qos": [name], "coordinators": [user]}},
         "users": {name: [account, ...]}, "operators": [name]}
0 means no limit. The first account of a user and the first QOS of an account are the defaults.

What WANTED no longer names is removed if practicum made it (its mark is in the organization of an
account and in the description of a QOS). Records of past jobs stay. Slurm removes nothing that has
jobs, and it would be wrong to end them: such things are closed to new jobs, named in REFUSED, and
removed by a later run; --tell prints REFUSED and exits 1 when there is one.

With --check nothing is changed: exit 0 means there is nothing to do, 1 that there is.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 120  # seconds for one sacctmgr call
READY = 60  # seconds that slurmdbd is given to answer after its start
MARK = "practicum"
NORMAL = "normal"  # Slurm's own QOS: reset, never removed
AT_ONCE = 200  # names in one call
REFUSED = Path("/var/lib/practicum/accounting-refused")
LIMITS = ("priority", "maxwall", "maxjobspu", "maxsubmitpu", "cpus", "nodes", "memory")
Words = list[str]


class RefusedError(Exception):
    """sacctmgr or squeue failed; its own words."""


@dataclass
class State:
    """What the database has."""

    clusters: set[str] = field(default_factory=set)
    qos: dict[str, dict[str, Any]] = field(default_factory=dict)  # limits, "mark"
    accounts: dict[str, dict[str, Any]] = field(default_factory=dict)  # settings, "mark"
    members: dict[str, dict[str, str]] = field(default_factory=dict)  # account: user: grpsubmit
    users: dict[str, tuple[str, str]] = field(default_factory=dict)  # (default account, level)


def ask(*command: str) -> list[str]:
    """Run a command and return its lines."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise RefusedError(f"{' '.join(command[:4])}: {' '.join(said[-3:]) or 'it failed'}")
    return [line for line in done.stdout.splitlines() if line.strip()]


def sacctmgr(*words: str) -> list[str]:
    return ask("sacctmgr", "-nPi", *words)


def number(text: str) -> int:
    return int(text) if text.strip().isdigit() else 0


def minutes(text: str) -> int:
    """[D-]HH:MM:SS of sacctmgr in minutes."""
    days, _, clock = text.rpartition("-")
    parts = clock.split(":")
    if len(parts) < 3:
        return 0
    return number(days) * 1440 + number(parts[0]) * 60 + number(parts[1])


def tres(text: str) -> dict[str, int]:
    """cpu=8,node=2"""
    pairs = (item.partition("=") for item in text.split(",") if "=" in item)
    return {name: number(value) for name, _, value in pairs}


def megabytes(text: str) -> int:
    """The memory in cpu=8,mem=2000M,node=2: sacctmgr writes 2000M, or 2G where that is whole."""
    found = re.search(r"(?:^|,)mem=(\d+(?:\.\d+)?)([KMGT]?)", text)
    if not found:
        return 0
    factor = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}[found[2]]
    return round(float(found[1]) * factor)


def read_state(cluster: str) -> State:
    # Each call mostly waits for slurmdbd, and a check runs with every plan.
    here = "cluster=" + cluster
    with ThreadPoolExecutor() as pool:
        known = pool.submit(sacctmgr, "show", "cluster", "format=cluster")
        assoc = pool.submit(
            sacctmgr, "show", "assoc", here,
            "format=account,user,share,grptresmins,qos,defaultqos,grpsubmitjobs",
        )  # fmt: skip
        people = pool.submit(sacctmgr, "show", "user", "format=user,defaultaccount,adminlevel")
        tops = pool.submit(
            sacctmgr, "show", "account", "withcoord", "format=account,organization,coordinators"
        )
        limits = pool.submit(
            sacctmgr, "show", "qos",
            "format=name,description,priority,maxwall,maxjobspu,maxsubmitpu,maxtrespu,flags",
        )  # fmt: skip
    state = State(clusters=set(known.result()))
    for row in limits.result():
        name, mark, priority, wall, jobs, submitted, most, flags = row.split("|")[:8]
        state.qos[name] = {
            "mark": mark == MARK,
            "priority": number(priority),
            "maxwall": minutes(wall),
            "maxjobspu": number(jobs),
            "maxsubmitpu": number(submitted),
            "cpus": tres(most).get("cpu", 0),
            "nodes": tres(most).get("node", 0),
            "memory": megabytes(most),
            "deny": "DenyOnLimit" in flags,
        }
    if cluster not in state.clusters:
        return state
    about: dict[str, tuple[bool, list[str]]] = {}
    for row in tops.result():
        name, organization, coordinators = row.split("|")[:3]
        about[name] = (organization == MARK, sorted(filter(None, coordinators.split(","))))
    for row in assoc.result():
        account, member, share, mins, qos, default, submit = row.split("|")[:7]
        if member:
            state.members.setdefault(account, {})[member] = submit
            continue
        made, names = about.get(account, (False, []))
        state.accounts[account] = {
            "mark": made,
            "share": number(share),
            "cpu_minutes": tres(mins).get("cpu", 0),
            "qos": sorted(filter(None, qos.split(","))),
            "default_qos": default,
            "coordinators": names,
        }
    for row in people.result():
        user, default, level = row.split("|")[:3]
        state.users[user] = (default, level)
    return state


def chunks(names: Sequence[str]) -> Iterator[str]:
    for start in range(0, len(names), AT_ONCE):
        yield ",".join(names[start : start + AT_ONCE])


def limit(value: int) -> str:
    return str(value or -1)  # -1 takes a limit away


def makes(wanted: dict[str, Any], state: State) -> Iterator[Words]:
    """Everything that is missing or different, in an order in which each finds what it needs."""
    here = "cluster=" + wanted["cluster"]
    if wanted["cluster"] not in state.clusters:
        yield ["add", "cluster", wanted["cluster"]]
    for name, limits in wanted["qos"].items():
        yield from make_qos(name, limits, state.qos.get(name))
    for name, settings in wanted["accounts"].items():
        yield from make_account(name, settings, state.accounts.get(name), here)
    yield from membership(wanted, state, here)
    for name, settings in wanted["accounts"].items():
        there = state.accounts.get(name, {}).get("coordinators", [])
        yield from coordination(name, settings["coordinators"], there)
    yield from levels(wanted, state.users)


def make_qos(name: str, limits: dict[str, int], there: dict[str, Any] | None) -> Iterator[Words]:
    if there is None:
        yield ["add", "qos", name, "description=" + MARK]
    if there != {**limits, "mark": True, "deny": True}:
        wall = limits["maxwall"]
        yield [
            "modify", "qos", "where", "name=" + name, "set",
            "description=" + MARK,
            f"priority={limits['priority']}",
            f"maxwall={f'{wall // 1440}-{wall // 60 % 24:02d}:{wall % 60:02d}:00' if wall else -1}",
            "maxjobsperuser=" + limit(limits["maxjobspu"]),
            "maxsubmitjobsperuser=" + limit(limits["maxsubmitpu"]),
            f"maxtresperuser=cpu={limit(limits['cpus'])},node={limit(limits['nodes'])},"
            f"mem={limit(limits['memory'])}",
            # told at once by sbatch, instead of a job that waits for ever
            "flags=DenyOnLimit",
        ]  # fmt: skip


def make_account(
    name: str, settings: dict[str, Any], there: dict[str, Any] | None, here: str
) -> Iterator[Words]:
    if there is None:
        yield ["add", "account", name, here, "description=" + name, "organization=" + MARK]
        there = {"share": 1, "cpu_minutes": 0, "qos": [], "default_qos": ""}
    todo = []
    if there["share"] != settings["share"]:
        todo.append(f"fairshare={settings['share']}")
    if there["cpu_minutes"] != settings["cpu_minutes"]:
        todo.append("grptresmins=cpu=" + limit(settings["cpu_minutes"]))
    if there["qos"] != sorted(settings["qos"]):
        todo.append("qos=" + ",".join(settings["qos"]))
    default = settings["qos"][0] if settings["qos"] != [NORMAL] else ""
    if there["default_qos"] != default:
        todo.append(f"defaultqos={default or -1}")
    if todo:
        yield ["modify", "account", "where", "name=" + name, here, "set", *todo]


def membership(wanted: dict[str, Any], state: State, here: str) -> Iterator[Words]:
    """Add who is missing from an account, open what was closed, and set default accounts."""
    missing: dict[str, list[str]] = defaultdict(list)
    closed: dict[str, list[str]] = defaultdict(list)
    moved: dict[str, list[str]] = defaultdict(list)
    for user, theirs in sorted(wanted["users"].items()):
        for account in theirs:
            there = state.members.get(account, {})
            if user not in there:
                missing[account].append(user)
            elif there[user] == "0":
                closed[account].append(user)
        if state.users.get(user, (theirs[0], ""))[0] != theirs[0]:
            moved[theirs[0]].append(user)
    # A user's first account is made first: it becomes the default one by itself.
    for account in sorted(missing, key=lambda name: list(wanted["accounts"]).index(name)):
        for names in chunks(missing[account]):
            yield ["add", "user", names, "account=" + account, here]
    for account, users in closed.items():
        for names in chunks(users):
            who = ["name=" + names, "account=" + account, here]
            yield ["modify", "user", "where", *who, "set", "grpsubmitjobs=-1"]
    for account, users in moved.items():
        for names in chunks(users):
            who = ["name=" + names, here]
            yield ["modify", "user", "where", *who, "set", "defaultaccount=" + account]


def coordination(account: str, wanted: list[str], there: list[str]) -> Iterator[Words]:
    for verb, names in (
        ("add", sorted(set(wanted) - set(there))),
        ("delete", sorted(set(there) - set(wanted))),
    ):
        if names:
            yield [verb, "coordinator", "account=" + account, "names=" + ",".join(names)]


def levels(wanted: dict[str, Any], users: dict[str, tuple[str, str]]) -> Iterator[Words]:
    """Operators as wanted, and no others. Administrators are the admin's own matter."""
    operators = set(wanted["operators"])
    now = {user for user, (_default, level) in users.items() if level == "Operator"}
    above = {user for user, (_default, level) in users.items() if level == "Administrator"}
    for names, level in ((operators - now - above, "operator"), (now - operators, "none")):
        if names:
            who = "name=" + ",".join(sorted(names))
            yield ["modify", "user", "where", who, "set", "adminlevel=" + level]


@dataclass
class Gone:
    """What WANTED no longer names."""

    members: dict[str, list[str]]  # of accounts that stay
    accounts: list[str]
    qos: list[str]

    def __bool__(self) -> bool:
        return bool(self.members or self.accounts or self.qos)


def gone(wanted: dict[str, Any], state: State) -> Gone:
    members = {}
    for account in wanted["accounts"]:
        there = sorted(state.members.get(account, ()))
        users = [user for user in there if account not in wanted["users"].get(user, ())]
        if users:
            members[account] = users
    accounts = [
        name
        for name, settings in state.accounts.items()
        if settings["mark"] and name not in wanted["accounts"]
    ]
    qos = [name for name, item in state.qos.items() if item["mark"] and name not in wanted["qos"]]
    return Gone(members, sorted(accounts), sorted(qos))


def remove(wanted: dict[str, Any], state: State) -> list[str]:
    """Take away what has gone, unless it has jobs. Sentences about what could not be."""
    old = gone(wanted, state)
    if not old:
        return []
    here = "cluster=" + wanted["cluster"]
    jobs = [line.split("|") for line in ask("squeue", "-h", "-a", "-r", "-o", "%i|%u|%a|%q")]
    refused = departed(wanted, state, old, {user for _job, user, _account, _qos in jobs})
    for account, users in old.members.items():
        busy = {user for _job, user, theirs, _qos in jobs if theirs == account} & set(users)
        refused += part(account, sorted(busy), here, jobs)
        refused += tried(leave(account, [user for user in users if user not in busy], here))
    for account in old.accounts:
        users = sorted(state.members.get(account, ()))
        busy = {user for _job, user, theirs, _qos in jobs if theirs == account}
        if busy:
            refused += part(account, users, here, jobs)
        else:
            refused += tried(drop_account(account, users, here))
    for name in old.qos:
        ids = [job for job, _user, _account, qos in jobs if qos == name]
        if ids:
            refused.append(f"QOS {name} has jobs ({listed(ids)})")
        elif refused:
            continue  # an account that stays for now may have it
        elif name == NORMAL:
            (words,) = make_qos(name, dict.fromkeys(LIMITS, 0), {})
            words = [word for word in words if not word.startswith(("description=", "flags="))]
            refused += tried([[*words, "description=Normal QOS default", "flags=-1"]])
        else:
            refused += tried([["delete", "qos", name]])
    return refused


def departed(wanted: dict[str, Any], state: State, old: Gone, busy: set[str]) -> list[str]:
    """Remove those who are in no account any more, whole: one by one Slurm would not let their
    default account go, nor with a cluster named. Who has jobs is left to the rest."""
    left = {user for users in old.members.values() for user in users}
    left |= {user for account in old.accounts for user in state.members.get(account, ())}
    names = sorted(left - set(wanted["users"]) - busy)
    for group in chunks(names):
        told = tried([["delete", "user", "name=" + group]])
        if told:
            return told
    for users in old.members.values():
        users[:] = [user for user in users if user not in names]
    for account in old.accounts:
        there = state.members.get(account, {})
        state.members[account] = {user: there[user] for user in there if user not in names}
    return []


def part(account: str, users: list[str], here: str, jobs: list[list[str]]) -> list[str]:
    """Close an account for some users, and say which jobs keep them there.

    By GrpSubmitJobs: no QOS of ours has that, and a QOS's limit would count before this one.
    """
    for names in chunks(users):
        who = ["name=" + names, "account=" + account, here]
        sacctmgr("modify", "user", "where", *who, "set", "grpsubmitjobs=0")
    told = []
    for user in users:
        ids = [job for job, owner, theirs, _qos in jobs if (owner, theirs) == (user, account)]
        if ids:
            told.append(f"{user} has jobs in account {account} ({listed(ids)})")
    return told


def leave(account: str, users: list[str], here: str) -> Iterator[Words]:
    for names in chunks(users):
        yield ["delete", "user", "name=" + names, "account=" + account, here]


def drop_account(account: str, users: list[str], here: str) -> Iterator[Words]:
    """With a cluster named Slurm takes the account out of that cluster, and keeps its name."""
    yield from leave(account, users, here)
    yield ["delete", "account", "name=" + account, here]
    if not sacctmgr("show", "assoc", "account=" + account, "format=cluster"):
        yield ["delete", "account", "name=" + account]


def listed(ids: list[str]) -> str:
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")


def tried(commands: Iterable[Words]) -> list[str]:
    """Run them; what Slurm refuses is told, and the rest goes on."""
    said = []
    for words in commands:
        try:
            sacctmgr(*words)
        except RefusedError as error:
            said.append(str(error))
    return said


def settle(wanted: dict[str, Any], state: State) -> None:
    for words in makes(wanted, state):
        sacctmgr(*words)
    refused = remove(wanted, state)
    if refused:
        text = "\n".join(refused)
        REFUSED.write_text(text + "\n", encoding="utf-8")
    else:
        REFUSED.unlink(missing_ok=True)


def patient_state(cluster: str) -> State:
    """The same, of a slurmdbd that may have started just now: it listens before it answers."""
    end = time.monotonic() + READY
    while True:
        try:
            return read_state(cluster)
        except (RefusedError, subprocess.TimeoutExpired) as error:
            if time.monotonic() > end:
                raise RefusedError(f"slurmdbd did not answer in {READY} s ({error})") from error
            time.sleep(0.2)


def tell() -> int:
    if not REFUSED.exists():
        return 0
    told = REFUSED.read_text(encoding="utf-8").strip().replace("\n", "; ")
    sys.stderr.write(
        f"Slurm's accounting keeps what cluster.toml no longer names: {told}. It takes no new "
        "jobs: wait for these or scancel them, and apply again\n"
    )
    return 1


def main(arguments: list[str]) -> int:
    if arguments == ["--tell"]:
        return tell()
    check = arguments[:1] == ["--check"]
    wanted = json.loads(Path(arguments[-1]).read_text(encoding="utf-8"))
    try:
        if check:
            state = read_state(wanted["cluster"])
            return 1 if next(makes(wanted, state), None) or gone(wanted, state) else 0
        settle(wanted, patient_state(wanted["cluster"]))
    except (RefusedError, subprocess.TimeoutExpired) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
