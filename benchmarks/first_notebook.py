"""From the click to a notebook that computes: practicum and stock batchspawner in turn, on the
same cluster, hub version, environment, kernel, partition and user.

The client is the same for both: log in by the form, make a token of one's own, start the server
by the request that the start button sends, follow the progress events as the waiting page does,
ask the server's /api through the proxy, start a kernel and execute 6 * 7 over its websocket.

Parts, in seconds. All containers have this machine's clock:
sbatch    click until slurmctld has the job (its log)
queue     until slurmctld has given it a node (its log)
launcher  until the session has told the hub of itself (the hub's log: stock reports its port,
          ours fetches its secrets), which is when the server's own start begins
server    until the server answers through the proxy
kernel    until the first result

slurmctld gives out nodes once a second, so that queue is a matter of the moment of the click: both
are started at the same fractions of a second. Lab nodes share one tree of packages, and with it
the proxy's node.js, which JupyterLab starts at import where it finds it (0.6 CPU seconds, stock
alone: our launcher prevents it). Real compute nodes have none, so here it is hidden from both.

CPU seconds: of everything on the compute nodes (control groups), and of the hub's process with
its commands, both from the click to the result.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import common
import requests
import stock
from common import Group, on_node, say
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from practicum.rooms import ROLES
from provisioning.lab import LabInfo

USER = "ada"
PARTS = ("sbatch", "queue", "launcher", "server", "kernel")
START_SECONDS = 120


@dataclass
class Hub:
    """One of the two hubs, and a person who is logged in."""

    name: str
    info: LabInfo
    url: str
    unit: str
    hello: str  # in its log when the session has told of itself
    token: str = ""

    @property
    def login(self) -> str:
        return self.info.nodes[0].name

    def log_in(self, password: str) -> None:
        """By the form, then a token by the API: what follows is the person's own doing."""
        person = requests.Session()
        form = person.get(f"{self.url}/hub/login", timeout=20)
        form.raise_for_status()
        xsrf = {"_xsrf": person.cookies.get("_xsrf", path="/hub/")}
        fields = {"username": USER, "password": password, **xsrf}
        done = person.post(f"{self.url}/hub/login", params={"next": "/hub/home"}, data=fields,
                           timeout=60)  # fmt: skip
        done.raise_for_status()
        headers = {"X-XSRFToken": str(person.cookies.get("_xsrf", path="/hub/"))}
        made = person.post(f"{self.url}/hub/api/users/{USER}/tokens", headers=headers,
                           json={"note": "benchmark"}, timeout=20)  # fmt: skip
        made.raise_for_status()
        self.token = made.json()["token"]

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"token {self.token}"}

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        answer = requests.request(
            method, f"{self.url}{path}", headers=self.headers, timeout=START_SECONDS, **more
        )
        answer.raise_for_status()
        return answer

    def cpu(self) -> float:
        """CPU seconds of the hub's process and of the commands that it has waited for."""
        pid = on_node(self.info, self.login,
                      ["systemctl", "show", "-P", "MainPID", self.unit]).strip()  # fmt: skip
        text = on_node(self.info, self.login, ["cat", f"/proc/{pid}/stat"])
        fields = text.rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / 100  # clock ticks, proc_pid_stat(5)

    def wait_ready(self) -> None:
        """The waiting page's events, until one says ready."""
        answer = self.ask("GET", f"/hub/api/users/{USER}/server/progress", stream=True)
        for line in answer.iter_lines(chunk_size=1):
            if line.startswith(b"data:"):
                event = json.loads(line[5:])
                if event.get("failed"):
                    raise SystemExit(f"{self.name}: {event.get('message')}")
                if event.get("ready"):
                    return
        raise SystemExit(f"{self.name}: the events ended before the server was ready")

    def stop(self) -> None:
        """Stop the server, and wait until its job has gone."""
        self.ask("DELETE", f"/hub/api/users/{USER}/server")
        limit = time.monotonic() + 60
        while time.monotonic() < limit:
            known = self.ask("GET", f"/hub/api/users/{USER}").json().get("servers")
            jobs = on_node(self.info, self.login, ["squeue", "-h", "-u", USER]).strip()
            if not known and not jobs:
                return
            time.sleep(0.5)
        raise SystemExit(f"{self.name}: the session does not end")


