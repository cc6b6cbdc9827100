"""PracticumSpawner: one click becomes one Slurm job.

:func:`spawners.setup.configure` fills the hub's configuration; the traits are:

``cluster_file``        the public copy of cluster.toml (/etc/practicum/cluster.json)
``session_api_url``     http://LOGIN:8081/hub/api, as compute nodes reach it
``hub_connect_url``     http://LOGIN:8081, for the sessions' own calls (activity, OAuth)
``environment``         JupyterHub's own: what is set there goes into every session
``server_extensions``   the Jupyter server extensions that sessions load
``launcher``            /usr/local/lib/practicum/launcher.py
``server_env``          "" means ``storage.envs``/server of the cluster file
``sudo_path``, ``sbatch_path``, ``scancel_path``, ``munge_path``, ``unmunge_path``

``start_timeout`` includes the time in the queue. The token of a server must keep its own
``access:servers!server`` scope (JupyterHub's ``server`` role has it): the port report is
authorised by it.

What sudo has to allow the hub's user, as any student or instructor, and nothing else::

    /usr/bin/sbatch --parsable
    /usr/bin/scancel ^[0-9]+$

Nothing of batchspawner's own commands, templates or shell is used; of its classes we keep the
place in the hierarchy, so that wrapspawner and other tools know what this is.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import AsyncIterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

import batchspawner
from sqlalchemy import inspect
from traitlets import List, Unicode, default

from cluster.load import load_public
from cluster.model import Cluster, Kernel, NodeRole, Profile
from cluster.text import clean
from cluster.values import seconds
from spawners import api, form, handover, login, options, script, supply, words
from spawners.errors import SessionError
from spawners.options import Choice, OptionError
from spawners.places import JOB_ID, Place, Slurm
from spawners.waiting import Stage, progress_of, told, too_late
from spawners.watcher import IDLE, STARTING, Kind, View, Watcher

STOP_TIMEOUT = 20  # seconds
SPARE = 2  # seconds before JupyterHub's own limit, to say why


@lru_cache(maxsize=4)
def _cluster(path: str, _changed: int) -> Cluster:
    return load_public(Path(path))


class PracticumSpawner(batchspawner.SlurmSpawner):  # type: ignore[misc]
    """See the module's text."""

    cluster_file = Unicode("/etc/practicum/cluster.json", config=True)
    session_api_url = Unicode("", config=True)
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
    _choice: Choice | None = None
    _view = View(Kind.UNKNOWN)
    _submitted = 0.0  # on the watcher's clock
    _port = 0  # reported by the session
    _given = False  # the session has got its secrets
    _failure = ""  # the session's own words
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

    # --- what the cluster offers -----------------------------------------------------------

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

    def offered(self) -> tuple[Profile, ...]:
        """The profiles that this user may choose. SessionError without an account here."""
        try:
            groups = options.groups_of(self.user.name)
        except KeyError:
            raise SessionError(
                f"The account {self.user.name} does not exist on this cluster: "
                "ask the administrator to add it.",
                reason="account",
                status_code=403,
            ) from None
        return options.offered(self.cluster.profiles, groups)

    def kernels(self) -> list[Kernel]:
        """Those that this user sees."""
        groups = options.groups_of(self.user.name)
        known = self.cluster.kernels
        return [one for one in known if one.group is None or one.group in groups]

    # --- what a person chooses -------------------------------------------------------------

    async def get_options_form(self) -> str:
        """The profiles to choose from; one alone is no choice, and there is no form."""
        profiles = self.offered()
        if len(profiles) < 2:
            return ""
        state = await supply.shared(self.cluster)
        kernels = [(kernel.name, kernel.title) for kernel in self.kernels()]
        return form.form(profiles, self.user_options, state.sentences(profiles), kernels)

    def options_from_form(self, form_data: Mapping[str, Any]) -> dict[str, str]:
        try:
            return options.from_form(form_data)
        except OptionError as error:
            raise SessionError(str(error), reason="options", status_code=400) from None

    def apply_user_options(self, _spawner: Any, user_options: Mapping[str, Any]) -> None:
        """Form and REST alike end here. What was refused is not kept for the next time."""
        try:
            profiles = self.offered()  # says so where there is no account
            kernels = [kernel.name for kernel in self.kernels()]
            self._choice = options.choose(user_options, profiles, kernels)
        except OptionError as error:
            self._choice = None
            self.orm_spawner.user_options = {}
            self._commit()
            raise SessionError(str(error), reason="options", status_code=400) from None

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

    def get_state(self) -> dict[str, Any]:
        if not self.job_id:
            return {}
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

    # --- start -----------------------------------------------------------------------------

    async def start(self) -> tuple[str, int]:
        """Submit, wait for the job and for its server's port. SessionError tells what failed."""
        self._stage, self._failure, self._port, self._given = Stage.SUBMITTING, "", 0, False
        self._news.clear()
        self._awaiting = True
        try:
            async with asyncio.timeout(max(self.start_timeout - SPARE, 1)):
                await self._submit()
                return await self._session()
        except TimeoutError:
            raise SessionError(too_late(self._view, self.start_timeout), reason="timeout") from None
        finally:
            self._awaiting = False

    def render_script(self) -> str:
        """The job script for what was chosen. SessionError when a value cannot go into it."""
        choice = self._chosen()
        cluster = self.cluster
        account = pwd.getpwnam(self.user.name)  # offered() has made sure that it is there
        try:
            return script.render(
                script.Session(
                    user=self.user.name,
                    server=self.name,
                    home=account.pw_dir,
                    partition=choice.profile.partition,
                    cpus=choice.cpus,
                    memory_mb=choice.memory_mb,
                    time=choice.time,
                    server_env=self.server_env or f"{cluster.storage.envs}/server",
                    launcher=self.launcher,
                    hub_url=self.session_api_url or self.hub.api_url,
                    hub_uid=os.getuid(),
                    ports=cluster.hub.session_ports,
                    jupyter_path=f"{cluster.storage.envs}/jupyter",
                )
            )
        except ValueError as error:
            raise SessionError(f"No job can be made of this: {error}.") from None

    def _place(self) -> Place:
        """Where this session runs, or will by what was chosen."""
        local = login.NUMBER.fullmatch(self.job_id)
        if local is None and (self.job_id or not (self._choice and self._choice.profile.login)):
            return Slurm(self.sudo_path, self.sbatch_path, self.scancel_path)
        name = local[1] if local else self._chosen().profile.name
        limits = {item.name: item.time for item in self.cluster.profiles}
        return login.Login(
            node=self.cluster.first(NodeRole.LOGIN).name,
            profile=name,
            limit=seconds(limits[name]) if name in limits else None,
            sudo=self.sudo_path,
        )

    def _chosen(self) -> Choice:
        """What was chosen; after a restart of the hub that is in the database."""
        if self._choice is None:
            kernels = [kernel.name for kernel in self.cluster.kernels]
            try:
                self._choice = options.choose(self.user_options or {}, self.offered(), kernels)
            except OptionError:  # a profile that is no longer there
                self._choice = options.choose({}, self.offered())
        return self._choice

    async def _submit(self) -> None:
        text = "" if self._chosen().profile.login else self.render_script()
        submitting = asyncio.create_task(self._place().submit(self.user.name, text))
        try:
            number = await asyncio.shield(submitting)
        except asyncio.CancelledError:
            # Given up while sbatch is at work: its job must not be left behind unknown.
            with contextlib.suppress(SessionError):
                self._take_job(await submitting)
            raise
        self._take_job(number)
        self.log.info("%s has job %s", self._log_name, self.job_id)

    def _take_job(self, number: str) -> None:
        """Keep the session's number, in the database at once."""
        self.job_id = number
        self._submitted = self.watcher.now()
        self._stage = Stage.SUBMITTED
        self._persist()

    async def _session(self) -> tuple[str, int]:
        """Wait until the job runs and its server has reported. Returns address and port."""
        max_age = STARTING
        while True:
            self._news.clear()
            if self._failure:
                raise SessionError(f"Your session could not start: {self._failure.rstrip('.')}.")
            self._view = view = await self._look(max_age)
            if view.kind is Kind.GONE and not self._failure:
                why = words.ending(view.state, view.record)
                raise SessionError(f"Your session ended before it was ready: {why}.")
            if self._port and view.node:
                self._stage = Stage.READY
                return self.address_of(view.node), self._port
            max_age = await self._until_news()

    async def _until_news(self) -> float:
        """Wait for the session's word or the next look; how old that look may be then."""
        try:
            async with asyncio.timeout(STARTING):
                await self._news.wait()
        except TimeoutError:
            return STARTING
        return 0.0

    async def _look(self, max_age: float) -> View:
        if not self.job_id:
            return View(Kind.GONE)
        return await self._place().view(self.job_id, submitted=self._submitted, max_age=max_age)

    def address_of(self, node: str) -> str:
        """The node's address by the cluster file; a node that it does not know by its name."""
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

    async def hand_over(self) -> dict[str, Any] | None:
        """What a session needs, secrets included, once; None the second time."""
        if self._given or not self._awaiting:
            return None
        self._given = True
        if not self.api_token:
            self.api_token = handover.renew_token(self)
        self._stage = Stage.STARTING
        self._persist()
        self._news.set()
        return {
            "env": handover.session_env(self.get_env(), set(self.environment)),
            "args": [str(arg) for arg in [*self.get_args(), *options.arguments(self._chosen())]],
            "seconds": seconds(self._chosen().time),
            "extensions": list(self.server_extensions),
        }

    # --- afterwards ------------------------------------------------------------------------

    async def poll(self) -> int | None:
        """None while the job is ours or not known to be over; never forgets its number."""
        if not self.job_id:
            return 0
        view = await self._look(STARTING if self._awaiting else IDLE)
        self._view = view
        if view.kind is not Kind.GONE:
            return None
        self.log.info("%s: %s", self._log_name, words.ending(view.state, view.record))
        return view.record.exit_code if view.record and view.record.exit_code else 1

    async def get_url(self) -> str:
        """Where the server is, after a restart of the hub: wait for it if it is still to come.

        JupyterHub asks this of each session that runs or waits. When no answer can be had, the
        database's address is returned; nothing listens there, and JupyterHub cleans up.
        """
        known = str(self.server.url)
        if not self.job_id or self._port == self.server.port:
            return known
        self._awaiting = True
        try:
            async with asyncio.timeout(self.start_timeout):
                address, port = await self._session()
        except (SessionError, TimeoutError) as error:
            self.log.warning("%s is not coming: %s", self._log_name, error)
            return known
        finally:
            self._awaiting = False
        proto = "https" if self.internal_ssl else "http"
        host = f"[{address}]" if ":" in address else address
        return f"{proto}://{host}:{port}{self.server.base_url}"

    async def stop(self, now: bool = False) -> None:
        """Cancel the job; unless ``now``, wait a while until Slurm has ended it."""
        if not self.job_id:
            return
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
        return progress_of(self._stage, self._view, time.time())

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


api.install()  # whatever was imported meanwhile, our handlers are the ones
