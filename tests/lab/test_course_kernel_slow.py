"""A kernel of one course: its members see it, its graders too, others do not. A kernel is built, so
this is no part of `make test`. On a lab that is up:

    PRACTICUM_LAB=lab .venv/bin/pytest -m slow tests/lab/test_course_kernel_slow.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from courses import apply, courses
from student import alive

from cluster.edit_courses import changed
from cluster.load import load
from kernels.role import ROOM
from practicum.cli import run as practicum

pytestmark = pytest.mark.slow

KERNELSPEC = "/nfs/envs/server/current/bin/jupyter-kernelspec"
LIMIT = 600


def usual(who: Any, server: str) -> str:
    """The kernel of new notebooks there."""
    return str(who.web.get(f"{server}/api/kernelspecs", timeout=60).json()["default"])


def test_members_see_the_courses_kernel(lab: Any, run_on: Any, student: Any) -> None:
    path: Path = lab.cluster_toml

    def sees(user: str, node: str = "node01") -> bool:
        argv = ["runuser", "-u", user, "--", "env", "JUPYTER_PATH=/nfs/envs/jupyter",
                f"HOME=/tmp/kernels-of-{user}", KERNELSPEC, "list", "--json"]  # fmt: skip
        found = json.loads(run_on(node, argv).stdout)["kernelspecs"]
        assert "python3" in found, user
        return "own" in found

    try:
        with courses(
            lab, run_on, ("hpc101", ["ines"], ["ada", "cleo"]), ("phys", ["ines"], ["ben"])
        ) as made:
            words = ["kernel", "add", "own", "six", "--group", "course-hpc101"]
            assert not practicum([*words, "--file", str(path)])
            assert {who: sees(who) for who in ("ada", "ines", "ben")} == {
                "ada": True, "ines": True, "ben": False,
            }  # fmt: skip
            path.write_text(changed(path.read_text(), "hpc101", {"kernel": "own"}))
            apply(path)  # graders become members of a group that a kernel is for
            ines, ada = student("ines"), student("ada")
            formgrader = f"{lab.hub_url}/services/formgrader-hpc101"
            ines.web.get(f"{formgrader}/class", timeout=60)
            assert usual(ines, formgrader) == "own"
            last, _ = ada.outcome(profile="small")
            assert last.get("ready") and alive(ada), last
            assert usual(ada, f"{ada.hub}/user/ada") == "own"
            ada.stop()
            for who, whether in (("hpc101", True), ("phys", False)):
                assert sees(f"grader-{who}", "login") is whether
                assert sees(f"gradebox-{who}-01") is whether
            for who, code in (("ada", 0), ("ben", 2)):
                assert made[0].shell(who, "ls /nfs/envs/own", expect=None).returncode == code
            # a student who leaves the course loses its kernel
            drop = ["course", "remove-student", "hpc101", "ada", "--yes", "--file", str(path)]
            assert not practicum(drop)
            assert not sees("ada")
    finally:
        declared = [one.name for one in load(path).kernels]
        sweep = ["python3", "-I", ROOM, "sweep", "/nfs/envs", *declared]
        done = run_on("login", sweep, timeout=LIMIT)
        assert done.returncode == 0, done.stderr
