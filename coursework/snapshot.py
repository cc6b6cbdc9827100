"""A student's accounting, asked for once and kept: marks do not change when the database does.

A snapshot is a JSON file; :func:`load` gives it back as values, so that authors try their tests
on a recorded one without a cluster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from cluster.errors import PracticumError
from cluster.slurm import Query, run
from coursework.accounting import Accounting, Job, Window, cancelled_query, jobs_query, script_query

_FORM = TypeAdapter(Accounting)
Ask = Callable[[Query[Any]], tuple[Any, ...]]


def take(user: str, account: str, window: Window, *, ask: Ask = run) -> Accounting:
    """Ask Slurm now. A script that it has not kept is "". SlurmError when it does not answer,
    about a script too: marks would rest on half of what there is."""
    now = int(time.time())
    found = {job.job_id: job for job in ask(cancelled_query(user, account, window))}
    found |= {job.job_id: job for job in ask(jobs_query(user, account, window))}
    jobs = [_with_script(found[number], ask) for number in sorted(found)]
    return Accounting(user, account, window, now, tuple(jobs))


def _with_script(job: Job, ask: Ask) -> Job:
    if job.array_task not in (None, 0) and job.array_id != job.job_id:
        return job  # kept once for an array
    return replace(job, script=ask(script_query(job.job_id))[0])


def dump(accounting: Accounting) -> str:
    return _FORM.dump_json(accounting, indent=1).decode() + "\n"


def parse(text: str, where: str) -> Accounting:
    """PracticumError names the file when it is no snapshot."""
    try:
        return _FORM.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        raise PracticumError(
            f"{where} is not recorded accounting ({first['msg']} at "
            f"{'.'.join(map(str, first['loc']))}): record it again"
        ) from None


def load(path: Path) -> Accounting:
    """A recorded accounting from its file."""
    try:
        return parse(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise PracticumError(f"{path} cannot be read: {error.strerror}") from None
