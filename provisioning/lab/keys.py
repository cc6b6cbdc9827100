"""SSH keys of a lab: one to get in with, one for each node, and the known_hosts that ties them."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from provisioning.lab.system import write


def ensure_key(path: Path, comment: str) -> tuple[str, str]:
    """(private, public) as OpenSSH writes them, made at ``path`` (and ``path``.pub) if missing."""
    public_path = path.with_name(path.name + ".pub")
    if not (path.exists() and public_path.exists()):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(path, private.decode(), 0o600)
        write(public_path, f"{public.decode()} {comment}\n")
    return path.read_text(), public_path.read_text()


def known_host(address: str, public: str) -> str:
    """A line of known_hosts."""
    kind, key = public.split()[:2]
    return f"{address} {kind} {key}\n"
