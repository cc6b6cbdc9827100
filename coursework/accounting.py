"""A student's jobs as Slurm's accounting recorded them, for tests that give marks.

Everything here is a value or a pure function; :mod:`coursework.snapshot` asks the cluster.
Fields are those of sacct(1), 22.05 to 24.11. What a student types (name, script, submit line,
working directory) is text of theirs and proves nothing; what Slurm counted (states, times,
processors, tasks, nodes, array ids) does.

Times are seconds since 1970, durations seconds, memory bytes; None is not known or not measured.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby

from cluster.slurm import ENVIRONMENT, Query
from cluster.slurm_text import (
    JobState,
    duration,
    exit_code,
    host_names,
    job_state,
    moment,
    new_separator,
    records,
    size_bytes,
    whole,
)
from coursework.sbatch_options import line_options, script_options

SESSIONS = "practicum-hub"  # the name of notebook servers' jobs, which are no work handed in
# Slurm reads uts<seconds> from here on only (parse_time.c)
FIRST_TIME = 1_000_000
# slurm.conf's JobAcctGatherFrequency as practicum sets it (provisioning.roles.slurm_conf)
SAMPLED_EVERY = 5


@dataclass(frozen=True)
class Resources:
    """What a job asked for or was given, from ReqTRES and AllocTRES."""

    cpus: int = 0
    nodes: int = 0
    memory: int | None = None  # of the whole job


@dataclass(frozen=True)
class Step:
    """A part of a job: ``batch`` (the script itself), ``extern``, or "0", "1"... for each srun."""

    step: str
    name: str
    state: JobState
    exit_code: int
    signal: int
    started: int | None
    ended: int | None
    elapsed: int
    tasks: int
    cpus: int
    nodes: tuple[str, ...]
    cpu_time: int  # user + system, of all its tasks
    least_cpu: int | None  # of the task that used least (MinCPU)
    max_rss: int | None  # of the largest task; sampled, see memory()

    @property
    def is_srun(self) -> bool:
        return self.step.isdecimal()


@dataclass(frozen=True)
class Job:
    """One job, or one task of an array, as it was when the accounting was read."""

    job_id: int
    name: str
    user: str
    account: str
    partition: str
    state: JobState
    exit_code: int
    signal: int
    submitted: int | None
    eligible: int | None  # when it could have started: after what it depended on
    started: int | None
    ended: int | None
    elapsed: int
    time_limit: int | None
    requested: Resources
    allocated: Resources
    nodes: tuple[str, ...]
    cpu_time: int
    array_id: int | None = None
    array_task: int | None = None
    restarts: int = 0  # times it was requeued
    submit_line: str = ""
    work_dir: str = ""
    script: str = ""  # as it was when it was submitted, kept by Slurm
    steps: tuple[Step, ...] = ()

    @property
    def label(self) -> str:
        """As Slurm prints it: 123, or 123_4 for task 4 of an array."""
        if self.array_id is None:
            return str(self.job_id)
        return f"{self.array_id}_{'?' if self.array_task is None else self.array_task}"

    @property
    def sruns(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if step.is_srun)

    @property
    def options(self) -> dict[str, str]:
        """sbatch's long options, of the script's #SBATCH lines and the submit line (which wins)."""
        return {**script_options(self.script), **line_options(self.submit_line)}

    @property
    def depends_on(self) -> tuple[int, ...]:
        """Ids of jobs named in --dependency: what the student wrote, not yet that it held."""
        return tuple(int(one) for one in re.findall(r":(\d+)", self.options.get("dependency", "")))

    @property
    def busy(self) -> float | None:
        """Share of the given processors' time that was used, 0 to 1; None if it never ran."""
        given = self.elapsed * self.allocated.cpus
        return self.cpu_time / given if given else None


@dataclass(frozen=True)
class Window:
    """From when and until when jobs of an assignment count, for one student."""

    opens: int
    closes: int

    def holds(self, job: Job) -> bool:
        """Submitted after the release, and over by this student's own deadline."""
        if job.submitted is None or not self.opens <= job.submitted <= self.closes:
            return False
        return job.ended is not None and job.ended <= self.closes


