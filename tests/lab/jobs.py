"""What a cluster knows of one job, for the message of a test that fails."""

from __future__ import annotations

from typing import Any


def story(lab: Any, run_on: Any, number: str) -> str:
    """Accounting's rows of job ``number``, and the lines of slurmctld and slurmd that name it."""
    columns = "jobid,state,exitcode,derivedexitcode,start,end,nodelist"
    told = [run_on("login", ["sacct", "-P", "-j", number, "-o", columns]).stdout]
    for node in lab.nodes:
        named = rf"JobId={number}\b|StepId={number}\.|\[{number}\.|job {number}\b"
        lines = ["journalctl", "--no-pager", "--quiet", "--output=short-precise", "--grep", named]
        told.append(run_on(node.name, [*lines, "-u", "slurmctld", "-u", "slurmd"]).stdout)
    return "\n".join(told)
