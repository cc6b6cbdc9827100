"""munge by its two commands: who wrote a message, and a message that only one user can read.

A credential says, on the word of the cluster's shared key, which uid made it and (with
``restrict``) which uid alone may open it. Payloads go over stdin, never onto a command line.
Sources: munge(1), unmunge(1) of munge 0.5.15.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from cluster.errors import PracticumError
from spawners.commands import CommandError, run

# unmunge(1): the status is also the exit code.
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


def read_opened(text: str) -> Opened:
    """What ``unmunge --numeric`` prints: lines of metadata, an empty line, the payload.

    ValueError when something is missing or its status is not success.
    """
    head, gap, payload = text.partition("\n\n")
    if not gap:
        raise ValueError("unmunge's answer has no end of its metadata")
    values = dict(re.findall(r"^([A-Z_]+):\s+(\S+)$", head, re.MULTILINE))
    if values.get("STATUS") != "0":
        raise ValueError(f"unmunge's status is {values.get('STATUS')!r}")
    try:
        restriction = values.get("UID_RESTRICTION")
        return Opened(
            uid=int(values["UID"]),
            gid=int(values["GID"]),
            host=values["ENCODE_HOST"],
            made=int(values["ENCODE_TIME"]),
            restricted_to=None if restriction is None else int(restriction),
            payload=payload,
        )
    except KeyError as error:
        raise ValueError(f"unmunge did not tell {error.args[0]}") from None


@dataclass(frozen=True)
class Munge:
    """The commands. ``socket`` other than "" is another daemon's than the machine's."""

    munge: str = "/usr/bin/munge"
    unmunge: str = "/usr/bin/unmunge"
    socket: str = ""
    timeout: float = 10  # seconds

    def _socket(self) -> list[str]:
        return ["--socket", self.socket] if self.socket else []

    async def close(self, payload: str, *, reader: int, ttl: int = 120) -> str:
        """A credential that only uid ``reader`` can open, for ``ttl`` seconds. MungeError."""
        argv = [self.munge, *self._socket(), "--restrict-uid", str(reader), "--ttl", str(ttl)]
        try:
            done = await run(argv, stdin=payload, timeout=self.timeout)
        except CommandError as error:
            raise MungeError(str(error)) from error
        credential = done.out.strip()
        if done.status or not CREDENTIAL.fullmatch(credential):
            raise MungeError(f"munge failed: {done.err.strip()[:200]}", status=done.status)
        return credential

    async def open(self, credential: str) -> Opened:
        """Who made this, and what it says. MungeError says why it is not to be believed."""
        if not CREDENTIAL.fullmatch(credential.strip()):
            raise MungeError(WORDS[8], status=8)
        argv = [self.unmunge, *self._socket(), "--numeric"]
        try:
            done = await run(argv, stdin=credential, timeout=self.timeout)
        except CommandError as error:
            raise MungeError(str(error)) from error
        if done.status:
            words = WORDS.get(done.status, f"munge refuses it (status {done.status})")
            raise MungeError(words, status=done.status)
        try:
            return read_opened(done.out)
        except ValueError as error:
            raise MungeError(str(error)) from error
