"""The launcher's way from its arguments to its exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from . import tls
from .environment import session_environment, with_modules
from .hub import Hub
from .node import (
    EXIT_MUNGE,
    EXIT_TOLD,
    LaunchError,
    check_environment,
    check_home,
    listen,
    node_name,
    own_account,
    runtime_folder,
    say,
    write_log_to,
)
from .server import keep_awake, make_server, serve, server_arguments, tell_the_end

# What people in courses get besides (coursework): the assignment list and its page.
COURSE_MODULE = "practicum_session"
COURSE_PATH = "/usr/local/lib/practicum/session"
COURSE_JUPYTER = "/usr/local/lib/practicum/coursework"
ENDED = 128 + signal.SIGTERM


def arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Start a session of practicum's hub.")
    parser.add_argument("--hub-url", required=True, help="http://HOST:PORT/hub/api")
    parser.add_argument("--hub-uid", required=True, type=int, help="uid of the hub's user")
    parser.add_argument("--ports", required=True, help="FIRST-LAST")
    parser.add_argument("--jupyter-path", required=True, help="folder of shared kernelspecs")
    parser.add_argument("--server-env", required=True, help="folder of the server environment")
    parser.add_argument("--where", default="job", choices=("job", "login"), help="what this is")
    parser.add_argument("--munge", default="/usr/bin/munge")
    parser.add_argument("--unmunge", default="/usr/bin/unmunge")
    parser.add_argument("--munge-socket", default="")
    parser.add_argument("--tmp", default="/tmp", help="folder on this node")  # noqa: S108
    return parser.parse_args(argv)


def run_server(hub: Hub, options: argparse.Namespace, job: int, folder: Path) -> None:
    """From the checks to the end of the session. LaunchError says what went wrong before."""
    check_environment(options.server_env)
    account = own_account()
    home_works = check_home(account.pw_dir)
    first, last = (int(number) for number in options.ports.split("-"))
    listening = listen(first, last)
    port = listening.getsockname()[1]
    session = hub.session()
    given = {str(name): str(value) for name, value in session["env"].items()}
    given.update(tls.keep(session.get("tls") or {}))
    given["JUPYTERHUB_SERVICE_URL"] = _with_port(given["JUPYTERHUB_SERVICE_URL"], port)
    env = session_environment(account, job, given, folder, options.jupyter_path, home_works)
    env = with_modules(env, [str(name) for name in session.get("modules", ())])
    os.environ.clear()
    os.environ.update(env)
    Path(env["JUPYTER_RUNTIME_DIR"]).mkdir(0o700, exist_ok=True)
    os.umask(0o022)  # the hub's own is stricter, and sbatch passed it on
    args = server_arguments([str(arg) for arg in session["args"]], folder, home_works)
    extensions = [str(name) for name in session["extensions"]]
    if any(name.startswith(f"{COURSE_MODULE}.") for name in extensions):
        with_courses()
    server = make_server(listening, args, extensions)
    tell_the_end(server, session.get("seconds"))
    keep_awake(server)
    serve(server, lambda: hub.report(port, given))


def with_courses() -> None:
    """The assignment list can be imported, and JupyterLab finds its page."""
    sys.path.append(COURSE_PATH)
    os.environ["JUPYTER_PATH"] += f":{COURSE_JUPYTER}"


def _with_port(url: str, port: int) -> str:
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return parts._replace(netloc=f"{host}:{port}").geturl()


@contextlib.contextmanager
def ended_by_scancel() -> Iterator[None]:
    """SIGTERM ends this process in order, until the server has a handler of its own."""

    def end(*_: object) -> None:
        raise SystemExit(ENDED)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def launch(options: argparse.Namespace, job: int) -> int:
    """Run the session; the exit code. Its folder stays when there is something to read there."""
    hub = Hub(options, job)
    try:
        folder = runtime_folder(options.tmp, os.getuid(), job)
        log = folder / "session.log"
        write_log_to(log)
    except (LaunchError, OSError) as error:
        return tell(hub, error if isinstance(error, LaunchError) else LaunchError(str(error)))
    see = f"; see {log} on {node_name()}"
    try:
        run_server(hub, options, job, folder)
    except LaunchError as failure:
        return tell(hub, failure)
    except SystemExit as end:
        if end.code not in (None, 0, ENDED):
            return tell(hub, LaunchError(f"its server did not start{see}"))
        shutil.rmtree(folder, ignore_errors=True)
        raise
    except Exception as error:  # noqa: BLE001 - the last place that can tell anybody
        traceback.print_exc()
        return tell(hub, LaunchError(f"{type(error).__name__}: {error}{see}"))
    shutil.rmtree(folder, ignore_errors=True)
    return 0


def tell(hub: Hub, failure: LaunchError) -> int:
    """Tell the hub, and by the exit code Slurm."""
    say(str(failure))
    if failure.code == EXIT_MUNGE:
        return failure.code  # without munge the hub would not believe us
    try:
        hub.failure(str(failure))
    except LaunchError as further:
        say(str(further))
        return further.code if failure.code == EXIT_TOLD else failure.code
    return failure.code


def main(argv: list[str]) -> int:
    options = arguments(argv)
    job = "0" if options.where == "login" else os.environ.get("SLURM_JOB_ID", "")
    if not job.isdecimal():
        say("this is a session's job; Slurm runs it")
        return 2
    with ended_by_scancel():
        return launch(options, int(job))
