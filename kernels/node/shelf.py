"""The folder of kernels on shared storage: versions, the live one, leases. Standard library only.

ENVS/NAME/                   root's; mode 0750 and a group's when only that group may use it
    .lock                    held by whoever changes anything here
    current -> VERSION       the live version; moved in one step
    VERSION/                 a number
        record.json          what it is and how it came to be; written last
        lock                 its packages, to make the same again
        start.json           how a kernel of it is started
        .lease               locked, shared, by every running kernel (fcntl(2) locks, which
                             NFS has too, end with their process, and need no right to write)
        ARCH/                the environment itself, one for each kind of processor
ENVS/jupyter/kernels/NAME/   what Jupyter reads
"""

from __future__ import annotations

import contextlib
import fcntl
import grp
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kernels.build_env import BuildError

RECORD = "record.json"
LOCK = "lock"
START = "start.json"
LEASE = ".lease"
STAMP = ".practicum-complete"
HELD = ".held"  # there after a rollback: apply leaves the live version as it is
TRASH = ".trash-"


def numbers(root: Path) -> list[int]:
    """Versions that are whole, oldest first."""
    try:
        names = [path.name for path in root.iterdir() if path.name.isdecimal()]
    except OSError:
        return []
    return sorted(int(name) for name in names if (root / name / RECORD).is_file())


def live(root: Path) -> int:
    """The version that ``current`` points to; 0 if there is none."""
    try:
        name = (root / "current").readlink().name
    except OSError:
        return 0
    return int(name) if name.isdecimal() and (root / name / RECORD).is_file() else 0


def record(root: Path, version: int) -> dict[str, Any]:
    """What was noted of a version. BuildError when it cannot be read."""
    path = root / str(version) / RECORD
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BuildError(f"{path} cannot be read ({error})") from None
    if not isinstance(found, dict):
        raise BuildError(f"{path} is not what practicum wrote")
    return found


@contextlib.contextmanager
def changing(root: Path) -> Iterator[None]:
    """Nobody else changes this kernel meanwhile. BuildError when somebody does already."""
    if root.is_symlink():
        raise BuildError(f"{root} is a link, and practicum puts a folder there: move it away")
    root.mkdir(parents=True, exist_ok=True)
    with (root / ".lock").open("w") as stream:
        try:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BuildError(
                f"{root.name} is being built or changed already: wait for that, then try again"
            ) from None
        yield


def in_use(root: Path, version: int) -> bool:
    """Whether a running kernel has it; also true when that cannot be told."""
    try:
        with (root / str(version) / LEASE).open("r+") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.lockf(stream, fcntl.LOCK_UN)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def put_link(root: Path, version: int) -> None:
    """Make that version the live one, in one step. BuildError where a folder is in the way."""
    link = root / "current"
    if link.is_dir() and not link.is_symlink():
        raise BuildError(
            f"{link} is a folder, where practicum keeps a link to the live version: move it away"
        )
    fresh = root / f".current-{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(str(version))
    fresh.replace(link)


def put_away(root: Path, name: str) -> Path | None:
    """Take a folder out of sight, in one step; where it is now, None if it was not there."""
    away = root / f"{TRASH}{name}-{os.getpid()}"
    try:
        (root / name).rename(away)
    except FileNotFoundError:
        return None
    return away


def discard(root: Path, name: str) -> None:
    """Take a folder away: out of sight in one step, then its files."""
    away = put_away(root, name)
    if away is not None:
        shutil.rmtree(away)


def collect(root: Path, keep: int) -> list[int]:
    """Remove what is left of broken builds, and old versions but the ``keep`` newest, unless a
    kernel runs from them. The versions that went. The caller holds the lock."""
    for path in root.glob(f"{TRASH}*"):
        shutil.rmtree(path)
    whole = numbers(root)
    for path in root.iterdir():
        if path.name.isdecimal() and int(path.name) not in whole and not path.is_symlink():
            discard(root, path.name)
    now = live(root)
    old = [version for version in whole if version != now]
    gone = []
    for version in old[: max(0, len(old) - keep)]:
        if remove_version(root, version):
            gone.append(version)
    return gone


def remove_version(root: Path, version: int) -> bool:
    """Remove it unless a kernel runs from it: the lease is held while the folder goes out of
    sight, so a kernel that starts now either has it before, or does not find it."""
    try:
        with (root / str(version) / LEASE).open("r+") as stream:
            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            away = put_away(root, str(version))
    except FileNotFoundError:
        away = put_away(root, str(version))
    except (BlockingIOError, PermissionError):  # lockf(3): either may mean "locked"
        return False
    if away is not None:
        shutil.rmtree(away)  # with the lease closed: NFS keeps an open file's folder
    return True


def take_over(folder: Path) -> None:
    """Everything in it is root's from now on: the next build must not be able to change it."""
    for _path, folders, files, descriptor in os.fwalk(folder):
        for name in [*folders, *files]:
            os.chown(name, 0, 0, dir_fd=descriptor, follow_symlinks=False)
    os.chown(folder, 0, 0, follow_symlinks=False)


def open_to(root: Path, group: str) -> None:
    """Let that group alone in ("": everyone). BuildError when there is no such group."""
    gid = 0
    if group:
        try:
            gid = grp.getgrnam(group).gr_gid
        except KeyError:
            raise BuildError(
                f"there is no group {group} on this node: practicum apply makes it"
            ) from None
    if os.geteuid() == 0:
        os.chown(root, 0, gid)
    root.chmod(0o750 if group else 0o755)


def write(path: Path, text: str) -> None:
    """Replace a file whole."""
    fresh = path.with_name(f".{path.name}-{os.getpid()}")
    with fresh.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)


def read_theirs(path: Path, most: int = 4_000_000) -> str:
    """A file that the builder wrote, which may have laid a link there to what only root reads.
    BuildError when it is no plain file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise BuildError(f"{path} cannot be read: {error.strerror}") from None
    with open(descriptor, errors="replace") as stream:  # noqa: PTH123 - a descriptor
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise BuildError(f"{path} is no plain file")
        return stream.read(most)


def size(folder: Path) -> tuple[int, int]:
    """(files, bytes) of a folder."""
    files = total = 0
    for path, _folders, names in os.walk(folder):
        for name in names:
            files += 1
            total += os.lstat(f"{path}/{name}").st_size
    return files, total


def appears(path: Path, seconds: float) -> bool:
    """Wait for a file that another node wrote: NFS clients remember for a while that it was not
    there (acdirmin and acdirmax in nfs(5): 30 to 60 seconds)."""
    end = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            any(path.parent.iterdir())
        if path.exists():
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(0.25)
