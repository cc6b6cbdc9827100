"""A body from a connection into files, believed in nothing: limits, paths and digest are checked
as it comes."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from coursework.session.wire import CHUNK, PATH_LENGTH, SIZE, check_path
from coursework.store import RefusedError


class Body:
    """One body: ``size`` bytes and ``files`` files were announced, no more are taken."""

    def __init__(self, reader: asyncio.StreamReader, size: int, files: int) -> None:
        self._reader = reader
        self._left = size
        self._files = files
        self._total = hashlib.sha256()
        self.digests: dict[str, str] = {}

    async def into(self, folder: Path, sha256: str) -> None:
        """Write the files. RefusedError says what is wrong; asyncio.IncompleteReadError when the
        connection breaks off. What was written stays behind: the caller clears it away, or sees
        to it that it is on the disk (Store.accept)."""
        while length := PATH_LENGTH.unpack(await self._take(PATH_LENGTH.size))[0]:
            try:
                path = check_path(await self._take(length))
            except ValueError as error:
                raise RefusedError(f"nothing was handed in: {error}") from None
            if len(self.digests) >= self._files:
                raise RefusedError("nothing was handed in: more files came than were announced")
            await self._file(folder, path, SIZE.unpack(await self._take(SIZE.size))[0])
        if self._left or len(self.digests) != self._files:
            raise RefusedError("nothing was handed in: less came than was announced")
        if self._total.hexdigest() != sha256:
            raise RefusedError("nothing was handed in: what came is not what was announced")

    async def _file(self, folder: Path, path: str, size: int) -> None:
        if size > self._left:
            raise RefusedError(f"nothing was handed in: {path} is larger than was announced")
        target = folder / path
        own = hashlib.sha256()
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            descriptor = os.open(target, flags, 0o600)
        except (FileExistsError, NotADirectoryError):
            raise RefusedError(f"nothing was handed in: {path} came twice") from None
        with open(descriptor, "wb") as stream:  # noqa: ASYNC230, PTH123 - a descriptor, a local disk
            while size:
                part = await self._take(min(size, CHUNK))
                own.update(part)
                stream.write(part)
                size -= len(part)
        self.digests[path] = own.hexdigest()

    async def _take(self, count: int) -> bytes:
        if count > self._left:
            raise RefusedError("nothing was handed in: less came than was announced")
        data = await self._reader.readexactly(count)
        self._left -= count
        self._total.update(data)
        return data
