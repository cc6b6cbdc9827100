"""Accounting made by hand, for tests of what judges it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cluster.slurm_text import JobState
from coursework.accounting import Accounting, Job, Resources, Step, Window
from coursework.clustertests import Work

MB = 1024 * 1024
WINDOW = Window(1000, 9000)


def step(number: str = "batch", **changes: Any) -> Step:
    usual = Step(
        step=number, name=number, state=JobState.COMPLETED, exit_code=0, signal=0, started=2000,
        ended=2030, elapsed=30, tasks=1, cpus=1, nodes=("node01",), cpu_time=25, least_cpu=25,
        max_rss=100 * MB,
    )  # fmt: skip
    return replace(usual, **changes)


def job(job_id: int = 10, **changes: Any) -> Job:
    usual = Job(
        job_id=job_id, name="work", user="ada", account="hpc", partition="batch",
        state=JobState.COMPLETED, exit_code=0, signal=0, submitted=1990, eligible=1990,
        started=2000, ended=2030, elapsed=30, time_limit=120,
        requested=Resources(1, 1, 200 * MB), allocated=Resources(1, 1, 200 * MB),
        nodes=("node01",), cpu_time=25, steps=(step(),),
        script="#!/bin/bash\n#SBATCH --job-name=work\nsrun ./work\n",
        submit_line="sbatch work.sh",
    )  # fmt: skip
    return replace(usual, **changes)


def array(count: int, *, first: int = 20, together: int = 2, **changes: Any) -> tuple[Job, ...]:
    """Tasks of 30 s, ``together`` at once."""
    return tuple(
        job(
            first + n,
            array_id=first,
            array_task=n + 1,
            started=2000 + 30 * (n // together),
            ended=2030 + 30 * (n // together),
            **changes,
        )
        for n in range(count)
    )


def work(*jobs: Job, **changes: Any) -> Work:
    accounting = Accounting("ada", "hpc", WINDOW, 9100, jobs)
    return replace(Work("ada", "first-job", accounting), **changes)
