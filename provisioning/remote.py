"""Plain commands on a node, as root, over one SSH connection."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import NamedTuple, Self

import paramiko

from provisioning.ssh import SSHTarget
from provisioning.transport import TransportError


class Done(NamedTuple):
    """What a command on a node left."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Its last words, for a sentence: of the errors, else of the output."""
        lines = [line.strip() for line in (self.err or self.out).splitlines() if line.strip()]
        return lines[-1][:300] if lines else f"exit status {self.code}"


class Remote:
    """A connection for plain commands, as root. Entered, it is open; one thread at a time."""

    def __init__(self, target: SSHTarget) -> None:
        self.target = target
        self._transport: paramiko.Transport | None = None

    def __enter__(self) -> Self:
        self._transport = self.target.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._transport is not None:
            self._transport.close()

    def run(
        self, argv: Sequence[str], *, stdin: str = "", timeout: float = 60, check: bool = False
    ) -> Done:
        """Run a command there and wait, at most ``timeout`` seconds between two pieces of output.

        TransportError when the connection ends or it takes longer; with ``check`` also when it
        fails, with what it said last.
        """
        out: list[str] = []
        done = self._run(argv, lambda channel: _both(channel, out), stdin, timeout)
        done = done._replace(out="".join(out))
        if check and done.code != 0:
            raise TransportError(f"{argv[0]} failed on {self.target.name}: {done.said}")
        return done

    def stream(
        self,
        argv: Sequence[str],
        hear: Callable[[str], None],
        *,
        stdin: str = "",
        timeout: float = 60,
    ) -> Done:
        """As :meth:`run`, and ``hear`` is called with each line as it comes; ``out`` stays empty.

        When this ends early (Ctrl-C, an error of ``hear``) the connection is closed with it, and
        a command that goes on to write is ended by that.
        """
        return self._run(argv, lambda channel: _heard(channel, hear), stdin, timeout)

    def _run(
        self,
        argv: Sequence[str],
        read: Callable[[paramiko.Channel], str],
        stdin: str,
        timeout: float,
    ) -> Done:
        if self._transport is None:
            raise TransportError(f"{self.target.name} is not connected")
        try:
            channel = self._transport.open_session(timeout=self.target.timeout)
            channel.settimeout(timeout)
            channel.exec_command(self.target.rooted(shlex.join(argv)))
            channel.sendall(stdin.encode())
            channel.shutdown_write()
            err = read(channel)
            return Done(_status(channel, timeout), "", err)
        except TimeoutError as error:
            raise TransportError(
                f"{argv[0]} on {self.target.name} did not finish within {timeout:.0f} s"
            ) from error
        except (paramiko.SSHException, OSError) as error:
            raise TransportError(f"the connection to {self.target.name} was lost") from error


def _both(channel: paramiko.Channel, out: list[str]) -> str:
    """All that is said: on stdout into ``out``, on stderr returned."""
    out.append(_all(channel.recv))
    return _all(channel.recv_stderr)


def _heard(channel: paramiko.Channel, hear: Callable[[str], None]) -> str:
    """Whatever is said, line by line as it comes; what was said on stderr."""
    rest = b""
    while piece := channel.recv(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            hear(line.decode("utf-8", "replace"))
    return _all(channel.recv_stderr)


def _status(channel: paramiko.Channel, timeout: float) -> int:
    if not channel.status_event.wait(timeout):
        raise TimeoutError
    return channel.recv_exit_status()


def _all(read: Callable[[int], bytes]) -> str:
    pieces = []
    while piece := read(1 << 16):
        pieces.append(piece)
    return b"".join(pieces).decode("utf-8", "replace")
