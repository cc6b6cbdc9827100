"""A session's secrets: what of JupyterHub's world it gets, and whose token is whose."""

from __future__ import annotations

import hmac
import re
from collections.abc import Collection, Mapping
from typing import Any

from jupyterhub import orm
from sqlalchemy import inspect

from cluster.errors import PracticumError
from cluster.model import Cluster

# What JupyterHub makes for a server and a session needs; the rest of the hub's world stays.
SESSION_NAMES = re.compile(r"JUPYTERHUB_[A-Z_]+|(MEM|CPU)_(LIMIT|GUARANTEE)")
NEVER = {"JUPYTERHUB_CRYPT_KEY", "CONFIGPROXY_AUTH_TOKEN", "JPY_API_TOKEN"}


# Shipped by coursework's role; the launcher knows where it lies.
COURSE_EXTENSION = "practicum_session.extension"


def course_extensions(cluster: Cluster, user: str) -> tuple[str, ...]:
    """The assignment list, for people in courses: it costs nobody else anything."""
    return (COURSE_EXTENSION,) if cluster.open_courses_of(user) else ()


def session_env(env: Mapping[str, Any], chosen: Collection[str]) -> dict[str, str]:
    """Of the spawner's ``get_env()``: JupyterHub's variables for a server and what the
    administrator chose (``c.Spawner.environment``), no others."""
    return {
        name: str(value)
        for name, value in env.items()
        if name not in NEVER and (name in chosen or SESSION_NAMES.fullmatch(name))
    }


def note_of(base_url: str) -> str:
    """JupyterHub's note on the token of the server at that path."""
    return f"Server at {base_url}"


def owns_token(known: str, secret: str, note: str) -> bool:
    """Whether a token (``secret``, with its ``note``) is a server's own. After a restart the hub
    has only the hash of it, and nothing ``known``; then JupyterHub's note tells. A person may
    make a token with such a note and scope, too, but only for a server of their own."""
    if known:
        return hmac.compare_digest(known.encode(), secret.encode())
    return note.startswith(note_of(""))


def renew_token(spawner: Any) -> str:
    """A new token for a session that the hub finds again: of the old one it has the hash only.

    It gets the old one's scopes, and the old one, never handed out, goes. PracticumError when
    there is none to take the place of.
    """
    database = inspect(spawner.orm_spawner).session
    note = note_of(spawner.server.base_url)
    old = [token for token in spawner.user.orm_user.api_tokens if token.note == note]
    if not old:
        raise PracticumError("The token of this session is lost: start it again.")
    newest = max(old, key=lambda token: token.id)
    secret = str(spawner.user.new_api_token(note=note, scopes=newest.scopes))
    for token in old:
        database.delete(token)
    client = spawner.orm_spawner.oauth_client
    if client is not None:
        client.secret = orm.hash_token(secret)
    database.commit()
    return secret