async def compute(hub: Hub) -> None:
    """A kernel, and its first result, over the websocket."""
    made = hub.ask("POST", f"/user/{USER}/api/kernels", json={}).json()
    url = hub.url.replace("http", "ws", 1) + f"/user/{USER}/api/kernels/{made['id']}/channels"
    socket = await websocket_connect(HTTPRequest(url, headers=hub.headers))
    ident = uuid.uuid4().hex
    message = {
        "header": {"msg_id": ident, "msg_type": "execute_request", "username": "", "version": "5.3",
                   "session": uuid.uuid4().hex, "date": ""},
        "parent_header": {}, "metadata": {}, "channel": "shell", "buffers": [],
        "content": {"code": "6 * 7", "silent": False, "store_history": True,
                    "user_expressions": {}, "allow_stdin": False, "stop_on_error": True},
    }  # fmt: skip
    await socket.write_message(json.dumps(message))
    result = None
    while True:
        said = await asyncio.wait_for(socket.read_message(), START_SECONDS)
        if said is None:
            raise SystemExit(f"{hub.name}: the kernel's websocket was closed")
        event = json.loads(said)
        if event["parent_header"].get("msg_id") != ident:
            continue
        if event["msg_type"] == "execute_result":
            result = event["content"]["data"]["text/plain"]
        if event["msg_type"] == "execute_reply":
            break
    socket.close()
    if event["content"]["status"] != "ok" or result not in ("42", None):
        raise SystemExit(f"{hub.name}: the kernel answers {event['content']}")


@contextmanager
def without_nodejs(info: LabInfo) -> Iterator[None]:
    """The compute nodes as real ones are."""
    names = [node.name for node in info.nodes if "compute" in node.roles]
    for name in names:
        on_node(info, name, ["chmod", "a-x", "/usr/bin/node"])
    try:
        yield
    finally:
        for name in names:
            on_node(info, name, ["chmod", "a+x", "/usr/bin/node"])


def wait_for_fraction(fraction: float) -> None:
    """Until the clock's part after the second is that."""
    time.sleep((fraction - time.time()) % 1)


def spawn(hub: Hub, fraction: float) -> dict[str, float]:
    """One click, at that fraction of a second, to one result; the figures of it."""
    compute_nodes = [node.name for node in hub.info.nodes if "compute" in node.roles]
    groups = [Group.of_node(hub.info.name, name) for name in compute_nodes]
    login = Group.of_node(hub.info.name, hub.login)
    hub_before = hub.cpu()
    time.sleep(0.5)
    wait_for_fraction(fraction)
    before, login_before = sum(group.seconds for group in groups), login.seconds
    click = time.time()
    hub.ask("POST", f"/hub/api/users/{USER}/server")
    hub.wait_ready()
    version = hub.ask("GET", f"/user/{USER}/api").json()["version"]
    served = time.time()
    asyncio.run(compute(hub))
    done = time.time()
    session = sum(group.seconds for group in groups) - before
    all_login = login.seconds - login_before
    hub_cpu = hub.cpu() - hub_before
    submitted, placed = slurm_times(hub, click)
    hello = hello_time(hub, click)
    edges = [click, submitted, placed, hello, served, done]
    figures = {part: edges[i + 1] - edges[i] for i, part in enumerate(PARTS)}
    split = ", ".join(f"{part} {seconds:.2f}" for part, seconds in figures.items())
    say(f"{hub.name}: server {version}: {split}, total {done - click:.2f} s; "
        f"CPU session {session:.2f}, hub {hub_cpu:.2f} s")  # fmt: skip
    return figures | {
        "total": done - click,
        "cpu_session": session,
        "cpu_hub": hub_cpu,
        "cpu": session + hub_cpu,
        "cpu_login_node": all_login,
    }


