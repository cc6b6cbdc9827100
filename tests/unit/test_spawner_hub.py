"""The spawner in a real JupyterHub: a click becomes a session, and what a session may say."""

# ruff: noqa: F811
from __future__ import annotations

import asyncio
import itertools
import json
import os
import pwd
import subprocess
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

pytestmark = NEEDS


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
