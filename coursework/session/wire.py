"""Files on their way between a session and the spooler, and munge by its two commands.

A body is a row of files and an end: two bytes with the length of a path, the path (UTF-8, parts
divided by "/"), eight bytes with the size, the contents; two zero bytes end it (all numbers
big-endian). So there are no links, devices, modes, owners or holes to be had. The first line
before any body is a munge credential; see :mod:`records`.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

PATH_LENGTH = struct.Struct(">H")
SIZE = struct.Struct(">Q")
END = PATH_LENGTH.pack(0)
LONGEST_PATH = 500  # bytes
LONGEST_PART = 200
DEEPEST = 12
CHUNK = 1 << 16
LONGEST_LINE = 1 << 20  # bytes of a credential; a list of a year's submissions is in its payload
COMMAND_SECONDS = 20


class WireError(Exception):
    """What cannot be sent or was not received, in a sentence for the person."""


def check_path(raw: bytes) -> str:
    """A path that stays in its folder, as text. ValueError says what is wrong with it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("a file's name is not UTF-8") from None
    shown = text[:60]
    if not text or len(raw) > LONGEST_PATH:
        raise ValueError(f"the path {shown!r} is empty or longer than {LONGEST_PATH} bytes")
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
        raise ValueError(f"the name {shown!r} has control characters")
    parts = text.split("/")
    if len(parts) > DEEPEST:
        raise ValueError(f"{shown!r} is more than {DEEPEST} folders deep")
    for part in parts:
        if part in ("", ".", "..") or len(part.encode()) > LONGEST_PART:
            raise ValueError(f"{shown!r} is not a path inside the assignment's folder")
    return text


def header(path: str, size: int) -> bytes:
    raw = path.encode()
    check_path(raw)
    return PATH_LENGTH.pack(len(raw)) + raw + SIZE.pack(size)


def write_body(files: Sequence[tuple[str, bytes]], stream: IO[bytes]) -> tuple[str, int]:
    """Files as a body; its SHA-256 and size."""
    total, size = hashlib.sha256(), 0
    for path, data in files:
        for part in (header(path, len(data)), data):
            total.update(part)
            stream.write(part)
            size += len(part)
    stream.write(END)
    total.update(END)
    return total.hexdigest(), size + len(END)


def read_body(stream: IO[bytes], size: int, sha256: str) -> Iterator[tuple[str, bytes]]:
    """The files of a body of that size, one after another. WireError when it is cut or strange,
    and after the last file when it is not the one whose digest was told."""
    total, left = hashlib.sha256(), size

    def take(count: int) -> bytes:
        nonlocal left
        if count > left:
            raise WireError("the server sent less than it said")
        parts, missing = [], count
        while missing:
            part = stream.read(min(missing, CHUNK))
            if not part:
                raise WireError("the connection broke off")
            parts.append(part)
            missing -= len(part)
        left -= count
        data = b"".join(parts)
        total.update(data)
        return data

    while length := PATH_LENGTH.unpack(take(PATH_LENGTH.size))[0]:
        try:
            path = check_path(take(length))
        except ValueError as error:
            raise WireError(f"the server sent a strange file: {error}") from None
        yield path, take(SIZE.unpack(take(SIZE.size))[0])
    if left or total.hexdigest() != sha256:
        raise WireError("what came is not what the server sent: try again")


class Munge:
    """Credentials; ``munge`` and ``unmunge`` are programs."""

    def __init__(self, munge: str = "/usr/bin/munge", unmunge: str = "/usr/bin/unmunge") -> None:
        self._munge, self._unmunge = munge, unmunge

    def close(self, payload: str, reader: int, ttl: int = 300) -> str:
        """A credential that only that uid can open. WireError."""
        return self._run(
            [self._munge, "--restrict-uid", str(reader), "--ttl", str(ttl)], payload
        ).strip()

    def open(self, credential: str, maker: int) -> str:
        """Its payload, if that uid made it. WireError."""
        text = self._run([self._unmunge, "--numeric"], credential)
        head, _, payload = text.partition("\n\n")
        uid = re.search(r"^UID:\s+([0-9]+)$", head, re.MULTILINE)
        if not uid or int(uid[1]) != maker:
            raise WireError("the answer does not come from the course: tell your instructor")
        return payload

    def _run(self, argv: list[str], text: str) -> str:
        try:
            done = subprocess.run(
                argv, input=text.encode(), capture_output=True, timeout=COMMAND_SECONDS,
                check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise WireError(f"munge does not work here: {error}") from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()[:200]
            raise WireError(f"munge does not work here: {said}")
        return done.stdout.decode(errors="replace")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    total = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(CHUNK):
            total.update(part)
    return total.hexdigest()
