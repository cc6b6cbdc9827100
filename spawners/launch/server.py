"""JupyterHub's single-user server in this process: on our socket, with only what is needed."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import time
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .node import LaunchError

STARTED = time.time()
LOOK_SECONDS = 60  # between looks at whether a kernel works


def server_arguments(args: list[str], folder: Path, home_works: bool) -> list[str]:
    """The server's command line."""
    if home_works:
        return args
    # the database of trusted notebooks, else kept at home
    return [f"--NotebookNotary.data_dir={folder / 'notary'}", *args]


def make_server(listening: socket.socket, args: list[str], extensions: list[str]) -> Any:
    """JupyterHub's single-user server on our socket, ready to run."""
    # jsonschema's check of one rare format compiles a grammar at import, a second of a CPU; None
    # makes that import fail, and jsonschema does without.
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415

    with without_the_hub():
        from jupyterhub.singleuser.extension import JupyterHubSingleUser  # noqa: PLC0415
    with contextlib.suppress(ImportError, AttributeError):
        import jupyterlab.commands  # noqa: PLC0415

        # Asked while labapp is imported, by starting node.js where there is one: another second
        # for the address of a registry that a session never uses.
        jupyterlab.commands._yarn_config = lambda _logger: {"yarn config": {}, "npm config": {}}

    adopt(ServerApp, listening)
    config = {"jpserver_extensions": dict.fromkeys(extensions, True)}
    # With this set, the server does not search its configuration for more extensions.
    JupyterHubSingleUser.serverapp_config = config
    server = JupyterHubSingleUser.initialize_server(argv=args)
    server.kernel_spec_manager.kernel_dirs = kernel_folders()
    return server


def kernel_folders() -> list[str]:
    """Jupyter's own list of where kernelspecs are. For the last of them it would import the whole
    of IPython when the first kernel starts, to be told ~/.ipython."""
    from jupyter_core.paths import jupyter_path  # noqa: PLC0415

    own = os.environ.get("IPYTHONDIR") or os.path.expanduser("~/.ipython")  # noqa: PTH111
    return [*jupyter_path("kernels"), os.path.join(own, "kernels")]  # noqa: PTH118


# What JupyterHub's part for sessions imports and does not use: the hub's pages (for the name of
# one class in its log), its database and the migrations of that.
HUB_ONLY = (
    "alembic", "alembic.command", "alembic.config", "alembic.script",
    "jupyterhub.handlers", "jupyterhub.handlers.pages", "jupyterhub.orm", "jupyterhub.roles",
    "sqlalchemy", "sqlalchemy.exc", "sqlalchemy.orm",
)  # fmt: skip


@contextlib.contextmanager
def without_the_hub() -> Iterator[None]:
    """Stand-ins while the session's part is imported: on a small computer the hub's modules are
    the wait. Afterwards whoever wants sqlalchemy (nbgrader does) gets the real one."""
    stand_ins = {name: Unused(name) for name in HUB_ONLY if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


class Unused(types.ModuleType):
    """Stands for a module whose names are imported and never used."""

    __path__: list[str] = []  # noqa: RUF012 - of a package, and empty

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def adopt(server_class: Any, listening: socket.socket) -> None:
    """Have the server take our socket instead of one of its own. An unknown version of it binds
    the port itself, with a moment in which another could take it."""
    if not all(
        hasattr(server_class, name) for name in ("_find_http_port", "_bind_http_server_tcp")
    ):
        listening.close()
        return
    listening.setblocking(False)

    def bind(self: Any) -> bool:
        self.http_server.add_sockets([listening])
        return True

    def find(_self: Any) -> None:
        """The port is found already."""

    server_class._find_http_port = find
    server_class._bind_http_server_tcp = bind


def tell_the_end(server: Any, seconds: Any) -> None:
    """``practicum/session`` tells the banner in JupyterLab when this session's time is up."""
    from jupyter_server.base.handlers import APIHandler  # noqa: PLC0415
    from tornado import web  # noqa: PLC0415

    ends = STARTED + seconds if isinstance(seconds, int) else None

    class Session(APIHandler):  # type: ignore[misc]
        @web.authenticated
        def get(self) -> None:
            self.finish(json.dumps({"ends": ends, "now": time.time()}))

    path = server.base_url.rstrip("/") + "/practicum/session"
    server.web_app.add_handlers(".*$", [(path, Session)])


def keep_awake(server: Any) -> None:
    """A kernel that works is activity, though it may say nothing for hours: without this the hub
    would take a long computation for an idle session."""
    from tornado.ioloop import PeriodicCallback  # noqa: PLC0415

    def look() -> None:
        kernels = getattr(server.kernel_manager, "_kernels", {}).values()
        if any(getattr(kernel, "execution_state", "") == "busy" for kernel in kernels):
            server.web_app.settings["practicum_last_activity"] = datetime.now(timezone.utc)  # noqa: UP017 - Python 3.9

    looking = PeriodicCallback(look, LOOK_SECONDS * 1000)
    server.io_loop.add_callback(looking.start)


def serve(server: Any, report: Callable[[], None]) -> None:
    """Run the server to its end; ``report`` when its loop runs, after the last of its own checks.

    Without the hub's ear nobody would ever come, so a report that fails ends the server."""
    failures: list[LaunchError] = []

    def say_so() -> None:
        try:
            report()
        except LaunchError as failure:
            failures.append(failure)
            server.stop()

    server.io_loop.add_callback(say_so)
    server.start()
    if failures:
        raise failures[0]
