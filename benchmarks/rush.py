"""A class presses Start: 10, 30 and 60 people within one second, practicum and stock batchspawner
in turn on the same lab, Slurm, environment, partition, cores and memory.

The people exist on all nodes for the time of the benchmark. Both hubs get a token for each of them
from their own database (a thousand log-ins are not what is measured); then the same client presses
Start for all within a second and follows each one's progress to its end. Sessions ask for little
memory, so that sixty find room on two nodes at once.

forks       processes that the hub starts, itself and by its children, from the first click until
            the last is ready (benchmarks/forks.py), above what the sessions themselves need: one
            sudo and one sbatch for each
cpu         seconds of all nodes' control groups in that time: hub, proxy, Slurm and the sessions
cpu_login   of these, the login node's: hub, proxy, sudo, slurmctld
last        seconds from the first click until the last is ready
failed      starts that ended without a session
memory_mb   of the hub's process in the end
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import forks
import stock
from common import Group, on_node, say
from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest

from practicum.rooms import ROLES
from provisioning.lab import LabInfo, nodes

SIZES = (10, 30, 60)
NEEDED = 2  # processes that a session needs: sudo and sbatch
MEMORY_MB = 128  # of each session
FIRST_UID = 2900
LIMIT = 900  # seconds for all to be ready
GROUP = "students"

TOKENS = """
import json, sys
from jupyterhub import orm, roles
from sqlalchemy.orm import sessionmaker
names, url = json.loads(sys.argv[1]), sys.argv[2]
db = sessionmaker(bind=orm.new_session_factory(url)().get_bind())()
found = {}
for name in names:
    user = orm.User.find(db, name)
    if user is None:
        user = orm.User(name=name)
        db.add(user)
        db.commit()
        roles.assign_default_roles(db, entity=user)
    found[name] = user.new_api_token(note="rush", scopes=["self"])
print(json.dumps(found))
"""


@dataclass
class Side:
    """One of the two hubs, with everybody's token."""

    name: str
    info: LabInfo
    url: str
    unit: str
    database: str
    user: str
    tokens: dict[str, str]
    body: str = ""  # of the request that starts a session

    @property
    def login(self) -> str:
        return self.info.nodes[0].name

    def run(self, *argv: str) -> str:
        return on_node(self.info, self.login, argv)

    def make_tokens(self, names: Sequence[str]) -> None:
        """While the hub is down, so that it finds them when it starts."""
        self.tokens = json.loads(
            self.run("runuser", "-u", self.user, "--", f"{stock.HUB}/bin/python", "-c", TOKENS,
                     json.dumps(list(names)), self.database)
        )  # fmt: skip

    @property
    def pid(self) -> int:
        """The hub's process, as this machine numbers it."""
        inside = self.run("systemctl", "show", "-P", "MainPID", self.unit).strip()
        return forks.on_this_machine(int(inside), nodes.machine(self.info.name, self.login))

    def memory_mb(self) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024


@contextmanager
def people(info: LabInfo, count: int) -> Iterator[list[str]]:
    """Accounts on all nodes, in Slurm too; taken away in the end."""
    names = [f"rush{number:02d}" for number in range(count)]
    everywhere = [node.name for node in info.nodes]
    make = "".join(
        f"useradd -M -N -g {GROUP} -u {FIRST_UID + number} -d /home/{name} {name}\n"
        for number, name in enumerate(names)
    )
    homes = "".join(f"install -d -m 700 -o {name} -g {GROUP} /home/{name}\n" for name in names)
    slurm = ["sacctmgr", "-i", "-Q"]
    try:
        for node in everywhere:
            on_node(info, node, ["sh", "-es"], stdin=make)
        on_node(info, everywhere[0], ["sh", "-es"], stdin=homes)
        on_node(info, everywhere[0], [*slurm, "add", "user", ",".join(names), "account=class"])
        yield names
    finally:
        on_node(info, everywhere[0], [*slurm, "delete", "user", ",".join(names)])
        gone = "".join(f"userdel {name} || true\nrm -rf /home/{name}\n" for name in names)
        for node in everywhere:
            on_node(info, node, ["sh", "-s"], stdin=gone)


