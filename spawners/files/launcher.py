"""What a session's job runs on its compute node: fetch the session's secrets, start the server.

One file, standard library only, Python 3.9 or newer; installed on every node and run by the
server environment's Python (by the system's when that is missing, only to say so). In order:

1. a folder of its own on this node, 0700, for the log, sockets and runtime files: a full or
   missing home must not keep a student from a session in which to delete files;
2. a free port of the range, kept listening from then on, so that nobody can take it;
3. the session from the hub, by munge: both sides prove who they are by the cluster's key, and
   nothing secret is in the job's environment, script or files;
4. the environment of kernels and terminals: the account's, without Slurm's variables but
   SLURM_JOB_ID and PRACTICUM_JOB_ID, which are equal in the session and nowhere else;
5. JupyterHub's single-user server, in this process, with only the extensions needed;
6. the port's report, when the server is about to answer.

A fault is told to the hub in one sentence. Where that is impossible the exit code tells: 69 the
hub cannot be reached, 70 munge does not work; 71 otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import importlib.util
import json
import os
import pwd
import random
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

STARTED = time.time()
EXIT_HUB = 69
EXIT_MUNGE = 70
EXIT_TOLD = 71
ENDED = 128 + signal.SIGTERM
HUB_SECONDS = 120  # a hub that restarts comes back within that
UNKNOWN_SECONDS = 20  # the job may be faster than the hub's note of its number
COMMAND_SECONDS = 20
# Slurm's, what process managers leave behind, and sudo's; all but SLURM_JOB_ID goes.
FOREIGN = re.compile(
    r"^(SLURM|SLURMD|SBATCH|SALLOC|SRUN|PMI|PMIX|SUDO)_|^(SLURM_JOBID|ENVIRONMENT|MAIL|_)$"
)
# pam_env(8) gives every log-in what stands there: a site's proxies and certificates.
SITE = "/etc/environment"
SITE_LINE = re.compile(r"""^\s*(?:export\s+)?([A-Za-z_]\w*)=(["']?)(.*?)\2\s*$""", re.MULTILINE)
BIN = "/usr/local/lib/practicum/bin"
OWN_JUPYTER = "/usr/local/lib/practicum/jupyter"  # the banner before the end
# What people in courses get besides (coursework): the assignment list and its page.
COURSE_MODULE = "practicum_session"
COURSE_PATH = "/usr/local/lib/practicum/session"
COURSE_JUPYTER = "/usr/local/lib/practicum/coursework"
LOOK_SECONDS = 60  # between looks at whether a kernel works
PATHS = "/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"


class LaunchError(Exception):
    """Why the session cannot start, in one sentence for the student, and the exit code."""

    def __init__(self, text: str, code: int = EXIT_TOLD) -> None:
        super().__init__(text)
        self.code = code


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


def node_name() -> str:
    return socket.gethostname().split(".")[0]


# --- this node --------------------------------------------------------------------------------


def runtime_folder(tmp: str, uid: int, job: int) -> Path:
    """This session's folder, made now, mode 0700. LaunchError when it is another's or a link."""
    path = Path(tmp) / f"practicum-{uid}-{job}"
    try:
        path.mkdir(0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            raise LaunchError(f"{path} on {node_name()} belongs to somebody else") from None
        path.chmod(0o700)
    except OSError as error:
        where = f"{tmp} on {node_name()}"
        raise LaunchError(f"no folder can be made in {where}: {error.strerror}") from None
    return path


def write_log_to(path: Path) -> None:
    """From here on, standard output and error go to that file."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def say(text: str) -> None:
    sys.stderr.write(f"practicum: {text}\n")
    sys.stderr.flush()


def listen(first: int, last: int) -> socket.socket:
    """A listening socket on a free port of the range, on all addresses; LaunchError without one.

    The start is random, so that sessions on one node do not all try the same ports.
    """
    count = last - first + 1
    offset = random.randrange(count)  # noqa: S311 - spreads, guards nothing
    for step in range(count):
        port = first + (offset + step) % count
        for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):  # noqa: S104
            if family == socket.AF_INET6 and not socket.has_dualstack_ipv6():
                continue
            try:
                return socket.create_server(
                    (address, port),
                    family=family,
                    dualstack_ipv6=family == socket.AF_INET6,
                    backlog=128,
                )
            except OSError:
                continue  # taken, or this machine has no such family
    raise LaunchError(f"no port from {first} to {last} is free on {node_name()}")


def own_account() -> pwd.struct_passwd:
    """LaunchError where this machine does not know the account whose job this is: Slurm starts
    jobs by number alone."""
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        raise LaunchError(
            f"your account, number {os.getuid()}, does not exist on {node_name()}: "
            "tell the administrator"
        ) from None


def check_home(home: str) -> bool:
    """Whether files can be written at home. LaunchError when there is no home at all."""
    try:
        os.chdir(home)
    except OSError as error:
        raise LaunchError(
            f"your home folder {home} cannot be opened on {node_name()} ({error.strerror})"
        ) from None
    try:
        with tempfile.NamedTemporaryFile(dir=home, prefix=".practicum-") as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        say(f"home cannot be written to: {error}")
        return False
    return True


def check_environment(server_env: str) -> None:
    """LaunchError when this Python is not one that has the server."""
    for module in ("jupyterhub", "jupyter_server", "jupyterlab"):
        if importlib.util.find_spec(module) is None:
            raise LaunchError(
                f"the server environment {server_env}/current is missing or incomplete on "
                f"{node_name()} ({module} is not in it)"
            )


# --- the hub ----------------------------------------------------------------------------------


class Hub:
    """The hub's two addresses for sessions."""

    def __init__(self, options: argparse.Namespace, job: int) -> None:
        parts = urlsplit(options.hub_url)
        if parts.scheme != "http" or not parts.hostname:
            raise LaunchError(f"the hub's address {options.hub_url!r} is not one", EXIT_HUB)
        self._host, self._port, self._path = parts.hostname, parts.port or 80, parts.path
        self._options = options
        self._job = job
        self._nonce = secrets.token_hex(16)

    def session(self) -> dict[str, Any]:
        """What this session needs, secrets included. The hub gives it once."""

        def ask() -> tuple[int, str]:
            return self._send("/practicum/session", self._close({"op": "session"}))

        credential = self._insist(ask, "hand over the session")
        session = self._open(credential)
        if session.get("nonce") != self._nonce:
            raise LaunchError("the hub's answer is to another question")
        return session

    def report(self, port: int, token: str) -> None:
        """The server listens there."""
        headers = {"Authorization": f"token {token}", "Content-Type": "application/json"}

        def tell() -> tuple[int, str]:
            return self._send("/batchspawner", json.dumps({"port": port}), headers)

        self._insist(tell, "take the port")

    def failure(self, text: str) -> None:
        """Tell why there will be no session. LaunchError when that cannot be told."""

        def tell() -> tuple[int, str]:
            message = {"op": "failure", "text": text[:500]}
            return self._send("/practicum/session", self._close(message))

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
                    where = f"{self._host}:{self._port}"
                    raise LaunchError(
                        f"{node_name()} cannot reach the hub at {where}: {said}", EXIT_HUB
                    )
                raise LaunchError(f"the hub did not {what}: {said}")
            time.sleep(pause)
            pause = min(pause * 1.6, 5)

    def _send(self, path: str, body: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=COMMAND_SECONDS)
        try:
            connection.request(
                "POST", self._path + path, body.encode(), headers or {"Content-Type": "text/plain"}
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


# --- the server -------------------------------------------------------------------------------


def site_environment(path: str = SITE) -> dict[str, str]:
    """What the machine's administrator gives everybody; nothing when the file is not there."""
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    return {name: value for name, _, value in SITE_LINE.findall(text)}


def session_environment(
    account: pwd.struct_passwd,
    job: int,
    given: dict[str, str],
    folder: Path,
    jupyter_path: str,
    home_works: bool,
) -> dict[str, str]:
    """The environment of the server, its kernels and terminals, from the job's."""
    env = {name: value for name, value in os.environ.items() if not FOREIGN.search(name)}
    env.update(site_environment())
    env.update(
        HOME=account.pw_dir,
        USER=account.pw_name,
        LOGNAME=account.pw_name,
        SHELL=account.pw_shell or "/bin/sh",
        PATH=f"{BIN}:{PATHS}",
        JUPYTER_PATH=f"{jupyter_path}:{OWN_JUPYTER}",
        JUPYTER_RUNTIME_DIR=str(folder / "runtime"),
    )
    if job:  # a session on the login node is in none
        env.update(SLURM_JOB_ID=str(job), PRACTICUM_JOB_ID=str(job))
    env.setdefault("LANG", "C.UTF-8")
    if not home_works:
        # ipykernel stops when it cannot write there
        env["IPYTHONDIR"] = str(folder / "ipython")
    env.update(given)
    return env


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
    return JupyterHubSingleUser.initialize_server(argv=args)


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
    given["JUPYTERHUB_SERVICE_URL"] = _with_port(given["JUPYTERHUB_SERVICE_URL"], port)
    env = session_environment(account, job, given, folder, options.jupyter_path, home_works)
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
    serve(server, lambda: hub.report(port, given["JUPYTERHUB_API_TOKEN"]))


def with_courses() -> None:
    """The assignment list can be imported, and JupyterLab finds its page."""
    sys.path.append(COURSE_PATH)
    os.environ["JUPYTER_PATH"] += f":{COURSE_JUPYTER}"


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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
