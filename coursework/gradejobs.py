"""Slurm jobs of grading: arrays for each slot, one after the other, one task of them at a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import PracticumError
from cluster.slurm import ENVIRONMENT, SlurmError, run
from cluster.slurm_text import JobState
from coursework.accounting import Window, jobs_query

LIMIT = 60  # seconds for one command
ENDING = 180.0  # seconds that cancelled jobs may take to end, KillWait and epilog with them
LOOK = 1.0
NAME = "grading"


@dataclass(frozen=True)
class Wanted:
    """An array to submit as a slot's account."""

    box: str
    account: str
    partition: str
    tasks: int
    minutes: int
    memory_mb: int
    python: Path
    program: str
    chunks: Path  # of which {array task} is a chunk's folder: CHUNKS-0, CHUNKS-1, ...
    after: int = 0  # an array of the same slot that must be over first

    def argv(self) -> list[str]:
        return [
            "sudo", "-n", "-u", self.box, "/usr/bin/sbatch", "--parsable",
            f"--job-name={NAME}", f"--account={self.account}",
            *([f"--partition={self.partition}"] if self.partition else []),
            f"--array=0-{self.tasks - 1}%1", f"--time={self.minutes}", f"--mem={self.memory_mb}",
            *([f"--dependency=afterany:{self.after}"] if self.after else []),
            "--ntasks=1", "--cpus-per-task=1", "--chdir=/", "--export=ALL", "--no-requeue",
            f"--output={self.chunks}-%a/out/log.txt", "--open-mode=append",
        ]  # fmt: skip

    def script(self) -> str:
        """Paths come from cluster.toml and this program, without characters of the shell."""
        return (
            f"#!/bin/sh\nexec {self.python} -I {self.program} {self.chunks}-$SLURM_ARRAY_TASK_ID\n"
        )


def submit(wanted: Wanted) -> int:
    """The array's job id. PracticumError with sbatch's own words."""
    try:
        done = subprocess.run(
            wanted.argv(), input=wanted.script(), text=True, capture_output=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise PracticumError(f"sbatch did not answer within {LIMIT} s: is slurmctld up?") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise PracticumError(
            f"the grading job of {wanted.box} was refused: "
            f"{said[-1] if said else f'exit {done.returncode}'}"
        )
    return int(done.stdout.strip().partition(";")[0])


def cancel(box: str, job_id: int) -> None:
    """End an array; one that is over already is no error. Where Slurm does not answer the array has
    its time limit, and nobody reads what it writes."""
    argv = ["sudo", "-n", "-u", box, "/usr/bin/scancel", str(job_id)]
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(argv, capture_output=True, timeout=LIMIT, check=False)


def left(account: str, boxes: Collection[str]) -> dict[int, str] | None:
    """{array: account} of all that these grading accounts have and that is not over; None: Slurm
    did not tell."""
    argv = (
        "squeue", "--noheader", "--format=%F %u", f"--account={account}",
        "--states=PENDING,CONFIGURING,RUNNING,COMPLETING,SUSPENDED,STOPPED,REQUEUED",
    )  # fmt: skip
    try:
        done = subprocess.run(
            argv, env=dict(ENVIRONMENT), text=True, capture_output=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    rows = (line.split() for line in done.stdout.splitlines())
    return {int(row[0]): row[1] for row in rows if len(row) == 2 and row[1] in boxes}


def end_all(account: str, boxes: Collection[str]) -> None:
    """Cancel whatever these accounts have, and wait until it is over. PracticumError when it does
    not end in time."""
    limit = time.monotonic() + ENDING
    cancelled: set[int] = set()
    while (there := left(account, boxes)) != {}:
        for job, box in (there or {}).items():
            if job not in cancelled:
                cancel(box, job)
                cancelled.add(job)
        if time.monotonic() > limit:
            what = "Slurm does not tell whether jobs of an earlier grading are left"
            if there:
                what = f"jobs of an earlier grading do not end ({', '.join(map(str, there))})"
            raise PracticumError(f"{what}: look at squeue, then grade again")
        time.sleep(LOOK)


def waiting(account: str, boxes: Collection[str], job_ids: Collection[int]) -> set[int] | None:
    """Which of these arrays have tasks that are not over; None: Slurm did not tell."""
    found = left(account, boxes)
    return None if found is None else set(found) & set(job_ids)


def states(box: str, account: str, since: int, job_id: int) -> dict[int, JobState]:
    """How each task of an array ended, by its number; without those Slurm does not tell."""
    try:
        jobs = run(jobs_query(box, account, Window(since, since)))
    except SlurmError:
        return {}
    return {
        job.array_task: job.state
        for job in jobs
        if job.array_id == job_id and job.array_task is not None
    }
