"""Files that people name, read with errors for them; files beside cluster.toml, written whole or
not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cluster.errors import PracticumError


def read(path: Path, error: type[PracticumError] = PracticumError) -> str:
    """The text of a file that somebody named. ``error`` when it is none or cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise error(f"{path} is not UTF-8 text") from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {problem.strerror}") from None


def write(
    path: Path, text: str, mode: int = 0o644, *, owner: tuple[int, int] | None = None
) -> None:
    """Replace a file whole. ``owner``: uid and gid; ours if left out. PracticumError when it
    cannot be written."""
    try:
        path.parent.mkdir(mode=0o755 if mode & 0o044 else 0o700, parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                if owner and owner != (os.geteuid(), os.getegid()):
                    os.fchown(descriptor, *owner)
                os.fchmod(descriptor, mode)
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise PracticumError(f"{path} cannot be written: {error.strerror}") from None
