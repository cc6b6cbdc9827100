"""The practicum command against a lab, as an admin would use it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import until

from cluster import sacct, slurm
from cluster.slurm_text import JobState

pytestmark = pytest.mark.lab


def practicum(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "practicum", *arguments],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False, cwd=cwd,
    )  # fmt: skip


def ask(run_on, query):
    """A query of ours, on the login node instead of here."""
    words = [f"{key}={value}" for key, value in query.env.items()]
    done = run_on("login", ["env", *words, *query.argv])
    assert done.returncode == 0, done.stderr
    return query.read(done.stdout)


def test_a_second_plan_has_nothing_to_do(lab) -> None:
    done = practicum("plan", "--file", str(lab.cluster_toml))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"No changes: {len(lab.nodes)} nodes as declared." in done.stdout


def test_a_change_is_planned_and_shown_and_nothing_happens(lab, tmp_path: Path) -> None:
    folder = tmp_path / "cluster"
    shutil.copytree(lab.cluster_toml.parent, folder)
    text = (folder / "cluster.toml").read_text()
    assert 'name = "batch"' in text
    (folder / "cluster.toml").write_text(text.replace('name = "batch"', 'name = "jobs"'))
    planned = practicum("plan", "--json", cwd=folder)
    assert planned.returncode == 3, planned.stdout + planned.stderr
    told = json.loads(planned.stdout)
    assert told["pending"] > 0
    diffs = [change["diff"] for node in told["nodes"] for change in node["changes"]]
    assert any("PartitionName=jobs" in diff for diff in diffs)
    dry = practicum("apply", "--dry-run", "--limit", "login", cwd=folder)
    assert dry.returncode == 3
    assert "on 1 node." in dry.stdout
    assert practicum("plan", "--file", str(lab.cluster_toml)).returncode == 0


def test_the_lab_tells_what_it_is(lab) -> None:
    told = json.loads(practicum("lab", "info", "--name", lab.name, "--json").stdout)
    assert [node["name"] for node in told["nodes"]] == [node.name for node in lab.nodes]
    assert {account["role"] for account in told["accounts"]} == {"student", "instructor", "admin"}
    done = practicum("lab", "exec", "--name", lab.name, "--user", "ada", "node01", "--",
                     "sh", "-c", "id -un; exit 7")  # fmt: skip
    assert (done.stdout, done.returncode) == ("ada\n", 7)
    missing = practicum("lab", "exec", "--name", lab.name, "node99", "--", "true")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert lab.name in practicum("lab", "list").stdout.split()


def test_a_hostile_job_name_is_only_a_name(run_on) -> None:
    """A name with a newline and separators stays one field, in squeue and in sacct."""
    name = "x\n1\x1fRUNNING %i"
    done = run_on(
        "login",
        ["sbatch", "--parsable", "--hold", f"--job-name={name}", "--comment=a\nb", "--chdir=/tmp",
         "--wrap=true"],
        user="ada",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    job_id = int(done.stdout)
    try:
        (job,) = [job for job in ask(run_on, slurm.squeue_query()) if job.job_id == job_id]
        assert (job.name, job.comment, job.user) == (name, "a\nb", "ada")
        assert (job.state, job.reason, job.nodes) == (JobState.PENDING, "JobHeldUser", ())
        assert job.submitted is not None
        # A job that was held is heard of when it may run; and a short one's end may come to
        # slurmdbd before its beginning, until when its name is "allocation".
        assert run_on("login", ["scontrol", "release", str(job_id)], user="ada").returncode == 0
        (record,) = until(
            lambda: ask(run_on, sacct.sacct_query(job_ids=[job_id])),
            60,
            wanted=lambda found: [
                one for one in found if one.state is JobState.COMPLETED and one.name != "allocation"
            ],
        )
    finally:
        run_on("login", ["scancel", str(job_id)])
    assert record.name == name
