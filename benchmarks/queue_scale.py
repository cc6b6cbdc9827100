"""The watcher and the start page over a long queue: 2,000 jobs, 1,000 nodes.

The queue is a stand-in: two programs named squeue and sinfo that print what Slurm prints for that
many jobs and nodes, in the format that they are asked for. So what is measured is practicum's own
part: the processes it starts, reading the answers, and making the form. It is compared with asking
once for each waiting person, as stock batchspawner does.

cpu_minute  CPU seconds a minute of the watcher while something starts (a look every 2 s), the
            stand-in's own included
form_p95    95th percentile of 200 forms asked for one after the other, ms
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
import tempfile
import time
from pathlib import Path

import common

from cluster.model import Cluster, Partition, Profile
from cluster.slurm import ENVIRONMENT
from spawners import form, supply
from spawners.watcher import STARTING, Watcher

JOBS, NODES, REQUESTS, LOOKS = 2000, 1000, 200, 15

# Prints %-formats (squeue) and fixed widths (sinfo), as asked for by the argument --format.
SQUEUE = """#!{python}
import sys
layout = next(a for a in sys.argv if a.startswith("--format=")).removeprefix("--format=")
end = layout[2:layout.index("%", 2)]
rows = []
for n in range(1, {jobs} + 1):
    runs = n <= {jobs} // 2
    node = f"node{{(n - 1) % {nodes} + 1:04d}}" if runs else ""
    rows.append([str(n), "work", f"u{{n % 97}}", str(3000 + n % 97), "class",
                 "RUNNING" if runs else "PENDING", "None" if runs else "Priority", "notebook",
                 node, "2", str(4000 - n), "1795267024", "1795267030" if runs else "N/A",
                 "10:00" if runs else "0:00", "4:00:00", "(null)"])
sys.stdout.write("".join("".join(cell + end for cell in row) + "\\n" for row in rows))
"""
SINFO = """#!{python}
import sys
for n in range(1, {nodes} + 1):
    print(f"{{f'node{{n:04d}}':<64}}{{'notebook':<64}}{{'mixed':<32}}{{'2/2/0/4':<32}}"
          f"{{'4000':<16}}{{'600':<16}}")
"""

CLUSTER = Cluster.model_validate(
    {
        "cluster": {"name": "scale"},
        "network": {"subnet": "10.9.0.0/24"},
        "nodes": [{"name": "login", "address": "10.9.0.1", "roles": ["login", "controller"]}],
        "partitions": [Partition(name="notebook", nodes="ALL", oversubscribe=8).model_dump()],
        "profiles": [
            Profile(name=f"p{number}", title="P", partition="notebook", cpus=number).model_dump()
            for number in range(1, 6)
        ],
    }
)


def cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    own, others = (resource.getrusage(who) for who in (resource.RUSAGE_SELF,
                                                       resource.RUSAGE_CHILDREN))  # fmt: skip
    return own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime


async def watch(askers: int) -> float:
    """CPU seconds a minute for ``askers`` waiting people, all through the one watcher."""
    watcher = Watcher.shared()
    began = cpu()
    for _look in range(LOOKS):
        await asyncio.gather(
            *(watcher.view(JOBS - n, submitted=0, max_age=0) for n in range(askers))
        )
        await asyncio.sleep(0.25)  # looks are 2 s apart; the rest of that costs nothing
    return (cpu() - began) * 60 / (LOOKS * STARTING)


async def ask_each(askers: int) -> float:
    """The same by one squeue for each person and look, as stock does."""
    began = cpu()
    watcher = Watcher()
    for number in range(askers):
        await watcher.view(JOBS - number, submitted=0, max_age=0)
        watcher = Watcher()
    return (cpu() - began) * 60 / STARTING


async def forms() -> list[float]:
    """Milliseconds of each form; every twentieth finds the answers no longer fresh."""
    found = []
    for number in range(REQUESTS):
        if number % 20 == 0:
            for known in supply._stocks.values():
                known._made -= supply.FRESH
        await asyncio.sleep(0.05)
        began = time.perf_counter()
        picture = await supply.shared(CLUSTER)
        form.form(CLUSTER.profiles, {}, picture.sentences(CLUSTER.profiles))
        found.append((time.perf_counter() - began) * 1000)
    return found


async def measure(askers: int) -> None:
    if trouble := (await Watcher.shared().look(0)).error or (await supply.shared(CLUSTER)).error:
        raise SystemExit(f"the stand-in is not understood: {trouble}")
    ours, peer = await watch(askers), await ask_each(askers)
    times = sorted(await forms())
    p95 = times[int(len(times) * 0.95) - 1]
    rows = [
        ["watcher, CPU seconds a minute", f"{ours:.2f}", f"{peer:.2f}"],
        ["form, 95th percentile, ms", f"{p95:.2f}", ""],
        ["form, slowest, ms", f"{times[-1]:.2f}", ""],
    ]
    common.show(
        f"{JOBS} jobs, {NODES} nodes, {askers} wait", rows, ["", "one squeue", "one for each"]
    )
    mine = {"cpu_minute": round(ours, 3), "form_p95_ms": round(p95, 3),
            "form_max_ms": round(times[-1], 3)}  # fmt: skip
    other = {"cpu_minute": round(peer, 3)}
    common.finish(
        "queue-scale", mine, other, {"cpu_minute": common.ratio(peer, ours)}, jobs=JOBS, nodes=NODES
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--askers", type=int, default=30, help="people who wait at once")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="practicum-scale-") as folder:
        values = {"python": sys.executable, "jobs": JOBS, "nodes": NODES}
        for name, text in (("squeue", SQUEUE), ("sinfo", SINFO)):
            program = Path(folder) / name
            program.write_text(text.format(**values))
            program.chmod(0o755)
        ENVIRONMENT["PATH"] = f"{folder}:{ENVIRONMENT['PATH']}"  # a query's own environment
        asyncio.run(measure(options.askers))


if __name__ == "__main__":
    main()
