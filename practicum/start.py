"""What `practicum init` writes: cluster.toml with this machine's addresses, secrets, SSH key."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from cluster.errors import PracticumError
from cluster.load import load
from cluster.secrets import FOLDER, generate, load_secrets, save_secrets, secrets_path

SMALLEST = 28  # prefix length: with fewer than 14 addresses the example does not fit


@dataclass(frozen=True)
class Place:
    """Addresses to begin with."""

    subnet: str = "10.42.0.0/24"
    gateway: str | None = None
    own: str = "10.42.0.10"


def begin(file: Path) -> Iterator[str]:
    """Make what is missing, and say of each thing whether it was made or kept.

    ConfigError when something that is there is wrong, PracticumError when it cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        if _create(file, lambda: cluster_toml(here()), 0o644):
            yield f"{file}: written"
        else:
            yield f"{file}: kept as it is"
        cluster = load(file)
        yield f"{secrets_path(file)}: {_secrets(secrets_path(file))}"
        yield from _key(file.parent / cluster.ssh.key)
        yield from _ignore(file.parent / ".gitignore")
    except OSError as error:
        raise PracticumError(
            f"{error.filename or file} cannot be written: {error.strerror}"
        ) from None


def cluster_toml(place: Place) -> str:
    """The commented example with real addresses."""
    text = (files("practicum") / "templates" / "cluster.toml").read_text(encoding="utf-8")
    network = ipaddress.ip_network(place.subnet)
    own = ipaddress.ip_address(place.own)
    gateway = place.gateway
    values = {
        "NAME": "class",
        "TIMEZONE": _timezone(),
        "SUBNET": place.subnet,
        "GATEWAY": f'gateway = "{gateway}"' if gateway else '# gateway = "..."',
        "LOGIN": place.own,
        "COMPUTE": str(_two_free(network, {own, gateway and ipaddress.ip_address(gateway)})),
    }
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _two_free(network: Any, taken: set[Any]) -> Any:
    """The first of two neighbours that nobody has, after this machine's if there are."""
    hosts = list(islice(network.hosts(), 65536))
    pairs = [pair for pair in pairwise(hosts) if not taken & set(pair)]
    own = max((address for address in taken if address), default=hosts[0])
    return next((first for first, _ in pairs if first > own), pairs[0][0])


def here() -> Place:
    """The private IPv4 network that this machine is in, from ip(8); an example if there is none
    that would do."""
    gateway = ""
    for route in _ip("route", "show", "default"):
        gateway = route.get("gateway", "")
        for entry in _ip("addr", "show", "dev", str(route.get("dev", ""))):
            for item in entry.get("addr_info", []):
                place = _usable(item, gateway)
                if place:
                    return place
    return Place()


def _usable(item: dict[str, Any], gateway: str) -> Place | None:
    try:
        interface = ipaddress.IPv4Interface(f"{item['local']}/{item['prefixlen']}")
        inside = ipaddress.IPv4Address(gateway) in interface.network if gateway else False
    except (KeyError, ValueError):
        return None
    network = interface.network
    if not interface.is_private or not 16 <= network.prefixlen <= SMALLEST:
        return None
    if gateway == str(interface.ip):
        gateway = ""
    return Place(str(network), gateway if inside and gateway else None, str(interface.ip))


def _ip(*words: str) -> list[dict[str, Any]]:
    """What ip(8) says as JSON; nothing when it is not there or does not know."""
    try:
        done = subprocess.run(
            ("ip", "-json", "-4", *words), capture_output=True, timeout=5, check=True
        )
        found: list[dict[str, Any]] = json.loads(done.stdout or b"[]")
    except (OSError, subprocess.SubprocessError, ValueError):
        return []
    return found


def _timezone() -> str:
    """This machine's, if it is set (tzset(3) names the link's target)."""
    try:
        target = str(Path("/etc/localtime").readlink())
    except OSError:
        return "UTC"
    zone = target.partition("zoneinfo/")[2]
    return zone if zone and not zone.startswith(("posix/", "right/")) else "UTC"


def _secrets(path: Path) -> str:
    known = load_secrets(path, complete=False) if path.exists() else {}
    wanted = generate(known)
    if wanted == known:
        return "kept as it is"
    save_secrets(path, wanted)
    return "completed" if known else "generated, readable by you only"


def _key(path: Path) -> Iterator[str]:
    """An ed25519 key pair without a passphrase, since nobody is there to type it."""
    if path.exists():
        yield f"{path}: kept as it is"
        return
    # Heavy to import, and only needed here.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
        PublicFormat,
    )

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The public part first: if we are stopped between the two, the next run makes both anew.
    path.with_name(f"{path.name}.pub").write_text(f"{public.decode()} practicum\n")
    _create(path, private.decode, 0o600)
    yield f"{path}: generated"


def _ignore(path: Path) -> Iterator[str]:
    """Keep the secrets, and what the engine remembers, out of git, whatever happens to this
    folder later."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    known = [line.strip().lstrip("/") for line in text.splitlines()]
    missing = [entry for entry in (f"{FOLDER}/", "state/") if entry not in known]
    if not missing:
        return
    separator = "" if not text or text.endswith("\n") else "\n"
    with path.open("a", encoding="utf-8") as stream:
        stream.write(separator + "".join(f"{entry}\n" for entry in missing))
    yield f"{path}: {', '.join(missing)} added"


def _create(path: Path, content: Any, mode: int) -> bool:
    """Write a new file whole; False when there is one already."""
    if path.exists() or path.is_symlink():
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content())
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike a rename, never over what came meanwhile
    except FileExistsError:
        return False
    finally:
        temporary.unlink(missing_ok=True)
    return True
