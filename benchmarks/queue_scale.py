"""The watcher and the start page over a long queue: 2,000 jobs and 1,000 more nodes in a lab's real
Slurm. The jobs are held, and the nodes are there in slurm.conf alone, down.

A person's session waits all the time, so the watcher looks every 2 s.

watcher     CPU seconds a minute of the hub's process and its commands while nobody asks for pages
form_p95    95th percentile of 200 start pages, fetched one after the other through the proxy, ms
form_max    the slowest of them

Beside it, asking as stock batchspawner does: `sudo squeue -h -j JOB` for each of 30 waiting people
every half second; CPU seconds a minute of these commands alone, extrapolated from 20 of them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import forks
import requests
from common import on_node, say

from practicum.rooms import ROLES
from provisioning.lab import LabInfo, nodes

USER = "ada"
REQUESTS, SAMPLE = 200, 20
ASKERS, STOCK_POLLS = 30, 120  # people; polls a minute of each
CONF = "/etc/slurm/slurm.conf"
PARTITION = "notebook"

# Four lines, each of at most 250 nodes, whose addresses nobody answers at.
FAR = """
import re, sys
conf, count = sys.argv[1], int(sys.argv[2])
text = open(conf).read()
lines, names = [], []
for start in range(0, count, 250):
    last = min(start + 250, count)
    names.append(f"far[{start + 1:04d}-{last:04d}]")
    lines.append(f"NodeName={names[-1]} NodeAddr=127.9.{start // 250}.[1-{last - start}] CPUs=4 "
                 "RealMemory=4000 State=DOWN Reason=benchmark")
