"""The spawner in a real JupyterHub: what a session may say, and what becomes of a click."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pwd
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from spawner_hub import USER, Setting, job, message_of, record, start_munged

from cluster.slurm_text import JobState
from spawners.watcher import Watcher

pytestmark = [
    pytest.mark.daemons,
    pytest.mark.skipif(os.getuid() != 0, reason="its sessions are root's"),
    pytest.mark.skipif(
        not (shutil.which("munged") or Path("/usr/sbin/munged").exists()),
        reason="munge is not installed (apt-get install munge)",
    ),
]


@pytest.fixture(scope="module")
def munge_socket() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="practicum-munge-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # other users make credentials, too
        daemon = start_munged(folder)
        yield str(folder / "socket")
        daemon.terminate()
        daemon.wait(10)


@pytest.fixture
async def hub(
    tmp_path: Path, munge_socket: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Setting]:
    for module in ("spawner", "running"):
        monkeypatch.setattr(f"spawners.{module}.STARTING", 0.3)
    setting = Setting(tmp_path, munge_socket)
    await setting.start()
    yield setting
    setting.queue.jobs, setting.queue.records = [], [record(17, JobState.CANCELLED)]
    for user in list(setting.app.users.values()):
        for name, spawner in list(user.spawners.items()):
            spawner.stop_polling()
            future = spawner._spawn_future
            if future is not None and not future.done():
                spawner.report_failure("the test is over")
                await asyncio.wait([future], timeout=10)
            if spawner.active:
                await user.stop(name)
    await setting.stop()


async def starting(hub: Setting, **options: Any) -> Any:
    """A spawner whose job has been submitted and waits for its session."""
    hub.queue.jobs = [job(17, JobState.PENDING, reason="Resources")]
    answer = await hub.spawn(options)
    assert answer.code == 202, answer.body
    spawner = hub.user().spawners[""]
    await hub.until(lambda: spawner.job_id)
    return spawner


async def session_of(hub: Setting) -> dict[str, Any]:
    """The launcher's part: ask by munge, open the answer."""
    answer = await hub.post("/practicum/session", await hub.message("session"))
    assert answer.code == 200, answer.body
    opened = await hub.munge.open(answer.body.decode())
    assert opened.uid == os.getuid() and opened.restricted_to == os.getuid()
    session: dict[str, Any] = json.loads(opened.payload)
    return session


# --- the ordinary way ---------------------------------------------------------------------------


async def test_a_session_starts(hub: Setting) -> None:
    spawner = await starting(hub, profile="small", cpus=1)
    script = (hub.folder / "script").read_text()
    assert "#SBATCH --cpus-per-task=1\n" in script and "#SBATCH --mem=300M\n" in script
    assert (hub.folder / "sudo.log").read_text() == f"-n -u {USER} {hub.folder}/sbatch --parsable\n"

    session = await session_of(hub)
    assert session["nonce"] == "n" * 32
    token = session["env"]["JUPYTERHUB_API_TOKEN"]
    assert token not in script
    assert session["extensions"] == ["jupyterlab", "jupyter_server_terminals", "jupyterlmod"]

    port = hub.serve()
    assert (await hub.post("/batchspawner", {"port": port}, token)).code == 201
    hub.queue.jobs = [job(17)]
    await hub.until(lambda: spawner.ready)
    assert spawner.server.url == f"http://127.0.0.1:{port}/user/{USER}/"
    assert hub.app.proxy.routes[f"/user/{USER}/"]["target"] == f"http://127.0.0.1:{port}"

    async def cancelled() -> None:
        await hub.until((hub.folder / "cancelled").exists)
        hub.queue.jobs, hub.queue.records = [], [record(17, JobState.CANCELLED)]

    await asyncio.gather(hub.user().stop(""), cancelled())
    assert (hub.folder / "scancel.log").read_text() == "17\n"
    assert (hub.folder / "sudo.log").read_text().endswith(f"-n -u {USER} {hub.folder}/scancel 17\n")
    assert spawner.orm_spawner.state == {}


