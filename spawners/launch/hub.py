"""The hub, as a session talks to it: by munge before it has its token, with that afterwards."""

from __future__ import annotations

import argparse
import http.client
import json
import re
import secrets
import ssl
import subprocess
import time
from typing import Any
from urllib.parse import urlsplit

from . import tls
from .node import EXIT_HUB, EXIT_MUNGE, LaunchError, node_name

HUB_SECONDS = 120  # a hub that restarts comes back within that
UNKNOWN_SECONDS = 20  # the job may be faster than the hub's note of its number
COMMAND_SECONDS = 20


class Hub:
    """The hub's two addresses for sessions."""

    def __init__(self, options: argparse.Namespace, job: int) -> None:
        parts = urlsplit(options.hub_url)
        if parts.scheme != "http" or not parts.hostname:
            raise LaunchError(f"the hub's address {options.hub_url!r} is not one", EXIT_HUB)
        self._where = parts.netloc
        self._url = f"{options.hub_url}/practicum/session"
        self._options = options
        self._job = job
        self._nonce = secrets.token_hex(16)

    def session(self) -> dict[str, Any]:
        """What this session needs, secrets included. The hub gives it once."""

        def ask() -> tuple[int, str]:
            return self._send(self._url, self._close({"op": "session"}))

        credential = self._insist(ask, "hand over the session")
        session = self._open(credential)
        if session.get("nonce") != self._nonce:
            raise LaunchError("the hub's answer is to another question")
        return session

    def report(self, port: int, env: dict[str, str]) -> None:
        """The server listens there. ``env``: what the hub gave; the token goes by TLS if there is
        any, which the hub's own port then wants from everybody."""
        token, url = env["JUPYTERHUB_API_TOKEN"], env["JUPYTERHUB_API_URL"]
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}

        def tell() -> tuple[int, str]:
            where, body = f"{url}/batchspawner", json.dumps({"port": port})
            return self._send(where, body, headers, tls.context(env))

        self._insist(tell, "take the port")

    def failure(self, text: str) -> None:
        """Tell why there will be no session. LaunchError when that cannot be told."""

        def tell() -> tuple[int, str]:
            message = {"op": "failure", "text": text[:500]}
            return self._send(self._url, self._close(message))

        self._insist(tell, "take a message", limit=UNKNOWN_SECONDS)

    def _insist(self, send: Any, what: str, limit: float = HUB_SECONDS) -> str:
        """Try again while the hub is away or busy, or does not know of this job yet."""
        began, pause = time.monotonic(), 0.2
        while True:
            try:
                status, answer = send()
            except (OSError, http.client.HTTPException) as error:
                status, answer = 0, str(error)
            waited = time.monotonic() - began
            if 200 <= status < 300:
                return str(answer)
            patience = UNKNOWN_SECONDS if status == 404 else limit
            if status not in (0, 404, 429, 500, 502, 503, 504) or waited > patience:
                said = _message(answer)
                if not status:
                    raise LaunchError(
                        f"{node_name()} cannot reach the hub at {self._where}: {said}", EXIT_HUB
                    )
                raise LaunchError(f"the hub did not {what}: {said}")
            time.sleep(pause)
            pause = min(pause * 1.6, 5)

    def _send(
        self,
        url: str,
        body: str,
        headers: dict[str, str] | None = None,
        secure: ssl.SSLContext | None = None,
    ) -> tuple[int, str]:
        parts = urlsplit(url)
        if secure is None:
            connection = http.client.HTTPConnection(parts.netloc, timeout=COMMAND_SECONDS)
        else:
            connection = http.client.HTTPSConnection(
                parts.netloc, timeout=COMMAND_SECONDS, context=secure
            )
        try:
            connection.request(
                "POST", parts.path, body.encode(), headers or {"Content-Type": "text/plain"}
            )
            answer = connection.getresponse()
            return answer.status, answer.read(1 << 20).decode(errors="replace")
        finally:
            connection.close()

    def _close(self, message: dict[str, Any]) -> str:
        """A new credential each time (munge takes each but once) for the hub's user alone."""
        payload = json.dumps({**message, "job": self._job, "nonce": self._nonce})
        options = ["--restrict-uid", str(self._options.hub_uid), "--ttl", "120"]
        return self._munge([self._options.munge, *options], payload).strip()

    def _open(self, credential: str) -> dict[str, Any]:
        """The hub's answer, if it is the hub's: anybody may listen on its port while it is down,
        nobody else can sign with its uid."""
        text = self._munge([self._options.unmunge, "--numeric"], credential)
        head, _, payload = text.partition("\n\n")
        uid = re.search(r"^UID:\s+([0-9]+)$", head, re.MULTILINE)
        if not uid or int(uid[1]) != self._options.hub_uid:
            raise LaunchError("the answer does not come from the hub")
        session = json.loads(payload)
        if not isinstance(session, dict):
            raise LaunchError("the hub's answer cannot be read")
        return session

    def _munge(self, argv: list[str], stdin: str) -> str:
        if self._options.munge_socket:
            argv = [*argv, "--socket", self._options.munge_socket]
        try:
            done = subprocess.run(
                argv,
                input=stdin.encode(),
                capture_output=True,
                timeout=COMMAND_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LaunchError(
                f"munge does not work on {node_name()}: {error}", EXIT_MUNGE
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise LaunchError(f"munge does not work on {node_name()}: {said}", EXIT_MUNGE)
        return done.stdout.decode(errors="replace")


def _message(answer: str) -> str:
    """JupyterHub's errors are JSON with a message."""
    try:
        return str(json.loads(answer)["message"])[:300]
    except (ValueError, KeyError, TypeError):
        return answer.strip()[:200] or "no answer"
