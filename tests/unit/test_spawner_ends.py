"""The spawner in a real JupyterHub: what people are told when a session cannot start or ends, what
they may ask for, and what a new hub finds again."""

# ruff: noqa: F811
from __future__ import annotations

import asyncio
import json
import sqlite3
from typing import Any

import pytest
from spawner_hub import (
    NEEDS,
    USER,
    Setting,
    hub,  # noqa: F401
    job,
    message_of,
    munge_socket,  # noqa: F401
    record,
    session_of,
    starting,
)

from cluster.slurm_text import JobState
from spawners.watcher import Watcher

pytestmark = NEEDS


# --- what goes wrong ----------------------------------------------------------------------------


async def failed(spawner: Any) -> str:
    """The sentence that the page shows."""
    with pytest.raises(Exception) as caught:
        await asyncio.wait_for(spawner._spawn_future, 15)
    assert caught.value.jupyterhub_html_message is None
    return str(caught.value.jupyterhub_message)


async def test_the_sessions_own_reason_is_shown(hub: Setting) -> None:
    spawner = await starting(hub)
    text = "the server environment is missing\x1b[31m on\nnode01 " + "x" * 600
    answer = await hub.post("/practicum/session", await hub.message("failure", text=text))
    assert answer.code == 200
    hub.queue.jobs, hub.queue.records = [], [record(17, JobState.CANCELLED)]
    said = await failed(spawner)
    assert said.startswith("Your session could not start: the server environment is missing")
    assert "\n" not in said and "\x1b" not in said and len(said) < 600


async def test_sbatchs_own_words_are_shown(hub: Setting) -> None:
    (hub.folder / "refuse").write_text(
        "sbatch: error: Batch job submission failed: Invalid account or account/partition "
        "combination specified\n"
    )
    answer = await hub.spawn()
    spawner = hub.user().spawners[""]
    said = await failed(spawner) if answer.code == 202 else message_of(answer)
    assert said == (
        "Slurm refused the job: Invalid account or account/partition combination specified."
    )
    assert not (hub.folder / "scancel.log").exists()


async def test_a_job_that_dies_ends_the_wait(hub: Setting) -> None:
    spawner = await starting(hub)
    hub.queue.jobs = [job(17)]
    await session_of(hub)
    hub.queue.jobs, hub.queue.records = [], [record(17, JobState.OUT_OF_MEMORY)]
    said = await failed(spawner)
    assert said == (
        "Your session ended before it was ready: it used more memory than its profile allows."
    )


async def test_a_silent_slurm_is_not_the_end(hub: Setting) -> None:
    spawner = await starting(hub)
    hub.queue.jobs = hub.queue.records = None
    await hub.until(lambda: spawner._view.error)
    assert await spawner.poll() is None
    assert "Slurm does not answer" in spawner.progress_now()[1]
    assert not spawner._spawn_future.done()


async def test_no_place_in_time_is_told_and_the_job_cancelled(hub: Setting) -> None:
    hub.queue.jobs = [job(17, JobState.PENDING, reason="Resources")]
    hub.user().spawners[""].start_timeout = 3
    answer = await hub.spawn()
    spawner = hub.user().spawners[""]
    spawner.start_timeout = 3

    async def cancelled() -> None:
        await hub.until((hub.folder / "cancelled").exists)
        hub.queue.jobs, hub.queue.records = [], [record(17, JobState.CANCELLED)]

    task = asyncio.create_task(cancelled())
    assert answer.code == 202
    said = await failed(spawner)
    assert "found no place within 3 s: no cores or memory are free" in said
    await task
    assert (hub.folder / "scancel.log").read_text() == "17\n"


async def running(hub: Setting) -> Any:
    """A session that is there."""
    spawner = await starting(hub)
    token = (await session_of(hub))["env"]["JUPYTERHUB_API_TOKEN"]
    await hub.post("/batchspawner", {"port": hub.serve()}, token)
    hub.queue.jobs = [job(17)]
    await hub.until(lambda: spawner.ready)
    return spawner


