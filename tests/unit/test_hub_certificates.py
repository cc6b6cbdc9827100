"""Certificates: who believes whom, when they are made again, and a session that has one."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import ssl
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hub_sample import sample
from spawner_hub import USER, Setting, job, munge_socket  # noqa: F401 - a fixture
from tornado.httpclient import AsyncHTTPClient

from cluster.slurm_text import JobState
from hub import certificates, paths
from spawners.certificates import HUB_CA, SESSIONS_CA, Authority, for_session
from spawners.launch import tls

pytestmark = pytest.mark.daemons

NODE = "10.80.0.11"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("tls")
    write(made, dict(certificates.make(made, sample())))
    for name, address in (("ada", NODE), ("ben", NODE), ("cleo", "10.80.0.12")):
        pieces = for_session(str(made), name, address, 3600)
        write(made, {f"{name}.key": pieces["key"], f"{name}.crt": pieces["certificate"]})
    return made


def write(place: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (place / name).write_text(text)


def trust(name: str) -> str:
    """The file that holds whom that one believes."""
    return paths.TRUST if name in (paths.HUB_PAIR, paths.PROXY_PAIR) else f"{HUB_CA}.crt"


def side(folder: Path, name: str, purpose: ssl.Purpose) -> ssl.SSLContext:
    found = ssl.create_default_context(purpose, cafile=str(folder / trust(name)))
    found.verify_mode = ssl.CERT_REQUIRED
    found.verify_flags |= ssl.VERIFY_X509_STRICT  # Python 3.13's own choice
    found.load_cert_chain(folder / f"{name}.crt", folder / f"{name}.key")
    return found


def talk(folder: Path, client: str, server: str, address: str) -> None:
    """A whole handshake, in memory; SSLError says who does not believe whom."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    calling = side(folder, client, ssl.Purpose.SERVER_AUTH)
    called = side(folder, server, ssl.Purpose.CLIENT_AUTH)
    ends = [
        calling.wrap_bio(to_client, to_server, server_hostname=address),
        called.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
                end.read(1)  # TLS 1.3 tells a client only then that it is refused
            except ssl.SSLWantReadError:
                continue


BELIEVED = [
    ("hub", "ada", NODE),
    ("proxy", "ada", NODE),
    ("proxy", "hub", "10.80.0.10"),
    ("hub", "proxy", "127.0.0.1"),
    ("ada", "hub", "10.80.0.10"),
]
REFUSED = [
    ("ben", "ada", NODE, "a session calls another's server"),
    ("ada", "ben", NODE, "a session is taken for a machine"),
    ("ada", "ben", "10.80.0.10", "a session in the hub's place"),
    ("proxy", "ada", "10.80.0.10", "a session in the hub's place, called by the proxy"),
    ("proxy", "cleo", NODE, "a session of another node"),
]


@pytest.mark.parametrize(("client", "server", "address"), BELIEVED)
def test_those_who_have_to_talk_do(folder: Path, client: str, server: str, address: str) -> None:
    talk(folder, client, server, address)


@pytest.mark.parametrize(("client", "server", "address", "why"), REFUSED)
def test_nobody_else_is_believed(
    folder: Path, client: str, server: str, address: str, why: str
) -> None:
    with pytest.raises(ssl.SSLError):
        talk(folder, client, server, address)


def test_authorities_stay_and_names_follow(tmp_path: Path) -> None:
    """A new address of the login node ends no session."""
    write(tmp_path, dict(certificates.make(tmp_path, sample())))
    before = {path.name: path.read_text() for path in tmp_path.iterdir()}
    changed = dict(certificates.make(tmp_path, sample()))
    assert set(changed) == set(before)
    same = {name for name, text in changed.items() if before[name] == text}
    authorities = itertools.product((HUB_CA, SESSIONS_CA), ("key", "crt"))
    assert same == {paths.TRUST, *(f"{name}.{kind}" for name, kind in authorities)}
    assert list(changed)[-1] == "hub.crt"  # what is looked for comes last


@pytest.mark.parametrize("broken", ["near its end", "cut off", "missing"])
def test_an_authority_that_is_no_good_is_made_again(tmp_path: Path, broken: str) -> None:
    write(tmp_path, dict(certificates.make(tmp_path, sample())))
    path = tmp_path / f"{SESSIONS_CA}.crt"
    before = path.read_text()
    if broken == "near its end":
        old = Authority.new("old", timedelta(days=30)).pair
        write(tmp_path, {f"{SESSIONS_CA}.key": old.key, f"{SESSIONS_CA}.crt": old.certificate})
        before = old.certificate
    elif broken == "cut off":
        path.write_text(before[:100])
    else:
        path.unlink()
    assert certificates.make(tmp_path, sample())[f"{SESSIONS_CA}.crt"] != before


def test_the_sessions_certificate_is_on_no_disk(folder: Path) -> None:
    assert tls.keep({}) == {} and tls.context({}) is None
    env = tls.keep(for_session(str(folder), "ada", NODE, 3600))
    assert all(path.startswith("/proc/") for path in env.values())
    assert "memfd" in os.readlink(env["JUPYTERHUB_SSL_KEYFILE"])
    for _ in range(2):  # JupyterHub reads them at each call
        assert tls.context(env) is not None


# --- in a real hub ------------------------------------------------------------------------------

needs_munge = pytest.mark.skipif(
    os.getuid() != 0 or not (shutil.which("munged") or Path("/usr/sbin/munged").exists()),
    reason="needs root and munge (apt-get install munge)",
)


@pytest.fixture
async def hub(
    tmp_path: Path,
    munge_socket: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Setting]:
    for module in ("spawner", "running"):
        monkeypatch.setattr(f"spawners.{module}.STARTING", 0.3)
    setting = Setting(tmp_path, munge_socket, tls=True)
    await setting.start()
    yield setting
    setting.queue.jobs = []
    await setting.stop()


@needs_munge
async def test_a_hub_that_restarts_calls_a_waiting_session_by_tls(hub: Setting) -> None:
    """JupyterHub takes over the address and port of a session that it finds again, no more."""
    hub.queue.jobs = [job(17)]
    assert (await hub.spawn({"profile": "small"})).code == 202
    spawner = hub.user().spawners[""]
    await hub.until(lambda: spawner.job_id and spawner.server is not None)
    spawner.report_port(20001)
    assert spawner.orm_spawner.server.proto == "http"  # until its start is finished
    spawner.server.port = 1
    assert await spawner.get_url() == f"https://127.0.0.1:20001/user/{USER}/"
    assert spawner.orm_spawner.server.proto == "https"
    spawner.report_failure("the test is over")


@needs_munge
async def test_a_session_with_tls(hub: Setting) -> None:
    """Its certificate is for the node that Slurm says, and comes as soon as Slurm says it."""
    hub.queue.jobs = [job(17, JobState.PENDING, reason="Resources")]
    assert (await hub.spawn({"profile": "small"})).code == 202
    spawner = hub.user().spawners[""]
    await hub.until(lambda: spawner.job_id)
    early = await hub.post("/practicum/session", await hub.message("session"))
    assert early.code == 503 and "on which node" in json.loads(early.body)["message"]
    hub.queue.jobs = [job(17)]
    answer = await hub.post("/practicum/session", await hub.message("session"))
    assert answer.code == 200, answer.body
    session: dict[str, Any] = json.loads((await hub.munge.open(answer.body.decode())).payload)
    env = {**session["env"], **tls.keep(session["tls"])}
    assert env["JUPYTERHUB_API_URL"].startswith("https://")
    own = ssl.create_default_context(
        ssl.Purpose.CLIENT_AUTH, cafile=env["JUPYTERHUB_SSL_CLIENT_CA"]
    )
    own.verify_mode = ssl.CERT_REQUIRED
    own.load_cert_chain(env["JUPYTERHUB_SSL_CERTFILE"], env["JUPYTERHUB_SSL_KEYFILE"])
    port = hub.serve(own)
    report = await AsyncHTTPClient().fetch(
        f"{hub.api}/batchspawner", method="POST", body=json.dumps({"port": port}),
        headers={"Authorization": f"token {env['JUPYTERHUB_API_TOKEN']}"}, ssl_options=tls.context(env),
    )  # fmt: skip
    assert report.code == 201
    await hub.until(lambda: spawner.ready)
    assert spawner.server.url == f"https://127.0.0.1:{port}/user/{USER}/"

    with pytest.raises((ssl.SSLError, OSError)):  # a browser, a student's script
        await AsyncHTTPClient().fetch(f"{hub.api}/", validate_cert=False)
    with pytest.raises((ssl.SSLError, OSError)):
        await AsyncHTTPClient().fetch(f"https://127.0.0.1:{port}/", validate_cert=False)
