"""`practicum selftest mpi`: what MPI does on all nodes, measured, and which ports keep it from it.

First every node tries the ports of every other (MPI and srun take whichever are free), by SSH and
without Slurm, since a closed one makes both wait for ever. Then one job runs lmod/files/
mpi_selftest.c with srun and with mpirun. Times in microseconds, bandwidth in 10^6 bytes a second.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cluster.hostlist import fold
from cluster.model import Cluster, Node
from lmod.jobs import Person
from lmod.role import PYTHON, own_file
from lmod.shells import LIBRARY
from provisioning.remote import Remote
from provisioning.ssh import ssh_target

PROBE = f"{LIBRARY}/port_probe.py"
PROBE_SECONDS = 15
# Linux gives programs that ask for any port one of these (ip_local_port_range)
PORTS = (33017, 36901, 40637, 44371, 48109, 51839, 55579, 60719)
LAUNCHERS = ("srun", "mpirun")
FIGURES = ("latency_us", "bandwidth_mb_s", "allreduce_us")
RUN_SECONDS = 120  # of each launcher
FOLDER = ".practicum-selftest"  # in the home of who runs it
JOB = "practicum-selftest"
PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/+-]*")


@dataclass(frozen=True)
class Outcome:
    """What one launcher did. ``status`` is its exit status; figures that were not measured are
    None (bandwidth and latency, with one process)."""

    status: int
    hosts: tuple[str, ...] = ()
    right: bool = False
    latency_us: float | None = None
    bandwidth_mb_s: float | None = None
    allreduce_us: float | None = None
    said: str = ""

    @property
    def well(self) -> bool:
        return self.status == 0 and self.right


@dataclass(frozen=True)
class Plan:
    """What runs where, and as whom. ``mpi``: of srun, "" for the cluster's own."""

    user: str
    nodes: tuple[str, ...]
    modules: tuple[str, ...] = ("gcc", "openmpi")
    mpi: str = ""
    tasks_per_node: int = 1


def script(plan: Plan) -> str:
    """The job. ValueError for a module or MPI type that is no plain word."""
    for word in (*plan.modules, *filter(None, [plan.mpi])):
        if not PLAIN.fullmatch(word):
            raise ValueError(f"{word!r} is not the name of a module or of an MPI type")
    tasks = max(plan.tasks_per_node, 2) if len(plan.nodes) == 1 else plan.tasks_per_node
    kind = f"--mpi={plan.mpi} " if plan.mpi else ""
    runs = {"srun": f"srun {kind}./selftest", "mpirun": "mpirun ./selftest"}
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={JOB} --time=00:10:00 --output=out-%j",
        f"#SBATCH --nodes={len(plan.nodes)} --nodelist={fold(plan.nodes)}",
        f"#SBATCH --ntasks-per-node={tasks}",
        f"module load {shlex.join(plan.modules)} || echo '@failed the modules cannot be loaded'",
        "mpicc -O2 -o selftest selftest.c || echo '@failed the program cannot be compiled'",
    ]
    for name, words in runs.items():
        lines += [f"echo '@run {name}'", f"timeout {RUN_SECONDS} {words}", 'echo "@status $?"']
    return "\n".join([*lines, "echo @end", ""])


def read(output: str) -> dict[str, Outcome]:
    """Each launcher's outcome, from the job's output. ValueError when it is not whole."""
    if not re.search(r"^@end$", output, re.MULTILINE):
        raise ValueError("the job ended before its time")
    found = {}
    for name, body, status in re.findall(
        r"^@run (srun|mpirun)$(.*?)^@status (\d{1,3})$", output, re.MULTILINE | re.DOTALL
    ):
        figures = dict(re.findall(rf"^({'|'.join(FIGURES)}) (\d+(?:\.\d+)?)$", body, re.MULTILINE))
        hosts = re.findall(r"^rank \d+ (\S+)$", body, re.MULTILINE)
        said = [line for line in body.strip().splitlines() if line.strip()]
        found[name] = Outcome(
            status=int(status),
            hosts=tuple(hosts),
            right=bool(re.search(r"^sum right$", body, re.MULTILINE)),
            said=said[-1][:200] if said and int(status) else "",
            **{key: float(value) for key, value in figures.items()},
        )
    return found


