"""Quantum ESPRESSO's silicon, seed 004's calculation, as a job on two cores.

Its packages are 80 MB to fetch and 360 MB to unpack on every node, so this is no part of `make
test`. On a lab that is up (PRACTICUM_LAB=NAME):

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_espresso_slow.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytestmark = pytest.mark.slow
FOLDER = "/home/ada/silicon"
# Rydberg; what Quantum ESPRESSO 6.7 of Debian 12 gives for this crystal and this cut-off
ENERGY = -15.741217


def practicum(lab: Any, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "practicum", *words, "--file", str(lab.cluster_toml)],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@contextmanager
def espresso(lab: Any) -> Iterator[None]:
    """A lab that has it as a module."""
    before = lab.cluster_toml.read_text()
    try:
        practicum(lab, "module", "add", "quantum-espresso/6.7", "--package", "quantum-espresso",
                  "--package", "quantum-espresso-data", "--under", "gcc", "--under", "openmpi",
                  "--env", "ESPRESSO_PSEUDO=/usr/share/espresso/pseudo")  # fmt: skip
        practicum(lab, "apply", "--yes")
        yield
    finally:
        lab.cluster_toml.write_text(before)
        practicum(lab, "apply", "--yes")


def test_silicon_converges_on_two_cores(lab: Any, run_on: Any) -> None:
    with espresso(lab):
        script = f"rm -rf {FOLDER} && cp -r /nfs/apps/examples {FOLDER} && cd {FOLDER} && "
        done = run_on("login", ["bash", "-lc", script + "sbatch --wait silicon.sh"], user="ada",
                      timeout=1800)  # fmt: skip
        text = run_on("login", ["sh", "-c", f"cat {FOLDER}/silicon-*.out"]).stdout
        assert done.returncode == 0, done.stderr + text[-2000:]
        assert "convergence has been achieved" in text
        assert re.search(r"Parallel version \(MPI\), running on +2 processors", text), text[:2000]
        energy = re.search(r"^! +total energy += +(-[\d.]+) Ry", text, re.MULTILINE)
        assert energy and abs(float(energy[1]) - ENERGY) < 1e-4, energy