async def test_the_hubs_secrets_reach_no_command_and_no_session(
    hub: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONFIGPROXY_AUTH_TOKEN", "proxy-secret")
    monkeypatch.setenv("JUPYTERHUB_CRYPT_KEY", "crypt-secret")
    await starting(hub)
    seen = (hub.folder / "env.log").read_text()
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names <= {"PATH", "LANG", "PWD", "_", "SHLVL", "OLDPWD"}
    env = (await session_of(hub))["env"]
    assert env["BASH_ENV"] == "/etc/profile.d/lmod.sh"  # what the administrator set goes in
    assert not {"CONFIGPROXY_AUTH_TOKEN", "JUPYTERHUB_CRYPT_KEY", "JPY_API_TOKEN", "PATH"} & set(
        env
    )
    assert "secret" not in json.dumps(env)


async def test_the_jobs_number_is_in_the_database_while_it_waits(hub: Setting) -> None:
    spawner = await starting(hub)
    hub.app.db.expire_all()
    assert spawner.orm_spawner.state["job_id"] == "17"


async def test_progress_tells_the_wait_and_only_what_changed(hub: Setting) -> None:
    spawner = await starting(hub)
    said: list[str] = []

    async def listen() -> None:
        async for event in spawner.progress():
            said.append(event["message"])

    listener = asyncio.create_task(listen())
    await hub.until(lambda: any("place 1" in text for text in said))
    session = await session_of(hub)
    hub.queue.jobs = [job(17)]
    await hub.until(lambda: "Running on node01, starting the server" in said)
    token = session["env"]["JUPYTERHUB_API_TOKEN"]
    await hub.post("/batchspawner", {"port": hub.serve()}, token)
    await asyncio.wait_for(listener, 10)
    assert "Waiting: no cores or memory are free at the moment; place 1 in the queue" in said
    assert all(one != two for one, two in itertools.pairwise(said))


# --- the port's report --------------------------------------------------------------------------


NO_PORTS: list[Any] = [
    {"batch_query_cmd": "touch /tmp/owned"},
    {"port": 20001, "batch_query_cmd": "touch /tmp/owned"},
    {"port": "20001"}, {"port": True}, {"port": 20001.0}, {"port": 22}, {"port": 65536},
    {"port": -1}, {"port": None}, {}, [], 20001, "[" * 100_000, "{", "", b"\xff\xfe",
    '{"port": 20001' + " " * 500 + "}",
    '{"port": 1e999}', '{"port": ' + "9" * 200 + "}",
]  # fmt: skip


async def test_nothing_but_a_port_is_taken(hub: Setting) -> None:
    spawner = await starting(hub)
    before = {name: getattr(spawner, name) for name in ("batch_query_cmd", "port", "_port")}
    for body in NO_PORTS:
        answer = await hub.post("/batchspawner", body, spawner.api_token)
        assert answer.code == 400, body
        assert "N from 20000 to 65535" in message_of(answer)
        assert before == {name: getattr(spawner, name) for name in before}


async def test_batchspawners_own_handler_would_have_run_it(hub: Setting) -> None:
    """Why it is replaced: stock sets any attribute; and it is ours that answers."""
    import batchspawner.api

    from spawners.api import PortHandler

    handlers = [
        rule.target
        for rule in hub.app.tornado_application.default_router.rules[0].target.rules
        if rule.matcher.match(_Request("/hub/api/batchspawner")) is not None
    ]
    assert handlers[0] is PortHandler
    assert batchspawner.api.BatchSpawnerAPIHandler not in handlers

    class Stock:
        batch_query_cmd = "squeue"
        api_token = "t"

    stock = Stock()
    handler: Any = type("Handler", (), {})()
    handler.current_user = type("User", (), {"spawners": {"": stock}})()
    handler.get_auth_token = lambda: "t"
    handler.get_json_body = lambda: {"batch_query_cmd": "touch /tmp/owned"}
    handler.finish = handler.set_status = lambda *_: None
    handler.request = type("Request", (), {"method": "POST"})()
    batchspawner.api.BatchSpawnerAPIHandler.post(handler)
    assert stock.batch_query_cmd == "touch /tmp/owned"


class _Request:
    def __init__(self, path: str) -> None:
        self.path = path
        self.host_name = "127.0.0.1"
        self.headers: dict[str, str] = {}


async def test_a_port_is_taken_once_and_only_while_starting(hub: Setting) -> None:
    spawner = await starting(hub)
    assert (await hub.post("/batchspawner", {"port": 20001}, spawner.api_token)).code == 201
    again = await hub.post("/batchspawner", {"port": 20002}, spawner.api_token)
    assert again.code == 400 and "not waiting" in message_of(again)
    assert spawner._port == 20001


async def test_a_port_needs_the_sessions_own_token(hub: Setting) -> None:
    spawner = await starting(hub)
    assert (await hub.post("/batchspawner", {"port": 20001})).code == 403
    other = hub.user("other").new_api_token(scopes=["self"])
    assert (await hub.post("/batchspawner", {"port": 20001}, other)).code == 400
    own = hub.user().new_api_token(scopes=["self"])
    assert (await hub.post("/batchspawner", {"port": 20001}, own)).code == 400
    alike = hub.user().new_api_token(scopes=[f"access:servers!server={USER}/"])
    assert (await hub.post("/batchspawner", {"port": 20001}, alike)).code == 400
    assert spawner._port == 0


# --- the session's hand-over --------------------------------------------------------------------


async def test_a_session_is_handed_over_once(hub: Setting) -> None:
    await starting(hub)
    await session_of(hub)
    again = await hub.post("/practicum/session", await hub.message("session"))
    assert again.code == 409 and "already" in message_of(again)


async def test_a_credential_serves_once(hub: Setting) -> None:
    await starting(hub)
    credential = await hub.message("session", job_id=18)
    assert (await hub.post("/practicum/session", credential)).code == 404
    replay = await hub.post("/practicum/session", credential)
    assert replay.code == 403 and "used before" in message_of(replay)


async def test_anothers_job_is_not_to_be_had(hub: Setting) -> None:
    """Job 17 is root's; here another user has a spawner with a job that is not theirs."""
    spawner = await starting(hub)
    spawner.job_id = "18"
    try:
        stranger = await hub.post("/practicum/session", await hub.message("session"))
    finally:
        spawner.job_id = "17"
    assert stranger.code == 404 and "no session in job 17" in message_of(stranger)
    assert not spawner._given


async def test_another_uid_has_no_session(hub: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A credential made by another account: run munge as nobody."""
    spawner = await starting(hub)
    nobody = pwd.getpwnam("nobody").pw_uid
    payload = json.dumps({"op": "session", "job": 17, "nonce": "n" * 32})
    made = subprocess.run(  # noqa: ASYNC221 - a moment, and nothing else waits
        ["munge", "--socket", hub.socket, "--restrict-uid", str(os.getuid())],
        input=payload.encode(), capture_output=True, check=True, user=nobody,
    )  # fmt: skip
    answer = await hub.post("/practicum/session", made.stdout.strip())
    assert answer.code == 404
    assert not spawner._given


async def test_garbage_is_no_credential(hub: Setting) -> None:
    bodies = ["", "garbage", "MUNGE:AAAA:", b"\xff" * 40, "MUNGE:" + "A" * 4000 + ":"]
    for body in bodies:
        answer = await hub.post("/practicum/session", body)
        assert answer.code == 400, body
        assert "credential" in message_of(answer)


async def test_a_credential_that_others_could_open_is_refused(hub: Setting) -> None:
    payload = json.dumps({"op": "session", "job": 17, "nonce": "n" * 32})
    made = subprocess.run(  # noqa: ASYNC221 - a moment, and nothing else waits
        ["munge", "--socket", hub.socket], input=payload.encode(), capture_output=True, check=True
    )
    answer = await hub.post("/practicum/session", made.stdout.strip())
    assert answer.code == 403 and "others could open it" in message_of(answer)
    other = await hub.message("session", reader=65534)
    answer = await hub.post("/practicum/session", other)
    assert answer.code == 403 and "meant for another user" in message_of(answer)


NO_MESSAGES = [
    "no json", "[]", "{}", '{"op": "shell", "job": 17, "nonce": "nnnnnnnnnnnnnnnn"}',
    '{"op": "session", "job": "17", "nonce": "nnnnnnnnnnnnnnnn"}',
    '{"op": "session", "job": true, "nonce": "nnnnnnnnnnnnnnnn"}',
    '{"op": "session", "job": 17, "nonce": "short"}',
    '{"op": "session", "job": 17, "nonce": "nnnnnnnnnnnnnnnn", "job_id": 1}',
    '{"op": "failure", "job": 17, "nonce": "nnnnnnnnnnnnnnnn", "text": 5}',
]  # fmt: skip


async def test_a_credential_without_a_message(hub: Setting) -> None:
    for payload in NO_MESSAGES:
        credential = await hub.munge.close(payload, reader=os.getuid())
        answer = await hub.post("/practicum/session", credential)
        assert answer.code == 400, payload
        assert "message" in message_of(answer)


async def test_a_body_too_large_is_not_read(hub: Setting) -> None:
    answer = await hub.post("/practicum/session", "A" * 20_000)
    assert answer.code == 413


async def test_too_many_at_once_are_asked_to_come_again(hub: Setting) -> None:
    from spawners.api import Gate

    hub.app.tornado_application.settings["practicum_gate"] = Gate(at_once=1, in_line=-1)
    answer = await hub.post("/practicum/session", "MUNGE:AAAA:")
    assert answer.code == 503 and "try again" in message_of(answer)


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