def slurm_times(hub: Hub, since: float) -> tuple[float, float]:
    """When slurmctld took the newest job and when it gave it a node, from its log."""
    text = on_node(hub.info, hub.login, ["tail", "-n", "200", "/var/log/slurm/slurmctld.log"])
    zone = on_node(hub.info, hub.login, ["date", "+%z"]).strip()
    pattern = re.compile(
        r"^\[(\S+)\] (?:_slurm_rpc_submit_batch_job: JobId=(\d+)|(?:sched: Allocate|"
        r"sched/backfill: _start_job: Started) JobId=(\d+))",
        re.MULTILINE,
    )
    submitted, placed = 0.0, 0.0
    for found in pattern.finditer(text):
        at = datetime.fromisoformat(found[1] + zone).timestamp()
        if at >= since - 0.002:
            if found[2]:
                submitted = at
            else:
                placed = at
    if not submitted or not placed:
        raise SystemExit(f"slurmctld's log does not tell of the job:\n{text[-1500:]}")
    return submitted, placed


def hello_time(hub: Hub, since: float) -> float:
    """When the session first spoke to the hub, from the journal."""
    text = on_node(
        hub.info, hub.login,
        ["journalctl", "--no-pager", "-q", "-o", "short-unix", "-u", hub.unit, "-n", "300"],
    )  # fmt: skip
    for line in text.splitlines():
        at = line.split()[0]
        if hub.hello in line and re.fullmatch(r"[0-9.]+", at) and float(at) >= since:
            return float(at)
    raise SystemExit(f"the log of {hub.unit} has no {hub.hello!r}:\n{text[-1500:]}")


def idle(info: LabInfo, seconds: float = 5) -> float:
    """CPU seconds that the compute nodes spend in one second of doing nothing."""
    groups = [Group.of_node(info.name, node.name) for node in info.nodes if "compute" in node.roles]
    before = sum(group.seconds for group in groups)
    time.sleep(seconds)
    return round((sum(group.seconds for group in groups) - before) / seconds, 4)


def run(info: LabInfo, runs: int) -> None:
    account = next(one for one in info.accounts if one.name == USER)
    ours = Hub("ours", info, f"http://{info.nodes[0].address}:8000", "practicum-hub",
               "200 POST /hub/api/practicum/session")  # fmt: skip
    with without_nodejs(info), stock.hub(info) as (url, password):
        peer = Hub("stock", info, url, stock.UNIT, "POST /hub/api/batchspawner")
        common.wait_for(f"{peer.url}/hub/api/")
        ours.log_in(account.password)
        peer.log_in(password)
        for hub in (ours, peer):  # caches, homes
            spawn(hub, 0)
            hub.stop()
        common.quiet_wait()
        rest = idle(info)
        figures: dict[str, list[dict[str, float]]] = {"ours": [], "stock": []}
        for number in range(runs):
            for hub in (ours, peer):
                figures[hub.name].append(spawn(hub, number / runs))
                hub.stop()
                time.sleep(1)
    report(figures["ours"], figures["stock"], rest)


def report(
    ours: Sequence[Mapping[str, float]], peer: Sequence[Mapping[str, float]], rest: float
) -> None:
    mine, other = common.medians(ours), common.medians(peer)
    rows = [
        [key.replace("_", " "), f"{mine[key]:.2f}", f"{other[key]:.2f}",
         f"{other[key] / mine[key]:.1f}" if mine[key] > 0 else "",
         " ".join(f"{one[key]:.2f}" for one in ours), " ".join(f"{one[key]:.2f}" for one in peer)]
        for key in mine
    ]  # fmt: skip
    common.show(
        f"first notebook: seconds, medians of {len(ours)} runs in turn",
        rows,
        ["", "practicum", "stock", "stock / ours", "all ours", "all stock"],
    )
    common.console.print(f"compute nodes at rest: {rest} CPU seconds a second")
    common.finish(
        "first-notebook",
        mine,
        other,
        {key: common.ratio(other[key], mine[key]) for key in mine},
        idle_cpu_per_second=rest,
        runs=len(ours),
        seconds=round(time.monotonic() - common.STARTED),
    )


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=int, default=5)


if __name__ == "__main__":
    common.main(__doc__, ROLES, lambda info, options: run(info, options.runs), declare)
