"""The hub's own addresses beside JupyterHub's."""

from __future__ import annotations

from jupyterhub.apihandlers.base import APIHandler
from tornado import web

from spawners import supply


class FreeHandler(APIHandler):  # type: ignore[misc]
    """``GET /hub/api/practicum/free``: what is free of each profile that the person may choose,
    {name: sentence}. The start page asks it again and again."""

    @web.authenticated
    async def get(self) -> None:
        user = self.current_user
        spawner = user.spawners[""] if hasattr(user, "spawners") else None
        if spawner is None or not hasattr(spawner, "offered"):
            raise web.HTTPError(403, "This is for people with sessions.")
        picture = await supply.shared(spawner.cluster)
        self.set_header("Cache-Control", "no-store")
        self.finish(picture.sentences(spawner.offered()))


HANDLERS = [(r"api/practicum/free", FreeHandler)]
