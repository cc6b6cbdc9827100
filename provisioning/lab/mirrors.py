"""Where guests' packages come from: the mirrors this machine uses, else the official ones."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cluster.errors import PracticumError
from provisioning.lab.system import run

# The distributions' own addresses (debian.org/mirror/list, help.ubuntu.com).
DEBIAN = "http://deb.debian.org/debian"
DEBIAN_SECURITY = "http://deb.debian.org/debian-security"
UBUNTU = "http://archive.ubuntu.com/ubuntu"
UBUNTU_PORTS = "http://ports.ubuntu.com/ubuntu-ports"  # everything but amd64
_PROBE_TIMEOUT = 15  # seconds


def parse_sources(text: str) -> list[str]:
    """URIs of the `deb` entries in a sources file, of either form (sources.list(5))."""
    found: list[str] = []
    if re.search(r"^\s*URIs\s*:", text, re.MULTILINE | re.IGNORECASE):
        for stanza in re.split(r"\n\s*\n", text):
            fields = {
                key.lower(): value
                for key, value in re.findall(r"^([A-Za-z-]+)\s*:\s*(.*)$", stanza, re.MULTILINE)
            }
            wanted = "deb" in fields.get("types", "").split()
            if wanted and fields.get("enabled", "yes").lower() not in {"no", "false"}:
                found += fields.get("uris", "").split()
    else:
        for line in text.splitlines():
            match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)", line)
            if match:
                found.append(match[1])
    usable = (uri.rstrip("/") for uri in found)
    return list(dict.fromkeys(uri for uri in usable if urlsplit(uri).scheme in {"http", "https"}))


def host_sources(etc: Path = Path("/etc/apt")) -> list[str]:
    """Every mirror this machine's apt has, in order."""
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    texts = (
        path.read_text()
        for path in files
        if path.suffix in {".list", ".sources"} and path.is_file()
    )
    return list(dict.fromkeys(uri for text in texts for uri in parse_sources(text)))


def candidates(kind: str, sources: Iterable[str], machine: str) -> list[str]:
    """Mirrors worth asking for `debian`, `debian-security` or `ubuntu`, best first.

    A mirror host often serves the sister distribution beside its own, so those are tried
    before the official address.
    """
    official = {"debian": DEBIAN, "debian-security": DEBIAN_SECURITY}.get(kind)
    if official is None:
        official = UBUNTU if machine == "x86_64" else UBUNTU_PORTS
    found = list(_derived(kind, sources))
    return list(dict.fromkeys([*found, official]))


def _derived(kind: str, sources: Iterable[str]) -> Iterator[str]:
    leaf = {"debian": "debian", "debian-security": "debian-security", "ubuntu": "ubuntu"}[kind]
    known = re.compile(r"/(debian|debian-security|ubuntu|ubuntu-ports)$")
    beside = []
    for uri in sources:
        match = known.search(uri)
        if match and match[1].removesuffix("-ports") == leaf:
            yield uri
        elif match:
            beside.append(uri[: match.start()] + f"/{leaf}")
    yield from beside


def apt_settings() -> dict[str, str]:
    """This machine's `Acquire::` settings that a guest needs as well: proxies, time-outs, TLS."""
    dump = run(["apt-config", "dump", "--no-empty", "Acquire"], timeout=20).stdout
    pairs = re.findall(r'^(Acquire::[^ ]+) "(.*)";$', dump, re.MULTILINE)
    wanted = re.compile(
        r"^Acquire::(https?::|Retries|ForceIPv|Check-|Languages|GzipIndexes)", re.IGNORECASE
    )
    return {key: value for key, value in pairs if wanted.match(key)}


def opener(settings: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Asks for URLs through the proxies of apt's settings, else of the environment."""
    lower = {key.lower(): value for key, value in settings.items()}
    proxies = urllib.request.getproxies()
    for scheme in ("http", "https"):
        proxy = lower.get(f"acquire::{scheme}::proxy", "")
        if proxy and proxy != "DIRECT":
            proxies[scheme] = proxy
    return urllib.request.build_opener(urllib.request.ProxyHandler(proxies))


def answers(ask: urllib.request.OpenerDirector, mirror: str, suite: str) -> str:
    """Empty if the mirror has that suite, else why not."""
    try:
        with ask.open(f"{mirror}/dists/{suite}/Release", timeout=_PROBE_TIMEOUT):
            return ""
    except (urllib.error.URLError, OSError, ValueError) as error:
        return str(getattr(error, "reason", error))


def first_answering(mirrors: Sequence[str], suite: str, why_not: Callable[[str, str], str]) -> str:
    """The first mirror that has the suite; PracticumError names each that was asked."""
    reasons = []
    for mirror in mirrors:
        reason = why_not(mirror, suite)
        if not reason:
            return mirror
        reasons.append(f"{mirror}: {reason}")
    raise PracticumError(
        f"no package registry with {suite!r} was reached ({'; '.join(reasons)}): check this "
        "machine's network, proxy and /etc/apt/sources.list"
    )
