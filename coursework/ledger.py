"""What a course remembers of credentials and what its receipts are sealed with.

Munge refuses a credential that it has seen, but only until its daemon restarts. So every nonce of
a hand-in is written down, on the disk before the hand-in counts, and kept longer than any
credential lives.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from dataclasses import replace
from pathlib import Path

from coursework.session.records import Receipt

LONGEST_LIFE = 300  # seconds: an older credential is refused, whatever its own ttl says
KEPT = 4 * LONGEST_LIFE  # clocks may differ, to munge's own limit
NONCES = "nonces"
KEY = "key"
COMPACT = 10_000  # lines after which old ones are dropped


class Nonces:
    """Nonces that were used, in a file of lines ``TIME UID NONCE``."""

    def __init__(self, folder: Path, now: float) -> None:
        self._path = folder / NONCES
        self._seen: dict[str, float] = {}
        self._written = 0
        try:
            lines = self._path.read_text(encoding="ascii", errors="replace").splitlines()
        except FileNotFoundError:
            lines = []
        for line in lines:
            parts = line.split()
            # a line cut short by a crash counts for nothing: its hand-in never did either
            if len(parts) == 3 and parts[0].isdecimal() and now - int(parts[0]) < KEPT:
                self._seen[parts[2]] = int(parts[0])
        self._compact(now)

    def use(self, nonce: str, uid: int, now: float) -> bool:
        """Whether it is new; then it is used from now on, on the disk too. OSError."""
        if nonce in self._seen:
            return False
        self._seen[nonce] = now
        with self._path.open("a", encoding="ascii") as stream:
            stream.write(f"{int(now)} {uid} {nonce}\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._written += 1
        if self._written > COMPACT:
            self._compact(now)
        return True

    def _compact(self, now: float) -> None:
        self._seen = {nonce: when for nonce, when in self._seen.items() if now - when < KEPT}
        fresh = self._path.with_name(f"{NONCES}.new")
        with fresh.open("w", encoding="ascii") as stream:
            stream.writelines(f"{int(when)} 0 {nonce}\n" for nonce, when in self._seen.items())
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(self._path)
        self._written = 0


def key(folder: Path) -> bytes:
    """The course's key, made when there is none. ValueError when it is damaged."""
    path = folder / KEY
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        fresh = folder / f".{KEY}-{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as stream:  # noqa: PTH123 - a descriptor
            stream.write(secrets.token_bytes(32))
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(fresh, path)  # never over one that somebody else has made meanwhile
        except FileExistsError:
            pass
        finally:
            fresh.unlink()
        found = path.read_bytes()
    if len(found) != 32:
        raise ValueError(f"{path} is damaged: restore it from a backup")
    return found


def seal(receipt: Receipt, secret: bytes) -> Receipt:
    """The receipt with its seal."""
    text = receipt.sealed_text().encode()
    return replace(receipt, seal=hmac.new(secret, text, hashlib.sha256).hexdigest())


def genuine(receipt: Receipt, secret: bytes) -> bool:
    """Whether this course sealed it, and nothing in it was changed since."""
    return hmac.compare_digest(seal(receipt, secret).seal, receipt.seal)