async def press(side: Side, name: str, delay: float) -> bool:
    """One person: Start, then the waiting page's events. Whether there was a session."""
    await asyncio.sleep(delay)
    client = AsyncHTTPClient()
    headers = {"Authorization": f"token {side.tokens[name]}"}
    path = f"{side.url}/hub/api/users/{name}/server"
    ready = False
    text = b""

    def read(chunk: bytes) -> None:
        nonlocal ready, text
        text += chunk
        *lines, text = text.split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                ready = ready or bool(event.get("ready"))
                if event.get("failed"):
                    say(f"{side.name}, {name}: {event.get('message')}")

    try:
        await client.fetch(HTTPRequest(path, method="POST", headers=headers, body=side.body,
                                       request_timeout=LIMIT))  # fmt: skip
        await client.fetch(HTTPRequest(f"{path}/progress", headers=headers, request_timeout=LIMIT,
                                       streaming_callback=read))  # fmt: skip
    except (HTTPClientError, OSError) as error:
        say(f"{side.name}, {name}: {error}")
        return False
    return ready


async def stop_all(side: Side, names: Sequence[str]) -> None:
    client = AsyncHTTPClient()

    async def stop(name: str) -> None:
        headers = {"Authorization": f"token {side.tokens[name]}"}
        await client.fetch(
            HTTPRequest(f"{side.url}/hub/api/users/{name}/server", method="DELETE",
                        headers=headers, request_timeout=120),
            raise_error=False,
        )  # fmt: skip

    await asyncio.gather(*(stop(name) for name in names))
    limit = time.monotonic() + 180
    while side.run("squeue", "-h", "-o", "%i", "-u", ",".join(names)).strip():
        if time.monotonic() > limit:
            raise SystemExit(f"{side.name}: the sessions do not end")
        await asyncio.sleep(1)


async def rush(side: Side, names: Sequence[str]) -> dict[str, float]:
    """All press Start within a second; the figures."""
    groups = [Group.of_node(side.info.name, node.name) for node in side.info.nodes]
    with forks.counting(side.pid) as counted:
        before, began = [group.seconds for group in groups], time.monotonic()
        done = await asyncio.gather(
            *(press(side, name, number / len(names)) for number, name in enumerate(names))
        )
        last = time.monotonic() - began
        used = [group.seconds - start for group, start in zip(groups, before, strict=True)]
    if counted.lost:
        say("the kernel dropped some forks: there were more than counted")
    figures = {
        "last": last,
        "cpu": sum(used),
        "cpu_login": used[0],
        "forks": float(max(counted.forks - NEEDED * len(names), 0)),
        "failed": float(done.count(False)),
        "memory_mb": float(side.memory_mb()),
    }
    await stop_all(side, names)
    say(f"{side.name}, {len(names)}: " + ", ".join(f"{k} {v:.1f}" for k, v in figures.items()))
    return figures


def run(info: LabInfo, sizes: Sequence[int]) -> None:
    AsyncHTTPClient.configure(None, max_clients=200)
    login = info.nodes[0]
    with people(info, max(sizes)) as names, stock.hub(info, MEMORY_MB) as (url, _password):
        ours = Side("ours", info, f"http://{login.address}:8000", "practicum-hub",
                    "sqlite:////var/lib/practicum-hub/hub.sqlite", "practicum-hub", {},
                    json.dumps({"memory": MEMORY_MB}))  # fmt: skip
        peer = Side("stock", info, url, stock.UNIT, f"sqlite:///{stock.FOLDER}/hub.sqlite",
                    "root", {})  # fmt: skip
        for side in (ours, peer):
            common.wait_for(f"{side.url}/hub/api/")
            side.make_tokens(names)
        asyncio.run(compare(ours, peer, names, sizes))


async def compare(ours: Side, peer: Side, names: Sequence[str], sizes: Sequence[int]) -> None:
    figures: dict[str, dict[str, dict[str, float]]] = {"ours": {}, "stock": {}}
    for side in (ours, peer):  # caches
        await rush(side, names[:1])
    for size in sizes:
        for side in (ours, peer):
            common.quiet_wait()
            figures[side.name][str(size)] = await rush(side, names[:size])
    report(figures["ours"], figures["stock"])


def report(ours: dict[str, Any], peer: dict[str, Any]) -> None:
    rows, ratios = [], {}
    for size, mine in ours.items():
        for name, figures in (("ours", mine), ("stock", peer[size])):
            rows.append([f"{name}, {size}", *(f"{figures[key]:.1f}" for key in KEYS)])
        ratios[size] = {key: common.ratio(peer[size][key], mine[key]) for key in KEYS}
    common.show("rush: all press Start within a second", rows, ["", *KEYS])
    common.finish("rush", ours, peer, ratios, seconds=round(time.monotonic() - common.STARTED))


KEYS = ("last", "cpu", "cpu_login", "forks", "failed", "memory_mb")


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, nargs="+", default=list(SIZES), help="how many")


if __name__ == "__main__":
    common.main(__doc__, ROLES, lambda info, options: run(info, options.users), declare)
