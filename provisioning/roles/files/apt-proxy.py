#!/usr/bin/python3 -I
"""Tells apt which proxy to take (apt.conf(5), Proxy-Auto-Detect): the cluster's package cache
when it answers, else none. Encrypted sources are left alone."""

import socket
import sys

SERVER, PORT = "@SERVER@", int("@PORT@")


def main() -> str:
    if not (sys.argv[1:] and sys.argv[1].startswith("http:")):
        return "DIRECT"
    try:
        socket.create_connection((SERVER, PORT), timeout=1).close()
    except OSError:
        return "DIRECT"
    return f"http://{SERVER}:{PORT}"


print(main())  # noqa: T201  this is the answer
