"""What a session may tell the hub, and nothing more.

``POST /hub/api/batchspawner``, with the session's token: exactly ``{"port": N}``, while the hub
waits for it. Batchspawner's own handler of this address sets any attribute of the spawner that
the caller names (``batch_query_cmd``: the hub then runs it), so it is taken out of JupyterHub's
list when this module is imported, and ours is put there.

``POST /hub/api/practicum/session``, without any token: a munge credential that only the hub's
user can open. It says on the cluster's key whose process speaks; the payload is JSON::

    {"op": "session", "job": 17, "nonce": "..."}   -> a credential that only that user can open:
        {"nonce": "...", "env": {...}, "args": [...], "extensions": [...]}
    {"op": "failure", "job": 17, "nonce": "...", "text": "..."}   -> {}

A session on the login node is in no job, and says 0.

A session's secrets are handed over once. So the job's environment, script and files hold none.
"""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import batchspawner.api
from jupyterhub import apihandlers
from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from cluster.errors import PracticumError
from cluster.text import clean
from spawners.errors import NotYetError, SessionError
from spawners.munge import Munge, MungeError, Opened

MAX_REPORT = 256  # bytes of a port report
MAX_CREDENTIAL = 16 * 1024  # bytes; a real one has about 400
AT_ONCE = 8  # unmunge processes at a time
IN_LINE = 200  # requests that wait for one of them; more are asked to come again
MAX_JOB_ID = 2**32 - 1
NONCE = re.compile(r"[A-Za-z0-9]{16,128}")


@dataclass(frozen=True)
class Message:
    """A session's words, checked. ``text`` is cleaned, and only for a failure."""

    op: str
    job: int
    nonce: str
    text: str = ""


