"""Slurm jobs of grading: arrays for each slot, one after the other, one task of them at a time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import IO

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


def submit(wanted: Wanted, lock: IO[str]) -> int:
    """The array's job id. PracticumError with sbatch's own words.

    sbatch writes it into the file by whose lock this run is alone, and so keeps the lock until it
    is over, should this process be killed: a next run that looked before the job was there would
    have it end its own. (sudo lets no file through but the standard ones.)
    """
    lock.seek(0)
    lock.truncate()
    code, said = _as_box(wanted.argv(), wanted.script(), lock)
    if code is None:
        raise PracticumError(f"sbatch did not answer within {LIMIT} s: is slurmctld up?")
    lock.seek(0)
    number = lock.read().strip().partition(";")[0]
    if code or not number.isdecimal():
        raise PracticumError(
            f"the grading job of {wanted.box} was refused: {said or f'exit {code}'}"
        )
    return int(number)


def cancel(box: str, job_id: int) -> None:
    """End an array; one that is over already is no error. Where Slurm does not answer the array has
    its time limit, and nobody reads what it writes."""
    _as_box(["sudo", "-n", "-u", box, "/usr/bin/scancel", str(job_id)])


def _as_box(
    argv: list[str], text: str = "", output: IO[str] | int = subprocess.DEVNULL
) -> tuple[int | None, str]:
    """How a command of another account ended (None: not within the limit), and its last line of
    errors. What is not done in time is left alone, for a grader may not end it."""
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.PIPE, text=True
    )
    try:
        said = process.communicate(text, timeout=LIMIT)[1].strip().splitlines()
    except subprocess.TimeoutExpired:
        return None, ""
    return process.returncode, said[-1] if said else ""


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
