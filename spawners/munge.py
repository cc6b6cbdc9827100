"""munge by its library: who wrote a message, and a message that only one user can read.

A credential says, on the word of the cluster's shared key, which uid made it and (with
a restriction) which uid alone may open it. The library asks munged over its socket, in a thread
beside the hub's loop; by the commands munge and unmunge it would be a process for each message.
Sources: munge.h (options and their types, error numbers), libmunge(3) of munge 0.5.15.
"""

from __future__ import annotations

import asyncio
import ctypes
import ipaddress
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, TypeVar

from cluster.errors import PracticumError

LIBRARY = "libmunge.so.2"

T = TypeVar("T")

# munge_err_t
WORDS = {
    6: "munge's daemon does not answer",
    8: "this is not a credential of munge",
    15: "the credential has expired",
    16: "the credential comes from the future: the clocks differ",
    17: "the credential has been used before",
    18: "the credential is meant for another user",
}
CREDENTIAL = re.compile(r"MUNGE:[A-Za-z0-9+/=]+:")


class MungeError(PracticumError):
    """A credential that is not to be believed, or munge itself cannot be reached."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Opened:
    """A credential that munge vouches for. Times are seconds since 1970."""

    uid: int
    gid: int
    host: str  # address of the machine that it was made on
    made: int
    restricted_to: int | None  # the only uid that may open it
    payload: str = field(repr=False)  # may hold secrets: kept out of logs


# munge_opt_t
TTL, ADDRESS, ENCODED, SOCKET, READER = 4, 5, 6, 8, 9
ANYONE = 0xFFFFFFFF  # MUNGE_UID_ANY


@cache
def library() -> Any:
    """libmunge, which munge itself needs. MungeError when it is not installed."""
    try:
        found = ctypes.CDLL(LIBRARY)
        libc = ctypes.CDLL(None)
    except OSError as error:
        raise MungeError(f"munge's library cannot be loaded: {error}") from error
    found.munge_ctx_create.restype = ctypes.c_void_p
    found.munge_ctx_destroy.argtypes = [ctypes.c_void_p]
    found.munge_strerror.restype = ctypes.c_char_p
    found.munge_ctx_strerror.argtypes = [ctypes.c_void_p]
    found.munge_ctx_strerror.restype = ctypes.c_char_p
    found.free = libc.free  # type: ignore[attr-defined]
    found.free.argtypes = [ctypes.c_void_p]
    found.free.restype = None
    return found


@contextmanager
def _context(socket: str) -> Iterator[ctypes.c_void_p]:
    lib = library()
    context = ctypes.c_void_p(lib.munge_ctx_create())
    if not context:
        raise MungeError("munge has no memory", status=5)
    try:
        if socket:
            _set(context, SOCKET, ctypes.c_char_p(socket.encode()))
        yield context
    finally:
        lib.munge_ctx_destroy(context)


def _set(context: ctypes.c_void_p, option: int, value: Any) -> None:
    status = library().munge_ctx_set(context, option, value)
    if status:
        raise MungeError(f"munge refuses a setting: {_said(context, status)}", status=status)


def _get(context: ctypes.c_void_p, option: int, value: Any) -> Any:
    status = library().munge_ctx_get(context, option, ctypes.byref(value))
    if status:
        raise MungeError(f"munge does not tell: {_said(context, status)}", status=status)
    return value


def _said(context: ctypes.c_void_p, status: int) -> str:
    lib = library()
    words = lib.munge_ctx_strerror(context) or lib.munge_strerror(status) or b""
    return str(words.decode(errors="replace"))[:200]


def encode(payload: bytes, *, reader: int, ttl: int, socket: str = "") -> str:
    """A credential for uid ``reader`` alone, for ``ttl`` seconds. MungeError."""
    lib = library()
    with _context(socket) as context:
        _set(context, READER, ctypes.c_uint32(reader))
        _set(context, TTL, ctypes.c_int(ttl))
        made = ctypes.c_void_p()
        status = lib.munge_encode(ctypes.byref(made), context, payload, len(payload))
        try:
            if status:
                raise MungeError(f"munge failed: {_said(context, status)}", status=status)
            return ctypes.string_at(made).decode("ascii")
        finally:
            lib.free(made)


def decode(credential: bytes, *, socket: str = "") -> Opened:
    """Who made it and what it says. MungeError says why it is not to be believed."""
    lib = library()
    with _context(socket) as context:
        payload, length = ctypes.c_void_p(), ctypes.c_int()
        uid, gid = ctypes.c_uint32(), ctypes.c_uint32()
        status = lib.munge_decode(
            credential, context, *map(ctypes.byref, (payload, length, uid, gid))
        )
        try:
            if status:
                words = WORDS.get(status, f"munge refuses it: {_said(context, status)}")
                raise MungeError(words, status=status)
            text = ctypes.string_at(payload, length.value) if payload else b""
        finally:  # some of those that are refused have a payload, too
            lib.free(payload)
        address = _get(context, ADDRESS, (ctypes.c_uint8 * 4)())
        reader = _get(context, READER, ctypes.c_uint32()).value
        return Opened(
            uid=uid.value,
            gid=gid.value,
            host=str(ipaddress.IPv4Address(bytes(address))),
            made=_get(context, ENCODED, ctypes.c_long()).value,  # time_t
            restricted_to=None if reader == ANYONE else reader,
            payload=text.decode(errors="replace"),
        )


@dataclass(frozen=True)
class Munge:
    """munged. ``socket`` other than "" is another daemon's than the machine's."""

    socket: str = ""
    timeout: float = 10  # seconds; the library itself gives up after about as long

    async def close(self, payload: str, *, reader: int, ttl: int = 120) -> str:
        """A credential that only uid ``reader`` can open, for ``ttl`` seconds. MungeError."""
        text = payload.encode()
        return await self._beside(encode, text, reader=reader, ttl=ttl, socket=self.socket)

    async def open(self, credential: str) -> Opened:
        """Who made this, and what it says. MungeError says why it is not to be believed."""
        text = credential.strip()
        if not CREDENTIAL.fullmatch(text):
            raise MungeError(WORDS[8], status=8)
        return await self._beside(decode, text.encode("ascii"), socket=self.socket)

    async def _beside(self, call: Callable[..., T], *given: Any, **named: Any) -> T:
        try:
            async with asyncio.timeout(self.timeout):
                return await asyncio.to_thread(call, *given, **named)
        except TimeoutError:
            raise MungeError(WORDS[6], status=6) from None
