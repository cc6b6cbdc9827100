"""What the benchmarks share: a lab of their own, CPU time of whole groups of processes, medians,
and the way figures are told.

A benchmark prints a table for people, and as its last line one JSON object:
``{"benchmark": NAME, "ours": {...}, "peer": {...}, "ratios": {...}, "machine": {...}}``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.table import Table

from provisioning import lab as labs
from provisioning.lab import access, nodes
from provisioning.lab.system import mounts
from provisioning.report import Silent
from provisioning.role import Role

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "practicum-benchmarks"
NODES = 3
console = Console(stderr=False, width=110)


def say(text: str) -> None:
    """Progress, on standard error with the time since the start."""
    sys.stderr.write(f"[{time.monotonic() - STARTED:6.1f} s] {text}\n")
    sys.stderr.flush()


STARTED = time.monotonic()


@contextmanager
def own_lab(roles: Sequence[Role], *, provision: bool) -> Iterator[labs.LabInfo]:
    """A lab of three nodes that is taken down in the end, whatever happens."""
    name = f"b-{secrets.token_hex(3)}"
    try:
        yield make(name, roles, provision=provision)
    finally:
        labs.down(name, reporter=Silent())


def make(name: str, roles: Sequence[Role], *, provision: bool) -> labs.LabInfo:
    """The lab of that name; without ``provision`` its nodes only have the packages."""
    say(f"lab {name}: {'bringing it up' if provision else 'booting fresh nodes'}")
    return labs.up(name, nodes=NODES, roles=roles, provision=provision, reporter=Silent())


def fresh(name: str, roles: Sequence[Role]) -> labs.LabInfo:
    """The same lab with new nodes: the packages are there and nothing else is."""
    labs.down(name, reporter=Silent())
    return make(name, roles, provision=False)


def main(
    doc: str | None,
    roles: Sequence[Role],
    run: Callable[[labs.LabInfo, argparse.Namespace], None],
    declare: Callable[[argparse.ArgumentParser], None],
) -> None:
    """A benchmark's command line: ``declare`` adds its own options, ``run`` gets the lab, which
    is the benchmark's own unless --lab names one."""
    parser = argparse.ArgumentParser(description=(doc or "").strip().splitlines()[0])
    declare(parser)
    parser.add_argument("--lab", help="a lab that is up already, left as it is")
    options = parser.parse_args()
    if options.lab:
        run(labs.info(options.lab), options)
        return
    with own_lab(roles, provision=True) as info:
        run(info, options)


def on_node(
    info: labs.LabInfo, node: str, argv: Sequence[str], *, stdin: str = "", timeout: float = 120
) -> str:
    """Output of a command as root on a node; CalledProcessError when it fails."""
    done = subprocess.run(
        access.ssh_command(info, node, argv), input=stdin, text=True, capture_output=True,
        timeout=timeout, check=False,
    )  # fmt: skip
    if done.returncode:
        sys.stderr.write(done.stdout[-2000:] + done.stderr[-2000:])
        done.check_returncode()
    return done.stdout


def wait_for(url: str, seconds: float = 60) -> None:
    """Until that address answers. SystemExit if it does not."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        try:
            if requests.get(url, timeout=5).ok:
                return
        except requests.ConnectionError:
            time.sleep(0.3)
    raise SystemExit(f"{url} does not answer")


def quiet_wait(seconds: float = 15, below: float = 0.15) -> None:
    """Wait until this machine has little to do: daemons that boot would be measured else."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        before = busy_seconds()
        time.sleep(1)
        if busy_seconds() - before < below * (os.cpu_count() or 1):
            return
    say("this machine is busy with other things: the figures are noisy")


def busy_seconds() -> float:
    """CPU seconds that this machine has spent on anything but idling (proc_stat(5))."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    idle = int(fields[3]) + int(fields[4])
    return (sum(map(int, fields[:8])) - idle) / os.sysconf("SC_CLK_TCK")


def unified() -> Path:
    """Where control groups of version 2 are mounted; their cpu.stat counts without a controller."""
    for where, kind, _ in mounts():
        if kind == "cgroup2":
            return Path(where)
    raise SystemExit("no cgroup2 is mounted here: CPU seconds cannot be read")


class Group:
    """CPU seconds of all processes that were ever in a control group."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_node(cls, lab: str, node: str) -> Group:
        """The container of a node, all in it."""
        machine = nodes.machine(lab, node)
        for process in nodes.supervisors(lab, node):
            for line in Path(f"/proc/{process.pid}/cgroup").read_text().splitlines():
                if line.startswith("0::"):
                    path = unified()
                    for part in Path(line[3:]).parts[1:]:
                        path = path / part
                        if part.startswith(machine):
                            return cls(path)
        raise SystemExit(f"node {node} has no control group of its own")

    @property
    def seconds(self) -> float:
        for line in (self.path / "cpu.stat").read_text().splitlines():
            if line.startswith("usage_usec"):
                return int(line.split()[1]) / 1e6
        raise SystemExit(f"{self.path} has no usage_usec")


class Timed:
    """Wall seconds of a command, CPU seconds of it and all it started here, its output."""

    def __init__(self, wall: float, cpu: float, output: str, status: int) -> None:
        self.wall, self.cpu, self.output, self.status = wall, cpu, output, status


def timed(
    argv: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 600,
    good: Iterable[int] = (0,),
) -> Timed:
    """Run a command in a control group of its own, so that what it leaves behind counts too."""
    group = unified() / f"benchmark-{os.getpid()}"
    group.mkdir(exist_ok=True)

    def enter() -> None:
        (group / "cgroup.procs").write_text("0")

    before, began = Group(group).seconds, time.monotonic()
    done = subprocess.run(
        list(argv), env=dict(env) if env else None, cwd=cwd, text=True, timeout=timeout,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        preexec_fn=enter,
    )  # fmt: skip
    wall, cpu = time.monotonic() - began, Group(group).seconds - before
    if done.returncode not in good:
        sys.stderr.write(done.stdout[-6000:])
        raise SystemExit(f"{argv[0]} ended with status {done.returncode}")
    return Timed(wall, cpu, done.stdout, done.returncode)


def forget_group() -> None:
    """Remove the control group of :func:`timed`, once it is empty."""
    group = unified() / f"benchmark-{os.getpid()}"
    limit = time.monotonic() + 5
    while group.is_dir() and time.monotonic() < limit:
        try:
            group.rmdir()
        except OSError:
            time.sleep(0.1)


def median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure over several runs."""
    return {key: median(run[key] for run in runs) for key in runs[0]}


def ratio(peer: float, ours: float) -> float:
    return round(peer / ours, 2) if ours else 0.0


def show(title: str, rows: Iterable[Sequence[str]], columns: Sequence[str]) -> None:
    """A table; all but the first column to the right."""
    table = Table(title=title, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def finish(name: str, ours: Any, peer: Any, ratios: Any, **more: Any) -> None:
    """The last line."""
    machine = {
        "cpus": os.cpu_count(),
        "memory_mb": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    figures = {"benchmark": name, "ours": ours, "peer": peer, "ratios": ratios, **more}
    print(json.dumps({**figures, "machine": machine}))
