"""Open MPI with Slurm's PMI-2, built by a Slurm job from Debian's source, and a student's job with it.

It takes 21 minutes of processor time (and took 54 of the clock beside much other work), so this is
no part of `make test`. On a lab that is up (PRACTICUM_LAB=NAME), of Debian 12 or Ubuntu 24.04:

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_openmpi_slow.py

What was built stays on the lab, and the next run takes it.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from cluster.load import load

pytestmark = pytest.mark.slow
HOURS = 3 * 3600
PLACE = "/nfs/apps/openmpi"
FOLDER = "/home/ada/pmi2"
JOB = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=2 --time=00:10:00 --output=pmi2.out
module load gcc {module}
echo "type $SLURM_MPI_TYPE"
mpicc -o mpi mpi.c || exit
echo "@pmi2"; srun --mpi=pmi2 ./mpi
echo "@itself"; srun ./mpi
echo "@mpirun"; mpirun ./mpi
echo "@none"; srun --mpi=none ./mpi
echo "@end"
"""


def practicum(lab: Any, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "practicum", *words, "--file", str(lab.cluster_toml)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HOURS, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def aside(run_on: Any) -> Iterator[None]:
    """What an earlier run has built is not there."""
    run_on("login", ["sh", "-c", f"[ ! -e {PLACE} ] || mv {PLACE} {PLACE}.aside"])
    yield
    run_on("login", ["sh", "-c", f"[ ! -e {PLACE}.aside ] || {{ rm -rf {PLACE}; mv {PLACE}.aside {PLACE}; }}"])  # fmt: skip


def test_a_build_that_fails_says_why_and_leaves_nothing(lab: Any, run_on: Any, aside: None) -> None:
    before = lab.cluster_toml.read_text()
    said = practicum(lab, "software", "build", "openmpi", "--configure=--srcdir=/nowhere", code=1)
    cause = re.search(
        r"the build failed at configure \(job \d+\): configure: error: cannot find sources .* in "
        r"/nowhere; all of it is in (/home/\w+/build-openmpi-\d+\.log)$",
        said,
        re.MULTILINE,
    )
    assert cause, said
    assert "cannot find sources" in run_on("login", ["cat", cause[1]]).stdout
    assert run_on("login", ["ls", PLACE]).stdout == ""
    assert lab.cluster_toml.read_text() == before


@pytest.fixture
def built(lab: Any) -> Iterator[str]:
    """The module of the Open MPI that was built, applied; taken out of cluster.toml afterwards."""
    before = lab.cluster_toml.read_text()
    try:
        said = practicum(lab, "software", "build", "openmpi", "--cores", "3")
        full = re.search(r"^(openmpi/\S+-pmi2) is built", said, re.MULTILINE)
        assert full, said
        practicum(lab, "apply", "--yes")
        yield full[1]
    finally:
        lab.cluster_toml.write_text(before)
        practicum(lab, "apply", "--yes")


def test_a_student_runs_what_was_built_with_pmi2(lab: Any, run_on: Any, built: str) -> None:
    prefix = next(one.prefix for one in load(lab.cluster_toml).modules if one.full == built)
    owners = run_on("login", ["find", prefix, "!", "-user", "root"]).stdout
    assert owners == ""
    # in the hierarchy, below the compiler, and not the default
    shell = "module load gcc; module -t avail openmpi; module load openmpi; module -t list"
    said = run_on("login", ["bash", "-lc", f"exec 2>&1; {shell}"], user="ada").stdout
    assert said.count(built) == 1 and "openmpi/" in said.rpartition("gcc/")[2], said

    ready = f"rm -rf {FOLDER} && mkdir {FOLDER} && cp /nfs/apps/examples/mpi.c {FOLDER}"
    run_on("login", ["sh", "-c", ready], user="ada")
    run_on("login", ["tee", f"{FOLDER}/pmi2.sh"], user="ada", input=JOB.format(module=built))
    run_on("login", ["bash", "-lc", f"cd {FOLDER} && sbatch --wait pmi2.sh"], user="ada",
           timeout=900)  # fmt: skip
    text = run_on("login", ["cat", f"{FOLDER}/pmi2.out"]).stdout
    runs = dict(re.findall(r"^@(\w+)$(.*?)(?=^@)", text, re.MULTILINE | re.DOTALL))
    assert "type pmi2" in text and set(runs) == {"pmi2", "itself", "mpirun", "none"}, text
    for name in ("pmi2", "itself", "mpirun"):
        found = re.findall(r"^process (\d) of 4 on (\S+)$", runs[name], re.MULTILINE)
        assert sorted(rank for rank, _ in found) == ["0", "1", "2", "3"], text
        assert len({host for _, host in found}) == 2, text
        assert "pi is about 3.141593" in runs[name]
    assert " of 4 on " not in runs["none"], text  # nothing but PMI-2 brings them together

    words = ("selftest", "mpi", "--modules", f"gcc {built}", "--mpi", "pmi2", "--json")
    told = json.loads(next(re.finditer(r"^{.*}$", practicum(lab, *words), re.MULTILINE))[0])
    assert told["problems"] == []
    assert all(told["runs"][name]["right"] for name in ("srun", "mpirun"))
