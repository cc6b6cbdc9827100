"""Thirty notebooks share cores, and jobs still run: the design's capacity figure.

Three compute nodes of 4 cores and 4,000 MB (declared). The notebooks here are what the hub
submits, as far as Slurm is concerned: one core and the profile's memory in the notebook partition.
"""

from __future__ import annotations

import re

import pytest
from waiting import until

pytestmark = pytest.mark.lab

NOTEBOOKS = 30


def running(run_on, name: str) -> list[str]:
    return run_on("login", ["squeue", "-h", "-t", "R", "-n", name, "-o", "%i"]).stdout.split()


def test_thirty_notebooks_and_a_two_node_mpi_job_at_once(lab, run_on) -> None:
    compute = [node for node in lab.nodes if "compute" in node.roles]
    assert len(compute) >= 3, "this test needs a lab of four nodes"
    done = run_on(
        "login",
        ["sbatch", "--parsable", "--partition=notebook", "--job-name=capacity", "--cpus-per-task=1",
         "--mem=300", "--time=00:10:00", "--output=/dev/null", "--chdir=/tmp",
         f"--array=1-{NOTEBOOKS}", "--wrap=sleep 300"],
        user="ben",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    try:
        until(
            lambda: len(running(run_on, "capacity")) >= NOTEBOOKS,
            why=lambda: run_on("login", ["squeue", "-a"]).stdout,
        )
        mpi = run_on(
            "login",
            ["srun", "--partition=batch", "--nodes=2", "--ntasks-per-node=4", "--mem=400",
             "--chdir=/tmp", "--immediate=60", "hostname"],
            user="ada",
        )  # fmt: skip
        assert mpi.returncode == 0, mpi.stderr
        hosts = re.findall(r"node\d+", mpi.stdout)
        assert len(hosts) == 8
        assert len(set(hosts)) == 2
        assert len(running(run_on, "capacity")) == NOTEBOOKS
    finally:
        run_on("login", ["scancel", "--name=capacity", "--user=ben"])


def test_a_full_batch_queue_leaves_room_for_notebooks(run_on) -> None:
    script = ["--partition=batch", "--job-name=filler", "--mem=100", "--nodes=1"]
    for _node in range(3):
        done = run_on(
            "login",
            ["sbatch", "--parsable", *script, "--output=/dev/null", "--chdir=/tmp",
             "--wrap=sleep 300", "--ntasks=4"],
            user="ben",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    try:
        note = run_on(
            "login",
            ["srun", "--partition=notebook", "--mem=100", "--chdir=/tmp", "--immediate=60", "hostname"],
            user="ada",
        )  # fmt: skip
        assert note.returncode == 0, note.stderr
    finally:
        run_on("login", ["scancel", "--name=filler", "--user=ben"])
