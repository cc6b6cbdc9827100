"""What goes wrong with a session, told to the person who started it."""

from __future__ import annotations

from jupyterhub.spawner import SpawnException

from cluster.errors import PracticumError


class SessionError(SpawnException):  # type: ignore[misc]
    """A session that does not start. JupyterHub shows ``text`` and logs no traceback."""

    def __init__(self, text: str, *, reason: str = "session", status_code: int = 503) -> None:
        super().__init__(text, reason=reason, status_code=status_code)
        self.jupyterhub_message = text
        self.jupyterhub_html_message = None


class NotYetError(PracticumError):
    """The session has to ask again in a moment."""
