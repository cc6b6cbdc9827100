"""formgrader's pages made safe for those who open them: a Jupyter server extension.

Of nbgrader 0.9.6, each tried on a lab:

- what stands in the address goes into a script of the page as it is, so a link runs what its
  sender likes as the instructor: such names are no names here;
- ``formgrader?path=FOLDER`` runs FOLDER/nbgrader_config.py as the grader, and a folder may be a
  student's: there is one course here, and no such choice;
- files that were handed in are sent as pages of the hub's own address: they are shown, and run
  nothing. So are answers of the API, which a browser takes for HTML when they are opened.
"""

from __future__ import annotations

from typing import Any

UNSAFE = frozenset('"<>\\`')
HANDED_IN = (
    "sandbox; default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; "
    "frame-ancestors 'self'"
)
ANSWER = "sandbox; default-src 'none'; frame-ancestors 'none'"


def is_plain(name: str) -> bool:
    """Whether it stays what it is in a page's text and in a string of its script."""
    return name.isprintable() and UNSAFE.isdisjoint(name)


def names_are_plain(base: Any) -> None:
    """Handlers of this kind answer 404 to addresses with other names."""
    from tornado import web  # noqa: PLC0415

    stock = base.prepare

    async def prepare(self: Any, *args: Any, **kwargs: Any) -> None:
        await stock(self, *args, **kwargs)  # first: pages of errors want to know who asks
        words = (*self.path_args, *self.path_kwargs.values())
        if not all(is_plain(word) for word in words if word):
            raise web.HTTPError(404)

    base.prepare = prepare


def is_home(handler: Any) -> None:
    """It leads to the course's assignments, and looks at nothing that was sent."""
    from tornado import web  # noqa: PLC0415

    @web.authenticated
    def get(self: Any) -> None:
        self.redirect(f"{self.base_url}/formgrader/manage_assignments")

    handler.get = get


def runs_nothing(handler: Any, policy: str) -> None:
    """What it sends is shown under this Content-Security-Policy."""
    handler.content_security_policy = property(lambda _self: policy)


def _load_jupyter_server_extension(_server: Any) -> None:
    from nbgrader.server_extensions.formgrader import base, handlers  # noqa: PLC0415

    names_are_plain(base.BaseHandler)
    is_home(handlers.FormgraderHandler)
    runs_nothing(handlers.SubmissionFilesHandler, HANDED_IN)
    runs_nothing(base.BaseApiHandler, ANSWER)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "practicum_session.guard"}]
