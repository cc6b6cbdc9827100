"""The health check with a Slurm of ours: a node that is not well for long. The real one is tried by
test_slurm_whole_lab.py."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from provisioning.roles.own_files import own_file


@pytest.fixture
def health(tmp_path: Path) -> Path:
    """The script, beside commands that write down how they were called; its folder /late is away
    for as many looks as there are lines in ``away``."""
    stubs = {
        "sinfo": f'cat "{tmp_path}/state"',
        "scontrol": f'echo "$@" >> "{tmp_path}/told"',
        "systemd-run": f'echo "$@" >> "{tmp_path}/again"',
        "sleep": f'echo . >> "{tmp_path}/slept"; sed -i 1d "{tmp_path}/away"; '
                 f'[ -s "{tmp_path}/away" ] || mkdir -p "{tmp_path}/late"',
    }  # fmt: skip
    for name, text in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    script = own_file("slurm-health")
    for old, new in (
        ("PATH=/usr/sbin", f"PATH={tmp_path}:/usr/sbin"),
        ("/etc/practicum/slurm-health.conf", f"{tmp_path}/conf"),
        ("/run/practicum-jobs", f"{tmp_path}/jobs"),
        ("/var/lib/slurm/slurmd", str(tmp_path)),
    ):
        assert old in script
        script = script.replace(old, new)
    (tmp_path / "conf").write_text(f'FOLDERS="{tmp_path}/late"\nNFS=""\nMEMORY_LIMITS=""\n')
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "slurm-health"
    path.write_text(script)
    path.chmod(0o755)
    return path


def run(script: Path, *words: str) -> None:
    done = subprocess.run(
        [str(script), *words], env={**os.environ, "SLURMD_NODENAME": "node01"}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_a_node_that_is_not_well_is_drained_and_looked_at_again(
    health: Path, tmp_path: Path
) -> None:
    (tmp_path / "state").write_text("idle|none\n")
    run(health)
    late = f"health: {tmp_path}/late does not answer"
    assert (tmp_path / "told").read_text() == (
        f"update nodename=node01 state=drain reason={late}\n"
    )
    assert (tmp_path / "again").read_text().endswith(f"{health} again\n")


@pytest.mark.parametrize("away", [1, 12, 30])
def test_it_is_looked_at_for_as_long_as_it_is_not_well(
    health: Path, tmp_path: Path, away: int
) -> None:
    """Also longer than Slurm takes to look: a file server may check its disk for an hour."""
    (tmp_path / "state").write_text(f"drained|health: {tmp_path}/late does not answer\n")
    (tmp_path / "away").write_text(".\n" * away)
    run(health, "again")
    assert (tmp_path / "slept").read_text().count(".") == away
    assert (tmp_path / "told").read_text() == "update nodename=node01 state=undrain\n"