part = re.search(r"^PartitionName=notebook Nodes=\\\\S+", text, re.M)[0]
text = text.replace(part, "\\\\n".join([*lines, part + "," + ",".join(names)]))
open(conf, "w").write(text)
""".replace("\\\\", "\\")
# In one shell on the node: a connection for each would take minutes.
HELD = """
cd /tmp
seq "$1" | xargs -P 4 -I{} sbatch -Q -H -p batch -J scale -o /dev/null --wrap true >/dev/null
"""
ASK = """
import resource, subprocess, sys
job, count = sys.argv[1], int(sys.argv[2])
for _ in range(count):
    subprocess.run(["sudo", "-u", "root", "squeue", "-h", "-j", job, "-o", "%T %B"],
                   stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print((used.ru_utime + used.ru_stime) / count)
"""


class Login:
    """The login node of the lab, and its hub."""

    def __init__(self, info: LabInfo) -> None:
        self.info = info
        self.name = info.nodes[0].name
        self.hub = info.hub_url.rstrip("/")
        inside = self.run("systemctl", "show", "-P", "MainPID", "practicum-hub").strip()
        self.pid = forks.on_this_machine(int(inside), nodes.machine(info.name, self.name))

    def run(self, *argv: str, stdin: str = "", timeout: float = 600) -> str:
        return on_node(self.info, self.name, argv, stdin=stdin, timeout=timeout)

    def cpu(self) -> float:
        """CPU seconds of the hub's process and of the commands it has waited for."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / 100  # clock ticks, proc_pid_stat(5)

    def restart_slurm(self) -> None:
        self.run("systemctl", "restart", "slurmctld")
        limit = time.monotonic() + 60
        while "UP" not in self.run("sh", "-c", "scontrol ping || true"):
            if time.monotonic() > limit:
                raise SystemExit("slurmctld does not come back")
            time.sleep(0.5)


@contextmanager
def crowd(login: Login, jobs: int, far: int) -> Iterator[None]:
    """The nodes and the jobs, taken away in the end."""
    login.run("cp", "-a", CONF, f"{CONF}.benchmark")
    try:
        login.run("python3", "-", CONF, str(far), stdin=FAR)
        login.restart_slurm()
        say(f"submitting {jobs} jobs")
        login.run("runuser", "-u", USER, "--", "sh", "-es", str(jobs), stdin=HELD)
        rows = int(login.run("sh", "-c", "squeue -h -n scale | wc -l"))
        known = int(login.run("sh", "-c", f"sinfo -h -N -p {PARTITION} | wc -l"))
        say(f"{rows} jobs in the queue, {known} nodes in the partition")
        if rows < jobs or known < far:
            raise SystemExit("Slurm does not have all of them")
        yield
    finally:
        login.run("scancel", "-n", "scale")
        login.run("mv", f"{CONF}.benchmark", CONF)
        login.restart_slurm()


class Person:
    """Someone at the hub's pages."""

    def __init__(self, login: Login) -> None:
        self.hub = login.hub
        self.web = requests.Session()
        self.web.trust_env = False
        self.web.get(f"{self.hub}/hub/login", timeout=30).raise_for_status()
        secret = next(one.password for one in login.info.accounts if one.name == USER)
        sent = {"username": USER, "password": secret, "_xsrf": self.xsrf}
        self.web.post(f"{self.hub}/hub/login", data=sent, timeout=60).raise_for_status()
        self.web.get(f"{self.hub}/hub/home", timeout=30).raise_for_status()

    @property
    def xsrf(self) -> str:
        return next(
            i.value or "" for i in self.web.cookies if i.name == "_xsrf" and "hub" in i.path
        )

    def api(self, method: str, path: str) -> Any:
        url = f"{self.hub}/hub/api/users/{USER}/{path}"
        return self.web.request(method, url, params={"_xsrf": self.xsrf}, timeout=60)

    def forms(self, count: int) -> list[float]:
        """Milliseconds of each start page. The server that waits has no name, so this is the
        page of another."""
        found = []
        for _number in range(count):
            began = time.perf_counter()
            answer = self.web.get(f"{self.hub}/hub/spawn/{USER}/other", timeout=30)
            found.append((time.perf_counter() - began) * 1000)
            if "practicum-profiles" not in answer.text:
                raise SystemExit(f"that is not the start page: {answer.url}, {answer.status_code}")
        return found


@contextmanager
def waiting(login: Login, person: Person) -> Iterator[str]:
    """A session that waits: the watcher looks every 2 s. Its job's number."""
    change = ["scontrol", "update", f"partitionname={PARTITION}"]
    login.run(*change, "state=DOWN")
    try:
        person.api("POST", "server").raise_for_status()
        limit, job = time.monotonic() + 60, ""
        while not job and time.monotonic() < limit:
            job = login.run("squeue", "-h", "-n", "practicum-hub", "-u", USER, "-o", "%i").strip()
        yield job
    finally:
        person.api("DELETE", "server")
        login.run(*change, "state=UP")


def run(info: LabInfo, jobs: int, far: int, seconds: float) -> None:
    login = Login(info)
    person = Person(login)
    with crowd(login, jobs, far), waiting(login, person) as job:
        person.forms(3)  # caches
        common.quiet_wait()
        before, began = login.cpu(), time.monotonic()
        time.sleep(seconds)
        watcher = (login.cpu() - before) * 60 / (time.monotonic() - began)
        times = sorted(person.forms(REQUESTS))
        each = float(login.run("python3", "-", job, str(SAMPLE), stdin=ASK))
    report(watcher, each * ASKERS * STOCK_POLLS, times, jobs, far)


def report(watcher: float, peer: float, times: list[float], jobs: int, far: int) -> None:
    p95, most = times[int(len(times) * 0.95) - 1], times[-1]
    rows = [
        ["asking for the queue, CPU seconds a minute", f"{watcher:.2f}", f"{peer:.2f}"],
        ["start page, 95th percentile, ms", f"{p95:.1f}", ""],
        ["start page, slowest, ms", f"{most:.1f}", ""],
    ]
    common.show(f"{jobs} jobs, {far} more nodes", rows, ["", "practicum", "one squeue for each"])
    mine = {"watcher": round(watcher, 3), "form_p95": round(p95, 2), "form_max": round(most, 2)}
    common.finish(
        "queue-scale", mine, {"watcher": round(peer, 3)},
        {"watcher": common.ratio(peer, watcher)}, jobs=jobs, nodes=far,
    )  # fmt: skip


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=30, help="of watching")


if __name__ == "__main__":
    common.main(
        __doc__, ROLES, lambda info, opts: run(info, opts.jobs, opts.nodes, opts.seconds), declare
    )
