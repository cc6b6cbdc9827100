"""Files on their way between a session and the spooler, and munge by its two commands.

A body is a row of files and an end: two bytes with the length of a path, the path (UTF-8, parts
divided by "/"), eight bytes with the size, the contents; two zero bytes end it (all numbers
big-endian). So there are no links, devices, modes, owners or holes to be had. The first line
before any body is a munge credential; see :mod:`records`.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
import subprocess
from collections.abc import Iterable, Iterator
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


def parts(files: Iterable[tuple[str, bytes | Path]]) -> Iterator[bytes]:
    """A body, piece by piece: of a file on the disk no more is in memory than a piece. OSError, and
    ValueError when a file changes meanwhile."""
    for path, data in files:
        if isinstance(data, bytes):
            yield header(path, len(data))
            yield data
            continue
        with data.open("rb") as source:
            left = os.fstat(source.fileno()).st_size
            yield header(path, left)
            while left:
                part = source.read(min(left, CHUNK))
                if not part:
                    raise ValueError(f"{path} changed while it was read")
                yield part
                left -= len(part)
    yield END


def measure(files: Iterable[tuple[str, bytes | Path]]) -> tuple[str, int]:
    """A body's SHA-256 and size."""
    total, size = hashlib.sha256(), 0
    for part in parts(files):
        total.update(part)
        size += len(part)
    return total.hexdigest(), size


def write_body(files: Iterable[tuple[str, bytes | Path]], stream: IO[bytes]) -> tuple[str, int]:
    """Files as a body; its SHA-256 and size."""
    total, size = hashlib.sha256(), 0
    for part in parts(files):
        total.update(part)
        stream.write(part)
        size += len(part)
    return total.hexdigest(), size


def read_parts(stream: IO[bytes], size: int, sha256: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of a body of that size, one after another, each in pieces to be read before the
    next. WireError when it is cut or strange, and after the last file when it is not the one whose
    digest was told."""
    total, left = hashlib.sha256(), size

    def take(count: int) -> bytes:
        nonlocal left
        if count > left:
            raise WireError("the server sent less than it said")
        data = b""
        while len(data) < count:
            part = stream.read(count - len(data))
            if not part:
                raise WireError("the connection broke off")
            data += part
        left -= count
        total.update(data)
        return data

    def pieces(count: int) -> Iterator[bytes]:
        while count:
            part = take(min(count, CHUNK))
            count -= len(part)
            yield part

    while length := PATH_LENGTH.unpack(take(PATH_LENGTH.size))[0]:
        try:
            path = check_path(take(length))
        except ValueError as error:
            raise WireError(f"the server sent a strange file: {error}") from None
        contents = pieces(SIZE.unpack(take(SIZE.size))[0])
        yield path, contents
        for _unread in contents:
            pass
    if left or total.hexdigest() != sha256:
        raise WireError("what came is not what the server sent: try again")


def read_body(stream: IO[bytes], size: int, sha256: str) -> Iterator[tuple[str, bytes]]:
    """The same, each file whole. WireError."""
    for path, contents in read_parts(stream, size, sha256):
        yield path, b"".join(contents)


def unpack(stream: IO[bytes], size: int, sha256: str, folder: Path) -> None:
    """The same, into new files below a folder. WireError, OSError."""
    for path, contents in read_parts(stream, size, sha256):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as out:
            out.writelines(contents)


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