async def test_why_a_session_ended_is_kept_for_the_pages(hub: Setting) -> None:
    spawner = await running(hub)
    hub.queue.jobs, hub.queue.records = [], [record(17, JobState.NODE_FAIL)]
    Watcher.shared()._last = None
    await spawner.poll_and_notify()
    await hub.until(lambda: not hub.user().running)
    again = hub.user().spawners[""]
    assert again is not spawner
    assert again.last_end == "Your last session ended: its node failed."
    assert again.orm_spawner.state == {"ended": again.last_end}


async def test_a_job_that_is_put_back_into_the_queue_is_ended(hub: Setting) -> None:
    """Its kernels are lost, and nobody would come for it once it starts again."""
    spawner = await running(hub)
    hub.queue.jobs = [job(17, JobState.PENDING, reason="BeginTime")]
    Watcher.shared()._last = None
    assert await spawner.poll() == 1
    assert (hub.folder / "scancel.log").read_text() == "17\n"
    assert spawner.last_end == "Your last session ended: Slurm put its job back into the queue."


# --- options ------------------------------------------------------------------------------------


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"partition": "batch"}, "There is no option 'partition'; the options are profile, cpus"),
    ({"profile": "staff"}, "There is no profile 'staff' for you; the profiles are small, large"),
    ({"profile": "small\n#SBATCH --uid=0"}, "There is no profile"),
    ({"prologue": "touch /tmp/owned"}, "There is no option 'prologue'"),
    ({"profile": "small", "memory": 301}, "it is a whole number from 64 to 300 MB"),
    ({"profile": "small", "time": "04:00:01"}, "from 00:01 to 04:00:00"),
    ({"profile": "small", "time": "01:00\n"}, "time '01:00\\n' cannot be had"),
    ({"profile": ["small"]}, "There is no profile list for you"),
]


async def test_options_are_refused_in_one_sentence(hub: Setting) -> None:
    for options, sentence in REFUSED:
        answer = await hub.spawn(options)
        spawner = hub.user().spawners[""]
        said = await failed(spawner) if answer.code == 202 else message_of(answer)
        assert sentence in said, options
        assert not (hub.folder / "script").exists()
        assert not spawner.orm_spawner.user_options  # not kept for the next click


async def test_someone_without_an_account_is_told(hub: Setting) -> None:
    answer = await hub.spawn(name="nosuchaccount")
    spawner = hub.user("nosuchaccount").spawners[""]
    said = await failed(spawner) if answer.code == 202 else message_of(answer)
    assert "The account nosuchaccount does not exist on this cluster" in said


# --- a restart of the hub -----------------------------------------------------------------------


async def test_a_new_hub_finds_the_waiting_job_again(hub: Setting) -> None:
    spawner = await starting(hub)
    old_token = spawner.api_token
    spawner._spawn_future.add_done_callback(lambda future: future.exception())
    task = next(t for t in asyncio.all_tasks() if "finish_user_spawn" in repr(t))
    # the old hub is gone without a word
    await hub.stop()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    state = {"job_id": "17", "session_port": 0, "session_given": False}
    await _restore(hub, state)
    await hub.start()
    again = hub.user().spawners[""]
    await hub.until(lambda: again._awaiting)
    session = await session_of(hub)
    token = session["env"]["JUPYTERHUB_API_TOKEN"]
    assert token != old_token
    assert (await hub.post("/batchspawner", {"port": 20003}, old_token)).code == 403
    port = hub.serve()
    assert (await hub.post("/batchspawner", {"port": port}, token)).code == 201
    hub.queue.jobs = [job(17)]
    await hub.until(lambda: again.ready)
    assert again.server.url == f"http://127.0.0.1:{port}/user/{USER}/"
    assert again.job_id == "17"


async def _restore(hub: Setting, state: dict[str, Any]) -> None:
    """Cancelling the old hub's task let it clean up, which a killed process could not."""
    base = sqlite3.connect(hub.folder / "hub.sqlite")
    with base:
        servers = base.execute("select count(*) from servers").fetchone()[0]
        assert servers, "the old hub has cleaned up"
        base.execute("update spawners set state = ?", (json.dumps(state),))
    base.close()
