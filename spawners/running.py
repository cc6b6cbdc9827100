"""A session that has a number: how it is, what it says, what the hub keeps of it, its end.

:class:`spawners.spawner.PracticumSpawner` makes the session; its settings are described there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import batchspawner
from sqlalchemy import inspect
from traitlets import List, Unicode, default

from cluster.load import load_public
from cluster.model import Cluster, NodeRole
from cluster.scheduling import Qos
from cluster.text import clean
from spawners import handover, limits, login, words
from spawners.errors import SessionError
from spawners.places import JOB_ID, Place
from spawners.waiting import Stage, progress_of, told
from spawners.watcher import IDLE, STARTING, Kind, View, Watcher

STOP_TIMEOUT = 20  # seconds
# Sessions on the hub's own machine are called by an address that nothing else there goes by, so
# their certificates are not good for the hub's ports, whoever listens there while it is away.
HERE = "127.0.0.2"


@lru_cache(maxsize=4)
def _cluster(path: str, _changed: int) -> Cluster:
    return load_public(Path(path))


class RunningSession(batchspawner.SlurmSpawner):  # type: ignore[misc]
    """See the module's text."""

    cluster_file = Unicode("/etc/practicum/cluster.json", config=True)
    session_api_url = Unicode("", config=True)
    tls_folder = Unicode("", config=True)
    launcher = Unicode("/usr/local/lib/practicum/launcher.py", config=True)
    server_env = Unicode("", config=True)
    server_extensions = List(
        Unicode(), ["jupyterlab", "jupyter_server_terminals", "jupyterlmod"], config=True
    )
    sudo_path = Unicode("/usr/bin/sudo", config=True)
    sbatch_path = Unicode("/usr/bin/sbatch", config=True)
    scancel_path = Unicode("/usr/bin/scancel", config=True)
    # Nothing of the hub's environment goes into a session by itself.
    env_keep = List(Unicode(), [], config=True)

    api_token: str  # JupyterHub's trait
    _view = View(Kind.UNKNOWN)
    _submitted = 0.0  # on the watcher's clock
    _port = 0  # reported by the session
    _given = False  # the session has got its secrets
    _failure = ""  # the session's own words
    _ended = ""  # why the session before ended by itself, for the pages
    _stopping = False  # its owner, or the hub, wants it stopped
    _awaiting = False  # between sbatch and the report of the port
    _stage = Stage.SUBMITTING

    @default("start_timeout")
    def _default_start_timeout(self) -> int:
        return self.cluster.hub.start_timeout

    @default("http_timeout")
    def _default_http_timeout(self) -> int:
        return 60  # a Pi takes its time between listening and answering

    @default("poll_interval")
    def _default_poll_interval(self) -> int:
        return int(IDLE)

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._news = asyncio.Event()

    def _place(self) -> Place:
        """Where this session runs, or will by what was chosen."""
        raise NotImplementedError

    @property
    def cluster(self) -> Cluster:
        """The public cluster file, read again when it has changed."""
        changed = Path(self.cluster_file).stat().st_mtime_ns
        return _cluster(self.cluster_file, changed)

    @property
    def ports(self) -> tuple[int, int]:
        return self.cluster.hub.session_ports

    @property
    def watcher(self) -> Watcher:
        return Watcher.shared()

    # --- state that outlives the hub -------------------------------------------------------

    def load_state(self, state: Mapping[str, Any]) -> None:
        super().load_state(state)
        job_id = state.get("job_id", "")
        known = isinstance(job_id, str) and (
            JOB_ID.fullmatch(job_id) or login.NUMBER.fullmatch(job_id)
        )
        self.job_id = job_id if known else ""
        self.job_status = ""
        self._port = int(state.get("session_port", 0))
        self._given = bool(state.get("session_given", False))
        self._ended = clean(str(state.get("ended", "")))

    def get_state(self) -> dict[str, Any]:
        if not self.job_id:
            return {"ended": self._ended} if self._ended else {}
        return {
            "job_id": self.job_id,
            "session_port": self._port,
            "session_given": self._given,
        }

    def clear_state(self) -> None:
        super().clear_state()
        self._port, self._given, self._failure = 0, False, ""
        self._submitted, self._view = 0.0, View(Kind.UNKNOWN)

    def _persist(self) -> None:
        self.orm_spawner.state = self.get_state()
        self._commit()

    def _commit(self) -> None:
        session = inspect(self.orm_spawner).session
        if session is not None:
            session.commit()

    async def _look(self, max_age: float) -> View:
        if not self.job_id:
            return View(Kind.GONE)
        return await self._place().view(self.job_id, submitted=self._submitted, max_age=max_age)

    def address_of(self, node: str) -> str:
        """The node's address by the cluster file; a node that it does not know by its name."""
        if node == self.cluster.first(NodeRole.LOGIN).name:
            return HERE
        try:
            return self.cluster.node(node).address
        except KeyError:
            return node

    # --- what the session says (called by spawners.api) ------------------------------------

    def report_port(self, port: int) -> bool:
        """The session's server listens. False when nobody waits for that."""
        if not self._awaiting or not self.job_id or self._port:
            return False
        self._port = port
        self._persist()
        self._news.set()
        return True

    def report_failure(self, text: str) -> None:
        """The session's own reason, kept while the hub waits for it."""
        if self._awaiting:
            self._failure = clean(text) or "it gave no reason"
            self.log.error("%s, job %s: %s", self._log_name, self.job_id, self._failure)
            self._news.set()

    def is_job(self, number: int) -> bool:
        """Whether that is this session's number, as its launcher says it: 0 on the login node."""
        if number == 0:
            return login.NUMBER.fullmatch(self.job_id) is not None
        return self.job_id == str(number)

    def owns_token(self, secret: str, token: Any) -> bool:
        """Whether the token was made for this server's present session."""
        return handover.owns_token(self.api_token, secret or "", token.note or "")

    # --- how it is, and its end ------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the job is ours or not known to be over; never forgets its number."""
        if not self.job_id:
            return 0
        view = await self._look(STARTING if self._awaiting else IDLE)
        self._view = view
        if view.kind is Kind.WAITING and self._port and not self._awaiting:
            # Slurm has put a job that ran back into the queue: what ran in it is lost.
            self.tell_end("Slurm put its job back into the queue")
            with contextlib.suppress(SessionError):
                await self._place().cancel(self.user.name, self.job_id)
            return 1
        if view.kind is not Kind.GONE:
            return None
        self.tell_end(words.ending(view.state, view.record))
        with contextlib.suppress(SessionError):
            await self._place().forget(self.job_id)
        return view.record.exit_code if view.record and view.record.exit_code else 1

    def tell_end(self, why: str) -> None:
        """Why the session ends that nobody asked to stop, kept for the pages; the first reason
        is the one."""
        if not self._ended and not self._stopping:
            self.log.info("%s: %s", self._log_name, why)
            self._ended = f"Your last session ended: {why}." if self._port else ""

    @property
    def last_end(self) -> str:
        """Why the session before ended by itself, in a sentence; "" if it was stopped."""
        return self._ended

    async def stop(self, now: bool = False) -> None:
        """Cancel the job; unless ``now``, wait a while until Slurm has ended it."""
        if not self.job_id:
            return
        self._stopping = True
        await self._place().cancel(self.user.name, self.job_id)
        if now:
            return
        limit = self.watcher.now() + STOP_TIMEOUT
        while self.watcher.now() < limit:
            if (await self._look(0)).kind is Kind.GONE:
                return
            await asyncio.sleep(0.5)
        self.log.warning("%s: job %s does not end", self._log_name, self.job_id)

    def describe(self) -> str:
        """Where this session runs and until when, for the hub's home page; "" if not known."""
        return told(self._view, time.time())

    # --- the wait, told --------------------------------------------------------------------

    def progress_now(self) -> tuple[int, str]:
        """How far (percent) and in words."""
        return progress_of(self._stage, self._view, time.time(), self._qos())

    def _qos(self) -> Qos | None:
        """Whose limits hold for the job that waits."""
        job = self._view.job
        return limits.qos_of(self.cluster, job.partition) if job else None

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Events for JupyterHub's page, each when something changes."""
        said: tuple[int, str] | None = None
        while True:
            now = self.progress_now()
            if now != said:
                said = now
                yield {"progress": now[0], "message": now[1]}
            if self._stage is Stage.READY:
                return
            await asyncio.sleep(0.2)

    # --- batchspawner's shell is out of use ------------------------------------------------

    async def run_command(self, *_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError("no command is run by a shell")

    def cmd_formatted_for_batch(self) -> NoReturn:
        raise NotImplementedError("the job script is made by spawners.script")