@dataclass(frozen=True)
class Accounting:
    """A student's jobs, when and for what they were read: what a snapshot keeps."""

    user: str
    account: str
    window: Window
    read_at: int
    jobs: tuple[Job, ...]
    sampled_every: int = SAMPLED_EVERY

    @property
    def counted(self) -> tuple[Job, ...]:
        """The jobs that may earn marks: theirs, in the course's account, within the window."""
        return tuple(
            job
            for job in self.jobs
            if job.user == self.user and job.account == self.account and self.window.holds(job)
            if job.name != SESSIONS
        )


@dataclass(frozen=True)
class Memory:
    """How much memory was seen in use; ``peak`` is None when it was not measured."""

    peak: int | None
    samples: int  # at least; of the part that used most, else of the longest part


def memory(job: Job, sampled_every: int = SAMPLED_EVERY) -> Memory:
    """The highest MaxRSS among a job's parts that lived for two samples or more.

    MaxRSS is sampled every ``sampled_every`` seconds, so a spike between two samples is never
    seen, and a part that ended before the second sample has no figure that means anything.
    """
    parts = [
        (step.elapsed // sampled_every, step.max_rss) for step in job.steps if step.step != "extern"
    ]
    measured = [(rss, samples) for samples, rss in parts if samples >= 2 and rss is not None]
    if measured:
        peak, samples = max(measured)
        return Memory(peak, samples)
    return Memory(None, max((samples for samples, _ in parts), default=0))


def at_once(jobs: Iterable[Job]) -> int:
    """The most of these jobs that ran at the same moment."""
    changes = sorted(
        change
        for job in jobs
        if job.started is not None and job.ended is not None
        for change in ((job.started, 1), (job.ended, -1))
    )
    most = now = 0
    for _, change in changes:  # at one moment, ends come before starts
        now += change
        most = max(most, now)
    return most


def waited_for(job: Job, first: Job) -> bool:
    """Whether ``job`` was queued while ``first`` was not over, and Slurm held it until then.

    Eligible is set by the controller when a dependency is met, so starting by hand afterwards,
    or submitting the second job late, does not look like this.
    """
    times = (job.submitted, first.ended, job.eligible, job.started)
    known = [time for time in times if time is not None]
    return len(known) == len(times) and known == sorted(known)


_FORMAT = [
    "JobID", "JobIDRaw", "JobName", "User", "Account", "Partition", "State", "ExitCode", "Submit",
    "Eligible", "Start", "End", "ElapsedRaw", "TimelimitRaw", "ReqTRES", "AllocTRES", "AllocCPUS",
    "NTasks", "NodeList", "TotalCPU", "MinCPU", "MaxRSS", "SubmitLine", "WorkDir",
]  # fmt: skip


def jobs_query(user: str, account: str, window: Window) -> Query[Job]:
    """All that ``user`` did in ``account`` from the window's start: jobs with their steps.

    The caller must be allowed to see them: an operator, or the account's coordinator.
    """
    separator = new_separator()
    argv = (
        "sacct", "--noheader", "--parsable", "--duplicates", f"--user={user}",
        f"--accounts={account}", f"--starttime=uts{max(window.opens, FIRST_TIME)}",
        f"--delimiter={separator}",
        "--format=" + ",".join(_FORMAT),
    )  # fmt: skip
    return Query(argv, dict(ENVIRONMENT), lambda text: read_jobs(text, separator))


def cancelled_query(user: str, account: str, window: Window) -> Query[Job]:
    """Those that were cancelled. Without the state sacct leaves out jobs that never became
    eligible, as one whose dependency failed (tried: 22.05.8)."""
    every = jobs_query(user, account, window)
    argv = (*every.argv, "--state=CANCELLED", "--endtime=now")
    return Query(argv, every.env, every.read)


def script_query(job_id: int) -> Query[str]:
    """The script that Slurm kept of a job; "" for one that had none (srun, salloc)."""
    argv = ("sacct", "--allusers", "--batch-script", f"--jobs={job_id}")
    return Query(argv, dict(ENVIRONMENT), lambda text: (read_script(text),))


def read_script(text: str) -> str:
    """``sacct --batch-script``'s answer without its head (two lines) and its added last newline."""
    head = re.match(r"\s*Batch Script for [^\n]*\n-+\n", text)
    if not head:
        return ""
    body = text[head.end() :]
    return "" if body.strip() in ("", "NONE", "NULL") else body.removesuffix("\n")


def read_jobs(text: str, separator: str) -> tuple[Job, ...]:
    """sacct's rows as jobs with their steps, oldest first. ValueError when cut or strange.

    A requeued job has several rows of one id: they become one, the last run, with ``restarts``.
    """
    found: list[Job] = []
    for row in (dict(zip(_FORMAT, r, strict=True)) for r in records(text, separator, len(_FORMAT))):
        if "." not in row["JobIDRaw"]:
            found.append(_job(row))
        elif found and row["JobIDRaw"].split(".")[0] == str(found[-1].job_id):
            found[-1] = replace(found[-1], steps=(*found[-1].steps, _step(row)))
        else:
            raise ValueError(f"step {row['JobIDRaw']} without its job")
    found.sort(key=lambda job: (job.job_id, job.submitted or 0, job.started or 0))
    result = []
    for _, runs in groupby(found, key=lambda job: job.job_id):
        *before, last = runs
        first = before[0].submitted if before else last.submitted
        result.append(replace(last, restarts=len(before), submitted=first))
    return tuple(result)


def _job(row: Mapping[str, str]) -> Job:
    code, signal = exit_code(row["ExitCode"])
    array_id, array_task = _array(row["JobID"])
    allocated = resources(row["AllocTRES"])
    if not allocated.cpus:
        allocated = replace(allocated, cpus=whole(row["AllocCPUS"] or "0"))
    limit = row["TimelimitRaw"]
    return Job(
        job_id=whole(row["JobIDRaw"]),
        name=row["JobName"],
        user=row["User"],
        account=row["Account"],
        partition=row["Partition"],
        state=job_state(row["State"].split(" ")[0]),
        exit_code=code,
        signal=signal,
        submitted=moment(row["Submit"]),
        eligible=moment(row["Eligible"]),
        started=moment(row["Start"]),
        ended=moment(row["End"]),
        elapsed=whole(row["ElapsedRaw"] or "0"),
        time_limit=int(limit) * 60 if limit.isdecimal() else None,
        requested=resources(row["ReqTRES"]),
        allocated=allocated,
        nodes=host_names(row["NodeList"]),
        cpu_time=duration(row["TotalCPU"]) or 0,
        array_id=array_id,
        array_task=array_task,
        submit_line=row["SubmitLine"],
        work_dir=row["WorkDir"],
    )


def _step(row: Mapping[str, str]) -> Step:
    code, signal = exit_code(row["ExitCode"])
    return Step(
        step=row["JobIDRaw"].partition(".")[2],
        name=row["JobName"],
        state=job_state(row["State"].split(" ")[0]),
        exit_code=code,
        signal=signal,
        started=moment(row["Start"]),
        ended=moment(row["End"]),
        elapsed=whole(row["ElapsedRaw"] or "0"),
        tasks=whole(row["NTasks"] or "0"),
        cpus=whole(row["AllocCPUS"] or "0"),
        nodes=host_names(row["NodeList"]),
        cpu_time=duration(row["TotalCPU"]) or 0,
        least_cpu=duration(row["MinCPU"]),
        max_rss=size_bytes(row["MaxRSS"]) if row["MaxRSS"] else None,
    )


def _array(text: str) -> tuple[int | None, int | None]:
    """From JobID: ``12_3`` is task 3 of array 12, ``12_[4-9%2]`` its tasks that never started."""
    match = re.match(r"(\d+)_(\d+|\[)", text)
    if not match:
        return None, None
    return int(match[1]), None if match[2] == "[" else int(match[2])


def resources(tres: str) -> Resources:
    """``cpu=2,mem=500M,node=1,billing=2``, as sacct prints them. ValueError for other forms."""
    pairs = dict(part.partition("=")[::2] for part in tres.split(",") if part)
    return Resources(
        cpus=whole(pairs.get("cpu", "0")),
        nodes=whole(pairs.get("node", "0")),
        memory=size_bytes(pairs["mem"]) if "mem" in pairs else None,
    )


def tasks_of(jobs: Collection[Job]) -> tuple[tuple[Job, ...], ...]:
    """Jobs by what was submitted at once: each job alone, an array's tasks together."""
    ordered = sorted(jobs, key=lambda job: (job.array_id or job.job_id, job.array_task or 0))
    groups = groupby(
        ordered, key=lambda job: (job.array_id is not None, job.array_id or job.job_id)
    )
    return tuple(tuple(tasks) for _, tasks in groups)