def troubles(plan: Plan, outcomes: Mapping[str, Outcome], output: str) -> Iterator[str]:
    """One sentence for each thing that went wrong."""
    failed = re.findall(r"^@failed (.*)$", output, re.MULTILINE)
    if failed:
        last = [line for line in output.splitlines() if "error" in line.lower()][:1]
        yield f"{failed[0]} ({last[0].strip()[:200]})" if last else failed[0]
        return
    for name in LAUNCHERS:
        one = outcomes.get(name)
        if one is None:
            yield f"{name} was not tried"
        elif one.status == 124:
            yield f"{name} did not end within {RUN_SECONDS} s: the nodes do not reach each other"
        elif not one.well:
            yield f"{name} failed with status {one.status}: {one.said or 'no word of why'}"
        elif set(one.hosts) != set(plan.nodes):
            yield f"{name} ran on {fold(sorted(set(one.hosts)))} instead of {fold(plan.nodes)}"


def closed_sentences(closed: Mapping[str, Mapping[str, Sequence[int]]]) -> Iterator[str]:
    """``closed``: {from: {to: ports}}, by name. Who does not let whom in, and on which ports."""
    into: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for source, targets in closed.items():
        for target, ports in targets.items():
            into.setdefault((target, tuple(sorted(ports))), []).append(source)
    for (target, ports), sources in sorted(into.items()):
        if len(ports) == len(PORTS):
            which = f"any port that programs get (tried: {', '.join(map(str, ports))})"
        else:
            which = f"port{'s' if len(ports) > 1 else ''} {', '.join(map(str, ports))}"
        yield (
            f"{target} does not let {fold(sources)} in on {which}: MPI and srun between them wait "
            "for ever; open the ports between the nodes (firewall = true in [network] does, if "
            "no other firewall is there: nft list ruleset)"
        )


def probe(cluster: Cluster, base: Path, nodes: Sequence[Node]) -> dict[str, dict[str, list[int]]]:
    """{from: {to: ports that cannot be reached}} by name; nothing where all is open.

    PracticumError when a node cannot be asked.
    """
    names = {node.address: node.name for node in nodes}
    ports = ",".join(map(str, PORTS))

    def ask(node: Node) -> tuple[str, dict[str, list[int]]]:
        others = [one.address for one in nodes if one.name != node.name]
        words = [PYTHON, "-I", PROBE, "--ports", ports, "--seconds", str(PROBE_SECONDS), *others]
        with Remote(ssh_target(cluster, node, base)) as remote:
            done = remote.run(words, timeout=PROBE_SECONDS * 2 + 30, check=True)
        told = json.loads(done.out)["closed"]
        return node.name, {names[host]: found for host, found in told.items()}

    with ThreadPoolExecutor(max_workers=max(len(nodes), 1)) as pool:
        return {name: found for name, found in pool.map(ask, nodes) if found}


class Job:
    """The job, by SSH on the login node, as the person it runs for."""

    def __init__(self, cluster: Cluster, base: Path, plan: Plan, tell: Callable[[str], None]):
        self.plan = plan
        self.tell = tell
        self.home = f"{cluster.storage.home}/{plan.user}/{FOLDER}"
        self.target = ssh_target(
            cluster, next(n for n in cluster.machines if "login" in n.roles), base
        )

    def run(self, seconds: float) -> str:
        """Its output. PracticumError when it finds no place within ``seconds``, or fails."""
        with Remote(self.target) as remote:
            person = Person(remote, self.plan.user, self.home)
            person.run(["mkdir", "-p", self.home])
            person.run(["tee", f"{self.home}/selftest.c"], own_file("mpi_selftest.c"))
            job = person.submit(script(self.plan), f"--chdir={self.home}")
            try:
                person.wait(job, seconds, self.tell)
                return person.read(f"{self.home}/out-{job}", end="@end")
            finally:
                person.cancel(job)
                person.run(["rm", "-rf", self.home])


def figures(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """For JSON, and for the next run's table."""
    return {name: asdict(one) for name, one in outcomes.items()}


def rows(
    outcomes: Mapping[str, Outcome], last: Mapping[str, Any]
) -> list[tuple[str, str, str, str, str]]:
    """(launcher, processes and nodes, latency, bandwidth, sum over all), each figure beside the
    last run's."""
    found = []
    for name in LAUNCHERS:
        one = outcomes.get(name)
        if one is None:
            continue
        cells = []
        for key, form in zip(FIGURES, ("{:.1f}", "{:.0f}", "{:.1f}"), strict=True):
            value, before = getattr(one, key), (last.get(name) or {}).get(key)
            text = "-" if value is None else form.format(value)
            if isinstance(before, int | float):
                text += f" ({form.format(before)})"
            cells.append(text)
        where = f"{len(one.hosts)} on {fold(sorted(set(one.hosts)))}" if one.hosts else "failed"
        found.append((name, where, cells[0], cells[1], cells[2]))
    return found
