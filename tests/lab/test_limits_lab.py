"""Partitions, QOS and accounts of cluster.toml, as students meet them on a real Slurm."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from edited import apply, edited, plan_is_empty, replaced
from student import no_jobs_left, text
from waiting import until

pytestmark = pytest.mark.lab

# docs/admin.md's tables, and a partition for some.
TABLES = """
[[qos]]
name = "student"
max_time = "08:00:00"
max_cpus_per_user = 8

[[accounts]]
name = "hpc101"
groups = ["students"]
coordinators = ["ines"]
shares = 5
max_cpu_minutes = 60000

[[partitions]]
name = "teaching"
nodes = "node[01-02]"
max_time = "02:00:00"
max_nodes = 1
groups = ["instructors"]

[[partitions]]
name = "short"
nodes = "ALL"
max_time = "00:30:00"
default_time = "00:10:00"
max_nodes = 2
"""
HEAD = 'roles = ["login", "controller", "database", "storage"]'
COMPUTES = 'roles = ["login", "controller", "database", "storage", "compute"]'
SHAPE = "\ncpus = 4\nmemory_mb = 4000"  # as the lab declares its other nodes


@pytest.fixture(scope="module")
def limited(lab: Any, run_on: Any) -> Iterator[Path]:
    """The lab with these tables, and with a head node that computes. In the end they are removed,
    and Slurm must have none of it any more."""
    with edited(lab) as path:
        head = replaced(path.read_text(), HEAD, COMPUTES + SHAPE)
        path.write_text(head + TABLES)
        apply(path)
        yield path
        run_on("login", ["scancel", "-u", "ada"])
    assert names(run_on, "qos", "name") == {"normal"}
    assert "hpc101" not in names(run_on, "account", "account")
    assert "hpc101" not in names(run_on, "assoc", "account")
    shown = text(run_on("login", ["sinfo", "-h", "-a", "-o", "%R %N"]))
    assert {row.split()[0] for row in shown.splitlines()} == {"notebook", "batch"}
    assert "login" not in shown


def names(run_on: Any, what: str, column: str) -> set[str]:
    return set(text(run_on("login", ["sacctmgr", "-nP", "show", what, f"format={column}"])).split())


def sbatch(run_on: Any, *options: str, user: str = "ada") -> subprocess.CompletedProcess[str]:
    words = ["sbatch", "--parsable", "-D", "/tmp", "-o", "/dev/null", "--mem-per-cpu=20"]
    done: subprocess.CompletedProcess[str] = run_on(
        "login", [*words, *options, "--wrap=sleep 600"], user=user
    )
    return done


def test_a_second_plan_is_empty(limited: Path) -> None:
    plan_is_empty(limited)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--time=08:01:00"], "QOSMaxWallDurationPerJobLimit"),
        (["-n9"], "QOSMaxCpuPerUserLimit"),
        (["-p", "short", "--time=00:31:00"], "Requested time limit is invalid"),
        (["-p", "short", "-N3"], "Node count specification invalid"),
        (["-p", "teaching"], "User's group not permitted to use this partition"),
        (["-A", "nonesuch"], "Invalid account or account/partition combination"),
    ],
)
def test_what_is_over_a_limit_is_refused_with_slurms_sentence(
    limited: Path, run_on: Any, options: list[str], sentence: str
) -> None:
    done = sbatch(run_on, *options)
    assert done.returncode != 0
    assert sentence in done.stderr
    assert text(run_on("login", ["squeue", "-h", "-u", "ada", "-o", "%i"])) == ""


@pytest.mark.parametrize(
    ("user", "options", "row"),
    [
        ("ada", ["--time=08:00:00", "-n8"], "batch class student 8:00:00 8"),
        ("ada", ["-p", "short", "-N2"], "short class student 10:00 2"),
        ("ada", ["-A", "hpc101"], "batch hpc101 student 1:00:00 1"),
        ("ines", ["-p", "teaching", "--time=02:00:00"], "teaching class student 2:00:00 1"),
    ],
)
def test_what_keeps_to_the_limits_is_taken(
    limited: Path, run_on: Any, user: str, options: list[str], row: str
) -> None:
    done = sbatch(run_on, *options, "--hold", user=user)
    assert done.returncode == 0, done.stderr
    try:
        asked = ["squeue", "-h", "-j", done.stdout.strip(), "-o", "%P %a %q %l %C"]
        assert text(run_on("login", asked)).strip() == row
    finally:
        run_on("login", ["scancel", done.stdout.strip()])


def test_cores_of_one_person_are_counted_over_their_jobs(limited: Path, run_on: Any) -> None:
    jobs = [text(sbatch(run_on, "-n5")).strip() for _ in range(2)]
    try:
        asked = ["squeue", "-h", "-j", ",".join(jobs), "-o", "%T %r"]
        rows = ["PENDING QOSMaxCpuPerUserLimit", "RUNNING None"]
        until(lambda: sorted(text(run_on("login", asked)).splitlines()) == rows, 60)
    finally:
        run_on("login", ["scancel", *jobs])
        no_jobs_left(run_on, "ada")


def test_an_account_has_its_shares_minutes_and_coordinator(limited: Path, run_on: Any) -> None:
    asked = ["sacctmgr", "-nP", "show", "assoc", "account=hpc101"]
    of_all = "format=user,fairshare,grptresmins"
    rows = text(run_on("login", [*asked, of_all])).split()
    assert "|5|cpu=60000" in rows
    people = {row.split("|")[0] for row in rows} - {""}
    assert people == {"ada", "ben", "cleo", "ines"}
    theirs, others = (
        text(sbatch(run_on, "-A", account, user="ben")).strip() for account in ("hpc101", "class")
    )
    try:
        seen = text(run_on("login", ["squeue", "-h", "-o", "%i"], user="ines")).split()
        assert theirs in seen
        assert others not in seen
        denied = run_on("login", ["scancel", others], user="ines")
        assert "denied" in (denied.stdout + denied.stderr).lower()
        assert run_on("login", ["scancel", theirs], user="ines").returncode == 0
        state = ["squeue", "-h", "-j", theirs, "-t", "all", "-o", "%T"]
        until(lambda: run_on("login", state).stdout.strip() in ("CANCELLED", ""), 60)
    finally:
        run_on("login", ["scancel", theirs, others])
        no_jobs_left(run_on, "ben")


def test_the_head_node_takes_jobs_last(limited: Path, run_on: Any) -> None:
    """Three whole nodes are asked for one after the other, then a fourth. (A node whose epilog
    runs is not offered, so tests of this file wait until their jobs are gone.)"""
    shown = text(run_on("login", ["scontrol", "-o", "show", "node"]))
    weights = {
        row.split("NodeName=")[1].split()[0]: row.split("Weight=")[1].split()[0]
        for row in shown.splitlines()
    }
    assert weights == {"login": "100", "node01": "1", "node02": "1", "node03": "1"}
    asked = ["squeue", "-h", "-o", "%T %N", "-j"]
    jobs: list[str] = []
    where: list[str] = []
    try:
        for user in ("ada", "ada", "ben", "ben"):  # eight cores each
            jobs.append(text(sbatch(run_on, "-N1", "-n4", user=user)).strip())
            row = until(
                lambda: [
                    row.split()[1]
                    for row in text(run_on("login", [*asked, jobs[-1]])).splitlines()
                    if row.startswith("RUNNING")
                ]
            )
            where += row
    finally:
        run_on("login", ["scancel", *jobs])
        for user in ("ada", "ben"):
            no_jobs_left(run_on, user)
    assert sorted(where[:3]) == ["node01", "node02", "node03"]
    assert where[3] == "login"


def test_the_script_of_a_job_is_kept(limited: Path, run_on: Any) -> None:
    script = "#!/bin/sh\n# a word of its own: quokka\necho done\n"
    words = ["sbatch", "--wait", "--parsable", "-D", "/tmp", "-o", "/dev/null", "--mem=20"]
    job = text(run_on("login", words, user="ada", input=script)).strip()
    kept = ["sacct", "-B", "-j", job]
    until(lambda: script in text(run_on("login", kept, user="ada")), 60)
    assert "quokka" not in run_on("login", kept, user="ben").stdout
