"""Slurm's words in plain ones: what a student reads while waiting, and why a session ended."""

from __future__ import annotations

import re

from cluster.sacct import Record
from cluster.scheduling import Qos
from cluster.slurm import Job
from cluster.slurm_text import JobState
from cluster.text import clean
from spawners import limits
from spawners.amounts import clock, count, span

# Job reason codes, squeue(1) "JOB REASON CODES". Every value finishes "Waiting: ...".
REASONS = {
    "None": "Slurm is looking for a place",
    "Priority": "other jobs are before this one",
    "Resources": "no cores or memory are free at the moment",
    "Dependency": "another job has to end first",
    "BeginTime": "its time has not come yet",
    "Cleaning": "the node is being cleaned up after another job",
    "Prolog": "the node is being prepared",
    "Reservation": "its reservation has not begun",
    "NodeDown": "its node is down",
    "PartitionDown": "the partition is closed to jobs",
    "PartitionInactive": "the partition is closed to jobs",
    "PartitionTimeLimit": "it asks for more time than the partition allows",
    "PartitionNodeLimit": "it asks for more than the partition has",
    "BadConstraints": "no node is as large as it asks for",
    "JobHeldAdmin": "an administrator holds it back",
    "JobHeldUser": "you hold it back (scontrol release lets it go)",
    "JobHoldMaxRequeue": "it was started too often without success; ask the administrator",
    "MaxRequeue": "it was started too often without success; ask the administrator",
    "InvalidAccount": "your account in Slurm is not valid; ask the administrator",
    "InvalidQOS": "its quality of service is not valid; ask the administrator",
    "Licenses": "a licence is not free",
    "NonZeroExitCode": "its last try failed",
    "SystemFailure": "a node had a fault",
}
LIMIT = re.compile(r"^(QOS|Assoc)")
UNAVAILABLE = re.compile(r"^ReqNodeNotAvail|^\(?Nodes? required for job are DOWN")

# Exit codes of the launcher (spawners/launch) that it could not explain to the hub,
# and of the shell that starts it.
EXITS = {
    69: "it could not reach the hub from its node",
    70: "munge does not work on its node",
    126: "its launcher cannot be run on its node",
    127: "its launcher is missing on its node",
}
ENDS = {
    JobState.BOOT_FAIL: "its node did not boot",
    JobState.CANCELLED: "its job was cancelled",
    JobState.COMPLETED: "its job ended by itself",
    JobState.COMPLETING: "its job is over",  # why is not known yet
    JobState.DEADLINE: "its job reached its deadline",
    JobState.FAILED: "its job failed",
    JobState.LAUNCH_FAILED: "Slurm could not start it on its node",
    JobState.NODE_FAIL: "its node failed",
    JobState.OUT_OF_MEMORY: "it used more memory than its profile allows",
    JobState.PREEMPTED: "its job made room for a more urgent one",
    JobState.RECONFIG_FAIL: "its node could not be set up",
    JobState.REVOKED: "its job was taken back",
    JobState.TIMEOUT: "its time was up",
}


def reason(word: str, qos: Qos | None = None) -> str:
    """Why a job waits, from squeue's word for it. ``qos``: whose limits hold for it, if known."""
    if word in REASONS:
        return REASONS[word]
    if limit := limits.reason(word, qos):
        return limit
    if UNAVAILABLE.match(word):
        return "the nodes it needs are down or kept for others"
    if LIMIT.match(word):
        return f"you or your class already use as much as is allowed ({clean(word, 60)})"
    return f"Slurm says {clean(word, 60)}"


def sbatch_error(text: str) -> str:
    """sbatch's own complaint, without its decoration."""
    lines = [clean(line, 300) for line in text.splitlines()]
    lines = [re.sub(r"^sbatch: (error|fatal): ", "", line) for line in lines if line]
    heads = [line for line in lines if line.startswith("Batch job submission failed: ")]
    if heads:
        return heads[-1].removeprefix("Batch job submission failed: ")
    return lines[-1] if lines else "it gave no reason"


FULL = ("Resources", "Priority")  # reasons that end when other jobs do


def waiting(
    job: Job,
    place: int | None,
    now: float,
    *,
    cpus: int = 0,
    first_end: int | None = None,
    qos: Qos | None = None,
) -> str:
    """One sentence for a job that waits. ``place`` counts from 1; ``now``: seconds since 1970.

    ``cpus`` are in use by the running jobs of its partition, the first of which has to end at
    ``first_end`` (seconds since 1970).
    """
    text = f"Waiting: {reason(job.reason, qos)}"
    if job.reason in FULL and cpus:
        text += f" ({count(cpus, 'core')} of partition {clean(job.partition, 60)} in use"
        if first_end is not None and first_end > now:
            text += f", the first job there ends by {clock(first_end, now)}"
        text += ")"
    if place is not None:
        text += f"; place {place} in the queue"
    if job.started is not None and job.started > now:
        text += f"; expected to start in {span(job.started - now)}"
    return text


def ending(state: JobState | None, record: Record | None) -> str:
    """Why a job is over; accounting knows more than the queue when it has the record."""
    if record is not None:
        state = record.state if record.state.over else state
        if record.state in (JobState.FAILED, JobState.COMPLETED) and record.exit_code in EXITS:
            return EXITS[record.exit_code]
        if record.state is JobState.FAILED:
            how = f"signal {record.signal}" if record.signal else f"exit {record.exit_code}"
            return f"its job failed ({how})"
    if state is None:
        return "Slurm does not know its job any more"
    return ENDS.get(state, f"its job is over ({state.value})")
