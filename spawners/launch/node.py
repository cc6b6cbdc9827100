"""This node: a folder, a log, a port, an account and its home. Each check says what is wrong."""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import socket
import stat
import sys
import tempfile
from pathlib import Path

EXIT_HUB = 69
EXIT_MUNGE = 70
EXIT_TOLD = 71


class LaunchError(Exception):
    """Why the session cannot start, in one sentence for the student, and the exit code."""

    def __init__(self, text: str, code: int = EXIT_TOLD) -> None:
        super().__init__(text)
        self.code = code


def node_name() -> str:
    return socket.gethostname().split(".")[0]


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
