"""Which processes are jobs' when a node goes down; it goes down for real in test_hub_survival_lab.py."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import subprocess
from pathlib import Path

from provisioning import roles

PATH = Path(roles.__file__).parent / "files/slurmd-stopped"
loader = importlib.machinery.SourceFileLoader("slurmd_stopped", str(PATH))
spec = importlib.util.spec_from_loader("slurmd_stopped", loader)
assert spec is not None
stopped = importlib.util.module_from_spec(spec)
loader.exec_module(stopped)


def test_what_steps_started_is_theirs() -> None:
    table = {
        1: ("systemd", 0),
        10: ("slurmd", 1),
        20: ("slurmstepd", 1),
        21: ("bash", 20),
        22: ("python (my )", 21),
        30: ("sshd", 1),
        31: ("bash", 30),
        40: ("slurmstepd", 1),
    }
    assert stopped.of_jobs(table) == ({20, 40}, {21, 22})
    assert stopped.of_jobs({1: ("systemd", 0)}) == (set(), set())


def test_processes_are_read_as_they_are() -> None:
    """A name may have blanks and brackets."""
    argv = ["python3", "-c", "open('/proc/self/comm','w').write('a) S (b'); print(); input()"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        one.stdout.readline()
        assert stopped.processes()[one.pid] == ("a) S (b", os.getpid())
        one.communicate(b"\n", timeout=10)
