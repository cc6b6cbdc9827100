"""Submissions that fill the memory with many processes, where the kernel limits a job's memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vmkit.described import DATA_DISK, served
from vmkit.use import Vms

pytestmark = pytest.mark.vm

COURSE = """
[[courses]]
name = "mem"
uid = 50000
instructors = ["ines"]
students = ["ada", "ben"]
"""
ROOT = "/nfs/courses/mem"
BIN = "/nfs/envs/coursework/current/bin"
SCRIPT = Path(__file__).parents[1] / "lab/submissions.py"
SECONDS = 1800  # an emulated processor's patience
# 40 processes of 256 MB each would be 10 GB; a job has 128 MB more than one process may have.
LIMITS = {"cell_seconds": 120, "notebook_seconds": 500, "memory_mb": 256, "processes": 64}
GOOD = "def f(x):\n    return x + 1"
# Each process makes further ones and fills its memory, and none of them ends by itself.
BOMB = """import os
held = []
while True:
    try:
        os.fork()
        held.append(b"x" * (8 << 20))
    except (OSError, MemoryError):
        pass
"""
# The kernel itself is small and waits for its children, which do the same.
NEST = """import os, time
for _ in range(40):
    if os.fork() == 0:
        held = []
        while True:
            try:
                held.append(b"x" * (8 << 20))
            except MemoryError:
                time.sleep(1)
while True:
    time.sleep(1)
"""
# Two slots by turns: a and c in the first, b and d in the second, so that behind each bomb in its
# slot there is somebody else's.
SUBMISSIONS = {
    "a-bomb": {"answer": GOOD, "first": BOMB},
    "b-nest": {"answer": GOOD, "first": NEST},
    "c-right": {"answer": GOOD},
    "d-wrong": {"answer": "def f(x):\n    return 0"},
}
KILLED = re.compile(r"Memory cgroup out of memory: Killed process \d+ .*UID:(\d+)")


def with_course(text: str) -> str:
    return served(text) + COURSE


def as_grader(vms: Vms, *argv: str, input: str = "") -> str:
    environment = ["env", "-C", ROOT, "JUPYTER_CONFIG_DIR=/etc/practicum/courses/mem",
                   f"PATH={BIN}:/usr/bin:/bin", f"HOME={ROOT}"]  # fmt: skip
    command = ["runuser", "-u", "grader-mem", "--", *environment, *argv]
    return vms.check_on("head", command, input=input, timeout=SECONDS)


@pytest.fixture(scope="module")
def course(cluster_vms: Vms) -> Iterator[Vms]:
    """The pair with a course; its submissions are in."""
    vms = cluster_vms
    with vms.whole(with_course, format_=DATA_DISK):
        as_grader(vms, "tee", f"{ROOT}/grading.json", input=json.dumps(LIMITS))
        vms.check_on("head", ["tee", "/tmp/submissions.py"], input=SCRIPT.read_text())
        wanted = {"assignment": "memory", "submissions": SUBMISSIONS}
        as_grader(vms, f"{BIN}/python", "/tmp/submissions.py", ROOT, input=json.dumps(wanted))
        yield vms


def alive(vms: Vms) -> str:
    """What must be the same afterwards: this boot, and the daemon that runs the jobs."""
    show = ["systemctl", "show", "--property=MainPID,NRestarts,ActiveState", "slurmd"]
    return vms.boot_id("node01") + vms.check_on("node01", show)


def test_who_fills_the_memory_fails_alone(course: Vms) -> None:
    vms = course
    vms.until_idle()
    before = alive(vms)
    assert "ActiveState=active" in before
    neighbour = vms.check_on(
        "head",
        ["sbatch", "--parsable", "--mem=50", "-D", "/tmp", "-o", "/dev/null", "--time=01:00:00",
         "--wrap=sleep 3000"],
        user="ben",
    ).strip()  # fmt: skip
    vms.check_on("node01", ["dmesg", "--clear"])
    done = vms.run_on(
        "head", ["practicum", "course", "grade", "mem", "memory", "--json"], user="ines",
        timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    graded: dict[str, dict[str, Any]] = {
        one["student"]: one for one in json.loads(done.stdout)["graded"]
    }
    told = {name: (one["status"], one["score"], one["reason"]) for name, one in graded.items()}
    print(told)
    reason = "it used more memory than submissions get"
    for bomb in ("a-bomb", "b-nest"):
        assert told[bomb][0] == "failed", told
        assert reason in told[bomb][2], told
    assert told["c-right"] == ("graded", 3.5, ""), told
    assert told["d-wrong"] == ("graded", 0, ""), told

    # Limits ended them, by the cgroup's and not by the machine's memory, and nobody else
    log = vms.check_on("node01", ["dmesg"])
    killed = KILLED.findall(log)
    print(f"{len(killed)} processes were ended for want of memory")
    assert killed, log
    assert set(killed) <= {"50001", "50002"}, log
    assert "Out of memory: Killed" not in log
    assert alive(vms) == before
    assert "R" in vms.check_on("head", ["squeue", "-h", "-j", neighbour, "-o", "%t"])
    vms.check_on("head", ["scancel", neighbour])
    vms.until_idle()
    left = ["pgrep", "-u", "gradebox-mem-01,gradebox-mem-02"]
    vms.until("node01", left, lambda text: not text.strip())
