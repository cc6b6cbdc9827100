"""The shared view of the queue, and the words for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spawner_hub import Queue, job, record

from cluster.slurm_text import JobState
from cluster.text import UNPRINTABLE, clean
from spawners import commands, words
from spawners.commands import CommandError, run
from spawners.watcher import Kind, Watcher, kind_of, place_of


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def watcher() -> tuple[Watcher, Queue, Clock]:
    queue, clock = Queue(), Clock()
    return Watcher(queue, clock), queue, clock


async def test_many_askers_make_one_query() -> None:
    """Stock: 157 calls of sudo squeue in 10 s for 20 pending servers."""
    view, queue, clock = watcher()
    queue.jobs = [job(number, JobState.PENDING) for number in range(1, 21)]
    for _ in range(5):
        asked = [view.view(number, submitted=0, max_age=2) for number in range(1, 21)]
        views = await asyncio.gather(*asked)
        assert all(item.kind is Kind.WAITING for item in views)
        clock.now += 1
    assert queue.asked == ["squeue"] * 2  # at 0 s and 3 s: answers of 1 s and 2 s still served


async def test_an_error_is_not_the_end_of_a_job() -> None:
    view, queue, clock = watcher()
    queue.jobs = queue.records = None
    for _ in range(10):
        seen = await view.view(5, submitted=0, max_age=0)
        assert seen.kind is Kind.UNKNOWN and "did not answer" in seen.error
        clock.now += 20
    assert "sacct" not in queue.asked


async def test_a_query_from_before_the_submission_says_nothing() -> None:
    view, queue, clock = watcher()
    queue.jobs = []
    await view.look(0)
    seen = await view.view(5, submitted=clock.now, max_age=2)
    assert seen.kind is Kind.UNKNOWN and "sacct" not in queue.asked


async def test_accounting_confirms_that_a_job_is_gone() -> None:
    view, queue, _ = watcher()
    queue.jobs, queue.records = [], [record(5, JobState.FAILED, 3)]
    seen = await view.view(5, submitted=0, max_age=0)
    assert seen.kind is Kind.GONE and seen.record is not None and seen.record.exit_code == 3


async def gone_after(view: Watcher, clock: Clock, limit: int = 10) -> int:
    for number in range(1, limit):
        if (await view.view(5, submitted=0, max_age=0)).kind is Kind.GONE:
            return number
        clock.now += 2
    return limit


async def test_without_accounting_two_misses_in_a_row() -> None:
    view, queue, clock = watcher()
    queue.jobs, queue.records = [], None
    assert await gone_after(view, clock) == 2


async def test_the_same_answer_counts_once() -> None:
    view, queue, _ = watcher()
    queue.jobs, queue.records = [], None
    await view.look(0)
    for _ in range(5):
        assert (await view.view(5, submitted=0, max_age=100)).kind is Kind.UNKNOWN


async def test_a_job_that_is_seen_again_starts_anew() -> None:
    view, queue, clock = watcher()
    queue.records = None
    for _ in range(3):
        queue.jobs = []
        assert (await view.view(5, submitted=0, max_age=0)).kind is Kind.UNKNOWN
        clock.now += 2
        queue.jobs = [job(5)]
        assert (await view.view(5, submitted=0, max_age=0)).kind is Kind.RUNNING
        clock.now += 2


async def test_accounting_that_contradicts_is_believed_for_a_while() -> None:
    view, queue, clock = watcher()
    queue.jobs, queue.records = [], [record(5, JobState.RUNNING)]
    assert await gone_after(view, clock) == 5


@pytest.mark.parametrize("told", [JobState.CANCELLED, JobState.TIMEOUT])
async def test_why_a_job_ends_is_accountings_word(told: JobState) -> None:
    """The queue says COMPLETING of every job while its epilog runs."""
    view, queue, clock = watcher()
    queue.jobs, queue.records = [job(5, JobState.COMPLETING)], [record(5, JobState.RUNNING)]
    assert (await view.view(5, submitted=0, max_age=0)).kind is Kind.UNKNOWN
    clock.now += 2
    queue.records = [record(5, told)]
    seen = await view.view(5, submitted=0, max_age=0)
    assert seen.kind is Kind.GONE
    assert words.ending(seen.state, seen.record) == words.ENDS[told]


@pytest.mark.parametrize("records", [None, [], [record(5, JobState.RUNNING)]])
async def test_an_epilog_without_an_end_is_one_all_the_same(records: list[Any] | None) -> None:
    view, queue, clock = watcher()
    queue.jobs, queue.records = [job(5, JobState.COMPLETING)], records
    assert await gone_after(view, clock) == (2 if records else 1)


@pytest.mark.parametrize("queue_has", [[], [job(5, JobState.COMPLETING)]])
async def test_others_who_look_in_between_change_nothing(queue_has: list[Any]) -> None:
    """Something else starts, with a look every 2 s; this one is asked about every 15 s."""
    view, queue, clock = watcher()
    queue.jobs, queue.records = queue_has, [record(5, JobState.RUNNING)]
    kinds = []
    for _ in range(5):
        kinds.append((await view.view(5, submitted=0, max_age=0)).kind)
        for _ in range(7):
            clock.now += 2
            await view.look(0)
    assert Kind.GONE in kinds


@pytest.mark.parametrize("again", [JobState.REQUEUED, JobState.PENDING])
async def test_a_job_that_is_requeued_has_not_ended(again: JobState) -> None:
    view, queue, clock = watcher()
    queue.jobs, queue.records = [job(5, JobState.COMPLETING)], [record(5, again)]
    # the first time it may be what accounting has not heard of yet
    assert (await view.view(5, submitted=0, max_age=0)).kind is Kind.UNKNOWN
    clock.now += 2
    assert (await view.view(5, submitted=0, max_age=0)).kind is Kind.WAITING


async def test_an_impatient_asker_does_not_end_the_others_query() -> None:
    view, queue, _ = watcher()
    queue.jobs = [job(5)]
    first = asyncio.create_task(view.look(0))
    second = asyncio.create_task(view.look(0))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).jobs is not None
    assert queue.asked == ["squeue"]


@pytest.mark.parametrize("state", list(JobState))
def test_every_state_has_a_meaning(state: JobState) -> None:
    kind = kind_of(state)
    assert kind is not Kind.UNKNOWN
    ours = {"SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING",
            "SIGNALING", "CONFIGURING", "PENDING", "RUNNING", "SPECIAL_EXIT", "RESV_DEL_HOLD",
            "POWER_UP_NODE", "EXPEDITING"}  # fmt: skip
    assert (kind is not Kind.GONE) == (state.name in ours)
    if kind is Kind.GONE:
        assert words.ending(state, None)


def test_the_place_in_the_queue() -> None:
    jobs = {
        item.job_id: item
        for item in (
            job(1, JobState.RUNNING),
            job(2, JobState.PENDING, priority=50),
            job(3, JobState.PENDING, priority=100),
            job(4, JobState.PENDING, priority=100),
            job(5, JobState.PENDING, priority=999, partition="batch"),
            job(6, JobState.PENDING, priority=0),
        )
    }
    places = [place_of(jobs[number], jobs) for number in (3, 4, 2, 5, 6)]
    assert places == [1, 2, 3, 1, None]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"reason": "Resources"},
         "Waiting: no cores or memory are free at the moment; place 2 in the queue"),
        ({"reason": "ReqNodeNotAvail, UnavailableNodes:node01"},
         "Waiting: the nodes it needs are down or kept for others; place 2 in the queue"),
        ({"reason": "QOSMaxJobsPerUserLimit"},
         "Waiting: you have all the running jobs that one person may have at a time; it starts when "
         "another session or job of yours ends; place 2 in the queue"),
        ({"reason": "Something\x1b[0mNew\n"},
         "Waiting: Slurm says Something [0mNew; place 2 in the queue"),
        ({"reason": "Priority", "started": 1420},
         "Waiting: other jobs are before this one; place 2 in the queue; "
         "expected to start in about 7 minutes"),
        ({"reason": "Priority", "started": 900},
         "Waiting: other jobs are before this one; place 2 in the queue"),
    ],
)  # fmt: skip
def test_the_wait_in_words(changes: dict[str, Any], text: str) -> None:
    assert words.waiting(job(1, JobState.PENDING, **changes), 2, now=1000) == text


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("sbatch: error: Batch job submission failed: Invalid partition name specified\n",
         "Invalid partition name specified"),
        ("sbatch: error: invalid partition specified: x\n"
         "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
         "Invalid partition name specified"),
        ("sudo: a password is required\n", "sudo: a password is required"),
        ("", "it gave no reason"),
    ],
)  # fmt: skip
def test_sbatchs_words(said: str, text: str) -> None:
    assert words.sbatch_error(said) == text


@given(st.text(), st.integers(10, 600))
def test_cleaned_text_is_one_short_printable_line(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert len(cleaned) <= limit
    assert not UNPRINTABLE.search(cleaned) and len(cleaned.splitlines()) <= 1


@pytest.mark.parametrize(
    ("state", "exit_code", "text"),
    [
        (JobState.FAILED, 69, "it could not reach the hub from its node"),
        (JobState.FAILED, 127, "its launcher is missing on its node"),
        (JobState.FAILED, 3, "its job failed (exit 3)"),
        (JobState.TIMEOUT, 0, "its time was up"),
        (JobState.RUNNING, 0, "Slurm does not know its job any more"),
    ],
)
def test_endings(state: JobState, exit_code: int, text: str) -> None:
    assert words.ending(None, record(1, state, exit_code)) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(5, "about a minute"), (300, "about 5 minutes"), (1300, "about 20 minutes"),
     (7200, "about 2 hours"), (200_000, "about 2 days")],
)  # fmt: skip
def test_spans(seconds: int, text: str) -> None:
    assert words.span(seconds) == text


# --- commands -----------------------------------------------------------------------------------


async def test_a_command_sees_a_bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "secret")
    monkeypatch.setenv("SLURM_CONF_SERVER", "ctl")
    monkeypatch.setenv("SBATCH_PARTITION", "gpu")
    done = await run(["/usr/bin/env"])
    assert set(done.out.split()) == {
        "PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "SLURM_CONF_SERVER=ctl"
    }  # fmt: skip
    done = await run(
        ["/bin/sh", "-c", 'cat; echo "$1"; pwd; exit 3', "sh", "; touch /x"], stdin="in "
    )
    assert (done.status, done.out) == (3, "in ; touch /x\n/\n")


async def test_a_command_has_a_limit() -> None:
    with pytest.raises(CommandError, match=r"sleep 30 did not end within 0\.2 s"):
        await run(["/bin/sleep", "30"], timeout=0.2)
    with pytest.raises(CommandError, match="/no/such cannot be run here"):
        await run(["/no/such"])


async def test_a_question_to_slurm_fails_in_words() -> None:
    from cluster.slurm import Query, SlurmError

    def query(command: str) -> Query[int]:
        return Query(("/bin/sh", "-c", command), {}, lambda text: (int(text),))

    assert await commands.ask(query("echo 5")) == (5,)
    with pytest.raises(SlurmError, match="cannot be read"):
        await commands.ask(query("echo x"))
    with pytest.raises(SlurmError, match="failed: slurm_load_jobs error"):
        await commands.ask(query("echo 'slurm_load_jobs error' >&2; exit 1"))
