"""The secrets of a cluster: made once, kept in ``secrets/secrets.toml`` beside cluster.toml.

The file is flat, one ``key = "value"`` a line, readable by its owner only. Nothing here prints a
value or puts one on a command line.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import secrets
import stat
import subprocess
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cluster.errors import ConfigError, PracticumError, UsageError
from cluster.files import write
from cluster.model import Cluster

FOLDER = "secrets"
FILE = "secrets.toml"
PASSWORD = "password."  # noqa: S105 - the prefix of the keys that hold users' password hashes


def _hex32() -> str:
    return secrets.token_hex(32)


# name → how it is made
MAKERS: dict[str, Callable[[], str]] = {
    "munge_key": lambda: base64.b64encode(secrets.token_bytes(1024)).decode("ascii"),
    "database_password": lambda: secrets.token_urlsafe(32),
    "hub_cookie_secret": _hex32,
    "hub_crypt_key": _hex32,
    "proxy_token": _hex32,
    "manifest_key": _hex32,
}


def secrets_path(cluster_toml: Path) -> Path:
    """Where the secrets of that cluster.toml are."""
    return cluster_toml.parent / FOLDER / FILE


def generate(known: Mapping[str, str] | None = None) -> dict[str, str]:
    """All secrets; those already ``known`` stay as they are."""
    made = dict(known or {})
    for key, make in MAKERS.items():
        if not made.get(key):
            made[key] = make()
    return made


def derived(secret: str, purpose: str) -> str:
    """Another secret that follows from one of ours: 64 hexadecimal digits. Who has it learns
    nothing of ``secret`` or of what is derived for other purposes."""
    return hmac.new(secret.encode(), purpose.encode(), hashlib.sha256).hexdigest()


def load_secrets(
    path: Path, cluster: Cluster | None = None, *, complete: bool = True
) -> dict[str, str]:
    """Read the file; with ``cluster``, without passwords of people it no longer has.

    ConfigError when others can read it, when it is not such a file, or when a secret is missing
    (unless ``complete`` is False).
    """
    _only_owner(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        # The parser's message could quote the line, and with it a secret.
        raise ConfigError(
            f'{path} is damaged: every line must be "key" = "value"; restore it from a backup'
        ) from None
    written_as_table = data.pop("password", None)  # password.ada = "..." without the quotes
    if isinstance(written_as_table, dict):
        data |= {f"{PASSWORD}{user}": value for user, value in written_as_table.items()}
    for key, value in data.items():
        if not isinstance(value, str):
            raise ConfigError(f'{path}: {key} must be text in quotes: "{key}" = "..."')
    missing = [key for key in MAKERS if not data.get(key)]
    if missing and complete:
        raise ConfigError(f"{path}: {', '.join(missing)} missing: run practicum init to add them")
    if cluster is not None:
        for name in of_nobody(data, (user.name for user in cluster.users)):
            del data[f"{PASSWORD}{name}"]
    return data


def _only_owner(path: Path) -> None:
    try:
        mode = path.stat().st_mode
        os.close(os.open(path, os.O_RDONLY))
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}: practicum init makes it") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise ConfigError(f"{path} must be a regular file")
    if mode & 0o077:
        raise ConfigError(
            f"{path} can be read or written by others (mode {mode & 0o777:04o}): "
            f"run chmod 600 {path}, and if others use this machine, make new secrets"
        )


def save_secrets(path: Path, values: Mapping[str, str]) -> None:
    """Write the file whole, mode 0600, in a folder of mode 0700: what was there stays until
    the new one is on the disk."""
    text = "# Secrets of this cluster. Keep a copy in a safe place; never commit it.\n"
    text += "".join(f"{_quoted(key)} = {_quoted(values[key])}\n" for key in sorted(values))
    write(path, text, 0o600)


def _quoted(text: str) -> str:
    """A TOML basic string: JSON's escapes, and DEL, which TOML wants escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def hash_password(password: str) -> str:
    """crypt(3) hash, SHA-512, by openssl: the clear text goes over its stdin only."""
    if not password or re.search(r"[\x00-\x1f\x7f]", password):
        raise UsageError("a password needs at least one character and no control characters")
    if len(password.encode()) > 255:  # openssl cuts at 256
        raise UsageError("a password may have at most 255 bytes")
    try:
        done = subprocess.run(
            ("openssl", "passwd", "-6", "-stdin"),
            input=password.encode() + b"\n",
            capture_output=True,
            timeout=20,
            check=True,
        )
    except FileNotFoundError:
        raise PracticumError("openssl is not installed: apt install openssl") from None
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        raise PracticumError("openssl passwd failed: is its installation complete?") from None
    return done.stdout.decode("ascii").strip()


def of_nobody(values: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """Whom the file has a password for, though there is no such account."""
    have = {key.removeprefix(PASSWORD) for key in values if key.startswith(PASSWORD)}
    return sorted(have - set(names))


def with_password(values: Mapping[str, str], user: str, password: str) -> dict[str, str]:
    """The same secrets with a new password of ``user``."""
    return {**values, f"{PASSWORD}{user}": hash_password(password)}