def read_message(payload: str) -> Message:
    """A credential's payload. ValueError says in what it is not a message."""
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError):
        raise ValueError("the message is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("the message is not a JSON object")  # noqa: TRY004 - a value to them
    op, job, nonce = data.get("op"), data.get("job"), data.get("nonce")
    if op not in ("session", "failure"):
        raise ValueError("op must be session or failure")
    if type(job) is not int or not 0 <= job <= MAX_JOB_ID:
        raise ValueError("job must be a job's number")
    if (
        not isinstance(nonce, str)
        or not 16 <= len(nonce) <= 128
        or not (nonce.isascii() and nonce.isalnum())
    ):
        raise ValueError("nonce must be 16 to 128 letters and digits")
    expected = {"op", "job", "nonce"} | ({"text"} if op == "failure" else set())
    if set(data) != expected:
        raise ValueError(f"a message of this kind has exactly {', '.join(sorted(expected))}")
    text = data.get("text", "")
    if not isinstance(text, str):
        raise ValueError("text must be text")  # noqa: TRY004
    return Message(op, job, nonce, clean(text))


def read_port(body: bytes, ports: tuple[int, int]) -> int:
    """A port report's body: exactly ``{"port": N}`` with N in the range. ValueError otherwise."""
    wanted = f'send exactly {{"port": N}}, N from {ports[0]} to {ports[1]}'
    if len(body) > MAX_REPORT:
        raise ValueError(f"the report is too long: {wanted}")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError(f"the report is not JSON: {wanted}") from None
    if not isinstance(data, dict) or set(data) != {"port"}:
        raise ValueError(f"a session may report its port and nothing else: {wanted}")
    port = data["port"]
    if type(port) is not int or not ports[0] <= port <= ports[1]:
        raise ValueError(f"the port must be a whole number in the range: {wanted}")
    return port


class PortHandler(APIHandler):  # type: ignore[misc]
    """A session reports the port that its server listens on."""

    async def post(self) -> None:
        token = self.get_token()
        if token is None or token.user is None:
            raise web.HTTPError(403, "A session's own token is needed.")
        spawner = self._spawner(token)
        if spawner is None:
            raise web.HTTPError(400, "This token belongs to no session that is starting.")
        try:
            port = read_port(self.request.body, spawner.ports)
        except ValueError as error:
            raise web.HTTPError(400, str(error)) from None
        if not spawner.report_port(port):
            raise web.HTTPError(400, "The hub is not waiting for a port of this session.")
        self.set_status(201)
        self.finish(json.dumps({"port": port}))

    def _spawner(self, token: Any) -> Any:
        """The spawner whose server the token was made for: its own server scope says which."""
        user = self.find_user(token.user.name)
        prefix = f"access:servers!server={token.user.name}/"
        own = [scope.removeprefix(prefix) for scope in token.scopes if scope.startswith(prefix)]
        for name in own:
            # `in` first: JupyterHub's dictionary makes what is asked for
            if name in user.spawners and hasattr(user.spawners[name], "report_port"):
                spawner = user.spawners[name]
                secret = self.get_auth_token()
                if spawner.owns_token(secret, token):
                    return spawner
        return None


class Gate:
    """Lets ``at_once`` through at a time and ``in_line`` wait; more are turned away."""

    def __init__(self, at_once: int = AT_ONCE, in_line: int = IN_LINE) -> None:
        self._free = asyncio.Semaphore(at_once)
        self._room = at_once + in_line

    async def __aenter__(self) -> None:
        if self._room <= 0:
            raise web.HTTPError(503, "Too many sessions start at once; try again in a moment.")
        self._room -= 1
        try:
            await self._free.acquire()
        except BaseException:
            self._room += 1
            raise

    async def __aexit__(self, *_: object) -> None:
        self._free.release()
        self._room += 1


@web.stream_request_body
class SessionHandler(APIHandler):  # type: ignore[misc]
    """A launcher asks for its session, or says why it cannot start it.

    The body is streamed only so that its size can be limited before it is in memory.
    """

    async def prepare(self) -> None:
        """Instead of JupyterHub's: there is no user, cookie or token to find. munge tells."""
        self._jupyterhub_user = None
        self.expanded_scopes: set[str] = set()
        self.body = bytearray()
        self.request.connection.set_max_body_size(MAX_CREDENTIAL)
        length = self.request.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > MAX_CREDENTIAL:
            raise web.HTTPError(413, f"A credential has at most {MAX_CREDENTIAL} bytes.")

    def data_received(self, chunk: bytes) -> None:
        self.body += chunk

    def check_xsrf_cookie(self) -> None:
        """A page of another site cannot make a munge credential, so there is nothing to check."""

    def get_current_user(self) -> None:
        return None

    @property
    def munge(self) -> Munge:
        return self.settings.get("practicum_munge") or Munge()

    async def post(self) -> None:
        gate: Gate = self.settings.setdefault("practicum_gate", Gate())
        async with gate:
            opened = await self._opened()
            try:
                message = read_message(opened.payload)
            except ValueError as error:
                raise web.HTTPError(400, f"The credential's message is not one: {error}.") from None
            spawner = self._spawner(opened.uid, message.job)
            if message.op == "failure":
                spawner.report_failure(message.text)
                self.finish(json.dumps({}))
            else:
                self.set_header("Content-Type", "text/plain")
                self.finish(await self._session(spawner, opened, message))

    async def _opened(self) -> Opened:
        """The body's credential, believed only if it was made for this hub alone."""
        try:
            text = self.body.decode("ascii")
        except UnicodeDecodeError:
            raise web.HTTPError(400, "The body is not a munge credential.") from None
        try:
            opened = await self.munge.open(text)
        except MungeError as error:
            # Not a word of the body: whatever was sent may be a secret sent by mistake.
            self.log.warning("A session's credential was refused: %s", error)
            if error.status >= 15:  # ours in form, but expired, replayed or another's
                status = 403
            else:
                status = 400 if error.status == 3 or error.status >= 8 else 503
            raise web.HTTPError(status, f"The credential is refused: {error}.") from None
        if opened.restricted_to != os.getuid():
            raise web.HTTPError(403, "The credential is refused: others could open it, too.")
        return opened

    def _spawner(self, uid: int, job: int) -> Any:
        """The session with that job, if it is that user's; else 404, whoever's job it is."""
        for spawner in self._spawners_of(uid):
            if hasattr(spawner, "is_job") and spawner.is_job(job):
                return spawner
        raise web.HTTPError(404, f"You have no session in job {job}.")

    def _spawners_of(self, uid: int) -> Iterator[Any]:
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            return
        user = self.find_user(name)
        if user is not None:
            yield from list(user.spawners.values())

    async def _session(self, spawner: Any, opened: Opened, message: Message) -> str:
        try:
            session = await spawner.hand_over()
            if session is None:
                raise web.HTTPError(409, "This session has been handed over already.")
            payload = json.dumps({"nonce": message.nonce, **session})
            return await self.munge.close(payload, reader=opened.uid)
        except NotYetError as error:
            raise web.HTTPError(503, str(error)) from None
        except (PracticumError, SessionError) as error:
            self.log.warning("Job %d gets no session: %s", message.job, error)
            spawner.report_failure(f"the hub cannot hand it over: {error}")
            raise web.HTTPError(503, f"The session cannot be handed over: {error}") from None


def install() -> None:
    """Put our handlers into JupyterHub's list, and batchspawner's out of it, once."""
    handlers = apihandlers.default_handlers
    ours = [
        (r"/api/batchspawner", PortHandler),
        (r"/api/practicum/session", SessionHandler),
    ]
    unwanted = {batchspawner.api.BatchSpawnerAPIHandler, PortHandler, SessionHandler}
    handlers[:] = [*ours, *(row for row in handlers if row[1] not in unwanted)]


install()
