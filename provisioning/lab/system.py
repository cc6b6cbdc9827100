"""The few things the lab asks of this machine: commands, mounts, processes, locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import PracticumError

# Both may be moved, to a disk with more room or for a test; the first must not be on overlayfs.
STATE = Path(os.environ.get("PRACTICUM_LABS", "/var/lib/practicum/labs"))
CACHE = Path(os.environ.get("PRACTICUM_CACHE", "/var/cache/practicum"))
LOCKS = Path("/run/lock")
WATCH_SECONDS = 2.0


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    stdin: str = "",
    check: bool = True,
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, output captured as text.

    PracticumError when it cannot start, takes longer than ``timeout`` seconds or, with
    ``check``, exits other than 0; the last lines it wrote are in the error.
    """
    try:
        done = subprocess.run(
            list(argv), input=stdin, text=True, capture_output=True, check=False, env=env,
            timeout=timeout, errors="replace", cwd=cwd,
        )  # fmt: skip
    except OSError as error:
        raise PracticumError(f"cannot run {argv[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise PracticumError(f"{' '.join(argv)} took longer than {timeout:.0f} s") from error
    if check and done.returncode:
        raise PracticumError(f"{' '.join(argv)} failed: {tail(done.stderr or done.stdout)}")
    return done


def tail(text: str, lines: int = 3) -> str:
    """The last lines that say something, on one line."""
    kept = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(kept[-lines:]) or "it wrote nothing"


def alone(argv: Sequence[str]) -> list[str]:
    """The command in mount and process namespaces of its own.

    Whatever it mounts or starts ends with it, even if it is killed half-way, and it ends
    with us (``lab up`` killed in the middle of a debootstrap leaves no debootstrap).
    """
    return [
        "setpriv", "--pdeathsig", "KILL", "--",
        "unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--", *argv,
    ]  # fmt: skip


def run_logged(
    argv: Sequence[str],
    log: Path,
    *,
    timeout: float,
    env: dict[str, str] | None = None,
    watch: Callable[[str], None] | None = None,
    stdin: str = "",
) -> None:
    """Run a long command :func:`alone`, its output kept in ``log``; ``watch`` is shown its
    last line every other second.

    PracticumError as for :func:`run`; it names the log.
    """
    deadline = time.monotonic() + timeout
    told = time.monotonic()
    with log.open("ab") as sink, log.open("rb") as reader:
        reader.seek(0, os.SEEK_END)
        process = subprocess.Popen(
            alone(argv), stdin=subprocess.PIPE, stdout=sink, stderr=subprocess.STDOUT, env=env
        )
        try:
            _feed(process, stdin)
            while process.poll() is None and time.monotonic() < deadline:
                lines = reader.read().decode(errors="replace").splitlines()
                if lines and watch and time.monotonic() > told + WATCH_SECONDS:
                    told = time.monotonic()
                    watch(lines[-1])
                time.sleep(0.1)
        finally:
            late = process.poll() is None
            if late:
                process.kill()
            process.wait()
    if late:
        raise PracticumError(f"{argv[0]} took longer than {timeout:.0f} s; its log is {log}")
    if process.returncode:
        last = tail(log.read_text(errors="replace"))
        raise PracticumError(f"{argv[0]} failed: {last} (log: {log})")


def _feed(process: subprocess.Popen[bytes], text: str) -> None:
    """All of a short text (less than a pipe holds), then the end of the file."""
    assert process.stdin  # noqa: S101 - it was asked for
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(text.encode())
        process.stdin.close()


def mounts() -> list[tuple[Path, str, str]]:
    """(where, type, superblock options) of every mount we see (proc_pid_mountinfo(5))."""
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        where = before.split()[4].encode().decode("unicode_escape")
        kind, _, options = after.split(" ", 2)
        found.append((Path(where), kind, options))
    return found


def filesystem(path: Path) -> str:
    """Type of the file system that ``path`` (or its nearest parent that exists) is on."""
    while not path.exists():
        path = path.parent
    path = path.resolve()
    best, kind = Path("/"), ""
    for where, name, _ in mounts():
        if (path == where or where in path.parents) and len(where.parts) >= len(best.parts):
            best, kind = where, name
    return kind


def remove_tree(path: Path) -> None:
    """Remove a directory, first unmounting what is mounted in it.

    PracticumError when something stays mounted: deleting through a mount would delete what
    is behind it.
    """
    inside = [where for where, _, _ in mounts() if where == path or path in where.parents]
    for where in reversed(inside):
        run(["umount", "--lazy", str(where)], timeout=30, check=False)
    left = [str(where) for where, _, _ in mounts() if where == path or path in where.parents]
    if left:
        raise PracticumError(
            f"{left[0]} cannot be unmounted: see what uses it with lsof, then try again"
        )
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file whole or not at all, with that mode from the start."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w") as sink:
            os.fchmod(handle, mode)
            sink.write(text)
            sink.flush()
            os.fsync(handle)
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def locked(name: str, *, wait: float, busy: str) -> Iterator[None]:
    """Hold the machine-wide lock of that name; ``busy`` is the error when it is not free
    within ``wait`` seconds. The kernel drops it when we die."""
    path = LOCKS / f"practicum-{name}.lock"
    deadline = time.monotonic() + wait
    while True:
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and path.stat().st_ino == os.fstat(handle).st_ino:
                break
        except BlockingIOError as error:
            if time.monotonic() > deadline:
                os.close(handle)
                raise PracticumError(busy) from error
        os.close(handle)  # busy, or unlinked by the one who held it: look again
        time.sleep(0.1)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(handle)


@dataclass(frozen=True)
class Process:
    """A process that cannot be mistaken for a later one with the same number."""

    pid: int
    started: str  # clock ticks since boot, field 22 of /proc/PID/stat

    def alive(self) -> bool:
        return find_process(self.pid) == self

    def kill(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def find_process(pid: int) -> Process | None:
    """The living process of that number; a zombie is not living."""
    stat = _stat(pid)
    return Process(pid, stat[19]) if stat and stat[0] != "Z" else None


def parent(pid: int) -> int:
    """Number of a process's parent; 0 if it is gone."""
    stat = _stat(pid)
    return int(stat[1]) if stat else 0


def arguments(pid: int) -> list[bytes]:
    """The command line of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes_with(beginning: str) -> list[Process]:
    """Living processes that have a command-line argument with this beginning. Those in
    containers are passed over: a lab in there may have the name of one out here."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    start = beginning.encode()
    found = [pid for pid in numbers if any(word.startswith(start) for word in arguments(pid))]
    mine = [pid for pid in found if _namespace(pid) == _namespace(os.getpid())]
    return [process for pid in mine if (process := find_process(pid))]


def _namespace(pid: int) -> str:
    """What stands for the process's PID namespace; empty if it is gone."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except (FileNotFoundError, ProcessLookupError):
        return ""
