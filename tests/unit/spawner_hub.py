"""A real JupyterHub in this process for the spawner's tests: real database, handlers, tokens and
HTTP; no proxy. Slurm's commands are stand-ins (the real ones are the lab's matter): ``sbatch``
keeps what it was given, the queue is what a test says it is. munge is real.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import jupyterhub
import pytest
from jupyterhub import roles
from jupyterhub.proxy import Proxy
from jupyterhub.utils import make_ssl_context, random_port
from tornado.httpclient import AsyncHTTPClient, HTTPResponse
from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler
from traitlets.config import Config

from cluster.load import public_json
from cluster.model import Cluster
from cluster.sacct import Record
from cluster.slurm import Job, SlurmError
from cluster.slurm_text import JobState
from hub import certificates, paths
from hub.app import PracticumHub
from spawners.munge import Munge
from spawners.watcher import Watcher

NEEDS = [
    pytest.mark.daemons,
    pytest.mark.skipif(os.getuid() != 0, reason="its sessions are root's"),
    pytest.mark.skipif(
        not (shutil.which("munged") or Path("/usr/sbin/munged").exists()),
        reason="munge is not installed (apt-get install munge)",
    ),
]

USER = "root"  # an account that every machine has, and that these tests run as

CLUSTER = {
    "cluster": {"name": "unit"},
    "network": {"subnet": "10.9.0.0/24"},
    "nodes": [
        {"name": "login", "address": "10.9.0.1", "roles": ["login", "controller", "database"]},
        {"name": "node01", "address": "127.0.0.1", "roles": ["compute"]},
    ],
    "partitions": [{"name": "notebook", "nodes": "ALL", "default": True}],
    "profiles": [
        {"name": "small", "title": "Small", "partition": "notebook", "cpus": 2,
         "memory_mb": 300, "time": "04:00:00"},
        {"name": "large", "title": "Large <b>", "partition": "notebook", "cpus": 4,
         "memory_mb": 2000, "time": "1-00:00:00", "groups": [USER]},
        {"name": "staff", "title": "Staff", "partition": "notebook", "groups": ["nobody-here"]},
    ],
    "hub": {"session_ports": [20000, 65535], "start_timeout": 20},
}  # fmt: skip


class NoProxy(Proxy):
    """Keeps routes in a dictionary."""

    should_start = False

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.routes: dict[str, Any] = {}

    async def add_route(self, routespec: str, target: str, data: Any) -> None:
        self.routes[routespec] = {"routespec": routespec, "target": target, "data": data}

    async def delete_route(self, routespec: str) -> None:
        self.routes.pop(routespec, None)

    async def get_all_routes(self) -> dict[str, Any]:
        return self.routes


class Hub(PracticumHub):
    def init_signal(self) -> None:
        pass

    def load_config_file(self, *_: Any, **__: Any) -> None:
        pass


def job(job_id: int, state: JobState = JobState.RUNNING, **changes: Any) -> Job:
    """A row of squeue."""
    values: dict[str, Any] = {
        "job_id": job_id, "name": "practicum-hub", "user": USER, "uid": 0, "account": "class",
        "state": state, "reason": "None", "partition": "notebook",
        "nodes": ("node01",) if state is JobState.RUNNING else (), "cpus": 1, "priority": 100,
        "submitted": 1, "started": None, "elapsed": 0, "time_limit": 3600, "comment": "",
    }  # fmt: skip
    return Job(**(values | changes))


def record(job_id: int, state: JobState, exit_code: int = 0, **changes: Any) -> Record:
    """A row of sacct."""
    values: dict[str, Any] = {
        "job_id": job_id, "step": "", "name": "practicum-hub", "user": USER, "account": "class",
        "partition": "notebook", "state": state, "cancelled_by": None, "exit_code": exit_code,
        "signal": 0, "submitted": 1, "started": 1, "ended": 2, "elapsed": 1, "cpu_time": 1,
        "cpus": 1, "nodes": ("node01",), "max_rss": None, "time_limit": 3600, "comment": "",
    }  # fmt: skip
    return Record(**(values | changes))


class Queue:
    """What Slurm says. ``None`` instead of rows: it does not answer."""

    def __init__(self) -> None:
        self.jobs: list[Job] | None = []
        self.records: list[Record] | None = []
        self.asked: list[str] = []

    async def __call__(self, query: Any) -> tuple[Any, ...]:
        program = query.argv[0]
        self.asked.append(program)
        await asyncio.sleep(0.01)
        rows = self.jobs if program == "squeue" else self.records
        if rows is None:
            raise SlurmError(f"{program} did not answer within 10 s")
        return tuple(rows)


SUDO = """#!/bin/sh
# stands for sudo: -n -u USER COMMAND...
printf "%s\\n" "$*" >> {folder}/sudo.log
env | sort > {folder}/env.log
shift 3
exec "$@"
"""
SBATCH = """#!/bin/sh
cat > {folder}/script
if [ -e {folder}/refuse ]; then cat {folder}/refuse >&2; exit 1; fi
echo 17
"""
SCANCEL = """#!/bin/sh
echo "$@" >> {folder}/scancel.log
touch {folder}/cancelled
"""


class Setting:
    """A hub, its queue, and what its commands left in ``folder``."""

    def __init__(self, folder: Path, socket: str, *, tls: bool = False) -> None:
        self.folder = folder
        self.tls = folder / "tls" if tls else None
        self.socket = socket
        self.queue = Queue()
        self.cluster = Cluster.model_validate(CLUSTER)
        self.app: Any = None
        self._server: HTTPServer | None = None
        self._session: HTTPServer | None = None
        for name, text in (("sudo", SUDO), ("sbatch", SBATCH), ("scancel", SCANCEL)):
            path = folder / name
            path.write_text(text.format(folder=folder))
            path.chmod(0o755)
        (folder / "cluster.json").write_text(public_json(self.cluster))
        if self.tls is not None:
            self.tls.mkdir()
            for name, text in certificates.make(self.tls, self.cluster).items():
                (self.tls / name).write_text(text)

    def config(self) -> Config:
        config = Config()
        hub = config.JupyterHub
        hub.db_url = f"sqlite:///{self.folder}/hub.sqlite"
        hub.cookie_secret = bytes(32)
        hub.hub_ip, hub.hub_port = "127.0.0.1", random_port()
        hub.bind_url = f"http://127.0.0.1:{random_port()}"
        hub.proxy_class = NoProxy
        hub.authenticator_class = "dummy"
        hub.spawner_class = "spawners.spawner.PracticumSpawner"
        hub.tornado_settings = {"practicum_munge": self.munge, "slow_spawn_timeout": 0}
        hub.pid_file = str(self.folder / "pid")
        hub.log_level = "DEBUG"
        hub.allow_named_servers = True
        hub.init_spawners_timeout = 1
        hub.redirect_to_server = False
        if self.tls is not None:
            hub.internal_ssl = True
            config.PracticumHub.tls_folder = config.PracticumSpawner.tls_folder = str(self.tls)
        config.DummyAuthenticator.allow_all = True
        own = config.PracticumSpawner
        own.cluster_file = str(self.folder / "cluster.json")
        own.sudo_path = str(self.folder / "sudo")
        own.sbatch_path = str(self.folder / "sbatch")
        own.scancel_path = str(self.folder / "scancel")
        own.environment = {"BASH_ENV": "/etc/profile.d/lmod.sh"}
        return config

    @property
    def munge(self) -> Munge:
        return Munge(socket=self.socket)

    async def start(self) -> None:
        """A new hub on the same database, as after a restart."""
        Watcher._shared, Watcher._loop = Watcher(self.queue), asyncio.get_running_loop()
        self.app = Hub.instance(config=self.config())
        await self.app.initialize([])
        self._server = HTTPServer(
            self.app.tornado_application,
            ssl_options=make_ssl_context(
                self.app.internal_ssl_key,
                self.app.internal_ssl_cert,
                cafile=self.app.internal_ssl_ca,
                purpose=ssl.Purpose.CLIENT_AUTH,
            ),
        )
        self._server.listen(self.app.hub.port, "127.0.0.1")

    def serve(self, secure: ssl.SSLContext | None = None) -> int:
        """A session's server, as far as the hub looks: it answers. Its port."""

        class Answer(RequestHandler):
            def get(self) -> None:
                self.set_header("X-JupyterHub-Version", jupyterhub.__version__)

        self._session = HTTPServer(Application([(".*", Answer)]), ssl_options=secure)
        with closing(socket.create_server(("127.0.0.1", 0))) as probe:
            port = int(probe.getsockname()[1])
        self._session.listen(port, "127.0.0.1")
        return port

    async def stop(self) -> None:
        if self._session is not None:
            self._session.stop()
        if self._server is not None:
            self._server.stop()
            await self._server.close_all_connections()
        self.app.db.close()
        self.app.db.get_bind().dispose()
        Hub.clear_instance()

    @property
    def api(self) -> str:
        scheme = "http" if self.tls is None else "https"
        return f"{scheme}://127.0.0.1:{self.app.hub.port}/hub/api"

    @property
    def proxy(self) -> dict[str, str]:
        """How the proxy calls the hub: it has a certificate, when there is TLS."""
        if self.tls is None:
            return {}
        pair = self.tls / paths.PROXY_PAIR
        return {"client_key": f"{pair}.key", "client_cert": f"{pair}.crt",
                "ca_certs": str(self.tls / paths.TRUST)}  # fmt: skip

    def user(self, name: str = USER) -> Any:
        from jupyterhub import orm

        found = orm.User.find(self.app.db, name)
        if found is None:
            found = orm.User(name=name)
            self.app.db.add(found)
            self.app.db.commit()
            roles.assign_default_roles(self.app.db, entity=found)
        return self.app.users[found]

    async def post(
        self, path: str, body: Any, token: str = "", headers: dict[str, str] | None = None
    ) -> HTTPResponse:
        data = body if isinstance(body, bytes | str) else json.dumps(body)
        given = {"Authorization": f"token {token}"} if token else {}
        return await AsyncHTTPClient().fetch(
            self.api + path,
            method="POST",
            body=data,
            headers={**given, **(headers or {})},
            raise_error=False,
            **self.proxy,
        )

    async def spawn(self, options: dict[str, Any] | None = None, name: str = USER) -> HTTPResponse:
        """Ask for a server as the REST API does, with the user's own token."""
        token = self.user(name).new_api_token(scopes=["self"])
        return await self.post(f"/users/{name}/server", options or {}, token)

    async def until(self, what: Any, limit: float = 10) -> None:
        end = time.monotonic() + limit
        while not what():
            assert time.monotonic() < end, f"still not so after {limit} s"
            await asyncio.sleep(0.02)

    async def message(
        self, op: str, job_id: int = 17, reader: int | None = None, **more: Any
    ) -> str:
        """A launcher's credential."""
        payload = {"op": op, "job": job_id, "nonce": "n" * 32, **more}
        return await self.munge.close(
            json.dumps(payload), reader=os.getuid() if reader is None else reader
        )


def start_munged(folder: Path) -> subprocess.Popen[bytes]:
    """A munge daemon of our own, with a key of its own."""
    program = shutil.which("munged") or "/usr/sbin/munged"
    key = folder / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    daemon = subprocess.Popen(
        [program, "--foreground", "--force", "--key-file", key, "--socket", folder / "socket",
         "--pid-file", folder / "pid", "--seed-file", folder / "seed",
         "--log-file", folder / "log"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 10
    while not (folder / "socket").exists():
        assert daemon.poll() is None and time.monotonic() < end, "munged does not start"
        time.sleep(0.02)
    return daemon


def message_of(answer: HTTPResponse) -> str:
    return str(json.loads(answer.body)["message"])


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
