"""The door of a spooler: connections of whom nobody knows yet who they are.

Anybody on the network can connect and say nothing. Such a one is not refused, for the next may be
a student; when there are too many, the one that has been silent longest loses its place. An honest
client has its question ready before it connects, so it is silent for a moment only.
"""

from __future__ import annotations

from typing import Protocol

OF_ONE_ADDRESS = 48  # a class may sit on one node, and hand in within the same second
IN_ALL = 128


class Connection(Protocol):
    def abort(self) -> None: ...


class Door:
    """Silent connections, the oldest first."""

    def __init__(self, of_one: int = OF_ONE_ADDRESS, in_all: int = IN_ALL) -> None:
        self._of_one, self._in_all = of_one, in_all
        self._silent: dict[Connection, str] = {}

    def enter(self, connection: Connection, address: str) -> None:
        """Another one. When it is full, the oldest goes: of the same address, if that has its
        share already."""
        same = [one for one, where in self._silent.items() if where == address]
        if len(same) >= self._of_one:
            self._drop(same[0])
        elif len(self._silent) >= self._in_all:
            self._drop(next(iter(self._silent)))
        self._silent[connection] = address

    def leave(self, connection: Connection) -> None:
        """It is known by now, or gone."""
        self._silent.pop(connection, None)

    def _drop(self, connection: Connection) -> None:
        del self._silent[connection]
        connection.abort()
