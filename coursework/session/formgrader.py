"""formgrader of one course: Jupyter's server as grader-NAME, for instructors who are logged in at
the hub. systemd starts it with its socket and its token; its unit says the rest
(coursework.units.formgrader_unit).

No terminals. Kernels run as the grader: what an instructor runs here, the instructor answers for.
Students' pages are shown by formgrader itself, which is why what they hold is made harmless when
it is graded.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

SYSTEMD_SOCKET = 3
EXTENSIONS = (
    "jupyterlab",
    "nbgrader.server_extensions.formgrader",
    "practicum_session.classroom",
    "practicum_session.grading",
    "practicum_session.guard",
    "practicum_session.named",
)
# the page may be shown inside JupyterLab of the same hub, nowhere else
HEADERS = {"Content-Security-Policy": "frame-ancestors 'self'"}


def token() -> str:
    """The hub's for this service, from systemd's credentials. OSError, KeyError."""
    return (Path(os.environ["CREDENTIALS_DIRECTORY"]) / "token").read_text().strip()


def adopt(server_class: Any, listening: socket.socket) -> None:
    """Have the server take our socket instead of one of its own."""
    listening.setblocking(False)

    def bind(self: Any) -> bool:
        self.http_server.add_sockets([listening])
        return True

    def find(_self: Any) -> None:
        """The port is there already."""

    server_class._find_http_port = find
    server_class._bind_http_server_tcp = bind


def main(argv: list[str]) -> int:
    if len(argv) != 1 or os.environ.get("LISTEN_FDS") != "1":
        sys.stderr.write("practicum-formgrader-COURSE.service starts this\n")
        return 2
    try:
        os.environ["JUPYTERHUB_API_TOKEN"] = token()
    except (OSError, KeyError) as error:
        sys.stderr.write(f"the token is not there: {error}\n")
        return 1
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "CREDENTIALS_DIRECTORY"):
        os.environ.pop(name, None)
    from jupyter_server.serverapp import ServerApp  # noqa: PLC0415
    from jupyterhub.singleuser.extension import JupyterHubSingleUser  # noqa: PLC0415

    adopt(ServerApp, socket.socket(fileno=SYSTEMD_SOCKET))
    JupyterHubSingleUser.serverapp_config = {"jpserver_extensions": dict.fromkeys(EXTENSIONS, True)}
    JupyterHubSingleUser.launch_instance(
        [
            "--ServerApp.root_dir=" + str(Path.cwd()),
            "--ServerApp.default_url=/formgrader",
            "--ServerApp.terminals_enabled=False",
            # rather no formgrader than one without what keeps it safe
            "--ServerApp.reraise_server_extension_failures=True",
            "--ServerApp.tornado_settings=" + json.dumps({"headers": HEADERS}),
        ]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
