"""PracticumSpawner: one click becomes one Slurm job.

:func:`spawners.setup.configure` fills the hub's configuration; the traits are:

``cluster_file``        the public copy of cluster.toml (/etc/practicum/cluster.json)
``session_api_url``     http://LOGIN:8081/hub/api, as compute nodes reach it
``hub_connect_url``     http://LOGIN:8081, for the sessions' own calls (activity, OAuth)
``environment``         JupyterHub's own: what is set there goes into every session
``server_extensions``   the Jupyter server extensions that sessions load
``tls_folder``          with ``internal_ssl``: the folder of hub.certificates
``launcher``            /usr/local/lib/practicum/launcher.py
``server_env``          "" means ``storage.envs``/server of the cluster file
``sudo_path``, ``sbatch_path``, ``scancel_path``

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
from collections.abc import Mapping
from typing import Any

from cluster.courses import Course
from cluster.model import Kernel, NodeRole, Profile
from cluster.values import seconds
from spawners import (
    api,
    certificates,
    form,
    handover,
    limits,
    login,
    modules,
    options,
    script,
    supply,
    words,
)
from spawners.errors import NotYetError, SessionError
from spawners.options import Choice, OptionError
from spawners.places import Place, Slurm
from spawners.running import RunningSession
from spawners.waiting import Stage, too_late
from spawners.watcher import STARTING, Kind, View

SPARE = 2  # seconds before JupyterHub's own limit, to say why


class PracticumSpawner(RunningSession):
    """See the module's text."""

    _choice: Choice | None = None

    # --- what a person chooses -------------------------------------------------------------

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
        return options.offered(self.cluster.profiles, groups, self._courses())

    def _courses(self) -> tuple[Course, ...]:
        mine = self.cluster.courses_of(self.user.name)
        return tuple(course for course in mine if course.state == "open")

    def _arguments(self) -> tuple[str, ...]:
        usual = options.usual_kernel([one.name for one in self.kernels()], self._courses())
        return options.arguments(self._chosen(), usual)

    def kernels(self) -> list[Kernel]:
        """Those that this user sees."""
        groups = options.groups_of(self.user.name)
        known = self.cluster.kernels
        return [one for one in known if one.group is None or one.group in groups]

    async def get_options_form(self) -> str:
        """The profiles to choose from; one alone is no choice, and there is no form."""
        profiles = self.offered()
        if len(profiles) < 2:
            return ""
        cluster = self.cluster
        state = await supply.shared(cluster)
        return form.form(
            profiles,
            self.user_options,
            state.sentences(profiles),
            [(kernel.name, kernel.title) for kernel in self.kernels()],
            await modules.shared(cluster),
            limits.offer(cluster),
        )

    def options_from_form(self, form_data: Mapping[str, Any]) -> dict[str, Any]:
        try:
            return options.from_form(form_data)
        except OptionError as error:
            raise SessionError(str(error), reason="options", status_code=400) from None

    async def apply_user_options(self, _spawner: Any, user_options: Mapping[str, Any]) -> None:
        """Form and REST alike end here. What was refused is not kept for the next time, and a
        start without a word takes what is left of the last choice."""
        judge = options.choose if self._was_told() else options.recall
        try:
            known = await modules.shared(self.cluster)
            profiles = self.offered()  # says so where there is no account
            kernels = [kernel.name for kernel in self.kernels()]
            self._choice = judge(user_options, profiles, kernels, known)
        except OptionError as error:
            self._choice = None
            self.orm_spawner.user_options = {}
            self._commit()
            raise SessionError(str(error), reason="options", status_code=400) from None

    def _was_told(self) -> bool:
        """Whether this start's request chose anything; if not, its options are the last start's."""
        request = getattr(self.handler, "request", None)
        if request is None:
            return True
        if request.method == "GET":
            return bool(set(request.query_arguments) - {"_xsrf", "next", "display_name"})
        return options.is_told(request.body)

    # --- start -----------------------------------------------------------------------------

    async def start(self) -> tuple[str, int]:
        """Submit, wait for the job and for its server's port. SessionError tells what failed."""
        self._stage, self._failure, self._port, self._given = Stage.SUBMITTING, "", 0, False
        self._ended, self._stopping, self._view = "", False, View(Kind.UNKNOWN)
        self._news.clear()
        self._awaiting = True
        try:
            async with asyncio.timeout(max(self.start_timeout - SPARE, 1)):
                await self._submit()
                return await self._session()
        except TimeoutError:
            said = too_late(self._view, self.start_timeout, self._qos())
            raise SessionError(said, reason="timeout") from None
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
            return Slurm(self.sudo_path, self.sbatch_path, self.scancel_path, self._plainly)
        name = local[1] if local else self._chosen().profile.name
        limits = {item.name: item.time for item in self.cluster.profiles}
        return login.Login(
            node=self.cluster.first(NodeRole.LOGIN).name,
            profile=name,
            limit=seconds(limits[name]) if name in limits else None,
            sudo=self.sudo_path,
        )

    def _plainly(self, said: str) -> str:
        """sbatch's reason, where it is about what this person may have."""
        return limits.refusal(said, self.cluster, self._chosen().profile.partition)

    def _chosen(self) -> Choice:
        """What was chosen; after a restart of the hub that is in the database."""
        if self._choice is None:
            kernels = [kernel.name for kernel in self.kernels()]
            stored = self.user_options or {}
            # of modules as they were checked then: their folder may be away now
            named = modules.plain(stored.get("modules"))
            self._choice = options.recall(stored, self.offered(), kernels, named)
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
            if not (self._port and self._view.node):  # else all is known without a question
                self._view = await self._look(max_age)
            view = self._view
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
        return STARTING if self._view.node else 0.0

    async def hand_over(self) -> dict[str, Any] | None:
        """What a session needs, secrets included, once; None the second time."""
        if self._given or not self._awaiting:
            return None
        tls = await self._tls()
        if self._given:  # asked twice at once
            return None
        self._given = True
        if not self.api_token:
            self.api_token = handover.renew_token(self)
        self._stage = Stage.STARTING
        self._persist()
        self._news.set()
        return {
            "env": handover.session_env(self.get_env(), set(self.environment)),
            "args": [str(arg) for arg in [*self.get_args(), *self._arguments()]],
            "seconds": seconds(self._chosen().time),
            "modules": list(self._chosen().modules),
            "extensions": [
                *self.server_extensions,
                *handover.course_extensions(self.cluster, self.user.name),
            ],
            "tls": tls,
        }

    async def create_certs(self) -> dict[str, str]:
        """None at a start: where the session will run is known when it asks for its secrets."""
        return {}

    async def _tls(self) -> dict[str, str]:
        """A certificate for the node's address and the session's time, with its key; {} without
        TLS. NotYetError while Slurm does not say which node that is."""
        if not self.internal_ssl:
            return {}
        if not self._view.node:
            self._view = await self._look(0)
        view = self._view
        if not view.node:
            raise NotYetError("Slurm does not say yet on which node this session runs.")
        address, limit = self.address_of(view.node), seconds(self._chosen().time)
        try:
            return certificates.for_session(self.tls_folder, self._log_name, address, limit)
        except (OSError, ValueError) as error:
            raise SessionError(f"The hub has no certificate for it: {error}.") from None

    # --- afterwards ------------------------------------------------------------------------

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
        self.server.proto = proto  # JupyterHub 6.1 takes over the address and the port only
        host = f"[{address}]" if ":" in address else address
        return f"{proto}://{host}:{port}{self.server.base_url}"


api.install()  # whatever was imported meanwhile, our handlers are the ones
