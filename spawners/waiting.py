"""How a start is told: the progress of one that goes on, the sentence for one that was too late."""

from __future__ import annotations

from enum import Enum

from cluster.scheduling import Qos
from cluster.text import clean
from spawners import amounts, words
from spawners.watcher import Kind, View


class Stage(Enum):
    """What the hub itself knows of a start; the rest is the job's state."""

    SUBMITTING = "submitting"
    SUBMITTED = "submitted"  # the job has a number
    STARTING = "starting"  # the session has its secrets
    READY = "ready"  # its server has reported


def progress_of(stage: Stage, view: View, now: float, qos: Qos | None = None) -> tuple[int, str]:
    """How far a start is (percent) and in words. ``now``: seconds since 1970; ``qos``: whose
    limits hold for the job, if known."""
    if stage is Stage.SUBMITTING:
        return 5, "Asking Slurm for a place"
    if view.kind is Kind.RUNNING and view.node:
        if stage is Stage.STARTING:
            return 70, f"Running on {view.node}, starting the server"
        if stage is Stage.READY:
            return 90, f"The server on {view.node} is there, opening it"
        return 50, f"Running on {view.node}"
    if view.kind is Kind.WAITING and view.job is not None:
        return 20, words.waiting(
            view.job,
            view.place,
            now,
            cpus=view.crowd.cpus,
            first_end=view.crowd.first_end,
            qos=qos,
        )
    if view.kind is Kind.PAUSED:
        return 20, "Slurm has paused the job; it may go on"
    if view.error:
        return 15, "Slurm does not answer at the moment; still trying"
    return 10, "Slurm has the job"


def told(view: View, now: float) -> str:
    """Where a session runs and until when, in a few words; "" while it does not."""
    if view.kind is not Kind.RUNNING or not view.node or view.job is None:
        return ""
    text = f"job {view.job.job_id} on {view.node}" if view.job.job_id else f"on {view.node}"
    return f"{text}, ends at {amounts.clock(view.ends, now)}" if view.ends else text


def too_late(view: View, limit: int, qos: Qos | None = None) -> str:
    """Why there is no session after ``limit`` seconds, and what to do."""
    if view.kind is Kind.WAITING and view.job is not None:
        return (
            f"Your session found no place within {limit} s: "
            f"{words.reason(view.job.reason, qos)}. "
            "Try again later, or choose a smaller profile."
        )
    if view.kind is Kind.RUNNING:
        return (
            f"Your session runs on {view.node}, but its server did not report within {limit} s. "
            "Try again; if it stays so, tell the administrator."
        )
    if view.error:
        return f"Slurm could not be asked for {limit} s: {clean(view.error, 200)}."
    return f"Your session did not start within {limit} s. Try again later."
