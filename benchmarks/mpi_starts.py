"""How many MPI steps die at their start, by how Slurm's PMIx waits: its ring, as practicum sets it,
beside its tree and its own choice (mixed); and how long a step takes.

As a student on a busy lab: two jobs at once, each with steps of four ranks on two nodes, one after
the other by each way (SLURM_PMIX_FENCE); processes that only compute keep the machine busy. A step
is good when it ends well and all ranks have the same sum.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import common
from common import on_node, say

from practicum.rooms import ROLES
from provisioning.lab import LabInfo

WAYS = ("ring", "mixed", "tree")
USERS = ("ada", "ben")
HELLO = r"""
#include <mpi.h>
#include <stdio.h>
int main(int argc, char **argv) {
  int rank, sum = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  printf("sum %d\n", sum);
  MPI_Finalize();
  return 0; }
"""
STEPS = """
import json, os, subprocess, sys, time
end, ways = time.time() + float(sys.argv[1]), sys.argv[2:]
told = {way: [] for way in ways}
while time.time() < end:
    for way in ways:
        begun = time.monotonic()
        done = subprocess.run(
            ["timeout", "60", "srun", "-n4", "./starts"], capture_output=True, text=True,
            env={**os.environ, "SLURM_PMIX_FENCE": way})
        good = done.returncode == 0 and done.stdout.count("sum 6") == 4
        told[way].append(time.monotonic() - begun if good else None)
print(json.dumps(told))
"""


@contextmanager
def busy(count: int) -> Iterator[None]:
    spinning = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(count)]
    try:
        yield
    finally:
        for one in spinning:
            one.kill()
            one.wait()


def steps(info: LabInfo, user: str, seconds: int) -> dict[str, list[float | None]]:
    """Seconds of each step by way; None for one that died."""
    script = (
        f"cd ~ && cat > starts.c <<'END'\n{HELLO}\nEND\n"
        "mpicc -o starts starts.c && cat > starts.py && "
        f"salloc -Q -N2 --ntasks-per-node=2 -t 60 python3 starts.py {seconds} {' '.join(WAYS)}"
    )
    words = ["runuser", "-l", user, "-c", script]
    text = on_node(info, info.nodes[0].name, words, stdin=STEPS, timeout=seconds + 120)
    return dict(json.loads(text.splitlines()[-1]))


def run(info: LabInfo, options: argparse.Namespace) -> None:
    say(f"steps for {options.seconds} s beside {options.busy} busy processes")
    with busy(options.busy), ThreadPoolExecutor(len(USERS)) as pool:
        found = list(pool.map(lambda user: steps(info, user, options.seconds), USERS))
    took = {way: [one for told in found for one in told[way]] for way in WAYS}
    died = {way: sum(one is None for one in took[way]) for way in WAYS}
    middle = {
        way: round(statistics.median([one for one in took[way] if one is not None] or [0]), 2)
        for way in WAYS
    }
    common.show(
        "MPI steps of 4 ranks on 2 nodes",
        [[way, str(len(took[way])), str(died[way]), f"{middle[way]:.2f}"] for way in WAYS],
        ["", "steps", "died", "seconds"],
    )
    common.finish(
        "mpi-starts",
        {"seconds": middle["ring"], "died": died["ring"]},
        {"seconds": middle["mixed"], "died": died["mixed"]},
        {"seconds": common.ratio(middle["mixed"], middle["ring"])},
        steps={way: len(took[way]) for way in WAYS},
        died=died,
    )


def declare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--busy", type=int, default=5)


if __name__ == "__main__":
    common.main(__doc__, ROLES, run, declare)
