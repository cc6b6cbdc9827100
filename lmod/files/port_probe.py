#!/usr/bin/python3
"""Which TCP ports of other nodes this one cannot reach. Standard library only.

    port_probe.py --ports P,P,... --seconds S HOST...

Run at once on every node. Listens on the ports itself (one that is taken is somebody's, and open),
tries those of all hosts until each answered or the time is over, and prints JSON
``{"closed": {HOST: [PORT, ...]}}``. It stays until every host has come to each of its own ports,
at most that long.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Sequence

EACH_SECONDS = 2.0  # a packet that is dropped is noticed after that


class Node:
    def __init__(self, ports: Sequence[int], hosts: Sequence[str], seconds: float) -> None:
        self.ports = ports
        self.hosts = hosts
        self.end = time.monotonic() + seconds
        self.seen: set[tuple[str, int]] = set()
        self.listening: list[int] = []
        self.expected = 0  # how many visits; 0 while that is not known yet
        self.complete = asyncio.Event()

    async def run(self) -> dict[str, list[int]]:
        servers = [server for port in self.ports if (server := await self.serve(port))]
        tries = [(host, port) for host in self.hosts for port in self.ports]
        answers = await asyncio.gather(*(self.reach(host, port) for host, port in tries))
        closed: dict[str, list[int]] = {}
        for (host, port), answered in zip(tries, answers, strict=True):
            if not answered:
                closed.setdefault(host, []).append(port)
        everybody = len(self.hosts) * len(self.listening)
        with contextlib.suppress(asyncio.TimeoutError):
            if len(self.seen) < everybody:
                self.expected = everybody
                left = max(self.end - time.monotonic(), 0)
                await asyncio.wait_for(self.complete.wait(), left)
        for server in servers:
            server.close()
        return closed

    async def serve(self, port: int) -> asyncio.Server | None:
        async def hello(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            address = writer.get_extra_info("peername")[0]
            self.seen.add((str(address), port))
            if len(self.seen) == self.expected:
                self.complete.set()
            writer.close()

        try:
            server = await asyncio.start_server(hello, "0.0.0.0", port, backlog=512)  # noqa: S104
        except OSError:
            return None
        self.listening.append(port)
        return server

    async def reach(self, host: str, port: int) -> bool:
        while time.monotonic() < self.end:
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                _, writer = await asyncio.wait_for(
                    asyncio.open_connection(host, port), EACH_SECONDS
                )
                writer.close()
                return True
            await asyncio.sleep(0.2)
        return False


async def probe(ports: Sequence[int], hosts: Sequence[str], seconds: float) -> dict[str, list[int]]:
    return await Node(ports, hosts, seconds).run()


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Which ports of other nodes are closed.")
    parser.add_argument("--ports", required=True)
    parser.add_argument("--seconds", required=True, type=float)
    parser.add_argument("hosts", nargs="*")
    options = parser.parse_args(list(argv))
    ports = [int(port) for port in options.ports.split(",")]
    closed = asyncio.run(probe(ports, options.hosts, options.seconds))
    print(json.dumps({"closed": closed}))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
