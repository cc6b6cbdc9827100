"""The system that is being changed: its files and its commands, seen from its own root.

``root`` is "" for the machine that runs the agent; otherwise the folder of a disk image
(``image``) or, in tests, of a scratch tree. Links are resolved inside the root, as chroot would.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MAX_LINKS = 40  # as the kernel (path_resolution(7))
TAIL_LINES = 15
KILLED_SECONDS = 10  # for a process that was killed to end


class AgentError(Exception):
    """What is wrong, where, and what to do: shown as it is to the person who applies."""


class CannotStartError(AgentError):
    """A command's program is not there, or may not be run."""


class TooSlowError(AgentError):
    """A command that did not end within its limit, and was killed."""


class Outcome(NamedTuple):
    """What a finished command left: exit status and its output (both streams, as written)."""

    code: int
    output: str

    def tail(self, lines: int = TAIL_LINES) -> str:
        kept = [line for line in self.output.splitlines() if line.strip()]
        return "\n".join(kept[-lines:])


class Seen(NamedTuple):
    """What is at a path: kind is missing, file, link, directory or other."""

    kind: str
    content: bytes = b""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    target: str = ""


class Host:
    """One system. Paths given to its methods are absolute, as that system sees them."""

    def __init__(self, root: str = "", image: bool = False) -> None:
        self.root = root.rstrip("/")
        self.image = image

    def at(self, path: str, follow: bool = False) -> str:
        """Where ``path`` is for this process. Links among its parents are resolved inside the
        root; a link at its end only if ``follow``."""
        if not path.startswith("/"):
            raise AgentError(f"{path!r} is not an absolute path")
        parts = [part for part in path.split("/") if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while parts:
            part = parts.pop(0)
            if part == "..":
                if done:
                    done.pop()
                continue
            here = "/".join([self.root, *done, part])
            target = _readlink(here) if parts or follow else None
            if target is None:
                done.append(part)
                continue
            links += 1
            if links > MAX_LINKS:
                raise AgentError(f"{path} leads through too many links: is there a loop?")
            if target.startswith("/"):
                done = []
            parts = [piece for piece in target.split("/") if piece not in ("", ".")] + parts
        return "/".join([self.root, *done]) or "/"

    def own(self, real: str) -> str:
        """The inverse of :meth:`at`: a path of this process as the system sees it."""
        return real[len(self.root) :] or "/"

    def look(self, path: str, follow: bool = False, read: bool = True) -> Seen:
        """What is at ``path``, with a file's content if ``read``."""
        real = self.at(path, follow)
        try:
            info = os.lstat(real)
        except (FileNotFoundError, NotADirectoryError):
            return Seen("missing")
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISREG(info.st_mode):
            content = self._content(real) if read else b""
            return Seen("file", content, mode, info.st_uid, info.st_gid)
        if stat.S_ISLNK(info.st_mode):
            return Seen("link", b"", mode, info.st_uid, info.st_gid, os.readlink(real))
        kind = "directory" if stat.S_ISDIR(info.st_mode) else "other"
        return Seen(kind, b"", mode, info.st_uid, info.st_gid)

    @staticmethod
    def _content(real: str) -> bytes:
        with open(real, "rb") as stream:
            return stream.read()

    def read(self, path: str) -> bytes:
        """A file's content, links followed; b"" if there is none."""
        return self.look(path, follow=True).content

    def text(self, path: str) -> str:
        return self.read(path).decode("utf-8", "surrogateescape")

    def exists(self, path: str) -> bool:
        return self.look(path, follow=True, read=False).kind != "missing"

    def write(
        self,
        path: str,
        content: bytes,
        mode: int = 0o644,
        uid: int = -1,
        gid: int = -1,
        follow: bool = False,
        check: Callable[[str], None] | None = None,
        sync: bool = True,
    ) -> None:
        """Replace a file whole: nobody sees half of it, or sees it with a wrong owner or mode.

        ``check`` gets the temporary file's path (as the system sees it) and may refuse it.
        """
        real = self.at(path, follow)
        folder, name = os.path.split(real)
        # One name a file: what a killed run left is found, and the lock keeps others out.
        temporary = f"{folder}/.{name}.practicum-new"
        _unlink(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        descriptor = os.open(temporary, flags, 0o600)
        try:
            with open(descriptor, "wb", buffering=0) as stream:
                view = memoryview(content)
                while view:
                    view = view[stream.write(view) or 0 :]
                if os.geteuid() == 0:
                    os.fchown(descriptor, uid, gid)
                os.fchmod(descriptor, mode)
                if sync:
                    os.fsync(descriptor)
            if check:
                check(self.own(temporary))
            os.rename(temporary, real)
        except BaseException:
            _unlink(temporary)
            raise
        if sync:
            _sync_folder(folder)

    def link(self, path: str, target: str) -> None:
        """Put a symbolic link at ``path``, atomically."""
        real = self.at(path)
        folder, name = os.path.split(real)
        temporary = f"{folder}/.{name}.practicum-new"
        _unlink(temporary)
        os.symlink(target, temporary)
        os.rename(temporary, real)
        _sync_folder(folder)

    def remove(self, path: str) -> None:
        _unlink(self.at(path))

    def makedirs(self, path: str, mode: int = 0o755) -> None:
        """A folder with all its parents; those that are there are left as they are."""
        current = ""
        for part in [part for part in path.split("/") if part]:
            current += "/" + part
            real = self.at(current, follow=True)
            if not os.path.isdir(real):
                os.mkdir(real, 0o755)
                os.chmod(real, mode if current == path else 0o755)

    def run(
        self,
        argv: Sequence[str],
        stdin: bytes | None = None,
        timeout: float = 60,
        env: Mapping[str, str] | None = None,
        user: str = "",
        follow: Callable[[str], None] | None = None,
        outside: bool = False,
    ) -> Outcome:
        """Run a command in the system (chroot for an image, unless ``outside``) and wait.

        ``follow`` gets each line of output while it runs. TooSlowError when it takes longer than
        ``timeout`` seconds: it and its children are killed.
        """
        job = self.start(argv, stdin, env, user, outside)
        return job.wait(timeout, follow)

    def start(
        self,
        argv: Sequence[str],
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        user: str = "",
        outside: bool = False,
    ) -> Job:
        """Start a command; CannotStartError when its program is missing."""
        command = list(argv)
        if self.image and not outside:
            spec = [f"--userspec={user}"] if user else []
            command = ["chroot", *spec, self.root, *command]
            user = ""
        surroundings = {"PATH": PATH, "LANG": "C.UTF-8", "HOME": "/root"}
        identity: dict[str, object] = {}
        if user:
            identity, home = _identity(user)
            surroundings.update(HOME=home, USER=user, LOGNAME=user)
        surroundings.update(env or {})
        return Job(argv, command, stdin, surroundings, identity)


class Job:
    """A running command. Its streams are memory files, so a daemon that it leaves behind
    cannot keep us waiting for the end of a pipe."""

    def __init__(
        self,
        argv: Sequence[str],
        command: Sequence[str],
        stdin: bytes | None,
        env: Mapping[str, str],
        identity: Mapping[str, object],
    ) -> None:
        self.argv = list(argv)
        self._output = os.memfd_create("output")
        given = os.memfd_create("input")
        try:
            if stdin:
                view = memoryview(stdin)
                while view:
                    view = view[os.write(given, view) :]
                os.lseek(given, 0, os.SEEK_SET)
            self._process = subprocess.Popen(  # type: ignore[call-overload]
                list(command),
                stdin=given,
                stdout=self._output,
                stderr=self._output,
                env=dict(env),
                cwd="/",
                start_new_session=True,
                **identity,
            )
        except OSError as error:
            os.close(self._output)
            raise CannotStartError(f"cannot run {argv[0]}: {error.strerror or error}") from error
        finally:
            os.close(given)

    def wait(self, timeout: float, follow: Callable[[str], None] | None = None) -> Outcome:
        end = time.monotonic() + timeout
        told = 0
        while not self._ended(min(0.3 if follow else timeout, max(0.0, end - time.monotonic()))):
            if follow:
                told = self._tell(told, follow)
            if time.monotonic() >= end:
                output = self._stop()
                tail = Outcome(-1, output).tail(5)
                said = f"; it said last:\n{tail}" if tail else ""
                raise TooSlowError(f"{self.argv[0]} did not finish within {timeout:.0f} s{said}")
        if follow:
            self._tell(told, follow)
        return Outcome(int(self._process.returncode), self._read())

    def _ended(self, seconds: float) -> bool:
        if self._process.poll() is not None:
            return True
        try:
            handle = os.pidfd_open(self._process.pid)
        except (AttributeError, OSError):  # Python or kernel without it
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                return False
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            poll.poll(seconds * 1000)
        finally:
            os.close(handle)
        return self._process.poll() is not None

    def _tell(self, told: int, follow: Callable[[str], None]) -> int:
        size = os.fstat(self._output).st_size
        data = os.pread(self._output, size - told, told)
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].decode("utf-8", "replace").splitlines():
            follow(line)
        return told + whole

    def _read(self) -> str:
        size = os.fstat(self._output).st_size
        data = os.pread(self._output, size, 0)
        os.close(self._output)
        return data.decode("utf-8", "replace")

    def _stop(self) -> str:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # In the kernel's hands (a disk or file server that is away) it dies when they let it go.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILLED_SECONDS)
        return self._read()


def _identity(user: str) -> tuple[dict[str, object], str]:
    import grp  # noqa: PLC0415  only few runs need them
    import pwd  # noqa: PLC0415

    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        raise CannotStartError(f"there is no account {user!r} to run a command as") from None
    groups = [group.gr_gid for group in grp.getgrall() if user in group.gr_mem]
    identity: dict[str, object] = {"user": entry.pw_uid, "group": entry.pw_gid}
    identity["extra_groups"] = groups
    return identity, entry.pw_dir


def _readlink(path: str) -> str | None:
    try:
        return os.readlink(path)
    except OSError:  # not a link, or not there
        return None


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def python_version() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"
