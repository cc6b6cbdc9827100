"""cluster.toml written anew by a command: only what would be accepted, whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from cluster import files
from cluster.errors import ConfigError, PracticumError
from cluster.load import load
from cluster.model import Cluster


def tried(file: Path, text: str, accounts: Mapping[Path, str] | None = None) -> Cluster:
    """What ``file`` would describe with that text, and accounts' files with theirs; all stay as
    they are. ConfigError when it would be refused.

    It is tried beside the file: what it refers to by relative paths must be found.
    """
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=file.parent, prefix=f".{file.name}-", encoding="utf-8"
        ) as trial:
            trial.write(text)
            trial.flush()
            try:
                return load(Path(trial.name), accounts)
            except ConfigError as error:
                raise ConfigError(str(error).replace(trial.name, str(file))) from None
    except OSError as error:
        raise PracticumError(f"{file} cannot be written: {error.strerror}") from None


def rewrite(file: Path, text: str) -> None:
    """Replace cluster.toml; its owner and mode stay. ConfigError when it would be refused, and
    PracticumError when it cannot be written: then it is as it was."""
    tried(file, text)
    now = file.stat()
    files.write(file, text, now.st_mode & 0o777, owner=(now.st_uid, now.st_gid))
