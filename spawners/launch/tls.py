"""The session's certificate: in this process's memory, where libraries want names of files."""

from __future__ import annotations

import os
import ssl
from typing import Any

# JupyterHub's variables for what the hub hands over
VARIABLES = {
    "key": "JUPYTERHUB_SSL_KEYFILE",
    "certificate": "JUPYTERHUB_SSL_CERTFILE",
    "authority": "JUPYTERHUB_SSL_CLIENT_CA",
}


def keep(pieces: dict[str, Any]) -> dict[str, str]:
    """{variable: path} of the PEM texts that the hub handed over; nothing without TLS.

    The files are in memory and belong to this process: on no disk, full or not, and gone with it.
    """
    found = {}
    for name, variable in VARIABLES.items():
        if name in pieces:
            descriptor = os.memfd_create(f"practicum-{name}")
            with os.fdopen(os.dup(descriptor), "w") as stream:
                stream.write(str(pieces[name]))
            found[variable] = f"/proc/{os.getpid()}/fd/{descriptor}"
    return found


def context(env: dict[str, str]) -> ssl.SSLContext | None:
    """How this session calls the hub, from those variables; None without TLS."""
    if VARIABLES["key"] not in env:
        return None
    found = ssl.create_default_context(cafile=env[VARIABLES["authority"]])
    found.load_cert_chain(env[VARIABLES["certificate"]], env[VARIABLES["key"]])
    return found
